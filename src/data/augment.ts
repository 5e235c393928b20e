/**
 * Augmentation of the few training pairs (paper, supplement: crop, translation and rotation that keep the anomaly inside
 * the image), per sample; and, for parity, the per-batch variant of the authors' code.
 */

import type { Random } from "../random/philox.ts";
import type { Image, Mask } from "./image.ts";
import { resize, resizeTensor } from "./resize.ts";

/** A square image and its mask at the same size. */
export interface Sample {
  /** The picture. */
  image: Image;
  /** Where its defect is. */
  mask: Mask;
}

/** What a training step takes. */
export interface TrainingSample {
  /** [resolution, resolution, 3] in [−1, 1]. */
  image: Float32Array;
  /** [resolution, resolution]; 0 or 1, or between them from `augmentOfficial`. */
  mask: Float32Array;
}

/** How strongly to augment. */
export interface AugmentOptions {
  /** Side of the result in pixels. */
  resolution: number;
  /** Largest rotation to either side, degrees. */
  rotation?: number;
  /** Least side of the crop as a part of the image's; it grows where the anomaly needs more. */
  minCrop?: number;
  /** Greatest side of the crop, 1 where left out. */
  maxCrop?: number;
  /** What must stay inside, in the size of the mask; the whole mask where left out. */
  keep?: Mask;
  horizontalFlip?: boolean;
  verticalFlip?: boolean;
  /** How often a sample is changed at all; otherwise it is only resized. */
  probability?: number;
}

/**
 * A mask at another size: 1 where at least half of the area was 1. Where nothing would be left of a thin defect, the
 * threshold falls to half of the largest coverage, so that no defect vanishes.
 */
export function resizeMask(mask: Mask, width: number, height: number): Mask {
  const coverage = resize({ ...mask, data: mask.data.map((value) => value * 255) }, width, height, "box").data;
  const most = coverage.reduce((a, b) => Math.max(a, b), 0), threshold = most >= 128 ? 128 : Math.max(1, most / 2);
  return { width, height, channels: 1, data: coverage.map((value) => value >= threshold ? 1 : 0) };
}

/** A mask at another size by the official code: Pillow's bicubic filter, 1 from one half on. Thin defects can vanish. */
export function resizeMaskOfficial(mask: Mask, width: number, height: number): Mask {
  const { data } = resize({ ...mask, data: mask.data.map((value) => value * 255) }, width, height, "bicubic");
  return { width, height, channels: 1, data: Uint8Array.from(data, (value) => (value >= 128 ? 1 : 0)) };
}

/**
 * Brings a pair to a square working size once, before training: the image by Pillow's bicubic filter, without keeping its
 * aspect (as the reference does), the mask by `resizeMask`.
 * @param size pixels; twice the resolution leaves room for crops
 */
export function prepareSample({ image, mask }: Sample, size: number): Sample {
  return { image: resize(image, size, size, "bicubic"), mask: resizeMask(mask, size, size) };
}

/** Where index i of n lies when the image is mirrored at its borders again and again. */
function reflect(i: number, n: number): number {
  const period = 2 * n, folded = ((i % period) + period) % period;
  return folded < n ? folded : period - 1 - folded;
}

/** The smallest window that holds [low, high] and is `side` long, at a random place, inside ±half where that is possible. */
function place(low: number, high: number, side: number, half: number, random: Random): number {
  const least = Math.max(high - side, -half), most = Math.min(low, half - side), at = random.uniform();
  return least <= most ? least + at * (most - least) : Math.min(Math.max(-side / 2, high - side), low);
}

/**
 * One augmented view: a random rotation, flips, and a random square crop that holds the whole anomaly, in a single
 * resampling (image bilinear, mask nearest). Beyond its borders the image is mirrored, and the mask with it.
 * @param sample square, e.g. from `prepareSample`
 * @param random the stream that decides; the same stream gives the same view
 * @throws {RangeError} if the sample is not square or the mask empty
 */
export function augment({ image, mask }: Sample, random: Random, options: AugmentOptions): TrainingSample {
  const { resolution, rotation = 20, minCrop = 0.6, maxCrop = 1, keep = mask } = options;
  const { horizontalFlip = true, verticalFlip = true, probability = 1 } = options;
  const size = image.width, half = size / 2;
  if (image.height !== size || [mask, keep].some(({ width, height }) => width !== size || height !== size)) {
    throw new RangeError("a sample must be square");
  }
  const change = random.chance(probability);
  const angle = (change ? random.uniform(-rotation, rotation) : 0) * Math.PI / 180;
  const flipX = change && horizontalFlip && random.chance(0.5) ? -1 : 1;
  const flipY = change && verticalFlip && random.chance(0.5) ? -1 : 1;
  const cos = Math.cos(angle), sin = Math.sin(angle);
  // Source → view, about the centre: (u, v) = R·F·(x, y).
  const toView = (x: number, y: number): [number, number] => {
    const fx = flipX * x, fy = flipY * y;
    return [cos * fx - sin * fy, sin * fx + cos * fy];
  };
  const spread = (Math.abs(cos) + Math.abs(sin)) / 2; // half the extent of a turned pixel
  let u0 = Infinity, u1 = -Infinity, v0 = Infinity, v1 = -Infinity;
  for (let i = 0; i < keep.data.length; i++) {
    if (!keep.data[i]) continue;
    const [u, v] = toView(i % size + 0.5 - half, Math.floor(i / size) + 0.5 - half);
    u0 = Math.min(u0, u - spread),
      u1 = Math.max(u1, u + spread),
      v0 = Math.min(v0, v - spread),
      v1 = Math.max(v1, v + spread);
  }
  if (u0 === Infinity) throw new RangeError("the mask is empty");
  const side = Math.max(change ? size * random.uniform(minCrop, maxCrop) : size, u1 - u0, v1 - v0);
  const left = place(u0, u1, side, half, random), top = place(v0, v1, side, half, random);
  const step = side / resolution;
  const out: TrainingSample = { image: new Float32Array(resolution ** 2 * 3), mask: new Float32Array(resolution ** 2) };
  for (let row = 0; row < resolution; row++) {
    for (let column = 0; column < resolution; column++) {
      const u = left + (column + 0.5) * step, v = top + (row + 0.5) * step, to = row * resolution + column;
      const x = flipX * (cos * u + sin * v) + half, y = flipY * (cos * v - sin * u) + half;
      out.mask[to] = mask.data[reflect(Math.floor(y), size) * size + reflect(Math.floor(x), size)];
      const left0 = Math.floor(x - 0.5), top0 = Math.floor(y - 0.5), wx = x - 0.5 - left0, wy = y - 0.5 - top0;
      const xa = reflect(left0, size), xb = reflect(left0 + 1, size);
      const ya = reflect(top0, size) * size, yb = reflect(top0 + 1, size) * size;
      for (let c = 0; c < 3; c++) {
        const upper = image.data[(ya + xa) * 3 + c] * (1 - wx) + image.data[(ya + xb) * 3 + c] * wx;
        const lower = image.data[(yb + xa) * 3 + c] * (1 - wx) + image.data[(yb + xb) * 3 + c] * wx;
        out.image[to * 3 + c] = (upper * (1 - wy) + lower * wy) / 127.5 - 1;
      }
    }
  }
  // A line thinner than the sampling step can fall between the samples: then each of its pixels marks where it lands.
  if (!out.mask.includes(1)) {
    for (let i = 0; i < keep.data.length; i++) { // what is sure to lie in the view
      if (!keep.data[i]) continue;
      const [u, v] = toView(i % size + 0.5 - half, Math.floor(i / size) + 0.5 - half);
      out.mask[Math.floor((v - top) / step) * resolution + Math.floor((u - left) / step)] = 1;
    }
  }
  return out;
}

/** Nearest-neighbour rotation by whole degrees about the centre (counter-clockwise), 0 outside. */
function rotate(data: Float32Array, size: number, channels: number, degrees: number): Float32Array {
  const cos = Math.cos(degrees * Math.PI / 180), sin = Math.sin(degrees * Math.PI / 180), middle = (size - 1) / 2;
  const out = new Float32Array(data.length);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const dx = x - middle, dy = y - middle;
      const fx = Math.round(cos * dx - sin * dy + middle), fy = Math.round(sin * dx + cos * dy + middle);
      if (fx < 0 || fy < 0 || fx >= size || fy >= size) continue;
      for (let c = 0; c < channels; c++) out[(y * size + x) * channels + c] = data[(fy * size + fx) * channels + c];
    }
  }
  return out;
}

/** Mirrors an image across (`vertical` false) or up and down. */
function flip(data: Float32Array, size: number, channels: number, vertical: boolean): Float32Array {
  const out = new Float32Array(data.length);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const from = vertical ? (size - 1 - y) * size + x : y * size + size - 1 - x;
      for (let c = 0; c < channels; c++) out[(y * size + x) * channels + c] = data[from * channels + c];
    }
  }
  return out;
}

/**
 * The authors' augmentation of a whole batch: with probability ½ nothing but a resize; else flips and a rotation of 0 … 20
 * whole degrees in one direction per sample (empty corners mid-grey), then one crop shared by the batch around the union
 * of the masks, stretched to the square. Masks come out soft, and the last row and column of the union may be cut.
 * @param samples square, all of one size; the reference uses 512 for a resolution of 256
 */
export function augmentOfficial(samples: readonly Sample[], random: Random, resolution: number): TrainingSample[] {
  const size = samples[0].image.width;
  let batch: TrainingSample[] = samples.map(({ image, mask }) => ({
    image: Float32Array.from(image.data, (value) => value / 127.5 - 1),
    mask: Float32Array.from(mask.data),
  }));
  let [top, bottom, left, right] = [0, size, 0, size];
  if (random.chance(0.5)) {
    batch = batch.map((sample) => {
      const flips = [true, false].filter(() => random.chance(0.5)), degrees = random.integer(0, 21);
      const turn = (data: Float32Array, channels: number) =>
        rotate(
          flips.reduce((result, vertical) => flip(result, size, channels, vertical), data),
          size,
          channels,
          degrees,
        );
      return { image: turn(sample.image, 3), mask: turn(sample.mask, 1) };
    });
    let [x0, x1, y0, y1] = [size, -1, size, -1];
    for (const { mask } of batch) {
      for (let i = 0; i < mask.length; i++) {
        if (mask[i] <= 0.5) continue;
        const x = i % size, y = Math.floor(i / size);
        x0 = Math.min(x0, x), x1 = Math.max(x1, x), y0 = Math.min(y0, y), y1 = Math.max(y1, y);
      }
    }
    if (x1 >= 0) { // the rotation may have turned every anomaly out of the frame; then nothing is cropped
      [top, left] = [random.integer(0, y0 + 1), random.integer(0, x0 + 1)];
      [bottom, right] = [
        Math.max(top + 1, random.integer(y1, size + 1)),
        Math.max(left + 1, random.integer(x1, size + 1)),
      ];
    }
  }
  const cut = (data: Float32Array, channels: number) => {
    const rows = Array.from({ length: bottom - top }, (_, y) => {
      const start = (top + y) * size;
      return data.subarray((start + left) * channels, (start + right) * channels);
    });
    const out = new Float32Array((bottom - top) * (right - left) * channels);
    rows.forEach((row, y) => out.set(row, y * row.length));
    const from = { height: bottom - top, width: right - left, channels };
    return resizeTensor(out, from, [resolution, resolution], "bilinear");
  };
  return batch.map(({ image, mask }) => ({ image: cut(image, 3), mask: cut(mask, 1) }));
}
