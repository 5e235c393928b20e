/** Group, layer and batch norm on the GPU against their float64 references, on ordinary and awkward shapes. */
import assert from "node:assert/strict";
import { gradient } from "../../src/graph/gradient.ts";
import { batchNorm, batchNormInference, groupNorm, layerNorm } from "../../src/graph/ops/norms.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { input } from "../../src/graph/variable.ts";
import {
  batchNormBackward,
  batchNormForward,
  batchNormInferenceBackward,
  batchNormInferenceForward,
  groupNormBackward,
  groupNormForward,
  layerNormBackward,
  layerNormForward,
} from "../reference/norms.ts";
import { reluBackward, reluForward } from "../reference/pointwise.ts";
import { map, type NDArray, ndarray, normals, uniforms } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const parameters = (
  x: NDArray,
): NDArray[] => [x, normals([x.shape.at(-1)!], "gamma"), normals([x.shape.at(-1)!], "beta")];
const list = ({ x, gamma, beta }: { x: NDArray; gamma: NDArray; beta: NDArray }) => [x, gamma, beta];
const tolerances = { tolerance: 1e-5, backwardTolerance: 1e-4 };
const eps = 1e-5;
const cases: OpCase[] = [];

const grouped: [number[], number, "silu"?, number?][] = [
  [[1, 3, 1, 1], 1],
  [[2, 5, 7, 6], 3],
  [[2, 4, 4, 64], 32, "silu"],
  [[1, 37, 96], 32],
  [[3, 5, 5, 30], 5, "silu"],
  [[2, 40, 40, 8], 2, "silu"],
  [[1, 1, 1, 1280], 32, "silu"],
  [[1, 70, 11, 4], 4, undefined, 300], // a mean far above the deviation
];
for (const [shape, groups, activation, mean = 0] of grouped) {
  const options = { groups, eps, activation };
  cases.push({
    name: `groupNorm [${shape}] in ${groups} ${activation ?? ""}${mean ? ` around ${mean}` : ""}`,
    inputs: parameters(map(normals(shape, "x"), (value) => Math.fround(value + mean))),
    build: (x, gamma, beta) => groupNorm(x, gamma, beta, options),
    forward: (x, gamma, beta) => groupNormForward(x, gamma, beta, options),
    backward: (dy, x, gamma, beta) => list(groupNormBackward(dy, x, gamma, beta, options)),
    ...tolerances,
    // f32 holds x itself to 300 · 2⁻²⁴ only.
    tolerance: mean ? 1e-4 : tolerances.tolerance,
  });
}

for (const shape of [[1, 1], [3, 7], [2, 77, 64], [5, 320], [9, 1280], [4, 3, 130], [270000, 2]]) {
  // Rows of two numbers lie apart, or their deviation would be as small as the rounding of x.
  const apart = shape.at(-1) === 2 ? 3 : 0;
  cases.push({
    name: `layerNorm [${shape}]`,
    inputs: parameters(map(normals(shape, "x"), (value, i) => Math.fround(value + apart * (i % 2 ? 1 : -1)))),
    build: (x, gamma, beta) => layerNorm(x, gamma, beta, { eps }),
    forward: (x, gamma, beta) => layerNormForward(x, gamma, beta, { eps }),
    backward: (dy, x, gamma) => list(layerNormBackward(dy, x, gamma, { eps })),
    ...tolerances,
  });
}

for (const shape of [[2, 1], [3, 5, 7, 3], [4, 16, 16, 8], [2, 61, 64]]) {
  for (const part of ["y", "mean", "variance"] as const) {
    const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
    cases.push({
      name: `batchNorm [${shape}] ${part}`,
      inputs: parameters(normals(shape, "x")),
      build: (x, gamma, beta) => batchNorm(x, gamma, beta, { eps })[part],
      forward: (x, gamma, beta) => {
        const result = batchNormForward(x, gamma, beta, { eps })[part];
        return part === "variance" ? map(result, (v) => v * rows / (rows - 1)) : result;
      },
      backward: part === "y" ? (dy, x, gamma) => list(batchNormBackward(dy, x, gamma, { eps })) : undefined,
      ...tolerances,
    });
  }
  const channels = [shape.at(-1)!];
  cases.push({
    name: `batchNormInference [${shape}]`,
    inputs: [...parameters(normals(shape, "x")), normals(channels, "mean"), uniforms(channels, "variance", 0.2, 3)],
    wrt: [0, 1, 2],
    build: (x, gamma, beta, mean, variance) => batchNormInference(x, gamma, beta, mean, variance, { eps }),
    forward: (x, gamma, beta, mean, variance) => batchNormInferenceForward(x, gamma, beta, mean, variance, { eps }),
    backward: (dy, x, gamma, _, mean, variance) =>
      list(batchNormInferenceBackward(dy, x, gamma, mean, variance, { eps })),
    ...tolerances,
  });
}

// Two values on all pixels, as in a mask, and means far above the deviation: the roundings of one long sum do not cancel.
// In brackets what running sums and a plain two-pass variance are off by.
const two = (shape: number[], most: number, few: number) =>
  map(ndarray(shape), (_, i) => Math.fround(Math.floor(i / shape[3]) % 17 < 2 ? few : most + i % shape[3]));
const far = (shape: number[]) => map(normals(shape, "x"), (value) => Math.fround(value + 300));
const hard: [string, NDArray, "y" | "mean" | "variance", number][] = [
  ["of two near values", two([2, 128, 128, 64], 50.3, 49.9), "y", 5e-6], // (6.7e-5)
  ["of two near values", two([2, 128, 128, 64], 50.3, 49.9), "mean", 1e-7], // (3.9e-7)
  ["of two far values", two([1, 512, 512, 4], 50.3, -301.7), "variance", 8e-7], // (2.7e-6)
  ["around 300", far([4, 64, 64, 130]), "y", 4e-6], // (9.6e-6)
  ["around 300", far([4, 64, 64, 130]), "mean", 1e-7], // (4.0e-7)
];
for (const [name, x, part, tolerance] of hard) {
  const rows = x.data.length / x.shape[3];
  cases.push({
    name: `batchNorm [${x.shape}] ${name}: ${part}`,
    inputs: parameters(x),
    build: (x, gamma, beta) => batchNorm(x, gamma, beta, { eps })[part],
    forward: (x, gamma, beta) => {
      const result = batchNormForward(x, gamma, beta, { eps })[part];
      return part === "variance" ? map(result, (v) => v * rows / (rows - 1)) : result;
    },
    tolerance,
  });
}
cases.push({
  name: "batchNorm with relu",
  inputs: parameters(normals([3, 9, 9, 12], "x")),
  build: (x, gamma, beta) => batchNorm(x, gamma, beta, { eps, activation: "relu" }).y,
  forward: (x, gamma, beta) => reluForward(batchNormForward(x, gamma, beta, { eps }).y),
  backward: (dy, x, gamma, beta) =>
    list(batchNormBackward(reluBackward(dy, batchNormForward(x, gamma, beta, { eps }).y), x, gamma, { eps })),
  ...tolerances,
});

testOps(cases);

Deno.test("norms name what does not fit", () => {
  const x = input("x", [2, 4, 4, 6]), c = input("c", [6]), options = { groups: 3, eps };
  assert.throws(() => groupNorm(x, c, c, { groups: 4, eps }), /groupNorm: 4 groups do not divide the channels/);
  assert.throws(() => groupNorm(x, c, input("d", [5]), options), /tables of \[C\].*\[5\]/);
  assert.throws(() => groupNorm(c, c, c, options), /needs x \[B, ..., C\]/);
  assert.throws(() => layerNorm(x, input("e", [1, 6]), c, { eps }), /layerNorm: needs x/);
  const { y, variance } = batchNorm(x, c, c, { eps });
  assert.throws(() => gradient(sum(variance), [x]), /no gradient/);
  assert.throws(
    () => gradient(batchNormInference(x, c, c, c, c, { eps, activation: "relu" }), [x]),
    /without an activation/,
  );
  assert.equal(gradient(y, [x])[0].size, x.size);
});
