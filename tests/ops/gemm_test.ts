/** linear, matmul and conv2d on the GPU against their float64 references, on ordinary and awkward shapes. */
import { gemmCases } from "../support/gemm_cases.ts";
import { matmul } from "../../src/graph/ops/gemm.ts";
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
