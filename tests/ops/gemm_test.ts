/** linear, matmul and conv2d on the GPU against their float64 references, on ordinary and awkward shapes. */
import assert from "node:assert/strict";
import { gemmCases } from "../support/gemm_cases.ts";
import { conv2d, matmul } from "../../src/graph/ops/gemm.ts";
import { input } from "../../src/graph/variable.ts";
import { ndarray } from "../support/arrays.ts";
import { testOps } from "../support/ops.ts";

testOps(gemmCases);

/** What a weight gradient of a constant background adds up: in each column the same number, `rows` times. */
const equalRows = (rows: number, columns: number, low: number) =>
  ndarray([1, rows, columns], Float32Array.from({ length: rows * columns }, (_, i) => low + 0.003 * (i % columns)));

testOps([{
  name: "weight gradient over 8192 equal rows",
  inputs: [equalRows(8192, 512, 0.3), equalRows(8192, 256, 0.7)],
  build: (a, b) => matmul(a, b, { transposeA: true }),
  forward: (a, b) =>
    ndarray([1, 512, 256], Float64Array.from({ length: 512 * 256 }, (_, i) => 8192 * a.data[i >> 8] * b.data[i % 256])),
  tolerance: 2e-5, // one running sum is off by 5e-5
}]);

Deno.test("conv2d refuses strides and paddings that are not whole, or too small", () => {
  const x = input("x", [1, 6, 6, 4]);
  // A 1×1 convolution is a linear layer only where it neither strides nor pads.
  for (const w of [input("w", [3, 3, 4, 8]), input("w", [1, 1, 4, 8])]) {
    for (const stride of [[1.5, 1], [1, 0], [-1, 1], [NaN, 1]] as const) {
      assert.throws(() => conv2d(x, w, { stride }), /conv2d: cannot stride by \[/);
    }
    for (const padding of [[-1, 1, 1, 1], [0, 0, 0, 0.5]] as const) {
      assert.throws(() => conv2d(x, w, { padding }), /conv2d: cannot pad by \[/);
    }
  }
  assert.deepEqual(conv2d(x, input("w", [3, 3, 4, 8]), { stride: [2, 2], padding: [0, 1, 0, 1] }).shape, [1, 3, 3, 8]);
});
