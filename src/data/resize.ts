/**
 * Changing the size of images in the conventions that the reference mixes: Pillow's antialiased filters on bytes
 * (`ImagingResample`, equal to the bit), and PyTorch's `interpolate` without antialiasing on floats.
 */

/** Pillow's filters. `bicubic` has a = −0.5; `box` averages areas; `nearest` picks the pixel at the centre. */
export type Filter = "nearest" | "box" | "bilinear" | "bicubic";

/** Byte pixels, channels last. */
interface Bytes {
  width: number;
  height: number;
  channels: number;
  data: Uint8Array | Uint8ClampedArray;
}

const kernels: Record<Exclude<Filter, "nearest">, [support: number, weight: (x: number) => number]> = {
  box: [0.5, (x) => x > -0.5 && x <= 0.5 ? 1 : 0],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (signed) => {
    const x = Math.abs(signed), a = -0.5; // Keys 1981
    return x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
  }],
};

/** For each output position the first input position and its weights, which sum to 1. */
interface Taps {
  first: Int32Array;
  weights: Float64Array[];
}

/** Pillow's weights along one axis: the filter widens with the reduction, and is cut off at the borders. */
function resampleTaps(from: number, to: number, [support, weight]: typeof kernels["box"]): Taps {
  const scale = from / to, widened = Math.max(1, scale), reach = support * widened;
  const first = new Int32Array(to), weights: Float64Array[] = [];
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - reach + 0.5)), high = Math.min(from, Math.trunc(centre + reach + 0.5));
    const row = Float64Array.from({ length: high - low }, (_, j) => weight((low + j - centre + 0.5) / widened));
    const sum = row.reduce((total, value) => total + value, 0);
    first[i] = low;
    weights.push(sum === 0 ? row : row.map((value) => value / sum));
  }
  return { first, weights };
}

/** One pass over bytes along an axis with `count` lines of `inner` interleaved values, in Pillow's 22-bit fixed point. */
function passBytes(data: Bytes["data"], outer: number, from: number, inner: number, taps: Taps): Uint8ClampedArray {
  const to = taps.first.length, out = new Uint8ClampedArray(outer * to * inner), one = 2 ** 22;
  for (let i = 0; i < to; i++) {
    const first = taps.first[i];
    const weights = taps.weights[i].map((w) => Math.trunc(w * one + (w < 0 ? -0.5 : 0.5)));
    for (let o = 0; o < outer; o++) {
      for (let c = 0; c < inner; c++) {
        let sum = one / 2;
        for (let k = 0, at = (o * from + first) * inner + c; k < weights.length; k++, at += inner) {
          sum += data[at] * weights[k];
        }
        out[(o * to + i) * inner + c] = Math.floor(sum / one);
      }
    }
  }
  return out;
}

/**
 * Resizes bytes as Pillow does (`Image.resize`), bit for bit: first across, then down, rounding to bytes between.
 * @example
 * ```ts
 * import { resize } from "./resize.ts";
 * const half = resize({ width: 4, height: 1, channels: 1, data: Uint8Array.of(0, 10, 20, 40) }, 2, 1, "box");
 * if (half.data[0] !== 5 || half.data[1] !== 30) throw new Error("not the mean of pairs");
 * ```
 */
export function resize<Pixels extends Bytes>(image: Pixels, width: number, height: number, filter: Filter): Pixels {
  let { data } = image;
  const { channels } = image;
  if (width === image.width && height === image.height) return { ...image, data: data.slice() };
  if (filter === "nearest") {
    const out = new Uint8ClampedArray(width * height * channels);
    for (let y = 0; y < height; y++) {
      const fromY = Math.floor((y + 0.5) * image.height / height);
      for (let x = 0; x < width; x++) {
        const from = (fromY * image.width + Math.floor((x + 0.5) * image.width / width)) * channels;
        for (let c = 0; c < channels; c++) out[(y * width + x) * channels + c] = data[from + c];
      }
    }
    data = out;
  } else {
    if (width !== image.width) {
      data = passBytes(data, image.height, image.width, channels, resampleTaps(image.width, width, kernels[filter]));
    }
    if (height !== image.height) {
      data = passBytes(data, 1, image.height, width * channels, resampleTaps(image.height, height, kernels[filter]));
    }
  }
  const typed = image.data instanceof Uint8ClampedArray ? data : new Uint8Array(data);
  return { ...image, width, height, data: typed };
}

/** PyTorch's modes: `bilinear` with align_corners = False and no antialiasing, `nearest`, and `area` (adaptive mean). */
export type TensorMode = "nearest" | "bilinear" | "area";

/** Weights along one axis as `torch.nn.functional.interpolate` has them. */
function tensorTaps(from: number, to: number, mode: TensorMode): Taps {
  const scale = from / to, first = new Int32Array(to), weights: Float64Array[] = [];
  for (let i = 0; i < to; i++) {
    if (mode === "nearest") {
      first[i] = Math.min(from - 1, Math.floor(i * scale));
      weights.push(Float64Array.of(1));
    } else if (mode === "area") {
      const low = Math.floor(i * scale), high = Math.ceil((i + 1) * scale);
      first[i] = low;
      weights.push(new Float64Array(high - low).fill(1 / (high - low)));
    } else {
      const centre = Math.max(0, (i + 0.5) * scale - 0.5), low = Math.min(from - 1, Math.floor(centre));
      first[i] = low;
      weights.push(low + 1 < from ? Float64Array.of(1 - (centre - low), centre - low) : Float64Array.of(1));
    }
  }
  return { first, weights };
}

/**
 * Resizes floats as PyTorch does.
 * @param data [count, height, width, channels]
 * @returns [count, toHeight, toWidth, channels]
 */
export function resizeTensor(
  data: Float32Array,
  { height, width, channels = 1, count = 1 }: { height: number; width: number; channels?: number; count?: number },
  [toHeight, toWidth]: readonly [number, number],
  mode: TensorMode,
): Float32Array {
  if (data.length !== count * height * width * channels) throw new RangeError("the data does not fill its shape");
  const down = tensorTaps(height, toHeight, mode), across = tensorTaps(width, toWidth, mode);
  const out = new Float32Array(count * toHeight * toWidth * channels);
  for (let n = 0, to = 0; n < count; n++) {
    for (let y = 0; y < toHeight; y++) {
      for (let x = 0; x < toWidth; x++) {
        for (let c = 0; c < channels; c++, to++) {
          let sum = 0;
          down.weights[y].forEach((wy, j) => {
            const row = (n * height + down.first[y] + j) * width + across.first[x];
            across.weights[x].forEach((wx, k) => sum += wy * wx * data[(row + k) * channels + c]);
          });
          out[to] = sum;
        }
      }
    }
  }
  return out;
}
