/** Short lower-case captions for procedural pictures, from a closed vocabulary that a small text tower can learn. */

import type { Random } from "../../random/philox.ts";

/** What a caption may tell. */
export interface Subject {
  material: string;
  color?: string;
  defect?: string;
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
  "a photo of an anomaly on a M",
];
const MASK = ["a mask of a D", "a mask of a D", "a mask of a defect", "a black and white mask", "a mask"];

/** A caption of a whole or damaged part; a quarter of them name its colour. */
export function caption(random: Random, subject: Subject): string {
  const templates = subject.defect === undefined ? GOOD : random.chance(0.1) ? VAGUE : BAD;
  const named = subject.color !== undefined && random.chance(0.25)
    ? `${subject.color} ${subject.material}`
    : subject.material;
  return random.pick(templates).replace("M", named).replace("D", subject.defect ?? "");
}

/** A caption of a mask picture. */
export function maskCaption(random: Random, defect: string): string {
  return random.pick(MASK).replace("D", defect);
}
