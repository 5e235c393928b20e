/**
 * The tint of a defect: how its mean colour differs from that of the surface around it. A generated pair whose tint no training
 * pair comes near has a colour of its own, which a small model now and then invents.
 */

import type { Image, Mask } from "../data/image.ts";

/** Difference of mean colours inside the mask and around it, red, green and blue, each −1 … 1. */
export type Tint = readonly [number, number, number];

/** Around a mask: pixels from further than the first to at most the second, of 128 pixels of the image's shorter side. */
const GAP = 2, RING = 8;
/** How much further than training pairs are from each other a pair's tint may be from the nearest of them, 0 … √3. */
const MARGIN = 0.05;
/** Least distance that is allowed: a handful of pairs may happen to be alike. */
const LEAST = 0.1;

/** Steps to the nearest marked pixel, across and down. */
function distances({ width, height, data }: Mask): Float32Array {
  const far = width + height, steps = Float32Array.from(data, (v) => (v ? 0 : far));
  const relax = (i: number, j: number) => steps[i] = Math.min(steps[i], steps[j] + 1);
  for (let i = 0; i < steps.length; i++) {
    if (i % width) relax(i, i - 1);
    if (i >= width) relax(i, i - width);
  }
  for (let i = steps.length - 1; i >= 0; i--) {
    if ((i + 1) % width) relax(i, i + 1);
    if (i + width < steps.length) relax(i, i + width);
  }
  return steps;
}

/**
 * The tint of a pair.
 * @returns undefined where nothing is marked, or nothing is left around it
 * @example
 * ```ts
 * import { tintOf } from "./tint.ts";
 * const data = new Uint8ClampedArray(64 * 64 * 3).fill(100), marks = new Uint8Array(64 * 64);
 * for (let i = 0; i < 8; i++) marks[32 * 64 + 30 + i] = 1, data[3 * (32 * 64 + 30 + i)] = 151; // a redder line
 * const tint = tintOf({ width: 64, height: 64, channels: 3, data }, { width: 64, height: 64, channels: 1, data: marks });
 * if (tint?.join() !== "0.2,0,0") throw new Error(`${tint}`);
 * ```
 */
export function tintOf({ width, height, data }: Image, mask: Mask): Tint | undefined {
  const scale = Math.min(width, height) / 128, steps = distances(mask);
  const inside = [0, 0, 0, 0], around = [0, 0, 0, 0]; // sums of colours, and pixels
  steps.forEach((step, i) => {
    const into = step === 0 ? inside : step > GAP * scale && step <= RING * scale ? around : undefined;
    if (!into) return;
    for (let c = 0; c < 3; c++) into[c] += data[3 * i + c];
    into[3]++;
  });
  if (!inside[3] || !around[3]) return undefined;
  const [r, g, b] = [0, 1, 2].map((c) => (inside[c] / inside[3] - around[c] / around[3]) / 255);
  return [r, g, b];
}

const apart = (a: Tint, b: Tint) => Math.hypot(...a.map((v, c) => v - b[c]));

/** What training pairs of one kind show of its tint. */
export class TintRange {
  readonly #examples: readonly Tint[];
  /** Distance to the nearest training pair up to which a tint is one of the kind's. */
  readonly reach: number;

  /**
   * A range around examples.
   * @param examples tints of the training pairs
   */
  constructor(examples: readonly Tint[]) {
    this.#examples = examples;
    const spread = Math.max(0, ...examples.flatMap((a) => examples.map((b) => apart(a, b))));
    this.reach = Math.max(LEAST, spread + MARGIN);
  }

  /** Distance to the nearest training pair; undefined where there is nothing to compare. */
  distance(tint: Tint | undefined): number | undefined {
    return tint && this.#examples.length ? Math.min(...this.#examples.map((one) => apart(one, tint))) : undefined;
  }

  /** Whether a tint may be of this kind; one that cannot be told may. */
  holds(tint: Tint | undefined): boolean {
    return (this.distance(tint) ?? 0) <= this.reach;
  }
}
