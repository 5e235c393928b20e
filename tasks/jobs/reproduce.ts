/**
 * Reproducing the paper's tables in a run folder: lists the stages that the asked-for tables need, each once, runs those that
 * are not done, and writes the tables after every seed.
 */

import { basename } from "node:path";
import { FOOTING } from "../../src/baselines/published.ts";
import { UserError } from "../../src/errors.ts";
import type { FigureName } from "../../src/inspection/metrics/evaluation.ts";
import type { ClassifierFigures } from "../../src/inspection/training/evaluate.ts";
import { recipeInWords } from "../../src/inspection/training/recipe.ts";
import {
  type ComparisonRow,
  type ComparisonTable,
  gather,
  toCsv,
  toJson,
  toMarkdown,
} from "../../src/report/tables.ts";
import type { Context } from "../command.ts";
import train, { TUNED } from "../commands/train.ts";
import { type Kind, openKinds } from "./dataset.ts";
import { generationFigures, type GenerationNetworks } from "./generation_figures.ts";
import type { LocalisationFigures } from "./inspection_results.ts";
import { shareData } from "./reproduce_share.ts";
import {
  type Budget,
  type DataFolders,
  figuresFolder,
  inspectionRecipe,
  inspectionStages,
  isDone,
  pairsFolder,
  pairStages,
  runTableStage,
} from "./reproduce_stages.ts";
import { type Measure, publishedFigures, type Recipe, recipeName, type TableSpec } from "./reproduce_tables.ts";
import type { CommandStage } from "./stage.ts";

/** What to reproduce. */
export interface Reproduction {
  readonly tables: readonly TableSpec[];
  readonly data: string;
  /** The data set as the tables name it. */
  readonly dataName: string;
  readonly part?: readonly string[];
  readonly seeds: readonly number[];
  readonly budget: Budget;
  readonly networks: GenerationNetworks;
  /** The base model and the adapter in words. */
  readonly machine: Readonly<Record<string, string>>;
}

/** Figures of one part by metric, in the paper's units. */
type Figures = Record<string, number>;

/** A piece of work: stages of other commands, or a measurement of this one. */
interface Work {
  readonly name: string;
  isDone(): Promise<boolean>;
  run(): Promise<void>;
}

/** Pictures of the paper's size have names of their own; every figure under its name in the paper. */
const LOCALISATION: Readonly<Record<string, FigureName>> = {
  "pixel AUROC": "pixelAuroc",
  "pixel AP": "pixelAp",
  "pixel F1-max": "pixelF1Max",
  PRO: "auPro30",
  "image AUROC": "imageAuroc",
  "image AP": "imageAp",
  "image F1-max": "imageF1Max",
};

/** Lines that took how long. */
const TIMES = "times.jsonl";

/** Makes everything and writes the tables; returns their Markdown. */
export async function reproduce(run: Reproduction, context: Context): Promise<string[]> {
  const { tables, seeds } = run, { runFolder, signal } = context;
  const kinds = openKinds(run, context), parts = [...new Set(kinds.map(({ part }) => part.name))];
  const classified = parts.filter((name) => kinds.filter(({ part }) => part.name === name).length > 1);
  if (tables.some(({ measure }) => measure === "classifier") && classified.length === 0) {
    throw new UserError(
      "table4 tells kinds of defect apart, and no part has two",
      "give another --data, or leave table4 out",
    );
  }
  const partsOf = (measure: Measure) => measure === "classifier" ? classified : parts;
  const jobs = seeds.map((seed) => worksOf(run, seed, kinds, partsOf, context));
  using times = await runFolder.jsonl<{ stage: string; seconds: number }>(TIMES);
  const total = jobs.reduce((sum, works) => sum + works.length, 0);
  let number = 0, texts: string[] = [];
  for (const [i, works] of jobs.entries()) {
    for (const work of works) {
      number++;
      if (await work.isDone()) continue;
      signal.throwIfAborted();
      context.log(`[${number}/${total}] ${work.name}`);
      const start = performance.now();
      await work.run();
      times.append({ stage: work.name, seconds: Math.round((performance.now() - start) / 100) / 10 });
    }
    // After each seed, so that a long run has something to show early.
    texts = [];
    for (const spec of tables) {
      const table = await tableOf(spec, run, kinds, partsOf(spec.measure), seeds.slice(0, i + 1), context);
      const text = toMarkdown(table);
      await runFolder.write(`${spec.name}.json`, toJson(table));
      await runFolder.write(`${spec.name}.csv`, toCsv(table));
      await runFolder.write(`${spec.name}.md`, text);
      texts.push(text);
    }
  }
  return texts;
}

/** Everything that one seed needs, each once however many tables use it. */
function worksOf(
  run: Reproduction,
  seed: number,
  kinds: readonly Kind[],
  partsOf: (measure: Measure) => readonly string[],
  context: Context,
): Work[] {
  const { budget, tables, networks } = run, { runFolder } = context, works = new Map<string, Work>();
  const parts = partsOf("localisation");
  const add = (stages: (data: DataFolders) => CommandStage[], share: number | undefined) => {
    // Only the folders' names are needed to list the stages; a share's data set is made when the first of them runs.
    const nowhere = { train: run.data, test: run.data };
    stages(nowhere).forEach((stage, i) => {
      works.set(stage.folder, {
        name: stage.folder,
        isDone: () => isDone(stage, context),
        run: async () => {
          const data = share === undefined ? nowhere : await shareData(kinds, share, runFolder);
          await runTableStage(stages(data)[i], context);
        },
      });
    });
  };
  for (const { measure, rows } of tables) {
    for (const { recipe } of rows) {
      if (!recipe) continue;
      const share = recipe.kind === "learned" ? recipe.share : undefined;
      add((data) => pairStages(recipe, seed, data, parts, budget, runFolder.path), share);
      if (measure !== "generation") {
        const tested = partsOf(measure);
        add((data) => inspectionStages(recipe, measure, seed, data, tested, budget, runFolder.path), share);
        continue;
      }
      const file = generationFile(seed, recipe);
      works.set(file, {
        name: file,
        isDone: async () => await runFolder.readText(file) !== undefined,
        run: async () => {
          const pairs = runFolder.file(pairsFolder(seed, recipe));
          const { parts } = await generationFigures(pairs, kinds, networks, { seed }, context);
          const figures = Object.fromEntries(
            Object.entries(parts).map(([part, { is, icLpips }]) => [part, { IS: is, "IC-LPIPS": icLpips }]),
          );
          await runFolder.write(file, `${JSON.stringify(figures, null, 2)}\n`);
        },
      });
    }
  }
  return [...works.values()];
}

const generationFile = (seed: number, recipe: Recipe) => `seed-${seed}/generation/${recipeName(recipe)}.json`;

/** What was measured for a recipe and a seed, by part. */
async function measuredFigures(
  measure: Measure,
  recipe: Recipe,
  seed: number,
  parts: readonly string[],
  { runFolder }: Context,
): Promise<Record<string, Figures>> {
  const read = async (file: string) => JSON.parse((await runFolder.readText(file))!);
  if (measure === "generation") return await read(generationFile(seed, recipe));
  const result: Record<string, Figures> = {};
  for (const part of parts) {
    const figures = await read(`${figuresFolder(seed, recipe, measure, part)}/metrics.json`);
    result[part] = {};
    if (measure === "classifier") {
      result[part].accuracy = 100 * (figures as ClassifierFigures).accuracy;
      continue;
    }
    for (const [metric, key] of Object.entries(LOCALISATION)) {
      const value = (figures as LocalisationFigures)[key];
      if (value !== undefined) result[part][metric] = 100 * value;
    }
  }
  return result;
}

/** A table of the seeds that are done. */
async function tableOf(
  spec: TableSpec,
  run: Reproduction,
  kinds: readonly Kind[],
  parts: readonly string[],
  seeds: readonly number[],
  context: Context,
): Promise<ComparisonTable> {
  const rows: ComparisonRow[] = [];
  for (const row of spec.rows) {
    const { name, recipe, note = row.beyond } = row, figures: Record<string, Figures>[] = [];
    if (recipe) {
      for (const seed of seeds) figures.push(await measuredFigures(spec.measure, recipe, seed, parts, context));
    }
    rows.push({ name, published: publishedFigures(spec, row, parts), measured: gather(figures), note });
  }
  return {
    name: spec.name,
    title: spec.title,
    metrics: spec.metrics,
    digits: spec.digits,
    parts,
    seeds,
    footing: footing(spec, run, kinds, seeds),
    rows,
  };
}

const list = (items: readonly (string | number)[]) => items.join(", ");

/** What the figures of a table rest on. */
function footing(
  { measure, rows }: TableSpec,
  { dataName, budget, machine, networks, seeds: all }: Reproduction,
  kinds: readonly Kind[],
  seeds: readonly number[],
): Record<string, string> {
  const shares = rows.some(({ recipe }) => recipe?.kind === "learned" && recipe.share !== undefined);
  const counts = (pairs: readonly number[]) => [...new Set(pairs)].sort((a, b) => a - b).join(" to ");
  const learned = shares ? "as the row says" : counts(kinds.map(({ defect }) => defect.train.length));
  const tested = shares
    ? "the last half, the same for every row"
    : `${counts(kinds.map(({ defect }) => defect.test.length))}, disjoint`;
  const { sampler, steps, guidanceScale, count } = budget;
  const inspection: Record<Measure, string> = {
    localisation: `one U-Net for each part, ${recipeInWords(inspectionRecipe(budget, "localisation"), "localisation")}`,
    classifier:
      `one ResNet-34 for each part, ${
        budget.classifierWeights ? `from the weights of ${basename(budget.classifierWeights)}` : "from random weights"
      }, ` +
      recipeInWords(inspectionRecipe(budget, "classifier"), "classifier"),
    generation: `IS ${networks.inception ? `by ${basename(networks.inception)}` : "not measured: no --inception"}; ` +
      `IC-LPIPS ${networks.lpips ? `by ${basename(networks.lpips)}` : "not measured: no --lpips"} (docs/metrics.md)`,
  };
  return {
    "the paper's figures": FOOTING,
    "curation here": "none: every generated pair is used, none was chosen by hand or by a filter",
    "selection here": measure === "generation"
      ? "last step"
      : budget.selection === "last"
      ? "weights of the last step: neither step, pair nor network is chosen by the test set"
      : "best step on the test set, the official habit: the figures are too good",
    data: `${dataName}: ${list(kinds.map(({ key }) => key))}; another data set than the paper's unless it is MVTec AD`,
    split: `pairs of each kind learned from: ${learned}; tested on: ${tested}`,
    seeds: `${list(seeds)}${seeds.length < all.length ? ` (so far, of ${list(all)})` : ""}; ` +
      (seeds.length > 1
        ? "mean over parts, then mean ± sample standard deviation over seeds; each seed trains and draws anew"
        : "one seed, so no spread"),
    pairs: `${count} for each kind and method, masks ${
      budget.masks === "real" ? "placed from the real training masks" : "sampled from mask embeddings"
    }, ${sampler} with ${steps} steps, guidance ${guidanceScale} away from the learned surface`,
    "training of the generator": `${budget.trainSteps} steps of ${budget.trainBatchSize}, all kinds jointly, ` +
      `${budget.augmentedCopies} augmented views of each pair`,
    ...(rows.some(({ recipe }) => recipe?.kind === "learned" && recipe.tune)
      ? {
        "the U-Net tuned": `${budget.tuneSteps} steps of ${TUNED.batch}, a third of them normal images, ` +
          `${train.flags.augmentedCopies.default} augmented views of each pair; the defect's text counts in its mask only`,
      }
      : {}),
    inspection: inspection[measure],
    ...(rows.some(({ recipe }) => recipe?.kind === "detector")
      ? {
        detectors: `PatchCore on ${
          budget.backbone ? basename(budget.backbone) : "the base model's encoder"
        }, 10 % of the normal patches of each part`,
      }
      : {}),
    ...(measure === "localisation"
      ? { conventions: "F1-max over every threshold, PRO = exact AU-PRO to FPR 0.3, masks cut at one half" }
      : {}),
    ...(measure === "generation"
      ? {
        conventions: "IS over all pairs of a part in ten splits; IC-LPIPS by the rule anomalydiffusion, mean over a " +
          "part's kinds",
      }
      : {}),
    ...machine,
  };
}
