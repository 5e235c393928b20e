/**
 * The forward process of latent diffusion: variances β_t linear in √β ("scaled linear", Rombach et al. 2022) and their
 * cumulative products ᾱ_t = ∏ (1 − β_s), Ho et al. 2020 (Eq. 4). In float64.
 */

import type { ScheduleConfig } from "../weights/config.ts";

/** β_t and ᾱ_t for t = 0 … T − 1. */
export interface Schedule {
  /** T, 1000 in the paper's model. */
  readonly timesteps: number;
  /** β_t, [T], 0 to 1. */
  readonly betas: Float64Array;
  /** ᾱ_t, [T], falling. */
  readonly alphasCumprod: Float64Array;
}

/** The schedule of LDM text2img-large. */
export const ldmSchedule: ScheduleConfig = { timesteps: 1000, betaStart: 0.00085, betaEnd: 0.012 };

/**
 * β_t = (√β₀ + t/(T−1)·(√β_{T−1} − √β₀))² and ᾱ_t.
 * @example
 * ```ts
 * import { createSchedule } from "./schedule.ts";
 * const { alphasCumprod } = createSchedule();
 * if (Math.abs(alphasCumprod[999] - 0.004660098513077238) > 1e-15) throw new Error("not LDM's schedule");
 * ```
 */
export function createSchedule({ timesteps, betaStart, betaEnd }: ScheduleConfig = ldmSchedule): Schedule {
  const low = Math.sqrt(betaStart), high = Math.sqrt(betaEnd);
  const betas = Float64Array.from({ length: timesteps }, (_, t) => (low + t / (timesteps - 1) * (high - low)) ** 2);
  let product = 1;
  const alphasCumprod = betas.map((beta) => product *= 1 - beta);
  return { timesteps, betas, alphasCumprod };
}

/** x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε (Ho et al. 2020, Eq. 4). */
export function qSample(x0: ArrayLike<number>, noise: Float32Array, aBar: number): Float32Array {
  const signal = Math.sqrt(aBar), spread = Math.sqrt(1 - aBar);
  return noise.map((value, i) => signal * x0[i] + spread * value);
}

/** Signal-to-noise ratio ᾱ/(1 − ᾱ), for loss weightings such as min-SNR (Hang et al. 2023). */
export function signalToNoise(alphaCumprod: number): number {
  return alphaCumprod / (1 - alphaCumprod);
}

/** Weight of a picture's loss at ᾱ: min(SNR, 5)/SNR, for a network that predicts ε (min-SNR-5, Hang et al., ICCV 2023). */
export function lossWeight(alphaCumprod: number): number {
  return Math.min(1, 5 / signalToNoise(alphaCumprod));
}
