/** Which image of an export goes where: its classes, its split and its names. */

import { basename, extname } from "node:path";
import { scanDataset } from "../../src/data/mvtec.ts";
import { UserError } from "../../src/errors.ts";
import { controlledPairs, type GeneratedPair, scanGenerated } from "../../src/inspection/training/generated.ts";
import { Random } from "../../src/random/philox.ts";
import { nameIn } from "./dataset.ts";

/** Layouts by the tool that reads them. */
export const EXPORT_FORMATS = ["anomalib", "coco", "yolo-seg"] as const;

/** Name of a layout. */
export type ExportFormat = typeof EXPORT_FORMATS[number];

/** What is exported. */
export interface ExportSelection {
  readonly format: ExportFormat;
  /** Run folder of `generate` or `baseline`. */
  readonly pairs: string;
  /** The data set, for normal images. */
  readonly data?: string;
  readonly part?: readonly string[];
  readonly defect?: readonly string[];
  /** Share of the images that validate. */
  readonly valShare: number;
  /** Normal images of each part, at most; all where left out. */
  readonly normals?: number;
  /** Take the pairs' controls along, as normal images. */
  readonly controls: boolean;
  readonly seed: number;
}

/** One image of the export. */
export interface ExportItem {
  readonly image: string;
  /** Undefined for a normal image. */
  readonly mask?: string;
  /** Where they go, in the run folder. */
  readonly file: string;
  readonly maskFile?: string;
  /** Index of its class; of no meaning for a normal image. */
  readonly class: number;
  /** In anomalib's layout `val` is the test folder. */
  readonly split: "train" | "val";
}

/** A whole export. */
export interface ExportPlan {
  readonly items: readonly ExportItem[];
  /** Part and defect together. */
  readonly classes: readonly { readonly name: string; readonly part: string }[];
  /** Lines for the person. */
  readonly notes: readonly string[];
}

/** Plans an export; the same for the same pairs and seed. */
export function exportPlan(run: ExportSelection): ExportPlan {
  const { format, seed, valShare } = run;
  const { pairs, notes } = pairsOf(run);
  const parts = [...new Set(pairs.map(({ part }) => part))], normals = normalImages(run, parts);
  const names = [...new Set(pairs.map(({ part, defect }) => `${part}+${defect}`))].sort();
  const classes = names.map((name) => ({ name, part: pairs.find((p) => `${p.part}+${p.defect}` === name)!.part }));
  const items: ExportItem[] = [];
  for (const part of parts) {
    const mine = pairs.filter((pair) => pair.part === part), good = normals.get(part) ?? { train: [], test: [] };
    const random = new Random(seed, `export/${part}`);
    if (format === "anomalib") {
      mvtecItems(part, mine, good, valShare, random, items);
      continue;
    }
    const held = heldOut(mine, good.train, run.data ?? "", valShare, random);
    if (valShare > 0 && held.size === 0) notes.push(`${part}: one pair alone cannot be split; it trains`);
    const split = (path: string) => held.has(path) ? "val" : "train";
    for (const { image, mask, defect } of mine) {
      const file = folderOf(format, split(image)) + `${part}__${defect}__${basename(image)}`;
      items.push({ image, mask, file, class: names.indexOf(`${part}+${defect}`), split: split(image) });
    }
    for (const { image, control } of mine) {
      if (control === undefined) continue;
      const file = folderOf(format, split(image)) + `${part}__control__${basename(control)}`;
      items.push({ image: control, file, class: -1, split: split(image) });
    }
    for (const [i, image] of good.train.entries()) {
      const file = folderOf(format, split(image)) + `${part}__good__${number(i)}${extname(image)}`;
      items.push({ image, file, class: -1, split: split(image) });
    }
  }
  const seen = new Set<string>();
  for (const { file, image } of items) {
    const stem = file.replace(/\.[^.]*$/, "");
    if (seen.has(stem)) throw new UserError(`${image}: another image would be called ${file} too`, "rename the defect");
    seen.add(stem);
  }
  return { items, classes, notes };
}

/**
 * The pairs to export, without controls where those are not asked for.
 * @throws UserError where controls are asked for and no pair has one, or one is not there
 */
function pairsOf({ pairs: folder, part, defect, controls }: ExportSelection) {
  const notes: string[] = [], note = (line: string) => notes.push(line);
  const pairs = scanGenerated(folder, { parts: part, defects: defect, note });
  if (!controls) return { pairs: pairs.map((pair) => ({ ...pair, control: undefined })), notes };
  const without = pairs.length - controlledPairs(pairs).length;
  if (without === pairs.length) {
    throw new UserError(`${folder}: no pair has a control`, "leave out --controls, or make them: generate --controls");
  }
  if (without) notes.push(`${without} of ${pairs.length} pairs have no control`);
  return { pairs, notes };
}

/** Names of one length sort alike with and without `_mask` behind them, which is how anomalib finds the mask of an image. */
const number = (index: number) => String(index).padStart(6, "0");

const folderOf = (format: ExportFormat, split: "train" | "val") => format === "coco" ? `${split}/` : `images/${split}/`;

/** Normal images of the parts: to train with, and those of the data set's own test. */
function normalImages(
  { format, data, normals }: ExportSelection,
  parts: readonly string[],
): Map<string, { train: string[]; test: string[] }> {
  const most = normals ?? Infinity;
  if (most === 0) return new Map();
  if (data === undefined) {
    if (format !== "anomalib" && normals === undefined) return new Map();
    throw new UserError(
      format === "anomalib"
        ? "anomalib learns from normal images, and the pairs' data set is not where it was"
        : "normal images were asked for, and the pairs' data set is not where it was",
      "give its folder with --data",
    );
  }
  const found = new Map<string, { train: string[]; test: string[] }>();
  for (const { name, good, testGood } of scanDataset(data, { goodOnly: true })) {
    if (parts.includes(name)) found.set(name, { train: good.slice(0, most), test: testGood.slice(0, most) });
  }
  const missing = parts.filter((part) => !found.has(part));
  if (missing.length) throw new UserError(`${data}: no part ${missing.join(", ")}`, "give the data set of these pairs");
  return found;
}

/**
 * MVTec's layout: normal images in train and test, every pair in test. So is its control: it has the pair's pixels but for those
 * in the mask, and a detector that learned from it would be tested on what it knows.
 */
function mvtecItems(
  part: string,
  pairs: readonly GeneratedPair[],
  good: { train: readonly string[]; test: readonly string[] },
  valShare: number,
  random: Random,
  items: ExportItem[],
): void {
  let { train, test } = good;
  if (test.length === 0 && train.length > 1) {
    const count = Math.min(train.length - 1, Math.round(valShare * train.length)), chosen = random.shuffle(train);
    test = train.filter((path) => chosen.indexOf(path) < count);
    train = train.filter((path) => !test.includes(path));
  }
  const put = (image: string, split: "train" | "val", index: number) => {
    const file = `${part}/${split === "val" ? "test" : "train"}/good/${number(index)}.png`;
    items.push({ image, file, class: -1, split });
  };
  train.forEach((image, i) => put(image, "train", i));
  test.forEach((image, i) => put(image, "val", i));
  const counts = new Map<string, number>();
  for (const { image, mask, defect, control } of pairs) {
    const index = counts.get(defect) ?? 0;
    counts.set(defect, index + 1);
    items.push({
      image,
      mask,
      file: `${part}/test/${defect}/${number(index)}.png`,
      maskFile: `${part}/ground_truth/${defect}/${number(index)}_mask.png`,
      class: 0,
      split: "val",
    });
    if (control === undefined) continue;
    const file = `${part}/test/good/control-${defect}-${number(index)}.png`;
    items.push({ image: control, file, class: -1, split: "val" });
  }
}

/**
 * The images of a part that validate. Pairs that were drawn into one normal image stay together, with that image: otherwise a
 * network would be validated on backgrounds that it was trained with.
 * @param data folder of the data set, which the pairs' sources are named in
 */
function heldOut(
  pairs: readonly GeneratedPair[],
  normals: readonly string[],
  data: string,
  share: number,
  random: Random,
): Set<string> {
  const groups = new Map<string, string[]>();
  for (const { image, source } of pairs) {
    const name = source ?? image;
    groups.set(name, [...groups.get(name) ?? [], image]);
  }
  if (groups.size === 1) {
    groups.clear(); // all of one source: better alike than none
    for (const { image } of pairs) groups.set(image, [image]);
  }
  const held = new Set<string>(), names = random.shuffle([...groups.keys()]), wanted = share * pairs.length;
  let taken = 0;
  const take = (name: string) => {
    taken += groups.get(name)!.length;
    held.add(name);
  };
  for (const name of names) {
    const size = groups.get(name)!.length;
    if (taken + size / 2 <= wanted && taken + size < pairs.length) take(name);
  }
  if (share > 0 && taken === 0 && names.length > 1) {
    take(names.reduce((a, b) => groups.get(b)!.length < groups.get(a)!.length ? b : a));
  }
  const chosen = new Set([...held].flatMap((name) => groups.get(name)!));
  const free = normals.filter((path) => !groups.has(nameIn(data, path)));
  for (const path of normals) if (held.has(nameIn(data, path))) chosen.add(path);
  for (const path of random.shuffle(free).slice(0, Math.round(share * free.length))) chosen.add(path);
  return chosen;
}
