/** Diffusion in float64: known answers, and that a step with the true noise lands on the less noisy sample. */
import { blend, ddimUpdate, guide, noised, predictX0 } from "../reference/diffusion.ts";
import { assertClose, ndarray, normals } from "../support/arrays.ts";

const row = (...values: number[]) => ndarray([values.length], values);

Deno.test("the forward process mixes signal and noise with unit variance", () => {
  assertClose(noised(row(2, 0), row(0, 1), 0.25), row(1, Math.sqrt(0.75)), 1e-15);
  assertClose(noised(row(2), row(5), 1), row(2), 0);
});

Deno.test("blending: one mask value for all channels of a position", () => {
  const x = ndarray([1, 1, 3, 2], [1, 2, 3, 4, 5, 6]), y = ndarray([1, 1, 3, 2], [-1, -2, -3, -4, -5, -6]);
  const mask = ndarray([1, 1, 3, 1], [1, 0, 0.5]);
  assertClose(blend(x, y, mask), ndarray(x.shape, [1, 2, -3, -4, 0, 0]), 0);
});

Deno.test("guidance: scale 1 is the conditional prediction, 0 the unconditional, beyond extrapolates", () => {
  const empty = row(1, -1), prompt = row(2, 3);
  assertClose(guide(empty, prompt, 1), prompt, 0);
  assertClose(guide(empty, prompt, 0), empty, 0);
  assertClose(guide(empty, prompt, 5), row(6, 19), 0);
});

Deno.test("DDIM: with the true noise x̂₀ is the clean sample, and a step without noise lands on the less noisy one", () => {
  const x0 = normals([64], "x0"), eps = normals([64], "eps"), aBar = 0.1, aBarPrev = 0.4, none = ndarray([64]);
  const x = noised(x0, eps, aBar);
  assertClose(predictX0(x, eps, aBar), x0, 1e-14);
  assertClose(ddimUpdate({ aBar, aBarPrev, sigma: 0 }, x, eps, none), noised(x0, eps, aBarPrev), 1e-14);
  // All that is left of ε as fresh noise: η = 1 from pure noise.
  const fresh = normals([64], "fresh"), sigma = Math.sqrt(1 - aBarPrev);
  assertClose(ddimUpdate({ aBar, aBarPrev, sigma }, x, eps, fresh), noised(x0, fresh, aBarPrev), 1e-14);
});
