/**
 * Resizing, pooling and pixel shuffling in float64, by PyTorch's conventions, on images [B, H, W, C].
 * A resize is a small linear map per axis: each output row names the input rows that it reads and their weights. The
 * forward pass applies the map, the backward pass its transpose.
 */
import { type NDArray, ndarray } from "../support/arrays.ts";
import { windowCount } from "./gemm.ts";

/** What one output position reads: input positions with weights. */
type Taps = { from: number; weight: number }[];

/** Nearest: floor(out·inSize ∕ outSize), as `interpolate(mode="nearest")`. */
function nearestTaps(inSize: number, outSize: number): Taps[] {
  return Array.from({ length: outSize }, (_, i) => [{ from: Math.floor(i * inSize / outSize), weight: 1 }]);
}

/** Bilinear: half-pixel centres clamped at the border, or corners aligned. */
function bilinearTaps(inSize: number, outSize: number, alignCorners: boolean): Taps[] {
  return Array.from({ length: outSize }, (_, i) => {
    const aligned = outSize > 1 ? i * (inSize - 1) / (outSize - 1) : 0;
    const source = alignCorners ? aligned : Math.max(0, (i + 0.5) * inSize / outSize - 0.5);
    const low = Math.min(Math.floor(source), inSize - 1), high = Math.min(low + 1, inSize - 1);
    return [{ from: low, weight: 1 - (source - low) }, { from: high, weight: source - low }];
  });
}

/** Bilinear with antialiasing: a triangle as wide as the scale, cut at the border and normalised, as Pillow does. */
function antialiasedTaps(inSize: number, outSize: number): Taps[] {
  const scale = inSize / outSize, support = Math.max(scale, 1);
  return Array.from({ length: outSize }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inSize, Math.trunc(centre + support + 0.5));
    const taps: Taps = [];
    for (let from = begin; from < end; from++) {
      taps.push({ from, weight: Math.max(0, 1 - Math.abs(from + 0.5 - centre) / support) });
    }
    const total = taps.reduce((sum, { weight }) => sum + weight, 0);
    return taps.map(({ from, weight }) => ({ from, weight: weight / total }));
  });
}

/** Visits every (input element, output element, weight) of a separable resize. */
function eachWeight(
  [B, H, W, C]: readonly number[],
  rows: Taps[],
  columns: Taps[],
  visit: (from: number, to: number, weight: number) => void,
): void {
  for (let b = 0; b < B; b++) {
    rows.forEach((row, y) =>
      columns.forEach((column, x) => {
        for (const v of row) {
          for (const h of column) {
            for (let c = 0; c < C; c++) {
              const from = ((b * H + v.from) * W + h.from) * C + c;
              visit(from, ((b * rows.length + y) * columns.length + x) * C + c, v.weight * h.weight);
            }
          }
        }
      })
    );
  }
}

function apply(x: NDArray, rows: Taps[], columns: Taps[]): NDArray {
  const y = ndarray([x.shape[0], rows.length, columns.length, x.shape[3]]);
  eachWeight(x.shape, rows, columns, (from, to, weight) => y.data[to] += weight * x.data[from]);
  return y;
}

function applyTransposed(dy: NDArray, xShape: readonly number[], rows: Taps[], columns: Taps[]): NDArray {
  const dx = ndarray(xShape);
  eachWeight(xShape, rows, columns, (from, to, weight) => dx.data[from] += weight * dy.data[to]);
  return dx;
}

/** Size [height, width] of the result. */
export interface ResizeOptions {
  size: readonly [number, number];
}

/** Options of a bilinear resize; both flags default to false. */
export interface BilinearOptions extends ResizeOptions {
  alignCorners?: boolean;
  antialias?: boolean;
}

/** x [B, H, W, C] → [B, size[0], size[1], C]. */
export function resizeNearestForward(x: NDArray, { size }: ResizeOptions): NDArray {
  return apply(x, nearestTaps(x.shape[1], size[0]), nearestTaps(x.shape[2], size[1]));
}

/** Gradient of {@link resizeNearestForward}; only the shape of x matters. */
export function resizeNearestBackward(dy: NDArray, x: NDArray, { size }: ResizeOptions): NDArray {
  return applyTransposed(dy, x.shape, nearestTaps(x.shape[1], size[0]), nearestTaps(x.shape[2], size[1]));
}

function taps(inSize: number, outSize: number, { alignCorners = false, antialias = false }: BilinearOptions): Taps[] {
  if (alignCorners && antialias) throw new Error("resizeBilinear: antialias with aligned corners is not defined here");
  return antialias ? antialiasedTaps(inSize, outSize) : bilinearTaps(inSize, outSize, alignCorners);
}

/** x [B, H, W, C] → [B, size[0], size[1], C]. */
export function resizeBilinearForward(x: NDArray, options: BilinearOptions): NDArray {
  const [, H, W] = x.shape, [height, width] = options.size;
  return apply(x, taps(H, height, options), taps(W, width, options));
}

/** Gradient of {@link resizeBilinearForward}; only the shape of x matters. */
export function resizeBilinearBackward(dy: NDArray, x: NDArray, options: BilinearOptions): NDArray {
  const [, H, W] = x.shape, [height, width] = options.size;
  return applyTransposed(dy, x.shape, taps(H, height, options), taps(W, width, options));
}

/** Window [height, width], stride (default: the window), padding [top, bottom, left, right] (default 0). */
export interface PoolOptions {
  kernel: readonly [number, number];
  stride?: readonly [number, number];
  padding?: readonly [number, number, number, number];
}

/** Output shape of a pooling, and for one output element the input elements in its window (padding left out). */
function windows([B, H, W, C]: readonly number[], { kernel, stride = kernel, padding = [0, 0, 0, 0] }: PoolOptions) {
  const P = windowCount(H, padding[0], padding[1], kernel[0], stride[0]);
  const Q = windowCount(W, padding[2], padding[3], kernel[1], stride[1]);
  const inside = (flat: number): number[] => {
    const c = flat % C, q = Math.floor(flat / C) % Q, p = Math.floor(flat / C / Q) % P;
    const b = Math.floor(flat / C / Q / P), found: number[] = [];
    for (let i = 0; i < kernel[0]; i++) {
      for (let j = 0; j < kernel[1]; j++) {
        const y = p * stride[0] + i - padding[0], x = q * stride[1] + j - padding[2];
        if (y >= 0 && y < H && x >= 0 && x < W) found.push(((b * H + y) * W + x) * C + c);
      }
    }
    return found;
  };
  return { shape: [B, P, Q, C], inside, area: kernel[0] * kernel[1] };
}

/** The first greatest element of a window, in row-major order. */
const firstMax = (x: NDArray, window: number[]) =>
  window.reduce((best, at) => x.data[at] > x.data[best] ? at : best, window[0]);

/** Maximum of each window; padding counts as −∞.  x [B, H, W, C] → [B, P, Q, C]. */
export function maxPoolForward(x: NDArray, options: PoolOptions): NDArray {
  const { shape, inside } = windows(x.shape, options), y = ndarray(shape);
  y.data.forEach((_, i) => y.data[i] = x.data[firstMax(x, inside(i))]);
  return y;
}

/** Gradient of {@link maxPoolForward}: all of dy to the first greatest element of the window. */
export function maxPoolBackward(dy: NDArray, x: NDArray, options: PoolOptions): NDArray {
  const { inside } = windows(x.shape, options), dx = ndarray(x.shape);
  dy.data.forEach((d, i) => dx.data[firstMax(x, inside(i))] += d);
  return dx;
}

/** Mean of each window; padding counts as zeros in the mean (`count_include_pad`).  x [B, H, W, C] → [B, P, Q, C]. */
export function averagePoolForward(x: NDArray, options: PoolOptions): NDArray {
  const { shape, inside, area } = windows(x.shape, options), y = ndarray(shape);
  y.data.forEach((_, i) => y.data[i] = inside(i).reduce((sum, at) => sum + x.data[at], 0) / area);
  return y;
}

/** Gradient of {@link averagePoolForward}; only the shape of x matters. */
export function averagePoolBackward(dy: NDArray, x: NDArray, options: PoolOptions): NDArray {
  const { inside, area } = windows(x.shape, options), dx = ndarray(x.shape);
  dy.data.forEach((d, i) => inside(i).forEach((at) => dx.data[at] += d / area));
  return dx;
}

/**
 * Visits pairs (element of the large image, element of the shuffled one): pixel (y·r + i, x·r + j) of channel c of
 * [B, H·r, W·r, C] is channel c·r² + i·r + j of pixel (y, x) of [B, H, W, C·r²] (Shi et al. 2016, PyTorch's order).
 */
function eachPixel(
  [B, tall, wide, C]: readonly number[],
  r: number,
  visit: (large: number, small: number) => void,
): void {
  const H = tall / r, W = wide / r;
  for (let large = 0; large < B * tall * wide * C; large++) {
    const c = large % C, x = Math.floor(large / C) % wide, y = Math.floor(large / C / wide) % tall;
    const b = Math.floor(large / C / wide / tall);
    const channel = c * r * r + (y % r) * r + x % r;
    visit(large, ((b * H + Math.floor(y / r)) * W + Math.floor(x / r)) * C * r * r + channel);
  }
}

/** x [B, H·r, W·r, C] → [B, H, W, C·r²]. */
export function pixelUnshuffleForward(x: NDArray, r: number): NDArray {
  const [B, tall, wide, C] = x.shape;
  if (tall % r || wide % r) throw new Error(`pixelUnshuffle: [${x.shape}] does not divide by ${r}`);
  const y = ndarray([B, tall / r, wide / r, C * r * r]);
  eachPixel(x.shape, r, (large, small) => y.data[small] = x.data[large]);
  return y;
}

/** Gradient of {@link pixelUnshuffleForward}: the inverse permutation. */
export function pixelUnshuffleBackward(dy: NDArray, r: number): NDArray {
  return pixelShuffleForward(dy, r);
}

/** x [B, H, W, C·r²] → [B, H·r, W·r, C]. */
export function pixelShuffleForward(x: NDArray, r: number): NDArray {
  const [B, H, W, channels] = x.shape;
  if (channels % (r * r)) throw new Error(`pixelShuffle: ${channels} channels do not divide by ${r * r}`);
  const y = ndarray([B, H * r, W * r, channels / r / r]);
  eachPixel(y.shape, r, (large, small) => y.data[large] = x.data[small]);
  return y;
}

/** Gradient of {@link pixelShuffleForward}: the inverse permutation. */
export function pixelShuffleBackward(dy: NDArray, r: number): NDArray {
  return pixelUnshuffleForward(dy, r);
}
