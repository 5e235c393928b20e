/** Run lengths of a region as COCO's tools write them: down the columns, from the left to the right. */

import type { TracedRegion } from "./contours.ts";

/**
 * Run lengths of a region in a picture of `height` rows: how many pixels are outside, inside, outside, … in turn.
 * @param width of the picture
 */
export function runLengths({ box: [left, top, w, h], has }: TracedRegion, width: number, height: number): number[] {
  const counts: number[] = [];
  let inside = false, from = 0;
  const turn = (position: number) => {
    counts.push(position - from);
    from = position;
    inside = !inside;
  };
  for (let x = left; x < left + w; x++) {
    for (let y = top; y < top + h; y++) if (has(x, y) !== inside) turn(x * height + y);
    // Between two columns of the box lie the pixels below and above it; where there are none, a run goes on.
    if (inside && (h < height || x === left + w - 1)) turn(x * height + top + h);
  }
  if (from < width * height) turn(width * height);
  return counts;
}

/**
 * Run lengths as COCO's compact string: each in groups of five bits, from the third on as its difference to the one two
 * before (pycocotools, `rleToString`).
 * @example
 * ```ts
 * import { compactRle } from "./rle.ts";
 * if (compactRle([6, 1, 40, 4, 5, 4, 5, 4, 21]) !== "61X13mN000`0") throw new Error("not pycocotools' string");
 * ```
 */
export function compactRle(counts: readonly number[]): string {
  let text = "";
  counts.forEach((count, i) => {
    let rest = i > 2 ? count - counts[i - 2] : count, more = true;
    while (more) {
      const bits = rest & 31;
      rest >>= 5;
      more = bits & 16 ? rest !== -1 : rest !== 0;
      text += String.fromCharCode((more ? bits | 32 : bits) + 48);
    }
  });
  return text;
}
