/**
 * How well a trained network does on test images: the localisation U-Net by pixels, regions and images, ResNet-34 by the
 * share of images whose kind of defect it names (AnomalyDiffusion's tables 2 to 4).
 */

import { Evaluation, type FigureName } from "../metrics/evaluation.ts";
import { averagePrecision, rank } from "../metrics/ranking.ts";
import type { Predictor } from "./predictor.ts";
import type { InspectionSample } from "./samples.ts";

/**
 * Adds a test image's map to an evaluation, with what is true of the image.
 * @param map [S · S], scores of 0 … 1
 * @param score the image's own, where the method gives one
 * @returns the image's score
 */
export function addSample(
  evaluation: Evaluation,
  { path: name, kind, mask, softMask }: InspectionSample,
  map: Float32Array,
  side: number,
  score?: number,
): number {
  const truth = softMask ?? mask ?? new Uint8Array(side * side);
  return evaluation.add({ width: side, height: side, scores: map, mask: truth, name }, {
    defective: kind !== undefined,
    score,
  });
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
  const evaluation = new Evaluation();
  for await (const { index, values } of predictor.predict(samples)) addSample(evaluation, samples[index], values, side);
  const { positives, negatives } = evaluation.imageRanking();
  const names: FigureName[] = positives && negatives ? ["imageAuroc"] : [];
  names.push("pixelAuroc", "pixelAp", "auPro30By100Ranks");
  return names.reduce((sum, name) => sum + evaluation.figure(name), 0);
}
