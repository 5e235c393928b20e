/**
 * Group normalisation (Wu & He 2018), batch normalisation (Ioffe & Szegedy 2015) and layer normalisation (Ba et al. 2016),
 * channels last. Group norm runs in three launches (moments of chunks of rows, joined by group, applied); batch norm is the
 * same with one image and a group per channel. The gradients keep x and the statistics and compute x̂ again.
 */

import { apply, defineOp, f32, require, type Thunk } from "../op.ts";
import type { Tensor } from "../tensor.ts";
import { sumRows } from "./gemm.ts";
import {
  Join,
  launchApply,
  launchColumns,
  launchGroups,
  launchRows,
  layout,
  layoutOf,
  type Norm,
  type NormActivation,
} from "./norm_launches.ts";
import { affine, mul, rsqrt, sub } from "./pointwise.ts";

export type { NormActivation } from "./norm_launches.ts";

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

/** Attributes of a norm without an activation that a following one becomes part of. */
function withActivation<A extends { readonly activation?: NormActivation }>(
  attributes: A,
  name: string,
): A | undefined {
  const taken = !attributes.activation && (name === "silu" || name === "relu");
  return taken ? { ...attributes, activation: name } : undefined;
}

const normOp = defineOp<Norm>({
  name: "norm",
  withActivation,
  shape(inputs, { groups, batch }) {
    const [x] = inputs, channels = x.shape.at(-1)!;
    checkAffine(batch ? "batchNorm" : "groupNorm", inputs);
    require(batch || x.rank > 1, "groupNorm", "needs x [B, ..., C]", inputs);
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
  withActivation,
  asEpilogue: ([, gamma, beta, mean, variance], { eps, activation }) => ({
    norm: { mean, variance, gamma, beta },
    eps,
    activation,
  }),
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

const layerOp = defineOp<Norm>({
  name: "layerNorm",
  shape(inputs) {
    const [x] = inputs;
    checkAffine("layerNorm", inputs);
    return [f32(x.shape), f32([x.size / x.shape.at(-1)!, 2])];
  },
  gradient: ({ inputs: [x, gamma, beta], outputs, attributes, grads }) =>
    normGradient(attributes, x, gamma, beta, outputs[1], grads[0]!),
  lower: (lowering) => launchRows(lowering, false),
});

const layerInputOp = defineOp<Norm>({
  name: "layerNormInput",
  shape: ([x]) => [f32(x.shape)],
  lower: (lowering) => launchRows(lowering, true),
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
