/** `inspect train`, `inspect test` and `inspect export` as a user calls them, on tiny data: products, resume, bad input. */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { savePng } from "../../src/data/image.ts";
import { OnnxWriter } from "../../src/inspection/onnx/writer.ts";
import { tinyPair, writeTinyPairs } from "../support/tiny_data.ts";
import { Workshop } from "../end_to_end/program.ts";

const shop = new Workshop();

writeTinyPairs(shop.file("pairs"), ["plate"]);

/** A network whose features are mean colours of cells of 8 and 16 pixels, and of the whole image without a grid. */
function pooled(): Uint8Array<ArrayBuffer> {
  const model = new OnnxWriter(), x = model.input("image", [1, 3, 32, 32]);
  const pool = (size: number, name?: string) =>
    model.node("AveragePool", [x], { kernel_shape: [size, size], strides: [size, size] }, name);
  model.output(pool(8, "fine"), [1, 3, 4, 4]);
  model.output(pool(16, "coarse"), [1, 3, 2, 2]);
  model.output(model.node("Flatten", [pool(32)], {}, "flat"), [1, 3]);
  return model.build("mean colours");
}

const SIZE = "--base-width 4 --resolution 32 --train-batch-size 2 --max-train-steps 4 --checkpointing-steps 2";
const FROM = "--pairs @pairs --data @data";

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

test("inspect: train, test and export a localisation network", async () => {
  await shop.good(`inspect train ${FROM} ${SIZE} --recipe narrow --out @unet`);
  const { out } = await shop.good("inspect test --train-run @unet --data @data --save-maps --out @unet-test");
  assert.match(out, /pixelAp +0\.\d{4}/);
  const metrics = JSON.parse(await Deno.readTextFile(shop.file("unet-test/metrics.json")));
  assert.equal(metrics.selection, "last step");
  assert.equal(metrics.form, "narrow");
  await shop.good(`inspect train ${FROM} ${SIZE} --recipe official --out @draem`);
  await shop.good("inspect test --train-run @draem --data @data --out @draem-test");
  assert.equal(JSON.parse(await Deno.readTextFile(shop.file("draem-test/metrics.json"))).form, "draem");
  // Six pairs of each of two kinds, two of them to learn from; one normal picture.
  assert.deepEqual([metrics.defectImages, metrics.normalImages], [8, 1]);
  for (const name of ["pixelAuroc", "pixelF1Max", "auPro30", "imageAuroc"]) {
    assert.ok(metrics[name] >= 0 && metrics[name] <= 1, `${name} ${metrics[name]}`);
  }
  assert.equal(Object.keys(shop.contents("unet-test/maps")).length, 9);
  const told = await shop.good("inspect export --train-run @unet --output @unet.onnx");
  assert.match(told.err, /opset 17, input image \[batch, 3, 32, 32\]/);
  assert.ok((await Deno.stat(shop.file("unet.onnx"))).size > 20_000);
  Deno.writeTextFileSync(shop.file("unet.onnx"), "another's");
  const { code, err } = await shop.run("inspect export --train-run @unet --output @unet.onnx");
  assert.equal(code, 1);
  assert.match(err, /^error: .*unet\.onnx is there already\n {2}hint: add --overwrite .*\n$/);
  assert.equal(Deno.readTextFileSync(shop.file("unet.onnx")), "another's");
  await shop.good("inspect export --train-run @unet --output @unet.onnx --overwrite");
  assert.ok((await Deno.stat(shop.file("unet.onnx"))).size > 20_000);
});

test("inspect test --parity official keeps what resizing makes of masks: its edges count against AUROC and AP", async () => {
  await shop.good(`inspect train ${FROM} ${SIZE.replace("32", "64")} --recipe official --out @edges`);
  const figures = async (flags: string, out: string) => {
    await shop.good(`inspect test --train-run @edges --data @data ${flags} --out @${out}`);
    return JSON.parse(await Deno.readTextFile(shop.file(`${out}/metrics.json`)));
  };
  const official = await figures("--parity official", "edges-official"), usual = await figures("", "edges-usual");
  assert.deepEqual([official.groundTruth, usual.groundTruth], ["official", "binary"]);
  for (const name of ["pixelAp", "auPro30"]) assert.notEqual(official[name], usual[name], name);
  assert.equal(official.imageAuroc, usual.imageAuroc); // scores are the same
  for (const name of ["pixelF1Max21", "auPro30By100Ranks"]) assert.ok(official[name] >= 0 && usual[name] >= 0, name);
});

test("inspect: a run that dies goes on to the same bytes", async () => {
  const line = `inspect train ${FROM} ${SIZE} --seed 3 --selection test-best --validation-steps 2`;
  await shop.good(`${line} --out @whole`);
  let deaths = 0;
  // The first deaths lie in the opening of the run; these lie in and after its first checkpoint.
  for (const n of [14, 22, 30]) {
    if (await shop.runUntilWrite(n, `${line} --out @killed${n}`)) deaths++;
    await shop.good(`inspect train ${FROM} --out @killed${n} --resume`);
    assert.deepEqual(shop.products(`killed${n}`), shop.products("whole"), `died at write ${n}`);
  }
  assert.ok(deaths > 0, "no run died");
  const { err } = await shop.good("inspect test --train-run @whole --data @data --out @whole-test");
  assert.match(err, /chosen on a test set/);
});

test("inspect: a classifier names kinds, in sorted order", async () => {
  await shop.good(`inspect train ${FROM} ${SIZE} --network classifier --out @classes`);
  await shop.good("inspect test --train-run @classes --data @data --out @classes-test");
  const { accuracy, labels, confusion } = JSON.parse(await Deno.readTextFile(shop.file("classes-test/metrics.json")));
  assert.deepEqual(labels, ["dent", "scratch"]);
  assert.ok(accuracy >= 0 && accuracy <= 1);
  assert.deepEqual(confusion.map((row: number[]) => row.reduce((a, b) => a + b)), [4, 4]);
  await refusedNormalization();
  for (const flag of ["--save-maps", "--ground-truth official"]) {
    const { code, err } = await shop.run(`inspect test --train-run @classes --data @data ${flag} --out @no-maps`);
    assert.equal(code, 2);
    assert.match(err, /^error: --(save-maps|ground-truth) is about score maps, which a classifier has not$/m);
  }
  await shop.good("inspect test --train-run @classes --data @data --parity official --out @classes-parity");
  await shop.good("inspect export --train-run @classes --output @classes.onnx");
});

async function refusedNormalization(): Promise<void> {
  const { code, err } = await shop.run(`inspect train ${FROM} ${SIZE} --normalization imagenet --out @colours`);
  assert.equal(code, 2);
  assert.match(err, /--normalization goes with --network classifier/);
}

/** Runs with folders listed backwards, as another file system might. */
async function listedBackwards(run: () => Promise<unknown>): Promise<void> {
  const { readDirSync } = Deno;
  Deno.readDirSync = (path) => [...readDirSync(path)].sort((a, b) => a.name < b.name ? 1 : -1).values();
  try {
    await run();
  } finally {
    Deno.readDirSync = readDirSync;
  }
}

test("inspect --parity official: classes in the order in which folders are listed, which a resumed run keeps", async () => {
  const classes = `${SIZE} --base-width 4 --network classifier --parity official --validation-steps 2`;
  const label = (folder: string) => JSON.parse(Deno.readTextFileSync(shop.file(`${folder}/metrics.json`)));
  await listedBackwards(async () => {
    const { err } = await shop.good(`inspect train ${FROM} ${classes} --out @listed`);
    assert.match(err, /starts from ImageNet's weights/);
    await shop.runUntilWrite(14, `inspect train ${FROM} ${classes} --out @listed-again`);
    await shop.good(`inspect train ${FROM} ${SIZE} --network classifier --normalization imagenet --out @by-name`);
  });
  await shop.good(`inspect train ${FROM} --out @listed-again --resume`); // folders listed as they are
  assert.deepEqual(shop.products("listed-again"), shop.products("listed"));
  for (const [folder, labels] of [["listed", ["scratch", "dent"]], ["by-name", ["dent", "scratch"]]] as const) {
    await shop.good(`inspect test --train-run @${folder} --data @data --out @${folder}-test`);
    assert.deepEqual(label(`${folder}-test`).labels, labels);
    assert.deepEqual(label(`${folder}-test`).confusion.map((row: number[]) => row.reduce((a, b) => a + b)), [4, 4]);
  }
});

test("inspect --parity official: the classifier's course is 30 epochs of five times every pair, tested after each", async () => {
  const small = "--base-width 4 --resolution 32 --train-batch-size 8";
  const { err } = await shop.good(
    `inspect train ${FROM} ${small} --network classifier --parity official --out @course`,
  );
  // Six pairs: 30 items an epoch, four steps of eight.
  assert.match(err, /120 steps of 8/);
  // The recipe alone has it too, and steps that are given hold.
  const recipe = `inspect train ${FROM} ${small} --network classifier --recipe official --max-pairs 1`;
  assert.match((await shop.good(`${recipe} --out @recipe`)).err, /60 steps of 8/);
  assert.match((await shop.good(`${recipe} --max-train-steps 3 --out @recipe-3`)).err, / 3 steps of 8/);
  const kept = Number(/kept step (\d+)/.exec(err)?.[1]);
  assert.ok(kept > 0 && kept % 4 === 0, `step ${kept}`);
});

test("inspect patchcore: the same files as a test of a network, from three sources of features", async () => {
  const line = "inspect patchcore --data @data --part plate --resolution 32";
  const { out } = await shop.good(`${line} --model @model --coreset 50 --save-maps --out @patchcore`);
  assert.match(out, /pixelAuroc +[01]\.\d{4}/);
  const read = (folder: string) => JSON.parse(Deno.readTextFileSync(shop.file(folder, "metrics.json")));
  const metrics = read("patchcore");
  assert.deepEqual([metrics.defectImages, metrics.normalImages], [8, 1]);
  assert.equal(metrics.features, "encoder of tiny");
  const { normalImages, patches, remembered } = metrics.banks.plate;
  // Four images of 8 × 8 patches: the encoder's second level.
  assert.deepEqual([normalImages, patches, remembered], [4, 256, 128]);
  assert.ok(metrics.pixelAuroc > 0.85, `the defects are plain, and were found with AUROC ${metrics.pixelAuroc}`);
  for (const name of ["scores.csv", "curves.json", "cases.json"]) {
    assert.deepEqual(Object.keys(shop.contents("patchcore")).filter((path) => path.endsWith(name)).length, 1, name);
  }
  await shop.good(`${line} --model @model --coreset 50 --save-maps --out @patchcore-again`);
  assert.deepEqual(shop.contents("patchcore-again/maps"), shop.contents("patchcore/maps"));

  await shop.good(`inspect train ${FROM} ${SIZE} --out @features`);
  await shop.good("inspect patchcore --data @data --part plate --train-run @features --out @patchcore-own");
  assert.equal(read("patchcore-own").features, "trained localisation network");
  assert.equal(read("patchcore-own").side, 32);
  assert.equal(read("patchcore-own").banks.plate.patches, 4 * 4 ** 2); // at an eighth of the side

  await Deno.writeFile(shop.file("colour.onnx"), pooled());
  await shop.good(
    `${line} --backbone @colour.onnx --backbone-outputs fine,coarse --max-patches 5 --out @patchcore-onnx`,
  );
  assert.deepEqual(read("patchcore-onnx").banks.plate, { normalImages: 4, patches: 64, remembered: 5 });
  await shop.good("report @patchcore --out @patchcore-page");
  assert.match(
    Deno.readTextFileSync(shop.file("patchcore-page/index.html")),
    /PatchCore, which learns from normal images alone/,
  );
});

test("inspect patchcore: bad input is one clear line", async () => {
  const refused = async (flags: string, expected: RegExp, code = 1) => {
    const result = await shop.run(`inspect patchcore --data @data --part plate --model @model ${flags} --out @no`);
    assert.match(result.err, expected);
    assert.equal(result.code, code, flags);
  };
  await refused("--resolution 31", /--resolution 31 is no multiple of 4/);
  await refused("--backbone @nothing.onnx", /nothing\.onnx: no such file/);
  await refused("--backbone @colour.onnx", /it has no output "layer2"/);
  await refused("--backbone @colour.onnx --backbone-outputs flat", /output "flat" is \[1, 3\]/);
  await refused("--train-run @a --backbone @b", /both name the network/, 2);
  cpSync(shop.file("data/plate"), shop.file("bare/plate"), { recursive: true });
  for (const { name } of Deno.readDirSync(shop.file("bare/plate/train/good"))) {
    Deno.removeSync(shop.file("bare/plate/train/good", name));
  }
  const { err, code } = await shop.run("inspect patchcore --data @bare --model @model --resolution 32 --out @no2");
  assert.match(err, /no good images/);
  assert.equal(code, 1);
});

test("inspect test: kinds that are passed over, and masks that mark nothing, are told in a line each", async () => {
  const line = `inspect train --pairs @both --data @data ${SIZE}`;
  writeTinyPairs(shop.file("both"), ["plate", "weave"]);
  await shop.good(`${line} --part plate --out @plain`);
  await shop.good(`${line} --network classifier --out @four`);
  await shop.good(`${line} --network classifier --part plate --out @two`);
  const told = async (network: string, flags = "") =>
    (await shop.good(`inspect test --train-run @${network} --data @odd ${flags} --out @told --overwrite`)).err;
  cpSync(shop.file("data"), shop.file("odd"), { recursive: true });
  const untold = /learned but not tested|left out|empty mask/;
  for (const network of ["plain", "four", "two"]) assert.doesNotMatch(await told(network), untold);

  // A kind that the data calls otherwise: one is not there, one is not known.
  for (const folder of ["test", "ground_truth"]) {
    Deno.renameSync(shop.file("odd/plate", folder, "dent"), shop.file("odd/plate", folder, "bump"));
  }
  assert.match(await told("plain"), /^dent: learned but not tested, the data has no such images$/m);
  assert.doesNotMatch(await told("plain"), /left out/); // found or not, a defect is a defect
  assert.match(await told("four"), /^plate\+dent: learned but not tested, the data has no such images$/m);
  const two = await told("two");
  assert.match(two, /^dent: learned but not tested, /m);
  assert.match(two, /^bump: its images are left out, since the classifier has not learned it$/m);
  assert.doesNotMatch(await told("plain", "--defect scratch"), untold); // as was asked for
  assert.doesNotMatch(await told("four", "--part weave"), untold);

  const black = (index: number) => {
    const { mask } = tinyPair("plate", "scratch", index);
    savePng(shop.file(`odd/plate/ground_truth/scratch/00${index}_mask.png`), { ...mask, data: mask.data.fill(0) });
  };
  black(3);
  assert.match(
    await told("plain"),
    /^1 defect image has an empty mask at 32×32: it counts as defective without a defect pixel \(paint .*\)$/m,
  );
  black(4);
  const more =
    /^2 defect images have empty masks at 32×32: they count as defective without a defect pixel \(paint .*\)$/m;
  assert.match(await told("plain"), more);
  assert.doesNotMatch(await told("two"), /empty mask/); // it looks at no mask
  const { err } = await shop.good(`inspect patchcore --data @odd --model @model --resolution 32 --out @told-patches`);
  assert.match(err, more);
});

test("inspect: pairs behind which a test image stands are told of in one line, in training and in test", async () => {
  const warning =
    /^warning: the pairs were learned from (image N\/\/3 of each kind too|every pair), .*\(make pairs without it\)$/gm;
  const told = async (line: string) => [...(await shop.good(line)).err.matchAll(warning)].length;
  const baseline = "baseline --method crop-paste --data @data --part plate --count 2";
  await shop.good(`${baseline} --official-split --out @leaking`);
  const [, third, of] = /^learning from (\d+) of (\d+) pairs: .*--all-pairs takes all/m
    .exec((await shop.good(`${baseline} --out @clean`)).err)!.map(Number);
  assert.ok(third < of);
  const { err } = await shop.good(`${baseline} --all-pairs --out @unsplit`);
  assert.match(err, new RegExp(`^learning from all ${of} pairs: none is left to test on$`, "m"));
  for (const [pairs, count] of [["leaking", 1], ["unsplit", 1], ["clean", 0]] as const) {
    assert.equal(await told(`inspect train --pairs @${pairs} --data @data ${SIZE} --out @${pairs}-unet`), count);
    assert.equal(await told(`inspect test --train-run @${pairs}-unet --data @data --out @${pairs}-test`), count);
  }
  // Of pairs that were generated it may be the training that had the flag.
  Deno.writeTextFileSync(
    shop.file("clean/config.json"),
    JSON.stringify({ command: "generate", "official-split": false, "train-run": shop.file("leaking") }),
  );
  assert.equal(await told(`inspect train --pairs @clean --data @data ${SIZE} --out @behind`), 1);
  const patches = "inspect patchcore --data @data --part plate --out @leaking-patches --train-run";
  assert.equal(await told(`${patches} @behind`), 1);
});

test("inspect: bad input is one clear line", async () => {
  const refused = async (line: string, expected: RegExp, code = 1) => {
    const result = await shop.run(line);
    assert.match(result.err, expected);
    assert.equal(result.code, code, line);
  };
  await refused(`inspect train ${FROM} ${SIZE} --network classifier --defect dent --out @a`, /at least two kinds/);
  await refused(
    `inspect train --pairs @data --data @data ${SIZE} --out @b`,
    /is a training image too \(and \d+ more\)/,
  );
  await refused(`inspect train ${FROM} ${SIZE} --resolution 40 --out @c`, /--resolution 40 is no multiple of 32/);
  await refused(`inspect train ${FROM} ${SIZE} --part weave --out @d`, /no pairs of part weave/);
  await refused(
    `inspect train ${FROM} --network classifier --loss focal --out @d`,
    /--loss goes with --network loc/,
    2,
  );
  await refused(`inspect train ${FROM} --label-order listing --out @d`, /--label-order goes with --network class/, 2);
  await refused(`inspect train ${FROM} --validation-steps 2 --out @d`, /--validation-steps goes with --selection/, 2);
  await refused("inspect test --train-run @nowhere --data @data --out @e", /model\.safetensors is missing/);
  await refused(
    `inspect train ${FROM} ${SIZE} --learning-rate 1 --weights @pairs/manifest.jsonl --out @f`,
    /safetensors/,
  );
  await refused("inspect", /unknown command inspect/, 2);
  const mask = tinyPair("plate", "dent", 0).mask;
  savePng(shop.file("pairs/plate/ground_truth/dent/0001_mask.png"), { ...mask, data: mask.data.fill(0) });
  const { err } = await shop.good(`inspect train ${FROM} ${SIZE} --out @blank`);
  assert.match(err, /^1 of 6 masks are empty at 32×32: their pairs count as normal$/m);
  Deno.removeSync(shop.file("pairs/plate/ground_truth/dent/0001_mask.png"));
  await refused(`inspect train ${FROM} ${SIZE} --out @g`, /0001_mask\.png: no such file/);
});
