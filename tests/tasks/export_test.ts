/** The `export` command: every layout holds what its tool looks for, exactly; the split; resume; and mistakes. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { basename, dirname } from "node:path";
import { loadMask, savePng } from "../../src/data/image.ts";
import type { BaselineRecord } from "../../tasks/jobs/baseline.ts";
import { exists, Workshop } from "../end_to_end/program.ts";
import { paintCentres, paintRle, paintWhole } from "../export/painters.ts";
import { TINY_PARTS, tinyMask } from "../support/tiny_data.ts";

const shop = new Workshop();
const KINDS = Object.entries(TINY_PARTS).flatMap(([part, { defects }]) => defects.map((d) => `${part}+${d}`));
await shop.good("baseline --method crop-paste --data @data --count 6 --seed 2 --out @pairs");

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

const text = (...path: string[]) => Deno.readTextFileSync(shop.file(...path));
const files = (folder: string) => Object.keys(shop.contents(folder)).filter((path) => path !== "config.json").sort();
const records = (): BaselineRecord[] =>
  text("pairs/manifest.jsonl").trimEnd().split("\n").map((line) => JSON.parse(line));

/** The pair that an image of the flat layouts is. */
function recordOf(file: string): BaselineRecord {
  const [part, defect, name] = file.split("__");
  return records().find((r) => r.part === part && r.defect === defect && r.image.endsWith(`/${name}`))!;
}

interface Coco {
  readonly categories: { id: number; name: string; supercategory: string }[];
  readonly images: { id: number; file_name: string; width: number; height: number }[];
  readonly annotations: {
    image_id: number;
    category_id: number;
    // deno-lint-ignore no-explicit-any
    segmentation: any;
    area: number;
    bbox: number[];
  }[];
}

test("anomalib: MVTec's folders, masks by the names of their images, normal images to learn from", async () => {
  const { out } = await shop.good("export --pairs @pairs --format anomalib --out @anomalib");
  assert.match(out, /anomalib, train 8 images, test 26 images with 24 defects/);
  const expected: string[] = [];
  for (const [part, { defects }] of Object.entries(TINY_PARTS)) {
    for (let i = 0; i < 4; i++) expected.push(`${part}/train/good/00000${i}.png`);
    expected.push(`${part}/test/good/000000.png`);
    for (const defect of defects) {
      for (let i = 0; i < 6; i++) {
        expected.push(`${part}/test/${defect}/00000${i}.png`, `${part}/ground_truth/${defect}/00000${i}_mask.png`);
      }
    }
  }
  assert.deepEqual(files("anomalib"), expected.sort());
  const bytes = shop.contents("anomalib"), from = shop.contents("pairs");
  for (const { part, defect, index, image, mask } of records()) {
    assert.equal(bytes[`${part}/test/${defect}/00000${index}.png`], from[image]);
    assert.equal(bytes[`${part}/ground_truth/${defect}/00000${index}_mask.png`], from[mask]);
  }
  assert.equal(bytes["plate/train/good/000002.png"], shop.contents("data")["plate/train/good/002.png"]);
});

test("coco: categories, images and regions, whose polygons or run lengths are the masks", async () => {
  for (const form of ["polygon", "rle"] as const) {
    await shop.good(`export --pairs @pairs --format coco --segmentation ${form} --val-share 0.25 --out @coco-${form}`);
    const sources = { train: new Set<string>(), val: new Set<string>() }, seen = new Set<string>();
    for (const split of ["train", "val"] as const) {
      const { categories, images, annotations }: Coco = JSON.parse(
        text(`coco-${form}/annotations/instances_${split}.json`),
      );
      assert.deepEqual(categories.map(({ name }) => name), KINDS);
      assert.deepEqual(categories[2], { id: 3, name: "weave+hole", supercategory: "weave" });
      assert.ok(images.length > 0, `nothing in ${split}`);
      for (const { id, file_name, width, height } of images) {
        assert.ok(exists(shop.file(`coco-${form}`, split, file_name)));
        const record = recordOf(file_name), mask = await loadMask(shop.file("pairs", record.mask));
        assert.deepEqual([width, height], [mask.width, mask.height]);
        sources[split].add(record.source);
        seen.add(record.image);
        const painted = new Uint8Array(mask.data.length);
        for (const { category_id, segmentation, area, bbox } of annotations.filter((one) => one.image_id === id)) {
          assert.equal(categories[category_id - 1].name, `${record.part}+${record.defect}`);
          if (form === "rle") assert.deepEqual(segmentation.size, [height, width]);
          const region = form === "rle"
            ? paintRle(segmentation.counts, width, height)
            : paintCentres(segmentation[0], width, height);
          let pixels = 0;
          region.forEach((v, i) => {
            pixels += v;
            painted[i] |= v;
            const x = i % width - bbox[0], y = Math.floor(i / width) - bbox[1];
            assert.ok(!v || (x >= 0 && y >= 0 && x < bbox[2] && y < bbox[3]));
          });
          assert.equal(pixels, area);
        }
        assert.deepEqual(painted, mask.data, file_name); // intersection over union 1
      }
    }
    assert.equal(seen.size, 24);
    for (const source of sources.val) assert.ok(!sources.train.has(source), `${source} is in train and val`);
  }
});

test("yolo-seg: labels beside images, classes of data.yaml; normal images have empty labels and keep to their split", async () => {
  await shop.good("export --pairs @pairs --format yolo-seg --part weave --normals 3 --val-share 0.4 --out @yolo");
  assert.equal(
    text("yolo/data.yaml"),
    'train: images/train\nval: images/val\nnames:\n  0: "weave+hole"\n  1: "weave+stain"\n',
  );
  const all = files("yolo"), images = all.filter((path) => path.startsWith("images/"));
  assert.equal(images.length, 12 + 3);
  assert.equal(all.length, 2 * images.length + 1);
  const splits = new Map<string, string>();
  for (const path of images) {
    const [, split, name] = path.split("/"),
      label = text("yolo", path.replace("images", "labels").replace(/\.png$/, ".txt"));
    if (name.includes("__good__")) {
      assert.equal(label, "");
      splits.set(`weave/train/good/00${name.at(-5)}.png`, split);
      continue;
    }
    const record = recordOf(name), mask = await loadMask(shop.file("pairs", record.mask));
    const painted = new Uint8Array(mask.data.length);
    for (const line of label.trimEnd().split("\n")) {
      const [index, ...values] = line.split(" ").map(Number);
      assert.equal(["hole", "stain"][index], record.defect);
      paintWhole(values, mask.width, mask.height).forEach((v, i) => painted[i] |= v);
    }
    assert.deepEqual(painted, mask.data, name);
  }
  for (const path of images.filter((path) => !path.includes("__good__"))) {
    const [, split, name] = path.split("/"), { source } = recordOf(name);
    assert.ok(!splits.has(source) || splits.get(source) === split, `${name} and its source are apart`);
  }
});

test("--controls: normal images in the split of their pairs, named by them, in every layout", async () => {
  // Each source stands for the control of its pair. The first pair has none, and of a refused pair none was made.
  const all = records().map((record, i) => ({
    ...record,
    control: i ? `${record.part}/train/good/${record.defect}-000${record.index}.png` : undefined,
    accepted: i !== 9,
  }));
  const taken = all.filter(({ control, accepted }) => control && accepted);
  for (const part of Object.keys(TINY_PARTS)) {
    await Deno.mkdir(shop.file("controlled", part, "train/good"), { recursive: true });
    for (const kind of ["test", "ground_truth"]) {
      await Deno.symlink(shop.file("pairs", part, kind), shop.file("controlled", part, kind));
    }
  }
  for (const { control, source } of taken) {
    await Deno.copyFile(shop.file("data", source), shop.file("controlled", control!));
  }
  const lines = all.map((record) => `${JSON.stringify(record)}\n`);
  await Deno.writeTextFile(shop.file("controlled/manifest.jsonl"), lines.join(""));
  const line = "export --pairs @controlled --data @data --val-share 0.3 --seed 3", sources = shop.contents("data");

  const { out, err } = await shop.good(`${line} --format anomalib --controls --out @anomalib-controls`);
  assert.match(err, /^1 of 23 pairs have no control$/m);
  assert.match(out, /anomalib, train 8 images, test 47 images with 23 defects/);
  const mvtec = shop.contents("anomalib-controls"), from = shop.contents("pairs");
  assert.equal(files("anomalib-controls").filter((path) => path.includes("/test/good/control-")).length, 22);
  for (const { part, defect, image, source } of taken) {
    const pair = files("anomalib-controls").find((path) => path.includes("/test/") && mvtec[path] === from[image])!;
    assert.ok(pair.startsWith(`${part}/test/${defect}/`));
    assert.equal(mvtec[pair.replace(`/${defect}/`, `/good/control-${defect}-`)], sources[source]);
  }

  for (const format of ["coco", "yolo-seg"]) {
    const folder = `${format}-controls`;
    await shop.good(`${line} --format ${format} --normals 4 --controls --out @${folder}`);
    const written = shop.contents(folder), images = files(folder).filter((path) => path.endsWith(".png"));
    assert.equal(images.filter((path) => path.includes("__control__")).length, 22);
    assert.equal(images.length, 23 + 22 + 2 * 4);
    const find = (name: string) => images.find((path) => path.endsWith(`/${name}.png`))!;
    for (const { part, defect, index, source } of taken) {
      const control = find(`${part}__control__${defect}-000${index}`), split = dirname(control);
      assert.equal(written[control], sources[source]);
      assert.equal(dirname(find(`${part}__${defect}__000${index}`)), split, `${control} and its pair are apart`);
      assert.equal(dirname(find(`${part}__good__000${basename(source, ".png")}`)), split, `${control}: its source`);
      if (format === "yolo-seg") assert.equal(written[control.replace("images", "labels").replace("png", "txt")], "");
    }
    if (format === "yolo-seg") continue;
    for (const split of ["train", "val"]) {
      const { images, annotations }: Coco = JSON.parse(text(folder, `annotations/instances_${split}.json`));
      const drawn = images.filter(({ file_name }) => file_name.includes("__control__"));
      assert.ok(drawn.length > 0 && drawn.every(({ id }) => annotations.every(({ image_id }) => image_id !== id)));
    }
  }
});

test("a killed export goes on to the same bytes; pairs that changed since are not mixed", async () => {
  const line = "export --pairs @pairs --format yolo-seg --seed 5";
  await shop.good(`${line} --out @whole`);
  for (const n of [9, 40]) {
    assert.ok(await shop.runUntilWrite(n, `${line} --out @killed-${n}`));
    await shop.good(`${line} --out @killed-${n} --resume`);
    assert.deepEqual(shop.products(`killed-${n}`), shop.products("whole"));
  }
  await shop.good("baseline --method crop-paste --data @data --count 2 --seed 2 --out @few");
  await shop.good("export --pairs @few --format coco --val-share 0 --out @flat");
  assert.equal(JSON.parse(text("flat/annotations/instances_val.json")).images.length, 0);
  await Deno.remove(shop.file("few/manifest.jsonl"));
  for (const kind of ["test", "ground_truth"]) {
    await Deno.remove(shop.file("few/plate", kind, "dent"), { recursive: true });
  }
  const { code, err } = await shop.run("export --pairs @few --format coco --val-share 0 --resume --out @flat");
  assert.equal(code, 1);
  assert.match(err, /flat holds train\/plate__dent__000\d\.png, which is none of these pairs any more\n.*--overwrite/);
  await shop.good("export --pairs @few --format coco --val-share 0 --overwrite --out @flat");
});

test("pairs that the gate refused are left out", async () => {
  await Deno.mkdir(shop.file("refused"));
  const lines = records().map((record) => JSON.stringify({ ...record, accepted: record.index !== 3 }) + "\n");
  await Deno.writeTextFile(shop.file("refused/manifest.jsonl"), lines.join(""));
  for (const part of Object.keys(TINY_PARTS)) await Deno.symlink(shop.file("pairs", part), shop.file("refused", part));
  const { out } = await shop.good("export --pairs @refused --format yolo-seg --out @accepted");
  assert.match(out, /yolo-seg/);
  assert.equal(files("accepted").filter((path) => path.startsWith("images/")).length, 4 * 5);
  assert.ok(!files("accepted").some((path) => path.endsWith("__0003.png")));
});

test("mistakes: one line each, and nothing is written", async () => {
  await Deno.mkdir(shop.file("bare/plate"), { recursive: true });
  for (const kind of ["test", "ground_truth"]) {
    await Deno.symlink(shop.file("few/plate", kind), shop.file("bare/plate", kind));
  }
  cpSync(shop.file("pairs"), shop.file("odd"), { recursive: true });
  savePng(shop.file("odd/plate/ground_truth/dent/0003_mask.png"), tinyMask("weave", "hole", 0));
  const cases: [line: string, message: RegExp][] = [
    ["--pairs @pairs", /missing --format/],
    ["--pairs @odd --format coco", /dent\/0003_mask\.png: the mask has 50×44 pixels, its image 40×36/],
    [
      "--pairs @pairs --format yolo",
      /--format is one of anomalib, coco, yolo-seg, not "yolo"\n.*did you mean yolo-seg\?/,
    ],
    ["--pairs @model --format coco", /model: no generated pairs/],
    ["--pairs @nowhere --format coco", /nowhere: no generated pairs/],
    ["--pairs @pairs --format coco --part glass", /no pairs of part glass/],
    ["--pairs @pairs --format coco --val-share 1", /--val-share is 0 to 0.9/],
    [
      "--pairs @bare --format anomalib",
      /anomalib learns from normal images, and the pairs' data set is not where it was/,
    ],
    ["--pairs @bare --format coco --normals 2", /normal images were asked for/],
    ["--pairs @pairs --format coco --controls", /pairs: no pair has a control\n.*generate --controls/],
    ["--pairs @pairs --format anomalib --data @bare", /bare/],
  ];
  for (const [line, message] of cases) {
    const { code, err } = await shop.run(`export ${line} --out @wrong`);
    assert.ok(code === 1 || code === 2, `${line}: ${code}\n${err}`);
    assert.match(err, message);
    assert.ok(err.trimEnd().split("\n").length <= 2, err);
    assert.doesNotMatch(err, /fault of the program/);
    assert.ok(!exists(shop.file("wrong")), `${line} left a folder`);
  }
  const { err } = await shop.run("evaluate --pairs @odd --data @data --out @wrong");
  assert.match(err, /dent\/0003_mask\.png: the mask has 50×44 pixels, its image 40×36/);
});
