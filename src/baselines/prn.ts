/**
 * Anomalies in the manner of PRN (Zhang et al., "Prototypical residual networks for anomaly detection and localization",
 * CVPR 2023), whose code is not public: *extended* ones, real defects under strong geometric and colour changes at any
 * place of the part, and *simulated* ones, Perlin shapes on the part filled with a foreign texture or with the part's own
 * picture in shuffled tiles.
 */

import { crop, putBack } from "../anomaly/windows.ts";
import type { Image } from "../data/image.ts";
import type { Random } from "../random/philox.ts";
import { augmentTexture, jitter } from "./colour.ts";
import { sizeRatio } from "./crop_paste.ts";
import { type Ground, type Made, type Method, rounded } from "./method.ts";
import { blend, cutOut, layAtRandom } from "./patch.ts";
import { perlinMask } from "./perlin.ts";

/** Range of the opacity β of simulated anomalies. */
export const PRN_OPACITY = [0.15, 1] as const;

/** Of the pictures, this share is extended, the rest simulated; of these half show the part's own texture. */
const EXTENDED = 0.5, OWN_TEXTURE = 0.5;

/** Strength of an extended anomaly's colour jitter. */
const JITTER = 0.1;

/** Tiles across and down of a shuffled picture. */
const TILES_X = 4, TILES_Y = 8;

/** The picture's tiles in another order; what does not fill a tile stays at its place. */
export function shuffleTiles(image: Image, random: Random): Image {
  const width = Math.floor(image.width / TILES_X), height = Math.floor(image.height / TILES_Y);
  const windows = Array.from({ length: TILES_X * TILES_Y }, (_, i) => ({
    x: (i % TILES_X) * width,
    y: Math.floor(i / TILES_X) * height,
    width,
    height,
  }));
  const from = random.shuffle(windows);
  return windows.reduce((result, to, i) => putBack(result, crop(image, from[i]), to), image);
}

/** A real defect, stretched, turned, recoloured and laid anywhere on the part. */
export function extended({ source, part, pairs }: Ground, random: Random): Made {
  const pair = random.pick(pairs), cut = cutOut(pair);
  const piece = { ...cut, image: jitter(cut.image, random, JITTER) };
  const placement = { rotation: Math.PI, scale: [0.5, 1.5], stretch: true, mirror: true, part } as const;
  const { image, mask } = layAtRandom(piece, source, random, placement, sizeRatio(source, pair));
  return { image: blend(source, image, mask), mask, maskSource: pair.name, details: { form: "extended" } };
}

async function simulated({ source, part, textures, opacity }: Ground, random: Random): Promise<Made> {
  const { width, height } = source, own = random.chance(OWN_TEXTURE);
  const texture = own
    ? { image: jitter(shuffleTiles(source, random), random, JITTER), name: "own" }
    : await textures(random);
  const over = own ? texture.image : augmentTexture(texture.image, random, width, height);
  const mask = perlinMask(random, width, height, part), beta = random.uniform(...opacity);
  return {
    image: blend(source, over, mask, beta),
    mask,
    maskSource: "perlin",
    details: { form: "simulated", texture: texture.name, opacity: rounded(beta) },
  };
}

/** PRN's anomalies: extended and simulated ones, half of each. */
export const prn: Method = (ground, random) =>
  random.chance(EXTENDED) ? Promise.resolve(extended(ground, random)) : simulated(ground, random);
