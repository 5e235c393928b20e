/**
 * From a few image–mask pairs to what inversion trains on: augmented copies whose latents are made once and kept, since the
 * autoencoder is frozen and costs more than a training step.
 */

import {
  augment,
  augmentOfficial,
  prepareSample,
  resizeMask,
  resizeMaskOfficial,
  type Sample,
} from "../data/augment.ts";
import { type Image, type Mask, toTensor } from "../data/image.ts";
import { resize } from "../data/resize.ts";
import { latentMask, type LatentMaskMode } from "../diffusion/blend.ts";
import { Random } from "../random/philox.ts";
import type { BaseModel } from "./base_model.ts";
import type { InversionItem } from "./inversion.ts";
import { crop, maskWindow, type Place, placesOf, type View, type Window } from "./windows.ts";

/** A training pair with the key whose embedding it trains. */
export interface LabelledSample extends Sample {
  /** `object+defect`. */
  readonly key: string;
}

/**
 * `paper`: crop, translate, rotate, flip, the anomaly kept inside; `official`: the official code's, whose masks are unchanged
 * for mask embeddings and whose defects share a crop with their batch; `off`: the pairs as they are.
 */
export type Augmentation = "paper" | "official" | "off";

/** How training pairs become items. */
export interface TrainingSetOptions {
  /** From which the views follow. */
  readonly seed: number;
  /** Augmented copies of each pair; the first is the pair itself. */
  readonly copies: number;
  /** How far views differ from their pair. */
  readonly augmentation: Augmentation;
  /** `official`: pictures of one training step, which are augmented together; 4 where left out. */
  readonly batch?: number;
  /** How a pixel mask becomes a latent mask. */
  readonly latentMask: LatentMaskMode;
  /** What the model sees of a defect's picture, as in generation; the whole picture where left out. */
  readonly view?: View;
}

/** Views of the pairs at the model's resolution; copy c of pair i depends on (seed, i, c) only. */
function views(samples: readonly LabelledSample[], side: number, { seed, copies, augmentation }: TrainingSetOptions) {
  if (augmentation === "official") throw new Error("official views are made in batches");
  return samples.flatMap((sample, i) => {
    const plain = prepareSample(sample, side);
    const first = { key: sample.key, image: toTensor(plain.image), mask: Float32Array.from(plain.mask.data) };
    if (augmentation === "off") return [first];
    const large = prepareSample(sample, 2 * side); // room for crops
    return [
      first,
      ...Array.from({ length: copies - 1 }, (_, c) => ({
        key: sample.key,
        ...augment(large, new Random(seed, `augment/${i}`, c), { resolution: side }),
      })),
    ];
  });
}

/** How much the side of an augmented window may differ from that of the window that generation would use. */
const WINDOW_SPREAD = 0.15;

/** A square of an image with room for turning and moving a window in it: twice the window's side, where the image has that. */
function roomAround({ x, y, width: side }: Window, { width, height }: { width: number; height: number }): Window {
  const extent = Math.min(2 * side, width, height);
  const at = (from: number, size: number) =>
    Math.min(Math.max(0, Math.round(from + (side - extent) / 2)), size - extent);
  return { x: at(x, width), y: at(y, height), width: extent, height: extent };
}

/** One augmented view of a place of a mask: a window of about its size that holds the place, at the model's resolution. */
function windowView({ image, mask }: Sample, { window, mask: own }: Place, side: number, random: Random) {
  const room = roomAround(window, image), share = window.width / room.width, size = Math.round(side / share);
  const large = prepareSample({ image: crop(image, room), mask: crop(mask, room) }, size);
  return augment(large, random, {
    resolution: side,
    minCrop: Math.min(1, share * (1 - WINDOW_SPREAD)),
    maxCrop: Math.min(1, share * (1 + WINDOW_SPREAD)),
    keep: resizeMask(crop(own, room), size, size),
  });
}

/** Views of the pairs in windows around their defects; as many as of whole pictures, the places in turn. */
function windowViews(
  samples: readonly LabelledSample[],
  side: number,
  { seed, copies, augmentation, view }: TrainingSetOptions,
) {
  return samples.flatMap((sample, i) => {
    const { key, image, mask } = sample;
    const plain = (window: Window) => {
      const small = prepareSample({ image: crop(image, window), mask: crop(mask, window) }, side);
      return { key, image: toTensor(small.image), mask: Float32Array.from(small.mask.data) };
    };
    if (augmentation === "off") return [plain(maskWindow(mask, Math.round(side / view!.zoom)))];
    const places = placesOf(mask, side, view!);
    return Array.from({ length: copies }, (_, c) => {
      const place = places[c % places.length];
      if (c < places.length) return plain(place.window);
      // Where the whole image is the window, it may not be square.
      return place.window.width === place.window.height
        ? { key, ...windowView(sample, place, side, new Random(seed, `augment/${i}`, c)) }
        : {
          key,
          ...augment(prepareSample(sample, 2 * side), new Random(seed, `augment/${i}`, c), { resolution: side }),
        };
    });
  });
}

/** How many items come of so many pairs; `official` defects fill whole batches. */
export function viewCount(
  masks: boolean,
  samples: number,
  { augmentation, copies, batch = 4 }: Pick<TrainingSetOptions, "augmentation" | "copies" | "batch">,
): number {
  if (augmentation === "off" || (masks && augmentation === "official")) return samples;
  return augmentation === "official" ? batch * Math.max(1, Math.floor(samples * copies / batch)) : samples * copies;
}

/**
 * Views by the official code: all pairs in a new random order again and again, cut into batches that are augmented together.
 * Consecutive views are one batch.
 */
function officialViews(samples: readonly LabelledSample[], side: number, options: TrainingSetOptions) {
  const { seed, batch = 4 } = options, count = viewCount(false, samples.length, options);
  const large = samples.map(({ key, image, mask }) => ({
    key,
    image: resize(image, 2 * side, 2 * side, "bicubic"),
    mask: resizeMaskOfficial(mask, 2 * side, 2 * side),
  }));
  const order: LabelledSample[] = [];
  for (let epoch = 0; order.length < count; epoch++) {
    const random = new Random(seed, "augment/order", epoch), rest = [...large];
    while (rest.length) order.push(...rest.splice(random.integer(0, rest.length), 1));
  }
  return Array.from({ length: count / batch }, (_, i) => order.slice(i * batch, (i + 1) * batch)).flatMap((own, i) =>
    augmentOfficial(own, new Random(seed, "augment/official", i), side)
      .map((view, k) => ({ key: own[k].key, ...view }))
  );
}

/** A mask by the official code's path for mask pictures: bicubic, its edges grey. Values 0 … 1. */
function greyMask(mask: Mask, side: number): Float32Array {
  const { data } = resize({ ...mask, data: mask.data.map((v) => 255 * v) }, side, side, "bicubic");
  return Float32Array.from(data, (v) => v / 255);
}

/** Items whose picture is the defect and whose loss counts inside the mask. */
export async function defectItems(
  base: BaseModel,
  samples: readonly LabelledSample[],
  options: TrainingSetOptions,
  onItem?: () => void,
): Promise<InversionItem[]> {
  const make = options.augmentation === "official"
    ? officialViews
    : options.view?.window === "mask"
    ? windowViews
    : views;
  const all = make(samples, base.side, options);
  const moments = await base.encode(all.map((view) => view.image), onItem);
  return all.map(({ key, mask }, i) => ({
    key,
    moments: moments[i],
    latentMask: latentMask(mask, [1, base.side, base.side], [base.latentSide, base.latentSide], options.latentMask),
    mask,
  }));
}

/** A normal image, and the key of the surface that it shows. */
export interface NormalImage {
  /** `object+good`. */
  readonly key: string;
  /** Decodes it, of any size; one is held at a time. */
  readonly load: () => Image | Promise<Image>;
}

/** One pixel in the middle of a square: what a view of a surface keeps inside. */
function centre(size: number): Mask {
  const data = new Uint8Array(size * size);
  data[(size >> 1) * size + (size >> 1)] = 1;
  return { width: size, height: size, channels: 1, data };
}

/** A view of a normal image, anywhere in it: what a defect's views show, without the defect. */
function surfaceView(image: Image, side: number, random: Random, view: View | undefined) {
  if (view?.window !== "mask") {
    const large = resize(image, 2 * side, 2 * side, "bicubic"), mask = centre(2 * side);
    return augment({ image: large, mask }, random, { resolution: side }).image;
  }
  // Larger defects have larger windows: all sizes up to the model's side, each size ratio as often.
  const { width, height } = image, most = Math.min(side, width, height), least = Math.min(most, side / view.zoom);
  const window = Math.max(1, Math.round(least * (most / least) ** random.uniform()));
  const at = (extent: number) => random.integer(0, extent - window + 1);
  const room = roomAround({ x: at(width), y: at(height), width: window, height: window }, image);
  const share = window / room.width, size = Math.round(side / share);
  const large = resize(crop(image, room), size, size, "bicubic");
  return augment({ image: large, mask: centre(size) }, random, {
    resolution: side,
    minCrop: Math.min(1, share * (1 - WINDOW_SPREAD)),
    maxCrop: Math.min(1, share * (1 + WINDOW_SPREAD)),
  }).image;
}

/**
 * Items of whole surfaces; their loss counts everywhere.
 * @param images as many as there shall be items; view i depends on (seed, key, i) only
 * @param masks those that the spatial encoder is shown with a surface, by its key: the defects', so that it learns to say the
 * same of a mask whatever it holds
 */
export async function surfaceItems(
  base: BaseModel,
  images: readonly NormalImage[],
  masks: ReadonlyMap<string, readonly Float32Array[]>,
  { seed, view }: Pick<TrainingSetOptions, "seed" | "view">,
  onItem?: () => void,
): Promise<InversionItem[]> {
  const randoms = images.map(({ key }, i) => new Random(seed, `surface/${key}`, i));
  const pictures: Float32Array[] = [];
  for (const [i, { load }] of images.entries()) pictures.push(surfaceView(await load(), base.side, randoms[i], view));
  const moments = await base.encode(pictures, onItem), latentMask = new Float32Array(base.latentSide ** 2).fill(1);
  return images.map(({ key }, i) => {
    const own = masks.get(key) ?? [];
    return { key, moments: moments[i], latentMask, mask: own.length ? randoms[i].pick(own) : undefined };
  });
}

/** Items whose picture is the mask itself, white on black, and whose loss counts everywhere. */
export async function maskItems(
  base: BaseModel,
  samples: readonly LabelledSample[],
  options: TrainingSetOptions,
  onItem?: () => void,
): Promise<InversionItem[]> {
  const all = options.augmentation === "official"
    ? samples.map(({ key, mask }) => ({ key, mask: greyMask(mask, base.side) }))
    : views(samples, base.side, options);
  const pictures = all.map(({ mask }) =>
    Float32Array.from({ length: 3 * mask.length }, (_, i) => 2 * mask[Math.floor(i / 3)] - 1)
  );
  const moments = await base.encode(pictures, onItem);
  const everywhere = new Float32Array(base.latentSide ** 2).fill(1);
  return all.map(({ key }, i) => ({ key, moments: moments[i], latentMask: everywhere }));
}
