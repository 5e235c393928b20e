import assert from "node:assert/strict";
import { basename, dirname, join } from "node:path";
import { toPng } from "../../src/data/image.ts";
import { listImages, loadPair, scanDataset, type ScanOptions, trainCount } from "../../src/data/mvtec.ts";

const image = toPng({ width: 4, height: 3, channels: 3, data: new Uint8ClampedArray(36).fill(90) });
const mask = toPng({
  width: 4,
  height: 3,
  channels: 1,
  data: Uint8Array.from({ length: 12 }, (_, i) => i === 5 ? 1 : 0),
});

/** Builds a tree of files (`*_mask*` and paths through masks/ or ground_truth/ become masks) and runs the test in it. */
async function withFiles(paths: string[], test: (root: string) => void | Promise<void>): Promise<void> {
  const root = Deno.makeTempDirSync();
  try {
    for (const path of paths) {
      Deno.mkdirSync(join(root, dirname(path)), { recursive: true });
      Deno.writeFileSync(join(root, path), /mask|ground_truth/.test(path) ? mask : image);
    }
    await test(root);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i).padStart(3, "0"));

/** A part in MVTec layout with `count` images of a crack. */
const mvtec = (part: string, count: number) => [
  ...numbers(2).map((n) => `${part}train/good/${n}.png`),
  `${part}test/good/000.png`,
  ...numbers(count).map((n) => `${part}test/crack/${n}.png`),
  ...numbers(count).map((n) => `${part}ground_truth/crack/${n}_mask.png`),
];

const refused = (root: string, message: RegExp, options?: ScanOptions) =>
  assert.throws(() => scanDataset(root, options), (error: Error) => {
    assert.match(error.message, message);
    return error.name === "UserError" && !error.message.includes("\n");
  });

Deno.test("data set: several parts in MVTec layout, first third for training", () =>
  withFiles([...mvtec("wood/", 7), ...mvtec("cable/", 3), "readme.txt", "license/x.txt"], (root) => {
    const parts = scanDataset(root);
    assert.deepEqual(parts.map(({ name }) => name), ["cable", "wood"]);
    const [, wood] = parts, [crack] = wood.defects;
    assert.deepEqual([wood.good.length, wood.testGood.length, crack.pairs.length], [2, 1, 7]);
    assert.deepEqual(crack.train.map(({ stem }) => stem), ["000", "001"]);
    assert.deepEqual(crack.test.map(({ stem }) => stem), ["002", "003", "004", "005", "006"]);
    assert.deepEqual(basename(crack.pairs[3].mask), "003_mask.png");
    assert.deepEqual(scanDataset(root, { parts: ["wood"] }).map(({ name }) => name), ["wood"]);
    refused(root, /no part steel/, { parts: ["steel", "wood"] });
    refused(root, /no defect dent/, { defects: ["crack", "dent"] });
  }));

Deno.test("data set: pictures of other formats are told in one line, also where they are why something is missing", () =>
  withFiles(
    [...mvtec("", 4), "test/crack/x.TIF", "ground_truth/crack/x.tif", "train/good/y.webp", "notes.tif"],
    (root) => {
      const lines: string[] = [], note = (line: string) => void lines.push(line);
      assert.equal(scanDataset(root, { note })[0].defects[0].pairs.length, 4);
      assert.deepEqual(lines.splice(0), [
        `warning: ${root}: files are passed over that cannot be read: 1 .webp, 2 .tif; convert them to PNG`,
      ]);
      for (const n of numbers(2)) {
        Deno.renameSync(join(root, `train/good/${n}.png`), join(root, `train/good/${n}.tiff`));
      }
      refused(root, /no good images/, { note });
      assert.match(lines.join(), /: 1 \.webp, 2 \.tiff; convert them to PNG$/);
      assert.throws(() => scanDataset(root), /no good images/);
    },
  ));

Deno.test("data set: the official split trains on one test image more", () =>
  withFiles(mvtec("", 7), (root) => {
    const [{ name, defects: [crack] }] = scanDataset(root, { officialSplit: true });
    assert.equal(name, basename(root));
    assert.deepEqual(crack.train.map(({ stem }) => stem), ["000", "001", "002"]);
    assert.equal(crack.test[0].stem, "002");
  }));

Deno.test("data set: all pairs are learned from where that is asked for, one alone too", () =>
  withFiles(mvtec("", 4), (root) => {
    const [{ defects: [crack] }] = scanDataset(root, { allPairs: true });
    assert.deepEqual(crack.train.map(({ stem }) => stem), ["000", "001", "002", "003"]);
    assert.deepEqual(crack.test, []);
    for (const n of numbers(4).slice(1)) {
      Deno.removeSync(join(root, `test/crack/${n}.png`));
      Deno.removeSync(join(root, `ground_truth/crack/${n}_mask.png`));
    }
    refused(root, /only one image/);
    assert.equal(scanDataset(root, { allPairs: true })[0].defects[0].train.length, 1);
  }));

Deno.test("data set: the split is disjoint and whole for every count; MVTec's bottle has 43 test images", () => {
  assert.equal([20, 22, 21].reduce((sum, count) => sum + count - trainCount(count), 0), 43);
  for (let count = 2; count < 50; count++) {
    const train = trainCount(count);
    assert.ok(train >= 1 && train < count && (count < 3 || train === Math.floor(count / 3)));
    assert.equal(trainCount(count, true), Math.floor(count / 3) + 1);
  }
});

Deno.test("data set: free names are sorted by number, pairs found by stem whatever the ending", () =>
  withFiles([
    "good/a b.jpg",
    "scratch/shot 10.png",
    "scratch/shot 2.png",
    "scratch/Bild.BMP.png",
    "masks/scratch/shot 10.png",
    "masks/scratch/shot 2_mask.png",
    "masks/scratch/Bild.BMP.png",
    "scratch/notes.txt",
    "scratch/.hidden.png",
  ], (root) => {
    const [{ good, defects: [scratch] }] = scanDataset(root);
    assert.deepEqual(good.map((path) => basename(path)), ["a b.jpg"]);
    assert.deepEqual(scratch.pairs.map(({ stem }) => stem), ["Bild.BMP", "shot 2", "shot 10"]);
    assert.deepEqual(scratch.pairs.map((pair) => basename(pair.mask)), [
      "Bild.BMP.png",
      "shot 2_mask.png",
      "shot 10.png",
    ]);
  }));

Deno.test("data set: two images of one name, which would share a mask and part at the split, are refused", () =>
  withFiles([...mvtec("", 4), "test/crack/002.bmp"], (root) => {
    refused(root, /crack\/002\.bmp and 002\.png would share one mask$/);
    assert.equal(scanDataset(root, { goodOnly: true }).length, 1);
  }));

Deno.test("data set: what is no mask may lie among the masks", () => {
  const others = ["Thumbs.db", ".DS_Store", "notes.txt", "000.json", "._009_mask.png", "old/009_mask.png", "000.png"];
  const among = [...mvtec("", 4), ...others.map((name) => `ground_truth/crack/${name}`), "ground_truth/good/000.png"];
  return withFiles(among, (root) => {
    const [{ defects: [crack, ...more] }] = scanDataset(root);
    assert.deepEqual([crack.pairs.length, more.length], [4, 0]);
    assert.equal(basename(crack.pairs[0].mask), "000_mask.png"); // 000.png may be a copy of the image
  });
});

Deno.test("data set: masks may lie beside the images", () =>
  withFiles(["good/0.png", ..."012".split("").flatMap((n) => [`dent/${n}.png`, `dent/${n}_mask.png`])], (root) => {
    const [{ defects: [dent] }] = scanDataset(root);
    assert.deepEqual(dent.pairs.map(({ stem, mask }) => [stem, basename(mask)]), [
      ["0", "0_mask.png"],
      ["1", "1_mask.png"],
      ["2", "2_mask.png"],
    ]);
  }));

Deno.test("data set: only normal images, where nothing else is asked", () =>
  withFiles(["good/0.png", "good/1.png"], (root) => {
    assert.equal(scanDataset(root, { goodOnly: true })[0].good.length, 2);
    refused(root, /no defect folder/);
    assert.equal(listImages(join(root, "good")).length, 2);
  }));

Deno.test("data set: each mistake is said in one line", async () => {
  await withFiles(["x/y/0.png"], (root) => {
    refused(join(root, "gone"), /gone: not a folder/);
    refused(join(root, "x", "y", "0.png"), /0\.png: not a folder/);
    refused(root, /not a data set in MVTec layout/);
  });
  const without = (pattern: RegExp) => mvtec("", 4).filter((path) => !pattern.test(path));
  await withFiles([...without(/train/), "train/good/readme.txt"], (root) => refused(root, /no good images/));
  await withFiles(without(/ground_truth/), (root) => refused(root, /crack: the defect has no masks/));
  await withFiles(without(/002_mask/), (root) => refused(root, /002\.png: no mask/));
  // Without its image a mask would make the first third another one.
  const orphan = (path: string) => new RegExp(`${path}: no image$`);
  await withFiles(without(/test.crack.001/), (root) => refused(root, orphan("ground_truth/crack/001_mask\\.png")));
  await withFiles(
    [...mvtec("", 4), "ground_truth/crack/003.bmp.png"],
    (root) => refused(root, orphan("/003\\.bmp\\.png")),
  );
  const beside = ["good/0.png", "dent/0.png", "dent/0_mask.png", "dent/1.png", "dent/1_mask.png", "dent/2_mask.png"];
  await withFiles(beside, (root) => refused(root, orphan("dent/2_mask\\.png")));
  await withFiles(mvtec("", 1), (root) => refused(root, /crack: the defect has only one image/));
  await withFiles([...without(/test.crack/), "test/crack/readme.txt"], (root) => refused(root, /crack: no images/));
  await withFiles(mvtec("", 3), (root) => {
    const small = toPng({ width: 2, height: 3, channels: 1, data: new Uint8Array(6).fill(1) });
    Deno.writeFileSync(join(root, "ground_truth/crack/001_mask.png"), small);
    refused(root, /001_mask\.png: the mask has 2×3 pixels, its image 4×3/);
  });
  // What is not asked for may be faulty.
  await withFiles([...mvtec("wood/", 3), "wood/test/dent/0.png", ...mvtec("cable/", 1)], (root) => {
    const [{ name, defects }, ...others] = scanDataset(root, { parts: ["wood"], defects: ["crack"] });
    assert.deepEqual([name, defects.map(({ name }) => name), others], ["wood", ["crack"], []]);
    refused(root, /dent: the defect has no masks/, { parts: ["wood"] });
    refused(root, /crack: the defect has only one image/, { defects: ["crack"] });
  });
});

Deno.test("data set: a pair is decoded, an empty mask refused", () =>
  withFiles(mvtec("", 3), async (root) => {
    const [{ defects: [crack] }] = scanDataset(root);
    const pair = await loadPair(crack.train[0]);
    assert.deepEqual([pair.image.data[0], pair.mask.data[5], pair.mask.data[4]], [90, 1, 0]);
    Deno.writeFileSync(crack.pairs[1].mask, toPng({ width: 4, height: 3, channels: 1, data: new Uint8Array(12) }));
    await assert.rejects(loadPair(crack.pairs[1]), /001_mask\.png: the mask is empty/);
    Deno.writeFileSync(crack.pairs[2].mask, toPng({ width: 1, height: 1, channels: 1, data: Uint8Array.of(1) }));
    await assert.rejects(loadPair(crack.pairs[2]), /1×1 pixels, its image 4×3/);
  }));
