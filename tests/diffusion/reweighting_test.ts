import assert from "node:assert/strict";
import {
  dilate,
  dilationRadius,
  maskedDistance,
  officialReweighting,
  officialWeights,
  paperWeights,
} from "../../src/diffusion/reweighting.ts";
import { assertClose } from "../support/close.ts";
import { goldens } from "../support/goldens.ts";

/** [count, channels, positions] → [count, positions, channels]. */
function channelsLast(data: Float32Array, count: number, channels: number): Float32Array {
  const positions = data.length / count / channels;
  return data.map((_, i) => {
    const c = i % channels, p = Math.floor(i / channels) % positions, n = Math.floor(i / channels / positions);
    return data[(n * channels + c) * positions + p];
  });
}

Deno.test("re-weighting: the reference's dilation at each timestep", () => {
  const known: [number, number][] = [
    [996, 8],
    [901, 8],
    [896, 7],
    [776, 7],
    [771, 6],
    [526, 5],
    [401, 4],
    [276, 3],
    [151, 2],
    [26, 1],
    [21, 0],
    [1, 0],
  ];
  for (const [t, radius] of known) assert.equal(dilationRadius(t, 200), radius, `t = ${t}`);
  assert.equal(dilationRadius(901, 50), 16);
  assert.equal(dilationRadius(901, 50, 4), 4);
});

Deno.test("re-weighting: dilation is a square that does not cross samples or borders", () => {
  const mask = new Float32Array(2 * 5 * 5);
  mask[0] = 1; // sample 0, top left
  mask[25 + 12] = 1; // sample 1, middle
  const wide = dilate(mask, [2, 5, 5], 1);
  assert.deepEqual([...wide.subarray(0, 12)], [1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
  assert.equal(wide.subarray(0, 25).reduce((a, b) => a + b), 4);
  assert.equal(wide.subarray(25).reduce((a, b) => a + b), 9);
  assert.deepEqual(dilate(mask, [2, 5, 5], 0), mask);
});

Deno.test("re-weighting: the known answer, positions without difference, empty masks", () => {
  assert.deepEqual([...officialWeights([1, 2, 4], [1, 1, 1])], [1.5, 1, 1]);
  const loose = officialWeights([1, 2, 4], [1, 1, 1], [0, 9]);
  assertClose(loose, [12 / 7, 6 / 7, 3 / 7], 1e-7);
  assert.deepEqual([...officialWeights([1, 0, 4], [1, 1, 0], [0, 9])], [2, 1, 1]);
  assert.deepEqual([...officialWeights([0, 0], [1, 1])], [1, 1]);
  assert.deepEqual([...officialWeights([3, 4], [0, 0])], [1, 1]);
});

Deno.test("re-weighting: distance is the mean over channels, zero outside the mask", () => {
  const x = Float32Array.of(1, 2, 3, 4), y = Float32Array.of(0, 0, 0, 0);
  assert.deepEqual([...maskedDistance(x, y, Float32Array.of(1, 0))], [2.5, 0]);
  assert.throws(() => maskedDistance(x, y, new Float32Array(3)), /do not fit/);
});

Deno.test("re-weighting: the reference's dilated mask and weight map", () => {
  const found = goldens("unet");
  assert.ok(found.length > 0);
  for (const golden of found) {
    const { shape, data: mask } = golden.tensor("latent_mask"), [count, , height, width] = shape;
    const channels = golden.tensor("eps").shape[1], full = [count, channels, height, width];
    const x = channelsLast(golden.noise("x", full), count, channels);
    const x0 = channelsLast(golden.noise("x0", full, 0.8), count, channels);
    const radius = dilationRadius(Number(golden.metadata.weight_map_t), Number(golden.metadata.ddim_steps));
    const result = officialReweighting(x, x0, mask, [count, height, width], radius);
    assert.deepEqual(result.mask, golden.tensor("dilated_mask").data, golden.file);
    assertClose(result.map, golden.tensor("weight_map").data, 1e-6, golden.file);
  }
});

Deno.test("re-weighting: the paper's softmax is finite, sums to the mask's area, and favours small change", () => {
  const mask = [1, 1, 1, 0], delta = [1e-4, 2, 0, 5];
  const literal = paperWeights(delta, mask);
  assertClose(literal, [1.5, 0, 1.5, 1], 1e-6); // exp(1/δ) leaves nothing for the rest; δ = 0 counts as the smallest
  const soft = paperWeights([1, 2, 4, 9], mask, 1);
  const powers = [1, 0.5, 0.25].map(Math.exp), total = powers.reduce((a, b) => a + b);
  assertClose(soft, [...powers.map((p) => 3 * p / total), 1], 1e-7);
  const even = paperWeights([1, 2, 4, 9], mask, 1e9);
  assertClose(even, [1, 1, 1, 1], 1e-6);
  assert.deepEqual([...paperWeights([0, 0], [1, 1])], [1, 1]);
  assert.deepEqual([...paperWeights([1, 2], [0, 0])], [1, 1]);
});
