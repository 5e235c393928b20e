/**
 * The map of the paper's adaptive re-weighting (Eq. 7), as far as its text defines it: w = ‖m‖₁·softmax(1/δ) over the constant
 * mask, δ what the predicted clean picture differs from the normal one by. What it leaves open: docs/parity.md,
 * "Re-weighting by the paper's text".
 */

import { div, maximum, mul, square, sub } from "../graph/ops/pointwise.ts";
import { mean } from "../graph/ops/reduce.ts";
import { maxPool } from "../graph/ops/resample.ts";
import { distanceWeights } from "../graph/ops/reweighting.ts";
import type { Tensor } from "../graph/tensor.ts";
import { filled } from "../graph/variable.ts";

/** A δ² below this is not one of f32: so small a δ is no difference. */
const SMALL = 1e-30;

/**
 * Weights of the probabilities that pixels give to the learned tokens.
 *
 * The text's softmax has no temperature, and with none it is one-hot: δ falls from tenths to ten-thousandths over the steps, so
 * that its inverses lie tens to thousands apart. Here the temperature is the largest 1/δ of the image's mask. Then the weights are
 * of no unit, lie between 1/e and e, and the least changed pixel gets up to e times the weight of the most changed.
 * @param clean x̂₀ [B, h, w, C]
 * @param z0 latent of the normal image [B, h, w, C]
 * @param mask 1 where the anomaly shall appear [B, h, w, 1]
 * @returns [B, h, w, 1]; 1 outside the mask and where nothing differs
 */
export function paperWeights(clean: Tensor, z0: Tensor, mask: Tensor): Tensor {
  const whole = [mask.shape[1], mask.shape[2]] as const;
  const delta = mean(square(mul(sub(clean, z0), mask)), [3], true);
  const inverse = div(delta, maximum(square(delta), filled([1, 1, 1, 1], SMALL))); // 0 where δ is
  const largest = maxPool(inverse, { kernel: whole, stride: whole }); // [B, 1, 1, 1]
  return distanceWeights(mul(delta, largest), mask, { form: "paper" });
}
