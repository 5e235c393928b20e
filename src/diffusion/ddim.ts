/**
 * DDIM sampling (Song et al. 2021, Eq. 12 and 16) with ε-prediction, as in latent diffusion: every step is linear in
 * x, ε and fresh noise, so it is given here as three coefficients and applied wherever x lives.
 */

import { UserError } from "../errors.ts";
import type { Schedule } from "./schedule.ts";

/** One step from timestep `t` to the previous one of the shortened sequence: x ← x·xCoef + ε·epsCoef + noise·sigma. */
export interface DdimStep {
  /** Position in the shortened sequence, S − 1 … 0. */
  index: number;
  /** Timestep that the U-Net is asked for. */
  t: number;
  /** ᾱ_t. */
  aBar: number;
  /** ᾱ of the timestep that the step leads to; ᾱ_0 after the last one. */
  aBarPrev: number;
  /** Standard deviation of the fresh noise, 0 where η = 0. */
  sigma: number;
  xCoef: number;
  epsCoef: number;
}

/**
 * The shortened sequence τ_i = ⌊i·T/S⌋ + 1, ascending. Where S divides T these are the reference's timesteps.
 * @param steps S, 1 … T − 1
 * @throws {UserError} if S is out of range
 */
export function ddimTimesteps(steps: number, timesteps = 1000): number[] {
  if (!Number.isInteger(steps) || steps < 1 || steps >= timesteps) {
    throw new UserError(
      `the number of sampling steps must be a whole number from 1 to ${timesteps - 1}, found ${steps}`,
    );
  }
  return Array.from({ length: steps }, (_, i) => Math.floor(i * timesteps / steps) + 1);
}

/**
 * All steps in the order of sampling, from the noisiest to t = 1.
 *
 * σ = η·√[(1−ᾱ')/(1−ᾱ)·(1−ᾱ/ᾱ')],  x̂₀ = (x − √(1−ᾱ)·ε)/√ᾱ,  x' = √ᾱ'·x̂₀ + √(1−ᾱ'−σ²)·ε + σ·noise
 * @param eta 0 deterministic … 1 ancestral (the paper's code)
 * @param sequence the timesteps, ascending; evenly spaced in t where left out
 * @example
 * ```ts
 * import { ddimSteps } from "./ddim.ts";
 * import { createSchedule } from "./schedule.ts";
 * const steps = ddimSteps(createSchedule(), 200, 1);
 * if (steps[0].t !== 996 || Math.abs(steps[0].sigma - 0.241123465) > 1e-9) throw new Error("not the known answer");
 * ```
 */
export function ddimSteps(
  schedule: Schedule,
  steps: number,
  eta = 1,
  sequence: readonly number[] = ddimTimesteps(steps, schedule.timesteps),
): DdimStep[] {
  if (!(eta >= 0 && eta <= 1)) throw new UserError(`eta must lie between 0 and 1, found ${eta}`);
  const { alphasCumprod } = schedule;
  return sequence.map((t, index) => {
    const aBar = alphasCumprod[t], aBarPrev = alphasCumprod[index > 0 ? sequence[index - 1] : 0];
    const sigma = eta * Math.sqrt((1 - aBarPrev) / (1 - aBar) * (1 - aBar / aBarPrev));
    const xCoef = Math.sqrt(aBarPrev / aBar);
    const epsCoef = Math.sqrt(Math.max(0, 1 - aBarPrev - sigma ** 2)) - xCoef * Math.sqrt(1 - aBar);
    return { index, t, aBar, aBarPrev, sigma, xCoef, epsCoef };
  }).reverse();
}
