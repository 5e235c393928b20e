/**
 * Sizes of LDM text2img-large (Rombach et al. 2022; CompVis latent-diffusion, `configs/latent-diffusion/
 * txt2img-1p4B-eval.yaml`): the base model of the paper.
 */

import type { ModelConfig } from "./config.ts";

/**
 * Its configuration, 256 × 256 pixels.
 * @example
 * ```ts
 * import { largeModelConfig } from "./large.ts";
 * if (largeModelConfig().unet.contextDim !== 1280) throw new Error();
 * ```
 */
export function largeModelConfig(): ModelConfig {
  return {
    format: "anomalydiffusion-model",
    version: 1,
    name: "LDM text2img-large",
    resolution: 256,
    scaleFactor: 0.18215,
    autoencoder: {
      patchSize: 1,
      inChannels: 3,
      outChannels: 3,
      channels: 128,
      channelMult: [1, 2, 4, 4],
      numResBlocks: 2,
      zChannels: 4,
      embedDim: 4,
      midAttention: true,
      numGroups: 32,
    },
    unet: {
      inChannels: 4,
      outChannels: 4,
      modelChannels: 320,
      channelMult: [1, 2, 4, 4],
      numResBlocks: 2,
      attentionLevels: [true, true, true, false],
      numHeads: 8,
      contextDim: 1280,
      numGroups: 32,
    },
    text: { vocabSize: 30522, width: 1280, depth: 32, heads: 8, headDim: 64, maxLength: 77 },
    schedule: { timesteps: 1000, betaStart: 0.00085, betaEnd: 0.012 },
  };
}
