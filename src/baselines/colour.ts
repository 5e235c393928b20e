/**
 * Changes of colour: the jitter of CutPaste (torchvision's `ColorJitter`), and the ten augmentations of which DRAEM applies
 * three to every texture (Zavrtanik et al. 2021, imgaug's ranges in the official code).
 */

import type { Image } from "../data/image.ts";
import { resize } from "../data/resize.ts";
import type { Random } from "../random/philox.ts";

/** ITU-R BT.601 luma of pixel i. */
function luma({ data }: Image, i: number): number {
  return 0.299 * data[3 * i] + 0.587 * data[3 * i + 1] + 0.114 * data[3 * i + 2];
}

/** Every value through a function of it, its position and its pixel. */
function map(image: Image, change: (value: number, k: number, pixel: number) => number): Image {
  return { ...image, data: image.data.map((value, k) => change(value, k, Math.floor(k / 3))) };
}

/** Multiplies values and adds to them. */
export function brightness(image: Image, factor: number, offset = 0): Image {
  return map(image, (v) => v * factor + offset);
}

/** Scales distances from the mean luma. */
export function contrast(image: Image, factor: number): Image {
  const pixels = image.data.length / 3;
  let mean = 0;
  for (let i = 0; i < pixels; i++) mean += luma(image, i) / pixels;
  return map(image, (v) => mean + (v - mean) * factor);
}

/** Scales distances from each pixel's own luma. */
export function saturation(image: Image, factor: number): Image {
  return map(image, (v, _, i) => {
    const grey = luma(image, i);
    return grey + (v - grey) * factor;
  });
}

/** Turns the hue of every pixel by a number of turns; value and chroma (HSV) stay. */
export function hue(image: Image, turns: number): Image {
  const data = image.data.slice();
  for (let i = 0; i < data.length; i += 3) {
    const [r, g, b] = data.subarray(i, i + 3), high = Math.max(r, g, b), chroma = high - Math.min(r, g, b);
    if (chroma === 0) continue;
    const sixth = high === r ? (g - b) / chroma : high === g ? (b - r) / chroma + 2 : (r - g) / chroma + 4;
    [5, 3, 1].forEach((n, c) => {
      const k = (((n + sixth + 6 * turns) % 6) + 6) % 6;
      data[i + c] = high - chroma * Math.max(0, Math.min(k, 4 - k, 1));
    });
  }
  return { ...image, data };
}

/**
 * Random brightness, contrast and saturation (factor 1 ± strength) and hue (± strength turns), in this order.
 * @param strength 0 … 0.5
 */
export function jitter(image: Image, random: Random, strength: number): Image {
  const factor = () => random.uniform(1 - strength, 1 + strength);
  const shifted = saturation(contrast(brightness(image, factor()), factor()), factor());
  return hue(shifted, random.uniform(-strength, strength));
}

/** Values in each channel, counted. */
function histogram({ data }: Image, channel: number): Uint32Array {
  const counts = new Uint32Array(256);
  for (let k = channel; k < data.length; k += 3) counts[data[k]]++;
  return counts;
}

/** Every channel stretched to 0 … 255. */
export function autocontrast(image: Image): Image {
  const ends = [0, 1, 2].map((c) => {
    const counts = histogram(image, c);
    return [counts.findIndex((n) => n > 0), counts.findLastIndex((n) => n > 0)];
  });
  return map(image, (v, k) => {
    const [low, high] = ends[k % 3];
    return high > low ? (v - low) * 255 / (high - low) : v;
  });
}

/** Every channel's histogram made flat. */
export function equalize(image: Image): Image {
  const tables = [0, 1, 2].map((c) => {
    let sum = 0;
    const cumulative = Array.from(histogram(image, c), (n) => sum += n), least = cumulative.find((n) => n > 0)!;
    return cumulative.map((n) => sum > least ? (n - least) * 255 / (sum - least) : 0);
  });
  return map(image, (v, k) => tables[k % 3][v] ?? v);
}

/** Adds a share of what a 3×3 mean takes away. */
export function sharpen(image: Image, amount: number): Image {
  const { width, height, data } = image;
  return map(image, (v, k, i) => {
    const x = i % width, y = Math.floor(i / width);
    let sum = 0, count = 0;
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        if (x + dx < 0 || y + dy < 0 || x + dx >= width || y + dy >= height) continue;
        sum += data[k + 3 * (dy * width + dx)];
        count++;
      }
    }
    return v + amount * (v - sum / count);
  });
}

/** Turns a picture about its centre, mirrored beyond its borders; nearest pixels. */
export function turn(image: Image, angle: number): Image {
  const { width, height, data } = image, cos = Math.cos(angle), sin = Math.sin(angle);
  const fold = (v: number, n: number) => {
    const at = ((v % (2 * n)) + 2 * n) % (2 * n);
    return at < n ? at : 2 * n - 1 - at;
  };
  return map(image, (_, k, i) => {
    const dx = i % width + 0.5 - width / 2, dy = Math.floor(i / width) + 0.5 - height / 2;
    const x = fold(Math.floor(cos * dx + sin * dy + width / 2), width);
    const y = fold(Math.floor(cos * dy - sin * dx + height / 2), height);
    return data[3 * (y * width + x) + k % 3];
  });
}

/** DRAEM's augmentations with the ranges of its code. */
const textureChanges: readonly ((image: Image, random: Random) => Image)[] = [
  (image, random) => {
    const gammas = [0, 1, 2].map(() => random.uniform(0.5, 2));
    return map(image, (v, k) => 255 * (v / 255) ** gammas[k % 3]);
  },
  (image, random) => brightness(image, random.uniform(0.8, 1.2), random.uniform(-30, 30)),
  (image, random) => sharpen(image, random.uniform(0, 1)),
  (image, random) => saturation(hue(image, random.uniform(-50, 50) / 255), 1 + random.uniform(-50, 50) / 255),
  (image, random) => {
    if (!random.chance(0.5)) return image;
    const threshold = random.uniform(32, 128);
    return map(image, (v) => v >= threshold ? 255 - v : v);
  },
  (image, random) => {
    const step = 2 ** (8 - random.integer(1, 9));
    return map(image, (v) => Math.floor(v / step) * step + step / 2);
  },
  (image) => map(image, (v) => 255 - v),
  (image) => autocontrast(image),
  (image) => equalize(image),
  (image, random) => turn(image, random.uniform(-Math.PI / 4, Math.PI / 4)),
];

/** A texture at a size, under three of DRAEM's ten augmentations. */
export function augmentTexture(texture: Image, random: Random, width: number, height: number): Image {
  const chosen = random.shuffle(textureChanges).slice(0, 3);
  return chosen.reduce((image, change) => change(image, random), resize(texture, width, height, "bilinear"));
}
