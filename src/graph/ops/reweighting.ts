/**
 * Adaptive attention re-weighting (AnomalyDiffusion §3.3): the map that gives the parts of a mask that still look normal more
 * attention. The official code's form and the paper's eq. 7; none of these ops has a gradient.
 */

import source from "../../../shaders/reweighting.wgsl" with { type: "text" };
import type { Access } from "../../gpu/device.ts";
import { apply, defineOp, f32, float, grid, kernel, type Lowering, require, type Value } from "../op.ts";
import { sameShape, type Shape, type Tensor } from "../tensor.ts";
import { constant } from "../variable.ts";

// Kinds of reweighting.wgsl.
const DILATE = 0, DISTANCE = 1, OFFICIAL = 2, PAPER = 3;

const bindings: readonly Access[][] = [
  ["read", "read", "read_write"],
  ["read", "read", "read", "read_write"],
  ["read", "read", "read_write"],
  ["read", "read", "read_write"],
];
const kernels = bindings.map((own) => kernel("reweighting", source, own));

/** Largest weight where there is no limit: below f32's infinity, which WGSL need not keep. */
const UNLIMITED = 3e38;

interface Limits {
  readonly low: number;
  readonly high: number;
  readonly temperature: number;
}

function launchReweighting(
  { launch }: Pick<Lowering, "launch">,
  kind: number,
  buffers: readonly Value[],
  [images, height, width, channels]: Shape,
  { low, high, temperature }: Limits = { low: 0, high: 0, temperature: 1 },
): void {
  launch({
    kernel: kernels[kind],
    defines: { KIND: kind },
    buffers,
    uniforms: [images, height, width, channels, float(low), float(Math.min(high, UNLIMITED)), float(temperature)],
    workgroups: kind < OFFICIAL ? grid(images * height * width) : [images, 1, 1],
  });
}

function isMask(t: Tensor): boolean {
  return t.rank === 4 && t.shape[3] === 1 && t.dtype === "f32";
}

const dilateOp = defineOp<null>({
  name: "dilate",
  shape(inputs) {
    const [mask, half] = inputs;
    require(isMask(mask), "dilate", "needs a mask [B, h, w, 1]", inputs);
    require(half.dtype === "u32" && half.size === 1, "dilate", "needs one half-width of type u32", inputs);
    return [f32(mask.shape)];
  },
  lower(lowering) {
    const { node: { inputs: [mask] }, inputs, outputs } = lowering;
    launchReweighting(lowering, DILATE, [...inputs, outputs[0]], mask.shape);
  },
});

/**
 * The greatest value within a square around each pixel, cut at the image's border.
 * @param mask [B, h, w, 1]
 * @param half pixels that the square reaches to each side: a number, or a u32 tensor of one element, so that one plan
 * serves every timestep of a sampling run
 * @returns [B, h, w, 1]
 * @throws ShapeError where shapes or types do not fit
 */
export function dilate(mask: Tensor, half: Tensor | number): Tensor {
  const whole = typeof half !== "number" || (Number.isInteger(half) && half >= 0);
  require(whole, "dilate", `cannot reach ${half} pixels far`, [mask]);
  return apply(dilateOp, [mask, typeof half === "number" ? constant(Uint32Array.of(half)) : half], null)[0];
}

const distanceOp = defineOp<null>({
  name: "maskedDistance",
  shape(inputs) {
    const [mask, x, z0] = inputs;
    require(isMask(mask), "maskedDistance", "needs a mask [B, h, w, 1]", inputs);
    require(sameShape(x.shape, z0.shape) && x.rank === 4, "maskedDistance", "needs two images [B, h, w, C]", inputs);
    require(sameShape(x.shape.slice(0, 3), mask.shape.slice(0, 3)), "maskedDistance", "sizes differ", inputs);
    return [f32(mask.shape)];
  },
  lower(lowering) {
    const { node: { inputs: [, x] }, inputs, outputs } = lowering;
    launchReweighting(lowering, DISTANCE, [...inputs, outputs[0]], x.shape);
  },
});

const weightsOp = defineOp<Limits & { readonly kind: number }>({
  name: "reweightingMap",
  shape(inputs, { temperature, low, high }) {
    const [mask, distance] = inputs;
    require(isMask(mask) && sameShape(mask.shape, distance.shape), "reweightingMap", "needs [B, h, w, 1]", inputs);
    require(mask.shape[0] < 65536, "reweightingMap", "takes at most 65,535 images", inputs);
    require(temperature > 0 && low <= high, "reweightingMap", "needs a temperature above 0 and low ≤ high", inputs);
    return [f32(mask.shape)];
  },
  lower(lowering) {
    const { node: { inputs: [mask] }, attributes, inputs, outputs } = lowering;
    launchReweighting(lowering, attributes.kind, [...inputs, outputs[0]], mask.shape, attributes);
  },
});

/** How distances become weights. */
export interface ReweightingOptions {
  /** "official": inverse distances over their mean. "paper": softmax of inverse distances (eq. 7). */
  readonly form: "official" | "paper";
  /** Range of the weights; default [1, 1.5] for the official form, [0, ∞) for the paper's. */
  readonly limits?: readonly [low: number, high: number];
  /** Paper's form: divides the inverse distances before the softmax, default 1, which is close to one-hot. */
  readonly temperature?: number;
}

/**
 * Weights of given distances. Official: v = mask ∕ d, w = |mask|₁ · v ∕ Σ v; paper: w = |mask|₁ · softmax(1 ∕ (d · temperature))
 * over the mask. Pixels outside the mask or at distance 0 get 1; then all are clamped. Sums run per image.
 * @param distance squared difference of what is there and the normal image, [B, h, w, 1], ≥ 0
 * @param mask [B, h, w, 1]
 * @returns [B, h, w, 1]
 * @throws ShapeError where shapes do not fit
 */
export function distanceWeights(distance: Tensor, mask: Tensor, options: ReweightingOptions): Tensor {
  const official = options.form === "official";
  const [low, high] = options.limits ?? (official ? [1, 1.5] : [0, Infinity]);
  const attributes = { kind: official ? OFFICIAL : PAPER, low, high, temperature: options.temperature ?? 1 };
  return apply(weightsOp, [mask, distance], attributes)[0];
}

/**
 * The re-weighting map of a sampling step: {@linkcode distanceWeights} of the mean over channels of (mask · (x − z0))².
 * @param x what the sampler has: the noisy latent (official), or the predicted clean one, [B, h, w, C]
 * @param z0 the same of the normal image, [B, h, w, C]
 * @param mask of the anomaly, already dilated where that is wanted, [B, h, w, 1]
 * @returns [B, h, w, 1]; the weights of each query of {@linkcode crossAttention} at this resolution
 * @throws ShapeError where shapes do not fit
 */
export function reweightingMap(x: Tensor, z0: Tensor, mask: Tensor, options: ReweightingOptions): Tensor {
  return distanceWeights(apply(distanceOp, [mask, x, z0], null)[0], mask, options);
}
