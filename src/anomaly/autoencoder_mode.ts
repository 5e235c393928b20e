/** How the autoencoder works on an adapter: several images at once, one, or one in bands. The run and its plan ask here. */

import { plan } from "../graph/plan.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { decode, encode } from "../models/autoencoder.ts";
import type { Parameters } from "../nn/parameters.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";

/** Images that the autoencoder handles at once, fewer where one of its values would be larger than the adapter binds. */
export const AUTOENCODER_BATCH = 4;

/** Moments [B, h, w, 2·C] of a model's images, the input `x`. */
export function encoderGraph({ autoencoder, resolution: side }: ModelConfig, p: Parameters, batch: number): Tensor {
  return encode(autoencoder, p, input("x", [batch, side, side, autoencoder.inChannels]));
}

/** Images [B, side, side, 3] of a model's latents, the input `x`, already divided by the latent scale. */
export function decoderGraph({ autoencoder, resolution }: ModelConfig, p: Parameters, batch: number): Tensor {
  const side = resolution / downsamplingFactor(autoencoder);
  return decode(autoencoder, p, input("x", [batch, side, side, autoencoder.embedDim]));
}

/** Images at once, and whether each is worked on in bands (`tiled_autoencoder.ts`). */
export interface AutoencoderMode {
  readonly batch: number;
  readonly banded: boolean;
}

/**
 * The most images at once whose values an adapter binds; one in bands where even its values are larger. What becomes of an
 * image does not depend on it.
 * @param binding bytes that the adapter binds at most
 */
export function autoencoderMode(config: ModelConfig, p: Parameters, binding: number): AutoencoderMode {
  for (let batch = AUTOENCODER_BATCH;; batch = Math.floor(batch / 2)) {
    const graphs = [decoderGraph(config, p, batch), encoderGraph(config, p, batch)];
    const fits = graphs.every((y) => Math.max(...plan([y]).slotBytes) <= binding);
    if (fits || batch === 1) return { batch, banded: !fits };
  }
}
