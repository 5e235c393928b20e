/** Worked examples and adjoint identities of the reference operations that move elements. */
import assert from "node:assert/strict";
import { assertClose, integers, type NDArray, ndarray, normals } from "../support/arrays.ts";
import { checkAdjoint, checkGradients } from "../support/finite.ts";
import * as s from "../reference/shape.ts";

const counting = (shape: number[]): NDArray => {
  const x = ndarray(shape);
  x.data.forEach((_, i) => x.data[i] = i);
  return x;
};

Deno.test("concat: along each axis, with gradients and adjoint", () => {
  const a = counting([2, 2]), b = ndarray([2, 1], [7, 8]);
  assertClose(s.concatForward([a, b], 1), ndarray([2, 3], [0, 1, 7, 2, 3, 8]), 0);
  assertClose(s.concatForward([a, a], 0), ndarray([4, 2], [0, 1, 2, 3, 0, 1, 2, 3]), 0);
  assert.throws(() => s.concatForward([a, b], 0), /does not fit/);
  for (const axis of [0, 1, -1]) {
    const shape = (n: number) => [2, 3, 4].map((size, i) => i === (axis + 3) % 3 ? n : size);
    checkGradients(
      `concat ${axis}`,
      ({ a, b, c }) => s.concatForward([a, b, c], axis),
      (dy, { a, b, c }) => {
        const [da, db, dc] = s.concatBackward(dy, [a, b, c], axis);
        return { a: da, b: db, c: dc };
      },
      { a: normals(shape(2), "a"), b: normals(shape(1), "b"), c: normals(shape(3), "c") },
    );
    // Linear in each part, the others being zero.
    const parts = [2, 1, 3].map((n) => ndarray(shape(n)));
    parts.forEach((part, k) =>
      checkAdjoint(
        `concat ${axis}, part ${k}`,
        (v) => s.concatForward(parts.with(k, v), axis),
        (dy) => s.concatBackward(dy, parts, axis)[k],
        part.shape,
      )
    );
  }
});

Deno.test("slice: a box with steps, and its adjoint", () => {
  const x = counting([3, 5]), options = { starts: [1, 0], ends: [3, 5], steps: [1, 2] };
  assertClose(s.sliceForward(x, options), ndarray([2, 3], [5, 7, 9, 10, 12, 14]), 0);
  checkAdjoint("slice", (v) => s.sliceForward(v, options), (dy) => s.sliceBackward(dy, x, options), x.shape);
  assert.throws(() => s.sliceForward(x, { starts: [0, 0], ends: [4, 5] }), /outside/);
});

Deno.test("pad: zeros around, and its adjoint", () => {
  const x = counting([2, 2]), options = { before: [1, 0], after: [0, 2] };
  assertClose(s.padForward(x, options), ndarray([3, 4], [0, 0, 0, 0, 0, 1, 0, 0, 2, 3, 0, 0]), 0);
  checkAdjoint("pad", (v) => s.padForward(v, options), (dy) => s.padBackward(dy, x, options), x.shape);
});

Deno.test("permute: axes in their new order, and its adjoint", () => {
  assertClose(s.permuteForward(counting([2, 3]), [1, 0]), ndarray([3, 2], [0, 3, 1, 4, 2, 5]), 0);
  for (const axes of [[2, 0, 1], [1, 2, 0], [0, 2, 1]]) {
    checkAdjoint(`permute ${axes}`, (v) => s.permuteForward(v, axes), (d) => s.permuteBackward(d, axes), [2, 3, 4]);
  }
});

Deno.test("gather: rows by id, and gradients that add up where an id repeats", () => {
  const table = counting([3, 2]), ids = ndarray([2, 2], [2, 0, 2, 2]);
  assertClose(s.gatherForward(table, ids), ndarray([2, 2, 2], [4, 5, 0, 1, 4, 5, 4, 5]), 0);
  assertClose(s.gatherBackward(ndarray([2, 2, 2], 1), table, ids), ndarray([3, 2], [1, 1, 0, 0, 3, 3]), 0);
  const many = integers([3, 4], "ids", 0, 5);
  checkAdjoint("gather", (t) => s.gatherForward(t, many), (d) => s.gatherBackward(d, ndarray([5, 3]), many), [5, 3]);
  assert.throws(() => s.gatherForward(table, ndarray([1], 3)), /row 3 of a table of 3 rows/);
});
