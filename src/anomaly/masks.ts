/**
 * Masks: how to judge one, where on the part it may lie, and how to place a real one anew. A mask that is sampled from an
 * embedding passes the same judgement (paper, "Mask generation"; the official code checks the border only).
 */

import type { Image, Mask } from "../data/image.ts";
import { labelRegions } from "../data/regions.ts";
import type { Random } from "../random/philox.ts";

/** Shape figures of a mask. */
export interface MaskFigures {
  /** Share of the picture. */
  readonly area: number;
  /** 8-connected components. */
  readonly components: number;
  /** Largest share of one of the picture's four borders. */
  readonly border: number;
}

/** Measures a mask. */
export function measureMask({ width, height, data }: Mask): MaskFigures {
  const { sizes } = labelRegions(data, width, height), count = sizes.reduce((sum, size) => sum + size, 0);
  let top = 0, bottom = 0, left = 0, right = 0;
  for (let x = 0; x < width; x++) {
    top += data[x];
    bottom += data[(height - 1) * width + x];
  }
  for (let y = 0; y < height; y++) {
    left += data[y * width];
    right += data[y * width + width - 1];
  }
  const border = Math.max(top / width, bottom / width, left / height, right / height);
  return { area: count / data.length, components: sizes.length, border };
}

/** What a mask must satisfy. */
export interface MaskLimits {
  /** Least share of the picture, 0 to 1. */
  readonly minArea: number;
  /** Greatest share of the picture, 0 to 1. */
  readonly maxArea: number;
  /** Most pieces, 8-connected. */
  readonly maxComponents: number;
  /** Largest share of one border; the official code's is 1/3. */
  readonly maxBorder: number;
  /** Least share of the mask that lies on the part. */
  readonly minOnPart: number;
  /** Let a mask pass that marks nothing; refused where left out. */
  readonly empty?: boolean;
}

/** Limits around what the training masks show: 0.4× the smallest area to 2× the largest, two components more than the most. */
export function limitsOf(masks: readonly Mask[]): MaskLimits {
  const figures = masks.map(measureMask);
  return {
    minArea: 0.4 * Math.min(...figures.map((f) => f.area)),
    maxArea: 2 * Math.max(...figures.map((f) => f.area)),
    maxComponents: 2 + Math.max(...figures.map((f) => f.components)),
    maxBorder: 1 / 3,
    minOnPart: 0.6,
  };
}

/** Why a mask is refused; undefined where it is fine. */
export function refusal(mask: Mask, limits: MaskLimits, part?: Mask): string | undefined {
  const { area, components, border } = measureMask(mask);
  if (area === 0) return limits.empty ? undefined : "empty";
  if (area < limits.minArea) return "too small";
  if (area > limits.maxArea) return "too large";
  if (components > limits.maxComponents) return "too many pieces";
  if (border > limits.maxBorder) return "along the border";
  if (part && shareInside(mask, part) < limits.minOnPart) return "off the part";
  return undefined;
}

/** Share of `mask` that lies inside `region`, of the same size. */
export function shareInside(mask: Mask, region: Mask): number {
  let inside = 0, all = 0;
  mask.data.forEach((v, i) => {
    all += v;
    inside += v & region.data[i];
  });
  return all ? inside / all : 0;
}

/** Pixels of a picture whose channel mean is above the threshold, in [−1, 1]. */
export function maskOfPicture(picture: Float32Array, side: number, threshold: number): Mask {
  const data = Uint8Array.from(
    { length: side * side },
    (_, i) => picture[3 * i] + picture[3 * i + 1] + picture[3 * i + 2] > 3 * threshold ? 1 : 0,
  );
  return { width: side, height: side, channels: 1, data };
}

/** Largest standard deviation of border pixels, of 255, at which the border counts as plain background. */
const PLAIN_BORDER = 14;

/**
 * Where the part lies, from normal images of one size. A part before a plain background differs from the border's colour;
 * where the border is not plain, or hardly anything differs (a texture), everything is the part.
 */
export function partRegion(images: readonly Image[]): Mask {
  const { width, height } = images[0], size = width * height;
  const votes = new Float32Array(size);
  let plain = 0;
  for (const { data } of images) {
    const border: number[] = [];
    for (let x = 0; x < width; x++) border.push(x, (height - 1) * width + x);
    for (let y = 1; y < height - 1; y++) border.push(y * width, y * width + width - 1);
    const mean = [0, 1, 2].map((c) => border.reduce((sum, i) => sum + data[3 * i + c], 0) / border.length);
    const deviation = Math.sqrt(
      border.reduce((sum, i) => sum + [0, 1, 2].reduce((s, c) => s + (data[3 * i + c] - mean[c]) ** 2, 0), 0) /
        border.length / 3,
    );
    if (deviation > PLAIN_BORDER) continue;
    plain++;
    for (let i = 0; i < size; i++) {
      const far = Math.max(...mean.map((m, c) => Math.abs(data[3 * i + c] - m)));
      if (far > 3 * Math.max(deviation, 6)) votes[i]++;
    }
  }
  const everything = { width, height, channels: 1 as const, data: new Uint8Array(size).fill(1) };
  if (plain < images.length / 2) return everything;
  const data = Uint8Array.from(votes, (v) => (v >= plain / 2 ? 1 : 0));
  const share = data.reduce((a, b) => a + b, 0) / size;
  return share < 0.05 || share > 0.95 ? everything : { ...everything, data };
}

/**
 * A real mask placed anew: turned, scaled, mirrored and moved so that its centre lies on the part.
 * @param random the stream that decides
 */
export function placeMask(mask: Mask, random: Random, part?: Mask): Mask {
  const { width, height, data } = mask;
  let sx = 0, sy = 0, n = 0;
  data.forEach((v, i) => {
    if (!v) return;
    sx += i % width;
    sy += Math.floor(i / width);
    n++;
  });
  const cx = sx / n, cy = sy / n;
  const angle = random.uniform(0, 2 * Math.PI), scale = random.uniform(0.75, 1.3), flip = random.chance(0.5) ? -1 : 1;
  let tx = cx, ty = cy;
  for (let trial = 0; trial < 64; trial++) {
    tx = random.uniform(0.1, 0.9) * width;
    ty = random.uniform(0.1, 0.9) * height;
    if (!part || part.data[Math.floor(ty) * width + Math.floor(tx)]) break;
  }
  const cos = Math.cos(angle) / scale, sin = Math.sin(angle) / scale;
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const dx = (x - tx) * flip, dy = y - ty;
      const fx = Math.round(cx + cos * dx + sin * dy), fy = Math.round(cy - sin * dx + cos * dy);
      if (fx >= 0 && fy >= 0 && fx < width && fy < height) out[y * width + x] = data[fy * width + fx];
    }
  }
  return { width, height, channels: 1, data: out };
}
