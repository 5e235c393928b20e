/**
 * Locally aware patch features of PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022,
 * section 3.1): mid-level features of a network, averaged over a neighbourhood, all layers on the grid of the first one.
 */

import { resizeTensor } from "../../data/resize.ts";

/** Features of one image from one layer. */
export interface FeatureMap {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** [height, width, channels]. */
  readonly data: Float32Array;
}

/** Patches of one image: a grid of feature vectors. */
export type PatchGrid = FeatureMap;

/** Pixels of a neighbourhood's side, as in the paper. */
const NEIGHBOURHOOD = 3;

/** Mean over the neighbourhood of each pixel; at the border over what lies inside. */
function averaged({ height, width, channels, data }: FeatureMap): FeatureMap {
  const reach = (NEIGHBOURHOOD - 1) / 2, out = new Float32Array(data.length), sum = new Float64Array(channels);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      sum.fill(0);
      let count = 0;
      for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++) {
        for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u++) {
          const from = (v * width + u) * channels;
          for (let c = 0; c < channels; c++) sum[c] += data[from + c];
          count++;
        }
      }
      const at = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) out[at + c] = sum[c] / count;
    }
  }
  return { height, width, channels, data: out };
}

/**
 * Patch features of one image: each layer averaged over 3 × 3 pixels, brought to the first layer's grid (bilinear), and all
 * put behind one another.
 * @param layers of one image, the finest first
 * @example
 * ```ts
 * import { patchGrid } from "./patches.ts";
 * const fine = { height: 2, width: 2, channels: 1, data: Float32Array.of(0, 4, 8, 12) };
 * const coarse = { height: 1, width: 1, channels: 2, data: Float32Array.of(1, 2) };
 * const { channels, data } = patchGrid([fine, coarse]);
 * if (channels !== 3 || data.slice(0, 3).join() !== "6,1,2") throw new Error(data.join());
 * ```
 */
export function patchGrid(layers: readonly FeatureMap[]): PatchGrid {
  const [{ height, width }] = layers, channels = layers.reduce((sum, layer) => sum + layer.channels, 0);
  const data = new Float32Array(height * width * channels);
  let first = 0;
  for (const layer of layers) {
    const local = averaged(layer), same = layer.height === height && layer.width === width;
    const fitted = same ? local.data : resizeTensor(local.data, local, [height, width], "bilinear");
    for (let i = 0; i < height * width; i++) {
      data.set(fitted.subarray(i * layer.channels, (i + 1) * layer.channels), i * channels + first);
    }
    first += layer.channels;
  }
  return { height, width, channels, data };
}

/** Where a pixel beyond the border is taken from: the map is reflected there, as by scipy's `gaussian_filter`. */
function reflect(i: number, size: number): number {
  while (i < 0 || i >= size) i = i < 0 ? -1 - i : 2 * size - 1 - i;
  return i;
}

/** Smooths [height, width] by a Gaussian that ends at four deviations. */
function blurred(map: Float32Array, height: number, width: number, deviation: number): Float32Array {
  const reach = Math.round(4 * deviation);
  const kernel = Float64Array.from(
    { length: 2 * reach + 1 },
    (_, k) => Math.exp(-((k - reach) ** 2) / 2 / deviation ** 2),
  );
  const total = kernel.reduce((a, b) => a + b, 0),
    rows = new Float32Array(map.length),
    out = new Float32Array(map.length);
  const pass = (from: Float32Array, to: Float32Array, size: number, step: number, lines: number, stride: number) => {
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < size; i++) {
        let sum = 0;
        for (let k = -reach; k <= reach; k++) {
          sum += kernel[k + reach] * from[line * stride + reflect(i + k, size) * step];
        }
        to[line * stride + i * step] = sum / total;
      }
    }
  };
  pass(map, rows, width, 1, height, width);
  pass(rows, out, height, width, width, 1);
  return out;
}

/** Deviation of the blur, in sides of the image: 4 pixels of 224, as in the paper. */
const BLUR = 4 / 224;

/**
 * The score map of an image out of its patches' scores: bilinear to the image's size, then a Gaussian.
 * @param scores [height, width] of the patches
 * @returns [side, side]
 */
export function scoreMap(scores: Float32Array, { height, width }: PatchGrid, side: number): Float32Array {
  const large = resizeTensor(scores, { height, width, channels: 1 }, [side, side], "bilinear");
  return blurred(Float32Array.from(large), side, side, BLUR * side);
}
