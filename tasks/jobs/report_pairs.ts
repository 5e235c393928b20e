/** The part of a report page about generated pairs: contact sheets and figures out of a run's manifest. */

import { join } from "node:path";
import { type Image, loadImage, loadMask, type Mask, toPng } from "../../src/data/image.ts";
import { listImages } from "../../src/data/mvtec.ts";
import { spread } from "../../src/inspection/metrics/pairs.ts";
import { differencePicture, photo, shrink } from "../../src/report/pictures.ts";
import type { DefectSection, GeneratedPair, Table } from "../../src/report/sections.ts";
import { maskImage } from "../../src/report/sheet.ts";
import { readJsonLines } from "../run_folder.ts";
import { type Kind, openKinds } from "./dataset.ts";
import { existsFile, readJson } from "./files.ts";
import { type KindSummary, SUMMARY, SUMMARY_NOTE, summaryTable } from "./pair_summary.ts";
import { MANIFEST, type ManifestRecord } from "./pairs.ts";

/** Sides of large and small pictures on a page, in pixels: twice what they take on the screen. */
export const LARGE = 384, SMALL = 192;

/** Pairs of the groups of extremes. */
const EXTREMES = 3;

/** Where pairs and what they were made from lie. */
export interface PairFolders {
  /** Run folder with the manifest. */
  readonly folder: string;
  /** The data set; without it there are no sources, differences and training examples. */
  readonly data?: string;
  /** Folder of masks that were drawn with. */
  readonly masks?: string;
  readonly officialSplit?: boolean;
  readonly allPairs?: boolean;
}

/** What a page tells about the pairs of a run. */
export interface PairReport {
  readonly records: readonly ManifestRecord[];
  readonly sections: readonly DefectSection[];
  readonly table: Table;
  readonly note: string;
  /** As `generate` left it; undefined for runs without one. */
  readonly summaries?: readonly KindSummary[];
}

/** `part: defect` of a record. */
export const kindOf = ({ part, defect }: { part: string; defect: string }) => `${part}: ${defect}`;

/** A mask as a picture for a page. */
export function maskPicture(mask: Mask, side = SMALL): Uint8Array {
  return toPng(shrink(maskImage(mask), side));
}

/** A photograph of a file for a page. */
export const photoOf = async (path: string, side = SMALL) => await photo(await loadImage(path), side);

/** Kinds of defect in a data set; none where it is not at hand. */
function kindsOf({ data, officialSplit, allPairs }: PairFolders, parts: readonly string[]): Kind[] {
  return data === undefined
    ? []
    : openKinds({ data, officialSplit, allPairs }).filter((kind) => parts.includes(kind.part.name));
}

/** The source of a pair, where the data set is at hand. */
async function sourceOf({ data }: PairFolders, { source }: ManifestRecord): Promise<Image | undefined> {
  return data && await existsFile(join(data, source)) ? await loadImage(join(data, source)) : undefined;
}

/** A pair as a card. */
async function cardOf(folders: PairFolders, record: ManifestRecord): Promise<GeneratedPair> {
  const source = await sourceOf(folders, record), result = await loadImage(join(folders.folder, record.image));
  const same = source && source.width === result.width && source.height === result.height;
  return {
    source: source && await photo(source, SMALL),
    mask: maskPicture(await loadMask(join(folders.folder, record.mask))),
    result: await photo(result, LARGE),
    difference: same ? toPng(shrink(differencePicture(source, result), SMALL)) : undefined,
    caption: `#${record.index}, change ${(100 * record.figures.changeInside).toFixed(0)} %${
      record.accepted ? "" : ", refused"
    }`,
  };
}

/** Records of a run's manifest, by kind in the order of the manifest. */
export async function manifestKinds(folder: string): Promise<Map<string, ManifestRecord[]>> {
  const kinds = new Map<string, ManifestRecord[]>();
  for (const record of await readJsonLines<ManifestRecord>(join(folder, MANIFEST))) {
    kinds.set(kindOf(record), [...kinds.get(kindOf(record)) ?? [], record]);
  }
  return kinds;
}

/**
 * Gathers what a page shows of a run's pairs.
 * @param shown at most so many pairs of each kind, and masks
 */
export async function reportPairs(folders: PairFolders, shown: number): Promise<PairReport> {
  const byKind = await manifestKinds(folders.folder), records = [...byKind.values()].flat();
  const kinds = kindsOf(folders, [...new Set(records.map(({ part }) => part))]);
  const sections: DefectSection[] = [];
  for (const mine of byKind.values()) {
    const { part, defect } = mine[0];
    const kind = kinds.find((one) => one.part.name === part && one.defect.name === defect);
    const training = [];
    for (const { image, mask } of kind?.defect.train ?? []) {
      training.push({ image: await photoOf(image), mask: maskPicture(await loadMask(mask)) });
    }
    const masks = [];
    for (const { maskSource } of mine.slice(0, shown)) {
      const path = folders.masks && join(folders.masks, maskSource);
      if (path && await existsFile(path)) masks.push(maskPicture(await loadMask(path)));
    }
    const pairs = [];
    for (const record of mine.slice(0, shown)) pairs.push(await cardOf(folders, record));
    const rest = mine.slice(shown).sort((a, b) => a.figures.changeInside - b.figures.changeInside);
    const extremes: [string, GeneratedPair[]][] = [];
    if (rest.length >= 2 * EXTREMES) {
      const groups = [["Faintest of the others", rest], ["Strongest of the others", rest.toReversed()]] as const;
      for (const [title, list] of groups) {
        extremes.push([title, await Promise.all(list.slice(0, EXTREMES).map((record) => cardOf(folders, record)))]);
      }
    }
    sections.push({ part, defect, training, masks, pairs, total: mine.length, extremes });
  }
  const summaries = await readJson<KindSummary[]>(join(folders.folder, SUMMARY));
  return summaries
    ? { records, sections, summaries, table: summaryTable(summaries), note: SUMMARY_NOTE }
    : { records, sections, table: manifestTable(byKind), note: "" };
}

/** Figures out of the manifest alone. */
function manifestTable(kinds: ReadonlyMap<string, readonly ManifestRecord[]>): Table {
  const share = (values: number[], digits: number) => {
    const { mean, std, count } = spread(values);
    const shown = (100 * mean).toFixed(digits);
    return count > 1 ? `${shown} ± ${(100 * std).toFixed(digits)} %` : `${shown} %`;
  };
  return {
    columns: ["defect", "pairs", "change inside", "mask changed", "outside"],
    rows: [...kinds].map(([name, records]) => {
      const figures = records.map((record) => record.figures);
      return [
        name,
        records.length,
        share(figures.map((f) => f.changeInside), 1),
        share(figures.map((f) => f.changedShare), 0),
        `${(100 * spread(figures.map((f) => f.changeOutside)).mean).toFixed(2)} %`,
      ];
    }),
  };
}

/** One normal image and what each run made of it. */
export interface Versus {
  readonly kind: string;
  readonly columns: readonly string[];
  /** Pictures by column; undefined where a run did not use this image. */
  readonly rows: readonly (readonly (Uint8Array | undefined)[])[];
}

/**
 * The first pairs of the kinds that several runs have, side by side: for one seed every method draws into the same images.
 * @param rows of each kind
 */
export async function versus(
  runs: readonly { readonly name: string; readonly folders: PairFolders }[],
  rows: number,
): Promise<Versus[]> {
  const all = await Promise.all(runs.map(({ folders }) => manifestKinds(folders.folder)));
  const common = [...all[0].keys()].filter((kind) => all.every((kinds) => kinds.has(kind)));
  const result: Versus[] = [];
  for (const kind of common) {
    const lines = [];
    let sources = 0;
    for (const first of all[0].get(kind)!.slice(0, rows)) {
      const source = await sourceOf(runs[0].folders, first);
      if (source) sources++;
      const line: (Uint8Array | undefined)[] = [source && await photo(source, SMALL)];
      for (const [i, { folders }] of runs.entries()) {
        const record = all[i].get(kind)!.find(({ index, source }) => index === first.index && source === first.source);
        line.push(record && await photoOf(join(folders.folder, record.image)));
      }
      lines.push(line);
    }
    const from = sources ? 0 : 1;
    const columns = ["source", ...runs.map(({ name }) => name)].slice(from);
    result.push({ kind, columns, rows: lines.map((line) => line.slice(from)) });
  }
  return result;
}

/** Masks of a run of `generate-masks` by kind. */
export async function reportMasks(
  folder: string,
  shown: number,
): Promise<[kind: string, masks: Uint8Array[], of: number][]> {
  const result: [string, Uint8Array[], number][] = [];
  const folders = (path: string) =>
    [...Deno.readDirSync(path)].filter(({ name, isDirectory }) => isDirectory && !name.startsWith("."))
      .map(({ name }) => name).sort();
  for (const part of folders(folder)) {
    for (const defect of folders(join(folder, part))) {
      const paths = listImages(join(folder, part, defect)), masks = [];
      for (const path of paths.slice(0, shown)) masks.push(maskPicture(await loadMask(path)));
      if (masks.length) result.push([`${part}: ${defect}`, masks, paths.length]);
    }
  }
  return result;
}
