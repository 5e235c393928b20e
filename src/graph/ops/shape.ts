/**
 * Ops that move elements and compute nothing: reshape, concat, slice, pad, permute. Each one's gradient is another of them.
 */

import source from "../../../shaders/shape.wgsl" with { type: "text" };
import { apply, defineOp, grid, kernel, type Lowering, require, type Value } from "../op.ts";
import { sameShape, type Shape, sizeOf, type Tensor } from "../tensor.ts";

const shapeKernel = kernel("shape", source, ["read", "read_write"]);

const reshapeOp = defineOp<{ shape: Shape }>({
  name: "reshape",
  alias: true,
  shape([x], { shape }) {
    require(sizeOf(shape) === x.size, "reshape", `cannot become [${shape}]`, [x]);
    return [{ shape, dtype: x.dtype }];
  },
  gradient: ({ inputs: [x], grads }) => [() => reshape(grads[0]!, x.shape)],
  lower() {},
});

/** The same numbers under another shape; costs nothing. One size may be −1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = shape.reduce((n, m) => (m === -1 ? n : n * m), 1);
  const full = shape.map((n) => (n === -1 ? x.size / known : n));
  return sameShape(full, x.shape) ? x : apply(reshapeOp, [x], { shape: full })[0];
}

/** Strips of `width` elements, one from each row of x to the matching row of y. */
interface Strips {
  readonly rows: number;
  readonly width: number;
  readonly xStride: number;
  /** Element i of a strip is element i + shift of x's row; zero where that is not in [0, xStride). */
  readonly shift: number;
  readonly yStride: number;
  /** Where the first strip begins in y. */
  readonly base: number;
}

function launchStrips({ launch }: Pick<Lowering, "launch">, x: Value, y: Value, strips: Strips): void {
  const { rows, width, xStride, shift, yStride, base } = strips;
  const vector = [width, xStride, shift, yStride, base].every((n) => n % 4 === 0);
  const unit = vector ? 4 : 1, count = rows * width / unit;
  launch({
    kernel: shapeKernel,
    defines: { PERMUTE: 0, VECTOR: vector },
    buffers: [x, y],
    uniforms: [count, width / unit, xStride / unit, (shift / unit) >>> 0, xStride / unit, base / unit, yStride / unit],
    workgroups: grid(count),
  });
}

/** Elements before and after an axis: rows, and elements of one step along it. */
function around(shape: Shape, axis: number): { rows: number; step: number } {
  return { rows: sizeOf(shape.slice(0, axis)), step: sizeOf(shape.slice(axis + 1)) };
}

function checkAxis(op: string, axis: number, inputs: readonly Tensor[]): void {
  require(Number.isInteger(axis) && axis >= 0 && axis < inputs[0].rank, op, `has no axis ${axis}`, inputs);
  require(inputs.every((t) => t.dtype === inputs[0].dtype && t.dtype !== "f16"), op, "needs f32 or u32", inputs);
}

const concatOp = defineOp<{ axis: number }>({
  name: "concat",
  shape(inputs, { axis }) {
    checkAxis("concat", axis, inputs);
    const [first] = inputs;
    require(
      inputs.every((t) => t.rank === first.rank && t.shape.every((n, i) => i === axis || n === first.shape[i])),
      "concat",
      `sizes differ on an axis other than ${axis}`,
      inputs,
    );
    const total = inputs.reduce((sum, t) => sum + t.shape[axis], 0);
    return [{ shape: first.shape.with(axis, total), dtype: first.dtype }];
  },
  gradient({ inputs, attributes: { axis }, grads: [dy] }) {
    let end = 0;
    return inputs.map((part) => {
      const start = end;
      end += part.shape[axis];
      const own = [start, end] as const;
      return () => slice(dy!, axis, ...own);
    });
  },
  lower(lowering) {
    const { node, attributes: { axis }, inputs, outputs } = lowering;
    const shape = node.outputs[0].shape, { rows, step } = around(shape, axis);
    let base = 0;
    node.inputs.forEach((part, i) => {
      const width = part.shape[axis] * step;
      const strips = { rows, width, xStride: width, shift: 0, yStride: shape[axis] * step, base };
      launchStrips(lowering, inputs[i], outputs[0], strips);
      base += width;
    });
  },
});

/**
 * Joins tensors along one axis.
 * @param parts f32 or u32, of equal sizes on every other axis
 * @param axis from 0; −1 is the last
 */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  return parts.length === 1 ? parts[0] : apply(concatOp, parts, { axis: axis < 0 ? axis + parts[0].rank : axis })[0];
}

/** Shifts along one axis: y[…, i, …] = x[…, i + from, …], zero outside x. A slice where from ≥ 0, a pad where from ≤ 0. */
const windowOp = defineOp<{ axis: number; from: number; size: number }>({
  name: "window",
  shape([x], { axis, size }) {
    return [{ shape: x.shape.with(axis, size), dtype: x.dtype }];
  },
  gradient: ({ inputs: [x], attributes: { axis, from }, grads: [dy] }) => [
    () => windowed(dy!, axis, -from, x.shape[axis]),
  ],
  lower(lowering) {
    const { node: { inputs: [x] }, attributes: { axis, from, size }, inputs, outputs } = lowering;
    const { rows, step } = around(x.shape, axis), width = size * step;
    const strips = { rows, width, xStride: x.shape[axis] * step, shift: from * step, yStride: width, base: 0 };
    launchStrips(lowering, inputs[0], outputs[0], strips);
  },
});

function windowed(x: Tensor, axis: number, from: number, size: number): Tensor {
  return apply(windowOp, [x], { axis, from, size })[0];
}

/**
 * Elements start ≤ i < end along one axis.
 * @param x f32 or u32
 * @param axis from 0; −1 is the last
 * @param end default the axis' size; negative numbers count from the end
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { concat, slice } from "./shape.ts";
 * const x = input("x", [2, 77, 64]);
 * const y = concat([slice(x, 1, 0, 1), slice(x, 1, -8)], 1);
 * if (y.shape.join() !== "2,9,64") throw new Error(`${y}`);
 * ```
 */
export function slice(x: Tensor, axis: number, start: number, end?: number): Tensor {
  if (axis < 0) axis += x.rank;
  checkAxis("slice", axis, [x]);
  const n = x.shape[axis], from = start < 0 ? start + n : start, to = end === undefined ? n : end < 0 ? end + n : end;
  require(
    Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from < to && to <= n,
    "slice",
    `${start} to ${end} is no part of axis ${axis}`,
    [x],
  );
  return to - from === n ? x : windowed(x, axis, from, to - from);
}

/**
 * x surrounded by zeros.
 * @param x f32 or u32
 * @param widths [before, after] for each axis
 */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[]): Tensor {
  require(widths.length === x.rank, "pad", `got widths for ${widths.length} axes`, [x]);
  return widths.reduce((y, [before, after], axis) => {
    checkAxis("pad", axis, [x]);
    require([before, after].every((n) => Number.isInteger(n) && n >= 0), "pad", `cannot add ${before}, ${after}`, [x]);
    return before + after ? windowed(y, axis, -before, before + y.shape[axis] + after) : y;
  }, x);
}

/** Axes of the result, outermost first, with x's stride along each; axes that stay neighbours are one. */
function mergedAxes(shape: Shape, axes: readonly number[]): { size: number; stride: number }[] {
  const merged: { size: number; stride: number }[] = [];
  for (const axis of axes) {
    const size = shape[axis], stride = sizeOf(shape.slice(axis + 1));
    if (size === 1) continue;
    const last = merged.at(-1);
    if (last?.stride === size * stride) Object.assign(last, { size: last.size * size, stride });
    else merged.push({ size, stride });
  }
  return merged;
}

/** Most axes after merging. */
const MOST_AXES = 6;

const permuteOp = defineOp<{ axes: readonly number[] }>({
  name: "permute",
  shape: ([x], { axes }) => [{ shape: axes.map((axis) => x.shape[axis]), dtype: x.dtype }],
  gradient: ({ attributes: { axes }, grads: [dy] }) => [() => permute(dy!, axes.map((_, i) => axes.indexOf(i)))],
  lower({ node: { inputs: [x] }, attributes: { axes }, inputs, outputs, launch }) {
    const merged = mergedAxes(x.shape, axes);
    require(merged.length <= MOST_AXES, "permute", `moves more than ${MOST_AXES} axes`, [x]);
    const last = merged.at(-1)!;
    const vector = last.stride === 1 && last.size % 4 === 0;
    if (vector) {
      last.size /= 4;
      for (const axis of merged.slice(0, -1)) axis.stride /= 4;
    }
    const AXES = merged.length <= 4 ? 4 : MOST_AXES, count = x.size / (vector ? 4 : 1);
    while (merged.length < AXES) merged.unshift({ size: 1, stride: 0 });
    launch({
      kernel: shapeKernel,
      defines: { PERMUTE: 1, AXES, VECTOR: vector },
      buffers: [inputs[0], outputs[0]],
      uniforms: [count, ...merged.flatMap(({ size, stride }) => [size, stride])],
      workgroups: grid(count),
    });
  },
});

/**
 * Reorders axes: axis i of the result is axis `axes[i]` of x.
 * @param x f32 or u32
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { permute, reshape } from "./shape.ts";
 * const heads = permute(reshape(input("x", [2, 256, 64]), [2, 256, 4, 16]), [0, 2, 1, 3]);
 * if (heads.shape.join() !== "2,4,256,16") throw new Error(`${heads}`);
 * ```
 */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  const all = axes.length === x.rank && axes.every((_, i) => axes.includes(i));
  require(all, "permute", `[${axes}] is no order of its axes`, [x]);
  require(x.dtype !== "f16", "permute", "needs f32 or u32", [x]);
  // Where only axes of size 1 move, nothing does.
  if (mergedAxes(x.shape, axes).length < 2) return reshape(x, axes.map((axis) => x.shape[axis]));
  return apply(permuteOp, [x], { axes })[0];
}

/** Swaps the last two axes. */
export function transpose(x: Tensor): Tensor {
  require(x.rank >= 2, "transpose", "needs two axes", [x]);
  const axes = x.shape.map((_, i) => i);
  return permute(x, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
}
