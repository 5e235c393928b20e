/**
 * Putting a generated defect back into its source image at native resolution: away from the mask the bytes stay as they
 * were, and inside it the fine texture that the autoencoder loses is given back where the defect is faint.
 */

import type { Image, Mask } from "../data/image.ts";

/**
 * Opacity of a paste: 1 on the mask, falling to 0 over `feather` pixels beyond it, 0 from there on. Distances by the
 * 3-4 chamfer (Borgefors 1986).
 */
export function featherMask({ width, height, data }: Mask, feather: number): Float32Array {
  const far = 1e6, d = Float32Array.from(data, (v) => (v ? 0 : far));
  const at = (x: number, y: number) => (x < 0 || y < 0 || x >= width || y >= height ? far : d[y * width + x]);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      d[i] = Math.min(d[i], at(x - 1, y) + 3, at(x - 1, y - 1) + 4, at(x, y - 1) + 3, at(x + 1, y - 1) + 4);
    }
  }
  for (let y = height - 1; y >= 0; y--) {
    for (let x = width - 1; x >= 0; x--) {
      const i = y * width + x;
      d[i] = Math.min(d[i], at(x + 1, y) + 3, at(x + 1, y + 1) + 4, at(x, y + 1) + 3, at(x - 1, y + 1) + 4);
    }
  }
  return d.map((v) => {
    const t = Math.max(0, 1 - v / 3 / (feather + 1));
    return t * t * (3 - 2 * t);
  });
}

/** Change, of 2 (the range of [−1, 1]), at which half of the source's fine texture is given up for the defect's. */
const DETAIL_CHANGE = 0.2;

/**
 * The result inside a window.
 * @param source the window's pixels
 * @param generated decoded latent at the window's size, as bytes
 * @param reconstruction decode(encode(source)) at the window's size; where given, what the autoencoder lost of the source
 *   is added back in proportion to how little the defect changes a pixel
 * @param opacity from {@linkcode featherMask}
 */
export function composite(
  source: Image,
  generated: Image,
  reconstruction: Image | undefined,
  opacity: Float32Array,
): Image {
  const data = source.data.slice();
  for (let i = 0; i < opacity.length; i++) {
    const alpha = opacity[i];
    if (alpha === 0) continue;
    let keep = 0;
    if (reconstruction) {
      let change = 0;
      for (let c = 0; c < 3; c++) change += Math.abs(generated.data[3 * i + c] - reconstruction.data[3 * i + c]);
      keep = 1 / (1 + (change / 3 / 127.5 / DETAIL_CHANGE) ** 2);
    }
    for (let c = 0; c < 3; c++) {
      const k = 3 * i + c;
      const lost = reconstruction ? source.data[k] - reconstruction.data[k] : 0;
      data[k] = source.data[k] * (1 - alpha) + (generated.data[k] + keep * lost) * alpha;
    }
  }
  return { ...source, data };
}
