/** Softmax and log-softmax on the GPU against their float64 references, on short, long and extreme rows. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { compile } from "../../src/graph/compile.ts";
import { logSoftmax, softmax } from "../../src/graph/ops/softmax.ts";
import { logSoftmaxBackward, logSoftmaxForward, softmaxBackward, softmaxForward } from "../reference/softmax.ts";
import { constant } from "../../src/graph/variable.ts";
import { assertClose, map, normals } from "../support/arrays.ts";
import { gpu, type OpCase, testOps } from "../support/ops.ts";

const shapes: [number[], number?][] = [
  [[1]],
  [[3, 1]],
  [[5, 2], 30],
  [[2, 7, 16]],
  [[4, 17]],
  [[2, 3, 77], 10],
  [[9, 1000]],
  [[7, 33], 1000], // eˣ alone overflows
];
const cases: OpCase[] = shapes.flatMap(([shape, scale = 1]) => {
  const inputs = [map(normals(shape, "x"), (value) => Math.fround(scale * value))];
  const common = { inputs, tolerance: 1e-5, backwardTolerance: 2e-5 };
  return [
    {
      ...common,
      name: `softmax [${shape}] × ${scale}`,
      build: softmax,
      forward: softmaxForward,
      backward: (dy, x) => [softmaxBackward(dy, x)],
    },
    {
      ...common,
      name: `logSoftmax [${shape}] × ${scale}`,
      build: logSoftmax,
      forward: logSoftmaxForward,
      backward: (dy, x) => [logSoftmaxBackward(dy, x)],
    },
  ] satisfies OpCase[];
});

testOps(cases);

Deno.test({
  name: "softmax of 262,148 rows of 17: more than 65,535 workgroups",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const rows = 262_148, few = normals([4, 17], "x");
    const x = new Float32Array(rows * 17);
    for (let at = 0; at < x.length; at += few.data.length) x.set(few.data, at);
    using program = compile(gpu, { y: softmax(constant(x, [rows, 17])) });
    const { y } = await program.run();
    const expected = softmaxForward(few);
    // Every four rows are the same, and so is what comes of them, to the byte.
    const block = Buffer.from(y.buffer, 0, 4 * few.data.length);
    for (let at = 0; at < y.length; at += few.data.length) {
      assert.ok(block.equals(Buffer.from(y.buffer, 4 * at, 4 * few.data.length)), `row ${at / 17}`);
    }
    assertClose({ shape: [4, 17], data: y.subarray(0, few.data.length) }, expected, 1e-5);
  },
});
