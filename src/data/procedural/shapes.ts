/** Shapes with exact coverage: polylines as distance fields, blobs as polar Fourier contours, and what cuts them out. */

import type { Random } from "../../random/philox.ts";
import { AREA, clamp, type Field, SIZE } from "./noise.ts";

/** A point in pixels. */
export type Point = readonly [x: number, y: number];

/** Coverage below this is taken as none, so that a mask (coverage > 0) ends where the picture is untouched. */
const FAINT = 0.15;

/** Removes the faint tail of a coverage field, clips it to the part, in place. */
export function trimmed(alpha: Field, object?: Field): Field {
  for (let i = 0; i < AREA; i++) {
    const a = object ? alpha[i] * (object[i] > 0.5 ? 1 : 0) : alpha[i];
    alpha[i] = a <= FAINT ? 0 : Math.min(1, (a - FAINT) / (1 - FAINT));
  }
  return alpha;
}

/** A point on the part, at least `margin` from the picture's border. */
export function place(random: Random, object?: Field, margin = 16): Point {
  for (let attempt = 0; attempt < 40; attempt++) {
    const x = random.uniform(margin, SIZE - margin), y = random.uniform(margin, SIZE - margin);
    if (!object || object[Math.floor(y) * SIZE + Math.floor(x)] > 0.5) return [x, y];
  }
  return [SIZE / 2, SIZE / 2];
}

/** A random walk of `steps` segments that starts at a point, its direction jittered at each. */
export function walk(
  random: Random,
  start: Point,
  steps: number,
  step: number,
  jitter: number,
  angle?: number,
): Point[] {
  const points: Point[] = [start];
  let direction = angle ?? random.uniform(0, 2 * Math.PI), [x, y] = start;
  for (let k = 0; k < steps; k++) {
    direction += jitter * random.normal();
    x += step * Math.cos(direction);
    y += step * Math.sin(direction);
    points.push([x, y]);
  }
  return points;
}

/**
 * Coverage of a stroke along a polyline, one pixel of anti-aliasing.
 * @param width in pixels, by the position along the line, 0…1
 * @param alpha where to add it (maximum)
 */
export function stroke(
  points: readonly Point[],
  width: (t: number) => number,
  alpha: Field = new Float32Array(AREA),
): Field {
  const segments = points.length - 1;
  for (let s = 0; s < segments; s++) {
    const [ax, ay] = points[s],
      [bx, by] = points[s + 1],
      dx = bx - ax,
      dy = by - ay,
      reach = 1 + Math.max(width(s / segments), width((s + 1) / segments)) / 2;
    const length2 = dx * dx + dy * dy || 1e-9;
    const x0 = Math.max(0, Math.floor(Math.min(ax, bx) - reach)),
      x1 = Math.min(SIZE - 1, Math.ceil(Math.max(ax, bx) + reach));
    const y0 = Math.max(0, Math.floor(Math.min(ay, by) - reach)),
      y1 = Math.min(SIZE - 1, Math.ceil(Math.max(ay, by) + reach));
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x <= x1; x++) {
        const t = clamp(((x - ax) * dx + (y - ay) * dy) / length2), d = Math.hypot(x - ax - t * dx, y - ay - t * dy);
        const a = clamp(width((s + t) / segments) / 2 + 0.5 - d), i = y * SIZE + x;
        if (a > alpha[i]) alpha[i] = a;
      }
    }
  }
  return alpha;
}

/** A blob: how many pixels inside its contour each pixel lies (negative outside). */
export interface Blob {
  depth: Field;
  centre: Point;
  radius: number;
}

/**
 * A blob with a polar Fourier contour (k = 2 … 5).
 * @param radius in pixels
 * @param rough 0 is an ellipse, 1 very irregular
 */
export function blob(random: Random, centre: Point, radius: number, rough = 0.5, maxStretch = 1.6): Blob {
  const terms = [2, 3, 4, 5].map((k) => [k, rough * 0.32 * random.normal() / k, random.uniform(0, 6.3)]);
  const stretch = Math.sqrt(random.uniform(1, maxStretch)),
    turn = random.uniform(0, Math.PI),
    ct = Math.cos(turn),
    st = Math.sin(turn);
  const contour = new Float32Array(256);
  for (let k = 0; k < 256; k++) {
    const a = 2 * Math.PI * k / 256;
    contour[k] = radius *
      Math.max(0.3, 1 + terms.reduce((sum, [n, size, phase]) => sum + 2 * size * Math.cos(n * a + phase), 0));
  }
  const depth = new Float32Array(AREA);
  for (let y = 0, i = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++, i++) {
      const u = ((x - centre[0]) * ct + (y - centre[1]) * st) / stretch,
        v = ((y - centre[1]) * ct - (x - centre[0]) * st) * stretch;
      const a = Math.atan2(v, u) / (2 * Math.PI) * 256 + 256, k = Math.floor(a), f = a - k;
      depth[i] = contour[k & 255] * (1 - f) + contour[(k + 1) & 255] * f - Math.hypot(u, v);
    }
  }
  return { depth, centre, radius };
}

/** Coverage of a blob whose edge is `soft` pixels wide. */
export function fill(shape: Blob, soft = 1): Field {
  return shape.depth.map((d) => clamp(d / soft + 0.5));
}
