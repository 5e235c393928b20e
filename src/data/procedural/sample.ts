/**
 * One labelled picture of the pretraining mixture: 30 % whole parts, 60 % damaged ones, 10 % pictures of masks. Or a window
 * of one, enlarged: what the model sees where it works around a mask only (`--window mask`).
 */

import { Random } from "../../random/philox.ts";
import { resize } from "../resize.ts";
import { caption, maskCaption } from "./captions.ts";
import { damage, type Damaged, type DefectKind, DEFECTS } from "./defects.ts";
import { looksOf } from "./looks.ts";
import { AREA, colorName, type Field, SIZE } from "./noise.ts";
import { type Material, MATERIALS, type Surface, surface } from "./surfaces.ts";

/** A pretraining picture. */
export interface ProceduralSample {
  /** Interleaved RGB, 128×128, `3·AREA` bytes. */
  image: Uint8Array;
  /** 255 on the defect, 0 elsewhere, `AREA` bytes. */
  mask: Uint8Array;
  caption: string;
  material: Material;
  defect?: DefectKind;
  /** Whether the picture shows the mask instead of the part. */
  maskPicture: boolean;
}

/** Planar 0…1 values as interleaved bytes. */
export function quantise(rgb: Float32Array): Uint8Array {
  const image = new Uint8Array(3 * AREA);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < AREA; i++) image[3 * i + c] = Math.max(0, Math.min(255, Math.round(255 * rgb[c * AREA + i])));
  }
  return image;
}

/** 255 where the coverage is positive. */
export function binaryMask(alpha: Field): Uint8Array {
  return Uint8Array.from(alpha, (a) => a > 0 ? 255 : 0);
}

/** A copy of a whole part with damage of one of some kinds. Half of it is weaker than its maker draws it, down to what is barely seen. */
function damaged(
  random: Random,
  good: Surface,
  kinds: readonly DefectKind[] = DEFECTS,
): { defect: DefectKind; bad: Damaged; mask: Uint8Array } {
  const defect = random.pick(kinds), bad = damage(random, good, defect), mask = binaryMask(bad.alpha);
  const opacity = random.chance(0.5) ? 1 : random.uniform(0.2, 0.8);
  bad.rgb.forEach((value, j) => bad.rgb[j] = good.rgb[j] + opacity * (value - good.rgb[j]));
  return { defect, bad, mask };
}

/** A part of the pretraining mixture. */
export interface Only {
  readonly kinds?: readonly DefectKind[];
  /** Pictures of masks only. */
  readonly masks?: true;
}

/**
 * Picture `index` of the pretraining mixture; it depends on (seed, index) alone.
 * @param only pictures with damage of some kinds, none whole; pictures of masks; left out, the mixture
 * @example
 * ```ts
 * import { pretrainingSample } from "./sample.ts";
 * const a = pretrainingSample(1, 42), b = pretrainingSample(1, 42);
 * if (a.image.some((v, i) => v !== b.image[i])) throw new Error("not reproducible");
 * ```
 */
export function pretrainingSample(seed: number, index: number, only?: Only): ProceduralSample {
  const random = new Random(seed, "pretraining", index), choice = random.uniform(only?.masks ? 0.9 : only ? 0.3 : 0, 1);
  const material = random.pick(MATERIALS), good = surface(random, material), color = colorName(good.color);
  if (choice < 0.3) {
    return {
      image: quantise(good.rgb),
      mask: new Uint8Array(AREA),
      caption: caption(random, { material, color }),
      material,
      maskPicture: false,
    };
  }
  const { defect, bad, mask } = damaged(random, good, only?.kinds);
  const looks = looksOf(good.rgb, bad.rgb, bad.alpha);
  if (choice < 0.9) {
    const text = caption(random, { material, color, defect, looks });
    return { image: quantise(bad.rgb), mask, caption: text, material, defect, maskPicture: false };
  }
  const image = new Uint8Array(3 * SIZE * SIZE).map((_, i) => mask[Math.floor(i / 3)]);
  return { image, mask, caption: maskCaption(random, defect, looks), material, defect, maskPicture: true };
}

/** Sides of windows in pixels, drawn log-uniformly: enlarged 1.1 to 2.3 times, or up to 4.6 times. */
export const WINDOW = [56, 116] as const, CLOSE_WINDOW = [28, 90] as const;

/** Where a window of `side` begins that holds a point, not nearer to its edge than a fifth of its side. */
function begin(random: Random, at: number, side: number): number {
  return Math.max(0, Math.min(SIZE - side, Math.round(at - side * random.uniform(0.2, 0.8))));
}

/** A square of interleaved bytes at (x, y), `side` long, as a picture of the usual size. */
function enlarged(data: Uint8Array, channels: 1 | 3, [x, y]: readonly [number, number], side: number): Uint8Array {
  const cut = new Uint8Array(side * side * channels), row = side * channels;
  for (let i = 0; i < side; i++) {
    const from = ((y + i) * SIZE + x) * channels;
    cut.set(data.subarray(from, from + row), i * row);
  }
  return resize({ width: side, height: side, channels, data: cut }, SIZE, SIZE, channels === 1 ? "nearest" : "bicubic")
    .data as Uint8Array;
}

/** Interleaved bytes as planar values 0 … 1. */
function planar(image: Uint8Array): Float32Array {
  return Float32Array.from(image, (_, i) => image[3 * (i % AREA) + Math.floor(i / AREA)] / 255);
}

/**
 * Window `index` of the pretraining mixture: a third shows no damage, the others hold some, and captions tell the looks that
 * it has in the window. There are no pictures of masks: those are made whole. It depends on (seed, index) alone.
 */
export function pretrainingWindow(
  seed: number,
  index: number,
  range: readonly [number, number] = WINDOW,
): ProceduralSample {
  const random = new Random(seed, "pretraining/window", index), whole = random.uniform() < 0.33;
  const material = random.pick(MATERIALS), good = surface(random, material), color = colorName(good.color);
  const side = Math.round(range[0] * (range[1] / range[0]) ** random.uniform());
  if (whole) {
    const at = [random.integer(0, SIZE - side + 1), random.integer(0, SIZE - side + 1)] as const;
    return {
      image: enlarged(quantise(good.rgb), 3, at, side),
      mask: new Uint8Array(AREA),
      caption: caption(random, { material, color }),
      material,
      maskPicture: false,
    };
  }
  const { defect, bad, mask } = damaged(random, good);
  const centre = random.pick(Array.from(mask.keys()).filter((i) => mask[i]));
  const at = [begin(random, centre % SIZE, side), begin(random, Math.floor(centre / SIZE), side)] as const;
  const image = enlarged(quantise(bad.rgb), 3, at, side), view = enlarged(mask, 1, at, side);
  const looks = looksOf(planar(enlarged(quantise(good.rgb), 3, at, side)), planar(image), Float32Array.from(view));
  return {
    image,
    mask: view,
    caption: caption(random, { material, color, defect, looks }),
    material,
    defect,
    maskPicture: false,
  };
}

/** How procedural pictures are drawn: whole, or windows of whole ones, enlarged 1.1 to 2.3 or, `close`, up to 4.6 times. */
export type ProceduralForm = "whole" | "windows" | "close";

/** Picture `index` of each form; it depends on (seed, index) alone. */
export const PROCEDURAL_FORMS: Readonly<Record<ProceduralForm, (seed: number, index: number) => ProceduralSample>> = {
  whole: pretrainingSample,
  windows: (seed, index) => pretrainingWindow(seed, index),
  close: (seed, index) => pretrainingWindow(seed, index, CLOSE_WINDOW),
};

/**
 * Cells of a grid over a picture that have damage in them, row by row, in rising order; none of a mask's picture.
 * @param side cells in a row, 1 or more: of a latent, 16 at an eighth of the picture's side
 */
export function damagedCells(
  { mask, maskPicture }: Pick<ProceduralSample, "mask" | "maskPicture">,
  side: number,
): number[] {
  if (maskPicture) return [];
  const cells = new Set<number>();
  /** First and last cell that a pixel lies in. */
  const span = (pixel: number) => [Math.floor(pixel * side / SIZE), Math.ceil((pixel + 1) * side / SIZE) - 1];
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] === 0) continue;
    const [top, bottom] = span(Math.floor(i / SIZE)), [left, right] = span(i % SIZE);
    for (let y = top; y <= bottom; y++) for (let x = left; x <= right; x++) cells.add(y * side + x);
  }
  return [...cells].sort((a, b) => a - b);
}
