/**
 * The text tower of latent diffusion: a pre-norm transformer encoder over word pieces (x-transformers names, as in CompVis
 * latent-diffusion's `BERTEmbedder`), with a place where learned vectors enter as word embeddings.
 */

import { attention } from "../graph/ops/attention.ts";
import { gatherRows } from "../graph/ops/gather.ts";
import { add, gelu } from "../graph/ops/pointwise.ts";
import { concat } from "../graph/ops/shape.ts";
import { scope, type Tensor } from "../graph/tensor.ts";
import { layerNormLayer, linearLayer } from "../nn/layers.ts";
import type { Parameters } from "../nn/parameters.ts";
import type { TextConfig } from "../weights/config.ts";

/** Prefix of the text tower's parameters in a checkpoint. */
export const TEXT_PREFIX = "cond_stage_model.transformer";

/** Name of the table of word embeddings [vocabSize, width]. */
export const TOKEN_TABLE = `${TEXT_PREFIX}.token_emb.weight`;

/**
 * Rows of [words ‖ learned] that form each sequence after the learned vectors have replaced the placeholder's column:
 * what follows shifts right by n − 1 and is cut at the end (method of Textual Inversion, Gal et al. 2022).
 * @param columns column of the placeholder in each sequence
 * @param length positions L
 * @param learned number n of learned vectors
 * @returns [B · L] indices into the L + n rows
 */
export function insertionRows(columns: readonly number[], length: number, learned: number): Uint32Array {
  const rows = new Uint32Array(columns.length * length);
  columns.forEach((column, b) => {
    for (let i = 0; i < length; i++) {
      const inside = i >= column && i < column + learned;
      rows[b * length + i] = inside ? length + i - column : i < column ? i : i - learned + 1;
    }
  });
  return rows;
}

/** Marks the columns of the learned vectors: 1 at [column, column + n) (and at 0 for the official code's slip), else 0. */
export function learnedColumns(
  columns: readonly number[],
  length: number,
  learned: number,
  withFirst = false,
): Float32Array {
  const marks = new Float32Array(columns.length * length);
  columns.forEach((column, b) => {
    marks.fill(1, b * length + column, b * length + Math.min(column + learned, length));
    if (withFirst) marks[b * length] = 1;
  });
  return marks;
}

/**
 * Puts learned vectors into sequences of word embeddings.
 * @param words [B, L, D]
 * @param learned [B, n, D]
 * @param rows {@linkcode insertionRows}, u32 [B, L]
 * @returns [B, L, D]
 */
export function insertLearned(words: Tensor, learned: Tensor, rows: Tensor): Tensor {
  return gatherRows(concat([words, learned], 1), rows);
}

/**
 * Context vectors of sequences of word embeddings. No padding mask: every position attends to every other.
 * @param words [B, L, D] without positions, L ≤ maxLength
 * @returns [B, L, D]
 */
export function textTower(config: TextConfig, p: Parameters, words: Tensor): Tensor {
  const { width, depth, heads, headDim, maxLength } = config;
  const positions = p.tensor(`${TEXT_PREFIX}.pos_emb.emb.weight`, [maxLength, width]);
  let h = add(words, positions);
  for (let layer = 0; layer < depth; layer++) {
    const attn = `${TEXT_PREFIX}.attn_layers.layers.${2 * layer}`,
      feed = `${TEXT_PREFIX}.attn_layers.layers.${2 * layer + 1}`;
    h = scope(attn, () => {
      const normed = layerNormLayer(p, `${attn}.0`, h);
      const [q, k, v] = ["q", "k", "v"].map((s) => linearLayer(p, `${attn}.1.to_${s}`, normed, heads * headDim, false));
      return add(linearLayer(p, `${attn}.1.to_out`, attention(q, k, v, { heads }), width), h);
    });
    h = scope(feed, () => {
      const hidden = gelu(linearLayer(p, `${feed}.1.net.0.0`, layerNormLayer(p, `${feed}.0`, h), 4 * width));
      return add(linearLayer(p, `${feed}.1.net.2`, hidden, width), h);
    });
  }
  return layerNormLayer(p, `${TEXT_PREFIX}.norm`, h);
}
