/**
 * Outlines of a mask's regions, exact to the pixel: a pixel (x, y) is the square from (x, y) to (x + 1, y + 1), and an
 * outline runs along the edges of squares. Border following as in Suzuki and Abe (1985), on edges instead of pixels.
 */

import type { Mask } from "../data/image.ts";
import { labelRegions } from "../data/regions.ts";

/**
 * A corner of an outline. (ox, oy) points from it into the region, so that a corner can be moved inwards; where the outline
 * passes between two pixels that touch at a corner only, there are two such points, one in each pixel.
 */
interface Corner {
  readonly x: number;
  readonly y: number;
  readonly ox: number;
  readonly oy: number;
}

/** A closed outline; the region lies to the right of it: around a region clockwise on the screen, around a hole the other way. */
export type Contour = readonly Corner[];

/** A region of pixels that touch, at corners too. */
export interface TracedRegion {
  /** Pixels. */
  readonly area: number;
  /** Left, top, width and height, in pixels. */
  readonly box: readonly [x: number, y: number, width: number, height: number];
  /** Its outline. */
  readonly outer: Contour;
  /** Outlines of its holes. */
  readonly holes: readonly Contour[];
  /** Whether a pixel is in the region. */
  readonly has: (x: number, y: number) => boolean;
}

/** Steps to the east, south, west and north. */
const DX = [1, 0, -1, 0], DY = [0, 1, 0, -1];

/**
 * The 8-connected regions of a mask with their outlines, by their first pixel in reading order.
 * @example
 * ```ts
 * import { polygonOf, traceRegions } from "./contours.ts";
 * const mask = { width: 3, height: 2, channels: 1 as const, data: Uint8Array.of(0, 1, 1, 0, 1, 0) };
 * const [region] = traceRegions(mask);
 * if (polygonOf(region).join() !== "1,0,3,0,3,1,2,1,2,2,1,2" || region.area !== 3) throw new Error("not the L");
 * ```
 */
export function traceRegions({ width, height, data }: Mask): TracedRegion[] {
  const { labels, sizes } = labelRegions(data, width, height);
  const at = (x: number, y: number) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[y * width + x]);
  const contours: Contour[][] = sizes.map(() => []), seen = new Uint8Array(data.length); // top edges already passed
  for (let i = 0; i < data.length; i++) {
    const label = labels[i], x = i % width, y = Math.floor(i / width);
    if (!label || seen[i] || at(x, y - 1) === label) continue;
    contours[label - 1].push(follow(x, y, (x, y) => at(x, y) === label, (x, y) => seen[y * width + x] = 1));
  }
  return contours.map(([outer, ...holes], k) => {
    const xs = outer.map(({ x }) => x), ys = outer.map(({ y }) => y);
    const left = least(xs), top = least(ys), has = (x: number, y: number) => at(x, y) === k + 1;
    return {
      area: sizes[k],
      box: [left, top, -least(xs.map((v) => -v)) - left, -least(ys.map((v) => -v)) - top],
      outer,
      holes,
      has,
    };
  });
}

const least = (values: readonly number[]) => values.reduce((a, b) => Math.min(a, b), Infinity);

/** Follows the outline that begins with the top edge of pixel (x0, y0). */
function follow(
  x0: number,
  y0: number,
  has: (x: number, y: number) => boolean,
  passed: (x: number, y: number) => void,
): Contour {
  const corners: Corner[] = [];
  let x = x0, y = y0, direction = 0;
  do {
    if (direction === 0) passed(x, y);
    x += DX[direction];
    y += DY[direction];
    const dx = DX[direction], dy = DY[direction];
    // The pixels ahead, left and right of the way; (−dy, dx) points to the right of it.
    const aheadLeft = has(x + Math.min(0, dx + dy), y + Math.min(0, dy - dx));
    const aheadRight = has(x + Math.min(0, dx - dy), y + Math.min(0, dy + dx));
    if (aheadLeft) {
      if (aheadRight) corners.push({ x, y, ox: dx - dy, oy: dy + dx });
      else corners.push({ x, y, ox: -dx - dy, oy: dx - dy }, { x, y, ox: dx + dy, oy: dy - dx });
      direction = (direction + 3) % 4;
    } else if (!aheadRight) {
      corners.push({ x, y, ox: -dx - dy, oy: dx - dy });
      direction = (direction + 1) % 4;
    }
  } while (x !== x0 || y !== y0 || direction !== 0);
  // It begins at the first pixel's top left corner, which came last.
  corners.unshift(corners.pop()!);
  return corners;
}

/**
 * A region as one polygon. Holes are joined to the outline by slits of no width along the middle of a row of pixels, for
 * formats that know no holes: filled by the even-odd rule it is the region.
 * @param inset by how much to move every corner into its pixel, in pixels below a half. A painter that colours every pixel
 *   which the polygon's line touches (OpenCV's `fillPoly`) then colours the region and nothing else
 * @returns x, y, x, y, …
 */
export function polygonOf({ outer, holes, has }: TracedRegion, inset = 0): number[] {
  let corners = [...outer];
  const entries = holes.map((hole) => {
    // The leftmost edge of a hole: what lies left of it is another outline, or a hole that begins further left.
    let entry = -1;
    hole.forEach(({ x, y }, i) => {
      const next = hole[(i + 1) % hole.length];
      if (next.x === x && next.y > y && (entry < 0 || x < hole[entry].x)) entry = i;
    });
    return { hole, entry };
  }).sort((a, b) => a.hole[a.entry].x - b.hole[b.entry].x);
  for (const { hole, entry } of entries) {
    const { x: right, y } = hole[entry], row = y + 0.5;
    let left = right - 1;
    while (has(left - 1, y)) left--;
    const edge = corners.findIndex((from, i) => {
      const to = corners[(i + 1) % corners.length];
      return from.x === left && to.x === left && from.y > row && to.y < row;
    });
    const leave = { x: left, y: row, ox: 1, oy: 0 }, enter = { x: right, y: row, ox: -1, oy: 0 };
    const around = [...hole.slice(entry + 1), ...hole.slice(0, entry + 1)];
    corners = [...corners.slice(0, edge + 1), leave, enter, ...around, enter, leave, ...corners.slice(edge + 1)];
  }
  const polygon: number[] = [];
  for (const { x, y, ox, oy } of corners) {
    const px = x + inset * ox, py = y + inset * oy;
    if (px !== polygon.at(-2) || py !== polygon.at(-1)) polygon.push(px, py);
  }
  return polygon;
}
