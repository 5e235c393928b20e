/** The part of a report page about inspection: figures, curves and cases out of the run folders of the inspect commands. */

import { join } from "node:path";
import { resizeMask } from "../../src/data/augment.ts";
import { type Image, loadImage, loadMask, toPng } from "../../src/data/image.ts";
import type { DetectionCurves } from "../../src/inspection/metrics/evaluation.ts";
import { spread } from "../../src/inspection/metrics/pairs.ts";
import { heatPicture, outlinePicture, photo, shrink } from "../../src/report/pictures.ts";
import {
  type Case,
  casesSection,
  type CurveChart,
  curvesSection,
  type Table,
  tableSection,
} from "../../src/report/sections.ts";
import { existsFile, readJson } from "./files.ts";
import {
  type CaseGroup,
  type CaseRecord,
  CASES,
  CURVES,
  METRICS,
  SCORES,
  type TestCurves,
} from "./inspection_results.ts";
import { SMALL } from "./report_pairs.ts";

/** What `metrics.json` holds of both networks. */
export type Metrics = Readonly<Record<string, unknown>>;

/** A tested run. */
export interface TestedRun {
  /** The method's name; several runs of one name are seeds of one method. */
  readonly name: string;
  readonly metrics: Metrics;
  /** Undefined for a classifier. */
  readonly curves?: TestCurves;
}

/** Figures that are compared, as `metrics.json` and a reader call them. */
const FIGURES: readonly (readonly [key: string, title: string])[] = [
  ["pixelAuroc", "pixel AUROC"],
  ["pixelAp", "pixel AP"],
  ["pixelF1Max", "pixel F1-max"],
  ["auPro30", "AU-PRO 0.3"],
  ["imageAuroc", "image AUROC"],
  ["imageAp", "image AP"],
  ["imageF1Max", "image F1-max"],
  ["accuracy", "accuracy"],
];

/** What the figures are, for a reader. */
export const FIGURES_NOTE =
  "Per cent. Pixels of all test images of a part together, of several parts the unweighted mean; equal scores one point of a " +
  "curve; F1-max over every threshold; AU-PRO exact, to a false positive rate of 0.3. docs/metrics.md has the conventions.";

/** Lines of a CSV file as `csv` of `inspection_results.ts` writes it, by the names of its head. */
export function parseCsv(text: string): Record<string, string>[] {
  const lines: string[][] = [[]];
  for (const [, quoted, bare, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\n|$)/g)) {
    lines.at(-1)!.push(quoted === undefined ? bare : quoted.replaceAll('""', '"'));
    if (end === "\n") lines.push([]);
  }
  const [head, ...rest] = lines;
  return rest.filter((line) => line.length === head.length)
    .map((line) => Object.fromEntries(head.map((name, i) => [name, line[i]])));
}

/** The scores of a tested run, image by image. */
async function readScores(folder: string): Promise<Record<string, string>[]> {
  const path = join(folder, SCORES);
  return await existsFile(path) ? parseCsv(await Deno.readTextFile(path)) : [];
}

/** What a run folder of a test holds; undefined where it is none. */
export async function readTested(folder: string, name: string): Promise<TestedRun | undefined> {
  const metrics = await readJson<Metrics>(join(folder, METRICS));
  return metrics && { name, metrics, curves: await readJson<TestCurves>(join(folder, CURVES)) };
}

/** Names in the order of their first run. */
const namesOf = (runs: readonly TestedRun[]) => [...new Set(runs.map(({ name }) => name))];

/** One row for each method, mean ± sample deviation over its runs. */
export function figuresTable(runs: readonly TestedRun[]): Table {
  const shown = FIGURES.filter(([key]) => runs.some(({ metrics }) => typeof metrics[key] === "number"));
  const several = namesOf(runs).length < runs.length;
  const rows = namesOf(runs).map((name) => {
    const mine = runs.filter((run) => run.name === name);
    const cells = shown.map(([key]) => {
      const values = mine.map(({ metrics }) => metrics[key]).filter((value) => typeof value === "number");
      if (!values.length) return "–";
      const { mean, std, count } = spread(values);
      return (100 * mean).toFixed(1) + (count > 1 ? ` ± ${(100 * std).toFixed(1)}` : "");
    });
    return [name, ...(several ? [mine.length] : []), ...cells];
  });
  return { columns: ["method", ...(several ? ["runs"] : []), ...shown.map(([, title]) => title)], rows };
}

/** PR, ROC and PRO curves of tested runs, those of one method in one colour. */
export function curvesOf(runs: readonly TestedRun[], heading = "Curves"): string {
  const shown = runs.filter(({ curves }) => curves);
  const chart = (
    title: string,
    x: string,
    y: string,
    key: keyof DetectionCurves,
    more: { to?: number; chance?: boolean },
  ) => ({
    title,
    axes: { x, y, ...more },
    series: shown.map(({ name, curves }) => ({ name, points: curves![key] ?? [] })),
  });
  const charts: CurveChart[] = [
    chart("Precision and recall, pixels", "recall", "precision", "pixelPrecisionRecall", {}),
    chart("ROC, pixels", "false positive rate", "true positive rate", "pixelRoc", { chance: true }),
    chart("PRO", "false positive rate", "mean overlap of regions", "pro", { to: 0.3 }),
    chart("Precision and recall, images", "recall", "precision", "imagePrecisionRecall", {}),
    chart("ROC, images", "false positive rate", "true positive rate", "imageRoc", { chance: true }),
  ];
  return curvesSection(heading, "PRO is drawn up to 0.3, where AU-PRO ends. Dotted: what a guess reaches.", charts);
}

/** The curves of tested runs; where a run is of several parts, those of each part by themselves. */
export function partCurves(runs: readonly TestedRun[]): string[] {
  const parts = [...new Set(runs.flatMap(({ curves }) => Object.keys(curves?.byPart ?? {})))].sort();
  const ofPart = (part: string) => runs.map((run) => ({ ...run, curves: run.curves?.byPart?.[part] }));
  return [curvesOf(runs), ...parts.map((part) => curvesOf(ofPart(part), `Curves of ${part}`))];
}

/** Where a file of the data set lies now: as the run named it, or in the data set that is given instead. */
async function found(path: string, was: string | undefined, data: string | undefined): Promise<string | undefined> {
  if (await existsFile(path)) return path;
  const moved = data && was && path.startsWith(was) ? join(data, path.slice(was.length)) : undefined;
  return moved && await existsFile(moved) ? moved : undefined;
}

/** How the groups of cases are called. */
const GROUPS: Readonly<Record<CaseGroup, string>> = {
  missed: "Found worst",
  found: "Found best",
  "false alarm": "Normal images with the highest scores",
};

/** Where the runs' images are. */
export interface CaseFolders {
  readonly folder: string;
  /** The data set as the run named it, and where it is now if not there. */
  readonly was?: string;
  readonly data?: string;
}

/** Worst and best cases of a localisation method. */
async function localisationCases({ folder, was, data }: CaseFolders): Promise<string> {
  const records = await readJson<CaseRecord[]>(join(folder, CASES)) ?? [], cases = new Map<CaseGroup, Case[]>();
  const maps = new Map<CaseRecord, Image>();
  for (const record of records) {
    const path = join(folder, record.map);
    if (await existsFile(path)) maps.set(record, shrink(await loadImage(path), SMALL));
  }
  // One scale for all, so that they can be compared, and the highest score is the brightest colour.
  const full = [...maps.values()].reduce((most, { data }) => data.reduce((a, b) => Math.max(a, b), most), 1);
  for (const [record, map] of maps) {
    const path = await found(record.image, was, data), maskPath = record.mask && await found(record.mask, was, data);
    if (!path) continue;
    const image = shrink(await loadImage(path), SMALL);
    const truth = maskPath ? await outlined(image, maskPath) : undefined;
    const ap = record.ap === undefined ? "" : `, AP ${(100 * record.ap).toFixed(0)} %`;
    cases.set(record.group, [...cases.get(record.group) ?? [], {
      image: await photo(image, SMALL),
      truth,
      map: toPng(heatPicture(map, full)),
      caption: `${record.kind}, score ${record.score.toFixed(3)}${ap} · ${shortPath(record.image)}`,
    }]);
  }
  return casesSection(
    "Worst and best cases",
    "By the average precision of the image's own pixels. Scores from dark to bright, the highest score of all the brightest.",
    [...cases].map(([group, list]) => [GROUPS[group], list] as const),
  );
}

/** An image with its defect's edge. */
async function outlined(image: Image, maskPath: string): Promise<Uint8Array> {
  const mask = resizeMask(await loadMask(maskPath), image.width, image.height);
  return toPng(outlinePicture(image, mask));
}

/** The last three parts of a path. */
const shortPath = (path: string) => path.split(/[\\/]/).slice(-3).join("/");

/** Cases of a classifier that are shown of each group. */
const CLASSIFIED = 6;

/** Images that a classifier named wrongly, the surest first, and rightly. */
async function classifierCases({ folder, was, data }: CaseFolders): Promise<string> {
  const rows = (await readScores(folder)).sort((a, b) => Number(b.probability) - Number(a.probability));
  const group = async (list: Record<string, string>[]) => {
    const cases: Case[] = [];
    for (const { image, kind, named, probability } of list.slice(0, CLASSIFIED)) {
      const path = await found(image, was, data);
      if (!path) continue;
      const sure = `${(100 * Number(probability)).toFixed(0)} %`;
      cases.push({
        image: await photo(await loadImage(path), SMALL),
        caption: `${kind === named ? kind : `${kind}, named ${named}`}, ${sure} · ${shortPath(image)}`,
      });
    }
    return cases;
  };
  const wrong = rows.filter(({ kind, named }) => kind !== named),
    right = rows.filter(({ kind, named }) => kind === named);
  return casesSection("Worst and best cases", "By how sure the network was.", [
    ["Named wrongly, the surest first", await group(wrong)],
    ["Named rightly, the surest first", await group(right)],
  ]);
}

/** Figures by kind of defect, spread over its images. */
function byKind(rows: readonly Record<string, string>[]): Table {
  const kinds = [...new Set(rows.map(({ kind }) => kind))].sort((a, b) => Number(a === "good") - Number(b === "good"));
  const shown = (values: number[], scale: number, digits: number) => {
    if (!values.length) return "–";
    const { mean, std, count } = spread(values);
    return (scale * mean).toFixed(digits) + (count > 1 ? ` ± ${(scale * std).toFixed(digits)}` : "");
  };
  return {
    columns: ["kind", "images", "pixel AP of an image, %", "image score"],
    rows: kinds.map((kind) => {
      const mine = rows.filter((row) => row.kind === kind);
      const precisions = mine.filter(({ ap }) => ap).map(({ ap }) => Number(ap));
      return [kind, mine.length, shown(precisions, 100, 1), shown(mine.map(({ score }) => Number(score)), 1, 3)];
    }),
  };
}

/** The sections of one tested run. */
export async function reportTested(run: TestedRun, folders: CaseFolders): Promise<string[]> {
  const { metrics } = run, sections = [tableSection("Figures", figuresTable([run]), FIGURES_NOTE)];
  if (metrics.byPart) {
    const own = Object.entries(metrics.byPart).map(([name, metrics]) => ({ name, metrics }));
    const { columns: [, ...columns], rows } = figuresTable(own);
    sections.push(tableSection("By part", { columns: ["part", ...columns], rows }));
  }
  const confusion = metrics.confusion as number[][] | undefined, labels = metrics.labels as string[] | undefined;
  if (confusion && labels) {
    const table = {
      columns: ["true kind", ...labels.map((label) => `named ${label}`), "right"],
      rows: confusion.map((row, i) => {
        const all = row.reduce((a, b) => a + b, 0);
        return [labels[i], ...row, all ? `${(100 * row[i] / all).toFixed(0)} %` : "–"];
      }),
    };
    return [...sections, tableSection("Confusion", table), await classifierCases(folders)];
  }
  const rows = await readScores(folders.folder);
  if (rows[0]?.ap !== undefined) sections.push(tableSection("By kind", byKind(rows), "Mean ± deviation over images."));
  return [...sections, ...partCurves([run]), await localisationCases(folders)];
}
