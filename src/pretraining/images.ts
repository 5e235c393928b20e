/** What a base model is trained on: procedural pictures with their captions, or the user's own normal images. */

import { basename, join, relative } from "node:path";
import { isImageName, loadImage, unreadPictures } from "../data/image.ts";
import { damageWords } from "../data/procedural/captions.ts";
import { damagedCells, PROCEDURAL_FORMS, type ProceduralForm } from "../data/procedural/sample.ts";
import { resize } from "../data/resize.ts";
import { Random } from "../random/philox.ts";
import { splitWords } from "../data/tokenizer.ts";
import { UserError } from "../errors.ts";
import { normalView } from "./views.ts";

/** Where a picture's damage is, and which words of its caption speak of it. */
export interface Damage {
  /** Cells of the latent that have damage in them, row by row, in rising order. */
  readonly cells: readonly number[];
  /** Words of the caption, counted from 0. */
  readonly words: readonly number[];
}

/** Square pictures with captions. */
export interface TrainingImages {
  readonly count: number;
  /** Side in pixels. */
  readonly side: number;
  /** RGB bytes of picture i, [side, side, 3]. */
  pixels(i: number): Uint8Array;
  caption(i: number): string;
  /** Where it is known: normal images of a user have none. */
  damage?(i: number): Damage;
}

/** Which procedural pictures are made. */
export interface ProceduralOptions {
  /** Forms in turn: of picture i form i mod n, its picture ⌊i/n⌋. Whole pictures where left out. */
  readonly forms?: readonly ProceduralForm[];
  /** Side of the latent in cells, for {@linkcode Damage}; an eighth of the picture's where left out. */
  readonly cells?: number;
}

/** Side of a procedural picture. */
const PROCEDURAL_SIDE = 128;

/** Procedural pictures that are kept once made, in bytes: a quarter of a small machine's memory. */
const CACHE_BYTES = 1 << 30;

/**
 * Surfaces and defects of the procedural mixture; picture i depends on the seed, the forms and i only.
 * @param count how many there are
 * @param side in pixels
 */
export function proceduralImages(
  seed: number,
  count: number,
  side: number,
  { forms = ["whole"], cells = Math.floor(side / 8) }: ProceduralOptions = {},
): TrainingImages & Required<Pick<TrainingImages, "damage">> {
  const pictures = new Map<number, Uint8Array>(),
    captions = new Map<number, string>(),
    damage = new Map<number, Damage>();
  const make = (i: number): Uint8Array => {
    const sample = PROCEDURAL_FORMS[forms[i % forms.length]](seed, Math.floor(i / forms.length));
    captions.set(i, sample.caption);
    damage.set(i, { cells: damagedCells(sample, cells), words: damageWords(sample) });
    const own = { width: PROCEDURAL_SIDE, height: PROCEDURAL_SIDE, channels: 3, data: sample.image };
    const pixels = side === PROCEDURAL_SIDE ? sample.image : resize(own, side, side, "bicubic").data;
    if (pictures.size * pixels.length < CACHE_BYTES) pictures.set(i, pixels);
    return pixels;
  };
  return {
    count,
    side,
    pixels: (i) => pictures.get(i) ?? make(i),
    caption(i) {
      if (!captions.has(i)) make(i);
      return captions.get(i)!;
    },
    damage(i) {
      if (!damage.has(i)) make(i);
      return damage.get(i)!;
    },
  };
}

/** Folders of data sets in MVTec layout that say nothing about what a picture shows. */
const STRUCTURE = new Set(["train", "good", "normal", "images"]);
/** Folders without normal images. */
const SKIPPED = new Set(["test", "ground_truth", "masks"]);

/** A caption from the folders that lead to a picture. */
export function captionOf(folders: readonly string[]): string {
  const words = folders.filter((name) => !STRUCTURE.has(name.toLowerCase()))
    .flatMap((name) => splitWords(name.replace(/[_\-.]+/g, " ")));
  return words.length ? `a photo of a ${words.join(" ")}` : "a photo";
}

function* walk(folder: string, others: string[]): Generator<string> {
  const entries = [...Deno.readDirSync(folder)].filter(({ name }) => !name.startsWith("."));
  for (const { name } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, name);
    if (Deno.statSync(path).isDirectory) {
      if (!SKIPPED.has(name.toLowerCase())) yield* walk(path, others);
    } else if (isImageName(name)) yield path;
    else others.push(name);
  }
}

/** How views of images are drawn: how many there are, and how much their squares are enlarged. */
export interface ViewSettings {
  readonly seed: number;
  readonly count: number;
  /** As of `--window mask`. */
  readonly zoom: number;
}

/**
 * All images below a folder, each brought to a square; the names of the subfolders make the caption. Folders named test,
 * ground_truth and masks are left out, so that a data set in MVTec layout can be given as it is.
 * @param side in pixels
 * @param views make so many views of the images instead, of each in turn; view i depends on (seed, i) and its image only
 * @param note is told in one line of pictures that are passed over
 * @throws UserError where there are none, or one is broken
 */
export async function folderImages(
  folder: string,
  side: number,
  views?: ViewSettings,
  note?: (line: string) => void,
): Promise<TrainingImages> {
  let paths: string[];
  const others: string[] = [];
  try {
    paths = [...walk(folder, others)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${folder}: no such folder`);
    if (error instanceof Deno.errors.NotADirectory) throw new UserError(`${folder}: not a folder`);
    throw error;
  }
  const unread = unreadPictures(folder, others);
  if (unread) note?.(unread);
  if (paths.length < 2) {
    throw new UserError(`${folder}: ${paths.length} images`, "give a folder with at least two normal images");
  }
  const count = views?.count ?? paths.length, pictures: Uint8Array[] = [];
  for (const [at, path] of paths.entries()) {
    const image = await loadImage(path);
    if (views) {
      for (let i = at; i < count; i += paths.length) {
        pictures[i] = normalView(image, new Random(views.seed, "pretraining/normal", i), side, views.zoom);
      }
      continue;
    }
    const { data } = resize(image, side, side, "bicubic");
    pictures.push(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.length));
  }
  // Beside the folder's own name, where images lie in it directly.
  const captions = paths.map((path) => captionOf(relative(folder, path).split(/[\\/]/).slice(0, -1)));
  const own = captionOf([basename(Deno.realPathSync(folder))]);
  return {
    count,
    side,
    pixels: (i) => pictures[i],
    caption: (i) => captions[i % paths.length] === "a photo" ? own : captions[i % paths.length],
  };
}

/**
 * The vocabulary with those words of the captions added that it does not hold.
 * @param vocab word pieces by id
 */
export function withWords(vocab: readonly string[], captions: Iterable<string>): string[] {
  const known = new Set(vocab);
  for (const caption of captions) for (const word of splitWords(caption)) known.add(word);
  return [...known];
}
