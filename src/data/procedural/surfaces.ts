/**
 * Thirteen industrial surfaces and parts as defect-free 128×128 pictures, their hues drawn over the whole circle.
 * Each is one to four noise fields, a ramp between jittered colours and a gradient of light.
 */

import type { Random } from "../../random/philox.ts";
import { AREA, clamp, type Field, field, hsv, noise, type Rgb, SIZE, smoothstep, whiteNoise } from "./noise.ts";

/** A picture without a defect. */
export interface Surface {
  /** Planar red, green, blue: `3·AREA` values, about 0…1 (clipped only when quantised). */
  rgb: Float32Array;
  /** 1 on the part, 0 on its background; absent when the surface fills the picture. */
  object?: Field;
  material: Material;
  /** The main colour. */
  color: Rgb;
}

/** The surfaces' names, which are also their words in captions. */
export const MATERIALS = [
  "wood",
  "metal",
  "leather",
  "carpet",
  "tile",
  "fabric",
  "grid",
  "plastic",
  "concrete",
  "washer",
  "capsule",
  "board",
  "bottle",
] as const;
/** One of `MATERIALS`. */
export type Material = typeof MATERIALS[number];

/** Any hue, with a usable spread of saturation and value. */
function anyColor(random: Random, greyness = 0.15): Rgb {
  const saturation = random.chance(greyness) ? random.uniform(0, 0.12) : random.uniform(0.3, 0.85);
  return hsv(random.uniform(), saturation, random.uniform(0.35, 0.92));
}

const scaled = (c: Rgb, s: number): Rgb => [c[0] * s, c[1] * s, c[2] * s];
const mixed = (a: Rgb, b: Rgb, t: number): Rgb => [
  a[0] + (b[0] - a[0]) * t,
  a[1] + (b[1] - a[1]) * t,
  a[2] + (b[2] - a[2]) * t,
];
const jittered = (random: Random, c: Rgb, by: number): Rgb => [
  clamp(c[0] + random.uniform(-by, by)),
  clamp(c[1] + random.uniform(-by, by)),
  clamp(c[2] + random.uniform(-by, by)),
];

/** The colours between `low` and `high` at the places a field says (0…1, clipped). */
function ramp(values: Field, low: Rgb, high: Rgb): Float32Array {
  const rgb = new Float32Array(3 * AREA);
  for (let c = 0; c < 3; c++) {
    for (let i = 0; i < AREA; i++) rgb[c * AREA + i] = low[c] + (high[c] - low[c]) * clamp(values[i]);
  }
  return rgb;
}

/** Lays a colour over a picture with opacity `alpha`, in place. */
function over(rgb: Float32Array, alpha: Field, color: Rgb): void {
  for (let c = 0; c < 3; c++) {
    for (let i = 0, j = c * AREA; i < AREA; i++, j++) rgb[j] += (color[c] - rgb[j]) * alpha[i];
  }
}

/** A field turned by a quarter when `turn` is true. */
function turned(values: Field, turn: boolean): Field {
  return turn ? field((x, y) => values[x * SIZE + y]) : values;
}

type Made = { rgb: Float32Array; color: Rgb; object?: Field };

const makers: Record<Material, (random: Random) => Made> = {
  wood(random) {
    const hue = random.chance(0.8) ? random.uniform(0.03, 0.12) : random.uniform();
    const light = hsv(hue, random.uniform(0.25, 0.65), random.uniform(0.5, 0.92));
    const dark = jittered(random, scaled(light, random.uniform(0.45, 0.7)), 0.03);
    const wide = noise(random, 8, 40), bend = noise(random, 6, 24), streak = noise(random, 0.6, 11);
    const frequency = random.uniform(0.05, 0.13), warp = random.uniform(0.4, 1.1), fine = random.uniform(0.08, 0.2);
    const grain = field((x, _y, i) => {
      const u = x * frequency + warp * wide[i] + 0.35 * bend[i], v = u - Math.floor(u);
      return 0.85 - 0.7 * v * v * v - 0.25 * smoothstep(0.12, 0, v) + fine * streak[i];
    });
    return { rgb: ramp(turned(grain, random.chance(0.4)), dark, light), color: mixed(dark, light, 0.7) };
  },
  metal(random) {
    const tinted = random.chance(0.35);
    const high = hsv(
      random.uniform(),
      tinted ? random.uniform(0.2, 0.5) : random.uniform(0, 0.08),
      random.uniform(0.6, 0.95),
    );
    const fine = noise(random, 14, 0.5), broad = noise(random, 38, 1.6);
    const depth = random.uniform(0.08, 0.2);
    const values = field((_x, _y, i) => 0.6 + depth * fine[i] + 0.8 * depth * broad[i]);
    return { rgb: ramp(turned(values, random.chance(0.4)), scaled(high, 0.5), high), color: scaled(high, 0.8) };
  },
  leather(random) {
    const color = anyColor(random, 0.12), cell = random.uniform(1.4, 2.8), crease = noise(random, cell * 1.9);
    const ridge = noise(random, cell), low = noise(random, 14), sharp = random.uniform(1.8, 3);
    const values = field((_x, _y, i) =>
      0.72 + 0.1 * Math.abs(ridge[i]) - 0.5 * Math.exp(-((sharp * crease[i]) ** 2)) + 0.06 * low[i]
    );
    return { rgb: ramp(values, scaled(color, 0.4), color), color };
  },
  carpet(random) {
    const color = anyColor(random, 0.3), other = random.chance(0.5) ? scaled(color, 0.5) : anyColor(random, 0.4);
    const px = random.uniform(4.5, 8.5),
      py = px * random.uniform(0.85, 1.2),
      wx = noise(random, 4),
      wy = noise(random, 4);
    const fuzz = noise(random, 0.7);
    const values = field((x, y, i) => {
      const a = Math.sin(2 * Math.PI * (x + 0.7 * wx[i]) / px), b = Math.sin(2 * Math.PI * (y + 0.7 * wy[i]) / py);
      return 0.55 + 0.36 * a * b + 0.13 * fuzz[i];
    });
    return { rgb: ramp(values, mixed(color, other, 0.8), color), color: mixed(color, other, 0.35) };
  },
  tile(random) {
    const color = random.chance(0.6)
      ? hsv(random.uniform(), random.uniform(0, 0.15), random.uniform(0.5, 0.9))
      : anyColor(random, 0);
    const grain = noise(random, random.uniform(0.9, 2.2)),
      chips = noise(random, random.uniform(0.9, 2)),
      low = noise(random, 6);
    const level = random.uniform(0.9, 1.5);
    const rgb = ramp(field((_x, _y, i) => 0.65 + 0.13 * grain[i] + 0.07 * low[i]), scaled(color, 0.6), color);
    over(
      rgb,
      field((_x, _y, i) => smoothstep(level, level + 0.35, chips[i])),
      scaled(color, random.uniform(0.25, 0.5)),
    );
    over(rgb, field((_x, _y, i) => smoothstep(level, level + 0.35, -chips[i])), mixed(color, [1, 1, 1], 0.65));
    return { rgb, color };
  },
  fabric(random) {
    const color = anyColor(random, 0.12),
      period = random.uniform(5, 10),
      slope = random.pick([1, -1]) * random.uniform(0.6, 1.6);
    const wobble = noise(random, 5), fuzz = noise(random, 0.8, 0.8), thread = noise(random, 6, 1);
    const values = field((x, y, i) => {
      const phase = 2 * Math.PI * (x + slope * y + 0.5 * wobble[i]) / period;
      return 0.62 + 0.3 * Math.sin(phase) + 0.08 * Math.sin(2 * Math.PI * y / 3.1) + 0.07 * fuzz[i] + 0.05 * thread[i];
    });
    return { rgb: ramp(values, scaled(color, 0.45), color), color: scaled(color, 0.75) };
  },
  grid(random) {
    const back = random.chance(0.6) ? hsv(random.uniform(), 0.3, random.uniform(0.04, 0.2)) : anyColor(random, 0.3);
    const bright = Math.max(...back) > 0.5 && random.chance(0.5);
    const wire = hsv(
      random.uniform(),
      random.uniform(0, 0.3),
      bright ? random.uniform(0.1, 0.25) : random.uniform(0.7, 0.95),
    );
    const period = random.pick([10, 12, 14, 16, 20]), width = random.uniform(1.3, 2.6), ox = random.uniform(0, period);
    const oy = random.uniform(0, period), wx = noise(random, 12), wy = noise(random, 12);
    const rgb = ramp(noise(random, 2).map((v) => 0.7 + 0.15 * v), scaled(back, 0.7), back);
    const distance = (u: number) => Math.abs(((u % period) + period) % period - period / 2);
    for (const vertical of [false, true]) {
      over(
        rgb,
        field((x, y, i) =>
          clamp(width - distance((vertical ? x + ox : y + oy) + 0.35 * (vertical ? wx : wy)[i]) + 0.5)
        ),
        vertical ? wire : scaled(wire, 0.85),
      );
    }
    return { rgb, color: mixed(back, wire, 0.4) };
  },
  plastic(random) {
    const color = anyColor(random, 0.12),
      low = noise(random, random.uniform(8, 20)),
      fine = noise(random, random.uniform(0.6, 1.6));
    const depth = random.uniform(0.02, 0.08), grain = random.uniform(0.01, 0.05);
    const values = field((_x, _y, i) => 0.75 + depth * low[i] + grain * fine[i]);
    return { rgb: ramp(values, scaled(color, 0.3), scaled(color, 1.15)), color };
  },
  concrete(random) {
    const color = hsv(random.uniform(), random.uniform(0, 0.2), random.uniform(0.45, 0.8));
    const low = noise(random, 10), mid = noise(random, 3), fine = noise(random, 0.8), pits = noise(random, 1.5);
    const rgb = ramp(
      field((_x, _y, i) => 0.65 + 0.08 * low[i] + 0.08 * mid[i] + 0.07 * fine[i]),
      scaled(color, 0.5),
      scaled(color, 1.1),
    );
    over(rgb, field((_x, _y, i) => 0.6 * smoothstep(2.3, 2.9, pits[i])), scaled(color, 0.35));
    return { rgb, color };
  },
  washer(random) {
    const back = random.chance(0.6) ? hsv(random.uniform(), 0.3, random.uniform(0.05, 0.25)) : anyColor(random, 0.2);
    const metal = hsv(
      random.uniform(),
      random.chance(0.3) ? random.uniform(0.2, 0.5) : 0.05,
      random.uniform(0.65, 0.95),
    );
    const cx = 64 + random.uniform(-5, 5), cy = 64 + random.uniform(-5, 5), outer = random.uniform(42, 56);
    const inner = outer * random.uniform(0.3, 0.58), turn = random.uniform(0, 6.3), brush = noise(random, 8, 0.7);
    const rgb = ramp(noise(random, 1.2).map((v) => 0.75 + 0.1 * v), scaled(back, 0.6), back);
    const object = new Float32Array(AREA), shade = new Float32Array(AREA), rim = random.uniform(1.5, 3.5);
    for (let y = 0, i = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++, i++) {
        const r = Math.hypot(x - cx, y - cy), a = Math.atan2(y - cy, x - cx), edge = Math.min(outer - r, r - inner);
        object[i] = clamp(edge + 0.5);
        shade[i] = 0.72 + 0.16 * Math.cos(2 * a + turn) + 0.06 * brush[i] + (edge < rim ? 0.2 * Math.cos(a - 2.3) : 0);
      }
    }
    const part = ramp(shade, scaled(metal, 0.3), metal);
    for (let i = 0; i < 3 * AREA; i++) rgb[i] += (part[i] - rgb[i]) * object[i % AREA];
    return { rgb, color: scaled(metal, 0.8), object };
  },
  capsule(random) {
    const back = random.chance(0.6)
      ? hsv(random.uniform(), random.uniform(0, 0.08), random.uniform(0.75, 0.97))
      : anyColor(random, 0.3);
    const left = anyColor(random, 0.2), right = random.chance(0.3) ? left : anyColor(random, 0.3);
    const angle = random.normal() * 0.25, half = random.uniform(26, 36), radius = random.uniform(17, 25);
    const ca = Math.cos(angle), sa = Math.sin(angle), cx = 64 + random.uniform(-5, 5), cy = 64 + random.uniform(-5, 5);
    const rgb = ramp(noise(random, 1).map((v) => 0.8 + 0.08 * v), scaled(back, 0.75), back);
    const object = new Float32Array(AREA), grain = noise(random, 1);
    for (let y = 0, i = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++, i++) {
        const u = (x - cx) * ca + (y - cy) * sa, v = (y - cy) * ca - (x - cx) * sa;
        const d = Math.hypot(Math.max(Math.abs(u) - half, 0), v), alpha = object[i] = clamp(radius - d + 0.5);
        const shadow = 0.25 * smoothstep(10, 0, Math.hypot(Math.max(Math.abs(u) - half, 0), v - 4) - radius) *
          (1 - alpha);
        const n = clamp(d / radius, 0, 0.98),
          lit = 0.5 + 0.5 * Math.sqrt(1 - n * n) - 0.15 * v / radius + 0.02 * grain[i];
        const gleam = 0.5 * Math.exp(-(((v + radius * 0.42) / 2.6) ** 2)) * smoothstep(half + 4, half - 6, Math.abs(u));
        const seam = Math.abs(u) < 0.8 ? 0.82 : 1, color = u < 0 ? left : right;
        for (let c = 0; c < 3; c++) {
          const j = c * AREA + i, b = rgb[j] * (1 - shadow);
          rgb[j] = b + (color[c] * lit * seam + gleam - b) * alpha;
        }
      }
    }
    return { rgb, color: left, object };
  },
  board(random) {
    const base = random.chance(0.5)
      ? hsv(random.uniform(0.3, 0.45), random.uniform(0.5, 0.85), random.uniform(0.25, 0.55))
      : scaled(anyColor(random, 0.1), 0.7);
    const trace = mixed(base, [0.9, 0.85, 0.6], random.uniform(0.2, 0.4)),
      pad = hsv(random.uniform(0.1, 0.16), random.uniform(0.1, 0.6), 0.85);
    const rgb = ramp(noise(random, 1.2).map((v) => 0.8 + 0.07 * v), scaled(base, 0.6), base);
    const period = random.pick([16, 20, 24]), traces = new Float32Array(AREA), pads = new Float32Array(AREA);
    const columns = Math.floor(SIZE / period), shift = random.uniform(0, period), width = random.uniform(1.2, 2.4);
    for (let k = 0; k <= columns; k++) {
      const x0 = k * period + shift,
        bend = random.uniform(20, 108),
        jump = random.chance(0.5) ? period * random.pick([-1, 1]) : 0;
      for (let y = 0; y < SIZE; y++) {
        const x = x0 + jump * clamp((y - bend) / period);
        for (let q = Math.max(0, Math.floor(x - 5)); q <= Math.min(SIZE - 1, x + 5); q++) {
          traces[y * SIZE + q] = Math.max(traces[y * SIZE + q], clamp(width - Math.abs(q - x) + 0.5));
        }
      }
      for (let p = 0; p < 2; p++) {
        const py = p ? random.uniform(bend + period, SIZE) : random.uniform(0, bend), r = random.uniform(3, 5);
        const px = x0 + jump * clamp((py - bend) / period);
        for (let y = Math.max(0, Math.floor(py - 7)); y < Math.min(SIZE, py + 7); y++) {
          for (let x = Math.max(0, Math.floor(px - 7)); x < Math.min(SIZE, px + 7); x++) {
            pads[y * SIZE + x] = Math.max(
              pads[y * SIZE + x],
              clamp(r - Math.abs(Math.hypot(x - px, y - py) - 0.5) + 0.5),
            );
          }
        }
      }
    }
    over(rgb, traces, trace);
    over(rgb, pads, pad);
    return { rgb, color: base };
  },
  bottle(random) {
    const back = random.chance(0.5)
      ? hsv(random.uniform(), random.uniform(0, 0.1), random.uniform(0.7, 0.95))
      : scaled(anyColor(random, 0.3), 0.6);
    const glass = anyColor(random, 0.2),
      cx = 64 + random.uniform(-4, 4),
      cy = 64 + random.uniform(-4, 4),
      outer = random.uniform(46, 58);
    const lip = outer * random.uniform(0.68, 0.8),
      core = outer * random.uniform(0.35, 0.5),
      turn = random.uniform(0, 6.3);
    const rgb = ramp(noise(random, 1).map((v) => 0.8 + 0.06 * v), scaled(back, 0.8), back),
      object = new Float32Array(AREA);
    const grain = noise(random, 2.5);
    for (let y = 0, i = 0; y < SIZE; y++) {
      for (let x = 0; x < SIZE; x++, i++) {
        const r = Math.hypot(x - cx, y - cy),
          a = Math.atan2(y - cy, x - cx),
          alpha = object[i] = clamp(outer - r + 0.5);
        const wall = r > lip
          ? 0.35 + 0.4 * Math.sin(Math.PI * (r - lip) / (outer - lip))
          : r > core
          ? 0.6 + 0.25 * Math.cos(a + turn)
          : 0.25;
        const gleam = 0.5 * Math.exp(-(((r - (lip + outer) / 2) / 2.2) ** 2)) *
          smoothstep(0.4, 0.9, Math.cos(2 * a + turn));
        for (let c = 0; c < 3; c++) {
          const j = c * AREA + i;
          rgb[j] += (glass[c] * (wall + 0.02 * grain[i]) * 1.15 + gleam - rgb[j]) * alpha;
        }
      }
    }
    return { rgb, color: scaled(glass, 0.7), object };
  },
};

/**
 * A defect-free surface under its own light, with a little sensor noise.
 * @example
 * ```ts
 * import { Random } from "../../random/philox.ts";
 * import { surface } from "./surfaces.ts";
 * const { rgb } = surface(new Random(1, "example"), "leather");
 * if (rgb.length !== 3 * 128 * 128) throw new Error("not a 128×128 picture");
 * ```
 */
export function surface(random: Random, material: Material): Surface {
  const made = makers[material](random), { rgb } = made;
  const angle = random.uniform(0, 2 * Math.PI), slope = random.uniform(0, 0.14), gx = slope * Math.cos(angle) / 64;
  const gy = slope * Math.sin(angle) / 64, grain = random.uniform(0.003, 0.012);
  const tint = [0, 1, 2].map(() => random.uniform(0.96, 1.04));
  const sensor = [whiteNoise(random), whiteNoise(random), whiteNoise(random)];
  for (let y = 0, i = 0; y < SIZE; y++) {
    for (let x = 0; x < SIZE; x++, i++) {
      const light = 1 + gx * (x - 63.5) + gy * (y - 63.5);
      for (let c = 0; c < 3; c++) rgb[c * AREA + i] = rgb[c * AREA + i] * light * tint[c] + grain * sensor[c][i];
    }
  }
  return { ...made, material };
}
