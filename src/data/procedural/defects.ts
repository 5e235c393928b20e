/**
 * Eighteen generic kinds of damage drawn onto a surface, each with the exact mask of the pixels it changed.
 * They are what the embedded base model is pretrained on; the defects of the few-shot fixtures are none of them.
 */

import type { Random } from "../../random/philox.ts";
import { AREA, blur, clamp, type Field, hsv, noise, type Rgb, SIZE, smoothstep } from "./noise.ts";
import { blob, fill, place, type Point, stroke, trimmed, walk } from "./shapes.ts";
import { type Material, MATERIALS, type Surface, surface } from "./surfaces.ts";

/** The kinds of damage, which are also their words in captions. */
export const DEFECTS = [
  "crack",
  "scratch",
  "hole",
  "dent",
  "stain",
  "patch",
  "spots",
  "thread",
  "cut",
  "rough",
  "missing",
  "smear",
  "fade",
  "circle",
  "tint",
  "warp",
  "bubble",
  "stripes",
] as const;
/** One of `DEFECTS`. */
export type DefectKind = typeof DEFECTS[number];

/** A picture with a defect: planar RGB and the coverage, positive exactly where the picture was changed. */
export interface Damaged {
  rgb: Float32Array;
  alpha: Field;
}

/** What a defect turns pixel `i` of channel `c`, now `value`, into. */
type Recolour = (value: number, c: number, i: number) => number;

/** A copy of the picture with `recolour` mixed in by the coverage, cut to the part. */
export function paint(rgb: Float32Array, alpha: Field, recolour: Recolour, object?: Field): Damaged {
  trimmed(alpha, object);
  const result = rgb.slice();
  for (let c = 0; c < 3; c++) {
    for (let i = 0, j = c * AREA; i < AREA; i++, j++) {
      if (alpha[i] > 0) result[j] += (recolour(result[j], c, i) - result[j]) * alpha[i];
    }
  }
  return { rgb: result, alpha };
}

const flat = (color: Rgb): Recolour => (_value, c) => color[c];
const dark = (by: number): Recolour => (value) => value * by;
const vivid = (random: Random): Rgb => hsv(random.uniform(), random.uniform(0.5, 0.95), random.uniform(0.3, 0.95));
/** A radius that favours small defects. */
const size = (random: Random, low: number, high: number) => low * (high / low) ** random.uniform();
/** A stroke's width, tapered at its ends. */
const taper = (width: number) => (t: number) =>
  width * (0.45 + 0.55 * Math.sqrt(Math.sin(Math.PI * clamp(t, 0.02, 0.98))));

/** Samples the picture at a displaced place (bilinear, clamped at the border). */
function displaced(rgb: Float32Array, dx: Field, dy: Field): Recolour {
  return (_value, c, i) => {
    const x = clamp(i % SIZE + dx[i], 0, SIZE - 1.001), y = clamp(Math.floor(i / SIZE) + dy[i], 0, SIZE - 1.001);
    const x0 = Math.floor(x), y0 = Math.floor(y), u = x - x0, v = y - y0, j = c * AREA + y0 * SIZE + x0;
    return (rgb[j] * (1 - u) + rgb[j + 1] * u) * (1 - v) + (rgb[j + SIZE] * (1 - u) + rgb[j + SIZE + 1] * u) * v;
  };
}

/** The light on a bump of a given height field, from a random side. */
function relief(random: Random, height: Field): Field {
  const angle = random.uniform(0, 6.3), ca = Math.cos(angle), sa = Math.sin(angle), light = new Float32Array(AREA);
  for (let i = SIZE + 1; i < AREA - SIZE - 1; i++) {
    light[i] = ca * (height[i + 1] - height[i - 1]) + sa * (height[i + SIZE] - height[i - SIZE]);
  }
  return light;
}

type Maker = (random: Random, on: Surface, at: Point) => Damaged;

const makers: Record<DefectKind, Maker> = {
  crack(random, { rgb, object }, at) {
    const main = walk(random, at, random.integer(8, 26), random.uniform(2.5, 4.5), 0.42),
      width = random.uniform(1.3, 3.2);
    const alpha = stroke(main, taper(width));
    for (let b = random.integer(0, 3); b > 0; b--) {
      stroke(
        walk(random, random.pick(main), random.integer(3, 9), 3, 0.45),
        (t) => width * 0.75 * (1 - 0.6 * t),
        alpha,
      );
    }
    return paint(rgb, alpha, dark(random.uniform(0.08, 0.4)), object);
  },
  scratch(random, { rgb, object }, at) {
    const alpha = new Float32Array(AREA), angle = random.uniform(0, 6.3), lines = random.integer(1, 4);
    for (let k = 0; k < lines; k++) {
      const start: Point = [at[0] + (k ? 7 * random.normal() : 0), at[1] + (k ? 7 * random.normal() : 0)];
      const bend = random.uniform(0, 0.06);
      stroke(
        walk(random, start, random.integer(4, 16), 4.5, bend, angle + 0.12 * random.normal()),
        taper(random.uniform(1.2, 2.6)),
        alpha,
      );
    }
    const level = random.chance(0.8) ? random.uniform(0.8, 1) : random.uniform(0.05, 0.2),
      keep = random.uniform(0, 0.35);
    return paint(rgb, alpha, (value) => keep * value + (1 - keep) * level, object);
  },
  hole(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 4, 17), 0.25, 1.3),
      rim = random.uniform(1, 2.6),
      floor = random.uniform(0.01, 0.12);
    const bright = random.uniform(0.15, 0.4);
    return paint(rgb, fill(shape), (value, _c, i) => shape.depth[i] < rim ? value + bright : floor, object);
  },
  dent(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 7, 24), 0.35, 1.5), r = shape.radius;
    const height = shape.depth.map((d) => smoothstep(0, 0.9 * r, d)),
      light = relief(random, height),
      gain = random.uniform(1.1, 2.2) * r / 4;
    return paint(rgb, fill(shape, 2), (value, _c, i) => value * (1 + gain * light[i]) - 0.1 * height[i], object);
  },
  stain(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 7, 26), 0.7),
      tint = random.chance(0.5) ? hsv(random.uniform(0.03, 0.12), 0.6, 0.25) : vivid(random);
    const strength = random.uniform(0.45, 0.8), cloud = noise(random, 4);
    return paint(rgb, fill(shape, 6), (value, c, i) => {
      const a = clamp(strength * (1 + 0.25 * cloud[i]));
      return value * (1 - a) + a * tint[c] * (0.4 + 0.8 * value);
    }, object);
  },
  patch(random, { rgb, object }, at) {
    const color = vivid(random), opacity = random.uniform(0.65, 1);
    return paint(
      rgb,
      fill(blob(random, at, size(random, 6, 22), 0.5)),
      (value, c) => value + opacity * (color[c] - value),
      object,
    );
  },
  spots(random, { rgb, object }, at) {
    const alpha = new Float32Array(AREA),
      count = random.integer(3, 11),
      spread = random.uniform(8, 22),
      color = random.chance(0.6)
        ? hsv(random.uniform(), 0.5, 0.1)
        : random.chance(0.5)
        ? [0.95, 0.95, 0.92] as Rgb
        : vivid(random);
    for (let k = 0; k < count; k++) {
      const x = at[0] + spread * random.normal(), y = at[1] + spread * random.normal(), r = random.uniform(2, 5.5);
      stroke([[x, y], [x + 0.4 * r * random.normal(), y + 0.4 * r * random.normal()]], () => r, alpha);
    }
    return paint(rgb, alpha, flat(color), object);
  },
  thread(random, { rgb }, at) {
    const points = walk(random, at, random.integer(14, 34), 2.6, 0.34),
      width = random.uniform(1.6, 3),
      color = random.chance(0.3) ? hsv(0, 0, random.pick([0.08, 0.95])) : vivid(random);
    const alpha = stroke(points, () => width), core = stroke(points, () => width * 0.5);
    return paint(rgb, alpha, (_value, c, i) => color[c] * (0.75 + 0.35 * core[i]));
  },
  cut(random, { rgb, object }, at) {
    const points = walk(random, at, random.integer(3, 10), 5, 0.05),
      width = random.uniform(3.5, 7.5),
      dark = stroke(points, taper(width * 0.6));
    const lip = random.uniform(0.15, 0.4);
    return paint(
      rgb,
      stroke(points, taper(width)),
      (value, _c, i) => (value + lip) * (1 - dark[i]) + 0.04 * dark[i],
      object,
    );
  },
  rough(random, { rgb, object }, at) {
    const bumps = noise(random, random.uniform(0.7, 1.3)), gain = random.uniform(0.13, 0.28);
    return paint(
      rgb,
      fill(blob(random, at, size(random, 6, 20), 0.7), 2),
      (value, _c, i) => value * 0.9 + gain * bumps[i],
      object,
    );
  },
  missing(random, on, at) {
    const others = MATERIALS.slice(0, 9).filter((m) => m !== on.material),
      under = surface(random, random.pick<Material>(others));
    const shape = blob(random, at, size(random, 8, 24), 0.8);
    return paint(
      on.rgb,
      fill(shape),
      (_value, c, i) => under.rgb[c * AREA + i] * (0.45 + 0.4 * smoothstep(0, 5, shape.depth[i])),
      on.object,
    );
  },
  smear(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 9, 26), 0.6, 3),
      across = random.chance(0.5),
      channels: Field[] = [],
      lift = random.uniform(-0.16, 0.16);
    for (let c = 0; c < 3; c++) {
      channels.push(blur(rgb.slice(c * AREA, (c + 1) * AREA), across ? 7 : 1.5, across ? 1.5 : 7));
    }
    return paint(rgb, fill(shape, 3), (_value, c, i) => channels[c][i] + lift, object);
  },
  fade(random, { rgb, object }, at) {
    const strength = random.uniform(0.4, 0.75);
    return paint(
      rgb,
      fill(blob(random, at, size(random, 7, 24), 0.5), 5),
      (value) => value + strength * (0.97 - value),
      object,
    );
  },
  circle(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 8, 28), random.uniform(0, 0.6), 1.5),
      width = random.uniform(1.6, 4.5),
      soft = random.uniform(0.8, 1.6);
    const alpha = shape.depth.map((d) => clamp((width / 2 - Math.abs(d - width / 2)) / soft + 0.5)),
      u = random.uniform(),
      color = vivid(random);
    const recolour = u < 0.5
      ? dark(random.uniform(0.15, 0.5))
      : u < 0.75
      ? flat(color)
      : (value: number) => 0.25 * value + 0.72;
    return paint(rgb, alpha, recolour, object);
  },
  tint(random, { rgb, object }, at) {
    const color = hsv(random.uniform(), random.uniform(0.5, 0.9), 1.25),
      shape = blob(random, at, size(random, 8, 28), 0.5);
    return paint(rgb, fill(shape, random.uniform(1, 5)), (value, c) => value * color[c], object);
  },
  warp(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 10, 28), 0.4),
      amount = random.uniform(2.5, 6) * random.pick([-1, 1]),
      swirl = random.chance(0.5);
    const dx = new Float32Array(AREA), dy = new Float32Array(AREA);
    for (let i = 0; i < AREA; i++) {
      const x = i % SIZE - at[0],
        y = Math.floor(i / SIZE) - at[1],
        r = Math.hypot(x, y) + 1e-6,
        d = clamp(shape.depth[i] / shape.radius);
      const a = amount * Math.sin(Math.PI * Math.min(d * 1.2, 1));
      dx[i] = (swirl ? -y : x) / r * a;
      dy[i] = (swirl ? x : y) / r * a;
    }
    return paint(rgb, fill(shape, 1.5), displaced(rgb, dx, dy), object);
  },
  bubble(random, { rgb, object }, at) {
    const shape = blob(random, at, size(random, 4, 16), 0.2, 1.3),
      r = shape.radius,
      height = shape.depth.map((d) => Math.sqrt(clamp(d / r * (2 - d / r))));
    const light = relief(random, height),
      a = random.uniform(3.6, 5.2),
      gx = at[0] + 0.4 * r * Math.cos(a),
      gy = at[1] + 0.4 * r * Math.sin(a);
    return paint(rgb, fill(shape), (value, _c, i) => {
      const d2 = ((i % SIZE - gx) ** 2 + (Math.floor(i / SIZE) - gy) ** 2) / (0.05 * r * r + 1);
      return value * (1 + 0.14 * r * light[i] - (shape.depth[i] < 1.5 ? 0.3 : 0)) + 0.6 * Math.exp(-d2);
    }, object);
  },
  stripes(random, { rgb, object }, at) {
    const angle = random.uniform(0, 3.15),
      gap = random.uniform(4.5, 8),
      count = random.integer(3, 7),
      length = random.uniform(14, 44),
      alpha = new Float32Array(AREA);
    const color = random.chance(0.5) ? hsv(0, 0, random.pick([0.06, 0.95])) : vivid(random),
      width = random.uniform(1.5, 3);
    const ca = Math.cos(angle), sa = Math.sin(angle);
    for (let k = 0; k < count; k++) {
      const o = (k - (count - 1) / 2) * gap,
        x = at[0] - sa * o,
        y = at[1] + ca * o,
        h = length * random.uniform(0.35, 0.55);
      stroke([[x - ca * h, y - sa * h], [x + ca * h, y + sa * h]], () => width, alpha);
    }
    return paint(rgb, alpha, flat(color), object);
  },
};

/**
 * Draws one defect on a surface.
 * @returns the damaged picture and its coverage; where the coverage is 0 the picture is the surface, value for value
 * @example
 * ```ts
 * import { Random } from "../../random/philox.ts";
 * import { damage } from "./defects.ts";
 * import { surface } from "./surfaces.ts";
 * const random = new Random(1, "example"), good = surface(random, "wood"), bad = damage(random, good, "crack");
 * if (bad.alpha.some((a, i) => a === 0 && bad.rgb[i] !== good.rgb[i])) throw new Error("changed outside its mask");
 * ```
 */
export function damage(random: Random, on: Surface, kind: DefectKind): Damaged {
  let result: Damaged = { rgb: on.rgb, alpha: new Float32Array(AREA) };
  // A defect that fell off the part is drawn again elsewhere.
  for (let attempt = 0; attempt < 8; attempt++) {
    result = makers[kind](random, on, place(random, on.object));
    if (result.alpha.reduce((sum, a) => sum + (a > 0 ? 1 : 0), 0) >= 20) break;
  }
  return result;
}
