/**
 * The loss of the U-Net's pretraining: the squared error of ε under a weight for its noise level, and terms for what a small
 * part of the cells decides, with the normalisations of `fixtures/small-ldm/train.py`.
 *
 * A weight that depends on the noisy picture or on nothing leaves the best ε where it is, at the mean of what the noise may have
 * been; `emphasis` and `meanDamage` depend on where the damage really is, which the network has to guess, and move that mean
 * towards more damage than there is. A model trained so draws blots where it should draw lines.
 */

import type { TimestepSampling } from "../diffusion/timesteps.ts";
import { add, affine, clamp, div, mul, square, sub } from "../graph/ops/pointwise.ts";
import { mean, sum } from "../graph/ops/reduce.ts";
import { maxPool } from "../graph/ops/resample.ts";
import { reshape } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";

/** What counts beside the plain error; 0 is none. */
export interface NoiseTerms {
  /** Cells with damage in them count 1 + this; biased towards damage. */
  readonly emphasis: number;
  /** How often more the error of each channel's mean counts: the mean colour is one number of all cells. */
  readonly mean: number;
  /** The same over the damaged cells of each picture; biased towards damage. */
  readonly meanDamage: number;
  /** Weight of the damage words' attention outside the damage, in the manner of TokenCompose (Wang et al., CVPR 2024). */
  readonly localise: number;
  /** Noise levels drawn evenly under min-SNR-5, or more of the high ones, where captions decide, or of the low ones, where lines do. */
  readonly timestepSampling: TimestepSampling;
}

/** Nothing but the error. */
export const PLAIN_LOSS: NoiseTerms = { emphasis: 0, mean: 0, meanDamage: 0, localise: 0, timestepSampling: "uniform" };

/** Fewest cells by which the error over a picture's damage is divided: of two or three cells it is mostly chance. */
const FEWEST_CELLS = 8;

/** Smallest attention map that `localise` asks, in cells: in smaller ones a cell is most of the damage. */
export const LOCALISED_CELLS = 64;

/** Whether a loss asks where a picture's damage is. */
export function asksDamage({ emphasis, meanDamage, localise }: NoiseTerms): boolean {
  return emphasis > 0 || meanDamage > 0 || localise > 0;
}

/** What is known about the pictures of a batch. */
export interface DamageInputs {
  /** 1 where a cell has damage in it, else 0 [B, h, w, 1]. */
  readonly cells: Tensor;
  /** With `localise`: 1 on the columns of words that speak of damage, else 0 [B, L]. */
  readonly about?: Tensor;
  /** With `localise`: attention on these words, as `Probe` of the U-Net gives it, [B, h′, w′] each, h′ a divisor of h. */
  readonly maps?: readonly Tensor[];
}

/** Share of a map that lies outside the damage, squared [B]. */
function strayed(map: Tensor, cells: Tensor): Tensor {
  const factor = cells.shape[1] / map.shape[1], window = [factor, factor] as const;
  const inside = reshape(factor > 1 ? maxPool(cells, { kernel: window, stride: window }) : cells, map.shape);
  const held = div(sum(mul(map, inside), [1, 2]), affine(sum(map, [1, 2]), 1, 1e-6));
  return square(affine(held, -1, 1));
}

/**
 * Loss of predicted noise.
 * @param eps predicted [B, h, w, C]
 * @param noise that was added, the same shape
 * @param weight of each picture's noise level [B]
 * @param damage where a term asks for it ({@linkcode asksDamage})
 * @returns the loss, and each picture's mean squared error without weights and terms; [1], [B]
 */
export function noiseLoss(
  eps: Tensor,
  noise: Tensor,
  weight: Tensor,
  { emphasis, mean: meanWeight, meanDamage, localise }: NoiseTerms,
  damage?: DamageInputs,
): { loss: Tensor; error: Tensor } {
  const difference = sub(eps, noise), squares = square(difference), error = mean(squares, [1, 2, 3]);
  const cells = () => {
    if (!damage) throw new Error("the loss asks for the cells with damage");
    return damage.cells;
  };
  let counted = error;
  if (emphasis) {
    const weights = affine(cells(), emphasis, 1); // [B, h, w, 1], divided by their mean over the batch
    counted = div(mean(mul(squares, weights), [1, 2, 3]), reshape(mean(weights), [1]));
  }
  if (meanWeight) {
    counted = add(counted, affine(mean(square(mean(difference, [1, 2])), [1]), meanWeight));
  }
  if (meanDamage) {
    const sums = sum(mul(difference, cells()), [1, 2]), size = cells().size / weight.size; // [B, C]
    const count = clamp(sum(cells(), [1, 2]), FEWEST_CELLS, Math.max(FEWEST_CELLS, size)); // [B, 1]
    counted = add(counted, affine(mean(square(div(sums, count)), [1]), meanDamage));
  }
  let loss = reshape(mean(mul(counted, weight)), [1]);
  if (localise) {
    const { about, maps = [] } = damage ?? {};
    if (!about || !maps.length) throw new Error("the loss asks for the damage words' attention");
    const stray = affine(maps.map((map) => strayed(map, cells())).reduce(add), 1 / maps.length);
    // Only of pictures that have damage and words for it.
    const spoken = mul(clamp(sum(about, [1]), 0, 1), clamp(sum(cells(), [1, 2, 3]), 0, 1));
    loss = add(loss, affine(reshape(mean(mul(stray, spoken)), [1]), localise));
  }
  return { loss, error };
}
