import assert from "node:assert/strict";
import { convFromTorch, convToTorch, linearFromTorch, linearToTorch } from "../../src/weights/layout.ts";
import { u } from "../../src/weights/formula.ts";

Deno.test("layout: kernels OIHW → HWIO index by index, and back", () => {
  const shape = [5, 3, 2, 4], [outputs, inputs, kh, kw] = shape;
  const torch = u("layout", "kernel", shape), engine = convFromTorch(torch, shape);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let y = 0; y < kh; y++) {
        for (let x = 0; x < kw; x++) {
          assert.equal(engine[((y * kw + x) * inputs + i) * outputs + o], torch[((o * inputs + i) * kh + y) * kw + x]);
        }
      }
    }
  }
  assert.deepEqual(convToTorch(engine, shape), torch);
});

Deno.test("layout: linear [N, K] → [K, N] across block borders, and back", () => {
  const shape = [67, 35], torch = u("layout", "linear", shape), engine = linearFromTorch(torch, shape);
  for (let n = 0; n < 67; n++) for (let k = 0; k < 35; k++) assert.equal(engine[k * 67 + n], torch[n * 35 + k]);
  assert.deepEqual(linearToTorch(engine, shape), torch);
});

Deno.test("layout: data that does not fill the shape is refused", () => {
  assert.throws(() => convFromTorch(new Float32Array(9), [2, 2, 3, 3]), /\[2, 2, 3, 3\] holds 36 values, found 9/);
});
