import assert from "node:assert/strict";
import { blend, latentMask, qSample } from "../../src/diffusion/blend.ts";
import { guide } from "../../src/diffusion/guidance.ts";
import { u } from "../../src/weights/formula.ts";

Deno.test("blend: the forward process mixes signal and noise with unit variance", () => {
  assert.deepEqual([...qSample(Float32Array.of(2, 0), Float32Array.of(0, 1), 0.25)], [1, Math.fround(Math.sqrt(0.75))]);
  assert.deepEqual([...qSample(Float32Array.of(2), Float32Array.of(5), 1)], [2]);
});

Deno.test("blend: one mask value for all channels of a position", () => {
  const x = Float32Array.of(1, 2, 3, 4, 5, 6), y = Float32Array.of(-1, -2, -3, -4, -5, -6);
  assert.deepEqual([...blend(x, y, Float32Array.of(1, 0, 0.5))], [1, 2, -3, -4, 0, 0]);
  assert.throws(() => blend(x, y, new Float32Array(4)), /do not fit/);
});

/** A 32×32 mask from a predicate. */
const mask = (inside: (x: number, y: number) => boolean) =>
  Float32Array.from({ length: 1024 }, (_, i) => inside(i % 32, Math.floor(i / 32)) ? 1 : 0);

Deno.test("blend: the official latent mask looks at the middle of each cell only", () => {
  const reduce = (
    values: Float32Array,
    mode?: "official" | "area" | "maxPool",
  ) => [...latentMask(values, [1, 32, 32], [4, 4], mode)];
  const line = mask((_, y) => y === 0); // one pixel, at the rim of a cell
  assert.equal(reduce(line).indexOf(1), -1);
  assert.equal(reduce(line, "area").indexOf(1), -1);
  assert.deepEqual(reduce(line, "maxPool"), [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  const middle = mask((x) => x === 3); // half of the central 2×2
  assert.deepEqual(reduce(middle).slice(0, 4), [1, 0, 0, 0]);
  assert.equal(reduce(middle, "area").indexOf(1), -1);
  const half = mask((x, y) => x < 4 && y < 8);
  assert.deepEqual(reduce(half, "area").slice(0, 2), [1, 0]);
});

Deno.test("blend: latent masks of a batch, and of a size that is no multiple", () => {
  const values = u("blend", "mask", [2, 30, 20]).map((value) => value > 0.3 ? 1 : 0);
  for (const mode of ["official", "area", "maxPool"] as const) {
    const both = latentMask(values, [2, 30, 20], [7, 6], mode);
    assert.equal(both.length, 84);
    assert.deepEqual(both.subarray(42), latentMask(values.subarray(600), [1, 30, 20], [7, 6], mode));
  }
});

Deno.test("guidance: scale 1 is the conditional prediction, 0 the unconditional, beyond extrapolates", () => {
  const empty = Float32Array.of(1, -1), prompt = Float32Array.of(2, 3);
  assert.deepEqual(guide(empty, prompt, 1), prompt);
  assert.deepEqual(guide(empty, prompt, 0), empty);
  assert.deepEqual([...guide(empty, prompt, 5)], [6, 19]);
});
