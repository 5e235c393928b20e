/**
 * Everything that can be told of a run of generated pairs without an inspection network: what `generate` says at its end,
 * measured anew from the files, and with the user's networks IS, KID and IC-LPIPS; for each kind of defect and over all.
 */

import { basename, join } from "node:path";
import { UserError } from "../../src/errors.ts";
import type { clusterRules, kidRules } from "../../src/inspection/metrics/generation.ts";
import type { Spread } from "../../src/inspection/metrics/pairs.ts";
import type { Table } from "../../src/report/sections.ts";
import { markdownTable } from "../../src/report/tables.ts";
import type { Context } from "../command.ts";
import { readJsonLines } from "../run_folder.ts";
import { type Kind, openKinds } from "./dataset.ts";
import { readJson } from "./files.ts";
import {
  type GenerationFigures,
  generationFigures,
  type GenerationNetworks,
  type NetworkFigures,
} from "./generation_figures.ts";
import {
  type KindSummary,
  type PairRecord,
  printTable,
  summariseKinds,
  SUMMARY,
  SUMMARY_NOTE,
  summaryTable,
} from "./pair_summary.ts";
import { MANIFEST } from "./pairs.ts";

/** Names of what an evaluation leaves. */
export const EVALUATION = "evaluation.json";
const EVALUATION_PAGE = "evaluation.md";

/** What to evaluate. */
export interface EvaluationRun {
  /** Run folder of `generate` or `baseline`. */
  readonly pairs: string;
  readonly data: string;
  readonly part?: readonly string[];
  readonly defect?: readonly string[];
  readonly officialSplit: boolean;
  readonly allPairs: boolean;
  readonly networks: GenerationNetworks;
  readonly kid: keyof typeof kidRules;
  readonly cluster: keyof typeof clusterRules;
  readonly seed: number;
}

/** What `evaluation.json` holds. */
export interface EvaluationFile {
  readonly pairs: string;
  /** Pairs that the quality gate refused; they are not measured. */
  readonly refusedPairs: number;
  readonly conventions: { readonly kid: string; readonly icLpips: string; readonly seed: number };
  readonly kinds: readonly (KindSummary & NetworkFigures)[];
  /** Means over kinds, each counting alike; counts are sums, and the largest change is the largest. */
  readonly overall: KindSummary & NetworkFigures;
  /** With networks: as the paper's Table 1 has them, IS over all pictures of a part. */
  readonly parts?: GenerationFigures["parts"];
  readonly notes: readonly string[];
}

/**
 * What the manifest of a folder says.
 * @throws UserError where there is none
 */
export async function requireManifest(pairs: string): Promise<PairRecord[]> {
  const records = await readJsonLines<PairRecord>(join(pairs, MANIFEST));
  if (records.length) return records;
  throw new UserError(`${pairs} holds no manifest of pairs`, "give the run folder of generate or baseline");
}

/** Measures, writes and prints. */
export async function evaluatePairs(run: EvaluationRun, context: Context): Promise<void> {
  const all = await requireManifest(run.pairs);
  const made = new Set(all.map(({ part, defect }) => `${part}+${defect}`));
  const chosen = openKinds(run, context), kinds = chosen.filter(({ key }) => made.has(key));
  const strange = [...made].filter((key) => !openKinds({ data: run.data }).some((kind) => kind.key === key));
  if (strange.length) {
    throw new UserError(`${run.data} holds no ${strange.join(", ")}`, "give the data set of these pairs");
  }
  if (kinds.length === 0) {
    throw new UserError(`${run.pairs} holds no pairs of ${chosen.map(({ key }) => key).join(", ")}`);
  }
  const mine = all.filter(({ part, defect }) => kinds.some(({ key }) => key === `${part}+${defect}`));
  const records = mine.filter(({ accepted }) => accepted), notes: string[] = [];
  if (records.length === 0) throw new UserError(`${run.pairs}: the quality gate refused every pair`, "generate others");
  const before = await readJson<KindSummary[]>(join(run.pairs, SUMMARY)) ?? [];
  const seedVariety = new Map(
    before.flatMap(({ part, defect, seedVariety: v }) => v === undefined ? [] : [[`${part}+${defect}`, v] as const]),
  );
  const summaries = await summariseKinds({ kinds, data: run.data, folder: run.pairs, records, seedVariety }, context);
  if (summaries.length === 0) throw new UserError(`${run.pairs}: every mask is empty`, "generate others");
  const measured = kinds.filter(({ part, defect }) =>
    summaries.some((s) => s.part === part.name && s.defect === defect.name)
  );
  const figures = await networkFigures(run, measured, notes, context);
  const rows = summaries.map((one) => ({ ...one, ...figures?.kinds[`${one.part}+${one.defect}`] }));
  const file: EvaluationFile = {
    pairs: run.pairs,
    refusedPairs: mine.length - records.length,
    conventions: { kid: run.kid, icLpips: run.cluster, seed: run.seed },
    kinds: rows,
    overall: overallOf(rows),
    ...(figures ? { parts: figures.parts } : {}),
    notes,
  };
  const short = (_: string, value: unknown) => typeof value === "number" ? Number(value.toFixed(6)) : value;
  await context.runFolder.write(EVALUATION, `${JSON.stringify(file, short, 2)}\n`);
  await context.runFolder.write(EVALUATION_PAGE, evaluationMarkdown(file));
  for (const table of evaluationTables(file)) printTable(table, context);
  for (const note of notes) context.log(note);
}

/** What an Inception network gives, and what it does not. */
function inceptionNote(file: string, outputs: readonly string[]): string {
  const name = basename(file);
  for (const [figure, other, output] of [["IS", "KID", "features"], ["KID", "IS", "logits"]]) {
    if (outputs.includes(output)) continue;
    return `${figure} by ${name}; no ${other}, since the network has no output "${output}" (docs/metrics.md)`;
  }
  return `IS and KID by ${name}`;
}

/** IS, KID and IC-LPIPS, where networks are given. */
async function networkFigures(
  { pairs, networks, kid, cluster, seed }: EvaluationRun,
  kinds: readonly Kind[],
  notes: string[],
  context: Context,
): Promise<GenerationFigures | undefined> {
  if (!networks.inception && !networks.lpips) {
    notes.push("without --inception and --lpips there are no IS, KID and IC-LPIPS (docs/metrics.md)");
    return undefined;
  }
  for (const [name, missing] of [["inception", "IS and KID"], ["lpips", "IC-LPIPS"]] as const) {
    if (!networks[name]) notes.push(`without --${name} there is no ${missing}`);
    else if (name === "lpips") notes.push(`${missing} by ${basename(networks[name])}`);
  }
  // First of the notes, and once its outputs are known: one of them alone gives one figure.
  const opened = (outputs: readonly string[]) => notes.unshift(inceptionNote(networks.inception!, outputs));
  return await generationFigures(
    pairs,
    kinds,
    networks,
    { seed, kid, cluster, opened, skipped: (why) => notes.push(why) },
    context,
  );
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The mean over kinds of a figure that some of them have. */
function meanOf<T>(kinds: readonly T[], figure: (kind: T) => number | undefined): number | undefined {
  const values = kinds.map(figure).filter((value) => value !== undefined);
  return values.length ? mean(values) : undefined;
}

/** Over all kinds. */
function overallOf(kinds: readonly (KindSummary & NetworkFigures)[]): KindSummary & NetworkFigures {
  const sum = (count: (kind: KindSummary) => number) => kinds.reduce((total, kind) => total + count(kind), 0);
  const over = (spread: (kind: KindSummary) => Spread): Spread => {
    const value = mean(kinds.map((kind) => spread(kind).mean));
    const min = Math.min(...kinds.map((kind) => spread(kind).min)),
      max = Math.max(...kinds.map((kind) => spread(kind).max));
    return { mean: value, std: 0, min, max, count: 1 };
  };
  const pairs = sum((kind) => kind.pairs), near = kinds.flatMap(({ nearestTraining }) => nearestTraining ?? []);
  const refused: Record<string, number> = {};
  for (const kind of kinds) {
    for (const [why, count] of Object.entries(kind.refused ?? {})) refused[why] = (refused[why] ?? 0) + count;
  }
  const duplicates = sum((kind) => kind.nearDuplicates.count);
  return {
    part: "overall",
    defect: "",
    pairs,
    accepted: sum((kind) => kind.accepted),
    ...(kinds.some((kind) => kind.refused) ? { refused } : {}),
    changeInside: over((kind) => kind.changeInside),
    changedShare: over((kind) => kind.changedShare),
    changeOutside: over((kind) => kind.changeOutside),
    largestOutside: Math.max(...kinds.map((kind) => kind.largestOutside)),
    onPart: over((kind) => kind.onPart),
    nearestTraining: near.length
      ? {
        median: mean(near.map(({ median }) => median)),
        trainingMedian: meanOf(near, ({ trainingMedian }) => trainingMedian),
        copied: sum((kind) => kind.pairs * (kind.nearestTraining?.copied ?? 0)) / pairs,
      }
      : undefined,
    nearDuplicates: { count: duplicates, share: duplicates / pairs },
    seedVariety: meanOf(kinds, (kind) => kind.seedVariety),
    is: meanOf(kinds, ({ is }) => is),
    kid: meanOf(kinds, ({ kid }) => kid),
    icLpips: meanOf(kinds, ({ icLpips }) => icLpips),
  };
}

/** Columns of the networks' figures, under the names of their conventions; those that nothing is known of are left out. */
function networkColumns(rows: readonly NetworkFigures[], { kid, icLpips }: EvaluationFile["conventions"]) {
  const shown = (value: number | undefined, digits: number) => value === undefined ? "–" : value.toFixed(digits);
  const columns: [name: string, cell: (row: NetworkFigures) => string][] = [
    ["IS", (row) => shown(row.is, 2)],
    [`KID × 1000 (${kid})`, (row) => shown(row.kid === undefined ? undefined : 1000 * row.kid, 2)],
    [`IC-LPIPS (${icLpips})`, (row) => shown(row.icLpips, 3)],
  ];
  return columns.filter(([, cell]) => rows.some((row) => cell(row) !== "–"));
}

/** The tables of an evaluation: kinds with what they have over all, and parts as the paper's Table 1 has them. */
export function evaluationTables({ kinds, overall, parts, conventions }: EvaluationFile): Table[] {
  const all = [...kinds, overall], base = summaryTable(all), extra = networkColumns(all, conventions);
  const rows = all.map((row, i) => [...base.rows[i], ...extra.map(([, cell]) => cell(row))]);
  rows[rows.length - 1][0] = "overall";
  const tables: Table[] = [{ columns: [...base.columns, ...extra.map(([name]) => name)], rows }];
  const entries = Object.entries(parts ?? {}), columns = networkColumns(entries.map(([, row]) => row), conventions);
  if (columns.length && entries.length) {
    tables.push({
      columns: ["part, all kinds", ...columns.map(([name]) => name)],
      rows: entries.map(([part, row]) => [part, ...columns.map(([, cell]) => cell(row))]),
    });
  }
  return tables;
}

/** What the rows of {@linkcode evaluationTables} mean, for a reader. */
export const EVALUATION_NOTE =
  `${SUMMARY_NOTE} Overall: means over kinds, each counting alike; counts are sums. IS of a part ` +
  "is over all of its pictures. Pairs that the quality gate refused are not measured.";

/** The page of an evaluation. */
export function evaluationMarkdown(file: EvaluationFile): string {
  const { pairs, refusedPairs, notes, conventions } = file;
  const facts = [
    `pairs: ${pairs}${refusedPairs ? `; ${refusedPairs} that the quality gate refused are left out` : ""}`,
    `rules: KID ${conventions.kid}, IC-LPIPS ${conventions.icLpips}, seed ${conventions.seed} (docs/metrics.md)`,
    ...notes,
  ];
  return [
    "# Evaluation of generated pairs\n",
    ...evaluationTables(file).map(markdownTable),
    `${EVALUATION_NOTE}\n`,
    facts.map((fact) => `- ${fact}\n`).join(""),
  ].join("\n");
}
