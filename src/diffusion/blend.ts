/**
 * Masks of blended latent diffusion (Avrahami et al. 2023; the paper's Eq. 1): where the latent is drawn, and where the normal
 * image's is put back.
 */

import { resizeTensor } from "../data/resize.ts";

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
