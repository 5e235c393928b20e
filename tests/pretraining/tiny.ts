/** A model small enough to train in a test, and pictures for it. */
import type { TrainingImages } from "../../src/pretraining/images.ts";
import { smallModelConfig } from "../../src/pretraining/recipe.ts";
import { Random } from "../../src/random/philox.ts";
import type { ModelConfig } from "../../src/weights/config.ts";

/** Word pieces of the captions. */
export const VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "red", "blue"];

/** 32 × 32 pixels, latents of 8 × 8, one level of 32 channels less than the small model everywhere. */
export function tinyConfig(): ModelConfig {
  const config = smallModelConfig(VOCAB.length, 32);
  return {
    ...config,
    autoencoder: { ...config.autoencoder, channelMult: [1, 1], zChannels: 4, embedDim: 4 },
    unet: {
      ...config.unet,
      inChannels: 4,
      outChannels: 4,
      modelChannels: 32,
      channelMult: [1, 1],
      attentionLevels: [false, true],
      contextDim: 32,
    },
    text: { ...config.text, width: 32, depth: 1, headDim: 8, maxLength: 8 },
  };
}

/** Two-coloured pictures with a bright square somewhere. */
export function tinyImages(count = 4): TrainingImages {
  const side = 32;
  const pictures = Array.from({ length: count }, (_, i) => {
    const random = new Random(3, "tiny", i), red = i % 2 === 0, at = random.integer(4, 16);
    return Uint8Array.from({ length: 3 * side * side }, (_, k) => {
      const c = k % 3, x = Math.floor(k / 3) % side, y = Math.floor(k / 3 / side);
      const bright = Math.max(Math.abs(x - at - 4), Math.abs(y - at - 4)) < 4 ? 120 : 0;
      return (c === (red ? 0 : 2) ? 130 : 40) + bright;
    });
  });
  return { count, side, pixels: (i) => pictures[i], caption: (i) => `a photo of ${i % 2 === 0 ? "red" : "blue"}` };
}
