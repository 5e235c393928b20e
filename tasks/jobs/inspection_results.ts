/**
 * What a test of a localisation method leaves in its run folder, the same for every method: figures, the score of each image,
 * points of the curves, and the score maps of the cases that are worth a look.
 */

import { toPng } from "../../src/data/image.ts";
import { type DetectionCurves, Evaluation, type FigureName } from "../../src/inspection/metrics/evaluation.ts";
import type { Points } from "../../src/inspection/metrics/ranking.ts";
import { addSample, imagePixelAp } from "../../src/inspection/training/evaluate.ts";
import type { InspectionSample } from "../../src/inspection/training/samples.ts";
import type { Context } from "../command.ts";

/** Names of the files. */
export const METRICS = "metrics.json", SCORES = "scores.csv", CURVES = "curves.json", CASES = "cases.json";

/** Figures of a localisation method in `metrics.json`; those of images are left out where all are normal or none is. */
export interface LocalisationFigures extends Readonly<Partial<Record<FigureName, number>>> {
  readonly normalImages: number;
  readonly defectImages: number;
}

/** Why a case is kept. */
export type CaseGroup = "missed" | "found" | "false alarm";

/** How many are kept of each group. */
const KEPT: Readonly<Record<CaseGroup, number>> = { missed: 6, found: 3, "false alarm": 6 };

/** A case in `cases.json`, in the order missed, found, false alarms. */
export interface CaseRecord {
  readonly group: CaseGroup;
  readonly image: string;
  /** File of the mask, for a defect. */
  readonly mask?: string;
  readonly kind: string;
  readonly score: number;
  /** Average precision of the image's own pixels, for a defect. */
  readonly ap?: number;
  /** PNG of the score map in the run folder. */
  readonly map: string;
}

/** A case that may be kept, and how much it deserves it. */
interface Candidate {
  readonly record: CaseRecord;
  readonly rank: number;
  readonly map: Uint8ClampedArray;
}

/** A score map in grey, black 0 and white 1. */
function mapPng(map: Uint8ClampedArray, side: number): Uint8Array {
  const data = new Uint8ClampedArray(3 * map.length);
  map.forEach((v, i) => data.fill(v, 3 * i, 3 * i + 3));
  return toPng({ width: side, height: side, channels: 3, data });
}

/** Lines of a CSV file; fields with commas or quotes are quoted (RFC 4180). */
export function csv(lines: readonly (readonly (string | number | undefined)[])[]): string {
  const field = (value: string | number | undefined) => {
    const text = String(value ?? "");
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return lines.map((line) => `${line.map(field).join()}\n`).join("");
}

/** Five digits are enough for a drawing. */
function rounded(curves: DetectionCurves): DetectionCurves {
  const short = (value: number) => Number(value.toFixed(5));
  const pairs: [string, Points][] = Object.entries(curves);
  return Object.fromEntries(pairs.map(([name, points]) => [name, points.map(([x, y]) => [short(x), short(y)])]));
}

/** Takes score maps one by one; only those of the kept cases stay in memory. */
export class LocalisationResults {
  readonly #evaluation = new Evaluation();
  readonly #rows: (string | number | undefined)[][] = [];
  readonly #kept: Record<CaseGroup, Candidate[]> = { missed: [], found: [], "false alarm": [] };

  /**
   * @param side S of the maps
   * @param saveMaps write every map
   */
  constructor(readonly side: number, readonly saveMaps: boolean, readonly context: Context) {}

  /**
   * Takes the map of one image.
   * @param index its place among all
   * @param map [S · S], scores of 0 … 1
   * @param score the image's own, where the method gives one
   */
  async add(index: number, sample: InspectionSample, map: Float32Array, score?: number): Promise<void> {
    const { path: image, maskPath: mask, kind = "good" } = sample;
    const of = addSample(this.#evaluation, sample, map, this.side, score);
    const ap = imagePixelAp(sample, map), grey = Uint8ClampedArray.from(map, (v) => 255 * v);
    this.#rows.push([image, kind, of, ap]);
    const file = `maps/${String(index).padStart(4, "0")}-${kind}.png`;
    if (this.saveMaps) await this.context.runFolder.write(file, mapPng(grey, this.side));
    const record = { image, mask, kind, score: of, ap, map: file };
    const keep = (group: CaseGroup, rank: number) => {
      const list = this.#kept[group];
      list.push({ record: { group, ...record }, rank, map: grey });
      list.sort((a, b) => b.rank - a.rank).splice(KEPT[group]);
    };
    if (sample.kind === undefined) keep("false alarm", of);
    else if (ap !== undefined) {
      keep("missed", -ap);
      keep("found", ap);
    }
  }

  /**
   * Writes the scores, the curves and the cases.
   * @throws UserError where a figure of pixels is missing, e.g. because no pixel of the test set is defect
   */
  async finish(): Promise<LocalisationFigures> {
    const { runFolder } = this.context, { values, missing } = this.#evaluation.figures();
    for (const [name, error] of Object.entries(missing)) if (!name.startsWith("image")) throw error;
    const { positives: defectImages, negatives: normalImages } = this.#evaluation.imageRanking();
    if (missing.imageAuroc) {
      const why = normalImages ? missing.imageAuroc.message : "no normal test images (test/good)";
      this.context.log(`${why}: figures of whole images are left out`);
    }
    await runFolder.write(SCORES, csv([["image", "kind", "score", "ap"], ...this.#rows]));
    await runFolder.write(CURVES, `${JSON.stringify(rounded(this.#evaluation.curves()))}\n`);
    // An image is shown once: on a small test set the best are among the worst.
    const shown = new Set<string>();
    const cases = (["missed", "found", "false alarm"] as const).flatMap((group) => this.#kept[group])
      .filter(({ record }) => !shown.has(record.map) && shown.add(record.map));
    for (const { record, map } of cases) await runFolder.write(record.map, mapPng(map, this.side));
    await runFolder.write(CASES, `${JSON.stringify(cases.map(({ record }) => record), null, 2)}\n`);
    return { ...values, normalImages, defectImages };
  }
}

/** Writes what was measured, and what it rests on. */
export async function writeMetrics(metrics: object, { runFolder }: Context): Promise<void> {
  await runFolder.write(METRICS, `${JSON.stringify(metrics, null, 2)}\n`);
}

/** The figures as lines of a table. */
export function printFigures(figures: object, context: Context): void {
  for (const [name, value] of Object.entries(figures)) {
    if (typeof value === "number") {
      context.print(`${name.padEnd(20)}${Number.isInteger(value) ? value : value.toFixed(4)}`);
    }
  }
}
