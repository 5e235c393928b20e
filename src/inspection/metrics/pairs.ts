/**
 * The figures nobody prints about generated pairs: what changed outside the mask, whether masks lie on the part, whether
 * training images are only repeated, near-duplicates, and how much seeds vary. Needs no network.
 */

import { type PairFigures, pairFigures } from "../../anomaly/figures.ts";
import { shareInside } from "../../anomaly/masks.ts";
import { featherMask } from "../../anomaly/paste.ts";
import { crop, maskWindow } from "../../anomaly/windows.ts";
import type { Image, Mask } from "../../data/image.ts";
import { resize } from "../../data/resize.ts";
import { UserError } from "../../errors.ts";

/** An image with its mask. */
export interface LabelledImage {
  /** The picture. */
  readonly image: Image;
  /** Where its defect is, of the same size. */
  readonly mask: Mask;
}

/** What changed between a source and a result. */
export interface ChangeFigures extends PairFigures {
  /** Largest change of a channel outside the mask and its feather, 0 … 1; 0 where the background was kept to the byte. */
  readonly largestOutside: number;
  /** Share of the mask that lies on the part; 1 where no part is given. */
  readonly onPart: number;
}

/**
 * Compares a generated pair with the normal image it was made from.
 * @param source of the same size
 * @param feather pixels around the mask that may change too; what the generator was told
 * @param part where the part lies (`partRegion` of `anomaly/masks.ts`), of the same size
 * @throws {UserError} if sizes differ or the mask is empty
 */
export function changeFigures(
  source: Image,
  { image, mask }: LabelledImage,
  { feather = 0, part }: { feather?: number; part?: Mask } = {},
): ChangeFigures {
  for (const other of part ? [image, mask, part] : [image, mask]) {
    if (other.width === source.width && other.height === source.height) continue;
    throw new UserError(
      `source and result must have one size, not ${source.width}×${source.height} and ${other.width}×${other.height}`,
    );
  }
  if (!mask.data.some(Boolean)) throw new UserError("the mask of the result is empty");
  const opacity = featherMask(mask, feather);
  let largest = 0;
  for (let i = 0; i < opacity.length; i++) {
    if (opacity[i] > 0) continue;
    for (let k = 3 * i; k < 3 * i + 3; k++) largest = Math.max(largest, Math.abs(source.data[k] - image.data[k]));
  }
  return {
    ...pairFigures(source, image, mask, opacity),
    largestOutside: largest / 255,
    onPart: part ? shareInside(mask, part) : 1,
  };
}

/** Side of the grid that a descriptor has. */
const GRID = 16;

/** Window around a mask, of which a descriptor is made: at least this many pixels wide. */
const LEAST_WINDOW = 16;

/**
 * What a defect looks like, in few numbers: the square around its mask (twice its extent), averaged to 16 × 16 RGB, of 0 … 1.
 * Averages over squares hardly notice noise, recoding or a shift by a pixel.
 * @returns [16, 16, 3]
 */
export function defectDescriptor({ image, mask }: LabelledImage): Float32Array {
  const view = crop(image, maskWindow(mask, Math.min(LEAST_WINDOW, image.width, image.height)));
  // Too small a view is enlarged first: the box filter would repeat pixels unevenly.
  const { data } = view.width < GRID ? resize(view, GRID, GRID, "bilinear") : resize(view, GRID, GRID, "box");
  return Float32Array.from(data, (value) => value / 255);
}

/** Distance of two descriptors: root of the mean squared difference, 0 … 1. */
export function descriptorDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += (a[k] - b[k]) ** 2;
  return Math.sqrt(sum / a.length);
}

/** A descriptor turned and mirrored in all eight ways, as training augments its images. */
function symmetries(descriptor: Float32Array): Float32Array[] {
  return Array.from({ length: 8 }, (_, way) => {
    const out = new Float32Array(descriptor.length);
    for (let y = 0; y < GRID; y++) {
      for (let x = 0; x < GRID; x++) {
        let [u, v] = way & 4 ? [y, x] : [x, y];
        if (way & 1) u = GRID - 1 - u;
        if (way & 2) v = GRID - 1 - v;
        for (let c = 0; c < 3; c++) out[(y * GRID + x) * 3 + c] = descriptor[(v * GRID + u) * 3 + c];
      }
    }
    return out;
  });
}

/** The training image that a generated one is most like. */
export interface Nearest {
  /** Its index in the training set. */
  readonly index: number;
  /** Root mean square difference of the two descriptors, 0 … 1. */
  readonly distance: number;
}

/** How far generated defects are from those that were learnt from. */
export interface Memorising {
  /** For each generated pair. */
  readonly nearest: readonly Nearest[];
  /** Median of those distances. */
  readonly median: number;
  /** Median distance of a training pair to the nearest other one; undefined for one pair. */
  readonly trainingMedian?: number;
  /** Share of generated pairs that are nearer to a training pair than {@linkcode DUPLICATE}: repeated, not learnt. */
  readonly copied: number;
}

/**
 * Distance below which two defects look the same. Among the six defects of `fixtures/parts` the nearest two different ones
 * are 9.5 of 255 apart, most 15 to 30; noise of 10 of 255 in every pixel moves most of them by 3 to 6 (2026-11-23).
 */
export const DUPLICATE = 6 / 255;

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function nearestOf(descriptors: readonly Float32Array[], to: readonly Float32Array[], except = -1): Nearest {
  let best: Nearest = { index: -1, distance: Infinity };
  for (const [index, other] of to.entries()) {
    if (index === except) continue;
    for (const descriptor of descriptors) {
      const distance = descriptorDistance(descriptor, other);
      if (distance < best.distance) best = { index, distance };
    }
  }
  return best;
}

/**
 * The nearest training pair of each generated one, over all turns and reflections. A model that repeats what it saw has
 * distances near 0; one that invents has distances like those between training pairs.
 * @throws {UserError} without training or generated pairs
 */
export function memorising(generated: readonly LabelledImage[], training: readonly LabelledImage[]): Memorising {
  return memorisingOf(generated.map(defectDescriptor), training.map(defectDescriptor));
}

/** {@linkcode memorising} out of descriptors, so that no picture has to be kept. */
export function memorisingOf(generated: readonly Float32Array[], known: readonly Float32Array[]): Memorising {
  if (generated.length === 0 || known.length === 0) {
    throw new UserError("the nearest training image needs generated and training pairs");
  }
  const nearest = generated.map((descriptor) => nearestOf(symmetries(descriptor), known));
  const distances = nearest.map(({ distance }) => distance);
  return {
    nearest,
    median: median(distances),
    trainingMedian: known.length > 1
      ? median(known.map((descriptor, i) => nearestOf(symmetries(descriptor), known, i).distance))
      : undefined,
    copied: distances.filter((distance) => distance < DUPLICATE).length / distances.length,
  };
}

/** Pairs that look the same. */
export interface Duplicates {
  /** Pairs that look like an earlier one. */
  readonly count: number;
  /** Of all pairs. */
  readonly share: number;
  /** [earlier, later], at most one for each later pair. */
  readonly pairs: readonly (readonly [earlier: number, later: number])[];
}

/**
 * Near-duplicates among generated pairs: the surroundings of their masks differ by less than `threshold`. Sorted by mean
 * brightness, which can differ by no more than the distance, so that most of the n² comparisons are never made.
 */
export function nearDuplicates(generated: readonly LabelledImage[], threshold = DUPLICATE): Duplicates {
  return nearDuplicatesOf(generated.map(defectDescriptor), threshold);
}

/** {@linkcode nearDuplicates} out of descriptors. */
export function nearDuplicatesOf(descriptors: readonly Float32Array[], threshold = DUPLICATE): Duplicates {
  const means = descriptors.map((d) => d.reduce((sum, value) => sum + value, 0) / d.length);
  const order = means.map((_, i) => i).sort((a, b) => means[a] - means[b]), earliest = new Map<number, number>();
  for (const [at, a] of order.entries()) {
    for (let next = at + 1; next < order.length && means[order[next]] - means[a] < threshold; next++) {
      const b = order[next], later = Math.max(a, b), earlier = Math.min(a, b);
      if (earlier > (earliest.get(later) ?? Infinity)) continue;
      if (descriptorDistance(descriptors[a], descriptors[b]) < threshold) earliest.set(later, earlier);
    }
  }
  const pairs = [...earliest].map(([later, earlier]) => [earlier, later] as const).sort((a, b) => a[1] - b[1]);
  return { count: pairs.length, share: descriptors.length ? pairs.length / descriptors.length : 0, pairs };
}

/**
 * How much images of one source and one mask differ that only their seed tells apart: mean absolute difference of a channel
 * inside the mask, over all pairs of images, 0 … 1. 0 means that the seed does not matter.
 * @throws {UserError} with fewer than two images, other sizes, or an empty mask
 */
export function seedVariety(images: readonly Image[], mask: Mask): number {
  if (images.length < 2) throw new UserError("the variety over seeds needs at least two images of one source and mask");
  if (images.some(({ width, height }) => width !== mask.width || height !== mask.height)) {
    throw new UserError("the variety over seeds needs images of the mask's size");
  }
  let sum = 0, count = 0;
  const column = new Float64Array(images.length);
  for (let i = 0; i < mask.data.length; i++) {
    if (!mask.data[i]) continue;
    for (let k = 3 * i; k < 3 * i + 3; k++) {
      images.forEach(({ data }, n) => column[n] = data[k]);
      column.sort();
      // Σ|a − b| over pairs of sorted values: the n-th is added n times and taken away as often as values follow it.
      for (let n = 0; n < column.length; n++) sum += (2 * n - column.length + 1) * column[n];
      count++;
    }
  }
  if (count === 0) throw new UserError("the variety over seeds needs a mask that is not empty");
  return sum / (count * images.length * (images.length - 1) / 2) / 255;
}

/** One figure over several seeds. */
export interface Spread {
  /** Arithmetic mean. */
  readonly mean: number;
  /** Sample standard deviation (n − 1); 0 for one value. */
  readonly std: number;
  /** The smallest. */
  readonly min: number;
  /** The largest. */
  readonly max: number;
  /** How many values. */
  readonly count: number;
}

/**
 * Mean and spread of a figure over seeds.
 * @throws {UserError} without values, or where one is no number
 * @example
 * ```ts
 * import { spread } from "./pairs.ts";
 * const { mean, std } = spread([0.7, 0.8, 0.9]);
 * if (Math.abs(mean - 0.8) + Math.abs(std - 0.1) > 1e-12) throw new Error(`${mean} ± ${std}`);
 * ```
 */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new UserError("no values to take the spread of");
  const wrong = values.find((value) => !Number.isFinite(value));
  if (wrong !== undefined) throw new UserError(`a value to take the spread of is ${wrong}`);
  const count = values.length, mean = values.reduce((sum, value) => sum + value, 0) / count;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    mean,
    std: count > 1 ? Math.sqrt(squares / (count - 1)) : 0,
    min: Math.min(...values),
    max: Math.max(...values),
    count,
  };
}
