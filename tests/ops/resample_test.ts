/** Resizing, pooling and pixel shuffling on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { ShapeError } from "../../src/graph/op.ts";
import {
  averagePool,
  maxPool,
  pixelShuffle,
  pixelUnshuffle,
  resizeBilinear,
  resizeNearest,
} from "../../src/graph/ops/resample.ts";
import { input } from "../../src/graph/variable.ts";
import * as reference from "../reference/resample.ts";
import { map, normals } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];

const sizes: [number[], [number, number]][] = [
  [[1, 1, 1, 1], [3, 2]],
  [[2, 4, 4, 8], [8, 8]],
  [[2, 6, 9, 4], [3, 3]],
  [[2, 5, 7, 3], [7, 4]],
  [[1, 7, 5, 5], [1, 13]],
];
for (const [shape, size] of sizes) {
  cases.push({
    name: `resizeNearest [${shape}] to ${size}`,
    inputs: [normals(shape, "x")],
    build: (x) => resizeNearest(x, size),
    forward: (x) => reference.resizeNearestForward(x, { size }),
    backward: (dy, x) => [reference.resizeNearestBackward(dy, x, { size })],
  });
  for (const options of [{}, { alignCorners: true }, { antialias: true }]) {
    cases.push({
      name: `resizeBilinear [${shape}] to ${size} ${JSON.stringify(options)}`,
      inputs: [normals(shape, "x")],
      build: (x) => resizeBilinear(x, size, options),
      forward: (x) => reference.resizeBilinearForward(x, { size, ...options }),
      backward: (dy, x) => [reference.resizeBilinearBackward(dy, x, { size, ...options })],
    });
  }
}
cases.push({
  name: "resizeNearest to more than 65,535 workgroups",
  inputs: [normals([1, 2, 3, 1], "x")],
  build: (x) => resizeNearest(x, [2100, 2001]),
  forward: (x) => reference.resizeNearestForward(x, { size: [2100, 2001] }),
});

const pools: [number[], reference.PoolOptions][] = [
  [[1, 1, 1, 1], { kernel: [1, 1] }],
  [[2, 6, 8, 4], { kernel: [2, 2] }],
  [[2, 7, 6, 3], { kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] }],
  [[1, 9, 5, 8], { kernel: [3, 3], stride: [1, 1], padding: [1, 1, 1, 1] }],
  [[1, 9, 7, 5], { kernel: [3, 2], stride: [1, 3], padding: [0, 1, 1, 0] }],
  [[1, 8, 8, 4], { kernel: [2, 2], stride: [3, 3] }],
];
for (const [shape, options] of pools) {
  const x = normals(shape, "x");
  const named = `[${shape}] ${JSON.stringify(options)}`;
  cases.push({
    name: `maxPool ${named}`,
    inputs: [x],
    build: (x) => maxPool(x, options),
    forward: (x) => reference.maxPoolForward(x, options),
    backward: (dy, x) => [reference.maxPoolBackward(dy, x, options)],
  }, {
    name: `maxPool of equals and negatives ${named}`,
    inputs: [map(x, (v) => Math.round(v) - 9)],
    build: (x) => maxPool(x, options),
    forward: (x) => reference.maxPoolForward(x, options),
    backward: (dy, x) => [reference.maxPoolBackward(dy, x, options)],
  }, {
    name: `averagePool ${named}`,
    inputs: [x],
    build: (x) => averagePool(x, options),
    forward: (x) => reference.averagePoolForward(x, options),
    backward: (dy, x) => [reference.averagePoolBackward(dy, x, options)],
  });
}

for (const [shape, r] of [[[1, 2, 2, 1], 2], [[2, 6, 4, 3], 2], [[1, 6, 9, 4], 3], [[3, 4, 8, 8], 4]] as const) {
  const small = [shape[0], shape[1] / r, shape[2] / r, shape[3] * r * r];
  cases.push({
    name: `pixelUnshuffle [${shape}] by ${r}`,
    inputs: [normals(shape, "x")],
    build: (x) => pixelUnshuffle(x, r),
    forward: (x) => reference.pixelUnshuffleForward(x, r),
    backward: (dy) => [reference.pixelUnshuffleBackward(dy, r)],
    tolerance: 0,
  }, {
    name: `pixelShuffle [${small}] by ${r}`,
    inputs: [normals(small, "x")],
    build: (x) => pixelShuffle(x, r),
    forward: (x) => reference.pixelShuffleForward(x, r),
    backward: (dy) => [reference.pixelShuffleBackward(dy, r)],
    tolerance: 0,
  });
}

testOps(cases);

Deno.test("resampling refuses what does not fit", () => {
  const x = input("x", [1, 4, 6, 3]);
  assert.throws(() => resizeNearest(x, [0, 2]), ShapeError);
  assert.throws(() => resizeNearest(input("y", [4, 6, 3]), [2, 2]), ShapeError);
  assert.throws(() => resizeBilinear(x, [2, 2], { alignCorners: true, antialias: true }), ShapeError);
  assert.throws(() => maxPool(x, { kernel: [5, 2] }), ShapeError);
  assert.throws(() => averagePool(x, { kernel: [5, 2] }), ShapeError);
  assert.throws(() => maxPool(x, { kernel: [2, 2], padding: [2, 0, 0, 0] }), ShapeError);
  for (const op of [maxPool, averagePool]) {
    for (const stride of [[0.5, 1], [1, 0], [-1, 1]] as const) {
      assert.throws(() => op(x, { kernel: [2, 2], stride }), /(max|average)Pool: cannot stride by/);
    }
    for (const padding of [[0.5, 0, 0, 0], [0, 0, 0, -1]] as const) {
      assert.throws(() => op(x, { kernel: [2, 2], padding }), /(max|average)Pool: cannot pad by/);
    }
    assert.throws(() => op(x, { kernel: [1.5, 2], stride: [1, 1] }), /has no window of 1.5 × 2/);
  }
  assert.throws(() => pixelUnshuffle(x, 3), ShapeError);
  assert.throws(() => pixelShuffle(x, 2), ShapeError);
  assert.equal(resizeNearest(x, [4, 6]), x);
});
