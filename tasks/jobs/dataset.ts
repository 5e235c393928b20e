/** Opening a data set for a command: its parts and defects, filtered by name, and their training pairs decoded. */

import { join, relative } from "node:path";
import type { LabelledSample } from "../../src/anomaly/training_set.ts";
import { type Defect, loadPair, type Part, scanDataset } from "../../src/data/mvtec.ts";
import { UserError } from "../../src/errors.ts";
import type { Context } from "../command.ts";
import { partsFolder } from "../assets.ts";
import { readJson } from "./files.ts";

/** Flags that choose from a data set. */
export interface Selection {
  readonly data: string;
  readonly part?: readonly string[];
  readonly defect?: readonly string[];
  readonly officialSplit?: boolean;
  readonly allPairs?: boolean;
}

/** One kind of defect of one part. */
export interface Kind {
  /** `part+defect`, the name of its embedding. */
  readonly key: string;
  readonly part: Part;
  readonly defect: Defect;
}

/**
 * The kinds of defect that the flags choose, sorted by part and defect.
 * @param context is told of pictures that are passed over
 * @throws UserError where the data set does not hold what was asked for
 */
export function openKinds(
  { data, part, defect, officialSplit, allPairs }: Selection,
  context?: Pick<Context, "log">,
): Kind[] {
  const parts = scanDataset(data, {
    officialSplit,
    allPairs,
    note: context?.log,
    parts: part?.length ? part : undefined,
    defects: defect?.length ? defect : undefined,
  });
  return parts.flatMap((p) => p.defects.map((d) => ({ key: `${p.name}+${d.name}`, part: p, defect: d })));
}

/**
 * Those of the chosen kinds for which something was learned: the data set may hold more. What the flags name must be there.
 * @param path file of the embeddings, for error messages
 * @param keys what it holds
 */
export function learnedKinds(
  { part, defect, ...selection }: Selection,
  path: string,
  keys: readonly string[],
  context?: Pick<Context, "log">,
): Kind[] {
  const kinds = openKinds({ part, defect, ...selection }, context),
    known = kinds.filter(({ key }) => keys.includes(key));
  const served = new Set((defect?.length ? [] : known).map((kind) => kind.part.name));
  const missing = kinds.filter((kind) => !known.includes(kind) && !served.has(kind.part.name));
  if (known.length === 0 || (missing.length && (part?.length || defect?.length))) {
    throw new UserError(
      `nothing was learned for ${missing.map(({ key }) => key).join(", ")}`,
      `${path} knows ${keys.join(", ")}`,
    );
  }
  return known;
}

/**
 * Says how many pairs are learned from, since the rest of them goes unused without a test.
 * @param flag what takes all of them; `demo` and `reproduce` run `train` too and have no such flag
 */
export function tellLearned(
  kinds: readonly Kind[],
  { officialSplit, allPairs }: Pick<Selection, "officialSplit" | "allPairs">,
  { log }: Pick<Context, "log">,
  flag = "train --all-pairs",
): void {
  const count = (list: "train" | "pairs") => kinds.reduce((sum, { defect }) => sum + defect[list].length, 0);
  const [learned, all] = [count("train"), count("pairs")];
  if (allPairs) return log(`learning from all ${all} pairs: none is left to test on`);
  const which = officialSplit
    ? "images 0 to N//3 of each kind"
    : `the first third of each kind, the rest being for tests (${flag} takes all)`;
  log(`learning from ${learned} of ${all} pairs: ${which}`);
}

/** Flags of a run that name the runs it rests on. */
const ORIGINS = ["train-run", "masks-run", "masks"];

/** Whether a run, or one that it rests on, was given a flag without a value. */
export async function wasGiven(folder: string, flag: "official-split" | "all-pairs"): Promise<boolean> {
  const config = await readJson<Record<string, unknown>>(join(folder, "config.json")) ?? {};
  if (config[flag] === true) return true;
  for (const origin of ORIGINS.map((name) => config[name])) {
    if (typeof origin === "string" && await wasGiven(origin, flag)) return true;
  }
  return false;
}

/** Share of a picture above which a mask looks like one whose black and white changed places. */
const INVERTED = 0.9;

/** The training pairs of the kinds, decoded; says where a mask looks inverted. */
export async function trainingSamples(
  kinds: readonly Kind[],
  { log }: Pick<Context, "log">,
): Promise<LabelledSample[]> {
  const samples: LabelledSample[] = [];
  for (const { key, defect } of kinds) {
    for (const pair of defect.train) {
      const sample = { key, ...await loadPair(pair) }, { data } = sample.mask;
      const share = data.reduce((sum, value) => sum + value, 0) / data.length;
      if (share > INVERTED) {
        log(`warning: ${pair.mask} marks ${Math.round(100 * share)} % of its image; white is defect: is it inverted?`);
      }
      samples.push(sample);
    }
  }
  return samples;
}

/** A path as the manifest names it: relative to the data set, with forward slashes. */
export function nameIn(data: string, path: string): string {
  return relative(data, path).replaceAll("\\", "/");
}

/**
 * Folder of a run's data set: where the user says that it is now, else where the run found it.
 * @param config the run's settings
 * @returns undefined where it is no longer there
 */
export function dataOf(config: Readonly<Record<string, unknown>>, given: string | undefined): string | undefined {
  if (given !== undefined) return given;
  const path = config.command === "demo" ? partsFolder() : config.data;
  try {
    return typeof path === "string" && Deno.statSync(path).isDirectory ? path : undefined;
  } catch {
    return undefined;
  }
}

/** Folder of a demo's pairs, below the demo's. */
export const DEMO_PAIRS = "pairs";

/**
 * Where the pairs of a run and its data set lie. A demo has its pairs in a folder of its own.
 * @param given the data set's folder if the user names it
 */
export async function pairsOfRun(
  folder: string,
  given: string | undefined,
): Promise<{ pairs: string; data: string | undefined; config: Readonly<Record<string, unknown>> }> {
  const config = await readJson<Record<string, unknown>>(join(folder, "config.json")) ?? {};
  const pairs = config.command === "demo" ? join(folder, DEMO_PAIRS) : folder;
  return { pairs, data: dataOf(config, given), config };
}
