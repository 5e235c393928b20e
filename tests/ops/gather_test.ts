/** embedding and gatherRows on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { ShapeError } from "../../src/graph/op.ts";
import { embedding, gatherRows } from "../../src/graph/ops/gather.ts";
import { concat } from "../../src/graph/ops/shape.ts";
import { input } from "../../src/graph/variable.ts";
import { concatForward, gatherBackward, gatherForward, sliceForward } from "../reference/shape.ts";
import { integers, type NDArray, ndarray, normals, reshape } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const tables: [number, number, number[], ("f32" | "f16")?][] = [
  [1, 1, [1]],
  [7, 5, [3, 4]],
  [13, 8, [2, 3, 2]],
  [11, 12, [9], "f16"],
  [5, 6, [4], "f16"],
  [3, 1, [4200001]],
];
const cases: OpCase[] = tables.map(([rows, width, ids, dtype = "f32"]) => ({
  name: `embedding of [${ids}] in [${rows}, ${width}] ${dtype}`,
  inputs: [normals([rows, width], "table"), integers(ids, "ids", 0, rows)],
  dtypes: [dtype, "u32"],
  build: embedding,
  forward: gatherForward,
  // Millions of float32 terms per row are beyond the tolerance; the smaller cases check the gradient.
  backward: ids[0] > 1e6 ? undefined : (dy, table, ids) => [gatherBackward(dy, table, ids)],
}));

/** Image b of a batch. */
const image = (x: NDArray, b: number): NDArray => {
  const whole = sliceForward(x, {
    starts: x.shape.map((_, i) => i ? 0 : b),
    ends: x.shape.map((n, i) => i ? n : b + 1),
  });
  return reshape(whole, x.shape.slice(1));
};
const stack = (parts: NDArray[]) => ndarray([parts.length, ...parts[0].shape], parts.flatMap((p) => [...p.data]));

for (const [B, N, D, M] of [[1, 1, 1, 1], [3, 7, 5, 11], [2, 6, 8, 9], [2, 77, 16, 77]]) {
  cases.push({
    name: `gatherRows [${B}, ${N}, ${D}] by ${M}`,
    inputs: [normals([B, N, D], "x"), integers([B, M], "index", 0, N)],
    dtypes: ["f32", "u32"],
    build: gatherRows,
    forward: (x, index) => stack(Array.from({ length: B }, (_, b) => gatherForward(image(x, b), image(index, b)))),
    backward: (dy, x, index) => [
      stack(Array.from({ length: B }, (_, b) => gatherBackward(image(dy, b), image(x, b), image(index, b)))),
    ],
  });
}

// A learned vector takes the place of tokens: rows of [tokens ‖ learned], picked per image.
cases.push({
  name: "learned rows in a sequence of tokens",
  inputs: [
    normals([2, 5, 4], "tokens"),
    normals([2, 2, 4], "learned"),
    ndarray([2, 5], [0, 5, 2, 3, 6, 5, 1, 6, 3, 4]),
  ],
  dtypes: ["f32", "f32", "u32"],
  build: (tokens, learned, index) => gatherRows(concat([tokens, learned], 1), index),
  forward: (tokens, learned, index) => {
    const rows = concatForward([tokens, learned], 1);
    return stack([0, 1].map((b) => gatherForward(image(rows, b), image(index, b))));
  },
  backward: (dy, tokens, learned, index) => {
    const rows = concatForward([tokens, learned], 1);
    const d = stack([0, 1].map((b) => gatherBackward(image(dy, b), image(rows, b), image(index, b))));
    const cut = (from: number, to: number) => sliceForward(d, { starts: [0, from, 0], ends: [2, to, 4] });
    return [cut(0, 5), cut(5, 7)];
  },
});

testOps(cases);

Deno.test("gather refuses indices that are no u32 or belong to another batch", () => {
  const x = input("x", [2, 3, 4]);
  assert.throws(() => gatherRows(x, input("i", [2, 5])), ShapeError);
  assert.throws(() => gatherRows(x, input("i", [3, 5], "u32")), ShapeError);
  assert.throws(() => embedding(x, input("i", [5], "u32")), ShapeError);
});
