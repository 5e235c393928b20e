/**
 * The one move that Crop&Paste, CutPaste and PRN's extended anomalies share: a piece of a picture is turned, scaled,
 * mirrored and laid on another. The mask of the result is exactly where the piece lies.
 */

import { crop, type Window } from "../anomaly/windows.ts";
import type { Image, Mask } from "../data/image.ts";
import type { Random } from "../random/philox.ts";

/** A picture and the pixels of it that matter; also what a method makes. */
export interface Pair {
  readonly image: Image;
  readonly mask: Mask;
}

/** The smallest window around what a mask marks. */
export function maskBox({ width, height, data }: Mask): Window {
  let left = width, right = -1, top = height, bottom = -1;
  data.forEach((on, i) => {
    if (!on) return;
    const x = i % width, y = Math.floor(i / width);
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  });
  if (right < 0) throw new RangeError("the mask is empty");
  return { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

/** What the mask marks, cut out with the smallest window around it. */
export function cutOut({ image, mask }: Pair): Pair {
  const box = maskBox(mask);
  return { image: crop(image, box), mask: crop(mask, box) };
}

/** A window of a picture as a piece: everything in it matters. */
export function rectangle(image: Image, window: Window): Pair {
  const { width, height } = window;
  return {
    image: crop(image, window),
    mask: { width, height, channels: 1, data: new Uint8Array(width * height).fill(1) },
  };
}

/** How a piece is laid down. */
export interface Pose {
  /** Where the piece's centre comes to lie, in pixels of the ground. */
  readonly x: number;
  readonly y: number;
  /** Clockwise turn in radians. */
  readonly angle: number;
  readonly scaleX: number;
  readonly scaleY: number;
  /** −1 mirrors the piece from left to right. */
  readonly flip: 1 | -1;
}

/**
 * A piece laid on empty ground: bilinear pixels (at its edge the piece's own), nearest mask.
 * @param size of the ground
 * @returns the ground's size; pixels outside the mask are black
 */
export function lay(piece: Pair, { width, height }: { width: number; height: number }, pose: Pose): Pair {
  const { image: from, mask } = piece, w = from.width, h = from.height;
  const cos = Math.cos(pose.angle), sin = Math.sin(pose.angle);
  const reachX = (Math.abs(cos) * w * pose.scaleX + Math.abs(sin) * h * pose.scaleY) / 2 + 1;
  const reachY = (Math.abs(sin) * w * pose.scaleX + Math.abs(cos) * h * pose.scaleY) / 2 + 1;
  const image = new Uint8ClampedArray(3 * width * height), marks = new Uint8Array(width * height);
  const inside = (v: number, n: number) => Math.min(n - 1, Math.max(0, v));
  for (let y = Math.max(0, Math.floor(pose.y - reachY)); y < Math.min(height, pose.y + reachY); y++) {
    for (let x = Math.max(0, Math.floor(pose.x - reachX)); x < Math.min(width, pose.x + reachX); x++) {
      const dx = x + 0.5 - pose.x, dy = y + 0.5 - pose.y;
      const u = pose.flip * (cos * dx + sin * dy) / pose.scaleX + w / 2,
        v = (cos * dy - sin * dx) / pose.scaleY + h / 2;
      if (u < 0 || v < 0 || u >= w || v >= h) continue;
      const own = Math.floor(v) * w + Math.floor(u);
      if (!mask.data[own]) continue;
      const left = Math.floor(u - 0.5), top = Math.floor(v - 0.5), fx = u - 0.5 - left, fy = v - 0.5 - top;
      // What lies beside the piece in its picture must not bleed into its edge.
      const tap = (tx: number, ty: number) => {
        const at = inside(ty, h) * w + inside(tx, w);
        return 3 * (mask.data[at] ? at : own);
      };
      const a = tap(left, top), b = tap(left + 1, top), c = tap(left, top + 1), d = tap(left + 1, top + 1);
      const to = y * width + x;
      marks[to] = 1;
      for (let channel = 0; channel < 3; channel++) {
        const upper = from.data[a + channel] * (1 - fx) + from.data[b + channel] * fx;
        const lower = from.data[c + channel] * (1 - fx) + from.data[d + channel] * fx;
        image[3 * to + channel] = upper * (1 - fy) + lower * fy;
      }
    }
  }
  return {
    image: { width, height, channels: 3, data: image },
    mask: { width, height, channels: 1, data: marks },
  };
}

/** How a piece may be laid down at random. */
export interface Placement {
  /** Largest turn to either side in radians. */
  readonly rotation: number;
  /** Range of the scale; drawn anew for both axes where they may differ. */
  readonly scale: readonly [number, number];
  readonly stretch?: boolean;
  readonly mirror: boolean;
  /** Where most of the piece must lie, of the ground's size; anywhere where left out. */
  readonly part?: Mask;
}

/** Tries for a place, and the share of the piece that must lie inside the picture (and on the part). */
const TRIES = 50, LEAST_INSIDE = 0.6;

/**
 * A piece laid at random: the first try of which enough lies inside, else the best of all.
 * @param sizeRatio pixels of the ground for one of the piece's picture, where they differ
 */
export function layAtRandom(
  piece: Pair,
  size: { width: number; height: number },
  random: Random,
  { rotation, scale: [low, high], stretch, mirror, part }: Placement,
  sizeRatio = 1,
): Pair {
  const all = piece.mask.data.reduce((sum, on) => sum + on, 0);
  let best: Pair | undefined, most = -1;
  for (let trial = 0; trial < TRIES; trial++) {
    const scaleX = sizeRatio * random.uniform(low, high);
    const scaleY = stretch ? sizeRatio * random.uniform(low, high) : scaleX;
    // A piece that is neither turned nor scaled is copied pixel by pixel: resampling would blur it.
    const exact = rotation === 0 && scaleX === 1 && scaleY === 1;
    const at = (extent: number, own: number) => {
      const centre = random.uniform() * extent;
      return exact ? Math.round(centre - own / 2) + own / 2 : centre;
    };
    const pose: Pose = {
      x: at(size.width, piece.mask.width),
      y: at(size.height, piece.mask.height),
      angle: random.uniform(-rotation, rotation),
      scaleX,
      scaleY,
      flip: mirror && random.chance(0.5) ? -1 : 1,
    };
    const laid = lay(piece, size, pose);
    const inside = laid.mask.data.reduce((sum, on, i) => sum + (part && !part.data[i] ? 0 : on), 0);
    const share = inside / (all * scaleX * scaleY);
    if (share > most) [best, most] = [laid, share];
    if (share >= LEAST_INSIDE) break;
  }
  return best!;
}

/** `ground` with `over` at an opacity where the mask marks. */
export function blend(ground: Image, over: Image, mask: Mask, opacity = 1): Image {
  const data = ground.data.slice();
  mask.data.forEach((on, i) => {
    for (let c = 0; on && c < 3; c++) {
      const k = 3 * i + c;
      data[k] = ground.data[k] * (1 - opacity) + over.data[k] * opacity;
    }
  });
  return { ...ground, data };
}
