/**
 * Windows: squares of an image in which the model works, enlarged where a defect is small. An autoencoder of factor 8 keeps
 * little of what is smaller than one of its cells; a window of half the side has four times the cells for a defect. Places
 * of a mask that lie far from each other have a window each.
 */

import type { Image, Mask } from "../data/image.ts";
import { labelRegions } from "../data/regions.ts";

/** A rectangle of an image in pixels. */
export interface Window {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** What the model sees of an image. */
export interface View {
  /** `whole`: the whole image, whatever its aspect; `mask`: squares around the mask. */
  readonly window: "whole" | "mask";
  /**
   * With `mask`: how much a window may be enlarged to the model's resolution, 1 or more. 1 is native resolution; at 2 the
   * smallest window has half of the model's side.
   */
  readonly zoom: number;
}

/**
 * How much windows are enlarged at most, where nothing else was said. A small model's cells are coarse beside what it shows: four
 * times enlarged, a defect of 10 pixels has five cells of 8 across instead of one or two.
 * @param side the model's resolution in pixels
 */
export function usualZoom(side: number): number {
  return side <= 128 ? 4 : 2;
}

/** Some regions of a mask, and the window for them. */
export interface Place {
  readonly window: Window;
  /** Pixels of these regions alone, in the size of the whole mask. */
  readonly mask: Mask;
}

/** First column and row, last column and row + 1. */
type Box = readonly [x0: number, y0: number, x1: number, y1: number];

/** Side of a window for each pixel of its defect's extent: a quarter of the extent is seen around it on either side. */
const MARGIN = 1.5;
/** How much larger a window may become by taking in another place, instead of two windows. */
const SHARED = 1.25;
/** Most windows for one image; where a mask has more places, its windows grow until they share. */
const MOST_PLACES = 6;

/** The whole image. */
export function wholeWindow({ width, height }: { width: number; height: number }): Window {
  return { x: 0, y: 0, width, height };
}

/** Side of the window for a box. */
const sideOf = ([x0, y0, x1, y1]: Box, least: number, margin: number) =>
  Math.max(least, Math.ceil(margin * Math.max(x1 - x0, y1 - y0)));

/** The square of that side around a box, inside the image as far as it fits. */
function around(box: Box, side: number, { width, height }: { width: number; height: number }): Window {
  const extent = Math.min(side, width, height);
  const at = (low: number, high: number, size: number) =>
    Math.min(Math.max(0, Math.round((low + high - extent) / 2)), size - extent);
  return { x: at(box[0], box[2], width), y: at(box[1], box[3], height), width: extent, height: extent };
}

const holds = ({ x, y, width, height }: Window, [x0, y0, x1, y1]: Box) =>
  x <= x0 && y <= y0 && x + width >= x1 && y + height >= y1;

const union = (a: Box, b: Box): Box => [
  Math.min(a[0], b[0]),
  Math.min(a[1], b[1]),
  Math.max(a[2], b[2]),
  Math.max(a[3], b[3]),
];

/** The box of each region, numbered as its label − 1. */
function boxesOf(labels: Uint32Array, count: number, width: number): Box[] {
  const boxes = Array.from({ length: count }, (): [number, number, number, number] => [Infinity, Infinity, 0, 0]);
  labels.forEach((label, i) => {
    if (!label) return;
    const x = i % width, y = Math.floor(i / width), box = boxes[label - 1];
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x + 1);
    box[3] = Math.max(box[3], y + 1);
  });
  return boxes;
}

/** A square around a mask, twice its extent and at least `side` pixels, inside the image where it fits. */
export function maskWindow(mask: Mask, side: number): Window {
  const { width, height, data } = mask, marked = Uint32Array.from(data, (v) => (v ? 1 : 0));
  const [box] = boxesOf(marked, 1, width);
  return box[2] ? around(box, sideOf(box, side, 2), mask) : wholeWindow({ width, height });
}

/** Joins boxes whose common window is hardly larger than their own; regions by group. */
function groups(boxes: readonly Box[], least: number): { box: Box; regions: number[] }[] {
  let all: { box: Box; regions: number[] }[] = [];
  const take = (box: Box, regions: number[]): boolean => {
    const side = sideOf(box, least, MARGIN);
    for (const other of all) {
      const both = union(box, other.box);
      if (sideOf(both, least, MARGIN) > SHARED * Math.max(side, sideOf(other.box, least, MARGIN))) continue;
      other.box = both;
      other.regions.push(...regions);
      return true;
    }
    all.push({ box, regions });
    return false;
  };
  boxes.forEach((box, i) => take(box, [i]));
  for (let joined = true; joined;) {
    const before = all;
    all = [];
    joined = before.map(({ box, regions }) => take(box, regions)).includes(true);
  }
  return all;
}

/**
 * Where the model works for a mask: one place for the whole image, or one for each group of regions that are near each other.
 * @param side the model's resolution in pixels
 * @returns places in the order of their first pixels; with an empty mask the whole image
 * @example
 * ```ts
 * import { placesOf } from "./windows.ts";
 * const data = new Uint8Array(100 * 100);
 * data[0] = data[9999] = 1; // two corners
 * const places = placesOf({ width: 100, height: 100, channels: 1, data }, 64, { window: "mask", zoom: 2 });
 * if (places.map(({ window }) => window.width).join() !== "32,32") throw new Error("not two windows");
 * ```
 */
export function placesOf(mask: Mask, side: number, { window, zoom }: View): Place[] {
  const { width, height, data } = mask;
  if (window === "whole") return [{ window: wholeWindow(mask), mask }];
  const { labels, sizes } = labelRegions(data, width, height);
  if (sizes.length === 0) return [{ window: wholeWindow(mask), mask }];
  const boxes = boxesOf(labels, sizes.length, width), extent = Math.min(width, height);
  let least = Math.max(1, Math.round(side / zoom)), found = groups(boxes, least);
  while (found.length > MOST_PLACES && least < extent) found = groups(boxes, least *= 2);
  const places = found.map(({ box, regions }) => {
    const square = around(box, sideOf(box, least, MARGIN), mask);
    // A place wider than the image is high does not fit a square: then all is shown, as with `whole`.
    return holds(square, box) ? { window: square, regions } : undefined;
  });
  if (found.length > MOST_PLACES || places.includes(undefined)) return [{ window: wholeWindow(mask), mask }];
  return places.map((place) => {
    const own = new Set(place!.regions.map((region) => region + 1));
    return {
      window: place!.window,
      mask: { ...mask, data: Uint8Array.from(labels, (label) => (own.has(label) ? 1 : 0)) },
    };
  });
}

/** A window's pixels. */
export function crop<P extends Image | Mask>(pixels: P, { x, y, width, height }: Window): P {
  const { channels } = pixels;
  const data = channels === 3 ? new Uint8ClampedArray(width * height * 3) : new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * pixels.width + x) * channels;
    data.set(pixels.data.subarray(from, from + width * channels), row * width * channels);
  }
  return { ...pixels, width, height, data } as P;
}

/** `image` with `part` written at a window. */
export function putBack(image: Image, part: Image, { x, y, width, height }: Window): Image {
  const data = image.data.slice();
  for (let row = 0; row < height; row++) {
    data.set(part.data.subarray(row * width * 3, (row + 1) * width * 3), ((y + row) * image.width + x) * 3);
  }
  return { ...image, data };
}
