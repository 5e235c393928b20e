/**
 * CutPaste (Li et al., "CutPaste: Self-supervised learning for anomaly detection and localization", CVPR 2021): a piece of
 * the normal picture itself, its colours jittered, is laid elsewhere on it; the scar form takes a thin, turned strip. No
 * defect is looked at, so that what comes out is the same for every kind.
 */

import type { Window } from "../anomaly/windows.ts";
import type { Image } from "../data/image.ts";
import type { Random } from "../random/philox.ts";
import { jitter } from "./colour.ts";
import type { Ground, Made, Method } from "./method.ts";
import { blend, layAtRandom, rectangle } from "./patch.ts";

/** Strength of the paper's colour jitter. */
const JITTER = 0.1;

/** The paper's pictures have this side; a scar's size follows the picture's. */
const PAPER_SIDE = 256;

/** A window of a size at a random place. */
function windowAt(random: Random, { width, height }: Image, w: number, h: number): Window {
  return { x: random.integer(0, width - w + 1), y: random.integer(0, height - h + 1), width: w, height: h };
}

function move({ source, part }: Ground, random: Random, w: number, h: number, rotation: number): Made {
  const { width, height } = source;
  const clipped = (size: number, most: number) => Math.min(most, Math.max(2, Math.round(size)));
  const cut = rectangle(source, windowAt(random, source, clipped(w, width), clipped(h, height)));
  const piece = { ...cut, image: jitter(cut.image, random, JITTER) };
  const { image, mask } = layAtRandom(piece, source, random, { rotation, scale: [1, 1], mirror: false, part });
  return { image: blend(source, image, mask), mask, maskSource: "rectangle", details: {} };
}

/** CutPaste: 2 to 15 % of the picture, aspect ratio 0.3 to 1 or 1 to 3.3. */
export const cutPaste: Method = (ground, random) => {
  const area = random.uniform(0.02, 0.15) * ground.source.width * ground.source.height;
  const aspect = random.chance(0.5) ? random.uniform(0.3, 1) : random.uniform(1, 3.3);
  return Promise.resolve(move(ground, random, Math.sqrt(area * aspect), Math.sqrt(area / aspect), 0));
};

/** CutPaste-Scar: 2 to 16 by 10 to 25 of 256 pixels, turned by up to 45° to either side. */
export const cutPasteScar: Method = (ground, random) => {
  const scale = Math.sqrt(ground.source.width * ground.source.height) / PAPER_SIDE;
  const w = scale * random.uniform(2, 16), h = scale * random.uniform(10, 25);
  return Promise.resolve(move(ground, random, w, h, Math.PI / 4));
};
