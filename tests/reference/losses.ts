/**
 * Losses in float64. Each forward returns a scalar (shape []); each backward takes dy of that shape.
 */
import { broadcastIndex, map, type NDArray, ndarray, scalar } from "../support/arrays.ts";
import { logSoftmaxForward, softmaxBackward, softmaxForward } from "./softmax.ts";

/** Options of {@link maskedMseForward}. */
export interface MaskedMseOptions {
  /** divide each sample by its mask's area instead of by all of its pixels */
  area?: boolean;
}

/** Per element: the mask's value, and what the squared difference is divided by. */
function masked(a: NDArray, mask: NDArray, { area = false }: MaskedMseOptions) {
  const B = a.shape[0], C = a.shape.at(-1)!, perSample = a.data.length / B, perMask = mask.data.length / B;
  const at = broadcastIndex(mask.shape, a.shape);
  const areas = Array.from(
    { length: B },
    (_, b) => mask.data.subarray(b * perMask, (b + 1) * perMask).reduce((s, m) => s + m, 0),
  );
  return (i: number) => {
    const total = areas[Math.floor(i / perSample)];
    if (!area) return { m: mask.data[at[i]], divisor: a.data.length };
    return { m: mask.data[at[i]], divisor: total > 0 ? B * C * total : Infinity };
  };
}

/**
 * Masked mean squared error (AnomalyDiffusion eq. 4 as its code computes it).
 * a, b [B, H, W, C], mask [B, H, W, 1] → the mean over ALL elements of (m·(a − b))². With `area` each sample's sum is
 * divided by C·Σm instead, and the samples are averaged; a sample with an empty mask counts as 0 in both.
 */
export function maskedMseForward(a: NDArray, b: NDArray, mask: NDArray, options: MaskedMseOptions = {}): NDArray {
  const of = masked(a, mask, options);
  return scalar(a.data.reduce((sum, value, i) => {
    const { m, divisor } = of(i);
    return sum + (m * (value - b.data[i])) ** 2 / divisor;
  }, 0));
}

/** Gradients of {@link maskedMseForward}: 2·m²·(a − b) ∕ divisor, and its negative. */
export function maskedMseBackward(
  dy: NDArray,
  a: NDArray,
  b: NDArray,
  mask: NDArray,
  options: MaskedMseOptions = {},
): { a: NDArray; b: NDArray } {
  const of = masked(a, mask, options);
  const da = map(a, (value, i) => {
    const { m, divisor } = of(i);
    return dy.data[0] * 2 * m * m * (value - b.data[i]) / divisor;
  });
  return { a: da, b: map(da, (value) => -value) };
}

/** Options of the focal loss; the defaults are those of the localisation network. */
export interface FocalOptions {
  gamma?: number;
  smooth?: number;
}

/**
 * Focal loss (Lin et al. 2017) with label smoothing, as DRAEM's localisation network uses it: t is the one-hot label
 * clamped to [smooth ∕ (C − 1), 1 − smooth], p = Σ t·softmax(logits) + smooth, loss = mean of −(1 − p)^γ·ln p.
 * p may exceed 1 by `smooth`, so γ is meant to be an even integer.
 * logits [..., C], labels [...] integers in [0, C) → [].
 */
export function focalLossForward(logits: NDArray, labels: NDArray, options: FocalOptions = {}): NDArray {
  const { gamma = 2 } = options, p = smoothed(logits, labels, options).p;
  return scalar(p.reduce((sum, value) => sum - (1 - value) ** gamma * Math.log(value), 0) / p.length);
}

/** p per pixel, and the target t of class c of pixel i. */
function smoothed(logits: NDArray, labels: NDArray, { smooth = 1e-5 }: FocalOptions) {
  const C = logits.shape.at(-1)!, softmax = softmaxForward(logits);
  const target = (pixel: number, c: number) => labels.data[pixel] === c ? 1 - smooth : smooth / (C - 1);
  const p = new Float64Array(labels.data.length).fill(smooth);
  softmax.data.forEach((value, i) => p[Math.floor(i / C)] += target(Math.floor(i / C), i % C) * value);
  return { p, target };
}

/** Gradient of {@link focalLossForward} for the logits. */
export function focalLossBackward(
  dy: NDArray,
  logits: NDArray,
  labels: NDArray,
  options: FocalOptions = {},
): NDArray {
  const { gamma = 2 } = options, C = logits.shape.at(-1)!;
  const { p, target } = smoothed(logits, labels, options);
  const dSoftmax = map(logits, (_, i) => {
    const pixel = Math.floor(i / C), value = p[pixel];
    const dp = gamma * (1 - value) ** (gamma - 1) * Math.log(value) - (1 - value) ** gamma / value;
    return dy.data[0] / p.length * dp * target(pixel, i % C);
  });
  return softmaxBackward(dSoftmax, logits);
}

/** Mean over the rows of −log softmax(logits)[label].  logits [B, C], labels [B] integers in [0, C) → []. */
export function crossEntropyForward(logits: NDArray, labels: NDArray): NDArray {
  const C = logits.shape.at(-1)!, logs = logSoftmaxForward(logits);
  const sum = labels.data.reduce((total, label, row) => total - logs.data[row * C + label], 0);
  return scalar(sum / labels.data.length);
}

/** Gradient of {@link crossEntropyForward} for the logits: (softmax − one-hot) ∕ B. */
export function crossEntropyBackward(dy: NDArray, logits: NDArray, labels: NDArray): NDArray {
  const C = logits.shape.at(-1)!, scale = dy.data[0] / labels.data.length;
  return map(
    softmaxForward(logits),
    (value, i) => scale * (value - (labels.data[Math.floor(i / C)] === i % C ? 1 : 0)),
  );
}

/** Mean of (a − b)² over all elements. */
export function mseForward(a: NDArray, b: NDArray): NDArray {
  return scalar(a.data.reduce((sum, value, i) => sum + (value - b.data[i]) ** 2, 0) / a.data.length);
}

/** Gradients of {@link mseForward}. */
export function mseBackward(dy: NDArray, a: NDArray, b: NDArray): { a: NDArray; b: NDArray } {
  const da = map(a, (value, i) => 2 * dy.data[0] * (value - b.data[i]) / a.data.length);
  return { a: da, b: map(da, (value) => -value) };
}

/** Mean of |a − b| over all elements. */
export function l1Forward(a: NDArray, b: NDArray): NDArray {
  return scalar(a.data.reduce((sum, value, i) => sum + Math.abs(value - b.data[i]), 0) / a.data.length);
}

/** Gradients of {@link l1Forward}; 0 where a = b. */
export function l1Backward(dy: NDArray, a: NDArray, b: NDArray): { a: NDArray; b: NDArray } {
  const da = map(a, (value, i) => dy.data[0] * Math.sign(value - b.data[i]) / a.data.length);
  return { a: da, b: map(da, (value) => -value) };
}

/**
 * Divergence of a diagonal Gaussian from the standard one (Kingma & Welling 2013, app. B), summed over a sample and
 * averaged over the batch: ½·Σ(mean² + e^logvar − 1 − logvar) ∕ B, with logvar clamped to [−30, 20] first.
 * moments [B, ..., 2C] = mean ‖ logvar → [].
 */
export function klGaussianForward(moments: NDArray): NDArray {
  const C = moments.shape.at(-1)! / 2;
  let sum = 0;
  moments.data.forEach((value, i) => {
    if (i % (2 * C) < C) sum += value * value;
    else {
      const logvar = Math.min(Math.max(value, -30), 20);
      sum += Math.exp(logvar) - 1 - logvar;
    }
  });
  return scalar(0.5 * sum / moments.shape[0]);
}

/** Gradient of {@link klGaussianForward}; 0 where the clamp holds. */
export function klGaussianBackward(dy: NDArray, moments: NDArray): NDArray {
  const C = moments.shape.at(-1)! / 2, scale = dy.data[0] / moments.shape[0];
  return map(moments, (value, i) => {
    if (i % (2 * C) < C) return scale * value;
    return value >= -30 && value <= 20 ? scale * 0.5 * (Math.exp(value) - 1) : 0;
  });
}

/** A draw from the Gaussian: mean + e^(½·logvar)·noise.  moments [..., 2C], noise [..., C] → [..., C]. */
export function sampleGaussianForward(moments: NDArray, noise: NDArray): NDArray {
  const C = noise.shape.at(-1)!;
  return map(noise, (value, i) => {
    const mean = Math.floor(i / C) * 2 * C + i % C;
    const logvar = Math.min(Math.max(moments.data[mean + C], -30), 20);
    return moments.data[mean] + Math.exp(0.5 * logvar) * value;
  });
}

/** Gradient of {@link sampleGaussianForward} for the moments (the reparameterisation trick). */
export function sampleGaussianBackward(dy: NDArray, moments: NDArray, noise: NDArray): NDArray {
  const C = noise.shape.at(-1)!, dMoments = ndarray(moments.shape);
  dy.data.forEach((d, i) => {
    const mean = Math.floor(i / C) * 2 * C + i % C, logvar = moments.data[mean + C];
    dMoments.data[mean] = d;
    if (logvar >= -30 && logvar <= 20) dMoments.data[mean + C] = 0.5 * d * noise.data[i] * Math.exp(0.5 * logvar);
  });
  return dMoments;
}
