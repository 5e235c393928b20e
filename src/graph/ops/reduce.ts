/** Sums and means over axes, and the sum that undoes a broadcast. Each sum is a fixed tree: same bytes every time. */

import source from "../../../shaders/reduce.wgsl" with { type: "text" };
import { apply, defineOp, f32, float, grid, kernel, type Lowering, require, type Value } from "../op.ts";
import { sameShape, type Shape, sizeOf, type Tensor } from "../tensor.ts";
import { affine, broadcastTo } from "./pointwise.ts";
import { reshape } from "./shape.ts";

const reduceKernel = kernel("reduce", source, ["read", "read_write"]);

/**
 * Terms in a block of a sum of `count` terms in one invocation: such blocks by themselves, then their sum, so that rounding
 * grows with √count.
 */
export const blockOf = (count: number): number => Math.max(16, Math.ceil(Math.sqrt(count)));

/**
 * Emits y[o, i] = scale · Σ_l x[o, l, i]; with `parts` above 1, y[o, p, i]: the sums of that many runs of `length` / `parts`,
 * rounded up.
 */
export function launchSum(
  { launch }: Pick<Lowering, "launch">,
  x: Value,
  y: Value,
  [outer, length, inner]: readonly [number, number, number],
  scale = 1,
  parts = 1,
): void {
  const rows = inner === 1, run = Math.ceil(length / parts);
  launch({
    kernel: reduceKernel,
    defines: { INNER: rows ? 0 : 1 },
    buffers: [x, y],
    uniforms: [outer, length, inner, float(scale), parts, run, blockOf(rows ? run / 64 : run)],
    workgroups: rows ? grid(outer * parts, 1) : grid(outer * parts * inner),
    flops: outer * length * inner,
  });
}

/**
 * Longest run that one workgroup or invocation adds up; longer ones are added in two passes. llvmpipe ends an invocation's
 * loops after 65,535 turns in all, without a word.
 */
const LONGEST = 1 << 14;

/** Where an invocation adds up a column: invocations to aim for, and the fewest numbers worth one. */
const INVOCATIONS = 1 << 14, FEWEST = 64;

const sumOp = defineOp<{ from: number; to: number }>({
  name: "sum",
  shape([x], { from, to }) {
    require(x.dtype === "f32", "sum", "needs f32", [x]);
    return [f32(x.shape.map((n, i) => (i >= from && i < to ? 1 : n)))];
  },
  gradient: ({ inputs: [x], grads }) => [() => broadcastTo(grads[0]!, x.shape)],
  lower(lowering) {
    const { node, attributes: { from, to }, inputs, outputs } = lowering;
    const shape = node.inputs[0].shape;
    const outer = sizeOf(shape.slice(0, from)), length = sizeOf(shape.slice(from, to)), inner = sizeOf(shape.slice(to));
    const column = Math.min(LONGEST, Math.max(FEWEST, Math.ceil(outer * length * inner / INVOCATIONS)));
    const parts = Math.ceil(length / (inner === 1 ? LONGEST : column));
    if (parts === 1) return launchSum(lowering, inputs[0], outputs[0], [outer, length, inner]);
    const partial = lowering.scratch(4 * outer * parts * inner);
    launchSum(lowering, inputs[0], partial, [outer, length, inner], 1, parts);
    launchSum(lowering, partial, outputs[0], [outer, parts, inner]);
  },
});

/**
 * Sum over axes.
 * @param axes which, from 0, each once; all where left out
 * @param keepDims leave the summed axes as size 1
 */
export function sum(x: Tensor, axes: readonly number[] = x.shape.map((_, i) => i), keepDims = false): Tensor {
  const own = axes.every((axis, i) => Number.isInteger(axis) && axis >= 0 && axis < x.rank && axes.indexOf(axis) === i);
  require(own, "sum", `cannot run over the axes [${axes}]`, [x]);
  let result = x;
  const sorted = [...axes].sort((a, b) => b - a);
  while (sorted.length) {
    const to = sorted.shift()! + 1;
    let from = to - 1;
    while (sorted[0] === from - 1) from = sorted.shift()!;
    result = apply(sumOp, [result], { from, to })[0];
  }
  return keepDims ? result : reshape(result, x.shape.filter((_, i) => !axes.includes(i)));
}

/** Mean over axes; arguments as {@linkcode sum}. */
export function mean(x: Tensor, axes: readonly number[] = x.shape.map((_, i) => i), keepDims = false): Tensor {
  return affine(sum(x, axes, keepDims), 1 / axes.reduce((n, axis) => n * x.shape[axis], 1));
}

/** Sums x down to `shape`, which broadcasts to x's: the gradient of a broadcast. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const missing = x.rank - shape.length;
  const axes = x.shape.map((_, i) => i).filter((i) => i < missing || (shape[i - missing] === 1 && x.shape[i] > 1));
  return reshape(axes.length ? sum(x, axes, true) : x, shape);
}
