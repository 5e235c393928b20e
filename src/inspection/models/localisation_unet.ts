/**
 * The localisation U-Net: the discriminative sub-network of DRAEM (Zavrtanik et al. 2021) on three channels, which the
 * AnomalyDiffusion paper trains on generated pairs. 28,372,418 parameters at base width 64. Names are those of DRAEM's state
 * dict.
 */

import type { Layers } from "./layers.ts";

/** Sizes of the localisation U-Net. */
export interface LocalisationConfig {
  readonly kind: "localisation";
  /** Channels of the first level: 64 in the papers. */
  readonly baseWidth: number;
  /** `narrow` is the small U-Net of `narrow_unet.ts`; DRAEM's where it is left out. */
  readonly form?: "narrow";
}

/** Widths of the six levels of the encoder, in base widths. */
const LEVELS = [1, 2, 4, 8, 8, 8] as const;

/** Ways up: name of the step up, of its double convolution, and their width in base widths. */
const UP = [["up_b", "db_b", 8], ["up1", "db1", 4], ["up2", "db2", 2], ["up3", "db3", 1], ["up4", "db4", 1]] as const;

/** The images' side must be a multiple of this: five halvings. */
export const LOCALISATION_MULTIPLE = 32;

/**
 * Scores of both classes, normal and defect, for each pixel; a softmax over the channels makes probabilities of them.
 * @param baseWidth channels of the first level
 * @param layers what builds the network
 * @param image [B, S, S, 3] in [0, 1], RGB without further normalisation
 * @returns logits [B, S, S, 2]
 */
export function localisationUnet<T>(baseWidth: number, layers: Layers<T>, image: T): T {
  const threeByThree = { kernel: 3, bias: true };
  const double = (name: string, x: T, width: number) => {
    const h = layers.norm(`${name}.1`, layers.conv(`${name}.0`, x, width, threeByThree), "relu");
    return layers.norm(`${name}.4`, layers.conv(`${name}.3`, h, width, threeByThree), "relu");
  };
  const taps: T[] = [];
  let h = image;
  LEVELS.forEach((level, i) => {
    if (i > 0) h = layers.maxPool(h, 2, 2, 0);
    h = double(`encoder_segment.block${i + 1}`, h, level * baseWidth);
    taps.push(h);
  });
  taps.pop(); // the deepest level is where the way up starts
  for (const [up, db, level] of UP) {
    const name = `decoder_segment.${up}`, width = level * baseWidth;
    h = layers.norm(`${name}.2`, layers.conv(`${name}.1`, layers.upsample(h), width, threeByThree), "relu");
    h = double(`decoder_segment.${db}`, layers.concat(h, taps.pop()!), width);
  }
  return layers.conv("decoder_segment.fin_out.0", h, 2, threeByThree);
}
