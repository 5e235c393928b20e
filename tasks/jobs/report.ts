/**
 * The report page of one run or of several: what stands in a run folder decides what is told of it (a manifest, losses,
 * figures, masks, tables), so that every command's run can be reported.
 */

import { basename, dirname, join, resolve } from "node:path";
import { loadImage, toPng } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import type { Curve } from "../../src/report/chart.ts";
import { htmlPage, type Page } from "../../src/report/page.ts";
import { shrink } from "../../src/report/pictures.ts";
import {
  chapter,
  contents,
  count,
  defectSection,
  picturesSection,
  settingsSection,
  tableSection,
  trainingSection,
  versusSection,
} from "../../src/report/sections.ts";
import { averages, byPart, type ComparisonTable } from "../../src/report/tables.ts";
import { partsFolder } from "../assets.ts";
import type { Context } from "../command.ts";
import { readJsonLines } from "../run_folder.ts";
import { dataOf, wasGiven } from "./dataset.ts";
import { LEARNED, STAGES } from "./demo_page.ts";
import { EVALUATION, EVALUATION_NOTE, type EvaluationFile, evaluationTables } from "./evaluation.ts";
import { existsFile, readJson } from "./files.ts";
import type { KindSummary } from "./pair_summary.ts";
import { MANIFEST } from "./pairs.ts";
import {
  curvesOf,
  FIGURES_NOTE,
  figuresTable,
  partCurves,
  readTested,
  reportTested,
  type TestedRun,
} from "./report_inspection.ts";
import { type PairFolders, type PairReport, reportMasks, reportPairs, versus } from "./report_pairs.ts";
import { figuresFolder } from "./reproduce_stages.ts";
import { tableSpecs } from "./reproduce_tables.ts";
import { readDone } from "./stage.ts";
import type { LossRecord } from "./training.ts";

/** What to report. */
export interface ReportRun {
  /** Run folders, each with a name of its own in front if the user wants: `ours=runs/pairs`. */
  readonly runs: readonly string[];
  /** Where the data set is now, if not where the runs found it. */
  readonly data?: string;
  /** Pairs of each kind that are shown. */
  readonly shown: number;
  readonly title?: string;
  readonly footer: string;
}

/** One run, read. */
interface Chapter {
  readonly name: string;
  readonly folder: string;
  readonly command: string;
  readonly about: string;
  readonly highlights: Page["highlights"];
  readonly body: readonly string[];
  readonly tested?: TestedRun;
  readonly pairs?: PairReport;
  readonly folders?: PairFolders;
}

/** Rows of each kind where several runs stand side by side, and the longest side of a validation sheet. */
const VERSUS_ROWS = 3, SHEET_SIDE = 1100;

/** Rows of a table of details that are shown without being asked for. */
const LONG_TABLE = 12;

/** Settings that say nothing of what came out. */
const HIDDEN = new Set(["command", "version", "out"]);

/** What a command's run is, in a reader's words. */
const ABOUT: Readonly<Record<string, string>> = {
  demo: "A whole job on what ships with the program",
  train: "A training of defects",
  "train-masks": "A training of defects' masks",
  "generate-masks": "Masks of new defects",
  generate: "Generated image–mask pairs",
  baseline: "Image–mask pairs by a method that the paper compares with",
  evaluate: "Figures of generated image–mask pairs",
  pretrain: "A training of a base model",
  "inspect-train": "A training of an inspection network",
  "inspect-test": "A test of an inspection network on real images",
  "inspect-patchcore": "PatchCore, which learns from normal images alone, tested on real images",
  reproduce: "The paper's tables, measured beside what it prints",
};

/** `name=folder` as both, and a folder by its own name. */
export function nameAndFolder(word: string): { name: string; folder: string } {
  const at = word.indexOf("=");
  if (at > 0 && !/[\\/]/.test(word.slice(0, at))) return { name: word.slice(0, at), folder: word.slice(at + 1) };
  return { name: basename(resolve(word)), folder: word };
}

/** The losses of a training as a curve. */
async function curveOf(folder: string, name: string): Promise<Curve[]> {
  const records = await readJsonLines<LossRecord>(join(folder, "loss.jsonl"));
  return records.length ? [{ name, points: records.map(({ step, loss }) => [step, loss] as const) }] : [];
}

/** The newest validation pictures of a training. */
async function validation(folder: string): Promise<string> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(join(folder, "validation"))) if (name.endsWith(".png")) names.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const last = names.sort().at(-1);
  if (!last) return "";
  const sheet = toPng(shrink(await loadImage(join(folder, "validation", last)), SHEET_SIDE));
  const note = "Normal image, mask and result, as they were at that step.";
  return picturesSection("On the way", note, [[last.replace(/\.png$/, ""), sheet]], "wide");
}

/** Curves of the networks behind a table of `reproduce`, of each part those of all methods and seeds. */
async function paperCurves(folder: string, table: ComparisonTable): Promise<string[]> {
  const [{ measure, rows }] = tableSpecs([table.name], { controls: true, tune: true }), sections: string[] = [];
  for (const part of table.parts) {
    const runs: TestedRun[] = [];
    for (const { name, recipe } of rows) {
      if (!recipe || !table.rows.some((row) => row.name === name)) continue;
      for (const seed of table.seeds) {
        runs.push(...[await readTested(join(folder, figuresFolder(seed, recipe, measure, part)), name) ?? []].flat());
      }
    }
    if (runs.some(({ curves }) => curves)) sections.push(curvesOf(runs, `Curves of ${part}`));
  }
  return sections;
}

/** A table of `reproduce`: the paper's averages beside those of the run, every part, and the curves behind these. */
async function paperTables(folder: string): Promise<string[]> {
  const sections: string[] = [], drawn = new Set<string>();
  for (let n = 1; n <= 9; n++) {
    const table = await readJson<ComparisonTable>(join(folder, `table${n}.json`));
    if (!table) continue;
    const { table: means, notes } = averages(table), { columns, rows } = byPart(table);
    // Method and part in one column, which stays in sight where a phone scrolls the figures.
    const parts = {
      columns: ["method: part", ...columns.slice(2)],
      rows: rows.map(([method, part, ...figures]) => [`${method}: ${part}`, ...figures]),
    };
    const spread = table.seeds.length > 1 ? "Mean ± deviation over seeds." : "";
    sections.push(
      tableSection(table.title, means, spread, { footnotes: notes }),
      tableSection(`${table.title.split(":")[0]}, by part`, parts, "", { folded: parts.rows.length > LONG_TABLE }),
    );
    // Tables 2 and 3 are of the same networks.
    for (const section of await paperCurves(folder, table)) {
      if (!drawn.has(section)) sections.push(section);
      drawn.add(section);
    }
    sections.push(settingsSection(table.footing, "What these figures rest on"));
  }
  return sections;
}

/** Mean of a figure over kinds of defect, weighted by their pairs. */
function overKinds(summaries: readonly KindSummary[], figure: (one: KindSummary) => number): number {
  const pairs = summaries.reduce((sum, one) => sum + one.pairs, 0);
  return summaries.reduce((sum, one) => sum + one.pairs * figure(one), 0) / pairs;
}

const percent = (value: number, digits = 0) => `${(100 * value).toFixed(digits)} %`;

/** What is told of a run's pairs at its top. */
function pairHighlights({ records, sections, summaries }: PairReport): Page["highlights"] {
  const inside = records.reduce((sum, { figures }) => sum + figures.changeInside, 0) / records.length;
  const largest = Math.max(...records.map(({ figures }) => figures.changeOutside));
  return [
    [String(records.length), "labelled pairs"],
    [String(sections.length), sections.length === 1 ? "kind of defect" : "kinds of defect"],
    [percent(summaries ? overKinds(summaries, (one) => one.changeInside.mean) : inside), "mean change inside the mask"],
    summaries
      ? [percent(Math.max(...summaries.map((one) => one.largestOutside))), "largest change outside"]
      : [percent(largest), "mean change outside, largest"],
    ...(summaries
      ? [[String(summaries.reduce((n, one) => n + one.nearDuplicates.count, 0)), "near-duplicates"]]
      : []) as [
        string,
        string,
      ][],
  ];
}

/** What is known of a stage of `reproduce`, whose folder has no settings: its command, and the data set of the whole run. */
async function stageConfig(folder: string): Promise<Record<string, unknown> | undefined> {
  const done = await readDone(folder), command = done?.trim();
  if (command === undefined || ABOUT[command] === undefined) return undefined;
  for (let up = dirname(resolve(folder)); up !== dirname(up); up = dirname(up)) {
    const config = await readJson<Record<string, unknown>>(join(up, "config.json"));
    if (config) return { command, data: config.data ?? partsFolder() };
  }
  return { command };
}

/** Reads a run folder. */
async function readRun(word: string, { data: given, shown }: ReportRun): Promise<Chapter> {
  const { name, folder } = nameAndFolder(word);
  const config = await readJson<Record<string, unknown>>(join(folder, "config.json")) ?? await stageConfig(folder);
  if (typeof config?.command !== "string") {
    throw new UserError(`${folder} holds no run`, "give the run folder of another command: the one named by its --out");
  }
  const { command } = config, data = dataOf(config, given), body: string[] = [];
  const settings = Object.fromEntries(Object.entries(config).filter(([key]) => !HIDDEN.has(key)));
  let highlights: Page["highlights"] = [];
  const curves = command === "demo"
    ? (await Promise.all(LEARNED.map(([what, stage]) => curveOf(join(folder, stage), what)))).flat()
    : await curveOf(folder, command === "train-masks" ? "mask embeddings" : "loss");
  const inside = command === "demo" ? join(folder, STAGES.pairs) : folder;
  let pairs: PairReport | undefined, folders: PairFolders | undefined;
  if (await existsFile(join(inside, MANIFEST))) {
    const masks = command === "demo" ? join(folder, STAGES.masks) : config.masks as string | undefined;
    folders = {
      folder: inside,
      data,
      masks,
      officialSplit: config["official-split"] === true,
      allPairs: await wasGiven(folder, "all-pairs"),
    };
    pairs = await reportPairs(folders, shown);
    if (!pairs.records.length) throw new UserError(`${folder} holds no pairs yet`, "let the run finish first");
    highlights = pairHighlights(pairs);
    body.push(tableSection("Figures", pairs.table, pairs.note), ...pairs.sections.map(defectSection));
  }
  if (command === "generate-masks") {
    const kinds = await reportMasks(folder, 3 * shown);
    highlights = [[String(kinds.reduce((n, [, , of]) => n + of, 0)), "masks"], [
      String(kinds.length),
      "kinds of defect",
    ]];
    for (const [kind, masks, of] of kinds) {
      const note = of > masks.length ? `${masks.length} of ${of}` : "";
      body.push(picturesSection(kind, note, masks.map((mask, i) => [`#${i}`, mask]), "mask"));
    }
  }
  body.push(trainingSection(curves), await validation(folder));
  const tested = await readTested(folder, name);
  if (tested) {
    const was = typeof config.data === "string" ? config.data : undefined;
    const { columns, rows } = figuresTable([tested]);
    highlights = columns.slice(1, 5).map((column, i) => [`${rows[0][i + 1]} %`, column] as const);
    body.push(...await reportTested(tested, { folder, was, data: given }));
  }
  const evaluation = await readJson<EvaluationFile>(join(folder, EVALUATION));
  if (evaluation) {
    body.push(
      ...evaluationTables(evaluation).map((table, i) =>
        tableSection(i ? "By part" : "Figures of generated pairs", table, i ? "" : EVALUATION_NOTE)
      ),
    );
  }
  body.push(...await paperTables(folder));
  if (!body.some(Boolean)) {
    throw new UserError(`${folder}: this run of ${command} left nothing to show`, "let the run finish first");
  }
  const missing = data === undefined && (pairs || tested)
    ? ` The data set is not where the run found it (--data).`
    : "";
  const about = `${ABOUT[command] ?? command}: ${folder}.${missing}`;
  const { network, step, selection, side } = tested?.metrics ?? {};
  const facts = tested ? { network, step, selection, side } : {};
  body.push(settingsSection({ ...settings, ...facts }));
  return { name, folder, command, about, highlights, body, tested, pairs, folders };
}

/** What stands above the runs where there are several. */
async function comparison(chapters: readonly Chapter[]): Promise<string[]> {
  const sections: string[] = [];
  const tested = chapters.flatMap((one) => one.tested ?? []);
  for (const kind of ["localisation", "classification"]) {
    const group = tested.filter(({ metrics }) => (metrics.confusion === undefined) === (kind === "localisation"));
    if (group.length < 2) continue;
    const several = new Set(group.map(({ name }) => name)).size < group.length;
    const note = `${several ? "Mean ± sample deviation over the runs of one name. " : ""}${FIGURES_NOTE}`;
    sections.push(tableSection(`Inspection: ${kind}`, figuresTable(group), note));
    if (kind === "localisation") sections.push(...partCurves(group));
  }
  const made = chapters.filter(({ pairs }) => pairs);
  if (made.length > 1) {
    sections.push(tableSection("Generated pairs", pairsTable(made), "Means over pairs."));
    const runs = made.map(({ name, folders }) => ({ name, folders: folders! }));
    for (const { kind, columns, rows } of await versus(runs, VERSUS_ROWS)) {
      sections.push(versusSection(`${kind}, side by side`, columns, rows));
    }
  }
  return sections;
}

/** Generated pairs of several runs, a row for each. */
function pairsTable(chapters: readonly Chapter[]) {
  const columns = ["run", "pairs", "kinds", "change inside", "mask changed", "outside", "on part", "copied", "alike"];
  const rows = chapters.map(({ name, pairs }) => {
    const { records, sections, summaries: all } = pairs!;
    const mean = (key: string) => records.reduce((sum, r) => sum + r.figures[key], 0) / records.length;
    const tail = all
      ? [
        percent(overKinds(all, (one) => one.onPart.mean)),
        all.some((one) => one.nearestTraining)
          ? String(Math.round(all.reduce((n, one) => n + one.pairs * (one.nearestTraining?.copied ?? 0), 0)))
          : "–",
        String(all.reduce((n, one) => n + one.nearDuplicates.count, 0)),
      ]
      : ["–", "–", "–"];
    return [
      name,
      records.length,
      sections.length,
      percent(all ? overKinds(all, (one) => one.changeInside.mean) : mean("changeInside"), 1),
      percent(all ? overKinds(all, (one) => one.changedShare.mean) : mean("changedShare")),
      percent(all ? overKinds(all, (one) => one.changeOutside.mean) : mean("changeOutside"), 2),
      ...tail,
    ];
  });
  return { columns, rows };
}

/** The page as HTML. */
export async function writeReport(run: ReportRun, { progress, signal }: Context): Promise<string> {
  const chapters: Chapter[] = [];
  using line = progress({ label: "reading", total: run.runs.length, unit: "run" });
  for (const word of run.runs) {
    signal.throwIfAborted();
    chapters.push(await readRun(word, run));
    line.update(chapters.length);
  }
  line.finish();
  const [first] = chapters,
    title = run.title ?? chapters.map(({ name }) => name).filter((name, i, all) => all.indexOf(name) === i).join(", ");
  if (chapters.length === 1) {
    const { about, highlights, body } = first;
    return htmlPage({ title, summary: about, highlights, body, footer: run.footer });
  }
  const entries = chapters.map(({ name, command }, i) => [`run-${i + 1}`, `${name} (${command})`] as const);
  return htmlPage({
    title,
    summary: `${count(chapters.length, "run")} side by side, then each on its own.`,
    highlights: [],
    body: [
      contents(entries),
      ...await comparison(chapters),
      ...chapters.map(({ name, about, highlights, body }, i) => chapter(`run-${i + 1}`, name, about, highlights, body)),
    ],
    footer: run.footer,
  });
}
