/** Every op that a graph can be made of. Each takes tensors and gives tensors; building runs nothing. */

export { attention, type AttentionOptions, crossAttention, type CrossAttentionOptions } from "./attention.ts";
export { embedding, gatherRows } from "./gather.ts";
export { geglu, prelu } from "./geglu.ts";
export { conv2d, type Conv2dOptions, linear, matmul, sumRows } from "./gemm.ts";
export {
  crossEntropy,
  focalLoss,
  type FocalOptions,
  klGaussian,
  l1,
  maskedMse,
  type MaskedMseOptions,
  mse,
  sampleGaussian,
} from "./losses.ts";
export {
  batchNorm,
  batchNormInference,
  type BatchNormOptions,
  type BatchNormResult,
  groupNorm,
  type GroupNormOptions,
  layerNorm,
  type NormActivation,
} from "./norms.ts";
export {
  adam,
  adamHyper,
  type AdamOptions,
  type AdamStep,
  adamW,
  assign,
  clipByGlobalNorm,
  ema,
  globalNorm,
  isFinite,
  nonFinite,
  scaleBy,
} from "./optimise.ts";
export {
  abs,
  add,
  affine,
  broadcastTo,
  clamp,
  div,
  exp,
  gelu,
  leakyRelu,
  log,
  maximum,
  minimum,
  mul,
  negate,
  relu,
  rsqrt,
  sigmoid,
  silu,
  sqrt,
  square,
  sub,
  tanh,
} from "./pointwise.ts";
export { mean, sum, sumTo } from "./reduce.ts";
export {
  averagePool,
  type BilinearOptions,
  maxPool,
  pixelShuffle,
  pixelUnshuffle,
  type PoolOptions,
  resizeBilinear,
  resizeNearest,
} from "./resample.ts";
export { dilate, distanceWeights, reweightingMap, type ReweightingOptions } from "./reweighting.ts";
export { concat, pad, permute, reshape, slice, transpose } from "./shape.ts";
export { logSoftmax, softmax } from "./softmax.ts";
