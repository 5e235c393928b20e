/** What the baselines without a model have in common: what they may use, and what they make. */

import type { Image, Mask } from "../data/image.ts";
import type { Random } from "../random/philox.ts";
import type { Pair } from "./patch.ts";
import type { TextureSource } from "./textures.ts";

/** A real defect to learn from, with its name. */
export interface RealPair extends Pair {
  readonly name: string;
}

/** What a method makes one picture from. */
export interface Ground {
  /** Normal image of any size. */
  readonly source: Image;
  /** Where anomalies may lie, of the source's size; everywhere where left out. */
  readonly part?: Mask;
  /** Training pairs of the kind of defect, at least one. Only Crop&Paste and PRN look at them. */
  readonly pairs: readonly RealPair[];
  readonly textures: TextureSource;
  /** Range of the opacity β with which a texture is laid over the source; only DRAEM and PRN have one. */
  readonly opacity: readonly [number, number];
}

/** An anomalous picture, its mask, and how it came about. */
export interface Made extends Pair {
  /** Where the mask comes from: the name of a training pair, `perlin` or `rectangle`. */
  readonly maskSource: string;
  /** What was drawn at random and may be of interest later. */
  readonly details: Record<string, string | number>;
}

/** A baseline; all randomness comes from the stream, so that equal streams give equal pictures. */
export type Method = (ground: Ground, random: Random) => Promise<Made>;

/** A number of a manifest. */
export function rounded(value: number): number {
  return Number(value.toFixed(4));
}
