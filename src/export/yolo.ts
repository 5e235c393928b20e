/**
 * Labels of YOLO's segmentation format: https://docs.ultralytics.com/datasets/segment. A line for each 8-connected region of
 * a mask: its class, then a polygon with coordinates of 0 … 1.
 */

import type { Mask } from "../data/image.ts";
import { polygonOf, traceRegions } from "./contours.ts";

/**
 * How far corners are moved into their pixels. YOLO cuts coordinates down to whole pixels and colours the polygon's line too,
 * so that a corner on the far edge of a pixel would belong to the next one; the box comes out this much narrower on each side.
 */
const INSET = 0.05;

/** Digits after the point: a thousandth of a pixel in a picture of a thousand. */
const DIGITS = 6;

/** Largest side at which `DIGITS` digits keep a corner in its pixel. */
export const YOLO_LARGEST = INSET * 10 ** DIGITS;

/**
 * The lines of one image's label file; none for a normal image.
 * @param index of the class, from 0 on
 * @example
 * ```ts
 * import { yoloLabels } from "./yolo.ts";
 * const mask = { width: 4, height: 2, channels: 1 as const, data: Uint8Array.of(0, 1, 0, 0, 0, 0, 0, 0) };
 * const [line] = yoloLabels(mask, 3);
 * if (line !== "3 0.262500 0.025000 0.487500 0.025000 0.487500 0.475000 0.262500 0.475000") throw new Error(line);
 * ```
 */
export function yoloLabels(mask: Mask, index: number): string[] {
  return traceRegions(mask).map((region) => {
    const words = polygonOf(region, INSET).map((v, i) => (v / (i % 2 ? mask.height : mask.width)).toFixed(DIGITS));
    return [index, ...words].join(" ");
  });
}

/** The data set's file. No `path`: without it images are looked for beside the file, wherever the folder is moved. */
export function yoloData(names: readonly string[], val: boolean): string {
  const lines = names.map((name, i) => `  ${i}: ${JSON.stringify(name)}`); // JSON's strings are YAML's
  return `train: images/train\nval: images/${val ? "val" : "train"}\nnames:\n${lines.join("\n")}\n`;
}
