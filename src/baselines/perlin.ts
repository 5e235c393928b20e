/**
 * Gradient noise (Perlin, "An image synthesizer", SIGGRAPH 1985, with the quintic fade of 2002), from which DRAEM and PRN
 * cut the shapes of their anomalies.
 */

import type { Mask } from "../data/image.ts";
import type { Random } from "../random/philox.ts";

/** Cells of the lattice before it repeats; a turned picture of 32 cells spans 46. */
const LATTICE = 64;

const fade = (t: number) => t * t * t * (t * (6 * t - 15) + 10);

/**
 * Perlin noise of a picture.
 * @param cellsX lattice cells across the picture, 1 … 32
 * @param cellsY cells down it
 * @param angle turn of the lattice about the picture's centre in radians
 * @returns [height, width], about −1 … 1 (scaled by √2, as NumPy ports do)
 * @example
 * ```ts
 * import { Random } from "../random/philox.ts";
 * import { perlinNoise } from "./perlin.ts";
 * const noise = perlinNoise(new Random(1, "example"), 64, 64, 4, 4);
 * if (noise.some((v) => Math.abs(v) > 1.01)) throw new Error("out of range");
 * ```
 */
export function perlinNoise(
  random: Random,
  width: number,
  height: number,
  cellsX: number,
  cellsY: number,
  angle = 0,
): Float32Array {
  const gradients = new Float32Array(2 * LATTICE * LATTICE);
  for (let i = 0; i < gradients.length; i += 2) {
    const direction = random.uniform(0, 2 * Math.PI);
    gradients[i] = Math.cos(direction);
    gradients[i + 1] = Math.sin(direction);
  }
  const dot = (ix: number, iy: number, dx: number, dy: number) => {
    const at = 2 * ((iy & (LATTICE - 1)) * LATTICE + (ix & (LATTICE - 1)));
    return gradients[at] * dx + gradients[at + 1] * dy;
  };
  const cos = Math.cos(angle), sin = Math.sin(angle), out = new Float32Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const px = x - width / 2, py = y - height / 2;
      const u = (cos * px + sin * py) * cellsX / width + LATTICE / 2;
      const v = (cos * py - sin * px) * cellsY / height + LATTICE / 2;
      const ix = Math.floor(u), iy = Math.floor(v), fx = u - ix, fy = v - iy, sx = fade(fx), sy = fade(fy);
      const upper = dot(ix, iy, fx, fy) * (1 - sx) + dot(ix + 1, iy, fx - 1, fy) * sx;
      const lower = dot(ix, iy + 1, fx, fy - 1) * (1 - sx) + dot(ix + 1, iy + 1, fx - 1, fy - 1) * sx;
      out[i] = Math.SQRT2 * (upper * (1 - sy) + lower * sy);
    }
  }
  return out;
}

/** Above this the noise is anomaly: DRAEM's threshold. */
const THRESHOLD = 0.5;

/** Tries for a mask that marks something. */
const TRIES = 100;

/**
 * DRAEM's mask: noise of 1 to 32 cells along each axis (powers of two), turned by up to 90° to either side, thresholded.
 * An empty one, which DRAEM takes as a normal picture, is drawn again.
 * @param part where the anomaly may lie, of the picture's size; anywhere where left out
 * @throws {Error} if `part` marks nothing
 */
export function perlinMask(random: Random, width: number, height: number, part?: Mask): Mask {
  for (let trial = 0; trial < TRIES; trial++) {
    const cellsX = 2 ** random.integer(0, 6), cellsY = 2 ** random.integer(0, 6);
    const angle = random.uniform(-Math.PI / 2, Math.PI / 2);
    const noise = perlinNoise(random, width, height, cellsX, cellsY, angle);
    const data = Uint8Array.from(noise, (v, i) => v > THRESHOLD && (!part || part.data[i]) ? 1 : 0);
    if (data.includes(1)) return { width, height, channels: 1, data };
  }
  throw new Error("no Perlin mask marks anything on the part");
}
