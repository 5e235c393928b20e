/**
 * What a person would say about the looks of damage: its size, strength, tone, colour, shape and place, measured on the
 * picture. Captions that say it give a text tower directions along which unseen damage can be described, which is what
 * textual inversion needs.
 */

import { AREA, colorName, type Field, type Rgb, SIZE } from "./noise.ts";

/** Words for damage; one is left out where nothing stands out. */
export interface Looks {
  size?: "small" | "large";
  strength?: "faint" | "strong";
  tone?: "dark" | "bright";
  color?: string;
  shape?: "long" | "round";
  /** `on the left`, `in the top right`, … */
  where?: string;
}

/** Shares of the picture below and above which damage is small or large. */
const SMALL = 0.008, LARGE = 0.045;
/** Mean change of a channel, of 1, below and above which damage is faint or strong. */
const FAINT = 0.07, STRONG = 0.25;
/** Least mean change of the brightness for a tone, and of the hue for a colour. */
const TONE = 0.06, HUE = 0.05;
/** Ratio of the axes above and below which damage is long or round. */
const LONG = 3, ROUND = 1.5;
/** Standard deviation in pixels above which damage is in no one place. */
const SPREAD = 26;

/** Which third of the picture a centroid lies in, as words. */
function place(x: number, y: number): string {
  const column = x < SIZE / 3 ? "left" : x > 2 * SIZE / 3 ? "right" : "",
    row = y < SIZE / 3 ? "top" : y > 2 * SIZE / 3 ? "bottom" : "";
  if (!column && !row) return "in the middle";
  return column && row ? `in the ${row} ${column}` : `on the ${row || column}`;
}

/**
 * Looks of damage.
 * @param good planar RGB of the whole part [3, 128, 128], 0 … 1
 * @param bad the same with the damage
 * @param alpha its coverage [128, 128], positive where `bad` differs
 */
export function looksOf(good: Float32Array, bad: Float32Array, alpha: Field): Looks {
  const before = [0, 0, 0], after = [0, 0, 0], sum = [0, 0, 0, 0, 0];
  let count = 0, change = 0;
  for (let i = 0; i < AREA; i++) {
    if (!(alpha[i] > 0)) continue;
    const x = i % SIZE, y = Math.floor(i / SIZE);
    [x, y, x * x, y * y, x * y].forEach((v, k) => sum[k] += v);
    count++;
    for (let c = 0; c < 3; c++) {
      before[c] += good[c * AREA + i];
      after[c] += bad[c * AREA + i];
      change += Math.abs(bad[c * AREA + i] - good[c * AREA + i]) / 3;
    }
  }
  if (count === 0) return {};
  const [mx, my, xx, yy, xy] = sum.map((v) => v / count), vx = xx - mx * mx, vy = yy - my * my, cov = xy - mx * my;
  const root = Math.hypot((vx - vy) / 2, cov),
    ratio = Math.sqrt(((vx + vy) / 2 + root + 0.1) / ((vx + vy) / 2 - root + 0.1));
  const share = count / AREA, mean = change / count, difference = after.map((v, c) => (v - before[c]) / count);
  const brighter = (difference[0] + difference[1] + difference[2]) / 3,
    hue = Math.max(...difference.map((d) => Math.abs(d - brighter)));
  return {
    size: share < SMALL ? "small" : share > LARGE ? "large" : undefined,
    strength: mean < FAINT ? "faint" : mean > STRONG ? "strong" : undefined,
    tone: brighter < -TONE ? "dark" : brighter > TONE ? "bright" : undefined,
    color: hue > HUE ? colorName(after.map((v) => v / count) as unknown as Rgb) : undefined,
    shape: ratio > LONG ? "long" : ratio < ROUND && share > SMALL / 2 ? "round" : undefined,
    where: Math.sqrt(vx + vy) < SPREAD ? place(mx, my) : undefined,
  };
}
