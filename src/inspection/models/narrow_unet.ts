/**
 * A small localisation U-Net for machines without a graphics card: three levels on blocks of 4 × 4 pixels. Few wide layers on a
 * coarse grid cost a processor far less than DRAEM's many narrow ones on every pixel, and all pixels of a block are still
 * scored one by one.
 */

import type { Layers } from "./layers.ts";

/** Widths of the three levels, in base widths; rounded up to multiples of four, as the kernels like them. */
const LEVELS = [1, 1.5, 2] as const;

/** Side of the blocks of pixels that the network sees as one point. */
const BLOCK = 4;

/** The images' side must be a multiple of this: blocks, and two halvings. */
export const NARROW_MULTIPLE = 4 * BLOCK;

/**
 * Scores of both classes, normal and defect, for each pixel.
 * @param baseWidth channels of the first level
 * @param layers what builds the network
 * @param image [B, S, S, 3] in [0, 1], RGB without further normalisation
 * @returns logits [B, S, S, 2]
 */
export function narrowUnet<T>(baseWidth: number, layers: Layers<T>, image: T): T {
  const double = (name: string, x: T, width: number) =>
    [0, 3].reduce((h, at) => {
      const convolved = layers.conv(`${name}.${at}`, h, width, { kernel: 3, bias: false });
      return layers.norm(`${name}.${at + 1}`, convolved, "relu");
    }, x);
  const widths = LEVELS.map((level) => 4 * Math.ceil(level * baseWidth / 4)), taps: T[] = [];
  let h = layers.intoBlocks(image, BLOCK); // [B, S/4, S/4, 48]
  widths.forEach((width, i) => {
    if (i > 0) h = layers.maxPool(h, 2, 2, 0);
    h = double(`encoder_segment.block${i + 1}`, h, width);
    taps.push(h);
  });
  taps.pop(); // the deepest level is where the way up starts
  for (let i = widths.length - 2; i >= 0; i--) {
    h = double(`decoder_segment.db${i + 1}`, layers.concat(layers.upsample(h), taps.pop()!), widths[i]);
  }
  const scores = layers.conv("decoder_segment.fin_out.0", h, 2 * BLOCK * BLOCK, { kernel: 3, bias: true });
  return layers.outOfBlocks(scores, BLOCK);
}
