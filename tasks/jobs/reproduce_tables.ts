/**
 * Which rows and measures make up each of the paper's tables (Hu et al., AAAI 2024): how a row's pairs are made with this
 * program, or that its figures are printed ones only.
 */

import { publishedMethods, publishedTable, uncurated } from "../../src/baselines/published.ts";
import type { ModelFreeName } from "../../src/baselines/mod.ts";
import type { InversionName } from "./baseline_inversion.ts";

/** How the pairs of a row are made, or which detector works without any. */
export type Recipe =
  | { readonly kind: "baseline"; readonly method: ModelFreeName }
  | { readonly kind: "inversion"; readonly method: InversionName }
  | { readonly kind: "detector"; readonly method: DetectorName }
  | LearnedRecipe;

/** Detectors that are built here: they learn from normal images, so that no pairs are made for them. */
export type DetectorName = "patchcore";

/** `train` and `generate` with parts of the method taken away or sizes changed; what is left out is the run's own. */
export interface LearnedRecipe {
  readonly kind: "learned";
  /** Loss inside the mask only; true where left out. */
  readonly maskedLoss?: boolean;
  /** Attention re-weighting; true where left out. */
  readonly reweighting?: boolean;
  /** Whether the inspection network learns from the pairs' controls too; false where left out. */
  readonly controls?: boolean;
  /** Whether the U-Net's weights are trained along; false where left out. */
  readonly tune?: boolean;
  readonly numVectors?: number;
  readonly numSpatialVectors?: number;
  /** Share of each defect's pairs that is learned from, per cent; the first third where left out. */
  readonly share?: number;
}

/** The whole method. */
const FULL: LearnedRecipe = { kind: "learned" };

/** The same pairs, and more for the inspection network to learn from. */
const CONTROLLED: RowSpec = {
  name: "AnomalyDiffusion, with controls",
  recipe: { kind: "learned", controls: true },
  beyond:
    "beyond the paper: half of the normal images that the network sees are controls of the pairs (`generate --controls`)",
};

/** The method on a U-Net that has learned along. */
const TUNED: RowSpec = {
  name: "AnomalyDiffusion, U-Net tuned",
  recipe: { kind: "learned", tune: true, reweighting: false },
  beyond: "beyond the paper: the U-Net's weights are trained along (`train --tune`), no attention re-weighting",
};

/** Tables in which rows beyond the paper may stand. */
const EXTENDED: ReadonlySet<string> = new Set(["table2", "table3"]);

/** Which rows beyond the paper are asked for. */
export interface Beyond {
  readonly controls?: boolean;
  readonly tune?: boolean;
}

/** What is measured on a row's pairs. */
export type Measure = "localisation" | "classifier" | "generation";

/** A row as it is to be made. */
export interface RowSpec {
  /** As the paper names it. */
  readonly name: string;
  /** Undefined where only printed figures exist. */
  readonly recipe?: Recipe;
  /** Printed averages that are not the table's own. */
  readonly published?: Readonly<Record<string, number>>;
  readonly note?: string;
  /** Set for a row that the paper has not: what it is. */
  readonly beyond?: string;
}

/** One of the paper's tables. */
export interface TableSpec {
  readonly name: TableName;
  readonly title: string;
  readonly measure: Measure;
  /** The paper's tables with its figures; a later one adds what the earlier do not print. */
  readonly numbers: readonly number[];
  readonly metrics: readonly string[];
  readonly digits: number;
  readonly rows: readonly RowSpec[];
}

/** Tables that differ in what is made; 10, 11 and 12 are longer forms of 2, 3 and 5. */
export type TableName = `table${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`;

/** Names that the command takes. */
export const TABLE_NAMES = Array.from({ length: 12 }, (_, i) => `table${i + 1}`);

/** The table that makes another one's figures too. */
const ALIASES: Readonly<Record<string, TableName>> = { table10: "table2", table11: "table3", table12: "table5" };

/** Why a row is not measured, by kind of method. */
const PRINTED_ONLY = {
  gan: "printed figures only: GAN methods are not built here",
  detector: "printed figures only: this detector is not built here",
};

/** Rows of the paper's methods, in its order. */
function methods(numbers: readonly number[]): RowSpec[] {
  const names = [...new Set(numbers.flatMap((number) => publishedTable(number).methods))];
  return names.map((name): RowSpec => {
    const { kind, baseline } = publishedMethods[name];
    if (name === "PatchCore") return { name, recipe: { kind: "detector", method: "patchcore" } };
    if (kind === "gan" || kind === "detector") return { name, note: PRINTED_ONLY[kind] };
    if (kind === "model-free") return { name, recipe: { kind: "baseline", method: baseline as ModelFreeName } };
    if (baseline) return { name, recipe: { kind: "inversion", method: baseline as InversionName } };
    return { name, recipe: FULL };
  });
}

/** The method rerun by others without choosing pairs by hand: a bar that a measured figure can be held against. */
const RERUN: RowSpec = {
  name: "AnomalyDiffusion, rerun by MAGIC's authors",
  published: uncurated.AnomalyDiffusion,
  note: "printed figures only: MVTec AD without curation, one network for all, from arXiv 2507.02314 (Tables 1 to 4)",
};

const PIXEL = ["pixel AUROC", "pixel AP", "pixel F1-max", "PRO"], IMAGE = ["image AUROC", "image AP", "image F1-max"];

const specs: Readonly<Record<TableName, Omit<TableSpec, "name" | "title">>> = {
  table1: {
    measure: "generation",
    numbers: [1],
    metrics: ["IS", "IC-LPIPS"],
    digits: 2,
    rows: [...methods([1]), { ...RERUN, published: { "IC-LPIPS": uncurated.AnomalyDiffusion["IC-LPIPS"] } }],
  },
  table2: {
    measure: "localisation",
    numbers: [10, 2],
    metrics: PIXEL,
    digits: 1,
    rows: [...methods([10]), RERUN],
  },
  table3: {
    measure: "localisation",
    numbers: [11, 3],
    metrics: IMAGE,
    digits: 1,
    rows: [...methods([11]), RERUN],
  },
  table4: { measure: "classifier", numbers: [4], metrics: ["accuracy"], digits: 1, rows: [...methods([4]), RERUN] },
  table5: {
    measure: "localisation",
    numbers: [5, 12],
    metrics: PIXEL.slice(0, 3),
    digits: 1,
    rows: [...methods([5]), RERUN],
  },
  table6: {
    measure: "localisation",
    numbers: [6],
    metrics: PIXEL.slice(0, 3),
    digits: 1,
    rows: [
      { name: "none", recipe: { kind: "inversion", method: "textual-inversion" } },
      { name: "SAE", recipe: { kind: "learned", maskedLoss: false, reweighting: false } },
      { name: "SAE + masked loss", recipe: { kind: "learned", reweighting: false } },
      { name: "masked loss + AAR", recipe: { kind: "inversion", method: "no-spatial" } },
      { name: "SAE + masked loss + AAR", recipe: FULL },
    ],
  },
  table7: {
    measure: "localisation",
    numbers: [7],
    metrics: PIXEL.slice(0, 2),
    digits: 1,
    rows: [10, 20, 30, 40, 50].map((share) => ({ name: `${share} %`, recipe: { kind: "learned", share } })),
  },
  table8: {
    measure: "localisation",
    numbers: [8],
    metrics: PIXEL,
    digits: 1,
    rows: [[4, 8], [4, 16], [8, 8], [8, 16]].map(([numSpatialVectors, numVectors]) => ({
      name: `${numSpatialVectors} + ${numVectors}`,
      recipe: { kind: "learned", numSpatialVectors, numVectors },
    })),
  },
  table9: { measure: "localisation", numbers: [9], metrics: PIXEL, digits: 1, rows: methods([9]) },
};

/**
 * The tables by the names that a user gives, each once, in the paper's order.
 * @param names `table1` to `table12`
 */
export function tableSpecs(names: readonly string[], { controls, tune }: Beyond = {}): TableSpec[] {
  const beyond = [...controls ? [CONTROLLED] : [], ...tune ? [TUNED] : []];
  const wanted = new Set(names.map((name) => ALIASES[name] ?? name));
  return (Object.keys(specs) as TableName[]).filter((name) => wanted.has(name)).map((name) => {
    const printed = specs[name].numbers.map((number) => number).sort((a, b) => a - b);
    const label = `Table${printed.length > 1 ? "s" : ""} ${printed.join(" and ")}`;
    const rows = EXTENDED.has(name) ? [...specs[name].rows, ...beyond] : specs[name].rows;
    return { name, title: `${label}: ${publishedTable(printed[0]).title}`, ...specs[name], rows };
  });
}

/**
 * Printed figures of a row by part, then metric.
 * @param parts parts of the data set; the paper's figures of one with the same name are given too
 */
export function publishedFigures(
  { numbers, metrics }: TableSpec,
  row: RowSpec,
  parts: readonly string[],
): Record<string, Record<string, number>> {
  const result: Record<string, Record<string, number>> = {};
  if (row.beyond !== undefined) return result;
  for (const part of ["average", ...parts]) {
    for (const metric of metrics) {
      const value = row.published
        ? (part === "average" ? row.published[metric] : undefined)
        : numbers.map((number) => publishedTable(number).figure(row.name, metric, part)).find((v) => v !== undefined);
      if (value !== undefined) (result[part] ??= {})[metric] = value;
    }
  }
  return result;
}

/** A name for folders: equal recipes share one, so that tables share what they have in common. */
export function recipeName(recipe: Recipe): string {
  if (recipe.kind !== "learned") return recipe.method;
  const { reweighting = true } = recipe;
  return `${trainingName(recipe)}${reweighting ? "" : "-no-aar"}`;
}

/** Whether a recipe's pairs have controls: those of the whole method, which a network may learn from. */
export function makesControls(recipe: LearnedRecipe): boolean {
  return recipeName(recipe) === recipeName(FULL);
}

/** The same for a network that is trained on the pairs. */
export function inspectedName(recipe: Recipe): string {
  return `${recipeName(recipe)}${recipe.kind === "learned" && recipe.controls ? "-controls" : ""}`;
}

/** The same for what is trained: re-weighting comes in at generation only. */
export function trainingName(
  { maskedLoss = true, tune = false, numVectors = 8, numSpatialVectors = 4, share }: LearnedRecipe,
): string {
  const words = ["anomalydiffusion"];
  if (tune) words.push("tuned");
  if (!maskedLoss) words.push("no-masked-loss");
  if (numVectors !== 8 || numSpatialVectors !== 4) words.push(`${numSpatialVectors}+${numVectors}`);
  if (share !== undefined) words.push(`share-${share}`);
  return words.join("-");
}
