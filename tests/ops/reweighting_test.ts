/** The re-weighting map's ops on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { dilate, distanceWeights, reweightingMap } from "../../src/graph/ops/reweighting.ts";
import { input } from "../../src/graph/variable.ts";
import {
  dilateMask,
  dilationHalfWidth,
  maskedDistance,
  officialWeightMap,
  paperWeightMap,
  weightMapOfDistance,
} from "../reference/reweighting.ts";
import { assertClose, integers, map, ndarray, normals, uniforms } from "../support/arrays.ts";
import { gpu, type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];

for (const [shape, half] of [[[1, 1, 1, 1], 3], [[2, 7, 5, 1], 1], [[3, 16, 16, 1], 8], [[2, 9, 11, 1], 0]] as const) {
  cases.push({
    name: `dilate [${shape}] by ${half}`,
    inputs: [map(uniforms(shape, "mask"), (u) => (u < 0.1 ? 1 : 0)), ndarray([1], half)],
    dtypes: ["f32", "u32"],
    build: dilate,
    forward: (mask) => dilateMask(mask, half),
    tolerance: 0,
  });
}

for (const shape of [[1, 1, 1, 1], [3, 5, 7, 3], [2, 16, 16, 4], [1, 32, 32, 4]]) {
  const masked = [...shape.slice(0, 3), 1];
  const inputs = [normals(shape, "x"), normals(shape, "z0"), integers(masked, "mask", 0, 2)];
  for (const limits of [undefined, [0, 1000]] as const) {
    cases.push({
      name: `official map [${shape}] ${limits ?? "default limits"}`,
      inputs,
      build: (x, z0, mask) => reweightingMap(x, z0, mask, { form: "official", limits }),
      // A timestep below 25 dilates by nothing.
      forward: (x, z0, mask) => officialWeightMap({ x, z0, mask, timestep: 0, steps: 200 }, limits).weights,
    });
    for (const temperature of [undefined, 30]) {
      cases.push({
        name: `paper's map [${shape}] ${limits ?? "default limits"} temperature ${temperature}`,
        inputs,
        build: (x, z0, mask) => reweightingMap(x, z0, mask, { form: "paper", limits, temperature }),
        forward: (x, z0, mask) => paperWeightMap(maskedDistance(x, z0, mask), mask, { limits, temperature }),
      });
    }
  }
}

// Distances of 0, an image without a mask, and the largest range of distances that latents can have.
const distances = ndarray([3, 1, 4, 1], [1, 2, 4, 0, 1, 1, 1, 1, 1e-12, 30, 1, 1e-3]);
const masks = ndarray([3, 1, 4, 1], [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 1]);
cases.push({
  name: "official weights of odd distances",
  inputs: [distances, masks],
  build: (d, m) => distanceWeights(d, m, { form: "official", limits: [0, 10] }),
  forward: (d, m) => weightMapOfDistance(d, m, [0, 10]),
}, {
  name: "paper's weights of odd distances",
  inputs: [distances, masks],
  build: (d, m) => distanceWeights(d, m, { form: "paper" }),
  forward: (d, m) => paperWeightMap(d, m),
});

testOps(cases);

Deno.test({
  name: "one plan dilates by each timestep's half-width",
  sanitizeResources: false,
  sanitizeOps: false,
  fn: async () => {
    const mask = ndarray([1, 20, 20, 1]);
    mask.data[10 * 20 + 9] = 1;
    using program = compile(gpu, { y: dilate(input("mask", mask.shape), input("half", [1], "u32")) });
    for (const timestep of [999, 500, 20]) {
      const half = dilationHalfWidth(timestep, 200);
      const { y } = await program.run({ mask: Float32Array.from(mask.data), half: Uint32Array.of(half) });
      assertClose({ shape: mask.shape, data: y }, dilateMask(mask, half), 0);
      assert.equal(y.reduce((sum, m) => sum + m, 0), (2 * half + 1) ** 2);
    }
  },
});

Deno.test("dilate refuses half-widths that are not whole, or below 0", () => {
  for (const half of [1.5, -1]) {
    assert.throws(() => dilate(input("mask", [1, 4, 4, 1]), half), /dilate: cannot reach/);
  }
});
