import assert from "node:assert/strict";
import { caption, damageWords, maskCaption } from "../../src/data/procedural/captions.ts";
import { damage, DEFECTS } from "../../src/data/procedural/defects.ts";
import { AREA, blur, colorName, hsv, noise, SIZE } from "../../src/data/procedural/noise.ts";
import { looksOf } from "../../src/data/procedural/looks.ts";
import {
  binaryMask,
  damagedCells,
  pretrainingSample,
  pretrainingWindow,
  PROCEDURAL_FORMS,
  type ProceduralSample,
  quantise,
} from "../../src/data/procedural/sample.ts";
import { splitWords } from "../../src/data/tokenizer.ts";
import { MATERIALS, surface } from "../../src/data/procedural/surfaces.ts";
import { damagedPart, PARTS, wholePart } from "../../fixtures/parts/heldout.ts";
import { Random } from "../../src/random/philox.ts";

Deno.test("a pretraining picture depends on its seed and index alone", () => {
  const late = pretrainingSample(5, 9), again = pretrainingSample(5, 9);
  pretrainingSample(5, 8);
  assert.deepEqual(late, again);
  assert.notDeepEqual(pretrainingSample(5, 10).image, late.image);
  assert.notDeepEqual(pretrainingSample(6, 9).image, late.image);
});

Deno.test("a pretraining window depends on its seed and index alone; damage is in it, and it is smoother than whole pictures", () => {
  assert.deepEqual(pretrainingWindow(5, 9), pretrainingWindow(5, 9));
  assert.notDeepEqual(pretrainingWindow(5, 10).image, pretrainingWindow(5, 9).image);
  /** Mean difference of pixels side by side: enlarged pictures have less. */
  const roughness = (make: (seed: number, index: number) => ProceduralSample) => {
    let sum = 0;
    for (let index = 0; index < 40; index++) {
      const { image, mask, defect, maskPicture } = make(5, index);
      if (maskPicture) continue;
      assert.equal(mask.includes(255), defect !== undefined, `picture ${index}`);
      for (let i = 3; i < image.length; i++) sum += Math.abs(image[i] - image[i - 3]) / image.length;
    }
    return sum;
  };
  assert.ok(roughness(pretrainingWindow) < 0.85 * roughness(pretrainingSample));
});

Deno.test("the words of a caption that speak of the damage", () => {
  const said = (caption: string, material: string, defect: string | undefined, maskPicture = false) => {
    const words = splitWords(caption);
    return damageWords({ caption, material, defect, maskPicture }).map((i) => words[i]).join(" ");
  };
  const cases = [
    ["a photo of a wood with a small dark stain in the middle", "wood", "small dark stain"],
    ["a faint scratch on a red metal", "metal", "faint scratch"],
    ["a photo of a bright spot on a tile on the right", "tile", "bright spot"],
    ["a close-up photo of a long crack at the top", "leather", "long crack"],
    ["a cropped photo of the hole", "grid", "hole"],
    ["a photo of a defect", "wood", "defect"],
    ["a photo of an anomaly on a carpet", "carpet", "anomaly"],
    ["a photo of a damaged wood", "wood", ""],
  ];
  for (const [caption, material, words] of cases) assert.equal(said(caption, material, "stain"), words, caption);
  assert.equal(said("a photo of a wood", "wood", undefined), "");
  assert.equal(said("a mask of a stain", "wood", "stain", true), "");
  // Of the mixture: damage has words in most captions, whole parts and masks have none.
  let spoken = 0, damaged = 0;
  for (let index = 0; index < 60; index++) {
    const sample = pretrainingSample(2, index), words = damageWords(sample);
    const of = sample.defect !== undefined && !sample.maskPicture;
    assert.ok(of || words.length === 0);
    damaged += Number(of);
    spoken += Number(words.length > 0);
  }
  assert.ok(spoken > 0.8 * damaged, `${spoken} of ${damaged}`);
});

Deno.test("cells with damage: those that hold a pixel of it, on any grid; none in a mask's picture", () => {
  const sample = Array.from({ length: 20 }, (_, i) => pretrainingSample(2, i)).find((s) => s.defect && !s.maskPicture)!;
  const cells = new Set<number>();
  sample.mask.forEach((v, i) => v && cells.add(16 * (i >> 10) + ((i & 127) >> 3)));
  assert.deepEqual(damagedCells(sample, 16), [...cells].sort((a, b) => a - b));
  assert.deepEqual(damagedCells({ ...sample, maskPicture: true }, 16), []);
  const mask = new Uint8Array(128 * 128);
  mask[128 * 6 + 12] = 255; // in a grid of 20 cells of 6.4 pixels: row 6 lies in two, column 12 in two
  assert.deepEqual(damagedCells({ mask, maskPicture: false }, 20), [1, 2, 21, 22]);
  assert.deepEqual(damagedCells({ mask, maskPicture: false }, 128), [128 * 6 + 12]);
  assert.deepEqual(damagedCells({ mask, maskPicture: false }, 1), [0]);
});

Deno.test("forms of procedural pictures: close windows are smoother than windows, those than whole pictures", () => {
  const roughness = Object.values(PROCEDURAL_FORMS).map((make) => {
    let sum = 0;
    for (let index = 0; index < 30; index++) {
      const { image, maskPicture } = make(5, index);
      for (let i = 3; i < image.length && !maskPicture; i++) sum += Math.abs(image[i] - image[i - 3]);
    }
    return sum;
  });
  assert.ok(roughness[1] < 0.9 * roughness[0] && roughness[2] < 0.9 * roughness[1], `${roughness}`);
});

Deno.test("noise has mean 0 and deviation 1, also where three running means stand for the Gaussian", () => {
  for (const sigma of [0, 1.5, 12, 40]) {
    const values = noise(new Random(1, "test", sigma), sigma);
    const mean = values.reduce((a, b) => a + b) / AREA, square = values.reduce((a, b) => a + b * b, 0) / AREA;
    assert.ok(Math.abs(mean) < 1e-4 && Math.abs(square - 1) < 1e-3, `σ ${sigma}: mean ${mean}, square ${square}`);
  }
});

Deno.test("the filter keeps the sum, spreads a point by its σ and wraps at the edges", () => {
  for (const sigma of [1.5, 6]) {
    const point = new Float32Array(AREA);
    point[0] = 1;
    blur(point, sigma, 0);
    let sum = 0, variance = 0;
    for (let x = 0; x < 128; x++) sum += point[x], variance += point[x] * (x < 64 ? x : x - 128) ** 2;
    assert.ok(Math.abs(sum - 1) < 1e-5);
    assert.ok(Math.abs(Math.sqrt(variance) / sigma - 1) < 0.1, `σ ${sigma} became ${Math.sqrt(variance)}`);
  }
});

Deno.test("every kind of damage on a surface and on a part: nothing outside the mask differs, most inside does", () => {
  for (const [k, kind] of DEFECTS.entries()) {
    for (const material of ["leather", "washer"] as const) {
      const random = new Random(3, `test ${material}`, k),
        good = surface(random, material),
        bad = damage(random, good, kind);
      const before = quantise(good.rgb), after = quantise(bad.rgb), mask = binaryMask(bad.alpha);
      let inside = 0, changed = 0;
      for (let i = 0; i < AREA; i++) {
        const differs = [0, 1, 2].some((c) => before[3 * i + c] !== after[3 * i + c]);
        if (mask[i] === 0) assert.ok(!differs, `${kind} on ${material} changed pixel ${i} outside its mask`);
        else inside++, changed += differs ? 1 : 0;
      }
      assert.ok(inside >= 20, `${kind} on ${material} covers ${inside} pixels`);
      assert.ok(changed > 0.5 * inside, `${kind} on ${material} changed ${changed} of ${inside} pixels`);
    }
  }
});

Deno.test("surfaces stay near 0…1, differ from each other and use every hue", () => {
  const colors = new Set<string>();
  for (const material of MATERIALS) {
    for (let k = 0; k < 6; k++) {
      const { rgb, color } = surface(new Random(4, material, k), material);
      colors.add(colorName(color));
      assert.ok(rgb.every((v) => v > -0.3 && v < 1.9), material);
      const image = quantise(rgb), mean = image.reduce((a, b) => a + b) / image.length;
      assert.ok(image.some((v) => Math.abs(v - mean) > 8), `${material} is flat`);
    }
  }
  for (const color of ["red", "orange", "green", "blue", "purple", "gray"]) assert.ok(colors.has(color), `no ${color}`);
});

Deno.test("colours have their names", () => {
  const names = [[0, 1, 1], [0.33, 1, 1], [0.66, 1, 1], [0, 0, 1], [0, 0, 0.5], [0, 0, 0.1]].map(([h, s, v]) =>
    colorName(hsv(h, s, v))
  );
  assert.deepEqual(names, ["red", "green", "blue", "white", "gray", "black"]);
});

Deno.test("the mixture: about 30 % whole, 60 % damaged, 10 % mask pictures, which show their own mask", () => {
  const counts = { whole: 0, damaged: 0, mask: 0 }, total = 200;
  for (let k = 0; k < total; k++) {
    const sample = pretrainingSample(2, k), covered = sample.mask.reduce((sum, v) => sum + v, 0);
    counts[sample.maskPicture ? "mask" : sample.defect ? "damaged" : "whole"]++;
    assert.equal(covered > 0, sample.defect !== undefined);
    if (sample.maskPicture) assert.ok(sample.mask.every((v, i) => sample.image[3 * i + 1] === v));
  }
  assert.ok(
    Math.abs(counts.whole / total - 0.3) < 0.1 && Math.abs(counts.mask / total - 0.1) < 0.07,
    JSON.stringify(counts),
  );
});

Deno.test("a part of the mixture: some kinds of damage only, none whole; pictures of masks only", () => {
  const kinds = ["circle", "thread"] as const;
  for (let index = 0; index < 30; index++) {
    const { defect, mask } = pretrainingSample(2, index, { kinds });
    assert.ok(defect === "circle" || defect === "thread", `picture ${index}: ${defect}`);
    assert.ok(mask.includes(255));
    assert.ok(pretrainingSample(2, index, { kinds, masks: true }).maskPicture);
  }
});

Deno.test("looks: what stands out of size, strength, tone, colour, shape and place", () => {
  const good = new Float32Array(3 * AREA).fill(0.5);
  const paintBox = (x0: number, x1: number, y0: number, y1: number, color: readonly number[]) => {
    const bad = good.slice(), alpha = new Float32Array(AREA);
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        alpha[y * SIZE + x] = 1;
        color.forEach((v, c) => bad[c * AREA + y * SIZE + x] = v);
      }
    }
    return looksOf(good, bad, alpha);
  };
  const nothing = { size: undefined, strength: undefined, tone: undefined, color: undefined, shape: undefined };
  assert.deepEqual(paintBox(10, 40, 60, 66, [0.4, 0.4, 0.4]), {
    ...nothing,
    tone: "dark",
    shape: "long",
    where: "on the left",
  });
  assert.deepEqual(paintBox(90, 120, 90, 120, [0.9, 0.1, 0.1]), {
    ...{ size: "large", strength: "strong", tone: "dark", color: "red", shape: "round", where: "in the bottom right" },
  });
  assert.deepEqual(paintBox(60, 68, 60, 68, [0.53, 0.53, 0.53]), {
    ...{ ...nothing, size: "small", strength: "faint", where: "in the middle" },
  });
  assert.equal(paintBox(0, 128, 60, 66, [0.4, 0.4, 0.4]).where, undefined);
  assert.deepEqual(looksOf(good, good, new Float32Array(AREA)), {});
});

Deno.test("captions hold only words of the model's vocabulary, fit 24 positions and never name a held-out defect", () => {
  const path = new URL("../../fixtures/small-ldm/vocab.txt", import.meta.url);
  const vocabulary = new Set(Deno.readTextFileSync(path).split("\n"));
  const heldOut = Object.values(PARTS).flatMap((part) => part.defects);
  assert.equal(new Set([...heldOut, ...DEFECTS]).size, heldOut.length + DEFECTS.length);
  const random = new Random(8, "test");
  for (let k = 0; k < 2000; k++) {
    const material = random.pick(MATERIALS),
      color = colorName(hsv(random.uniform(), random.uniform(), random.uniform()));
    const defect = random.chance(0.7) ? random.pick(DEFECTS) : undefined;
    const looks = {
      size: random.pick(["small", "large", undefined] as const),
      strength: random.pick(["faint", "strong", undefined] as const),
      tone: random.pick(["dark", "bright", undefined] as const),
      color: random.pick([color, undefined]),
      shape: random.pick(["long", "round", undefined] as const),
      where: random.pick(["in the top left", "on the bottom", "in the middle", undefined]),
    };
    const text = defect && random.chance(0.2)
      ? maskCaption(random, defect, looks)
      : caption(random, { material, color, defect, looks });
    const words = text.match(/[a-z]+|[^a-z\s]/g)!;
    assert.ok(words.length <= 22 && !/undefined| {2}/.test(text), text);
    for (const word of words) assert.ok(vocabulary.has(word) && !heldOut.includes(word), `${word} in “${text}”`);
  }
});

Deno.test("few-shot parts: reproducible, and every damage lies on its own picture", () => {
  for (const [name, part] of Object.entries(PARTS)) {
    const good = wholePart(new Random(1, name), part), same = wholePart(new Random(1, name), part);
    assert.deepEqual(good.rgb, same.rgb);
    for (const kind of part.defects) {
      const { alpha } = damagedPart(new Random(1, name), part, kind),
        covered = binaryMask(alpha).filter((v) => v > 0).length;
      assert.ok(covered > 10 && covered < AREA / 4, `${name} ${kind}: ${covered} pixels`);
    }
  }
});
