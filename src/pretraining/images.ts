/** What a base model is trained on: procedural pictures with their captions, the user's own normal images, or both. */

import { createHash } from "node:crypto";
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

/**
 * Squares of 2 × 2 pixels that have damage in them, counted row by row, half of the picture's side (512 at most) in a row; in
 * rising order. They are a list since most pictures have few: of 4,096 whole parts 74 on average, close windows 443.
 */
export type DamagedSquares = Uint16Array;

/** Square pictures with captions. */
export interface TrainingImages {
  readonly count: number;
  /** Side in pixels. */
  readonly side: number;
  /** RGB bytes of picture i, [side, side, 3]. */
  pixels(i: number): Uint8Array;
  caption(i: number): string;
  /** Where it is known: normal images of a user alone do not say. */
  damage?(i: number): Damage;
  /** The same, finer. */
  damagedSquares?(i: number): DamagedSquares;
  /** Captions that may hold words which the shipped vocabulary lacks; it knows those of procedural pictures. */
  readonly newCaptions?: readonly string[];
  /** Of the images that were read, as they are, and their captions; procedural pictures follow from settings alone. */
  readonly sha256?: string;
}

/** Which procedural pictures are made. */
export interface ProceduralOptions {
  /**
   * Forms in turn: of picture i form i mod n, its next picture. A form that is named twice has two turns. Whole pictures where
   * left out.
   */
  readonly forms?: readonly ProceduralForm[];
  /** Side of the latent in cells, for {@linkcode Damage}; an eighth of the picture's where left out. */
  readonly cells?: number;
}

/** Side of a procedural picture. */
const PROCEDURAL_SIDE = 128;

/** Procedural pictures that are kept once made, in bytes: a quarter of a small machine's memory. */
const CACHE_BYTES = 1 << 30;

/** Pictures with captions that say where their damage is. */
export type DamagedImages = TrainingImages & Required<Pick<TrainingImages, "damage" | "damagedSquares">>;

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
): DamagedImages {
  // Of each turn its form, how many turns that form has, and which of them this is: no picture is made twice.
  const turns = forms.map((form, k) => {
    const same = (list: readonly ProceduralForm[]) => list.filter((other) => other === form).length;
    return { form, of: same(forms), at: same(forms.slice(0, k)) };
  });
  const pictures = new Map<number, Uint8Array>(),
    captions = new Map<number, string>(),
    damage = new Map<number, Damage>();
  let squares: Map<number, DamagedSquares> | undefined; // from the first question on
  const make = (i: number): Uint8Array => {
    const { form, of, at } = turns[i % turns.length];
    const sample = PROCEDURAL_FORMS[form](seed, of * Math.floor(i / turns.length) + at);
    captions.set(i, sample.caption);
    damage.set(i, { cells: damagedCells(sample, cells), words: damageWords(sample) });
    squares?.set(i, Uint16Array.from(damagedCells(sample, side / 2)));
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
    damagedSquares(i) {
      squares ??= new Map();
      if (!squares.has(i)) make(i);
      return squares.get(i)!;
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
 * @param onImage called before each image is read; throw in it to stop
 * @throws UserError where there are none, or one is broken
 */
export async function folderImages(
  folder: string,
  side: number,
  views?: ViewSettings,
  note?: (line: string) => void,
  onImage?: () => void,
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
  // Beside the folder's own name, where images lie in it directly.
  const captions = paths.map((path) => captionOf(relative(folder, path).split(/[\\/]/).slice(0, -1)));
  const own = captionOf([basename(Deno.realPathSync(folder))]);
  const caption = (i: number) => captions[i % paths.length] === "a photo" ? own : captions[i % paths.length];
  const count = views?.count ?? paths.length, pictures: Uint8Array[] = [], hash = createHash("sha256");
  for (const [at, path] of paths.entries()) {
    onImage?.();
    const image = await loadImage(path), { width, height, data } = image;
    hash.update(`${caption(at)}, ${width} × ${height}\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    if (views) {
      for (let i = at; i < count; i += paths.length) {
        pictures[i] = normalView(image, new Random(views.seed, "pretraining/normal", i), side, views.zoom);
      }
      continue;
    }
    const small = resize(image, side, side, "bicubic").data;
    pictures.push(new Uint8Array(small.buffer as ArrayBuffer, small.byteOffset, small.length));
  }
  const newCaptions = Array.from({ length: Math.min(count, paths.length) }, (_, i) => caption(i));
  return { count, side, pixels: (i) => pictures[i], caption, newCaptions, sha256: hash.digest("hex") };
}

/** Normal images say that there is none. */
const NO_DAMAGE: Damage = { cells: [], words: [] }, NO_SQUARES: DamagedSquares = new Uint16Array();

/**
 * Normal images and procedural pictures as one set, mixed evenly: sheets show the first few and statistics are taken from
 * the first thousand, which must not be of one kind only. The order within each kind stays.
 * @param normal without damage
 * @param drawn of the same side
 */
export function mixedImages(normal: TrainingImages, drawn: DamagedImages): DamagedImages {
  if (normal.side !== drawn.side) throw new Error(`sides of ${normal.side} and ${drawn.side} pixels in one set`);
  const count = normal.count + drawn.count;
  /** How many of the first i are drawn. */
  const before = (i: number) => Math.floor(i * drawn.count / count);
  const pick = <T>(i: number, ofDrawn: (j: number) => T, ofNormal: (j: number) => T) =>
    before(i + 1) > before(i) ? ofDrawn(before(i)) : ofNormal(i - before(i));
  return {
    count,
    side: normal.side,
    pixels: (i) => pick(i, (j) => drawn.pixels(j), (j) => normal.pixels(j)),
    caption: (i) => pick(i, (j) => drawn.caption(j), (j) => normal.caption(j)),
    damage: (i) => pick(i, (j) => drawn.damage(j), () => NO_DAMAGE),
    damagedSquares: (i) => pick(i, (j) => drawn.damagedSquares(j), () => NO_SQUARES),
    newCaptions: normal.newCaptions,
    sha256: normal.sha256,
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
