/**
 * Data sets in MVTec AD's layout (Bergmann et al. 2019), of one part or several, or just in folders:
 *
 * - `[<part>/]train/good`, `test/good`, `test/<defect>`, `ground_truth/<defect>`
 * - `[<part>/]good`, `<defect>`, with masks in `ground_truth/<defect>` or `masks/<defect>` or beside the images
 *
 * File names are free. The mask of `x.png` is `x_mask.*` or, in a folder of masks, `x.*`.
 */

import { basename, join } from "node:path";
import { UserError } from "../errors.ts";
import {
  type Image,
  imageExtensions,
  isImageName,
  loadImage,
  loadMask,
  type Mask,
  readImageSize,
  unreadPictures,
} from "./image.ts";

/** An image file with the file of its mask. */
export interface Pair {
  /** File name without its ending. */
  stem: string;
  /** Path of the image. */
  image: string;
  /** Path of its mask. */
  mask: string;
}

/** One kind of defect of one part; pairs sorted by name. */
export interface Defect {
  /** Name of its folder. */
  name: string;
  /** All, sorted by name. */
  pairs: Pair[];
  /** What may be learnt from: the first third, at least one. */
  train: Pair[];
  /** What inspection is tested on: the rest. */
  test: Pair[];
}

/** One part (MVTec's "object" or "category"). */
export interface Part {
  /** Name of its folder. */
  name: string;
  /** Its folder. */
  path: string;
  /** Normal images to learn from and to generate on. */
  good: string[];
  /** Normal images of the test set; empty where the layout has none. */
  testGood: string[];
  /** Kinds of defect, sorted by name. */
  defects: Defect[];
}

/** What to take from a data set. */
export interface ScanOptions {
  /** Only these parts; nothing else is looked at. */
  parts?: readonly string[];
  /** Only these defects; nothing else is looked at. */
  defects?: readonly string[];
  /** Take image ⌊N/3⌋ into training too, as the paper's code does, though it is a test image as well. */
  officialSplit?: boolean;
  /** Learn from every pair: none is left to test on. One pair of a defect is enough then. */
  allPairs?: boolean;
  /** Look at normal images only; defects and masks are not needed. */
  goodOnly?: boolean;
  /** Is told in one line of pictures that are passed over. */
  note?: (line: string) => void;
}

const layoutHint =
  "expected train/good, test/<defect> and ground_truth/<defect>, or good, <defect> and masks/<defect>, " +
  "in this folder or one below it";

const collator = new Intl.Collator("en", { numeric: true });

/** By name, numbers by value: 2 before 10. */
function byName(a: string, b: string): number {
  return collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
}

/** Whether the path is a folder. */
function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** Sorted names in a folder, without hidden ones; none where there is no such folder. */
function namesIn(path: string): string[] {
  if (!isFolder(path)) return [];
  return [...Deno.readDirSync(path)].map((entry) => entry.name).filter((name) => !name.startsWith(".")).sort(byName);
}

const foldersIn = (path: string) => namesIn(path).filter((name) => isFolder(join(path, name)));
const stemOf = (name: string) => name.slice(0, name.lastIndexOf("."));

/**
 * Paths of the image files in a folder, sorted by name.
 * @param others gets the names of all other files
 */
export function listImages(folder: string, others?: string[]): string[] {
  const names = namesIn(folder);
  others?.push(...names.filter((name) => !isImageName(name)));
  return names.filter(isImageName).map((name) => join(folder, name));
}

/**
 * How many of N sorted pairs may be learnt from.
 * @returns ⌊N/3⌋, at least 1; one more where `official`
 */
export function trainCount(count: number, official = false): number {
  const third = Math.floor(count / 3);
  return official ? Math.min(count, third + 1) : Math.max(1, third);
}

/** Folders that are no defects in the plain layout. */
const reserved = new Set(["good", "masks", "ground_truth", "train", "test"]);

/** A folder is a part when normal images have a place in it. */
const isPart = (path: string) => isFolder(join(path, "train")) || isFolder(join(path, "good"));

/** The image–mask pairs of a defect. */
function pairsOf(images: string[], maskFolder: string | undefined, label: string, others: string[]): Pair[] {
  const masks = new Map<string, string>();
  for (const path of maskFolder ? listImages(maskFolder, others) : images) {
    const stem = stemOf(basename(path));
    if (stem.endsWith("_mask")) masks.set(stem.slice(0, -5), path);
    else if (maskFolder && !masks.has(stem)) masks.set(stem, path);
  }
  // Masks beside the images are no images.
  const own = maskFolder ? images : images.filter((path) => !stemOf(basename(path)).endsWith("_mask"));
  if (own.length === 0) throw new UserError(`${label}: no images`, `put ${imageExtensions.join(", ")} files there`);
  if (masks.size === 0) {
    throw new UserError(
      `${label}: the defect has no masks`,
      "put a black and white <name>_mask.png for each <name> into ground_truth/<defect>",
    );
  }
  const taken = new Map<string, string>();
  const pairs = own.map((image) => {
    const stem = stemOf(basename(image)), mask = masks.get(stem), other = taken.get(stem);
    if (other) {
      throw new UserError(`${other} and ${basename(image)} would share one mask`, "give them names of their own");
    }
    taken.set(stem, image);
    if (!mask) {
      const names = maskFolder ? `${stem}_mask.png or ${stem}.png` : `${stem}_mask.png`;
      throw new UserError(`${image}: no mask`, `expected ${names} in ${maskFolder ?? label}`);
    }
    return { stem, image, mask };
  });
  // Where an image is gone, those after it move up, and the first third would be others.
  for (const [stem, mask] of masks) {
    if (taken.has(stem)) continue;
    throw new UserError(
      `${mask}: no image`,
      `put ${stem}.png or another image of that name into ${label}, or remove the mask`,
    );
  }
  return pairs;
}

/** In pixels. */
type Size = Readonly<Record<"width" | "height", number>>;

/**
 * Refuses a mask of another size than its image.
 * @param path of the mask
 */
export function requireSize(path: string, mask: Size, image: Size): void {
  if (mask.width === image.width && mask.height === image.height) return;
  throw new UserError(
    `${path}: the mask has ${mask.width}×${mask.height} pixels, its image ${image.width}×${image.height}`,
    "a mask covers its image pixel for pixel: export it at the image's own size",
  );
}

/** Whether a part's folders have MVTec's names, and the names of its defects. */
function defectFolders(path: string): { mvtec: boolean; from: string; names: string[] } {
  const mvtec = isFolder(join(path, "train")), from = mvtec ? join(path, "test") : path;
  return { mvtec, from, names: foldersIn(from).filter((name) => mvtec ? name !== "good" : !reserved.has(name)) };
}

/** One part, all defects that are wanted. */
function scanPart(
  path: string,
  { officialSplit, allPairs, goodOnly, defects: only }: ScanOptions,
  others: string[],
): Part {
  const { mvtec, from, names } = defectFolders(path);
  const goodFolder = mvtec ? join(path, "train", "good") : join(path, "good");
  const good = listImages(goodFolder, others);
  if (good.length === 0) {
    throw new UserError(`${path}: no good images`, `expected ${imageExtensions.join(", ")} files in ${goodFolder}`);
  }
  const part: Part = {
    name: basename(path),
    path,
    good,
    testGood: listImages(join(path, "test", "good"), others),
    defects: [],
  };
  if (goodOnly) return part;
  if (names.length === 0) throw new UserError(`${path}: no defect folder`, layoutHint);
  for (const name of names) {
    if (only && !only.includes(name)) continue;
    const folder = join(from, name);
    const maskFolder = ["ground_truth", "masks"].map((kind) => join(path, kind, name)).find(isFolder);
    const pairs = pairsOf(listImages(folder, others), maskFolder, folder, others);
    if (pairs.length < 2 && !allPairs) {
      throw new UserError(
        `${folder}: the defect has only one image`,
        "give at least two: one to learn from and one to test on",
      );
    }
    for (const { image, mask } of pairs) requireSize(mask, readImageSize(mask), readImageSize(image));
    const learned = allPairs ? pairs.length : trainCount(pairs.length, officialSplit);
    part.defects.push({
      name,
      pairs,
      train: pairs.slice(0, learned),
      test: pairs.slice(officialSplit && !allPairs ? Math.floor(pairs.length / 3) : learned),
    });
  }
  return part;
}

/**
 * Finds the parts, defects and pairs of a data set; images are not decoded yet (see `loadPair`).
 * @param root a folder of parts, or one part
 * @returns parts sorted by name, each with at least one defect unless `goodOnly`
 * @throws {UserError} in one line: not a folder, not this layout, no good images, no or missing masks, a mask without
 *   its image or of another size, a defect with one image, no such part or defect
 */
export function scanDataset(root: string, options: ScanOptions = {}): Part[] {
  if (!isFolder(root)) throw new UserError(`${root}: not a folder`, "give the folder of a data set");
  const single = isPart(root);
  const names = single
    ? [basename(Deno.realPathSync(root))]
    : foldersIn(root).filter((name) => isPart(join(root, name)));
  if (names.length === 0) throw new UserError(`${root}: not a data set in MVTec layout`, layoutHint);
  const missing = options.parts?.filter((name) => !names.includes(name)) ?? [];
  if (missing.length) {
    throw new UserError(`${root}: no part ${missing.join(", ")}`, `there is ${names.join(", ")}`);
  }
  const chosen = names.filter((name) => options.parts?.includes(name) ?? true);
  const pathOf = (name: string) => single ? root : join(root, name);
  if (options.defects && !options.goodOnly) {
    const known = new Set(chosen.flatMap((name) => defectFolders(pathOf(name)).names));
    const missing = options.defects.filter((name) => !known.has(name));
    if (missing.length) {
      throw new UserError(`${root}: no defect ${missing.join(", ")}`, `there is ${[...known].join(", ")}`);
    }
  }
  const others: string[] = [];
  let parts: Part[];
  try {
    parts = chosen.map((name) => ({ ...scanPart(pathOf(name), options, others), name }));
  } finally { // where images or masks are missing, it may be why
    const line = unreadPictures(root, others);
    if (line) options.note?.(line);
  }
  return options.goodOnly ? parts : parts.filter(({ defects }) => defects.length > 0);
}

/**
 * Decodes a pair.
 * @throws {UserError} if a file is broken, the sizes differ, or the mask marks nothing
 */
export async function loadPair({ image: imagePath, mask: maskPath }: Pair): Promise<{ image: Image; mask: Mask }> {
  const [image, mask] = await Promise.all([loadImage(imagePath), loadMask(maskPath)]);
  requireSize(maskPath, mask, image);
  if (!mask.data.includes(1)) {
    throw new UserError(`${maskPath}: the mask is empty`, "paint the defect white on black, or remove the pair");
  }
  return { image, mask };
}
