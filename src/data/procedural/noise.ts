/**
 * Wrapped random fields and colours on small Float32Array canvases: the raw material of the procedural surfaces.
 * Gaussian filtering of large σ is three running means (Wells, "Efficient synthesis of Gaussian filters", 1986).
 */

import type { Random } from "../../random/philox.ts";

/** Side of every procedural picture, in pixels. */
export const SIZE = 128;
/** Pixels of a procedural picture. */
export const AREA = SIZE * SIZE;

/** One value a pixel, row by row: `AREA` numbers. */
export type Field = Float32Array;
/** Red, green, blue in 0…1. */
export type Rgb = readonly [number, number, number];

/**
 * White noise, uniform with unit variance.
 *
 * Philox names the stream (four words), sfc32 (Doty-Humphrey, PractRand) fills it: a whole field costs 0.1 ms this way.
 */
export function whiteNoise(random: Random): Field {
  let a = random.word() | 0, b = random.word() | 0, c = random.word() | 0, d = 1;
  const field = new Float32Array(AREA), scale = Math.sqrt(12) / 2 ** 32;
  for (let i = -12; i < AREA; i++) {
    const t = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    if (i >= 0) field[i] = ((t >>> 0) - 2 ** 31) * scale;
  }
  return field;
}

/** Filters one line of `SIZE` values, `stride` apart, in place. */
function blurLine(field: Field, start: number, stride: number, kernel: Float32Array, box: number, line: Float64Array) {
  if (box === 0) {
    const half = (kernel.length - 1) / 2;
    for (let i = 0; i < SIZE; i++) line[i] = field[start + i * stride];
    for (let i = 0; i < SIZE; i++) {
      let sum = 0;
      for (let k = -half; k <= half; k++) sum += kernel[k + half] * line[(i + k + SIZE) & (SIZE - 1)];
      field[start + i * stride] = sum;
    }
    return;
  }
  const half = (box - 1) / 2;
  for (let pass = 0; pass < 3; pass++) {
    for (let i = 0; i < SIZE; i++) line[i] = field[start + i * stride];
    let sum = 0;
    for (let k = -half; k <= half; k++) sum += line[(k + 4 * SIZE) & (SIZE - 1)];
    for (let i = 0; i < SIZE; i++) {
      field[start + i * stride] = sum / box;
      sum += line[(i + half + 1) & (SIZE - 1)] - line[(i - half + 4 * SIZE) & (SIZE - 1)];
    }
  }
}

/**
 * Gaussian filter with wrapped edges, in place.
 * @param sigmaX along rows, in pixels, 0 … 40
 * @param sigmaY along columns, in pixels, 0 … 40
 */
export function blur(field: Field, sigmaX: number, sigmaY: number): Field {
  const line = new Float64Array(SIZE);
  for (const [sigma, stride, step] of [[sigmaX, 1, SIZE], [sigmaY, SIZE, 1]]) {
    if (sigma <= 0.2) continue;
    let kernel = new Float32Array(1), box = 0;
    if (sigma <= 2.2) {
      const half = Math.ceil(2.6 * sigma);
      kernel = Float32Array.from(
        { length: 2 * half + 1 },
        (_, i) => Math.exp(-((i - half) ** 2) / (2 * sigma * sigma)),
      );
      const sum = kernel.reduce((x, y) => x + y);
      kernel = kernel.map((x) => x / sum);
    } else box = 2 * Math.round((Math.sqrt(4 * sigma * sigma + 1) - 1) / 2) + 1;
    for (let i = 0; i < SIZE; i++) blurLine(field, i * step, stride, kernel, box, line);
  }
  return field;
}

/** Shifts and scales a field to mean 0, standard deviation 1, in place. */
export function standardise(field: Field): Field {
  let sum = 0, squares = 0;
  for (const x of field) sum += x, squares += x * x;
  const mean = sum / AREA, scale = 1 / Math.sqrt(Math.max(squares / AREA - mean * mean, 1e-12));
  for (let i = 0; i < AREA; i++) field[i] = (field[i] - mean) * scale;
  return field;
}

/**
 * Gaussian-filtered white noise, mean 0, standard deviation 1, wrapped at the edges.
 * @example
 * ```ts
 * import { Random } from "../../random/philox.ts";
 * import { noise } from "./noise.ts";
 * const field = noise(new Random(1, "example"), 3, 3);
 * if (Math.abs(field.reduce((a, b) => a + b)) > 1) throw new Error("the mean is not zero");
 * ```
 */
export function noise(random: Random, sigmaX: number, sigmaY = sigmaX): Field {
  return standardise(blur(whiteNoise(random), sigmaX, sigmaY));
}

/** A field computed pixel by pixel. */
export function field(value: (x: number, y: number, i: number) => number): Field {
  const result = new Float32Array(AREA);
  for (let y = 0, i = 0; y < SIZE; y++) for (let x = 0; x < SIZE; x++, i++) result[i] = value(x, y, i);
  return result;
}

/** `x` held between `low` and `high`. */
export function clamp(x: number, low = 0, high = 1): number {
  return x < low ? low : x > high ? high : x;
}

/** The smooth step 3t² − 2t³ between two edges. */
export function smoothstep(low: number, high: number, x: number): number {
  const t = clamp((x - low) / (high - low));
  return t * t * (3 - 2 * t);
}

/** A colour by hue (turns), saturation and value, 0…1 each. */
export function hsv(hue: number, saturation: number, value: number): Rgb {
  const channel = (n: number) => {
    const k = (n + (hue - Math.floor(hue)) * 6) % 6;
    return value * (1 - saturation * clamp(Math.min(k, 4 - k)));
  };
  return [channel(5), channel(3), channel(1)];
}

/** The word for a colour. */
export function colorName([r, g, b]: Rgb): string {
  const value = Math.max(r, g, b), chroma = value - Math.min(r, g, b);
  if (value < 0.2) return "black";
  if (chroma < 0.14 * Math.max(value, 0.5)) return value > 0.8 ? "white" : value > 0.3 ? "gray" : "black";
  const hue = (value === r ? (g - b) / chroma + 6 : value === g ? (b - r) / chroma + 2 : (r - g) / chroma + 4) * 60 %
    360;
  if (hue < 45 && hue >= 14 && value < 0.66) return "brown";
  if (hue < 14 || hue >= 342) return "red";
  if (hue < 42) return "orange";
  if (hue < 70) return "yellow";
  if (hue < 160) return "green";
  if (hue < 195) return "cyan";
  if (hue < 255) return "blue";
  return hue < 292 ? "purple" : "pink";
}
