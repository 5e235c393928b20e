/**
 * The recipe of the small base model, the same as `fixtures/small-ldm/train.py`: sizes of its networks, learning rates,
 * weighting of the loss. Measured on a prototype, not taken from a paper, except where a source is named.
 */

import type { AdamOptions } from "../graph/ops/optimise.ts";
import type { RateSchedule } from "../nn/learning_rate.ts";
import { lossWeight, signalToNoise } from "../diffusion/schedule.ts";
import type { TimestepSampling } from "../diffusion/timesteps.ts";
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

/** Of the autoencoder. */
export const autoencoderRate: RateSchedule = { warmUp: 100, flat: 0.4, rest: 0.015 };

/** Of the U-Net and the text tower. */
export const unetRate: RateSchedule = { warmUp: 200, flat: 0.7, rest: 0.01 };

/** Of a U-Net that goes on from trained weights: only the optimiser has to find its feet. */
export const continuedRate: RateSchedule = { warmUp: 50, flat: 0.5, rest: 0.01 };

/** AdamW's settings besides the rate. */
export const adamSettings: Omit<AdamOptions, "learningRate"> = { betas: [0.9, 0.99], weightDecay: 1e-4 };

/** Largest norm of all gradients together. */
export const GRADIENT_LIMIT = 1;

/** Side of the autoencoder's training crops in pixels: it has no attention, so crops of the picture serve as well. */
export const CROP = 64;

/** Decay of the averaged weights after `steps` steps: it grows with them, so that the start is forgotten. */
export function averageDecay(steps: number, limit: number): number {
  return Math.min(limit, (1 + steps) / (10 + steps));
}

/**
 * Bound on 1/SNR in balanced draws of noise levels (twice that of embeddings, `timesteps.ts`), and what the loss's weights beyond
 * it go by. What a picture shows is decided at high levels, whose errors are small: to SNR 1/10 they are drawn more often, beyond
 * it, to 1/40, they count more. The mean colour is decided there.
 */
export const BALANCED_MOST = 10, BALANCED_WEIGHT = 4;

/**
 * Weight of a picture's loss at ᾱ: min-SNR-5 for levels that are drawn evenly, 1 to 4 for balanced ones, 1 for detailed ones:
 * min-SNR-5 takes from the lowest levels what lines need.
 */
export function noiseLevelWeight(alphaCumprod: number, sampling: TimestepSampling): number {
  if (sampling === "uniform") return lossWeight(alphaCumprod);
  if (sampling === "detailed") return 1;
  return Math.max(1, Math.min(BALANCED_WEIGHT, 1 / signalToNoise(alphaCumprod) / BALANCED_MOST));
}
