/**
 * Normalisations in float64: group (Wu & He 2018), layer (Ba et al. 2016) and batch (Ioffe & Szegedy 2015).
 * All are one idea: subtract a set's mean, divide by √(variance + ε) with the biased variance, then scale and shift by
 * channel. They differ in which elements form a set.
 */
import { map, type NDArray, ndarray } from "../support/arrays.ts";
import { siluBackward, siluForward } from "./pointwise.ts";

/** Gradients of a normalisation. */
export type NormGradients = { x: NDArray; gamma: NDArray; beta: NDArray };

/** Mean and biased variance of each set; `setOf` names the set of a flat element, `sets` says how many there are. */
function moments(x: NDArray, sets: number, setOf: (flat: number) => number) {
  const mean = new Float64Array(sets), variance = new Float64Array(sets), count = x.data.length / sets;
  x.data.forEach((value, i) => mean[setOf(i)] += value / count);
  x.data.forEach((value, i) => variance[setOf(i)] += (value - mean[setOf(i)]) ** 2 / count);
  return { mean, variance, count };
}

function normalise(
  x: NDArray,
  gamma: NDArray,
  beta: NDArray,
  eps: number,
  sets: number,
  setOf: (flat: number) => number,
): NDArray {
  const C = gamma.data.length;
  const { mean, variance } = moments(x, sets, setOf);
  return map(x, (value, i) => {
    const s = setOf(i);
    return (value - mean[s]) / Math.sqrt(variance[s] + eps) * gamma.data[i % C] + beta.data[i % C];
  });
}

/** With x̂ the normalised input and g = dy·γ: dx = (g − mean(g) − x̂·mean(g·x̂)) ∕ √(variance + ε), means over the set. */
function normaliseBackward(
  dy: NDArray,
  x: NDArray,
  gamma: NDArray,
  eps: number,
  sets: number,
  setOf: (flat: number) => number,
): NormGradients {
  const C = gamma.data.length;
  const { mean, variance, count } = moments(x, sets, setOf);
  const hat = map(x, (value, i) => (value - mean[setOf(i)]) / Math.sqrt(variance[setOf(i)] + eps));
  const dGamma = ndarray([C]), dBeta = ndarray([C]);
  const meanG = new Float64Array(sets), meanGHat = new Float64Array(sets);
  dy.data.forEach((d, i) => {
    const g = d * gamma.data[i % C];
    dGamma.data[i % C] += d * hat.data[i];
    dBeta.data[i % C] += d;
    meanG[setOf(i)] += g / count;
    meanGHat[setOf(i)] += g * hat.data[i] / count;
  });
  const dx = map(dy, (d, i) => {
    const s = setOf(i);
    return (d * gamma.data[i % C] - meanG[s] - hat.data[i] * meanGHat[s]) / Math.sqrt(variance[s] + eps);
  });
  return { x: dx, gamma: dGamma, beta: dBeta };
}

/** Options of group normalisation; `activation: "silu"` applies SiLU to the result, as the U-Net's blocks do. */
export interface GroupNormOptions {
  groups: number;
  eps: number;
  activation?: "silu";
}

/** The set of a flat element of x [B, ..., C]: its image and its group of C ∕ groups neighbouring channels. */
function groupSets(x: NDArray, groups: number): { sets: number; setOf: (flat: number) => number } {
  const B = x.shape[0], C = x.shape.at(-1)!, perImage = x.data.length / B;
  if (C % groups !== 0) throw new Error(`groupNorm: ${C} channels do not divide into ${groups} groups`);
  return {
    sets: B * groups,
    setOf: (flat) => Math.floor(flat / perImage) * groups + Math.floor((flat % C) / (C / groups)),
  };
}

/** x [B, ..., C], gamma [C], beta [C] → [B, ..., C]. */
export function groupNormForward(x: NDArray, gamma: NDArray, beta: NDArray, options: GroupNormOptions): NDArray {
  const { sets, setOf } = groupSets(x, options.groups);
  const y = normalise(x, gamma, beta, options.eps, sets, setOf);
  return options.activation === "silu" ? siluForward(y) : y;
}

/** Gradients of {@link groupNormForward}, through the activation where there is one. */
export function groupNormBackward(
  dy: NDArray,
  x: NDArray,
  gamma: NDArray,
  beta: NDArray,
  options: GroupNormOptions,
): NormGradients {
  const { sets, setOf } = groupSets(x, options.groups);
  if (options.activation === "silu") dy = siluBackward(dy, normalise(x, gamma, beta, options.eps, sets, setOf));
  return normaliseBackward(dy, x, gamma, options.eps, sets, setOf);
}

/** Normalises each row of the last axis.  x [..., C], gamma [C], beta [C] → [..., C]. */
export function layerNormForward(x: NDArray, gamma: NDArray, beta: NDArray, { eps }: { eps: number }): NDArray {
  const C = x.shape.at(-1)!;
  return normalise(x, gamma, beta, eps, x.data.length / C, (flat) => Math.floor(flat / C));
}

/** Gradients of {@link layerNormForward}. */
export function layerNormBackward(dy: NDArray, x: NDArray, gamma: NDArray, { eps }: { eps: number }): NormGradients {
  const C = x.shape.at(-1)!;
  return normaliseBackward(dy, x, gamma, eps, x.data.length / C, (flat) => Math.floor(flat / C));
}

/**
 * Normalises each channel over all other axes, as in training.
 * x [..., C], gamma [C], beta [C] → y [..., C] with the batch's mean [C] and biased variance [C].
 */
export function batchNormForward(
  x: NDArray,
  gamma: NDArray,
  beta: NDArray,
  { eps }: { eps: number },
): { y: NDArray; mean: NDArray; variance: NDArray } {
  const C = x.shape.at(-1)!, channel = (flat: number) => flat % C;
  const { mean, variance } = moments(x, C, channel);
  return {
    y: normalise(x, gamma, beta, eps, C, channel),
    mean: ndarray([C], mean),
    variance: ndarray([C], variance),
  };
}

/** Gradients of y of {@link batchNormForward}, through the batch's statistics. */
export function batchNormBackward(dy: NDArray, x: NDArray, gamma: NDArray, { eps }: { eps: number }): NormGradients {
  const C = x.shape.at(-1)!;
  return normaliseBackward(dy, x, gamma, eps, C, (flat) => flat % C);
}

/**
 * Running statistics after one batch, as PyTorch keeps them: (1 − momentum)·running + momentum·batch, where the batch's
 * variance is the unbiased one, count ∕ (count − 1) times the biased.
 */
export function batchNormRunning(
  running: { mean: NDArray; variance: NDArray },
  batch: { mean: NDArray; variance: NDArray },
  { count, momentum = 0.1 }: { count: number; momentum?: number },
): { mean: NDArray; variance: NDArray } {
  const bessel = count / (count - 1);
  return {
    mean: map(running.mean, (value, i) => (1 - momentum) * value + momentum * batch.mean.data[i]),
    variance: map(running.variance, (value, i) => (1 - momentum) * value + momentum * bessel * batch.variance.data[i]),
  };
}

/** Normalises by given statistics.  x [..., C]; gamma, beta, mean, variance [C] → [..., C]. */
export function batchNormInferenceForward(
  x: NDArray,
  gamma: NDArray,
  beta: NDArray,
  mean: NDArray,
  variance: NDArray,
  { eps }: { eps: number },
): NDArray {
  const C = x.shape.at(-1)!;
  return map(x, (value, i) => {
    const c = i % C;
    return (value - mean.data[c]) / Math.sqrt(variance.data[c] + eps) * gamma.data[c] + beta.data[c];
  });
}

/** Gradients of {@link batchNormInferenceForward}; mean and variance are constants. */
export function batchNormInferenceBackward(
  dy: NDArray,
  x: NDArray,
  gamma: NDArray,
  mean: NDArray,
  variance: NDArray,
  { eps }: { eps: number },
): NormGradients {
  const C = x.shape.at(-1)!, dGamma = ndarray([C]), dBeta = ndarray([C]);
  const dx = map(dy, (d, i) => {
    const c = i % C, inverse = 1 / Math.sqrt(variance.data[c] + eps);
    dGamma.data[c] += d * (x.data[i] - mean.data[c]) * inverse;
    dBeta.data[c] += d;
    return d * gamma.data[c] * inverse;
  });
  return { x: dx, gamma: dGamma, beta: dBeta };
}
