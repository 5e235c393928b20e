/**
 * Which noise levels training draws. Uniform draws spend most of the gradient on small t, where the noise decides the
 * prediction and no prompt can help: at t = 50 the small model's error is 30 times that at t = 800. Balanced draws follow the
 * inverse of the error that a trained network has left, so that every level counts about alike.
 */

import { type Schedule, signalToNoise } from "./schedule.ts";

/**
 * `uniform`, as the official code; `balanced`, by p(t) ∝ min(1/SNR, 5) + 0.4, where prompts decide; `detailed`, the first two fifths
 * four times as often, where lines and grain are decided.
 */
export type TimestepSampling = "uniform" | "balanced" | "detailed";

/**
 * What the error's inverse levels off at towards t = 0, in units of its slope over 1/SNR: error ≈ c · SNR/(1 + 0.4 · SNR), with
 * 0.3 to 0.47 fitted at eight levels of the small model.
 */
const FLOOR = 0.4;

/**
 * Detailed draws: the share of timesteps that is drawn more often, from t = 0 on (SNR above 0.7), and how often. In the small
 * model's latents colours have most of the deviation: noise of half of it hides a ring of two pixels, not the patch it lies on.
 */
const DETAIL = 0.4, DETAIL_DENSITY = 4;

/** Beyond this the picture is all but noise and prompts decide little; a bound as min-SNR-γ has it (Hang et al. 2023). */
const MOST = 5;

/**
 * The timestep below which a share of all draws lies: fed with uniform numbers it draws timesteps.
 * @param most bound on 1/SNR in balanced draws
 * @returns a function of u in [0, 1) to t in 0 … T − 1
 * @example
 * ```ts
 * import { createSchedule } from "./schedule.ts";
 * import { timestepQuantile } from "./timesteps.ts";
 * const uniform = timestepQuantile(createSchedule(), "uniform"), balanced = timestepQuantile(createSchedule(), "balanced");
 * if (uniform(0.25) !== 250 || balanced(0.25) < 400) throw new Error("balanced draws lie later");
 * ```
 */
export function timestepQuantile(
  schedule: Schedule,
  sampling: TimestepSampling,
  most: number = MOST,
): (u: number) => number {
  const { timesteps, alphasCumprod } = schedule;
  if (sampling === "uniform") return (u) => Math.min(timesteps - 1, Math.floor(u * timesteps));
  const below = new Float64Array(timesteps + 1); // total density of the timesteps before t
  const density = (a: number, t: number) => {
    if (sampling === "balanced") return Math.min(1 / signalToNoise(a), most) + FLOOR;
    return t < DETAIL * timesteps ? DETAIL_DENSITY : 1;
  };
  alphasCumprod.forEach((a, t) => below[t + 1] = below[t] + density(a, t));
  return (u) => {
    const wanted = u * below[timesteps];
    let low = 0, high = timesteps - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (below[middle + 1] > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}
