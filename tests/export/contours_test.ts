/** Outlines, run lengths and labels of masks: painted again they are the masks, to the pixel. */
import assert from "node:assert/strict";
import type { Mask } from "../../src/data/image.ts";
import { CocoInstances } from "../../src/export/coco.ts";
import { polygonOf, type TracedRegion, traceRegions } from "../../src/export/contours.ts";
import { compactRle, runLengths } from "../../src/export/rle.ts";
import { yoloData, yoloLabels } from "../../src/export/yolo.ts";
import { Random } from "../../src/random/philox.ts";
import { paintCentres, paintRle, paintWhole } from "./painters.ts";

/** A mask drawn with letters: anything but a dot belongs to it. */
function drawn(...rows: string[]): Mask {
  const data = Uint8Array.from(rows.join(""), (letter) => letter === "." ? 0 : 1);
  return { width: rows[0].length, height: rows.length, channels: 1, data };
}

/** Masks of every density, from specks to sieves, some a single row or column. */
const RANDOM = Array.from({ length: 150 }, (_, n): Mask => {
  const random = new Random(3, "masks", n), width = random.integer(1, 22), height = random.integer(1, 22);
  const density = random.uniform(0.05, 0.98);
  const data = Uint8Array.from({ length: width * height }, () => random.chance(density) ? 1 : 0);
  return { width, height, channels: 1, data };
});

/** The pixels of one region. */
const pixels = ({ has }: TracedRegion, { width, data }: Mask) =>
  data.map((_, i) => has(i % width, Math.floor(i / width)) ? 1 : 0);

Deno.test("a ring with a speck in it: its outline, its hole, area and box", () => {
  const mask = drawn(".......", ".#####.", ".#...#.", ".#.#.#.", ".#...#.", ".#####.", ".......");
  const [ring, speck, ...more] = traceRegions(mask);
  assert.deepEqual([more.length, ring.area, ring.box, speck.area, speck.box], [0, 16, [1, 1, 5, 5], 1, [3, 3, 1, 1]]);
  assert.deepEqual(ring.outer.map(({ x, y }) => [x, y]), [[1, 1], [6, 1], [6, 6], [1, 6]]);
  assert.deepEqual(ring.holes.map((hole) => hole.map(({ x, y }) => [x, y])), [[[2, 5], [5, 5], [5, 2], [2, 2]]]);
  assert.deepEqual(polygonOf(speck), [3, 3, 4, 3, 4, 4, 3, 4]);
  // One polygon: in through a slit along the middle of the hole's first row on its left, around, and out again.
  assert.equal(polygonOf(ring).length, 2 * (4 + 2 + 4 + 2));
});

Deno.test("pixels that touch at a corner are one region with one outline", () => {
  const regions = traceRegions(drawn("#..", ".#.", "..#"));
  assert.equal(regions.length, 1);
  assert.deepEqual([regions[0].area, regions[0].holes.length], [3, 0]);
});

Deno.test("polygons painted by the even-odd rule are the regions, holes too", () => {
  let regions = 0, holes = 0;
  for (const mask of RANDOM) {
    const sum = new Uint8Array(mask.data.length);
    for (const region of traceRegions(mask)) {
      const own = pixels(region, mask);
      assert.deepEqual(paintCentres(polygonOf(region), mask.width, mask.height), own);
      assert.equal(region.area, own.reduce((a, b) => a + b, 0));
      const xs: number[] = [], ys: number[] = [];
      own.forEach((v, i) => v && (xs.push(i % mask.width), ys.push(Math.floor(i / mask.width))));
      const [left, top] = [Math.min(...xs), Math.min(...ys)];
      assert.deepEqual(region.box, [left, top, Math.max(...xs) - left + 1, Math.max(...ys) - top + 1]);
      own.forEach((v, i) => sum[i] += v);
      regions++;
      holes += region.holes.length;
    }
    assert.deepEqual(sum, mask.data); // every pixel in one region, once
  }
  assert.ok(regions > 300 && holes > 300, `${regions} regions with ${holes} holes are too few to tell`);
});

Deno.test("YOLO's labels painted as its loader paints them are the mask, at sides that six digits can cut wrong", () => {
  const wide = (mask: Mask): Mask => { // the same in the far corner of a large picture
    const width = 1987, height = 1531, data = new Uint8Array(width * height);
    mask.data.forEach((v, i) => {
      data[(height - mask.height + Math.floor(i / mask.width)) * width + width - mask.width + i % mask.width] = v;
    });
    return { width, height, channels: 1, data };
  };
  for (const [n, small] of RANDOM.entries()) {
    if (n % 30 === 0 && !small.data.includes(1)) continue;
    const mask = n % 75 === 1 ? wide({ ...drawn("##.#", "#.##", "..#.", "####"), channels: 1 }) : small;
    const painted = new Uint8Array(mask.data.length);
    for (const line of yoloLabels(mask, 7)) {
      const [index, ...values] = line.split(" ").map(Number);
      assert.equal(index, 7);
      assert.ok(values.length >= 6 && values.every((v) => v >= 0 && v <= 1), line);
      paintWhole(values, mask.width, mask.height).forEach((v, i) => painted[i] |= v);
    }
    assert.deepEqual(painted, mask.data);
  }
});

Deno.test("run lengths are the regions; pycocotools' strings of known masks", () => {
  for (const mask of RANDOM) {
    for (const region of traceRegions(mask)) {
      const counts = runLengths(region, mask.width, mask.height);
      assert.ok(counts.slice(1).every((count) => count > 0), counts.join());
      assert.deepEqual(paintRle(compactRle(counts), mask.width, mask.height), pixels(region, mask));
    }
  }
  // As pycocotools 2.0 encodes them.
  const strings = [drawn("####", "#..#", "####"), drawn("...", ".#.", "#.."), drawn("##########")].map((mask) =>
    compactRle(runLengths(traceRegions(mask)[0], mask.width, mask.height))
  );
  assert.deepEqual(strings, STRINGS);
});

/** Made by `pycocotools.mask.encode` of the three masks above. */
const STRINGS = ["041N02", "21103", "0:"];

Deno.test("a COCO file: ids from 1 on, exact areas and boxes, normal images without annotation", () => {
  const categories = [{ id: 1, name: "a+b", supercategory: "a" }, { id: 2, name: "a+c", supercategory: "a" }];
  for (const form of ["polygon", "rle"] as const) {
    const file = new CocoInstances(categories, form), mask = drawn("##..", "....", "...#");
    assert.equal(file.add("one.png", mask, 2, mask), 2);
    assert.equal(file.add("good.png", { width: 9, height: 8 }, 0), 0);
    const { images, annotations, ...rest } = JSON.parse(file.toJson("test"));
    assert.deepEqual(rest.categories, categories);
    assert.deepEqual(images, [
      { id: 1, file_name: "one.png", width: 4, height: 3 },
      { id: 2, file_name: "good.png", width: 9, height: 8 },
    ]);
    // deno-lint-ignore no-explicit-any
    assert.deepEqual(annotations.map(({ segmentation: _, ...one }: any) => one), [
      { id: 1, image_id: 1, category_id: 2, area: 2, bbox: [0, 0, 2, 1], iscrowd: 0 },
      { id: 2, image_id: 1, category_id: 2, area: 1, bbox: [3, 2, 1, 1], iscrowd: 0 },
    ]);
    const [first] = annotations;
    if (form === "polygon") assert.deepEqual(first.segmentation, [[0, 0, 2, 0, 2, 1, 0, 1]]);
    else assert.deepEqual(first.segmentation.size, [3, 4]);
  }
});

Deno.test("YOLO's data file quotes names, and names the training images where none validate", () => {
  assert.equal(yoloData(['a+b: "c"'], true), 'train: images/train\nval: images/val\nnames:\n  0: "a+b: \\"c\\""\n');
  assert.match(yoloData(["a"], false), /^val: images\/train$/m);
});
