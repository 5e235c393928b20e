/** What the inspect commands read: generated pairs, normal images, and the test images that no training may have seen. */

import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { controlledPairs, listedDefects, scanGenerated } from "../../src/inspection/training/generated.ts";
import { decodeInspector, type Inspector, type InspectorInfo } from "../../src/inspection/training/model_file.ts";
import { type InspectionSample, loadSample } from "../../src/inspection/training/samples.ts";
import type { Context } from "../command.ts";
import { type Kind, openKinds, wasGiven } from "./dataset.ts";
import { readProduct } from "./files.ts";

/** File that a finished `inspect train` leaves. */
export const INSPECTOR = "model.safetensors";

/** The trained network of a run folder. */
export async function readInspector(folder: string): Promise<Inspector> {
  const path = join(folder, INSPECTOR);
  return decodeInspector(await readProduct(path, "inspect train"), path);
}

/** How a kind of defect is called: by its name alone where there is only one part. */
export function labelOf(part: string, defect: string, parts: readonly string[]): string {
  return parts.length > 1 ? `${part}+${defect}` : defect;
}

/** Files of one image. */
interface Wanted {
  readonly image: string;
  readonly mask?: string;
  readonly kind?: string;
  readonly part?: string;
}

async function load(wanted: readonly Wanted[], side: number, label: string, context: Context, soft = false) {
  using progress = context.progress({ label, total: wanted.length, unit: "image" });
  const samples: InspectionSample[] = [];
  for (const one of wanted) {
    context.signal.throwIfAborted();
    samples.push(await loadSample(side, one, soft));
    progress.update(samples.length);
  }
  progress.finish();
  return samples;
}

/** Flags that say what to train on. */
interface TrainingSelection {
  readonly pairs: string;
  readonly data: string;
  readonly part?: readonly string[];
  readonly defect?: readonly string[];
  readonly maxPairs: number;
  readonly controls: boolean;
  readonly labelOrder: LabelOrder;
}

/** How the kinds of defect are numbered: by name, or as the file system lists the pairs' folders (official code). */
export type LabelOrder = "sorted" | "listing";

/** The kinds of the pairs in the order of their classes. */
function ordered(folder: string, parts: readonly string[], kinds: ReadonlySet<string>, order: LabelOrder): string[] {
  const sorted = [...kinds].sort();
  if (order === "sorted") return sorted;
  const listed = parts.flatMap((part) => listedDefects(folder, part).map((defect) => labelOf(part, defect, parts)));
  return [...new Set([...listed.filter((kind) => kinds.has(kind)), ...sorted])];
}

/** What a network is trained on. */
export interface TrainingImages {
  readonly parts: readonly string[];
  /** Kinds of defect, in the order that was asked for. */
  readonly labels: readonly string[];
  readonly normal: readonly InspectionSample[];
  readonly defects: readonly InspectionSample[];
  /** Controls of the defects, whose masks say where surface was drawn. */
  readonly controls: readonly InspectionSample[];
  /** The real kinds of the same parts, whose rest is the test set. */
  readonly kinds: readonly Kind[];
}

/** Reads the normal training images of the kinds' parts. */
export async function normalImages(
  kinds: readonly Kind[],
  side: number,
  context: Context,
): Promise<InspectionSample[]> {
  const good = [...new Set(kinds.map(({ part }) => part))].flatMap((one) => one.good.map((image) => ({ image })));
  return await load(good, side, "reading normal images", context);
}

/** Reads the generated pairs and the normal images of their parts. */
export async function trainingImages(
  { pairs: folder, data, part, defect, maxPairs, controls: wantsControls, labelOrder }: TrainingSelection,
  side: number,
  context: Context,
): Promise<TrainingImages> {
  const pairs = scanGenerated(folder, { parts: part, defects: defect, most: maxPairs, note: context.log });
  const parts = [...new Set(pairs.map((pair) => pair.part))].sort();
  const kinds = openKinds({ data, part: parts }, context);
  const wanted = pairs.map((pair) => ({ ...pair, kind: labelOf(pair.part, pair.defect, parts) }));
  const defects = await load(wanted, side, "reading pairs", context);
  const drawn = (wantsControls ? controlledPairs(wanted) : []).map((pair) => ({ ...pair, image: pair.control }));
  const controls = drawn.length ? await load(drawn, side, "reading controls", context) : [];
  const normal = await normalImages(kinds, side, context);
  const labels = ordered(folder, parts, new Set(wanted.map(({ kind }) => kind)), labelOrder);
  return { parts, labels, normal, defects, controls, kinds };
}

/**
 * Reads the test images part by part: the normal ones, and of each kind the pairs that no generator learned from.
 * @param parts names by which kinds are labelled
 * @param side S
 * @param soft keep the masks' resized values too
 */
export async function testImages(
  kinds: readonly Kind[],
  parts: readonly string[],
  side: number,
  context: Context,
  soft = false,
): Promise<InspectionSample[]> {
  for (const { key, defect } of kinds) {
    if (defect.test.length === 0) {
      throw new UserError(`${key} has no test images`, "give more pairs: the first third is for training");
    }
  }
  const wanted = [...new Set(kinds.map(({ part }) => part))].flatMap((part): Wanted[] => {
    const defects = kinds.filter((kind) => kind.part === part).flatMap(({ defect }) =>
      defect.test.map((pair) => ({ ...pair, kind: labelOf(part.name, defect.name, parts), part: part.name }))
    );
    return [...part.testGood.map((image) => ({ image, part: part.name })), ...defects];
  });
  return await load(wanted, side, "reading test images", context, soft);
}

/** Which test images stand behind a run of pairs, or behind a run that it rests on. */
export async function leakOf(folder: string): Promise<Pick<InspectorInfo, "officialSplit" | "allPairs">> {
  return {
    ...(await wasGiven(folder, "official-split") ? { officialSplit: true } : {}),
    ...(await wasGiven(folder, "all-pairs") ? { allPairs: true } : {}),
  };
}

/** Says that test images stand behind the pairs; their pixels are others, so that no comparison of images finds them. */
export function tellLeak(
  { officialSplit, allPairs }: Pick<InspectorInfo, "officialSplit" | "allPairs">,
  { log }: Pick<Context, "log">,
): void {
  if (!officialSplit && !allPairs) return;
  const [learned, flag] = allPairs
    ? ["every pair, test images too", "--all-pairs"]
    : ["image N//3 of each kind too, which is a test image", "--official-split"];
  log(`warning: the pairs were learned from ${learned} (${flag}): figures are too good (make pairs without it)`);
}

/**
 * Says which kinds of defect a test passes over without being asked to: those that the data has and the network cannot name,
 * and those that it learned and the data has not.
 * @param all kinds of the data set
 * @param tested those of them that are tested
 */
export function tellUntested(
  all: readonly Kind[],
  tested: readonly Kind[],
  { labels, parts }: Pick<InspectorInfo, "labels" | "parts">,
  { part = parts, defect }: { readonly part?: readonly string[]; readonly defect?: readonly string[] },
  { log }: Pick<Context, "log">,
): void {
  const nameOf = ({ part, defect }: Kind) => labelOf(part.name, defect.name, parts), there = new Set(all.map(nameOf));
  const strange = all.filter((kind) => !tested.includes(kind)).map(nameOf);
  if (strange.length) {
    const [their, them] = strange.length > 1 ? ["their", "them"] : ["its", "it"];
    log(`${strange.join(", ")}: ${their} images are left out, since the classifier has not learned ${them}`);
  }
  if (defect?.length) return; // the user chose
  // Of a network for several parts only some may be tested; its labels begin with the part.
  const asked = (label: string) =>
    parts.length === 1 || part.some((name) => label.startsWith(labelOf(name, "", parts)));
  const missing = labels.filter((label) => asked(label) && !there.has(label));
  if (missing.length) log(`${missing.join(", ")}: learned but not tested, the data has no such images`);
}
