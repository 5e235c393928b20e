/**
 * DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2): a deterministic multistep solver of the probability-flow ODE that needs
 * far fewer steps than DDIM. Like DDIM it is linear, here in x and in the predictions x̂₀ of this step and the one before.
 */

import { UserError } from "../errors.ts";
import type { Schedule } from "./schedule.ts";

/** One step: x ← x·xCoef + x̂₀·x0Coef + (x̂₀ of the step before)·x0PrevCoef. */
export interface DpmStep {
  /** Position in the shortened sequence, S − 1 … 0. */
  index: number;
  /** Timestep that the U-Net is asked for. */
  t: number;
  /** ᾱ_t. */
  aBar: number;
  /** ᾱ of the timestep that the step leads to; ᾱ_0 after the last one. */
  aBarPrev: number;
  xCoef: number;
  x0Coef: number;
  /** 0 in the first step, which has no predecessor. */
  x0PrevCoef: number;
}

/** Half the logarithm of the signal-to-noise ratio, λ = log(√ᾱ/√(1−ᾱ)). */
const lambda = (aBar: number) => Math.log(aBar / (1 - aBar)) / 2;

/**
 * S ascending timesteps from 1 to T − 1, spaced as evenly as whole numbers allow in λ: the solver is a Taylor expansion in λ,
 * and with DDIM's even spacing in t its last intervals would be too long.
 * @throws {UserError} unless 1 ≤ S < T
 */
export function dpmTimesteps({ alphasCumprod, timesteps }: Schedule, steps: number): number[] {
  if (!Number.isInteger(steps) || steps < 1 || steps >= timesteps) {
    throw new UserError(
      `the number of sampling steps must be a whole number from 1 to ${timesteps - 1}, found ${steps}`,
    );
  }
  const low = lambda(alphasCumprod[timesteps - 1]), high = lambda(alphasCumprod[1]);
  let t = 0;
  return Array.from({ length: steps }, (_, i) => {
    const target = steps === 1 ? low : high + (low - high) * i / (steps - 1), last = timesteps - steps + i;
    const miss = (at: number) => Math.abs(lambda(alphasCumprod[at]) - target);
    t++;
    while (t < last && miss(t + 1) < miss(t)) t++;
    return t;
  });
}

/**
 * All steps in the order of sampling, on `dpmTimesteps`.
 *
 * h = λ' − λ, r = h_before/h, D = (1 + 1/2r)·x̂₀ − 1/2r·x̂₀_before, x' = σ'/σ·x − √ᾱ'·(e^(−h) − 1)·D
 * @param steps S; the last step falls back to first order below 15, where the second is less stable
 * @example
 * ```ts
 * import { dpmSteps } from "./dpm.ts";
 * import { createSchedule } from "./schedule.ts";
 * const [first, second] = dpmSteps(createSchedule(), 20);
 * if (first.x0PrevCoef !== 0 || second.x0PrevCoef >= 0) throw new Error("not a multistep solver");
 * ```
 */
export function dpmSteps(schedule: Schedule, steps: number): DpmStep[] {
  const sequence = dpmTimesteps(schedule, steps);
  const aBars = [schedule.alphasCumprod[0], ...sequence.map((t) => schedule.alphasCumprod[t])];
  return sequence.map((t, index) => {
    const aBar = aBars[index + 1], aBarPrev = aBars[index];
    const h = lambda(aBarPrev) - lambda(aBar), whole = -Math.sqrt(aBarPrev) * Math.expm1(-h);
    const first = index === steps - 1 || (index === 0 && steps < 15);
    const half = first ? 0 : h / (2 * (lambda(aBar) - lambda(aBars[index + 2])));
    return {
      index,
      t,
      aBar,
      aBarPrev,
      xCoef: Math.sqrt((1 - aBarPrev) / (1 - aBar)),
      x0Coef: whole * (1 + half),
      x0PrevCoef: -whole * half + 0,
    };
  }).reverse();
}

/** x' of one step, elementwise. `x0Prev` may be left out where its coefficient is 0. */
export function dpmUpdate(step: DpmStep, x: Float32Array, x0: Float32Array, x0Prev?: Float32Array): Float32Array {
  const { xCoef, x0Coef, x0PrevCoef } = step;
  if (x0PrevCoef !== 0 && !x0Prev) throw new RangeError("this step needs the prediction of the step before");
  return x.map((value, i) => value * xCoef + x0[i] * x0Coef + (x0PrevCoef === 0 ? 0 : x0Prev![i] * x0PrevCoef));
}
