/**
 * The figures about generated pairs that need no network, for every run that makes pairs: in its closing lines, and in
 * `summary.json`. The pairs are read back one by one, so that a resumed run tells the same as one that was never stopped.
 */

import { join } from "node:path";
import { partRegion } from "../../src/anomaly/masks.ts";
import { type Image, loadImage, loadMask, type Mask } from "../../src/data/image.ts";
import { loadPair, requireSize } from "../../src/data/mvtec.ts";
import { resize } from "../../src/data/resize.ts";
import { type KindFigures, PairSummary } from "../../src/inspection/metrics/pair_summary.ts";
import type { Table } from "../../src/report/sections.ts";
import type { Context } from "../command.ts";
import { type Kind, nameIn } from "./dataset.ts";
import type { ManifestRecord } from "./pairs.ts";

/** Name of the file. */
export const SUMMARY = "summary.json";

/** One kind in `summary.json`. */
export interface KindSummary extends KindFigures {
  readonly part: string;
  readonly defect: string;
  /** Pairs that passed the quality gate. */
  readonly accepted: number;
  /** Tries that it refused, by reason; undefined for methods without a gate. */
  readonly refused?: Readonly<Record<string, number>>;
  /**
   * How much the seed alone changes the inside of the mask: mean difference between images of one source and one mask,
   * 0 … 1; undefined where it was not measured.
   */
  readonly seedVariety?: number;
}

/** What a summary needs to know of a pair. */
export type PairRecord =
  & Pick<ManifestRecord, "part" | "defect" | "index" | "image" | "mask" | "source" | "accepted">
  & Partial<Pick<ManifestRecord, "refused" | "feather">>;

/** What is summarised. */
export interface SummaryRun {
  readonly kinds: readonly Kind[];
  readonly data: string;
  /** Folder of the pairs; the run folder where left out. */
  readonly folder?: string;
  readonly records: readonly PairRecord[];
  /** Differences by seed, by the kind's key. */
  readonly seedVariety?: ReadonlyMap<string, number>;
}

/** Normal images from which the part's region is found, and its working size. */
const REGION_IMAGES = 8, REGION_SIDE = 128;

/** Where the part of a kind lies, at any size. */
export async function regionOf({ part }: Kind): Promise<(size: { width: number; height: number }) => Mask> {
  const images: Image[] = [];
  for (const path of part.good.slice(0, REGION_IMAGES)) {
    images.push(resize(await loadImage(path), REGION_SIDE, REGION_SIDE, "bicubic"));
  }
  const small = partRegion(images), sizes = new Map<string, Mask>();
  return ({ width, height }) => {
    const name = `${width}×${height}`;
    let region = sizes.get(name);
    if (!region) sizes.set(name, region = { ...resize(small, width, height, "nearest"), channels: 1 });
    return region;
  };
}

/** Writes `summary.json` and prints its table. */
export async function summarisePairs(run: SummaryRun, context: Context): Promise<void> {
  const summaries = await summariseKinds(run, context);
  const short = (_: string, value: unknown) => typeof value === "number" ? Number(value.toFixed(5)) : value;
  await context.runFolder.write(SUMMARY, `${JSON.stringify(summaries, short, 2)}\n`);
  printTable(summaryTable(summaries), context);
}

/** Reads the pairs back and measures them, kind by kind; a kind without pairs is left out. */
export async function summariseKinds(run: SummaryRun, context: Context): Promise<KindSummary[]> {
  const { records, seedVariety } = run, { signal } = context, folder = run.folder ?? context.runFolder.path;
  using progress = context.progress({ label: "figures", total: records.length, unit: "pair" });
  const summaries: KindSummary[] = [];
  let done = 0;
  for (const kind of run.kinds) {
    const { part, defect, key } = kind, mine = records.filter((r) => r.part === part.name && r.defect === defect.name);
    if (mine.length === 0) continue;
    const training = [];
    for (const pair of defect.train) training.push(await loadPair(pair));
    const region = await regionOf(kind), summary = new PairSummary(training);
    const sources = new Map(part.good.map((path) => [nameIn(run.data, path), path]));
    let empty = 0;
    for (const record of mine) {
      signal.throwIfAborted();
      progress.update(++done);
      const mask = await loadMask(join(folder, record.mask));
      if (!mask.data.includes(1)) {
        empty++;
        continue;
      }
      const source = await loadImage(sources.get(record.source) ?? `${run.data}/${record.source}`);
      const image = await loadImage(join(folder, record.image));
      requireSize(join(folder, record.mask), mask, image);
      summary.add(source, { image, mask }, { feather: record.feather, part: region(image) });
    }
    if (empty) context.log(`${key}: ${empty} of ${mine.length} masks are empty; the figures leave these pairs out`);
    if (empty === mine.length) continue;
    summaries.push({
      part: part.name,
      defect: defect.name,
      accepted: mine.filter(({ accepted }) => accepted).length,
      refused: refusalsOf(mine),
      ...summary.figures(),
      seedVariety: seedVariety?.get(key),
    });
  }
  progress.finish();
  return summaries;
}

/** Tries that were refused, by reason. */
function refusalsOf(records: readonly PairRecord[]): Record<string, number> | undefined {
  if (records.every(({ refused }) => refused === undefined)) return undefined;
  const counts: Record<string, number> = {};
  for (const { refused = [] } of records) for (const why of refused) counts[why] = (counts[why] ?? 0) + 1;
  return counts;
}

/** `3 unchanged, 1 near-duplicate`; 0 for none. */
export function refusedText(refused: Readonly<Record<string, number>>): string {
  return Object.entries(refused).sort(([a], [b]) => a < b ? -1 : 1).map(([why, count]) => `${count} ${why}`).join(
    ", ",
  ) ||
    "0";
}

/** Prints a table. */
export function printTable({ columns, rows }: Table, context: Context): void {
  const lines = [columns, ...rows];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => String(line[i]).length)));
  for (const line of lines) {
    context.print(
      line.map((cell, i) => i ? String(cell).padStart(widths[i]) : String(cell).padEnd(widths[i])).join("  "),
    );
  }
}

const percent = (value: number, digits = 0) => `${(100 * value).toFixed(digits)} %`;

/** The table of a summary: a row for each kind; a column that nothing is known of is left out. */
export function summaryTable(summaries: readonly KindSummary[]): Table {
  const pm = ({ mean, std, count }: KindFigures["onPart"], digits = 0) =>
    count > 1 ? `${(100 * mean).toFixed(digits)} ± ${percent(std, digits)}` : percent(mean, digits);
  const known = (value: number | undefined) => value === undefined ? "–" : percent(value, 1);
  const columns: [name: string, cell: (one: KindSummary) => string][] = [
    ["defect", (s) => `${s.part}: ${s.defect}`],
    ["pairs", (s) => s.accepted < s.pairs ? `${s.accepted} of ${s.pairs}` : String(s.pairs)],
    ["tries refused", (s) => s.refused ? refusedText(s.refused) : "–"],
    ["change inside", (s) => pm(s.changeInside, 1)],
    ["mask changed", (s) => pm(s.changedShare)],
    ["outside", (s) => percent(s.changeOutside.mean, 2)],
    ["largest", (s) => percent(s.largestOutside)],
    ["on part", (s) => percent(s.onPart.mean)],
    ["nearest training", (s) => known(s.nearestTraining?.median)],
    ["among training", (s) => known(s.nearestTraining?.trainingMedian)],
    ["copied", (s) => s.nearestTraining ? String(Math.round(s.nearestTraining.copied * s.pairs)) : "–"],
    ["alike", (s) => String(s.nearDuplicates.count)],
    ["by seed", (s) => known(s.seedVariety)],
  ];
  const shown = columns.filter(([, cell]) => summaries.some((one) => cell(one) !== "–"));
  return {
    columns: shown.map(([name]) => name),
    rows: summaries.map((one) => shown.map(([, cell]) => cell(one))),
  };
}

/** What the columns of {@linkcode summaryTable} mean, for a reader. */
export const SUMMARY_NOTE =
  "Tries refused: what the quality gate sent back, by reason. Changes against the source image, in parts of the full scale; mask changed: share of its pixels that visibly differ; " +
  "outside, largest: what changed away from the mask. Nearest training: median distance to the most similar training " +
  "defect, to be compared with the distance among training defects; copied: pairs that repeat one; alike: pairs that look " +
  "like an earlier one; by seed: how much the seed alone changes.";
