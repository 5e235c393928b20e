/**
 * How well a trained network does on test images: the localisation U-Net by pixels, regions and images, ResNet-34 by the
 * share of images whose kind of defect it names (AnomalyDiffusion's tables 2 to 4).
 */

import { imageScore } from "../metrics/image_score.ts";
import { LocalisationScores } from "../metrics/localisation.ts";
import {
  auroc,
  averagePrecision,
  f1Max,
  f1Max21,
  type Points,
  precisionRecallCurve,
  rank,
  type Ranking,
  rocCurve,
} from "../metrics/ranking.ts";
import { auPro, auProByRank, proCurve } from "../metrics/regions.ts";
import type { Predictor } from "./predictor.ts";
import type { InspectionSample } from "./samples.ts";

/** Figures of the localisation U-Net, 0 to 1 each; those of images are undefined where all are normal or none is. */
export interface LocalisationFigures {
  readonly pixelAuroc: number;
  readonly pixelAp: number;
  /** Largest F1 over all thresholds, and over 0, 0.05, … 1 as the official code has it. */
  readonly pixelF1Max: number;
  readonly pixelF1Max21: number;
  /** Area under the per-region overlap up to a false positive rate of 0.3: exact, and by the official 100 ranks. */
  readonly auPro30: number;
  readonly auPro30By100Ranks: number;
  readonly imageAuroc?: number;
  readonly imageAp?: number;
  readonly imageF1Max?: number;
  readonly normalImages: number;
  readonly defectImages: number;
}

/** Points of a test's curves: [false positive rate, true positive rate], [recall, precision], [false positive rate, overlap]. */
export interface TestCurves {
  readonly pixelRoc: Points;
  readonly pixelPrecisionRecall: Points;
  readonly pro: Points;
  readonly imageRoc?: Points;
  readonly imagePrecisionRecall?: Points;
}

/** Five digits are enough for a drawing. */
function rounded(points: Points): Points {
  return points.map(([x, y]) => [Number(x.toFixed(5)), Number(y.toFixed(5))]);
}

/** Collects score maps and tells the figures; maps are not kept. */
export class LocalisationTest {
  readonly #pixels = new LocalisationScores();
  readonly #scores: number[] = [];
  readonly #labels: boolean[] = [];

  /** @param side S of the maps */
  constructor(readonly side: number) {}

  /**
   * Adds an image's map.
   * @param map [S · S], scores of 0 … 1
   * @param score the image's score; the largest 21×21 mean of the map where left out
   * @returns the image's score
   */
  add({ path, kind, mask, softMask }: InspectionSample, map: Float32Array, score?: number): number {
    const { side } = this;
    score ??= imageScore(map, side, side);
    const truth = softMask ?? mask ?? new Uint8Array(side * side);
    this.#pixels.add({ width: side, height: side, scores: map, mask: truth, name: path });
    this.#scores.push(score);
    this.#labels.push(kind !== undefined);
    return score;
  }

  #images(): { images: Ranking; both: boolean } {
    const images = rank(this.#scores, this.#labels);
    return { images, both: images.positives > 0 && images.negatives > 0 };
  }

  /**
   * Points of the curves, at most some hundred each; those of images only where some are normal and some are not.
   * @throws UserError as {@linkcode LocalisationTest.figures}
   */
  curves(): TestCurves {
    const pixels = this.#pixels.pixels(), { images, both } = this.#images();
    return {
      pixelRoc: rounded(rocCurve(pixels)),
      pixelPrecisionRecall: rounded(precisionRecallCurve(pixels)),
      pro: rounded(proCurve(this.#pixels.regions())),
      ...(both
        ? { imageRoc: rounded(rocCurve(images)), imagePrecisionRecall: rounded(precisionRecallCurve(images)) }
        : {}),
    };
  }

  /** @throws UserError where no pixel is defect, or every one is */
  figures(): LocalisationFigures {
    const pixels = this.#pixels.pixels(), regions = this.#pixels.regions();
    const { images, both } = this.#images();
    return {
      pixelAuroc: auroc(pixels),
      pixelAp: averagePrecision(pixels),
      pixelF1Max: f1Max(pixels).f1,
      pixelF1Max21: f1Max21(pixels),
      auPro30: auPro(regions, 0.3),
      auPro30By100Ranks: auProByRank(regions, 0.3),
      ...(both ? { imageAuroc: auroc(images), imageAp: averagePrecision(images), imageF1Max: f1Max(images).f1 } : {}),
      normalImages: images.negatives,
      defectImages: images.positives,
    };
  }
}

/** Average precision of one image's pixels; undefined where its mask marks none, or every one. */
export function imagePixelAp({ mask }: InspectionSample, map: Float32Array): number | undefined {
  if (!mask?.includes(1) || !mask.includes(0)) return undefined;
  const ranking = rank(map, mask, "pixels");
  return map.every((v) => v === map[0]) ? ranking.positives / mask.length : averagePrecision(ranking);
}

/** Figures of the classifier. */
export interface ClassifierFigures {
  /** Share of images whose kind is named rightly. */
  readonly accuracy: number;
  /** Images by true (row) and named (column) kind, in the order of the labels. */
  readonly confusion: readonly (readonly number[])[];
  readonly images: number;
}

/**
 * Accuracy and confusion of a classifier.
 * @param truth class of each image
 * @param named class that the network finds most probable
 * @example
 * ```ts
 * import { classifierFigures } from "./evaluate.ts";
 * const { accuracy, confusion } = classifierFigures([0, 1, 1], [0, 1, 0], 2);
 * if (accuracy !== 2 / 3 || confusion[1][0] !== 1) throw new Error();
 * ```
 */
export function classifierFigures(
  truth: readonly number[],
  named: readonly number[],
  classes: number,
): ClassifierFigures {
  const confusion = Array.from({ length: classes }, () => Array<number>(classes).fill(0));
  truth.forEach((label, i) => confusion[label][named[i]]++);
  const right = confusion.reduce((sum, row, i) => sum + row[i], 0);
  return { accuracy: right / truth.length, confusion, images: truth.length };
}

/** Position of the largest value. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/**
 * One number to select by, as the official code does: the sum of image AUROC, pixel AUROC, pixel AP and AU-PRO, or the
 * accuracy.
 */
export async function selectionFigure(
  predictor: Predictor,
  samples: readonly InspectionSample[],
  side: number,
  labels: readonly string[] | undefined,
): Promise<number> {
  if (labels) {
    const shown = samples.filter(({ kind }) => kind !== undefined), named: number[] = [];
    for await (const { index, values } of predictor.predict(shown)) named[index] = argmax(values);
    return classifierFigures(shown.map(({ kind }) => labels.indexOf(kind!)), named, labels.length).accuracy;
  }
  const test = new LocalisationTest(side);
  for await (const { index, values } of predictor.predict(samples)) test.add(samples[index], values);
  const { imageAuroc = 0, pixelAuroc, pixelAp, auPro30By100Ranks } = test.figures();
  return imageAuroc + pixelAuroc + pixelAp + auPro30By100Ranks;
}
