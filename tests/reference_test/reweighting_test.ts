/** The re-weighting maps: the worked vector of the method's notes, dilation by timestep, and the properties of both forms. */
import assert from "node:assert/strict";
import { goldens } from "../support/goldens.ts";
import { assertClose, map, type NDArray, ndarray, normals, uniforms } from "../support/arrays.ts";
import {
  dilateMask,
  dilationHalfWidth,
  maskedDistance,
  officialWeightMap,
  paperWeightMap,
  paperWeightsOfLatents,
  weightMapOfDistance,
} from "../reference/reweighting.ts";
import { permuteForward } from "../reference/shape.ts";

const line = (...values: number[]) => ndarray([1, 1, values.length, 1], values);

Deno.test("official: distances 1, 2, 4 give 12/7, 6/7, 3/7, clamped to [1, 1.5]", () => {
  const distance = line(1, 2, 4), mask = line(1, 1, 1);
  assertClose(weightMapOfDistance(distance, mask, [0, 10]), line(12 / 7, 6 / 7, 3 / 7), 1e-15);
  assertClose(weightMapOfDistance(distance, mask), line(1.5, 1, 1), 0);
});

Deno.test("official: weight 1 outside the mask, where the distance is 0, and everywhere if no pixel counts", () => {
  assertClose(weightMapOfDistance(line(1, 9, 0, 3), line(1, 0, 1, 1), [0, 10]), line(3 * 0.75, 1, 1, 3 * 0.25), 1e-15);
  assertClose(weightMapOfDistance(line(5, 5), line(0, 0)), line(1, 1), 0);
});

Deno.test("official: half-widths by timestep", () => {
  const first = [901, 900, 776, 651, 526, 401, 276, 151, 26, 21, 1].map((t) => dilationHalfWidth(t, 200));
  assert.deepEqual(first, [8, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]);
  assert.equal(dilationHalfWidth(901, 50), 16);
});

Deno.test("official: the mask grows to a square, and the map follows the latents", () => {
  const mask = ndarray([1, 7, 7, 1]);
  mask.data[3 * 7 + 3] = 1;
  assert.equal(dilateMask(mask, 2).data.reduce((sum, m) => sum + m, 0), 25);
  const two = ndarray([2, 5, 5, 1]);
  [two.data[0], two.data[25 + 12]] = [1, 1]; // a corner of one image, the middle of the other
  const sums = [0, 25].map((from) => dilateMask(two, 1).data.subarray(from, from + 25).reduce((sum, m) => sum + m));
  assert.deepEqual(sums, [4, 9]);
  assertClose(dilateMask(two, 0), two, 0);
  const x = normals([1, 7, 7, 4], "x"), z0 = normals([1, 7, 7, 4], "z0");
  const result = officialWeightMap({ x, z0, mask, timestep: 160, steps: 200 }, [0, Infinity]);
  assertClose(result.mask, dilateMask(mask, 2), 0);
  const inside = result.weights.data.filter((_, i) => result.mask.data[i] === 1);
  assert.ok(Math.abs(inside.reduce((sum, w) => sum + w, 0) - 25) < 1e-12, "weights inside the mask average to 1");
  assert.ok(result.weights.data.every((w, i) => result.mask.data[i] === 1 || w === 1));
});

Deno.test("distances are means over channels, 0 outside the mask", () => {
  const x = ndarray([1, 1, 2, 2], [1, 2, 3, 4]), z0 = ndarray([1, 1, 2, 2]);
  assertClose(maskedDistance(x, z0, line(1, 0)), line(2.5, 0), 0);
});

Deno.test("paper: weights inside average to 1, the most normal pixel weighs most, and small distances do not overflow", () => {
  const mask = line(1, 1, 1, 0), w = paperWeightMap(line(0.5, 1, 2, 7), mask);
  const e = [2, 1, 0.5].map(Math.exp), sum = e[0] + e[1] + e[2];
  assertClose(w, line(3 * e[0] / sum, 3 * e[1] / sum, 3 * e[2] / sum, 1), 1e-14);
  assertClose(paperWeightMap(line(1e-9, 1, 2, 7), mask), line(3, 0, 0, 1), 1e-12);
  const delta = uniforms([2, 4, 4, 1], "delta", 0.1, 1), all = ndarray([2, 4, 4, 1], 1);
  assertClose(paperWeightMap(delta, all, { temperature: 1e9 }), all, 1e-6);
  assertClose(paperWeightMap(delta, map(all, () => 0)), all, 0);
});

Deno.test("paper, of latents: known answers, the same in any unit, within e of 1, and 1 where nothing differs", () => {
  const z0 = line(0, 0, 0, 0), mask = line(1, 1, 1, 0);
  const clean = line(1, -Math.SQRT2, 2, 9); // δ = 1, 2, 4
  const e = [1, 0.5, 0.25].map(Math.exp), sum = e[0] + e[1] + e[2], wanted = line(...e.map((v) => 3 * v / sum), 1);
  assertClose(paperWeightsOfLatents(clean, z0, mask), wanted, 1e-14);
  assertClose(paperWeightsOfLatents(map(clean, (v) => 1e-4 * v), z0, mask), wanted, 1e-12);
  assertClose(paperWeightsOfLatents(z0, z0, mask), line(1, 1, 1, 1), 0);
  const all = ndarray([2, 16, 16, 1], 1), shape = [2, 16, 16, 4];
  const { data } = paperWeightsOfLatents(normals(shape, "clean"), normals(shape, "z0"), all);
  assert.ok(data.every((w) => w > 1 / Math.E && w < Math.E));
  assert.ok(Math.abs(data.reduce((total, w) => total + w, 0) - 512) < 1e-10, "weights average to 1");
});

Deno.test("official: the dilated mask and the weights of the reference implementation", () => {
  const found = goldens("unet");
  assert.ok(found.length > 0, "no golden file of the U-Net");
  for (const golden of found) {
    const stored = golden.tensor("latent_mask"), [B, , H, W] = stored.shape;
    const C = golden.config("unet").in_channels as number, shape = [B, C, H, W];
    const channelsLast = (x: NDArray) => permuteForward(x, [0, 2, 3, 1]);
    const result = officialWeightMap({
      x: channelsLast(ndarray(shape, golden.noise("x", shape))),
      z0: channelsLast(ndarray(shape, golden.noise("x0", shape, 0.8))),
      mask: ndarray([B, H, W, 1], stored.data),
      timestep: Number(golden.metadata.weight_map_t),
      steps: Number(golden.metadata.ddim_steps),
    });
    assertClose(result.mask, ndarray([B, H, W, 1], golden.tensor("dilated_mask").data), 0, golden.file);
    assertClose(result.weights, ndarray([B, H, W, 1], golden.tensor("weight_map").data), 1e-6, golden.file);
    assert.ok(result.weights.data.some((w) => w > 1 && w < 1.5), "no weight between the limits: nothing was tested");
  }
});
