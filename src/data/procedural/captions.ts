/** Short lower-case captions for procedural pictures, from a closed vocabulary that a small text tower can learn. */

import type { Random } from "../../random/philox.ts";
import { splitWords } from "../tokenizer.ts";
import type { Looks } from "./looks.ts";

/** What a caption may tell. */
export interface Subject {
  material: string;
  color?: string;
  defect?: string;
  /** How the defect looks. */
  looks?: Looks;
}

const GOOD = [
  "a photo of a M",
  "a photo of a M",
  "a photo of the M",
  "a photo of a normal M",
  "a photo of a good M",
  "a close-up photo of a M",
];
const BAD = [
  "a photo of a M with a D",
  "a photo of a M with a D",
  "a D on a M",
  "a photo of a D on a M",
  "a photo of a D",
  "a close-up photo of a D",
  "a cropped photo of the D",
];
const VAGUE = [
  "a photo of a damaged M",
  "a photo of a broken M",
  "a photo of a M with a defect",
  "a photo of a defect",
  "a photo of an anomaly on a M",
];
const MASK = ["a mask of a D", "a mask of a D", "a mask of a defect", "a black and white mask", "a mask"];

/** A defect's word with none, some or all of what its looks say, and the words for its place, which come last. */
function described(random: Random, defect: string, looks: Looks | undefined): [defect: string, where: string] {
  if (!looks || random.chance(0.2)) return [defect, ""];
  const { size, strength, tone, color, shape, where } = looks;
  const said = [size, strength, tone, color, shape].filter((word) => word !== undefined && random.chance(0.65));
  return [[...said, defect].join(" "), where !== undefined && random.chance(0.4) ? ` ${where}` : ""];
}

/** A caption of a whole or damaged part; three in five name its colour, and most say something of the damage's looks. */
export function caption(random: Random, subject: Subject): string {
  const templates = subject.defect === undefined ? GOOD : random.chance(0.1) ? VAGUE : BAD;
  const named = subject.color !== undefined && random.chance(0.6)
    ? `${subject.color} ${subject.material}`
    : subject.material;
  const template = random.pick(templates).replace("M", named);
  if (subject.defect === undefined) return template;
  // Said of a "defect" too: the word from which embeddings start.
  const word = templates === BAD && random.chance(0.15) ? "defect" : subject.defect;
  const [defect, where] = described(random, word, subject.looks);
  return template.replace("D", defect).replace(
    "a defect",
    templates === VAGUE ? `a ${described(random, "defect", subject.looks)[0]}` : "a defect",
  ) + where;
}

/** A caption of a mask picture, of whose looks it tells size, shape and place. */
export function maskCaption(random: Random, defect: string, looks?: Looks): string {
  const { size, shape, where } = looks ?? {},
    [text, place] = described(random, defect, looks && { size, shape, where });
  return random.pick(MASK).replace("D", text) + place;
}

/** Words before a place: "in the middle", "on the right". */
const PLACES = new Set(["in", "on", "at"]), ARTICLES = new Set(["a", "an", "the"]);

/** Of what a caption was made. */
export interface Captioned {
  readonly caption: string;
  readonly material: string;
  readonly defect?: string;
  /** Whether the picture shows the mask instead of the part. */
  readonly maskPicture: boolean;
}

/**
 * Which words of a caption speak of the damage, counted from 0 as {@linkcode splitWords} splits them; none where it names the
 * surface only ("a photo of a damaged wood"), and none of a mask's picture. A place belongs to nobody.
 * @example
 * ```ts
 * import { damageWords } from "./captions.ts";
 * const of = { caption: "a photo of a wood with a dark stain in the middle", material: "wood", defect: "stain", maskPicture: false };
 * if (damageWords(of).join() !== "7,8") throw new Error("not the words of the stain");
 * ```
 */
export function damageWords({ caption, material, defect, maskPicture }: Captioned): number[] {
  if (defect === undefined || maskPicture) return [];
  const words = splitWords(caption);
  const place = words.findIndex((word, i) => PLACES.has(word) && words[i + 1] === "the");
  const said = place < 0 ? words : words.slice(0, place);
  const afterOf = said.indexOf("of") + 1; // 0, the first word, without one
  const on = said.findIndex((word, i) => word === "on" && said[i + 1] === "a");
  let [from, end] = [said.length, said.length];
  if (said.includes("with")) from = said.indexOf("with") + 1;
  else if (on >= 0) [from, end] = [said.indexOf("of") < on ? afterOf : 0, on];
  else if (said.at(-1) !== material) from = afterOf;
  return said.flatMap((word, i) => i >= from && i < end && !ARTICLES.has(word) ? [i] : []);
}
