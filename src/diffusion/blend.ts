/**
 * Blended latent diffusion (Avrahami et al. 2023; the paper's Eq. 1): at every step the latent outside the mask is
 * replaced by the normal image's latent at the same noise level. Latents are channels last.
 */

import { resizeTensor } from "../data/resize.ts";

/** x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε (Ho et al. 2020, Eq. 4). */
export function qSample(x0: Float32Array, noise: Float32Array, aBar: number): Float32Array {
  const signal = Math.sqrt(aBar), spread = Math.sqrt(1 - aBar);
  return x0.map((value, i) => signal * value + spread * noise[i]);
}

/**
 * x⊙M + y⊙(1−M).
 * @param x [..., channels], used where the mask is 1
 * @param y like x, used where the mask is 0
 * @param mask one value for all channels of a position, [...]
 */
export function blend(x: Float32Array, y: Float32Array, mask: Float32Array): Float32Array {
  const channels = x.length / mask.length;
  if (!Number.isInteger(channels) || y.length !== x.length) throw new RangeError("x, y and mask do not fit");
  return x.map((value, i) => {
    const m = mask[Math.floor(i / channels)];
    return value * m + y[i] * (1 - m);
  });
}

/**
 * How an image mask becomes a latent one. `official`: bilinear samples without antialiasing, for 8× the mean of the central
 * 2×2 pixels of each cell, so that lines thinner than about 4 pixels can vanish. `area`: the mean over the cell. `maxPool`:
 * any pixel of the cell, so that thin defects survive.
 */
export type LatentMaskMode = "official" | "area" | "maxPool";

/**
 * The binary latent mask of image masks.
 * @param mask [count, height, width], values 0 … 1
 * @param size [count, height, width]
 * @param latentSize [height, width] of the latent
 * @returns [count, latentHeight, latentWidth], 1 where the reduced value is at least ½ (`maxPool`: where any pixel is)
 */
export function latentMask(
  mask: Float32Array,
  [count, height, width]: readonly [number, number, number],
  latentSize: readonly [number, number],
  mode: LatentMaskMode = "official",
): Float32Array {
  if (mode !== "maxPool") {
    const reduced = resizeTensor(mask, { count, height, width }, latentSize, mode === "area" ? "area" : "bilinear");
    return reduced.map((value) => value >= 0.5 ? 1 : 0);
  }
  const [rows, columns] = latentSize, out = new Float32Array(count * rows * columns);
  for (let n = 0; n < count; n++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (mask[(n * height + y) * width + x] < 0.5) continue;
        out[(n * rows + Math.floor(y * rows / height)) * columns + Math.floor(x * columns / width)] = 1;
      }
    }
  }
  return out;
}
