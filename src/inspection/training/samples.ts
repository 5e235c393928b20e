/**
 * Images for inspection at the network's size, and which of them a training step sees (sampling of the AnomalyDiffusion
 * code: half normal images, half defects with all kinds equally likely). Images are known by the hash of their pixels, so
 * that a test image is found among the training images under any name and in any file format.
 */

import { createHash } from "node:crypto";
import { UserError } from "../../errors.ts";
import { type Image, loadImage, loadMask } from "../../data/image.ts";
import { requireSize } from "../../data/mvtec.ts";
import { resizeTensor } from "../../data/resize.ts";
import { Random } from "../../random/philox.ts";
import type { TrainingBatch } from "./learner.ts";

/** An image ready for a network. */
export interface InspectionSample {
  /** Path of its file. */
  readonly path: string;
  /** Path of its mask's file; undefined for a normal image. */
  readonly maskPath?: string;
  /** Kind of defect; undefined for a normal image. */
  readonly kind?: string;
  /** Part that it shows, where that matters: figures of a test are taken part by part. */
  readonly part?: string;
  /** RGB bytes, [S, S, 3]. */
  readonly pixels: Uint8ClampedArray;
  /** 1 where the defect is, [S, S]; undefined where there is none. */
  readonly mask?: Uint8Array;
  /** The mask as resizing leaves it, between 0 and 1, [S, S]; only where it was asked for. */
  readonly softMask?: Float32Array;
  /** SHA-256 of size and pixels as they are in the file. */
  readonly hash: string;
}

/** SHA-256 of an image's size and pixels, in hexadecimal: the same whatever the file's name and format. */
export function pixelHash({ width, height, data }: Image): string {
  return createHash("sha256").update(`${width}×${height}`).update(data).digest("hex");
}

/** Bilinear without antialiasing, as the reference resizes both training and test images. */
function fit(values: Float32Array, size: { width: number; height: number; channels: number }, side: number) {
  return resizeTensor(values, size, [side, side], "bilinear");
}

/**
 * Reads an image and its mask at a network's side. A mask is 1 where more than half of the pixel is defect.
 * @param side S
 * @param source `mask` and `kind` are left out for a normal image
 * @param soft keep the mask's resized values too
 * @throws UserError if a file is broken or image and mask differ in size
 */
export async function loadSample(
  side: number,
  { image: path, mask: maskPath, kind, part }: { image: string; mask?: string; kind?: string; part?: string },
  soft = false,
): Promise<InspectionSample> {
  const image = await loadImage(path), { width, height } = image, same = width === side && height === side;
  const pixels = same
    ? image.data
    : Uint8ClampedArray.from(fit(Float32Array.from(image.data), { width, height, channels: 3 }, side));
  const sample = { path, maskPath, kind, part, pixels, hash: pixelHash(image) };
  if (maskPath === undefined) return sample;
  const mask = await loadMask(maskPath);
  requireSize(maskPath, mask, image);
  const small = same ? mask.data : fit(Float32Array.from(mask.data), { width, height, channels: 1 }, side);
  const binary = { ...sample, mask: Uint8Array.from(small, (v) => (v > 0.5 ? 1 : 0)) };
  return soft ? { ...binary, softMask: Float32Array.from(small) } : binary;
}

/**
 * Refuses images that are to be tested on and were trained on.
 * @param trained hashes of the training images, or their beginnings
 * @param tested images of the test
 * @throws UserError naming the first
 */
export function refuseOverlap(trained: Iterable<string>, tested: readonly { path: string; hash: string }[]): void {
  const known = new Set([...trained].map((hash) => hash.slice(0, SHORT_HASH)));
  const both = tested.filter(({ hash }) => known.has(hash.slice(0, SHORT_HASH)));
  if (both.length === 0) return;
  throw new UserError(
    `${both[0].path} is a training image too${both.length > 1 ? ` (and ${both.length - 1} more)` : ""}`,
    "figures on images that were trained on mean nothing: take them out of the training or of the test set",
  );
}

/** Digits of a hash that a trained model keeps: enough to tell images apart, few enough to store. */
export const SHORT_HASH = 16;

/** Items of an epoch of the localisation U-Net. */
const EPOCH = 500;

/** A permutation of 0 … count − 1 for each epoch of a stream. */
class Permutations {
  #epoch = -1;
  #order: number[] = [];

  constructor(readonly seed: number, readonly purpose: string, readonly count: number) {}

  /** Where the `position`-th item since the start of the training stands. */
  at(position: number): number {
    const epoch = Math.floor(position / this.count);
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#order = new Random(this.seed, this.purpose, epoch).shuffle(Array.from({ length: this.count }, (_, i) => i));
    }
    return this.#order[position % this.count];
  }
}

/**
 * What a network reads: images [batch, S, S, 3] of 0 … 1.
 * @param batch images that it takes at once; those beyond the samples stay black
 */
export function imageBatch(
  samples: readonly Pick<InspectionSample, "pixels">[],
  batch: number = samples.length,
): Float32Array {
  const each = samples[0].pixels.length, image = new Float32Array(batch * each);
  samples.forEach(({ pixels }, b) => pixels.forEach((v, i) => image[b * each + i] = v / 255));
  return image;
}

/** Share of the normal items that are controls, where there are any. */
const CONTROL_SHARE = 0.5;

/** How the items of a localisation batch are drawn; the defaults are the official code's. */
export interface LocalisationSampling {
  /** Chance of a normal image; default one half. */
  readonly normalShare?: number;
  /** Mirror at random along both axes. */
  readonly flips?: boolean;
  /**
   * Side of a square that is cut out of each item at random, of a defect around one of its pixels; whole images where it is left
   * out. The ground, of which there is plenty, is then seen less often.
   */
  readonly crop?: number;
}

/** A square of an image and its mask, mirrored or not. */
function excerpt(
  { pixels, mask }: InspectionSample,
  random: Random,
  { flips, crop }: LocalisationSampling,
): { pixels: Uint8ClampedArray; mask?: Uint8Array } {
  const side = Math.sqrt(pixels.length / 3), size = crop ?? side;
  // The square holds a pixel of the defect, all of them and all its places in the square equally likely.
  const marked = mask ? mask.reduce((sum, v) => sum + v, 0) : 0;
  let at = -1;
  if (crop !== undefined && marked > 0) {
    for (let nth = random.integer(0, marked); nth >= 0; nth--) at = mask!.indexOf(1, at + 1);
  }
  const from = (centre: number) =>
    at < 0 ? random.integer(0, side - size + 1) : Math.max(0, Math.min(side - size, centre - random.integer(0, size)));
  const x0 = from(at % side), y0 = from(Math.floor(at / side));
  const mirrorX = flips && random.chance(0.5), mirrorY = flips && random.chance(0.5);
  const cut = { pixels: new Uint8ClampedArray(3 * size * size), mask: mask && new Uint8Array(size * size) };
  for (let y = 0; y < size; y++) {
    const row = (y0 + (mirrorY ? size - 1 - y : y)) * side + x0;
    for (let x = 0; x < size; x++) {
      const source = row + (mirrorX ? size - 1 - x : x), to = y * size + x;
      for (let c = 0; c < 3; c++) cut.pixels[3 * to + c] = pixels[3 * source + c];
      if (cut.mask) cut.mask[to] = mask![source];
    }
  }
  return cut;
}

/**
 * Batches for the localisation U-Net: each item normal or not with equal chance, the kinds of defect equally likely.
 * @param normal normal images; where there are none, every item is a defect
 * @param defects generated pairs; an empty mask counts as normal
 * @param controls normal images of which their masks tell where surface was drawn: half of the normal items, cropped as defects are
 * @returns the batch of a step; depends on the seed and the step only
 */
export function localisationBatches(
  seed: number,
  count: number,
  normal: readonly InspectionSample[],
  defects: readonly InspectionSample[],
  sampling: LocalisationSampling = {},
  controls: readonly InspectionSample[] = [],
): (step: number) => TrainingBatch {
  const { normalShare = 0.5, flips = false, crop } = sampling;
  const kinds = [...new Set(defects.map(({ kind }) => kind!))].sort();
  const folders = kinds.map((kind) => defects.filter((sample) => sample.kind === kind));
  const order = new Permutations(seed, "inspect/order", EPOCH);
  return (step) => {
    const chosen = Array.from({ length: count }, (_, b) => {
      const position = step * count + b, index = order.at(position);
      const random = new Random(seed, "inspect/item", position);
      const isNormal = normal.length > 0 && random.chance(normalShare);
      const isControl = isNormal && controls.length > 0 && random.chance(CONTROL_SHARE);
      const folder = isControl ? controls : isNormal ? normal : random.pick(folders);
      const item = folder[index % folder.length];
      const shown = flips || crop !== undefined ? excerpt(item, random, sampling) : item;
      return isControl ? { ...shown, mask: undefined } : shown;
    });
    const pixels = chosen[0].pixels.length / 3, labels = new Uint32Array(count * pixels);
    chosen.forEach(({ mask }, b) => mask && labels.set(mask, b * pixels));
    return { image: imageBatch(chosen), labels };
  };
}

/**
 * Batches for the classifier: all generated images in a new order each epoch.
 * @param labels the kinds in the order of the classes
 */
export function classifierBatches(
  seed: number,
  count: number,
  defects: readonly InspectionSample[],
  labels: readonly string[],
  { flips = false }: Pick<LocalisationSampling, "flips"> = {},
): (step: number) => TrainingBatch {
  const order = new Permutations(seed, "inspect/classes", defects.length);
  return (step) => {
    const chosen = Array.from({ length: count }, (_, b) => defects[order.at(step * count + b)]);
    const shown = flips
      ? chosen.map((item, b) => excerpt(item, new Random(seed, "inspect/flips", step * count + b), { flips }))
      : chosen;
    return { image: imageBatch(shown), labels: Uint32Array.from(chosen, ({ kind }) => labels.indexOf(kind!)) };
  };
}
