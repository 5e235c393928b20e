/** The `baseline` command: layout, manifest, repeatability, resume, textures, learned presets, and mistakes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeEmbedding } from "../../src/anomaly/embedding.ts";
import { type Image, loadImage, loadMask, savePng } from "../../src/data/image.ts";
import type { BaselineRecord } from "../../tasks/jobs/baseline.ts";
import type { ManifestRecord } from "../../tasks/jobs/pairs.ts";
import { exists, Workshop } from "../end_to_end/program.ts";
import { TINY_PARTS } from "../support/tiny_data.ts";

const shop = new Workshop();
const KINDS = Object.entries(TINY_PARTS).flatMap(([part, { defects }]) => defects.map((d) => `${part}+${d}`));

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

function manifest<T = BaselineRecord>(folder: string): T[] {
  return Deno.readTextFileSync(shop.file(folder, "manifest.jsonl")).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
}

/** Everything of a run but its config, which names how much was asked for. */
const products = (folder: string) => shop.contents(folder, (path) => !path.endsWith("config.json"));

test("pairs in MVTec layout: the manifest's files, its source outside the mask, the same bytes again", async () => {
  await shop.good("baseline --method crop-paste --data @data --count 3 --seed 4 --out @crop");
  const records = manifest("crop");
  assert.deepEqual(
    records.map((r) => `${r.part}+${r.defect} ${r.index}`),
    KINDS.flatMap((k) => [0, 1, 2].map((i) => `${k} ${i}`)),
  );
  for (const record of records) {
    const [image, mask, source] = await Promise.all([
      loadImage(shop.file("crop", record.image)),
      loadMask(shop.file("crop", record.mask)),
      loadImage(shop.file("data", record.source)),
    ]);
    assert.deepEqual([image.width, image.height], [source.width, source.height]);
    source.data.forEach((v, k) => assert.ok(mask.data[Math.floor(k / 3)] || image.data[k] === v, record.image));
    assert.ok(record.figures.changeInside > 0.02 && record.figures.changeOutside === 0, record.image);
    // Cut from one of the two pairs that may be learnt from.
    assert.match(record.maskSource, new RegExp(`^${record.part}/ground_truth/${record.defect}/00[01]_mask.png$`));
  }
  await shop.good("baseline --method crop-paste --data @data --count 3 --seed 4 --out @crop-again");
  assert.deepEqual(products("crop-again"), products("crop"));
  await shop.good("baseline --method crop-paste --data @data --count 3 --seed 5 --out @crop-other");
  assert.notDeepEqual(products("crop-other"), products("crop"));
});

test("a run that is resumed for more, or killed, leaves the bytes of one that was not", async () => {
  const line = "baseline --method draem --data @data --part weave --seed 1";
  await shop.good(`${line} --count 4 --out @whole`);
  await shop.good(`${line} --count 2 --out @more`);
  await shop.good("baseline --out @more --resume --count 4");
  assert.deepEqual(products("more"), products("whole"));
  for (const n of [5, 11]) {
    assert.ok(await shop.runUntilWrite(n, `${line} --count 4 --out @killed-${n}`), `did not die at write ${n}`);
    await shop.good(
      `${line} --count 4 --out @killed-${n}${exists(shop.file(`killed-${n}/config.json`)) ? " --resume" : ""}`,
    );
    assert.deepEqual(products(`killed-${n}`), products("whole"), `killed at write ${n}`);
  }
});

test("draem takes its textures from a folder and keeps to the opacity asked for", async () => {
  const folder = shop.file("textures", "inner");
  Deno.mkdirSync(folder, { recursive: true });
  const texture: Image = { width: 8, height: 8, channels: 3, data: new Uint8ClampedArray(192).map((_, i) => 31 * i) };
  savePng(join(folder, "a.png"), texture);
  await shop.good(
    "baseline --method draem --data @data --defect dent --count 3 --textures @textures --min-opacity 0.9 --out @textured",
  );
  for (const { details, settings } of manifest("textured")) {
    assert.equal(details.texture, "inner/a.png");
    assert.ok(Number(details.opacity) >= 0.9);
    assert.deepEqual(settings, { onPart: false, opacity: [0.9, 1] });
  }
});

test("--on-part keeps most of each anomaly on the plate; every method draws into the same normal images", async () => {
  const sources = new Set<string>();
  for (const method of ["cutpaste", "cutpaste-scar", "prn"]) {
    await shop.good(`baseline --method ${method} --data @data --part plate --count 4 --on-part --out @on-${method}`);
    const records = manifest(`on-${method}`);
    sources.add(records.map((r) => r.source).join());
    for (const record of records) {
      const { data, width, height } = await loadMask(shop.file(`on-${method}`, record.mask));
      let on = 0, all = 0;
      data.forEach((v, i) => {
        const x = i % width, y = Math.floor(i / width);
        all += v;
        if (x >= 4 && y >= 3 && x < width - 4 && y < height - 3) on += v; // the plate and one pixel around it
      });
      assert.ok(on / all >= 0.58, `${record.mask} of ${method}: ${on / all}`);
    }
  }
  assert.equal(sources.size, 1);
});

test("the presets learn tokens without a spatial encoder, draw into the same images, and go on from them", async () => {
  const learning = "--max-train-steps 4 --train-batch-size 2 --checkpointing-steps 2 --num-vectors 2";
  const borrowing = "--data @data --part weave --count 2 --model @model --steps 3", line = `${borrowing} ${learning}`;
  await shop.good(`baseline --method textual-inversion ${line} --out @inversion`);
  await shop.good(`baseline --method blended-diffusion ${line} --out @blended`);
  const [plain, masked] = ["inversion", "blended"].map((folder) => {
    const file = shop.file(folder, "embeddings.safetensors");
    return decodeEmbedding(Deno.readFileSync(file), file);
  });
  assert.deepEqual([plain.spatial, plain.tokens, plain.keys], [
    undefined,
    2,
    ["weave+good", "weave+hole", "weave+stain"], // and the surface, from which all methods that learn are guided
  ]);
  assert.notDeepEqual(plain.table, masked.table); // the masked loss makes the difference
  const records = manifest<ManifestRecord>("inversion");
  assert.equal(records.length, 4);
  for (const { figures, settings } of records) {
    assert.equal(figures.changeOutside, 0);
    assert.equal(settings.reweighting, "off");
  }
  await shop.good("baseline --method draem --data @data --part weave --count 2 --out @same");
  assert.deepEqual(manifest("same").map((r) => r.source), records.map((r) => r.source));
  // With the tokens of the first run nothing is learned, and the pairs are its own.
  await shop.good(`baseline --method textual-inversion ${borrowing} --train-run @inversion --out @borrowed`);
  assert.ok(!exists(shop.file("borrowed/embeddings.safetensors")));
  const pairs = (folder: string) => shop.contents(folder, (path) => path.endsWith(".png"));
  assert.deepEqual(pairs("borrowed"), pairs("inversion"));
  // Prompt-to-Prompt draws with the same tokens, but their attention follows the mask.
  await shop.good(`baseline --method prompt-to-prompt ${borrowing} --train-run @inversion --out @replaced`);
  assert.ok(manifest<ManifestRecord>("replaced").every(({ settings }) => settings.reweighting === "replace"));
  assert.notDeepEqual(pairs("replaced"), pairs("inversion"));
  // The paper's ablation without the spatial embedding: masked tokens, and attention re-weighting.
  await shop.good(`baseline --method no-spatial ${borrowing} --train-run @blended --out @no-spatial`);
  assert.ok(manifest<ManifestRecord>("no-spatial").every(({ settings }) => settings.reweighting === "official"));
  assert.notDeepEqual(pairs("no-spatial"), pairs("blended"));
  const idle = await shop.run(`baseline --method no-spatial ${line} --train-run @blended --out @idle`);
  assert.equal(idle.code, 2);
  assert.match(idle.err, /--max-train-steps goes without --train-run/);
  await shop.good("baseline --out @inversion --resume --count 3");
  assert.equal(manifest("inversion").length, 6);
});

test("train --no-masked-loss learns from the whole picture, the baselines from fewer copies where asked", async () => {
  const line = "--data @data --part weave --model @model --max-train-steps 3 --train-batch-size 2 --augmented-copies 2";
  await shop.good(`train ${line} --validation-steps 0 --out @masked`);
  await shop.good(`train ${line} --validation-steps 0 --no-masked-loss --out @unmasked`);
  const read = (folder: string) => {
    const file = shop.file(folder, "embeddings.safetensors");
    return decodeEmbedding(Deno.readFileSync(file), file);
  };
  assert.ok(read("unmasked").spatial);
  assert.notDeepEqual(read("unmasked").table, read("masked").table);
  const { err } = await shop.good(`baseline --method no-spatial ${line} --count 1 --steps 2 --out @few`);
  assert.match(err, /encoding: 8 views/); // two kinds, two pairs each, two copies
});

test("mistakes: one line each, and nothing is written", async () => {
  const cases: [line: string, message: RegExp][] = [
    ["--method cutpast --data @data", /--method is one of [^]*did you mean cutpaste\?/],
    ["--data @data", /missing --method/],
    ["--method draem --data @data --textures @nowhere", /nowhere: no such folder of textures/],
    ["--method draem --data @data --textures @model", /model holds no images/],
    ["--method draem --data @data --min-opacity 0.8 --max-opacity 0.3", /--min-opacity 0.8 is above --max-opacity 0.3/],
    [
      "--method cutpaste --data @data --textures @data",
      /--textures goes with --method draem or prn\n.*--method cutpaste/,
    ],
    ["--method draem --data @data --steps 50", /--steps goes with --method textual-inversion, .* or no-spatial\n/],
    ["--method draem --data @data --model @model", /--model goes with --method textual-inversion/],
    ["--method no-spatial --data @data --model @model --sampler dpm++2m --eta 1", /--eta goes with --sampler ddim\n/],
    ["--method no-spatial --data @data --model @model --on-part", /--on-part goes with --method crop-paste, cutpaste/],
    ["--method prn --data @data --defect rust", /no defect rust/],
    ["--method textual-inversion --data @data --model @model --train-run @nowhere", /nowhere[^]* is missing/],
  ];
  for (const [line, message] of cases) {
    const { code, err } = await shop.run(`baseline ${line} --out @wrong`);
    assert.ok(code === 1 || code === 2, `${line}: ${code}`);
    assert.match(err, message);
    assert.ok(err.replace(/^learning from .*\n/, "").trimEnd().split("\n").length <= 2, err);
    assert.ok(!exists(shop.file("wrong")), `${line} left a folder`);
  }
});
