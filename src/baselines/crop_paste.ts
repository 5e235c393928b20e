/**
 * Crop&Paste (Lin et al., "Few-shot defect segmentation leveraging abundant defect-free training samples through normal
 * background regularization and crop-and-paste operation", ICME 2021): a real defect is cut out along its mask, turned,
 * scaled, mirrored and laid on a normal picture, with a hard edge.
 */

import type { Method, RealPair } from "./method.ts";
import { blend, cutOut, layAtRandom } from "./patch.ts";

/** How many pixels of the ground one pixel of a pair's picture makes, where their sizes differ. */
export function sizeRatio(ground: { width: number; height: number }, { image }: RealPair): number {
  return Math.sqrt(ground.width * ground.height / (image.width * image.height));
}

/** Crop&Paste: any turn, scale 0.75 … 1.3. */
export const cropPaste: Method = ({ source, part, pairs }, random) => {
  const pair = random.pick(pairs);
  const placement = { rotation: Math.PI, scale: [0.75, 1.3], mirror: true, part } as const;
  const { image, mask } = layAtRandom(cutOut(pair), source, random, placement, sizeRatio(source, pair));
  return Promise.resolve({ image: blend(source, image, mask), mask, maskSource: pair.name, details: {} });
};
