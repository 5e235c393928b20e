/**
 * Group normalisation (Wu & He 2018), batch normalisation (Ioffe & Szegedy 2015) and layer normalisation (Ba et al. 2016),
 * channels last. Group norm runs in three launches (moments of chunks of rows, joined by group, applied); batch norm is the
 * same with one image and a group per channel. The gradients keep x and the statistics and compute x̂ again.
 */

import functions from "../../../shaders/functions.wgsl" with { type: "text" };
import applySource from "../../../shaders/norm_apply.wgsl" with { type: "text" };
import columnsSource from "../../../shaders/norm_columns.wgsl" with { type: "text" };
import groupsSource from "../../../shaders/norm_groups.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/norm_rows.wgsl" with { type: "text" };
import { apply, defineOp, f32, float, grid, kernel, type Lowering, require, type Thunk, type Value } from "../op.ts";
import { type Shape, sizeOf, type Tensor } from "../tensor.ts";
import { sumRows } from "./gemm.ts";
import { affine, mul, rsqrt, sub } from "./pointwise.ts";

/** A function applied to the normalised result, in the same kernel. */
export type NormActivation = "silu" | "relu";

interface Norm {
  /** Groups per image; 0 stands for layer norm, whose statistics belong to rows. */
  readonly groups: number;
  readonly eps: number;
  readonly activation?: NormActivation;
  /** Batch norm: one image, a group per channel, and the moments as outputs. */
  readonly batch?: boolean;
}

const kernels = {
  moments: kernel("norm_columns", columnsSource, ["read", "read_write", "read_write"]),
  sums: kernel("norm_columns", columnsSource, [...Array(5).fill("read"), "read_write", "read_write"]),
  stats: kernel("norm_groups", groupsSource, ["read", "read", "read_write"]),
  batchStats: kernel("norm_groups", groupsSource, ["read", "read", ...Array(3).fill("read_write")]),
  means: kernel("norm_groups", groupsSource, ["read", "read", "read", "read_write"]),
  parameters: kernel("norm_groups", groupsSource, ["read", "read", "read_write", "read_write"]),
  apply: kernel("norm_apply", applySource, [...Array(4).fill("read"), "read_write"]),
  inference: kernel("norm_apply", applySource, [...Array(5).fill("read"), "read_write"]),
  input: kernel("norm_apply", applySource, [...Array(6).fill("read"), "read_write"]),
  rows: kernel("norm_rows", rowsSource, ["read", "read", "read", "read_write", "read_write"]),
  rowsInput: kernel("norm_rows", rowsSource, [...Array(4).fill("read"), "read_write"]),
};

/** How x is read: images × rows × channels, in lanes of four channels where they divide, in chunks of rows. */
interface Layout {
  readonly images: number;
  readonly rows: number;
  readonly channels: number;
  readonly lanes: number;
  readonly chunk: number;
  readonly splits: number;
}

/** Invocations to aim for in the passes over columns, and the fewest rows worth one. */
const INVOCATIONS = 16384, FEWEST_ROWS = 16;

/** Most rows of an invocation, which walks them twice: llvmpipe ends its loops after 65,535 turns in all, without a word. */
const MOST_ROWS = 16384;

function layoutOf(shape: Shape, perImage: boolean): Layout {
  const channels = shape.at(-1)!, images = perImage ? shape[0] : 1;
  const rows = sizeOf(shape) / channels / images;
  const lanes = channels % 4 === 0 ? channels / 4 : channels;
  const wanted = Math.max(1, Math.floor(INVOCATIONS / (images * lanes)));
  const chunk = Math.min(rows, MOST_ROWS, Math.max(FEWEST_ROWS, Math.ceil(rows / wanted)));
  return { images, rows, channels, lanes, chunk, splits: Math.ceil(rows / chunk) };
}

const layout = (x: Tensor, { groups, batch }: Norm) => layoutOf(x.shape, groups > 0 && !batch);

function definesOf({ channels, lanes }: Layout, activation?: NormActivation) {
  return {
    VECTOR: lanes < channels,
    SUFFIX: lanes < channels ? "4" : "",
    ACTIVATION: activation === "silu" ? 1 : activation === "relu" ? 2 : 0,
    FUNCTIONS: activation === "silu" ? functions : "",
  };
}

function launchColumns(
  { launch }: Pick<Lowering, "launch">,
  l: Layout,
  buffers: readonly Value[],
  options: { readonly activation?: NormActivation; readonly perRow?: boolean } = {},
): void {
  const sums = buffers.length > 3, count = l.images * l.splits * l.lanes;
  launch({
    kernel: sums ? kernels.sums : kernels.moments,
    defines: { ...definesOf(l, options.activation), SUMS: sums, PER_ROW: options.perRow ?? false },
    buffers,
    uniforms: [l.rows, l.lanes, l.chunk, l.splits, l.images],
    workgroups: grid(count),
    flops: (sums ? 6 : 4) * l.images * l.rows * l.channels,
  });
}

/** KIND of norm_groups.wgsl. */
enum Join {
  Stats,
  Means,
  Parameters,
}

function launchGroups(
  { launch }: Pick<Lowering, "launch">,
  l: Pick<Layout, "images" | "rows" | "channels" | "chunk" | "splits">,
  groups: number,
  join: Join,
  buffers: readonly Value[],
  eps = 0,
): void {
  const batch = join === Join.Stats && buffers.length > 3;
  launch({
    kernel: batch ? kernels.batchStats : [kernels.stats, kernels.means, kernels.parameters][join],
    defines: { KIND: join, BATCH: batch },
    buffers,
    uniforms: [l.images, groups, l.splits, l.channels / groups, l.rows, l.chunk, float(eps)],
    workgroups: grid(l.images * groups, 1),
  });
}

function checkAffine(op: string, inputs: readonly Tensor[]): void {
  const channels = inputs[0].shape.at(-1);
  const tables = inputs.slice(1).every((t) => t.rank === 1 && t.shape[0] === channels);
  require(inputs[0].rank > 0 && tables, op, "needs x [..., C] and tables of [C]", inputs);
  require(inputs.every((t) => t.dtype === "f32"), op, "needs f32", inputs);
}

/** Thunks of x, gamma and beta; what they share is made once, by the first that is called. */
function normGradient(norm: Norm, x: Tensor, gamma: Tensor, beta: Tensor, stats: Tensor, dy: Tensor): Thunk[] {
  let made: readonly Tensor[] | undefined, tables: readonly Tensor[] | undefined;
  const sums = () => made ??= apply(sumsOp, [x, dy, stats, gamma, beta], norm);
  const parameters = () => tables ??= apply(parametersOp, sums(), null);
  const input = norm.groups
    ? () => apply(inputOp, [x, gamma, beta, stats, dy, ...sums()], norm)[0]
    : () => apply(layerInputOp, [x, gamma, dy, stats], norm)[0];
  return [input, () => parameters()[1], () => parameters()[0]];
}

const normOp = defineOp<Norm>({
  name: "norm",
  shape(inputs, { groups, batch }) {
    const [x] = inputs, channels = x.shape.at(-1)!;
    checkAffine(batch ? "batchNorm" : "groupNorm", inputs);
    require(
      Number.isInteger(groups) && groups > 0 && channels % groups === 0,
      "groupNorm",
      `${groups} groups do not divide the channels`,
      inputs,
    );
    const moments = batch ? [f32([channels]), f32([channels])] : [];
    return [f32(x.shape), f32([batch ? 1 : x.shape[0], 2, channels]), ...moments];
  },
  gradient({ inputs: [x, gamma, beta], outputs, attributes, grads }) {
    if (!grads[0] || grads.slice(1).some((g) => g)) {
      throw new Error("batchNorm: its mean and variance have no gradient");
    }
    return normGradient(attributes, x, gamma, beta, outputs[1], grads[0]);
  },
  lower(lowering) {
    const { node, attributes: norm, inputs: [x, gamma, beta], outputs: [y, stats, ...moments] } = lowering;
    const l = layout(node.inputs[0], norm), bytes = 4 * l.images * l.splits * l.channels;
    const first = lowering.scratch(bytes), second = lowering.scratch(bytes);
    launchColumns(lowering, l, [x, first, second]);
    launchGroups(lowering, l, norm.groups, Join.Stats, [first, second, stats, ...moments], norm.eps);
    launchApply(lowering, l, norm, 0, [x, gamma, beta, stats, y]);
  },
});

function launchApply(
  { launch }: Pick<Lowering, "launch">,
  l: Layout,
  { eps, activation }: Pick<Norm, "eps" | "activation">,
  kind: 0 | 1 | 2,
  buffers: readonly Value[],
): void {
  const count = l.images * l.rows * l.lanes;
  launch({
    kernel: [kernels.apply, kernels.inference, kernels.input][kind],
    defines: { ...definesOf(l, activation), KIND: kind },
    buffers,
    uniforms: [count, l.lanes, l.rows * l.lanes, float(eps)],
    workgroups: grid(count),
    flops: (kind === 2 ? 8 : 4) * l.images * l.rows * l.channels,
  });
}

/** Σd and Σd·x̂ of each chunk of rows, [images, splits, channels] each. */
const sumsOp = defineOp<Norm>({
  name: "normSums",
  shape([x], norm) {
    const { images, splits, channels } = layout(x, norm);
    return [f32([images, splits, channels]), f32([images, splits, channels])];
  },
  lower(lowering) {
    const { node, attributes: norm, inputs, outputs } = lowering;
    launchColumns(lowering, layout(node.inputs[0], norm), [...inputs, ...outputs], {
      activation: norm.activation,
      perRow: norm.groups === 0,
    });
  },
});

/** The gradients of beta and gamma, [C] each, from the sums. */
const parametersOp = defineOp<null>({
  name: "normParameters",
  shape: ([sums]) => [f32([sums.shape[2]]), f32([sums.shape[2]])],
  lower(lowering) {
    const [images, splits, channels] = lowering.node.inputs[0].shape;
    const l = { images: 1, rows: 1, channels, chunk: 1, splits: images * splits };
    launchGroups(lowering, l, channels, Join.Parameters, [...lowering.inputs, ...lowering.outputs]);
  },
});

/** dx of group and batch norm from x, gamma, beta, the statistics, dy and the sums. */
const inputOp = defineOp<Norm>({
  name: "normInput",
  shape: ([x]) => [f32(x.shape)],
  lower(lowering) {
    const { node, attributes: norm, inputs: [x, gamma, beta, stats, dy, first, second], outputs } = lowering;
    const l = layout(node.inputs[0], norm);
    const means = lowering.scratch(4 * 2 * l.images * l.channels);
    launchGroups(lowering, l, norm.groups, Join.Means, [first, second, gamma, means]);
    launchApply(lowering, l, norm, 2, [x, gamma, beta, stats, dy, means, outputs[0]]);
  },
});

/** Options of {@linkcode groupNorm}. */
export interface GroupNormOptions {
  /** How many groups of neighbouring channels; divides C. */
  readonly groups: number;
  /** Added to the variance. */
  readonly eps: number;
  /** Applied to the result without a pass of its own. */
  readonly activation?: NormActivation;
}

/**
 * Group normalisation: each group of channels of each image gets mean 0 and variance 1 (the biased one), then
 * γ·x̂ + β by channel and the activation.
 * @param x [B, ..., C], f32
 * @param gamma [C], f32
 * @param beta [C], f32
 * @returns [B, ..., C]
 * @throws ShapeError where the groups do not divide the channels
 * @example
 * ```ts
 * import { filled, input } from "../variable.ts";
 * import { groupNorm } from "./norms.ts";
 * const x = input("x", [2, 8, 8, 64]);
 * const y = groupNorm(x, filled([64], 1), filled([64], 0), { groups: 32, eps: 1e-5, activation: "silu" });
 * if (y.shape.join() !== "2,8,8,64") throw new Error(`${y}`);
 * ```
 */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: GroupNormOptions): Tensor {
  return apply(normOp, [x, gamma, beta], options)[0];
}

/** Options of the batch norms. */
export interface BatchNormOptions {
  /** Added to the variance. */
  readonly eps: number;
  /** Applied to the result without a pass of its own. */
  readonly activation?: NormActivation;
}

/** Results of {@linkcode batchNorm}. */
export interface BatchNormResult {
  /** [..., C] */
  readonly y: Tensor;
  /** Mean of each channel over the batch, [C]. */
  readonly mean: Tensor;
  /** Unbiased variance of each channel over the batch, [C]: what running statistics take in. */
  readonly variance: Tensor;
}

/**
 * Batch normalisation in training: each channel gets mean 0 and (biased) variance 1 over all other axes, then γ·x̂ + β and
 * the activation. The moments are results of their own and carry no gradient.
 * @param x [..., C], f32
 * @param gamma [C], f32
 * @param beta [C], f32
 */
export function batchNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: BatchNormOptions): BatchNormResult {
  const [y, , mean, variance] = apply(normOp, [x, gamma, beta], { ...options, groups: x.shape.at(-1)!, batch: true });
  return { y, mean, variance };
}

const inferenceOp = defineOp<BatchNormOptions>({
  name: "batchNormInference",
  shape(inputs) {
    checkAffine("batchNormInference", inputs);
    return [f32(inputs[0].shape)];
  },
  gradient({ inputs: [x, gamma, , mean, variance], attributes: { eps, activation }, grads: [dy] }) {
    if (activation) throw new Error("batchNormInference: its gradient is for the norm without an activation");
    const rstd = () => rsqrt(affine(variance, 1, eps));
    return [
      () => mul(dy!, mul(gamma, rstd())),
      () => mul(sumRows(mul(dy!, sub(x, mean))), rstd()),
      () => sumRows(dy!),
    ];
  },
  lower(lowering) {
    const l = layoutOf(lowering.node.inputs[0].shape, false);
    launchApply(lowering, l, lowering.attributes, 1, [...lowering.inputs, ...lowering.outputs]);
  },
});

/**
 * Batch normalisation by given statistics, which are constants to the gradient: γ·(x − mean) / √(variance + ε) + β.
 * @param x [..., C], f32
 * @param gamma [C]; beta, mean and variance too
 * @param options with an activation, the result has no gradient
 * @returns [..., C]
 */
export function batchNormInference(
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  mean: Tensor,
  variance: Tensor,
  options: BatchNormOptions,
): Tensor {
  return apply(inferenceOp, [x, gamma, beta, mean, variance], options)[0];
}

/** Rows that one workgroup of norm_rows.wgsl holds. */
const ROWS_PER_GROUP = 4;

function lowerRows(lowering: Lowering<Norm>, backward: boolean): void {
  const { channels, lanes, rows } = layout(lowering.node.inputs[0], lowering.attributes);
  lowering.launch({
    kernel: backward ? kernels.rowsInput : kernels.rows,
    defines: { VECTOR: lanes < channels, KIND: backward ? 1 : 0 },
    buffers: [...lowering.inputs, ...lowering.outputs],
    uniforms: [rows, lanes, channels, float(lowering.attributes.eps)],
    workgroups: grid(Math.ceil(rows / ROWS_PER_GROUP), 1),
    flops: (backward ? 12 : 8) * rows * channels,
  });
}

const layerOp = defineOp<Norm>({
  name: "layerNorm",
  shape(inputs) {
    const [x] = inputs;
    checkAffine("layerNorm", inputs);
    return [f32(x.shape), f32([x.size / x.shape.at(-1)!, 2])];
  },
  gradient: ({ inputs: [x, gamma, beta], outputs, attributes, grads }) =>
    normGradient(attributes, x, gamma, beta, outputs[1], grads[0]!),
  lower: (lowering) => lowerRows(lowering, false),
});

const layerInputOp = defineOp<Norm>({
  name: "layerNormInput",
  shape: ([x]) => [f32(x.shape)],
  lower: (lowering) => lowerRows(lowering, true),
});

/**
 * Layer normalisation: each row of the last axis gets mean 0 and (biased) variance 1, then γ·x̂ + β.
 * @param x [..., C], f32
 * @param gamma [C], f32
 * @param beta [C], f32
 * @returns [..., C]
 */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, { eps }: { readonly eps: number }): Tensor {
  return apply(layerOp, [x, gamma, beta], { groups: 0, eps })[0];
}
