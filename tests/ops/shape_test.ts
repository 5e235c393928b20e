/** reshape, concat, slice, pad, permute and transpose on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { gradient } from "../../src/graph/gradient.ts";
import { ShapeError } from "../../src/graph/op.ts";
import { affine, mul } from "../../src/graph/ops/pointwise.ts";
import { concat, pad, permute, reshape, slice, transpose } from "../../src/graph/ops/shape.ts";
import { plan } from "../../src/graph/plan.ts";
import { input } from "../../src/graph/variable.ts";
import {
  concatBackward,
  concatForward,
  padBackward,
  padForward,
  permuteBackward,
  permuteForward,
  sliceBackward,
  sliceForward,
} from "../reference/shape.ts";
import { map, normals, reshape as reshaped } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];

const concats: [number[][], number][] = [
  [[[1], [1]], 0],
  [[[3, 5], [3, 2], [3, 1]], 1],
  [[[2, 4, 8], [2, 4, 12]], -1],
  [[[2, 3, 4], [2, 2, 4]], 1],
  [[[5, 3], [2, 3]], 0],
  [[[2, 3, 4, 4], [2, 3, 4, 7]], 3],
  [[[4200000], [200]], 0],
];
for (const [shapes, axis] of concats) {
  cases.push({
    name: `concat ${shapes.map((shape) => `[${shape}]`).join(" ")} along ${axis}`,
    inputs: shapes.map((shape, i) => normals(shape, `part ${i}`)),
    build: (...parts) => concat(parts, axis),
    forward: (...parts) => concatForward(parts, axis),
    backward: (dy, ...parts) => concatBackward(dy, parts, axis),
    tolerance: 0,
  });
}

const slices: [number[], number, number, number?][] = [
  [[7], 0, 6],
  [[3, 8], 1, 4, 8],
  [[3, 8], 1, 1, 6],
  [[2, 5, 12], 1, -2],
  [[2, 5, 3], -2, 1, -1],
  [[4, 3, 2], 0, 0, 3],
];
for (const [shape, axis, start, end] of slices) {
  const at = (axis + shape.length) % shape.length, n = shape[at];
  const own = [(start + n) % n, end === undefined ? n : end < 0 ? end + n : end];
  const box = { starts: shape.map((_, i) => i === at ? own[0] : 0), ends: shape.map((n, i) => i === at ? own[1] : n) };
  cases.push({
    name: `slice [${shape}] along ${axis}, ${start} to ${end}`,
    inputs: [normals(shape, "x")],
    build: (x) => slice(x, axis, start, end),
    forward: (x) => sliceForward(x, box),
    backward: (dy, x) => [sliceBackward(dy, x, box)],
    tolerance: 0,
  });
}

const pads: [number[], [number, number][]][] = [
  [[3], [[2, 1]]],
  [[2, 5, 4, 8], [[0, 0], [0, 1], [0, 1], [0, 0]]],
  [[2, 3, 3], [[1, 0], [0, 0], [2, 5]]],
  [[2, 8], [[0, 0], [4, 8]]],
];
for (const [shape, widths] of pads) {
  const options = { before: widths.map(([n]) => n), after: widths.map(([, n]) => n) };
  cases.push({
    name: `pad [${shape}] by ${JSON.stringify(widths)}`,
    inputs: [normals(shape, "x")],
    build: (x) => pad(x, widths),
    forward: (x) => padForward(x, options),
    backward: (dy, x) => [padBackward(dy, x, options)],
    tolerance: 0,
  });
}

const permutes: [number[], number[]][] = [
  [[3, 5], [1, 0]],
  [[2, 7, 4, 8], [0, 2, 1, 3]],
  [[2, 3, 5, 6], [0, 3, 1, 2]],
  [[8, 1, 4], [1, 0, 2]],
  [[2, 4, 3, 4], [2, 3, 0, 1]],
  [[2, 3, 2, 5, 3, 4], [5, 3, 1, 0, 2, 4]],
  [[2, 3, 2, 5, 3, 4], [3, 0, 4, 2, 1, 5]],
  [[2100001, 2], [1, 0]],
];
for (const [shape, axes] of permutes) {
  cases.push({
    name: `permute [${shape}] to ${axes}`,
    inputs: [normals(shape, "x")],
    build: (x) => permute(x, axes),
    forward: (x) => permuteForward(x, axes),
    backward: (dy) => [permuteBackward(dy, axes)],
    tolerance: 0,
  });
}

cases.push({
  name: "transpose [2, 3, 5]",
  inputs: [normals([2, 3, 5], "x")],
  build: transpose,
  forward: (x) => permuteForward(x, [0, 2, 1]),
  backward: (dy) => [permuteBackward(dy, [0, 2, 1])],
  tolerance: 0,
}, {
  name: "reshape between two products",
  inputs: [normals([2, 6], "x")],
  build: (x) => affine(reshape(affine(x, 2), [3, -1]), 3),
  forward: (x) => map(reshaped(x, [3, 4]), (v) => 6 * v),
  backward: (dy) => [map(reshaped(dy, [2, 6]), (v) => 6 * v)],
}, {
  // One tensor twice, and a gradient that adds up two slices.
  name: "concat of a tensor with itself",
  inputs: [normals([3, 4], "x")],
  build: (x) => mul(concat([x, x], 1), concat([x, x], 1)),
  forward: (x) => map(concatForward([x, x], 1), (v) => v * v),
  backward: (dy, x) => [
    map(x, (v, i) => {
      const left = i + 4 * Math.floor(i / 4);
      return 2 * v * (dy.data[left] + dy.data[left + 4]);
    }),
  ],
});

testOps(cases);

Deno.test("shape ops refuse what does not fit, and do nothing where nothing moves", () => {
  const x = input("x", [2, 3, 4]);
  assert.throws(() => concat([x, input("y", [2, 3])], 0), ShapeError);
  assert.throws(() => concat([x, input("y", [2, 2, 5])], 1), ShapeError);
  assert.throws(() => slice(x, 1, 2, 2), ShapeError);
  assert.throws(() => slice(x, 3, 0, 1), ShapeError);
  assert.throws(() => slice(x, 1, 0, 4), ShapeError);
  assert.throws(() => pad(x, [[0, 1]]), ShapeError);
  assert.throws(() => permute(x, [0, 0, 1]), ShapeError);
  assert.equal(slice(x, 1, 0), x);
  assert.equal(pad(x, [[0, 0], [0, 0], [0, 0]]), x);
  const moved = permute(input("z", [2, 1, 4]), [1, 0, 2]);
  assert.deepEqual(moved.shape, [1, 2, 4]);
  assert.equal(plan([moved]).report.launches, 0);
});

Deno.test("a slice's gradient is one launch", () => {
  const x = input("x", [2, 8, 4]), y = slice(x, 1, 2, 5);
  const [dx] = gradient(y, [x]);
  assert.deepEqual(dx.shape, x.shape);
  assert.equal(plan([dx]).report.launches, 1);
});
