/**
 * Resizing, pooling and pixel shuffling of images [B, H, W, C], by PyTorch's conventions. A resize or an average is a small
 * linear map along each axis; its rows are worked out here, and one kernel applies them or their transpose.
 */

import source from "../../../shaders/resample.wgsl" with { type: "text" };
import { apply, defineOp, f32, grid, kernel, require } from "../op.ts";
import { sameShape, type Shape, type Tensor } from "../tensor.ts";
import { constant } from "../variable.ts";
import { checkWindow, windowedSize } from "./gemm.ts";
import { permute, reshape } from "./shape.ts";

const linearKernel = kernel("resample", source, ["read", "read", "read_write"]);
const maxKernel = kernel("resample", source, ["read", "read_write", "read_write"]);

/** What one output position reads: `weights.length` neighbours from `first` on. */
interface Row {
  readonly first: number;
  readonly weights: readonly number[];
}

/** A linear map along one axis, a row per output position. First sources never decrease. */
type Rows = readonly Row[];

/** Source ⌊i·n ∕ m⌋, as `interpolate(mode="nearest")`. */
function nearestRows(n: number, m: number): Rows {
  return Array.from({ length: m }, (_, i) => ({ first: Math.floor(i * n / m), weights: [1] }));
}

/** The two neighbours of a point between pixel centres (or, aligned, between the corner pixels). */
function bilinearRows(n: number, m: number, alignCorners: boolean): Rows {
  return Array.from({ length: m }, (_, i) => {
    const at = alignCorners ? i * (n - 1) / Math.max(1, m - 1) : Math.max(0, (i + 0.5) * n / m - 0.5);
    const first = Math.min(Math.floor(at), n - 1), share = at - first;
    return { first, weights: first + 1 < n ? [1 - share, share] : [1] };
  });
}

/** A triangle as wide as the reduction, normalised inside the image: PyTorch's `antialias=True`, Pillow's BILINEAR. */
function antialiasedRows(n: number, m: number): Rows {
  const scale = n / m, reach = Math.max(1, scale);
  return Array.from({ length: m }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), end = Math.min(n, Math.floor(centre + reach + 0.5));
    const heights = Array.from(
      { length: end - first },
      (_, k) => Math.max(0, 1 - Math.abs(first + k + 0.5 - centre) / reach),
    );
    const total = heights.reduce((a, b) => a + b, 0);
    return { first, weights: heights.map((height) => height / total) };
  });
}

/** Windows of equal weights; what lies in the padding counts as zero. */
function averageRows(n: number, m: number, size: number, stride: number, before: number): Rows {
  return Array.from({ length: m }, (_, i) => {
    const first = Math.max(0, i * stride - before), end = Math.min(n, i * stride - before + size);
    return { first, weights: Array(Math.max(0, end - first)).fill(1 / size) };
  });
}

/** The transposed map, for n sources: what each source gives, and to which outputs. */
function transposedRows(rows: Rows, n: number): Rows {
  return Array.from({ length: n }, (_, k) => {
    const readers = rows.flatMap((row, i) => (k >= row.first && k < row.first + row.weights.length ? [i] : []));
    const first = readers[0] ?? 0, last = readers.at(-1) ?? -1;
    const weights = rows.slice(first, last + 1).map((row) => row.weights[k - row.first] ?? 0);
    return { first, weights };
  });
}

/** Both axes' rows as the kernel reads them. */
function table(vertical: Rows, horizontal: Rows): Tensor {
  const heads: number[] = [], weights: number[] = [];
  const rows = [...vertical, ...horizontal];
  for (const row of rows) {
    heads.push(row.first, row.weights.length, 3 * rows.length + weights.length);
    weights.push(...row.weights);
  }
  const bits = new Uint32Array(Float32Array.from(weights).buffer);
  return constant(Uint32Array.of(...heads, ...bits));
}

interface Map {
  readonly name: string;
  readonly vertical: Rows;
  readonly horizontal: Rows;
}

const resampleOp = defineOp<Map>({
  name: "resample",
  shape(inputs, { name, vertical, horizontal }) {
    const [x] = inputs;
    require(x.rank === 4 && x.dtype === "f32", name, "needs x [B, H, W, C], f32", [x]);
    return [f32([x.shape[0], vertical.length, horizontal.length, x.shape[3]])];
  },
  gradient: ({ inputs: [x], attributes: { name, vertical, horizontal }, grads: [dy] }) => [
    () =>
      resample(dy!, {
        name: `${name}Backward`,
        vertical: transposedRows(vertical, x.shape[1]),
        horizontal: transposedRows(horizontal, x.shape[2]),
      }),
    undefined,
  ],
  lower({ node: { inputs: [x], outputs: [y] }, inputs, outputs, launch }) {
    const vector = y.shape[3] % 4 === 0, unit = vector ? 4 : 1, count = y.size / unit;
    launch({
      kernel: linearKernel,
      defines: { POOL: 0, VECTOR: vector },
      buffers: [...inputs, ...outputs],
      uniforms: [count, y.shape[3] / unit, ...x.shape.slice(1, 3), ...y.shape.slice(1, 3)],
      workgroups: grid(count),
    });
  },
});

function resample(x: Tensor, map: Map): Tensor {
  return apply(resampleOp, [x, table(map.vertical, map.horizontal)], map)[0];
}

function checkSize(name: string, x: Tensor, size: Shape): void {
  require(x.rank === 4 && x.dtype === "f32", name, "needs x [B, H, W, C], f32", [x]);
  require(size.length === 2 && size.every((n) => Number.isInteger(n) && n > 0), name, `cannot be [${size}] large`, [x]);
}

/**
 * Each pixel of the result is the pixel ⌊i·H ∕ h⌋, ⌊j·W ∕ w⌋ of x (PyTorch's "nearest").
 * @param x [B, H, W, C], f32
 * @returns [B, h, w, C]
 */
export function resizeNearest(x: Tensor, [h, w]: readonly [number, number]): Tensor {
  checkSize("resizeNearest", x, [h, w]);
  if (sameShape(x.shape.slice(1, 3), [h, w])) return x;
  const [, H, W] = x.shape;
  return resample(x, { name: "resizeNearest", vertical: nearestRows(H, h), horizontal: nearestRows(W, w) });
}

/** Options of {@linkcode resizeBilinear}; not both. */
export interface BilinearOptions {
  /** Corner pixels' centres stay where they are; otherwise the image's edges do. */
  readonly alignCorners?: boolean;
  /** Where the image shrinks, average over all that a pixel covers. */
  readonly antialias?: boolean;
}

/**
 * Linear interpolation between the nearest pixels (PyTorch's "bilinear").
 * @param x [B, H, W, C], f32
 * @returns [B, h, w, C]
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { resizeBilinear } from "./resample.ts";
 * const y = resizeBilinear(input("x", [1, 64, 64, 3]), [16, 16], { antialias: true });
 * if (y.shape.join() !== "1,16,16,3") throw new Error(`${y}`);
 * ```
 */
export function resizeBilinear(x: Tensor, [h, w]: readonly [number, number], options: BilinearOptions = {}): Tensor {
  checkSize("resizeBilinear", x, [h, w]);
  const { alignCorners = false, antialias = false } = options;
  require(!(alignCorners && antialias), "resizeBilinear", "cannot both align corners and antialias", [x]);
  const [, H, W] = x.shape;
  if (sameShape([H, W], [h, w])) return x;
  const rows = (n: number, m: number) => (antialias ? antialiasedRows(n, m) : bilinearRows(n, m, alignCorners));
  return resample(x, { name: "resizeBilinear", vertical: rows(H, h), horizontal: rows(W, w) });
}

/** Window of a pooling. */
export interface PoolOptions {
  /** [height, width]. */
  readonly kernel: readonly [number, number];
  /** [vertical, horizontal], default the kernel. */
  readonly stride?: readonly [number, number];
  /** [top, bottom, left, right], each below the kernel's size; default 0. */
  readonly padding?: readonly [number, number, number, number];
}

interface Pool {
  readonly kh: number;
  readonly kw: number;
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number, number, number];
}

/** Fills the defaults in and checks that no window lies outside the image. */
function pool(name: string, x: Tensor, { kernel: [kh, kw], stride = [kh, kw], padding = [0, 0, 0, 0] }: PoolOptions) {
  require(x.rank === 4 && x.dtype === "f32", name, "needs x [B, H, W, C], f32", [x]);
  checkWindow(name, { kh, kw, stride, padding }, [x]);
  const fits = Math.max(padding[0], padding[1]) < kh && Math.max(padding[2], padding[3]) < kw;
  require(fits, name, `padding [${padding}] reaches past a window of ${kh} × ${kw}`, [x]);
  return { kh, kw, stride, padding };
}

const poolUniforms = ({ kh, kw, stride, padding }: Pool) => [kh, kw, ...stride, padding[0], padding[2]];

/** Maximum and its position in the window (u32). */
const maxPoolOp = defineOp<Pool>({
  name: "maxPool",
  shape([x], attributes) {
    const shape = [x.shape[0], ...windowedSize(x.shape.slice(1, 3), attributes), x.shape[3]];
    return [f32(shape), { shape, dtype: "u32" }];
  },
  gradient: ({ inputs: [x], outputs: [, tap], attributes, grads: [dy] }) => [
    () => apply(maxPoolBackwardOp, [dy!, tap], { ...attributes, target: x.shape })[0],
  ],
  lower({ node: { inputs: [x], outputs: [y] }, attributes, inputs, outputs, launch }) {
    const vector = y.shape[3] % 4 === 0, unit = vector ? 4 : 1, count = y.size / unit;
    launch({
      kernel: maxKernel,
      defines: { POOL: 1, VECTOR: vector },
      buffers: [...inputs, ...outputs],
      uniforms: [
        count,
        y.shape[3] / unit,
        ...x.shape.slice(1, 3),
        ...y.shape.slice(1, 3),
        ...poolUniforms(attributes),
      ],
      workgroups: grid(count),
    });
  },
});

const maxPoolBackwardOp = defineOp<Pool & { target: Shape }>({
  name: "maxPoolBackward",
  shape: (_, { target }) => [f32(target)],
  lower({ node: { inputs: [dy] }, attributes, inputs, outputs, launch }) {
    const { target } = attributes;
    const vector = target[3] % 4 === 0, unit = vector ? 4 : 1, count = dy.shape[0] * target[1] * target[2] * target[3];
    launch({
      kernel: linearKernel,
      defines: { POOL: 2, VECTOR: vector },
      buffers: [...inputs, ...outputs],
      uniforms: [
        count / unit,
        target[3] / unit,
        ...dy.shape.slice(1, 3),
        ...target.slice(1, 3),
        ...poolUniforms(attributes),
      ],
      workgroups: grid(count / unit),
    });
  },
});

/**
 * Maximum of each window; padding counts as −∞. The gradient goes to the first maximum in row-major order.
 * @param x [B, H, W, C], f32
 * @returns [B, ⌊(H + top + bottom − kh) ∕ stride⌋ + 1, …, C]
 */
export function maxPool(x: Tensor, options: PoolOptions): Tensor {
  return apply(maxPoolOp, [x], pool("maxPool", x, options))[0];
}

/**
 * Mean of each window; padding counts as zeros (PyTorch's `count_include_pad`).
 * @param x [B, H, W, C], f32
 * @returns [B, ⌊(H + top + bottom − kh) ∕ stride⌋ + 1, …, C]
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { averagePool } from "./resample.ts";
 * const y = averagePool(input("x", [1, 7, 7, 8]), { kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] });
 * if (y.shape.join() !== "1,4,4,8") throw new Error(`${y}`);
 * ```
 */
export function averagePool(x: Tensor, options: PoolOptions): Tensor {
  const window = pool("averagePool", x, options), { kh, kw, stride, padding } = window;
  const [, H, W] = x.shape, [h, w] = windowedSize([H, W], window);
  require(h > 0 && w > 0, "averagePool", `window of ${kh} × ${kw} is larger than the image`, [x]);
  return resample(x, {
    name: "averagePool",
    vertical: averageRows(H, h, kh, stride[0], padding[0]),
    horizontal: averageRows(W, w, kw, stride[1], padding[2]),
  });
}

/**
 * Blocks of r × r pixels become channels: result channel c·r² + i·r + j is x's channel c at pixel (i, j) of the block
 * (PyTorch's order).
 * @param x [B, H·r, W·r, C]
 * @returns [B, H, W, C·r²]
 */
export function pixelUnshuffle(x: Tensor, r: number): Tensor {
  require(x.rank === 4 && x.shape[1] % r === 0 && x.shape[2] % r === 0, "pixelUnshuffle", `no blocks of ${r}`, [x]);
  const [B, tall, wide, C] = x.shape, H = tall / r, W = wide / r;
  return reshape(permute(reshape(x, [B, H, r, W, r, C]), [0, 1, 3, 5, 2, 4]), [B, H, W, C * r * r]);
}

/**
 * Undoes {@linkcode pixelUnshuffle}.
 * @param x [B, H, W, C·r²]
 * @returns [B, H·r, W·r, C]
 */
export function pixelShuffle(x: Tensor, r: number): Tensor {
  require(x.rank === 4 && x.shape[3] % (r * r) === 0, "pixelShuffle", `channels do not divide by ${r}²`, [x]);
  const [B, H, W, channels] = x.shape, C = channels / (r * r);
  return reshape(permute(reshape(x, [B, H, W, C, r, r]), [0, 1, 4, 2, 5, 3]), [B, H * r, W * r, C]);
}
