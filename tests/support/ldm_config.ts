/** Golden files name sizes as CompVis latent-diffusion does; here they become this project's configurations. */
import type { AutoencoderConfig, TextConfig, UnetConfig } from "../../src/weights/config.ts";
import type { Golden } from "./goldens.ts";

interface LdmUnet {
  in_channels: number;
  out_channels: number;
  model_channels: number;
  attention_resolutions: number[];
  num_res_blocks: number;
  channel_mult: number[];
  num_heads: number;
  context_dim: number;
  image_size: number;
}

/** Sizes of the U-Net, and the side of its latent. */
export function unetConfig(golden: Golden): UnetConfig & { side: number } {
  const c = golden.config("unet") as unknown as LdmUnet;
  return {
    inChannels: c.in_channels,
    outChannels: c.out_channels,
    modelChannels: c.model_channels,
    channelMult: c.channel_mult,
    numResBlocks: c.num_res_blocks,
    attentionLevels: c.channel_mult.map((_, level) => c.attention_resolutions.includes(2 ** level)),
    numHeads: c.num_heads,
    contextDim: c.context_dim,
    numGroups: 32,
    side: c.image_size,
  };
}

/** Sizes of the text tower: x-transformers' defaults of 8 heads of 64. */
export function textConfig(golden: Golden): TextConfig {
  const { n_embed, n_layer } = golden.config("text") as unknown as { n_embed: number; n_layer: number };
  return { vocabSize: 30522, width: n_embed, depth: n_layer, heads: 8, headDim: 64, maxLength: 77 };
}

/** Sizes of the autoencoder, and the side of its image. */
export function autoencoderConfig(golden: Golden): AutoencoderConfig & { side: number } {
  const c = golden.config("vae") as unknown as {
    ch: number;
    ch_mult: number[];
    num_res_blocks: number;
    z_channels: number;
    in_channels: number;
    out_ch: number;
    resolution: number;
  };
  return {
    patchSize: 1,
    inChannels: c.in_channels,
    outChannels: c.out_ch,
    channels: c.ch,
    channelMult: c.ch_mult,
    numResBlocks: c.num_res_blocks,
    zChannels: c.z_channels,
    embedDim: c.z_channels,
    midAttention: true,
    numGroups: 32,
    side: c.resolution,
  };
}

/** PyTorch's [B, C, H, W] as [B, H, W, C]. */
export function channelsLast(data: Float32Array, [b, c, h, w]: readonly number[]): Float32Array {
  const out = new Float32Array(data.length);
  for (let i = 0; i < b; i++) {
    for (let k = 0; k < c; k++) {
      for (let p = 0; p < h * w; p++) out[(i * h * w + p) * c + k] = data[(i * c + k) * h * w + p];
    }
  }
  return out;
}

/** [B, H, W, C] as PyTorch's [B, C, H, W]; `shape` is PyTorch's. */
export function channelsFirst(data: Float32Array, [b, c, h, w]: readonly number[]): Float32Array {
  const out = new Float32Array(data.length);
  for (let i = 0; i < b; i++) {
    for (let k = 0; k < c; k++) {
      for (let p = 0; p < h * w; p++) out[(i * c + k) * h * w + p] = data[(i * h * w + p) * c + k];
    }
  }
  return out;
}
