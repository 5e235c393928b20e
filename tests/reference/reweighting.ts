/**
 * Adaptive attention re-weighting maps in float64 (AnomalyDiffusion §3.3). The official code compares noisy and normal
 * latents inside a dilated mask and normalises the inverse distances by their mean; the paper (eq. 7) takes a softmax of
 * the inverse distances. Both give the parts of the mask that still look normal the largest weight.
 */
import { map, type NDArray, ndarray } from "../support/arrays.ts";
import { maxPoolForward } from "./resample.ts";

/** Half-width of the dilation in latent pixels: ⌊8·(t + 100) ∕ 1000⌋, with 16 for 8 when exactly 50 steps are taken. */
export function dilationHalfWidth(timestep: number, steps: number): number {
  return Math.floor((steps === 50 ? 16 : 8) * (timestep + 100) / 1000);
}

/** The greatest value within `half` pixels along both axes.  mask [B, H, W, 1] → [B, H, W, 1]. */
export function dilateMask(mask: NDArray, half: number): NDArray {
  const size = 2 * half + 1;
  return maxPoolForward(mask, { kernel: [size, size], stride: [1, 1], padding: [half, half, half, half] });
}

/** The range that weights are clamped to. */
export type Limits = readonly [number, number];

/** Weight of each pixel: |m|₁ times its part in its image's Σ v, 1 where v is 0; then clamped. */
function weights(v: NDArray, mask: NDArray, [low, high]: Limits): NDArray {
  const B = v.shape[0], pixels = v.data.length / B;
  const total = new Float64Array(B), area = new Float64Array(B);
  v.data.forEach((value, i) => total[Math.floor(i / pixels)] += value);
  mask.data.forEach((value, i) => area[Math.floor(i / pixels)] += value);
  return map(v, (value, i) => {
    const b = Math.floor(i / pixels);
    const w = value === 0 || total[b] === 0 ? 1 : area[b] * value / total[b];
    return Math.min(Math.max(w, low), high);
  });
}

/**
 * The official form from given distances: v = m ∕ d (0 where d is 0), w = |m|₁·v ∕ Σ v, 1 outside the mask, clamped.
 * distance and mask (already dilated) [B, H, W, 1] → [B, H, W, 1].
 * @param limits default [1, 1.5], as the official code
 */
export function weightMapOfDistance(distance: NDArray, mask: NDArray, limits: Limits = [1, 1.5]): NDArray {
  return weights(map(distance, (d, i) => d > 0 ? mask.data[i] / d : 0), mask, limits);
}

/** Mean over channels of (mask · (x − z0))².  x and z0 [B, H, W, C], mask [B, H, W, 1] → [B, H, W, 1]. */
export function maskedDistance(x: NDArray, z0: NDArray, mask: NDArray): NDArray {
  const C = x.shape.at(-1)!, distance = ndarray(mask.shape);
  x.data.forEach((value, i) => {
    const pixel = Math.floor(i / C);
    distance.data[pixel] += (mask.data[pixel] * (value - z0.data[i])) ** 2 / C;
  });
  return distance;
}

/** What the official form compares. */
export interface WeightMapInput {
  /** latent of the running sampler, before blending, [B, H, W, C] */
  x: NDArray;
  /** clean latent of the normal image, [B, H, W, C] */
  z0: NDArray;
  /** latent mask of 0 and 1, [B, H, W, 1] */
  mask: NDArray;
  /** training timestep of x, 0 … 999 */
  timestep: number;
  /** steps of the whole sampling run */
  steps: number;
}

/**
 * The official form: d = mean over channels of (M'·(x − z0))² with the dilated mask M', then
 * {@link weightMapOfDistance}.  → mask M' and weights, both [B, H, W, 1].
 */
export function officialWeightMap(
  { x, z0, mask, timestep, steps }: WeightMapInput,
  limits?: Limits,
): { mask: NDArray; weights: NDArray } {
  const dilated = dilateMask(mask, dilationHalfWidth(timestep, steps));
  return { mask: dilated, weights: weightMapOfDistance(maskedDistance(x, z0, dilated), dilated, limits) };
}

/** Options of the paper's form. */
export interface PaperWeightOptions {
  /** divides 1 ∕ δ before the softmax; 1 is the paper to the letter, which is close to one-hot */
  temperature?: number;
  /** default: no clamp */
  limits?: Limits;
}

/**
 * The paper's form: w = |m|₁·softmax(1 ∕ (δ·temperature)) over the mask's pixels with δ > 0, shifted by the maximum so
 * that it cannot overflow; 1 elsewhere, so that rows outside the mask keep their attention.
 * delta: squared difference of the normal image and the predicted one, and mask [B, H, W, 1] → [B, H, W, 1].
 */
export function paperWeightMap(delta: NDArray, mask: NDArray, options: PaperWeightOptions = {}): NDArray {
  const { temperature = 1, limits = [0, Infinity] } = options;
  const B = delta.shape[0], pixels = delta.data.length / B;
  const counts = (i: number) => mask.data[i] > 0 && delta.data[i] > 0;
  const greatest = new Float64Array(B).fill(-Infinity), total = new Float64Array(B), area = new Float64Array(B);
  const score = map(delta, (d) => 1 / (d * temperature));
  score.data.forEach((value, i) => {
    const b = Math.floor(i / pixels);
    area[b] += mask.data[i];
    if (counts(i)) greatest[b] = Math.max(greatest[b], value);
  });
  const e = map(score, (value, i) => counts(i) ? Math.exp(value - greatest[Math.floor(i / pixels)]) : 0);
  e.data.forEach((value, i) => total[Math.floor(i / pixels)] += value);
  return map(e, (value, i) => {
    const b = Math.floor(i / pixels);
    return Math.min(Math.max(counts(i) ? area[b] * value / total[b] : 1, limits[0]), limits[1]);
  });
}

/**
 * The paper's form as sampling uses it: δ of latents inside the mask as it is, and for a temperature each image's largest
 * 1 ∕ δ, so that no weight depends on the unit of δ.
 * clean: x̂₀, and z0 [B, H, W, C], mask [B, H, W, 1] → [B, H, W, 1].
 */
export function paperWeightsOfLatents(clean: NDArray, z0: NDArray, mask: NDArray): NDArray {
  const delta = maskedDistance(clean, z0, mask), pixels = mask.data.length / mask.shape[0];
  const least = new Float64Array(mask.shape[0]).fill(Infinity);
  delta.data.forEach((d, i) => {
    const b = Math.floor(i / pixels);
    if (d > 0) least[b] = Math.min(least[b], d);
  });
  return paperWeightMap(map(delta, (d, i) => d > 0 ? d / least[Math.floor(i / pixels)] : 0), mask);
}
