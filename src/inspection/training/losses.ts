/** What the localisation U-Net minimises beside the engine's focal loss. */

import { crossEntropy } from "../../graph/ops/losses.ts";
import { add, affine, div, mul } from "../../graph/ops/pointwise.ts";
import { sum } from "../../graph/ops/reduce.ts";
import { reshape, slice } from "../../graph/ops/shape.ts";
import { softmax } from "../../graph/ops/softmax.ts";
import type { Tensor } from "../../graph/tensor.ts";

/** The focal loss of the papers, or cross-entropy plus 1 − Dice. */
export type LocalisationLoss = "focal" | "cross-entropy+dice";

/** Added to both sides of the Dice fraction, in pixels, so that a batch without defects has one. */
const SMOOTHING = 1;

/**
 * Mean cross-entropy plus 1 − Dice of the defect's probabilities over the whole batch (Milletari et al. 2016). The second term
 * counts few defect pixels as much as a large ground, and so takes a short training off the answer that all is normal.
 * @param logits [B, H, W, 2]
 * @param labels [B, H, W], u32, 1 at a defect
 * @param mask [B, H, W, 1], the labels as f32
 * @returns [1]
 */
export function crossEntropyDice(logits: Tensor, labels: Tensor, mask: Tensor): Tensor {
  const defect = slice(softmax(logits), 3, 1, 2), all = (x: Tensor) => reshape(sum(x), [1]);
  const overlap = affine(all(mul(defect, mask)), 2, SMOOTHING),
    both = affine(add(all(defect), all(mask)), 1, SMOOTHING);
  return add(crossEntropy(logits, labels), affine(div(overlap, both), -1, 1));
}
