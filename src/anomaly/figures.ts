/** Figures of a generated pair that need no other network: how much changed, and where. */

import type { Image, Mask } from "../data/image.ts";

/** Figures of one generated pair. */
export interface PairFigures {
  /** Mean absolute change of a channel inside the mask, 0 … 1. */
  readonly changeInside: number;
  /** The same outside the mask and its feather: 0 unless something is wrong. */
  readonly changeOutside: number;
  /** Share of the mask whose pixels visibly differ from the source. */
  readonly changedShare: number;
}

/** Least change of a pixel's mean channel, of 255, that an eye notices on a quiet surface. */
const VISIBLE = 8;

/**
 * Compares a result with what it was made from.
 * @param source the picture without the defect; for changeInside best the autoencoder's reconstruction, whose blur is no defect
 * @param opacity of the paste; outside is where it is 0
 */
export function pairFigures(source: Image, result: Image, mask: Mask, opacity: Float32Array): PairFigures {
  let inside = 0, outside = 0, visible = 0, maskPixels = 0, outsidePixels = 0;
  for (let i = 0; i < mask.data.length; i++) {
    let change = 0;
    for (let c = 0; c < 3; c++) change += Math.abs(source.data[3 * i + c] - result.data[3 * i + c]) / 3;
    if (mask.data[i]) {
      maskPixels++;
      inside += change;
      if (change >= VISIBLE) visible++;
    } else if (opacity[i] === 0) {
      outsidePixels++;
      outside += change;
    }
  }
  return {
    changeInside: maskPixels ? inside / maskPixels / 255 : 0,
    changeOutside: outsidePixels ? outside / outsidePixels / 255 : 0,
    changedShare: maskPixels ? visible / maskPixels : 0,
  };
}

/** Figures of a mask in several windows: means over all of its pixels, of which each window holds `sizes`. */
export function joinFigures(parts: readonly PairFigures[], sizes: readonly number[]): PairFigures {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const mean = (name: keyof PairFigures) =>
    total ? parts.reduce((sum, part, i) => sum + part[name] * sizes[i], 0) / total : 0;
  return {
    changeInside: mean("changeInside"),
    changeOutside: mean("changeOutside"),
    changedShare: mean("changedShare"),
  };
}
