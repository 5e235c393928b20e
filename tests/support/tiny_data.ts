/**
 * A data set in MVTec layout for tests of the commands: two parts of two kinds of defect, six pairs each, small pictures of
 * two sizes. Part "plate" is a grey plate before a black background, part "weave" a texture that fills the picture.
 */
import { join } from "node:path";
import { type Image, type Mask, savePng } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";

/** What is in the data set: part → size and kinds of defect. */
export const TINY_PARTS = {
  plate: { width: 40, height: 36, defects: ["dent", "scratch"] },
  weave: { width: 50, height: 44, defects: ["hole", "stain"] },
} as const;

/** Pairs of each kind of defect: the first two may be learnt from. */
export const TINY_PAIRS = 6;

/** Normal images of each part to learn from. */
export const TINY_GOOD = 4;

/** Name of a part. */
export type TinyPart = keyof typeof TINY_PARTS;

/** A normal picture. */
export function tinyNormal(part: TinyPart, index: number, stream = "good"): Image {
  const { width, height } = TINY_PARTS[part], random = new Random(5, `tiny/${part}/${stream}`, index);
  const data = new Uint8ClampedArray(width * height * 3), shade = random.uniform(-12, 12);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside = x >= 5 && y >= 4 && x < width - 5 && y < height - 4;
      const weave = 120 + 40 * Math.sin(x * 1.3 + shade) + 30 * Math.sin(y * 0.9);
      const base = part === "weave" ? weave : inside ? 150 + shade : 12;
      for (let c = 0; c < 3; c++) data[(y * width + x) * 3 + c] = base + random.uniform(-6, 6) - 8 * c;
    }
  }
  return { width, height, channels: 3, data };
}

/** A defect's mask: a blob ("dent", "hole", "stain") or a slanted line ("scratch") on the part. */
export function tinyMask(part: TinyPart, defect: string, index: number): Mask {
  const { width, height } = TINY_PARTS[part], random = new Random(6, `tiny/${part}/${defect}`, index);
  const cx = random.uniform(0.35, 0.65) * width, cy = random.uniform(0.35, 0.65) * height;
  const radius = random.uniform(3, 5), slope = random.uniform(-0.6, 0.6);
  const data = Uint8Array.from({ length: width * height }, (_, i) => {
    const dx = i % width - cx, dy = Math.floor(i / width) - cy;
    const on = defect === "scratch"
      ? Math.abs(dx) < 8 && Math.abs(dy - slope * dx) < 1.2
      : dx ** 2 + dy ** 2 < radius ** 2;
    return on ? 1 : 0;
  });
  return { width, height, channels: 1, data };
}

/** A pair: a normal picture with the defect painted into it. */
export function tinyPair(part: TinyPart, defect: string, index: number): { image: Image; mask: Mask } {
  const image = tinyNormal(part, index, defect), mask = tinyMask(part, defect, index);
  const colours: Record<string, readonly number[]> = {
    dent: [70, 70, 80],
    scratch: [230, 230, 220],
    hole: [10, 10, 10],
  };
  const colour = colours[defect] ?? [150, 60, 30];
  mask.data.forEach((on, i) => {
    for (let c = 0; c < 3 && on; c++) image.data[3 * i + c] = colour[c];
  });
  return { image, mask };
}

/** Writes the data set: train/good, test/good, test/<defect>, ground_truth/<defect>. */
export function writeTinyData(folder: string): void {
  const name = (index: number) => String(index).padStart(3, "0");
  for (const [key, { defects }] of Object.entries(TINY_PARTS)) {
    const part = key as TinyPart;
    for (const sub of ["train/good", "test/good", ...defects.flatMap((d) => [`test/${d}`, `ground_truth/${d}`])]) {
      Deno.mkdirSync(join(folder, part, sub), { recursive: true });
    }
    for (let i = 0; i < TINY_GOOD; i++) {
      savePng(join(folder, part, "train/good", `${name(i)}.png`), tinyNormal(part, i));
    }
    savePng(join(folder, part, "test/good", "000.png"), tinyNormal(part, 0, "test"));
    for (const defect of defects) {
      for (let i = 0; i < TINY_PAIRS; i++) {
        const { image, mask } = tinyPair(part, defect, i);
        savePng(join(folder, part, "test", defect, `${name(i)}.png`), image);
        savePng(join(folder, part, "ground_truth", defect, `${name(i)}_mask.png`), mask);
      }
    }
  }
}

/**
 * Writes pairs as `generate` leaves them, three of every kind of the parts: indices that the data set does not have, and a
 * manifest.
 */
export function writeTinyPairs(folder: string, parts: readonly TinyPart[]): void {
  const lines: string[] = [];
  for (const part of parts) {
    for (const defect of TINY_PARTS[part].defects) {
      for (let i = 0; i < 3; i++) {
        const image = `${part}/test/${defect}/000${i}.png`, mask = `${part}/ground_truth/${defect}/000${i}_mask.png`;
        const pair = tinyPair(part, defect, 100 + i);
        for (const [name, content] of [[image, pair.image], [mask, pair.mask]] as const) {
          Deno.mkdirSync(join(folder, name, ".."), { recursive: true });
          savePng(join(folder, name), content);
        }
        lines.push(JSON.stringify({ part, defect, index: i, image, mask, accepted: true }));
      }
    }
  }
  Deno.writeTextFileSync(join(folder, "manifest.jsonl"), lines.map((line) => `${line}\n`).join(""));
}
