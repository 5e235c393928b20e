/**
 * Samplers by name: each step is x ← x·a + p·b + c·k, linear in the latent x, a prediction p and something carried k, so that
 * one graph serves all of them.
 */

import { ddimSteps } from "./ddim.ts";
import { dpmSteps, dpmTimesteps } from "./dpm.ts";
import type { Schedule } from "./schedule.ts";

/**
 * Samplers: DDIM (Song et al. 2021); DPM-Solver++(2M) (Lu et al. 2022), which needs fewer steps and adds no noise; and
 * SDE-DPM-Solver++ of first order (the same paper, section 3.4), which adds noise as DDIM with η = 1 does. Its update is DDIM's; its
 * steps are even in the logarithm of the signal-to-noise ratio, from the last timestep on.
 */
export const samplerKinds = ["ddim", "dpm++2m", "dpm++sde"] as const;

/** One of {@linkcode samplerKinds}. */
export type SamplerKind = typeof samplerKinds[number];

/** One step of a sampler. */
export interface SamplingStep {
  /** Timestep that the U-Net is asked for. */
  readonly t: number;
  /** ᾱ_t. */
  readonly aBar: number;
  /** Of x, of the prediction (DDIM: ε, DPM-Solver++: x̂₀) and of what is carried (fresh noise; x̂₀ of the step before). */
  readonly coefficients: readonly [number, number, number];
}

/**
 * All steps in the order of sampling.
 * @param eta DDIM's noise, 0 … 1; the others do not look at it
 * @throws {UserError} where steps or eta are out of range
 * @example
 * ```ts
 * import { samplingSteps } from "./sampling.ts";
 * import { createSchedule } from "./schedule.ts";
 * const [first] = samplingSteps(createSchedule(), "dpm++2m", 20);
 * if (first.t !== 999 || first.coefficients[2] !== 0) throw new Error("nothing is carried into the first step");
 * ```
 */
export function samplingSteps(schedule: Schedule, kind: SamplerKind, steps: number, eta = 1): SamplingStep[] {
  if (kind !== "dpm++2m") {
    const list = kind === "ddim"
      ? ddimSteps(schedule, steps, eta)
      : ddimSteps(schedule, steps, 1, dpmTimesteps(schedule, steps));
    return list.map(({ t, aBar, xCoef, epsCoef, sigma }) => (
      { t, aBar, coefficients: [xCoef, epsCoef, sigma] }
    ));
  }
  return dpmSteps(schedule, steps).map(({ t, aBar, xCoef, x0Coef, x0PrevCoef }) => (
    { t, aBar, coefficients: [xCoef, x0Coef, x0PrevCoef] }
  ));
}
