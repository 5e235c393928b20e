/**
 * The U-Net of latent diffusion that predicts the noise ε (Rombach et al. 2022; names of CompVis latent-diffusion,
 * `ldm/modules/diffusionmodules/openaimodel.py`). A plain function from nodes to nodes, sized by its configuration.
 */

import { attention, crossAttention } from "../graph/ops/attention.ts";
import { geglu } from "../graph/ops/geglu.ts";
import { add, broadcastTo, mul, silu, sub } from "../graph/ops/pointwise.ts";
import { mean } from "../graph/ops/reduce.ts";
import { maxPool, resizeBilinear } from "../graph/ops/resample.ts";
import { concat, reshape } from "../graph/ops/shape.ts";
import { scope, type Tensor } from "../graph/tensor.ts";
import { convLayer, groupNormLayer, layerNormLayer, linearLayer, upsampleLayer } from "../nn/layers.ts";
import type { Parameters } from "../nn/parameters.ts";
import { replacedAttention } from "../nn/replaced_attention.ts";
import type { UnetConfig } from "../weights/config.ts";

/** Prefix of the U-Net's parameters in a checkpoint. */
export const UNET_PREFIX = "model.diffusion_model";

/** Adaptive attention re-weighting inside every cross-attention. */
export interface Reweighting {
  /** Weight of each latent pixel [B, h, w, 1], at the U-Net's own resolution. */
  readonly map: Tensor;
  /** 1 on the context columns that are weighted, else 0 [B, L]. */
  readonly columns: Tensor;
  /**
   * `logits`: the map multiplies before the softmax (official code); `probabilities`: after it (paper, Eq. 7); a share:
   * so much of the map replaces each column's probabilities (Prompt-to-Prompt).
   */
  readonly mode: "logits" | "probabilities" | { readonly share: number };
}

/** Another text for all pixels outside a mask: those inside attend to the context, those outside to this one. */
export interface Outside {
  /** 1 inside [B, h, w, 1], at the U-Net's own resolution; a coarser cell is inside where any of its pixels is. */
  readonly mask: Tensor;
  readonly context: Context;
}

/** Asks every cross-attention how much of it goes to some words. */
export interface Probe {
  /** 1 on the words' columns, else 0 [B, L]; gets no gradient. */
  readonly columns: Tensor;
  /** Smallest map that is asked, in cells. */
  readonly least: number;
  /** Is given each map in the order of use: the share of a cell's attention on these words, mean of the heads [B, h, w]. */
  readonly take: (map: Tensor) => void;
}

/** Keys and values of one cross-attention, [B, L, width] each. */
export interface KeysValues {
  readonly k: Tensor;
  readonly v: Tensor;
}

/** The text that a U-Net attends to: the context [B, L, D], or keys and values made from it once ({@linkcode contextKeys}). */
export type Context = Tensor | ReadonlyMap<string, KeysValues>;

/**
 * Sinusoidal embedding of timesteps, [cos ‖ sin], in f32 as the reference computes it.
 * @param timesteps one per image, 0 … T − 1
 * @param width model channels, even
 * @returns [B · width]
 */
export function timestepEmbedding(timesteps: readonly number[], width: number): Float32Array {
  const half = width / 2, out = new Float32Array(timesteps.length * width);
  timesteps.forEach((t, b) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(t * Math.fround(Math.exp(Math.fround(-Math.log(10000) * i) / half)));
      out[b * width + i] = Math.cos(angle);
      out[b * width + half + i] = Math.sin(angle);
    }
  });
  return out;
}

/** Where a transformer stands: its name, and its width. */
interface Place {
  readonly name: string;
  readonly width: number;
}

/** All spatial transformers of a U-Net in the order of use. */
export function transformers(config: UnetConfig): Place[] {
  const { modelChannels, channelMult, numResBlocks, attentionLevels } = config;
  const places: Place[] = [];
  const width = (level: number) => modelChannels * channelMult[level];
  let i = 0;
  channelMult.forEach((_, level) => {
    for (let k = 0; k < numResBlocks; k++) {
      i++;
      if (attentionLevels[level]) places.push({ name: `input_blocks.${i}.1`, width: width(level) });
    }
    i++;
  });
  places.push({ name: "middle_block.1", width: width(channelMult.length - 1) });
  let o = 0;
  for (let level = channelMult.length - 1; level >= 0; level--) {
    for (let k = 0; k <= numResBlocks; k++, o++) {
      if (attentionLevels[level]) places.push({ name: `output_blocks.${o}.1`, width: width(level) });
    }
  }
  return places;
}

function crossKeys(p: Parameters, name: string, context: Tensor, width: number): KeysValues {
  const attn = `${UNET_PREFIX}.${name}.transformer_blocks.0.attn2`;
  return {
    k: linearLayer(p, `${attn}.to_k`, context, width, false),
    v: linearLayer(p, `${attn}.to_v`, context, width, false),
  };
}

/**
 * Keys and values of every cross-attention for a context. They do not change over the sampling steps: made once per image.
 * @param context [B, L, D]
 */
export function contextKeys(config: UnetConfig, p: Parameters, context: Tensor): Map<string, KeysValues> {
  return new Map(
    transformers(config).map(({ name, width }) => [name, scope(name, () => crossKeys(p, name, context, width))]),
  );
}

/**
 * Predicted noise.
 * @param x noised latent [B, h, w, C]
 * @param timeEmbedding {@linkcode timestepEmbedding} of the images' timesteps [B, modelChannels]
 * @param context text [B, L, contextDim], or its keys and values
 * @param reweighting adaptive attention re-weighting; none where left out
 * @param outside another text outside a mask; the same everywhere where left out
 * @param probe what is asked of the attention to the context; nothing where left out
 * @returns ε [B, h, w, outChannels]
 */
export function unet(
  config: UnetConfig,
  p: Parameters,
  x: Tensor,
  timeEmbedding: Tensor,
  context: Context,
  reweighting?: Reweighting,
  outside?: Outside,
  probe?: Probe,
): Tensor {
  const { modelChannels, channelMult, numResBlocks, attentionLevels, numHeads, numGroups } = config;
  const embedded = scope("time_embed", () => {
    const hidden = silu(linearLayer(p, `${UNET_PREFIX}.time_embed.0`, timeEmbedding, 4 * modelChannels));
    // Every residual block starts from SiLU of the embedding.
    return silu(linearLayer(p, `${UNET_PREFIX}.time_embed.2`, hidden, 4 * modelChannels)); // [B, 4·model]
  });
  const batch = x.shape[0];
  const maps = new Map<number, Tensor>();
  const mapAt = (height: number, width: number): Tensor | undefined => {
    if (!reweighting) return undefined;
    let map = maps.get(height * width);
    if (!map) {
      const full = reweighting.map;
      const resized = full.shape[1] === height ? full : resizeBilinear(full, [height, width]);
      map = reshape(resized, [batch, height * width]);
      maps.set(height * width, map);
    }
    return map;
  };

  const regions = new Map<number, Tensor>();
  const insideAt = (height: number, width: number): Tensor => {
    const full = outside!.mask,
      factor = full.shape[1] / height,
      square = [factor, factor] as const,
      pool = { kernel: square, stride: square };
    const known = regions.get(height) ?? reshape(factor > 1 ? maxPool(full, pool) : full, [batch, height * width, 1]);
    regions.set(height, known);
    return known;
  };

  const residual = (name: string, x: Tensor, channels: number): Tensor =>
    scope(name, () => {
      const at = `${UNET_PREFIX}.${name}`;
      let h = groupNormLayer(p, `${at}.in_layers.0`, x, { groups: numGroups, eps: 1e-5, activation: "silu" });
      h = convLayer(p, `${at}.in_layers.2`, h, channels); // [B, h, w, channels]
      const time = linearLayer(p, `${at}.emb_layers.1`, embedded, channels);
      h = add(h, reshape(time, [batch, 1, 1, channels]));
      h = groupNormLayer(p, `${at}.out_layers.0`, h, { groups: numGroups, eps: 1e-5, activation: "silu" });
      const skip = x.shape[3] === channels ? x : convLayer(p, `${at}.skip_connection`, x, channels, 1);
      return add(convLayer(p, `${at}.out_layers.3`, h, channels), skip);
    });

  const transformer = (name: string, x: Tensor): Tensor =>
    scope(name, () => {
      const [, height, width, channels] = x.shape;
      const at = `${UNET_PREFIX}.${name}`, block = `${at}.transformer_blocks.0`;
      const normed = groupNormLayer(p, `${at}.norm`, x, { groups: numGroups, eps: 1e-6 });
      let h = reshape(convLayer(p, `${at}.proj_in`, normed, channels, 1), [batch, height * width, channels]); // [B, N, C]

      const n1 = layerNormLayer(p, `${block}.norm1`, h);
      const [q1, k1, v1] = ["q", "k", "v"].map((s) => linearLayer(p, `${block}.attn1.to_${s}`, n1, channels, false));
      h = add(linearLayer(p, `${block}.attn1.to_out.0`, attention(q1, k1, v1, { heads: numHeads }), channels), h);

      const n2 = layerNormLayer(p, `${block}.norm2`, h);
      const q2 = linearLayer(p, `${block}.attn2.to_q`, n2, channels, false);
      const keys = (of: Context) => of instanceof Map ? of.get(name)! : crossKeys(p, name, of as Tensor, channels);
      const { k, v } = keys(context);
      const map = mapAt(height, width), mode = reweighting?.mode;
      let attended = typeof mode === "object"
        ? replacedAttention(q2, k, v, { heads: numHeads, ...mode }, map!, reweighting!.columns)
        : crossAttention(q2, k, v, { heads: numHeads, mode }, map, reweighting?.columns);
      if (probe && height * width >= probe.least) {
        // Attention whose values are the marks gives the sum of the marked words' probabilities, on every channel of a head.
        const marks = broadcastTo(reshape(probe.columns, [...probe.columns.shape, 1]), k.shape);
        const seen = crossAttention(q2, k, marks, { heads: numHeads }); // [B, N, C]
        probe.take(reshape(mean(seen, [2]), [batch, height, width]));
      }
      if (outside) {
        const { k, v } = keys(outside.context), other = crossAttention(q2, k, v, { heads: numHeads });
        attended = add(other, mul(sub(attended, other), insideAt(height, width)));
      }
      h = add(linearLayer(p, `${block}.attn2.to_out.0`, attended, channels), h);

      const n3 = layerNormLayer(p, `${block}.norm3`, h);
      const gated = geglu(linearLayer(p, `${block}.ff.net.0.proj`, n3, 8 * channels)); // [B, N, 4C]
      h = add(linearLayer(p, `${block}.ff.net.2`, gated, channels), h);
      return add(convLayer(p, `${at}.proj_out`, reshape(h, x.shape), channels, 1), x);
    });

  let h = scope("input_blocks.0.0", () => convLayer(p, `${UNET_PREFIX}.input_blocks.0.0`, x, modelChannels));
  const skips = [h];
  let i = 0;
  channelMult.forEach((mult, level) => {
    for (let k = 0; k < numResBlocks; k++) {
      i++;
      h = residual(`input_blocks.${i}.0`, h, modelChannels * mult);
      if (attentionLevels[level]) h = transformer(`input_blocks.${i}.1`, h);
      skips.push(h);
    }
    if (level === channelMult.length - 1) return;
    i++;
    const name = `input_blocks.${i}.0.op`;
    h = scope(name, () => convLayer(p, `${UNET_PREFIX}.${name}`, h, h.shape[3], 3, { stride: 2 }));
    skips.push(h);
  });

  h = residual("middle_block.0", h, h.shape[3]);
  h = transformer("middle_block.1", h);
  h = residual("middle_block.2", h, h.shape[3]);

  let o = 0;
  for (let level = channelMult.length - 1; level >= 0; level--) {
    for (let k = 0; k <= numResBlocks; k++, o++) {
      h = residual(`output_blocks.${o}.0`, concat([h, skips.pop()!], 3), modelChannels * channelMult[level]);
      if (attentionLevels[level]) h = transformer(`output_blocks.${o}.1`, h);
      if (level > 0 && k === numResBlocks) {
        const name = `output_blocks.${o}.${attentionLevels[level] ? 2 : 1}.conv`;
        h = scope(name, () => upsampleLayer(p, `${UNET_PREFIX}.${name}`, h));
      }
    }
  }
  return scope("out", () => {
    const normed = groupNormLayer(p, `${UNET_PREFIX}.out.0`, h, { groups: numGroups, eps: 1e-5, activation: "silu" });
    return convLayer(p, `${UNET_PREFIX}.out.2`, normed, config.outChannels);
  });
}
