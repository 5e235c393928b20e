/**
 * Generated pairs as `generate` and the baselines leave them: MVTec layout (`<part>/test/<defect>`,
 * `<part>/ground_truth/<defect>`), and a manifest where there is one, which says which pairs were accepted.
 */

import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { UserError } from "../../errors.ts";
import { listImages } from "../../data/mvtec.ts";

/** A generated pair. */
export interface GeneratedPair {
  readonly part: string;
  readonly defect: string;
  readonly image: string;
  readonly mask: string;
  /** Normal image it was drawn into, as the manifest names it. */
  readonly source?: string;
  /** The pair's control: plain surface, drawn inside the same mask. */
  readonly control?: string;
}

/** What to take. */
export interface GeneratedOptions {
  /** Only these parts; all where it is left out or empty. */
  readonly parts?: readonly string[];
  /** Only these kinds of defect. */
  readonly defects?: readonly string[];
  /** At most so many pairs of each kind of each part. */
  readonly most?: number;
  /** Takes a line for each asked-for kind of which the quality gate refused every pair. */
  readonly note?: (line: string) => void;
}

const MANIFEST = "manifest.jsonl";

/** Folders in a folder, in the order in which the file system lists them. */
function foldersIn(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].filter(({ name, isDirectory }) => isDirectory && !name.startsWith("."))
      .map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}

/** A pair, and whether the quality gate accepted it. */
type JudgedPair = GeneratedPair & { readonly accepted: boolean };

/** Pairs of the manifest; undefined where there is none. */
function manifestPairs(folder: string): JudgedPair[] | undefined {
  const path = join(folder, MANIFEST);
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const lines = text.split("\n").slice(0, -1); // a last line without its end is torn
  return lines.map((line, i) => {
    let record: Partial<GeneratedPair> & { accepted?: boolean };
    try {
      record = JSON.parse(line);
    } catch {
      throw new UserError(`${path}: line ${i + 1} is not JSON`, "the file was changed by hand; generate again");
    }
    const { part, defect, image, mask, source, control, accepted } = record;
    if (![part, defect, image, mask].every((word) => typeof word === "string" && word)) {
      throw new UserError(`${path}: line ${i + 1} names no pair`, "a line has part, defect, image and mask");
    }
    return {
      part: part!,
      defect: defect!,
      image: join(folder, image!),
      mask: join(folder, mask!),
      source,
      control: control && join(folder, control),
      accepted: accepted !== false,
    };
  });
}

function layoutPairs(folder: string): JudgedPair[] {
  const pairs: JudgedPair[] = [];
  for (const part of foldersIn(folder).sort()) {
    for (const defect of foldersIn(join(folder, part, "test")).sort()) {
      if (defect === "good") continue;
      const masks = new Map(
        listImages(join(folder, part, "ground_truth", defect)).map((path) => {
          const name = basename(path);
          return [name.slice(0, name.lastIndexOf(".")).replace(/_mask$/, ""), path];
        }),
      );
      for (const image of listImages(join(folder, part, "test", defect))) {
        const name = basename(image), stem = name.slice(0, name.lastIndexOf(".")), mask = masks.get(stem);
        if (!mask) {
          throw new UserError(`${image}: no mask`, `expected ${part}/ground_truth/${defect}/${stem}_mask.png`);
        }
        pairs.push({ part, defect, image, mask, accepted: true });
      }
    }
  }
  return pairs;
}

/**
 * Kinds of defect of a part as the file system lists their folders, which is `os.listdir`'s order too: the official
 * classifier numbers its classes by it. Another copy of the same folders may be listed in another order.
 * @param folder run folder of the pairs
 */
export function listedDefects(folder: string, part: string): string[] {
  return foldersIn(join(folder, part, "test")).filter((name) => name !== "good");
}

/**
 * Finds generated pairs, sorted by part, defect and file, without those that the quality gate refused; nothing is decoded.
 * @throws UserError where the folder holds none, a named part or defect is missing, every pair that is asked for was refused, or
 * an image has no mask
 */
export function scanGenerated(
  folder: string,
  { parts, defects, most = Infinity, note }: GeneratedOptions = {},
): GeneratedPair[] {
  const all = (manifestPairs(folder) ?? layoutPairs(folder)).sort((a, b) =>
    a.part.localeCompare(b.part) || a.defect.localeCompare(b.defect) || (a.image < b.image ? -1 : 1)
  );
  if (all.length === 0) {
    throw new UserError(
      `${folder}: no generated pairs`,
      "give the run folder of generate or baseline: <part>/test/<defect> and <part>/ground_truth/<defect>",
    );
  }
  const wrong = (what: string, asked: readonly string[] | undefined, known: Set<string>) => {
    const missing = asked?.filter((name) => !known.has(name)) ?? [];
    if (missing.length) {
      throw new UserError(`${folder}: no pairs of ${what} ${missing.join(", ")}`, `there is ${[...known].join(", ")}`);
    }
  };
  wrong("part", parts, new Set(all.map(({ part }) => part)));
  wrong("defect", defects, new Set(all.map(({ defect }) => defect)));
  const asked = all.filter(({ part, defect }) =>
    (!parts?.length || parts.includes(part)) && (!defects?.length || defects.includes(defect))
  );
  const keyOf = ({ part, defect }: GeneratedPair) => `${part}+${defect}`, counts = new Map<string, number>();
  const pairs = asked.flatMap(({ accepted, ...pair }) => {
    const key = keyOf(pair), count = (counts.get(key) ?? 0) + (accepted ? 1 : 0);
    counts.set(key, count);
    return accepted && count <= most ? [pair] : [];
  });
  const hint = "draw more with generate --count, or take them as they are with --no-quality-gate";
  if (asked.length && pairs.length === 0) {
    throw new UserError(`${folder}: the quality gate refused every pair`, hint);
  }
  for (const [key, count] of counts) {
    if (count === 0) note?.(`${key}: left out, since the quality gate refused every pair (${hint})`);
  }
  return pairs;
}

/**
 * Those of the pairs that have a control.
 * @throws UserError where a control's file is not there
 */
export function controlledPairs<T extends GeneratedPair>(pairs: readonly T[]): (T & { readonly control: string })[] {
  const controlled = pairs.filter((pair): pair is T & { readonly control: string } => pair.control !== undefined);
  const lost = controlled.find(({ control }) => !existsSync(control));
  if (lost) throw new UserError(`${lost.control}: the control is not there`, "finish the run: generate --resume");
  return controlled;
}
