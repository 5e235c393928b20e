/**
 * What a test of a localisation method leaves in its run folder, the same for every method: figures, the score of each image,
 * points of the curves, and the score maps of the cases that are worth a look.
 */

import { toPng } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import {
  type DetectionCurves,
  detectionFigures,
  type DetectionResult,
  Evaluation,
  type FigureName,
} from "../../src/inspection/metrics/evaluation.ts";
import type { Points } from "../../src/inspection/metrics/ranking.ts";
import { addSample, imagePixelAp } from "../../src/inspection/training/evaluate.ts";
import type { InspectionSample } from "../../src/inspection/training/samples.ts";
import type { Context } from "../command.ts";
import { printTable } from "./pair_summary.ts";

/** Names of the files. */
export const METRICS = "metrics.json", SCORES = "scores.csv", CURVES = "curves.json", CASES = "cases.json";

/**
 * Figures of a localisation method in `metrics.json`; those of images are left out where all are normal or none is. Of several
 * parts the unweighted mean, as papers have it, and sums of images.
 */
export interface LocalisationFigures extends Readonly<Partial<Record<FigureName, number>>> {
  readonly normalImages: number;
  readonly defectImages: number;
  /** Where there are several: what the means are of. */
  readonly byPart?: Readonly<Record<string, LocalisationFigures>>;
}

/** What `curves.json` holds: the curves of one part, or of several each part's own. */
export interface TestCurves extends DetectionCurves {
  readonly byPart?: Readonly<Record<string, DetectionCurves>>;
}

/** What stays of a part when all of its images were seen. */
interface PartResult extends DetectionResult {
  readonly name: string;
  readonly counts: Pick<LocalisationFigures, "normalImages" | "defectImages">;
  readonly curves: DetectionCurves;
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

/** The mean over the parts of each figure that some of them have. */
function meanFigures(parts: readonly PartResult[]): Partial<Record<FigureName, number>> {
  const means: Partial<Record<FigureName, number>> = {};
  for (const name of Object.keys(detectionFigures) as FigureName[]) {
    const known = parts.flatMap(({ values }) => values[name] ?? []);
    if (known.length) means[name] = known.reduce((sum, value) => sum + value, 0) / known.length;
  }
  return means;
}

/** Takes score maps one by one, part after part; only those of the kept cases stay in memory, and the scores of one part. */
export class LocalisationResults {
  /** The part whose images come now. */
  #open?: { readonly name: string; readonly evaluation: Evaluation };
  readonly #parts: PartResult[] = [];
  readonly #rows: (string | number | undefined)[][] = [];
  /** Defect images without a pixel that counts as defect. */
  #blank = 0;
  readonly #kept: Record<CaseGroup, Candidate[]> = { missed: [], found: [], "false alarm": [] };

  /**
   * @param side S of the maps
   * @param saveMaps write every map
   */
  constructor(readonly side: number, readonly saveMaps: boolean, readonly context: Context) {}

  /**
   * Takes the map of one image; those of one part come one after another.
   * @param index its place among all
   * @param map [S · S], scores of 0 … 1
   * @param score the image's own, where the method gives one
   */
  async add(index: number, sample: InspectionSample, map: Float32Array, score?: number): Promise<void> {
    const { path: image, maskPath: mask, kind = "good" } = sample;
    const of = addSample(this.#evaluationOf(sample.part ?? ""), sample, map, this.side, score);
    if (sample.kind !== undefined && !(sample.softMask ?? sample.mask)?.includes(1)) this.#blank++;
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

  #evaluationOf(name: string): Evaluation {
    if (this.#open?.name !== name) {
      this.#close();
      if (this.#parts.some((part) => part.name === name)) throw new Error(`images of ${name} come in two places`);
      this.#open = { name, evaluation: new Evaluation() };
    }
    return this.#open!.evaluation;
  }

  /** Measures the part whose images have all come: its scores need not wait for the other parts. */
  #close(): void {
    if (!this.#open) return;
    const { name, evaluation } = this.#open, { positives, negatives } = evaluation.imageRanking();
    const counts = { normalImages: negatives, defectImages: positives };
    this.#parts.push({ name, counts, ...evaluation.figures(), curves: rounded(evaluation.curves()) });
    this.#open = undefined;
  }

  /**
   * Writes the scores, the curves and the cases.
   * @throws UserError where a figure of pixels is missing, e.g. because no pixel of a part's test images is defect
   */
  async finish(): Promise<LocalisationFigures> {
    this.#close();
    this.#tellBlank();
    const { runFolder } = this.context, parts = this.#parts, several = parts.length > 1;
    for (const { name: part, missing } of parts) {
      for (const [name, error] of Object.entries(missing)) {
        if (name.startsWith("image")) continue;
        throw several ? new UserError(`${part}: ${error.message}`, error.hint) : error;
      }
    }
    this.#tellMissing();
    await runFolder.write(SCORES, csv([["image", "kind", "score", "ap"], ...this.#rows]));
    const curves: TestCurves = several
      ? { byPart: Object.fromEntries(parts.map(({ name, curves }) => [name, curves])) }
      : parts[0].curves;
    await runFolder.write(CURVES, `${JSON.stringify(curves)}\n`);
    // An image is shown once: on a small test set the best are among the worst.
    const shown = new Set<string>();
    const cases = (["missed", "found", "false alarm"] as const).flatMap((group) => this.#kept[group])
      .filter(({ record }) => !shown.has(record.map) && shown.add(record.map));
    for (const { record, map } of cases) await runFolder.write(record.map, mapPng(map, this.side));
    await runFolder.write(CASES, `${JSON.stringify(cases.map(({ record }) => record), null, 2)}\n`);
    const sum = (count: "normalImages" | "defectImages") => parts.reduce((all, { counts }) => all + counts[count], 0);
    const all = { ...meanFigures(parts), normalImages: sum("normalImages"), defectImages: sum("defectImages") };
    const own = parts.map(({ name, values, counts }) => [name, { ...values, ...counts }] as const);
    return several ? { ...all, byPart: Object.fromEntries(own) } : all;
  }

  /** Says how many defects no figure of pixels can count as found: their masks are black, or were too thin for the maps' size. */
  #tellBlank(): void {
    if (this.#blank === 0) return;
    const size = `${this.side}×${this.side}`,
      what = this.#blank > 1
        ? `images have empty masks at ${size}: they count`
        : `image has an empty mask at ${size}: it counts`;
    const hint = "paint defects white, or put what has none into test/good";
    this.context.log(`${this.#blank} defect ${what} as defective without a defect pixel (${hint})`);
  }

  /** Says of which parts there are no figures of whole images, and why. */
  #tellMissing(): void {
    const count = this.#parts.length, lacking = this.#parts.filter(({ missing }) => missing.imageAuroc);
    const rest = lacking.length < count ? ", their means are over the other parts" : "";
    for (const { name, missing, counts } of lacking) {
      const why = counts.normalImages ? missing.imageAuroc!.message : "no normal test images (test/good)";
      this.context.log(`${count > 1 ? `${name}: ` : ""}${why}: figures of whole images are left out${rest}`);
    }
  }
}

/** Writes what was measured, and what it rests on. */
export async function writeMetrics(metrics: object, { runFolder }: Context): Promise<void> {
  await runFolder.write(METRICS, `${JSON.stringify(metrics, null, 2)}\n`);
}

const shown = (value: number) => String(Number.isInteger(value) ? value : value.toFixed(4));

/** The figures as lines of a table, and those of each part where there are several. */
export function printFigures(figures: Partial<LocalisationFigures>, context: Context): void {
  for (const [name, value] of Object.entries(figures)) {
    if (typeof value === "number") context.print(`${name.padEnd(20)}${shown(value)}`);
  }
  const parts = Object.entries(figures.byPart ?? {});
  if (parts.length === 0) return;
  const columns = Object.keys(figures).filter((name) => parts.some(([, own]) => name in own)) as FigureName[];
  const cell = (value: number | undefined) => value === undefined ? "–" : shown(value);
  context.print(`\nmeans over ${parts.length} parts, each counting alike, and sums of images; by part:`);
  const rows = parts.map(([part, own]) => [part, ...columns.map((name) => cell(own[name]))]);
  printTable({ columns: ["part", ...columns], rows }, context);
}
