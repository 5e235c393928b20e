/** One score for an image out of its score map, as the official AnomalyDiffusion (and DRAEM) evaluation pools it. */

import { UserError } from "../../errors.ts";

/**
 * The image score: the largest mean of a `window` × `window` square at any pixel, what lies outside the map counting as 0
 * (average pooling, stride 1, zero padding).
 * @param scores [height, width]
 * @param window odd; 21 in the official evaluation
 * @throws {UserError} if a score is not a finite number
 * @example
 * ```ts
 * import { imageScore } from "./image_score.ts";
 * const score = imageScore(new Float32Array(64 * 64).fill(1), 64, 64);
 * if (score !== 1) throw new Error(`${score}`);
 * ```
 */
export function imageScore(scores: ArrayLike<number>, width: number, height: number, window = 21): number {
  if (scores.length !== width * height) {
    throw new RangeError(`${width}×${height} scores expected, not ${scores.length}`);
  }
  if (!(window > 0) || window % 2 !== 1) throw new RangeError(`the window is an odd number, not ${window}`);
  const reach = (window - 1) / 2;
  // A summed-area table (Crow 1984) with a border of zeros, in float64.
  const stride = width + 1, sums = new Float64Array(stride * (height + 1));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0, row = 0; x < width; x++, i++) {
      if (!Number.isFinite(scores[i])) throw new UserError(`the score of pixel (${x}, ${y}) is ${scores[i]}`);
      row += scores[i];
      sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + row;
    }
  }
  let best = -Infinity;
  for (let y = 0; y < height; y++) {
    const top = Math.max(0, y - reach) * stride, bottom = Math.min(height, y + reach + 1) * stride;
    for (let x = 0; x < width; x++) {
      const left = Math.max(0, x - reach), right = Math.min(width, x + reach + 1);
      best = Math.max(best, sums[bottom + right] - sums[top + right] - sums[bottom + left] + sums[top + left]);
    }
  }
  return best / window / window;
}
