/**
 * The commands after one another on the tiny model: what is written and where, that it is right, and that it depends on
 * the seed and the index alone.
 */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { binaryMask, loadImage, loadMask, savePng, toPng } from "../../src/data/image.ts";
import type { ManifestRecord } from "../../tasks/jobs/pairs.ts";
import { featherMask } from "../../src/anomaly/paste.ts";
import { decodeEmbedding } from "../../src/anomaly/embedding.ts";
import { listImages } from "../../src/data/mvtec.ts";
import { TINY_PAIRS, TINY_PARTS, tinyMask } from "../support/tiny_data.ts";
import { DUPLICATE } from "../../src/inspection/metrics/pairs.ts";
import { exists, Workshop } from "./program.ts";

const shop = new Workshop();
const KINDS = Object.entries(TINY_PARTS).flatMap(([part, { defects }]) => defects.map((defect) => ({ part, defect })));

/** Only the first two pairs of six may be learnt from: the pixels of the others are made unreadable, their headers kept. */
for (const { part, defect } of KINDS) {
  for (let i = TINY_PAIRS / 3; i < TINY_PAIRS; i++) {
    for (const path of [`test/${defect}/00${i}.png`, `ground_truth/${defect}/00${i}_mask.png`]) {
      const bytes = Deno.readFileSync(shop.file("data", part, path));
      Deno.writeFileSync(shop.file("data", part, path), bytes.fill(0x55, 33));
    }
  }
}
await Deno.writeFile(shop.file("data/plate/test/good/000.png"), new Uint8Array(10));

const TRAIN = "train --data @data --model @model --max-train-steps 6 --train-batch-size 2 --augmented-copies 2";
const TRAIN_MASKS =
  "train-masks --data @data --model @model --max-train-steps 6 --train-batch-size 2 --augmented-copies 2";
const MASKS = "generate-masks --data @data --model @model --masks-run @mask-run --steps 3 --count 4 " +
  "--batch-size 4";
const PAIRS = "generate --data @data --model @model --train-run @run --steps 3 --masks @masks " +
  "--no-colour-check"; // a random model has colours of its own

/** Runs a test on the folder that all tests share. */
function test(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

/** Records of a run's manifest. */
function manifest(folder: string): ManifestRecord[] {
  return Deno.readTextFileSync(shop.file(folder, "manifest.jsonl")).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
}

/** Image files of a run. */
const pictures = (folder: string) => shop.contents(folder, (path) => /[.](png|jpg)$/.test(path));

test("train leaves embeddings, an encoder, losses, pictures and checkpoints, and reads no test image", async () => {
  const options = "--checkpointing-steps 2 --validation-steps 4 --num-validation-images 1";
  await shop.good(`${TRAIN} ${options} --out @run`);
  const file = shop.file("run/embeddings.safetensors");
  const { keys, tokens, width, table, spatial } = decodeEmbedding(Deno.readFileSync(file), file);
  // The parts' surfaces too, from which pairs are guided away.
  const learned = [
    ...KINDS.map(({ part, defect }) => `${part}+${defect}`),
    ...Object.keys(TINY_PARTS).map((part) => `${part}+good`),
  ];
  assert.deepEqual(keys, learned.sort());
  assert.deepEqual([tokens, width, spatial?.config.tokens], [8, 32, 4]);
  assert.ok(table.every(Number.isFinite) && new Set(table).size > table.length / 2);
  const lines = Deno.readTextFileSync(shop.file("run/loss.jsonl")).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
  assert.deepEqual(lines.map(({ step }) => step), [2, 4, 6]);
  assert.ok(lines.every(({ loss }) => loss > 0 && loss < 100), JSON.stringify(lines));
  assert.deepEqual([...Deno.readDirSync(shop.file("run/checkpoints"))].map(({ name }) => name).sort(), [
    "00000004.ckpt",
    "00000006.ckpt",
  ]);
  assert.equal(JSON.parse(Deno.readTextFileSync(shop.file("run/config.json")))["max-train-steps"], 6);
  assert.equal(exists(shop.file("run/.lock")), false);
  const sheet = await loadImage(shop.file("run/validation/step-000004.png"));
  assert.ok(sheet.width >= 3 * 32 && sheet.height >= KINDS.length * 32); // source, mask and result of each kind
});

test("train-masks leaves embeddings without an encoder", async () => {
  await shop.good(`${TRAIN_MASKS} --out @mask-run`);
  const file = shop.file("mask-run/embeddings.safetensors");
  const { keys, tokens, spatial } = decodeEmbedding(Deno.readFileSync(file), file);
  assert.deepEqual([keys.length, tokens, spatial], [KINDS.length, 4, undefined]);
});

test("--memory: what learns or samples keeps to it, or says in one line that it cannot", async () => {
  const inversion = "baseline --method textual-inversion --data @data --model @model --count 1 --max-train-steps 2 " +
    "--train-batch-size 2 --augmented-copies 1 --steps 2";
  for (const line of [TRAIN_MASKS, MASKS, inversion]) {
    const { code, err } = await shop.run(`${line} --memory 1MiB --out @too-small`);
    assert.equal(code, 1, line);
    assert.match(err, /one image at a time needs \d+ MiB of device memory, there are 1 MiB/);
  }
  await shop.good(`${MASKS} --memory 1GiB --out @masks-within`);
  await shop.good(`${MASKS} --out @masks-free`);
  assert.deepEqual(pictures("masks-within"), pictures("masks-free"));
});

test("generate-masks makes the count asked for, binary, not empty, at the model's size", async () => {
  const { err } = await shop.good(`${MASKS} --out @masks`);
  assert.match(err, /masks: 16 masks in .* \d+ (empty|too small|off the part)/); // some were refused, and replaced
  assert.doesNotMatch(err, /placed from real ones/);
  const names = KINDS.flatMap(({ part, defect }) => [0, 1, 2, 3].map((i) => `${part}/${defect}/00${i}.png`));
  assert.deepEqual(Object.keys(pictures("masks")).sort(), names.sort());
  for (const name of names) {
    const image = await loadImage(shop.file("masks", name)), mask = binaryMask(image);
    assert.deepEqual([image.width, image.height], [32, 32]);
    assert.ok(image.data.every((value) => value === 0 || value === 255) && mask.data.includes(1), name);
  }
  assert.ok(new Set(Object.values(pictures("masks"))).size > 10, `the masks are alike: ${err}`);
});

test("generate writes pairs of the sources' size whose background is the source's, and a manifest of all", async () => {
  await shop.good(`${PAIRS} --count 4 --batch-size 4 --out @pairs`);
  const records = manifest("pairs");
  assert.deepEqual(
    records.map(({ part, defect, index }) => `${part} ${defect} ${index}`),
    KINDS.flatMap(({ part, defect }) => [0, 1, 2, 3].map((i) => `${part} ${defect} ${i}`)),
  );
  assert.deepEqual(Object.keys(pictures("pairs")).sort(), records.flatMap(({ image, mask }) => [image, mask]).sort());
  let compared = 0;
  for (const record of records) {
    const { part, defect, index } = record, size = TINY_PARTS[part as keyof typeof TINY_PARTS];
    assert.equal(record.image, `${part}/test/${defect}/000${index}.png`);
    assert.equal(record.mask, `${part}/ground_truth/${defect}/000${index}_mask.png`);
    assert.match(record.source, new RegExp(`^${part}/train/good/00[0-3]\\.png$`));
    assert.equal(record.maskSource, `${part}/${defect}/00${index % 4}.png`);
    assert.match(`${record.model} ${record.embeddings}`, /^[0-9a-f]{64} [0-9a-f]{64}$/);
    assert.ok(record.adapter && record.accepted && record.settings.steps === 3 && record.seed === 0);
    const image = await loadImage(shop.file("pairs", record.image));
    const source = await loadImage(shop.file("data", record.source));
    const drawn = await loadImage(shop.file("pairs", record.mask)), mask = binaryMask(drawn);
    assert.deepEqual([image.width, image.height, mask.width, mask.height], [
      ...[size.width, size.height],
      ...[size.width, size.height],
    ]);
    assert.ok(drawn.data.every((value) => value === 0 || value === 255));
    const opacity = featherMask(mask, 3 * Math.max(1, size.width / 32));
    let changed = 0;
    opacity.forEach((alpha, i) => {
      for (let k = 3 * i; k < 3 * i + 3; k++) {
        if (alpha === 0) assert.equal(image.data[k], source.data[k], `${record.image}, pixel ${i}`);
        else if (image.data[k] !== source.data[k]) changed++;
      }
      if (alpha === 0) compared++;
    });
    assert.ok(changed > 0, `${record.image} is its source`);
    assert.ok(record.figures.changeInside > 0 && record.figures.changeOutside === 0);
  }
  assert.ok(compared > 1000, `only ${compared} pixels lie away from the masks`);
  assert.ok(new Set(records.map(({ source }) => source)).size > 2, "all pairs are drawn into the same images");
});

test("the same command gives the same bytes: training, masks and pairs", async () => {
  await shop.good(`${TRAIN} --checkpointing-steps 2 --validation-steps 4 --num-validation-images 1 --out @run-2`);
  assert.deepEqual(shop.products("run-2"), shop.products("run"));
  await shop.good(`${MASKS} --out @masks-2`);
  assert.deepEqual(shop.products("masks-2"), shop.products("masks"));
  await shop.good(`${PAIRS} --count 4 --batch-size 4 --out @pairs-2`);
  assert.deepEqual(shop.products("pairs-2"), shop.products("pairs"));
  await shop.good(`${PAIRS} --count 4 --batch-size 4 --seed 1 --part weave --out @pairs-3`);
  const first = shop.products("pairs"), other = shop.products("pairs-3");
  for (const { image } of manifest("pairs-3")) assert.notEqual(other[image], first[image], `${image} ignores the seed`);
});

test("pair i depends on neither batch size nor count, nor on which other kinds are made", async () => {
  const all = pictures("pairs");
  const runs = [
    ["--count 3 --batch-size 1 --part plate", 2 * 3 * 2],
    ["--count 4 --batch-size 3", 2 * 4 * 4],
    ["--count 1 --batch-size 2 --defect stain,dent", 2 * 1 * 2],
    ["--count 2 --batch-size 7 --part weave --defect stain", 2 * 2],
  ] as const;
  for (const [k, [options, files]] of runs.entries()) {
    await shop.good(`${PAIRS} ${options} --out @part-${k}`);
    const some = pictures(`part-${k}`);
    assert.equal(Object.keys(some).length, files, options);
    for (const [path, bytes] of Object.entries(some)) assert.ok(all[path] === bytes, `${path} differs with ${options}`);
  }
  // More pairs in the same folder, with another batch size: those that are there stay, the manifest is as if made at once.
  await shop.good(`generate --out @part-1 --resume --count 5 --batch-size 2`);
  await shop.good(`${PAIRS} --count 5 --batch-size 4 --out @whole`);
  assert.deepEqual(pictures("part-1"), pictures("whole"));
  assert.deepEqual(manifest("part-1"), manifest("whole"));
});

test("mask i depends on neither batch size nor count, nor on which other kinds are made", async () => {
  const all = pictures("masks");
  for (const [k, options] of ["--batch-size 1 --part plate --defect scratch", "--batch-size 3 --count 2"].entries()) {
    await shop.good(`${MASKS} ${options} --out @some-masks-${k}`);
    for (const [path, bytes] of Object.entries(pictures(`some-masks-${k}`))) {
      assert.ok(all[path] === bytes, `${path} differs with ${options}`);
    }
  }
});

test("masks can be placed from the real ones, and lie within the limits", async () => {
  await shop.good("generate-masks --data @data --model @model --source real --count 6 --out @real");
  assert.equal(Object.keys(pictures("real")).length, 6 * KINDS.length);
  for (const { part, defect } of KINDS) {
    const real = await Promise.all(
      [0, 1].map((i) => loadMask(shop.file(`data/${part}/ground_truth/${defect}/00${i}_mask.png`))),
    );
    const area = ({ data }: { data: Uint8Array }) => data.reduce((sum, v) => sum + v, 0) / data.length;
    const most = Math.max(...real.map(area)), least = Math.min(...real.map(area));
    for (const path of listImages(shop.file("real", part, defect))) {
      const share = area(await loadMask(path)); // limits are taken at 32 × 32 pixels, hence the slack
      assert.ok(
        share > 0.2 * least && share < 2.5 * most,
        `${path} covers ${share}, the real ones ${least} to ${most}`,
      );
    }
  }
});

test("a defect that covers the picture is drawn at its own place, unless limits that were given refuse it", async () => {
  cpSync(shop.file("data/plate"), shop.file("covered/plate"), { recursive: true });
  const folder = shop.file("covered/plate/ground_truth/dent");
  for (const { name } of Deno.readDirSync(folder)) {
    const mask = tinyMask("plate", "dent", 0);
    savePng(`${folder}/${name}`, { ...mask, data: mask.data.fill(1) });
  }
  const only = "--data @covered --model @model --part plate --defect dent";
  await shop.good(
    `train ${only} --max-train-steps 2 --train-batch-size 1 --augmented-copies 1 --validation-steps 1 --out @cover-run`,
  );
  await shop.good(`generate ${only} --train-run @cover-run --count 1 --steps 2 --out @cover-pairs`);
  const mask = await loadMask(shop.file("cover-pairs/plate/ground_truth/dent/0000_mask.png"));
  assert.ok(mask.data.every((v) => v === 1));
  const { err, code } = await shop.run(`generate-masks ${only} --source real --count 1 --out @cover-masks`);
  assert.equal(code, 1);
  assert.match(err, /no real mask could be placed .*\n {2}hint: .*--max-border/);
  await shop.good(`generate-masks ${only} --source real --count 1 --max-border 1 --out @cover-masks`);
});

test("every form of re-weighting, of guidance and of window runs, and each changes what comes out", async () => {
  const options = [
    "--reweighting official",
    "--reweighting off",
    "--reweighting paper",
    "--guidance-scale 1",
    "--guidance-scale 7",
    "--guidance-below 600",
    "--window whole",
    "--zoom 1",
    "--latent-mask official",
    "--eta 0",
    "--feather 0",
    "--no-keep-detail",
  ];
  const seen = new Map<string, string>();
  for (const [k, option] of options.entries()) {
    await shop.good(`${PAIRS} --part weave --defect hole --count 2 --batch-size 2 ${option} --out @form-${k}`);
    const images = Object.entries(pictures(`form-${k}`)).filter(([path]) => path.includes("/test/"));
    assert.equal(images.length, 2);
    const bytes = images.sort().map(([, text]) => text).join();
    assert.equal(seen.get(bytes), undefined, `${option} changes nothing`);
    seen.set(bytes, option);
  }
});

test("--image-format jpeg: files that are read back as the same masks, and made again to the same bytes", async () => {
  const options = `${PAIRS} --part weave --defect hole --count 2 --batch-size 2`;
  await shop.good(`${options} --out @png`);
  await shop.good(`${options} --image-format jpeg --out @jpeg`);
  const names = (folder: string) => Object.keys(pictures(folder)).map((path) => path.replace(/[.]jpg$/, ".png")).sort();
  assert.deepEqual(names("jpeg"), names("png"));
  for (const kind of ["test", "ground_truth"]) {
    const lossless = listImages(shop.file("png", "weave", kind, "hole"));
    for (const [i, path] of listImages(shop.file("jpeg", "weave", kind, "hole")).entries()) {
      assert.match(path, /[.]jpg$/);
      assert.deepEqual([...Deno.readFileSync(path).subarray(0, 3)], [0xff, 0xd8, 0xff]);
      if (kind === "ground_truth") assert.deepEqual(await loadMask(path), await loadMask(lossless[i]));
    }
  }
  assert.match((await shop.good("regenerate --pairs @jpeg --out @jpeg-again")).out, /2 of 2 images are the same bytes/);
});

test("generate --parity official: a seed of its own, JPEG, the decoder's pictures, and pairs of empty masks too", async () => {
  const masks = shop.file("given-masks/weave/hole"), small = { width: 32, height: 32, channels: 1 } as const;
  Deno.mkdirSync(masks, { recursive: true });
  savePng(`${masks}/0.png`, { ...small, data: new Uint8Array(1024) });
  savePng(`${masks}/1.png`, { ...small, data: new Uint8Array(1024).fill(1, 300, 500) });
  const line = "generate --data @data --model @model --train-run @run --masks @given-masks --part weave --defect hole";
  const refused = await shop.run(`${line} --count 2 --steps 2 --out @no-empty`);
  assert.match(refused.err, /0\.png: the mask is empty/);
  // The official split has one image more than the two that are readable here.
  const leaking = await shop.run(`${line} --parity official --count 2 --steps 2 --out @leaking`);
  assert.match(leaking.err, /weave\/test\/hole\/002\.png: the image is broken/);
  const official = `${line} --parity official --no-official-split --count 2 --steps 2 --batch-size 2`;
  const { err } = await shop.good(`${official} --out @official`);
  assert.match(err, /weave\+hole: 1 of 2 masks are empty; the figures leave these pairs out/);
  assert.ok(Object.keys(pictures("official")).length === 4 && Object.keys(pictures("official"))[0].endsWith(".jpg"));
  const [empty, marked] = manifest("official"), settings = marked.settings;
  assert.equal(empty.figures.changeInside, 0);
  assert.ok(empty.accepted && !settings.pasteBack && !settings.keepDetail && settings.guidance === 1);
  assert.deepEqual([settings.window, settings.latentMask, settings.officialBn], ["whole", "official", true]);
  const config = JSON.parse(Deno.readTextFileSync(shop.file("official/config.json")));
  assert.equal(config.seed, marked.seed);
  await shop.good(`${official} --out @official-other`);
  assert.notEqual(manifest("official-other")[0].seed, config.seed);
  await shop.good(`${official} --seed ${config.seed} --out @official-same`);
  assert.deepEqual(pictures("official-same"), pictures("official"));
  const { out } = await shop.good("regenerate --pairs @official --out @official-again");
  assert.match(out, /2 of 2 images are the same bytes/);
});

test("--all-pairs: the images after the first third too, and generate follows its training", async () => {
  const broken = /weave\/test\/hole\/002\.png: the image is broken/; // one of the test images
  assert.match((await shop.run(`${TRAIN} --part weave --defect hole --all-pairs --out @all`)).err, broken);
  const line = "generate --data @data --model @model --part weave --defect hole --count 2 --steps 2";
  Deno.mkdirSync(shop.file("learned-all"));
  for (const { name, isFile } of Deno.readDirSync(shop.file("run"))) {
    if (isFile) Deno.copyFileSync(shop.file(`run/${name}`), shop.file(`learned-all/${name}`));
  }
  const settings = JSON.parse(Deno.readTextFileSync(shop.file("run/config.json")));
  Deno.writeTextFileSync(shop.file("learned-all/config.json"), JSON.stringify({ ...settings, "all-pairs": true }));
  assert.match((await shop.run(`${line} --train-run @learned-all --out @from-all`)).err, broken);
  await shop.good(`${line} --train-run @learned-all --no-all-pairs --out @from-third`);
  const both = await shop.run(`${line} --train-run @run --all-pairs --official-split --out @both`);
  assert.match(both.err, /--all-pairs goes without --official-split/);
  assert.equal(both.code, 2);
});

test("what --min-change refuses is tried again, then kept and marked", async () => {
  const ungated = `${PAIRS} --part weave --count 3 --batch-size 2`;
  const common = `${ungated} --max-attempts 3 --min-changed-share 0`;
  await shop.good(`${ungated} --no-quality-gate --out @gate-none`);
  assert.ok(manifest("gate-none").every(({ accepted, attempt, refused }) => accepted && !attempt && !refused.length));
  const changes = manifest("gate-none").map(({ figures }) => figures.changeInside).sort((a, b) => a - b);
  const { err } = await shop.good(`${common} --min-change 0.99 --out @gate-all`);
  assert.match(err, /6 pairs were refused in all of 3 tries; the manifest marks them/);
  const again = await shop.good("generate --out @gate-all --resume");
  assert.match(again.err, /6 pairs were refused in all of 3 tries/, "those of earlier calls count");
  await shop.good(`${common} --min-change 0.99 --defect hole --count 1 --max-attempts 1 --out @gate-one`).then(
    ({ err }) => assert.match(err, /1 pair was refused in the only try; the manifest marks it "accepted": false/),
  );
  for (const record of manifest("gate-all")) {
    const first = manifest("gate-none").find(({ image }) => image === record.image)!;
    assert.equal(record.accepted, false);
    assert.deepEqual(record.refused, ["unchanged", "unchanged", "unchanged"]);
    assert.ok(record.figures.changeInside >= first.figures.changeInside, "the best of the tries is kept");
    const same = pictures("gate-all")[record.image] === pictures("gate-none")[record.image];
    assert.equal(record.attempt === 0, same, `${record.image}: attempt ${record.attempt}`);
  }
  // A gate between the least and the most: some are accepted at once and stay as they were, others are tried again.
  const gate = (changes[2] + changes[3]) / 2;
  await shop.good(`${common} --min-change ${gate} --out @gate-some`);
  for (const record of manifest("gate-some")) {
    const first = manifest("gate-none").find(({ image }) => image === record.image)!;
    assert.equal(record.accepted, record.figures.changeInside >= gate);
    if (first.figures.changeInside < gate) continue;
    assert.equal(record.attempt, 0);
    assert.ok(pictures("gate-some")[record.image] === pictures("gate-none")[record.image]);
  }
  const refused = manifest("gate-some").flatMap((record) => record.refused).length;
  const summary = JSON.parse(Deno.readTextFileSync(shop.file("gate-some/summary.json")));
  assert.equal(summary[0].refused.unchanged + (summary[1].refused.unchanged ?? 0), refused);
  // A share of the mask that no pair reaches.
  const { out } = await shop.good(`${common} --min-change 0 --min-changed-share 1 --out @gate-share`);
  for (const { accepted, refused, figures } of manifest("gate-share")) {
    assert.equal(accepted, figures.changedShare === 1);
    assert.ok(accepted || refused.every((why) => why === "mostly unchanged"));
  }
  assert.match(out, /tries refused/);
  // The gate, too, works picture by picture.
  await shop.good(`${common} --min-change ${gate} --batch-size 5 --out @gate-wide`);
  assert.deepEqual(pictures("gate-wide"), pictures("gate-some"));
});

test("pairs are guided away from the surface where one was learned; --guide-from empty and --no-surface do without", async () => {
  const line = `${PAIRS.replace("@run", "@no-surface")} --part weave --count 1 --guidance-scale 4`;
  await shop.good(`${TRAIN} --part weave --no-surface --validation-steps 0 --out @no-surface`);
  const file = shop.file("no-surface/embeddings.safetensors");
  assert.ok(decodeEmbedding(Deno.readFileSync(file), file).keys.every((key) => !key.endsWith("+good")));
  const { code, err } = await shop.run(`${line} --guide-from surface --out @no-surface-pairs`);
  assert.equal(code, 1);
  assert.match(err, /no surface was learned for weave\+/);
  await shop.good(`${line} --out @no-surface-pairs --overwrite`);
  assert.ok(manifest("no-surface-pairs").every(({ settings }) => settings.guideFrom === "empty"));
  const common = `${PAIRS} --part weave --count 1 --guidance-scale 4 --no-quality-gate`;
  await shop.good(`${common} --out @from-surface`);
  await shop.good(`${common} --guide-from surface --out @from-surface-too`);
  await shop.good(`${common} --guide-from empty --out @from-empty`);
  assert.ok(manifest("from-surface").every(({ settings }) => settings.guideFrom === "surface"));
  assert.deepEqual(pictures("from-surface-too"), pictures("from-surface"));
  assert.notDeepEqual(pictures("from-empty"), pictures("from-surface"));
});

test("a defect of a colour that no training pair has is tried again", async () => {
  // Holes are black: a colour that a random model does not find.
  const line = `${PAIRS} --part weave --defect hole --count 3 --max-attempts 2 --min-change 0 --min-changed-share 0`;
  await shop.good(`${line} --colour-check --out @colours`);
  await shop.good(`${line} --out @any-colours`);
  assert.ok(manifest("colours").some(({ refused }) => refused.includes("off-colour")));
  assert.ok(manifest("any-colours").every(({ refused }) => !refused.includes("off-colour")));
});

test("pairs that look like an earlier one are refused, the same whatever batch or interruption", async () => {
  // One speck for all: pairs of one source look the same, and there are four sources.
  await Deno.mkdir(shop.file("speck/weave/hole"), { recursive: true });
  const { width, height } = TINY_PARTS.weave, data = new Uint8Array(width * height);
  data[20 * width + 20] = 1;
  savePng(shop.file("speck/weave/hole/0.png"), { width, height, channels: 1, data });
  const line = `${
    PAIRS.replace("@masks", "@speck")
  } --part weave --defect hole --feather 0 --min-change 0 --min-changed-share 0`;
  await shop.good(`${line} --count 9 --batch-size 4 --max-attempts 2 --out @alike`);
  const records = manifest("alike"), refusals = records.flatMap(({ refused }) => refused);
  assert.ok(refusals.length > 3 && refusals.every((why) => why === "near-duplicate"), refusals.join());
  for (const { source, index, attempt, accepted, refused, figures } of records) {
    assert.equal(refused.length, accepted ? attempt : 2);
    assert.equal(accepted, (figures.nearestEarlier ?? 1) >= DUPLICATE, JSON.stringify(figures));
    assert.ok(accepted || records.some((r) => r.index < index && r.source === source));
  }
  assert.deepEqual(JSON.parse(Deno.readTextFileSync(shop.file("alike/summary.json")))[0].refused, {
    "near-duplicate": refusals.length,
  });
  await shop.good(`${line} --count 3 --batch-size 1 --max-attempts 2 --out @alike-later`);
  await shop.good("generate --out @alike-later --resume --count 9 --batch-size 3");
  assert.deepEqual(pictures("alike-later"), pictures("alike"));
  assert.deepEqual(manifest("alike-later"), records);
  assert.match((await shop.good("regenerate --pairs @alike --out @alike-again")).out, /9 of 9 images/);
});

test("regenerate makes pairs of a manifest again, with the same bytes, whatever settings and masks they had", async () => {
  const all = pictures("pairs"), [first, , third] = manifest("pairs");
  const chosen = `--image ${third.image},${manifest("pairs").at(-1)!.image}`;
  const { out } = await shop.good(`regenerate --pairs @pairs ${chosen} --batch-size 3 --out @again`);
  assert.match(out, /2 of 2 images are the same bytes as in .*pairs$/m);
  const again = pictures("again");
  assert.equal(Object.keys(again).length, 4);
  for (const [path, bytes] of Object.entries(again)) assert.ok(all[path] === bytes, `${path} differs`);
  // Second tries, and masks that are placed from real ones.
  const placed = "generate --data @data --model @model --train-run @run --steps 2 --part weave --count 2";
  await shop.good(`${placed} --min-change 0.99 --max-attempts 2 --out @placed`);
  assert.ok(manifest("placed").some(({ attempt }) => attempt > 0));
  assert.match((await shop.good("regenerate --pairs @placed --out @placed-again")).out, /4 of 4 images/);
  assert.deepEqual(pictures("placed-again"), pictures("placed"));
  assert.deepEqual(manifest("placed-again"), manifest("placed"));
  // A photograph that was changed since is found out.
  const source = shop.file("data", first.source), before = Deno.readFileSync(source);
  await Deno.writeFile(source, toPng({ ...await loadImage(source), data: (await loadImage(source)).data.fill(7) }));
  const changed = await shop.run(`regenerate --pairs @pairs --image ${first.image} --out @changed`);
  Deno.writeFileSync(source, before);
  assert.equal(changed.code, 1);
  assert.match(changed.err, /error: 1 of 1 images differ from those in .*: .*000\.png\n {2}hint: a source image/);
  // What cannot be made again is told in one line.
  const refused = [
    ["--pairs @run", /run holds no manifest of generate/],
    ["--pairs @pairs --image plate/test/dent/9999.png", /has no image plate\/test\/dent\/9999\.png/],
    ["--pairs @pairs --train-run @run-else", /embeddings\.safetensors is missing/],
    ["--pairs @pairs --masks @nowhere", /nowhere\/.*\.png/],
  ] as const;
  for (const [options, message] of refused) {
    const { code, err } = await shop.run(`regenerate ${options} --out @refused`);
    assert.equal(code, 1, err);
    assert.match(err, message);
    assert.equal(exists(shop.file("refused")), false, options);
  }
});
