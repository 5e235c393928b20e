/**
 * The recipe of the small base model, the same as `fixtures/small-ldm/train.py`: sizes of its networks, learning rates,
 * weighting of the loss. Measured on a prototype, not taken from a paper, except where a source is named.
 */

import { signalToNoise } from "../diffusion/schedule.ts";
import type { AdamOptions } from "../graph/ops/optimise.ts";
import type { ModelConfig } from "../weights/config.ts";

/**
 * Sizes of the small model: 6 million parameters, latents of 8 channels at an eighth of the side.
 * @param vocabSize word pieces of its vocabulary
 * @param resolution side of its images in pixels, a multiple of 32
 */
export function smallModelConfig(vocabSize: number, resolution = 128): ModelConfig {
  return {
    format: "anomalydiffusion-model",
    version: 1,
    name: "small-ldm",
    resolution,
    scaleFactor: 1,
    autoencoder: {
      patchSize: 2,
      inChannels: 3,
      outChannels: 3,
      channels: 32,
      channelMult: [1, 2, 4],
      numResBlocks: 1,
      zChannels: 8,
      embedDim: 8,
      midAttention: false,
      numGroups: 8,
    },
    unet: {
      inChannels: 8,
      outChannels: 8,
      modelChannels: 64,
      channelMult: [1, 1.5, 2],
      numResBlocks: 1,
      attentionLevels: [true, true, true],
      numHeads: 4,
      contextDim: 128,
      numGroups: 16,
    },
    text: { vocabSize, width: 128, depth: 2, heads: 4, headDim: 32, maxLength: 24 },
    schedule: { timesteps: 1000, betaStart: 0.00085, betaEnd: 0.012 },
  };
}

/** How a learning rate goes: a linear rise, flat, then half a cosine down to a rest. */
export interface RateSchedule {
  /** Steps of the rise. */
  readonly warmUp: number;
  /** Share of the training before the fall begins. */
  readonly flat: number;
  /** What is left at the end, as a share of the peak. */
  readonly rest: number;
}

/** Of the autoencoder. */
export const autoencoderRate: RateSchedule = { warmUp: 100, flat: 0.4, rest: 0.015 };

/** Of the U-Net and the text tower. */
export const unetRate: RateSchedule = { warmUp: 200, flat: 0.7, rest: 0.01 };

/** Of a U-Net that goes on from trained weights: only the optimiser has to find its feet. */
export const continuedRate: RateSchedule = { warmUp: 50, flat: 0.5, rest: 0.01 };

/**
 * Learning rate of a step.
 * @param step from 0
 * @param steps of the whole training
 * @example
 * ```ts
 * import { rateAt } from "./recipe.ts";
 * const schedule = { warmUp: 10, flat: 0.5, rest: 0.1 };
 * if (rateAt(0, 100, 1, schedule) !== 0.1 || rateAt(50, 100, 1, schedule) !== 1) throw new Error("not a rise, then flat");
 * ```
 */
export function rateAt(step: number, steps: number, peak: number, { warmUp, flat, rest }: RateSchedule): number {
  const fall = Math.max(0, (step / steps - flat) / (1 - flat));
  return peak * Math.min(1, (step + 1) / warmUp) * (rest + (1 - rest) * 0.5 * (1 + Math.cos(Math.PI * fall)));
}

/** AdamW's settings besides the rate. */
export const adamSettings: Omit<AdamOptions, "learningRate"> = { betas: [0.9, 0.99], weightDecay: 1e-4 };

/** Largest norm of all gradients together. */
export const GRADIENT_LIMIT = 1;

/** Side of the autoencoder's training crops in pixels: it has no attention, so crops of the picture serve as well. */
export const CROP = 64;

/** Weight of a picture's loss at ᾱ: min(SNR, 5)/SNR, for a network that predicts ε (min-SNR-5, Hang et al., ICCV 2023). */
export function lossWeight(alphaCumprod: number): number {
  return Math.min(1, 5 / signalToNoise(alphaCumprod));
}

/** Decay of the averaged weights after `steps` steps: it grows with them, so that the start is forgotten. */
export function averageDecay(steps: number, limit: number): number {
  return Math.min(limit, (1 + steps) / (10 + steps));
}
