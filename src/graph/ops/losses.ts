/**
 * Losses, each a tensor of shape [1], and the diagonal Gaussian of a variational autoencoder (Kingma & Welling 2013).
 * The masked error is AnomalyDiffusion's eq. 4; the focal loss is Lin et al. 2017 with DRAEM's label smoothing.
 */

import gaussianSource from "../../../shaders/gaussian.wgsl" with { type: "text" };
import source from "../../../shaders/losses.wgsl" with { type: "text" };
import { apply, defineOp, f32, float, grid, kernel, type Lowering, require } from "../op.ts";
import { sameShape, type Tensor } from "../tensor.ts";
import { constant, filled } from "../variable.ts";
import { abs, affine, div, maximum, mul, square, sub } from "./pointwise.ts";
import { mean, sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

const one = (x: Tensor) => reshape(x, [1]);

function alike(op: string, a: Tensor, b: Tensor): void {
  require(sameShape(a.shape, b.shape), op, "shapes differ", [a, b]);
}

/** Mean of (a − b)² over all elements; a and b of one shape. */
export function mse(a: Tensor, b: Tensor): Tensor {
  alike("mse", a, b);
  return one(mean(square(sub(a, b))));
}

/** Mean of |a − b| over all elements; a and b of one shape. The gradient is 0 where they are equal. */
export function l1(a: Tensor, b: Tensor): Tensor {
  alike("l1", a, b);
  return one(mean(abs(sub(a, b))));
}

/** Options of {@linkcode maskedMse}. */
export interface MaskedMseOptions {
  /**
   * Divide each image's sum by C times its mask's area, then average the images, so that a small defect weighs as much as a
   * large one. The default divides by all elements, as the paper's code does.
   */
  readonly area?: boolean;
}

/**
 * Mean of (m · (prediction − target))²: the error inside the mask.
 * @param prediction [B, H, W, C]
 * @param target [B, H, W, C]
 * @param mask [B, H, W, 1], in [0, 1], or roots of weights where nothing is divided by its area; an image with an empty mask adds nothing
 * @returns [1]
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { maskedMse } from "./losses.ts";
 * const eps = input("eps", [2, 32, 32, 4]), noise = input("noise", [2, 32, 32, 4]);
 * const loss = maskedMse(eps, noise, input("mask", [2, 32, 32, 1]));
 * if (loss.size !== 1) throw new Error(`${loss}`);
 * ```
 */
export function maskedMse(prediction: Tensor, target: Tensor, mask: Tensor, options: MaskedMseOptions = {}): Tensor {
  alike("maskedMse", prediction, target);
  const [images, , , channels] = prediction.shape;
  require(
    prediction.rank === 4 && sameShape(mask.shape, [...prediction.shape.slice(0, 3), 1]),
    "maskedMse",
    "needs [B, H, W, C] twice and a mask [B, H, W, 1]",
    [prediction, target, mask],
  );
  const squares = square(mul(sub(prediction, target), mask));
  if (!options.area) return one(mean(squares));
  // An empty mask's sum is 0: what it is divided by only has to be positive.
  const area = maximum(sum(mask, [1, 2, 3]), filled([1], 1e-12));
  return one(sum(div(sum(squares, [1, 2, 3]), affine(area, images * channels))));
}

interface RowLoss {
  readonly focal: boolean;
  readonly gamma: number;
  readonly smooth: number;
}

const rowKernels = [0, 1].map((backward) =>
  kernel("losses", source, [...Array(3 + backward).fill("read"), "read_write"])
);

function lowerRowLoss(lowering: Lowering<RowLoss>, backward: boolean): void {
  const { node, attributes: { focal, gamma, smooth }, inputs, outputs, launch } = lowering;
  const { shape, size } = node.inputs[0], channels = shape.at(-1)!, rows = size / channels;
  launch({
    kernel: rowKernels[backward ? 1 : 0],
    defines: { FOCAL: focal, BACKWARD: backward },
    buffers: [...inputs, ...outputs],
    uniforms: [rows, channels, float(1 / rows), float(gamma), float(smooth)],
    workgroups: grid(rows),
    flops: 6 * size,
  });
}

/** Loss of each row over the number of rows, [rows]. */
const rowLossOp = defineOp<RowLoss>({
  name: "rowLoss",
  shape(inputs, { focal }) {
    const [logits, labels, alpha] = inputs, name = focal ? "focalLoss" : "crossEntropy";
    require(logits.dtype === "f32" && labels.dtype === "u32", name, "needs f32 logits and u32 labels", inputs);
    require(sameShape(labels.shape, logits.shape.slice(0, -1)), name, "needs a label per row of logits", inputs);
    require(alpha.size === logits.shape.at(-1), name, "needs a weight per class", inputs);
    return [f32([labels.size])];
  },
  // Every row's gradient is the same number, because what is returned is their sum.
  gradient: ({ inputs, attributes, grads }) => [
    () => apply(rowLossInputOp, [...inputs, grads[0]!], attributes)[0],
  ],
  lower: (lowering) => lowerRowLoss(lowering, false),
});

const rowLossInputOp = defineOp<RowLoss>({
  name: "rowLossInput",
  shape: ([logits]) => [f32(logits.shape)],
  lower: (lowering) => lowerRowLoss(lowering, true),
});

/**
 * Mean over the rows of −log softmax(logits)[label].
 * @param logits [..., C], f32
 * @param labels [...], u32, each below C
 * @returns [1]
 */
export function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const weights = filled([logits.shape.at(-1)!], 1);
  return one(sum(apply(rowLossOp, [logits, labels, weights], { focal: false, gamma: 0, smooth: 0 })[0]));
}

/** Options of {@linkcode focalLoss}. */
export interface FocalOptions {
  /** Exponent of (1 − p), an even whole number; default 2. */
  readonly gamma?: number;
  /** Weight of each class, [C]; default ones. */
  readonly alpha?: readonly number[];
  /** How far the one-hot target is pulled from 0 and 1; default 1e-5. */
  readonly smooth?: number;
}

/**
 * Mean of −α·(1 − p)^γ·ln p, where p is the probability of the (smoothed) label plus the smoothing.
 * @param logits [..., C], f32, C ≥ 2
 * @param labels [...], u32, each below C
 * @returns [1]
 */
export function focalLoss(logits: Tensor, labels: Tensor, options: FocalOptions = {}): Tensor {
  const { gamma = 2, alpha, smooth = 1e-5 } = options, classes = logits.shape.at(-1)!;
  require(classes > 1, "focalLoss", "needs two classes or more", [logits, labels]);
  // 1 − p is below 0 by up to `smooth`: of an odd power the sign would change, of a fraction there is none.
  require(gamma >= 0 && gamma % 2 === 0, "focalLoss", `needs an even whole gamma, not ${gamma}`, [logits, labels]);
  const weights = alpha ? constant(Float32Array.from(alpha)) : filled([classes], 1);
  return one(sum(apply(rowLossOp, [logits, labels, weights], { focal: true, gamma, smooth })[0]));
}

const gaussianKernels = [["read", "read"], ["read", "read", "read"], ["read"], ["read", "read"]].map((reads) =>
  kernel("gaussian", gaussianSource, [...reads as "read"[], "read_write"])
);

function lowerGaussian({ node, inputs, outputs, launch }: Lowering<null>, kind: 0 | 1 | 2 | 3): void {
  const moments = node.inputs[0], count = moments.size / 2;
  launch({
    kernel: gaussianKernels[kind],
    defines: { KIND: kind },
    buffers: [...inputs, ...outputs],
    uniforms: [count, moments.shape.at(-1)! / 2, float(1 / moments.shape[0])],
    workgroups: grid(count),
    flops: 5 * count,
  });
}

/** Shape of the mean alone. */
function meanShape(op: string, inputs: readonly Tensor[]): number[] {
  const [moments] = inputs, channels = moments.shape.at(-1)!;
  require(channels % 2 === 0 && inputs.every((t) => t.dtype === "f32"), op, "needs moments [..., 2C] f32", inputs);
  return [...moments.shape.slice(0, -1), channels / 2];
}

const sampleOp = defineOp<null>({
  name: "sampleGaussian",
  shape(inputs) {
    const shape = meanShape("sampleGaussian", inputs);
    require(sameShape(inputs[1].shape, shape), "sampleGaussian", `needs noise [${shape}]`, inputs);
    return [f32(shape)];
  },
  gradient: ({ inputs: [moments, noise], grads: [dy] }) => [
    () => apply(sampleMomentsOp, [moments, noise, dy!], null)[0],
  ],
  lower: (lowering) => lowerGaussian(lowering, 0),
});

const sampleMomentsOp = defineOp<null>({
  name: "sampleGaussianMoments",
  shape: ([moments]) => [f32(moments.shape)],
  lower: (lowering) => lowerGaussian(lowering, 1),
});

/**
 * A draw from the Gaussian: mean + e^(½·logvar) · noise, with logvar clamped to [−30, 20].
 * @param moments [..., 2C]: mean, then log variance
 * @param noise [..., C], standard normal; gets no gradient
 * @returns [..., C]
 */
export function sampleGaussian(moments: Tensor, noise: Tensor): Tensor {
  return apply(sampleOp, [moments, noise], null)[0];
}

const klOp = defineOp<null>({
  name: "klGaussian",
  shape: (inputs) => [f32(meanShape("klGaussian", inputs))],
  gradient: ({ inputs: [moments], grads: [dy] }) => [() => apply(klMomentsOp, [moments, dy!], null)[0]],
  lower: (lowering) => lowerGaussian(lowering, 2),
});

const klMomentsOp = defineOp<null>({
  name: "klGaussianMoments",
  shape: ([moments]) => [f32(moments.shape)],
  lower: (lowering) => lowerGaussian(lowering, 3),
});

/**
 * Divergence of the Gaussian from the standard one, ½·Σ(mean² + e^logvar − 1 − logvar), averaged over the batch.
 * @param moments [B, ..., 2C]: mean, then log variance, which is clamped to [−30, 20]
 * @returns [1]
 */
export function klGaussian(moments: Tensor): Tensor {
  return one(sum(apply(klOp, [moments], null)[0]));
}
