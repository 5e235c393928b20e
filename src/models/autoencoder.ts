/**
 * The KL autoencoder of latent diffusion (Rombach et al. 2022; names of CompVis latent-diffusion,
 * `ldm/modules/diffusionmodules/model.py`), with an optional step from pixel blocks to channels at the image side.
 */

import { attention } from "../graph/ops/attention.ts";
import { add } from "../graph/ops/pointwise.ts";
import { pixelShuffle, pixelUnshuffle } from "../graph/ops/resample.ts";
import { reshape } from "../graph/ops/shape.ts";
import { scope, type Tensor } from "../graph/tensor.ts";
import { convLayer, groupNormLayer, upsampleLayer } from "../nn/layers.ts";
import type { Parameters } from "../nn/parameters.ts";
import type { AutoencoderConfig } from "../weights/config.ts";

/** Prefix of the autoencoder's parameters in a checkpoint. */
export const AUTOENCODER_PREFIX = "first_stage_model";

/** Added to the variance in every norm. */
export const EPS = 1e-6;

function block(p: Parameters, config: AutoencoderConfig, at: string, x: Tensor, channels: number): Tensor {
  return scope(at, () => {
    const norm = { groups: config.numGroups, eps: EPS, activation: "silu" } as const;
    const h = convLayer(p, `${at}.conv1`, groupNormLayer(p, `${at}.norm1`, x, norm), channels);
    const skip = x.shape[3] === channels ? x : convLayer(p, `${at}.nin_shortcut`, x, channels, 1);
    return add(convLayer(p, `${at}.conv2`, groupNormLayer(p, `${at}.norm2`, h, norm), channels), skip);
  });
}

function middle(p: Parameters, config: AutoencoderConfig, at: string, x: Tensor): Tensor {
  const [batch, height, width, channels] = x.shape;
  let h = block(p, config, `${at}.block_1`, x, channels);
  if (config.midAttention) {
    h = scope(`${at}.attn_1`, () => {
      const normed = groupNormLayer(p, `${at}.attn_1.norm`, h, { groups: config.numGroups, eps: EPS });
      const [q, k, v] = ["q", "k", "v"].map((s) =>
        reshape(convLayer(p, `${at}.attn_1.${s}`, normed, channels, 1), [batch, height * width, channels])
      );
      const attended = reshape(attention(q, k, v, { heads: 1 }), h.shape);
      return add(convLayer(p, `${at}.attn_1.proj_out`, attended, channels, 1), h);
    });
  }
  return block(p, config, `${at}.block_2`, h, channels);
}

/**
 * Posterior of the latent.
 * @param image [B, H, W, 3] in [−1, 1]
 * @param onLevel takes the features at the end of each level of the encoder, the finest first
 * @returns moments [B, H/f, W/f, 2·embedDim]: mean ‖ log-variance, log-variance not yet clamped to [−30, 20]
 */
export function encode(
  config: AutoencoderConfig,
  p: Parameters,
  image: Tensor,
  onLevel?: (features: Tensor) => void,
): Tensor {
  const at = `${AUTOENCODER_PREFIX}.encoder`;
  const input = config.patchSize > 1 ? pixelUnshuffle(image, config.patchSize) : image;
  let h = scope(`${at}.conv_in`, () => convLayer(p, `${at}.conv_in`, input, config.channels));
  config.channelMult.forEach((mult, level) => {
    for (let k = 0; k < config.numResBlocks; k++) {
      h = block(p, config, `${at}.down.${level}.block.${k}`, h, config.channels * mult);
    }
    onLevel?.(h);
    if (level < config.channelMult.length - 1) {
      const name = `${at}.down.${level}.downsample.conv`;
      h = scope(name, () => convLayer(p, name, h, h.shape[3], 3, { stride: 2, padding: [0, 1, 0, 1] }));
    }
  });
  return encoderHead(config, p, h);
}

/** The end of the encoder, at the latent's resolution: middle blocks and what makes moments of them. */
export function encoderHead(config: AutoencoderConfig, p: Parameters, x: Tensor): Tensor {
  const at = `${AUTOENCODER_PREFIX}.encoder`, h = middle(p, config, `${at}.mid`, x);
  return scope(`${at}.conv_out`, () => {
    const normed = groupNormLayer(p, `${at}.norm_out`, h, { groups: config.numGroups, eps: EPS, activation: "silu" });
    const moments = convLayer(p, `${at}.conv_out`, normed, 2 * config.zChannels);
    return convLayer(p, `${AUTOENCODER_PREFIX}.quant_conv`, moments, 2 * config.embedDim, 1);
  });
}

/** The start of the decoder, at the latent's resolution: from z to the output of the middle blocks. */
export function decoderStem(config: AutoencoderConfig, p: Parameters, z: Tensor): Tensor {
  const at = `${AUTOENCODER_PREFIX}.decoder`, levels = config.channelMult.length;
  const latent = convLayer(p, `${AUTOENCODER_PREFIX}.post_quant_conv`, z, config.zChannels, 1);
  const h = scope(
    `${at}.conv_in`,
    () => convLayer(p, `${at}.conv_in`, latent, config.channels * config.channelMult[levels - 1]),
  );
  return middle(p, config, `${at}.mid`, h);
}

/**
 * Image of a latent.
 * @param z [B, h, w, embedDim], already divided by the latent scale
 * @returns [B, f·h, f·w, 3], about [−1, 1], not clamped
 */
export function decode(config: AutoencoderConfig, p: Parameters, z: Tensor): Tensor {
  const at = `${AUTOENCODER_PREFIX}.decoder`, levels = config.channelMult.length;
  let h = decoderStem(config, p, z);
  for (let level = levels - 1; level >= 0; level--) {
    for (let k = 0; k <= config.numResBlocks; k++) {
      h = block(p, config, `${at}.up.${level}.block.${k}`, h, config.channels * config.channelMult[level]);
    }
    if (level > 0) {
      const name = `${at}.up.${level}.upsample.conv`;
      h = scope(name, () => upsampleLayer(p, name, h));
    }
  }
  const channels = config.outChannels * config.patchSize ** 2;
  const image = scope(`${at}.conv_out`, () => {
    const normed = groupNormLayer(p, `${at}.norm_out`, h, { groups: config.numGroups, eps: EPS, activation: "silu" });
    return convLayer(p, `${at}.conv_out`, normed, channels);
  });
  return config.patchSize > 1 ? pixelShuffle(image, config.patchSize) : image;
}
