/**
 * Every reference operation under one calling convention: named inputs and options in, one array out, gradients by
 * input name. A test of another implementation walks this table instead of knowing each signature.
 */
import { map, type NDArray, ndarray, reshape, scalar } from "../support/arrays.ts";
import * as attention from "./attention.ts";
import * as gemm from "./gemm.ts";
import * as losses from "./losses.ts";
import * as norms from "./norms.ts";
import * as pointwise from "./pointwise.ts";
import * as resample from "./resample.ts";
import * as reweighting from "./reweighting.ts";
import * as shape from "./shape.ts";
import * as softmax from "./softmax.ts";

/** Named inputs, channels last. */
export type Named = Record<string, NDArray>;

/** Options by the name that the operation's own file gives them. */
// deno-lint-ignore no-explicit-any -- each row knows its own options; the table cannot.
export type Options = any;

/** One operation. */
export interface Reference {
  /** input names in the order of the operation's own signature */
  inputs: readonly string[];
  forward(inputs: Named, options: Options): NDArray;
  /** gradients of the differentiable inputs, by name; none where nobody asks for them */
  backward?(dy: NDArray, inputs: Named, options: Options): Named;
}

type Unary = (x: NDArray) => NDArray;
type UnaryBackward = (dy: NDArray, x: NDArray) => NDArray;

/** A function of x alone. */
const one = (forward: Unary, backward: UnaryBackward): Reference => ({
  inputs: ["x"],
  forward: ({ x }) => forward(x),
  backward: (dy, { x }) => ({ x: backward(dy, x) }),
});

/** A function of x with options. */
const withOptions = (
  forward: (x: NDArray, options: Options) => NDArray,
  backward: (dy: NDArray, x: NDArray, options: Options) => NDArray,
): Reference => ({
  inputs: ["x"],
  forward: ({ x }, options) => forward(x, options),
  backward: (dy, { x }, options) => ({ x: backward(dy, x, options) }),
});

/** A broadcasting function of a and b. */
const two = (
  forward: (a: NDArray, b: NDArray) => NDArray,
  backward: (dy: NDArray, a: NDArray, b: NDArray) => { a: NDArray; b: NDArray },
): Reference => ({
  inputs: ["a", "b"],
  forward: ({ a, b }) => forward(a, b),
  backward: (dy, { a, b }) => backward(dy, a, b),
});

const p = pointwise, r = resample;

/** A convolution, and what is added to it and applied to it in one launch; without sums, a norm by given statistics. */
function fused({ x, w, b, time, residual, ...tables }: Named, { activation, eps, ...options }: Options): NDArray {
  const { gamma, beta, mean, variance } = tables, convolved = gemm.conv2dForward(x, w, b, options);
  const y = gamma
    ? norms.batchNormInferenceForward(convolved, gamma, beta, mean, variance, { eps })
    : [time, residual].reduce(p.addForward, convolved);
  return activation === "silu" ? p.siluForward(y) : p.reluForward(y);
}

/** Weights of distances by either form. */
function weights(distance: NDArray, mask: NDArray, { form, ...options }: Options): NDArray {
  return form === "official"
    ? reweighting.weightMapOfDistance(distance, mask, options.limits)
    : reweighting.paperWeightMap(distance, mask, options);
}

/** Operations by name. */
export const references: Record<string, Reference> = {
  linear: {
    inputs: ["x", "w", "b"],
    forward: ({ x, w, b }) => gemm.linearForward(x, w, b),
    backward: (dy, { x, w }) => gemm.linearBackward(dy, x, w),
  },
  matmul: {
    inputs: ["a", "b"],
    forward: ({ a, b }, o) => gemm.matmulForward(a, b, o),
    backward: (dy, { a, b }, o) => gemm.matmulBackward(dy, a, b, o),
  },
  conv2d: {
    inputs: ["x", "w", "b"],
    forward: ({ x, w, b }, o) => gemm.conv2dForward(x, w, b, o),
    backward: (dy, { x, w }, o) => gemm.conv2dBackward(dy, x, w, o),
  },
  fused: { inputs: ["x", "w", "b", "time", "residual", "gamma", "beta", "mean", "variance"], forward: fused },
  groupNorm: {
    inputs: ["x", "gamma", "beta"],
    forward: ({ x, gamma, beta }, o) => norms.groupNormForward(x, gamma, beta, o),
    backward: (dy, { x, gamma, beta }, o) => norms.groupNormBackward(dy, x, gamma, beta, o),
  },
  layerNorm: {
    inputs: ["x", "gamma", "beta"],
    forward: ({ x, gamma, beta }, o) => norms.layerNormForward(x, gamma, beta, o),
    backward: (dy, { x, gamma }, o) => norms.layerNormBackward(dy, x, gamma, o),
  },
  batchNorm: {
    inputs: ["x", "gamma", "beta"],
    forward: ({ x, gamma, beta }, o) => norms.batchNormForward(x, gamma, beta, o).y,
    backward: (dy, { x, gamma }, o) => norms.batchNormBackward(dy, x, gamma, o),
  },
  batchNormInference: {
    inputs: ["x", "gamma", "beta", "mean", "variance"],
    forward: (i, o) => norms.batchNormInferenceForward(i.x, i.gamma, i.beta, i.mean, i.variance, o),
    backward: (dy, i, o) => norms.batchNormInferenceBackward(dy, i.x, i.gamma, i.mean, i.variance, o),
  },
  attention: {
    inputs: ["q", "k", "v"],
    forward: ({ q, k, v }, o) => attention.attentionForward(q, k, v, o).o,
    backward: (dy, { q, k, v }, o) => attention.attentionBackward(dy, q, k, v, o),
  },
  crossAttention: {
    inputs: ["q", "k", "v", "map", "columns"],
    forward: (i, o) => attention.crossAttentionForward(i.q, i.k, i.v, o, i.map, i.columns),
    backward: (dy, i, o) => attention.crossAttentionBackward(dy, i.q, i.k, i.v, o, i.map, i.columns),
  },
  softmax: one(softmax.softmaxForward, softmax.softmaxBackward),
  logSoftmax: one(softmax.logSoftmaxForward, softmax.logSoftmaxBackward),
  silu: one(p.siluForward, p.siluBackward),
  gelu: one(p.geluForward, p.geluBackward),
  relu: one(p.reluForward, p.reluBackward),
  sigmoid: one(p.sigmoidForward, p.sigmoidBackward),
  tanh: one(p.tanhForward, p.tanhBackward),
  exp: one(p.expForward, p.expBackward),
  log: one(p.logForward, p.logBackward),
  sqrt: one(p.sqrtForward, p.sqrtBackward),
  rsqrt: one(p.rsqrtForward, p.rsqrtBackward),
  square: one(p.squareForward, p.squareBackward),
  negate: one(p.negateForward, p.negateBackward),
  abs: one(p.absForward, p.absBackward),
  erf: one(p.erfForward, p.erfBackward),
  affine: { inputs: ["x"], forward: ({ x }, { scale, shift }) => map(x, (value) => scale * value + shift) },
  geglu: one(p.gegluForward, p.gegluBackward),
  leakyRelu: withOptions(
    (x, { slope }) => p.leakyReluForward(x, slope),
    (dy, x, { slope }) => p.leakyReluBackward(dy, x, slope),
  ),
  clamp: withOptions(
    (x, { lo, hi }) => p.clampForward(x, lo, hi),
    (dy, x, { lo, hi }) => p.clampBackward(dy, x, lo, hi),
  ),
  prelu: {
    inputs: ["x", "slope"],
    forward: ({ x, slope }) => p.preluForward(x, slope),
    backward: (dy, { x, slope }) => p.preluBackward(dy, x, slope),
  },
  add: two(p.addForward, p.addBackward),
  sub: two(p.subForward, p.subBackward),
  mul: two(p.mulForward, p.mulBackward),
  div: two(p.divForward, p.divBackward),
  maximum: two(p.maximumForward, p.maximumBackward),
  minimum: two(p.minimumForward, p.minimumBackward),
  sum: withOptions(
    (x, { axes, keepDims }) => p.sumForward(x, axes, keepDims),
    (dy, x, { axes }) => p.sumBackward(dy, x, axes),
  ),
  mean: withOptions(
    (x, { axes, keepDims }) => p.meanForward(x, axes, keepDims),
    (dy, x, { axes }) => p.meanBackward(dy, x, axes),
  ),
  globalNorm: {
    inputs: ["a", "b"],
    forward: ({ a, b }) => scalar(Math.hypot(...a.data, ...b.data)),
  },
  broadcastTo: { inputs: ["x"], forward: ({ x }, { shape }) => p.addForward(x, ndarray(shape)) },
  resizeNearest: withOptions(r.resizeNearestForward, r.resizeNearestBackward),
  resizeBilinear: withOptions(r.resizeBilinearForward, r.resizeBilinearBackward),
  maxPool: withOptions(r.maxPoolForward, r.maxPoolBackward),
  averagePool: withOptions(r.averagePoolForward, r.averagePoolBackward),
  pixelUnshuffle: withOptions(
    (x, { factor }) => r.pixelUnshuffleForward(x, factor),
    (dy, _, { factor }) => r.pixelUnshuffleBackward(dy, factor),
  ),
  pixelShuffle: withOptions(
    (x, { factor }) => r.pixelShuffleForward(x, factor),
    (dy, _, { factor }) => r.pixelShuffleBackward(dy, factor),
  ),
  concat: {
    inputs: ["a", "b"],
    forward: ({ a, b }, { axis }) => shape.concatForward([a, b], axis),
    backward: (dy, { a, b }, { axis }) => {
      const [da, db] = shape.concatBackward(dy, [a, b], axis);
      return { a: da, b: db };
    },
  },
  slice: withOptions(shape.sliceForward, shape.sliceBackward),
  pad: withOptions(shape.padForward, shape.padBackward),
  permute: withOptions(
    (x, { axes }) => shape.permuteForward(x, axes),
    (dy, _, { axes }) => shape.permuteBackward(dy, axes),
  ),
  embedding: {
    inputs: ["table", "ids"],
    forward: ({ table, ids }) => shape.gatherForward(table, ids),
    backward: (dy, { table, ids }) => ({ table: shape.gatherBackward(dy, table, ids) }),
  },
  gatherRows: {
    inputs: ["x", "ids"],
    forward: ({ x, ids }) => {
      const [B, N, D] = x.shape, picks = ids.shape[1];
      return shape.gatherForward(reshape(x, [B * N, D]), map(ids, (id, i) => id + N * Math.floor(i / picks)));
    },
  },
  maskedMse: {
    inputs: ["a", "b", "mask"],
    forward: ({ a, b, mask }, o) => losses.maskedMseForward(a, b, mask, o),
    backward: (dy, { a, b, mask }, o) => losses.maskedMseBackward(dy, a, b, mask, o),
  },
  focalLoss: {
    inputs: ["logits", "labels"],
    forward: ({ logits, labels }, o) => losses.focalLossForward(logits, labels, o),
    backward: (dy, { logits, labels }, o) => ({ logits: losses.focalLossBackward(dy, logits, labels, o) }),
  },
  crossEntropy: {
    inputs: ["logits", "labels"],
    forward: ({ logits, labels }) => losses.crossEntropyForward(logits, labels),
    backward: (dy, { logits, labels }) => ({ logits: losses.crossEntropyBackward(dy, logits, labels) }),
  },
  l1: two(losses.l1Forward, losses.l1Backward),
  mse: two(losses.mseForward, losses.mseBackward),
  klGaussian: {
    inputs: ["moments"],
    forward: ({ moments }) => losses.klGaussianForward(moments),
    backward: (dy, { moments }) => ({ moments: losses.klGaussianBackward(dy, moments) }),
  },
  sampleGaussian: {
    inputs: ["moments", "noise"],
    forward: ({ moments, noise }) => losses.sampleGaussianForward(moments, noise),
    backward: (dy, { moments, noise }) => ({ moments: losses.sampleGaussianBackward(dy, moments, noise) }),
  },
  dilate: { inputs: ["mask"], forward: ({ mask }, { half }) => reweighting.dilateMask(mask, half) },
  distanceWeights: {
    inputs: ["distance", "mask"],
    forward: ({ distance, mask }, options) => weights(distance, mask, options),
  },
  reweightingMap: {
    inputs: ["x", "z0", "mask"],
    forward: ({ x, z0, mask }, options) => weights(reweighting.maskedDistance(x, z0, mask), mask, options),
  },
};
