import assert from "node:assert/strict";
import { latentMask } from "../../src/diffusion/blend.ts";
import { u } from "../../src/weights/formula.ts";

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
