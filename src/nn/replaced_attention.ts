/**
 * Cross-attention whose map is replaced for some tokens, as Prompt-to-Prompt does (Hertz et al. 2022): the way in which the
 * paper's supplement E tries to steer Textual Inversion into a mask.
 */

import { crossAttention } from "../graph/ops/attention.ts";
import { add, affine, mul } from "../graph/ops/pointwise.ts";
import { sum } from "../graph/ops/reduce.ts";
import { reshape } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { filled } from "../graph/variable.ts";

/** What takes the place of the probabilities. */
export interface Replacement {
  readonly heads: number;
  /** What each replaced column gets of the map: 1/n, so that n columns together get the map itself. */
  readonly share: number;
}

/**
 * Attention whose probabilities on marked columns are replaced by `share · map`; the others stay as the softmax made them.
 * @param q [B, N, H·D]
 * @param k [B, M, H·D]
 * @param v [B, M, H·D]
 * @param map what the marked columns attend with, [B, N]
 * @param columns 1 on replaced columns, else 0, [B, M]
 * @returns [B, N, H·D]
 * @throws ShapeError where shapes do not fit
 */
export function replacedAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { heads, share }: Replacement,
  map: Tensor,
  columns: Tensor,
): Tensor {
  const [images, n] = map.shape;
  // A map of zeros takes the marked columns out after the softmax; what they shall give instead is the same for each head.
  const others = crossAttention(q, k, v, { heads, mode: "probabilities" }, filled([images, n], 0), columns);
  const marked = sum(mul(v, reshape(columns, [...columns.shape, 1])), [1], true); // [B, 1, H·D]
  return add(others, mul(affine(marked, share), reshape(map, [images, n, 1])));
}
