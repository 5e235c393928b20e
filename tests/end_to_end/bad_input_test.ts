/**
 * What the user gets wrong, or the machine: each time one clear line, a code that is not 0, and nothing lost. Broken things
 * are made from a data set and runs that work.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { savePng } from "../../src/data/image.ts";
import { encodeSafetensors } from "../../src/weights/safetensors.ts";
import { openGpu } from "../../tasks/device.ts";
import { tinyMask, tinyNormal, tinyPair, writeTinyData } from "../support/tiny_data.ts";
import { tinyModelConfig, writeTinyModel } from "../support/tiny_model.ts";
import { assertRefused, ended, exists, Workshop } from "./program.ts";

const shop = new Workshop();
const TRAIN = "train --model @model --max-train-steps 2 --train-batch-size 1 --augmented-copies 1 --validation-steps 0";
const TRAIN_MASKS = "train-masks --model @model --max-train-steps 2 --train-batch-size 1 --augmented-copies 1";
const PAIRS = "generate --model @model --train-run @run --steps 2 --batch-size 2 --part plate";
await shop.good(`${TRAIN} --data @data --out @run --part plate`);
await shop.good(`${TRAIN_MASKS} --data @data --out @mask-run --part plate`);
await shop.good("generate-masks --model @model --data @data --source real --count 2 --out @masks");

function test(name: string, fn: () => void | Promise<void>, ignore = false): void {
  Deno.test({ name, fn, ignore, sanitizeResources: false, sanitizeOps: false });
}

/** Runs a command that must be refused and leave no run folder behind. */
async function refused(line: string, message: RegExp): Promise<void> {
  assertRefused(await shop.run(`${line} --out @refused`), message);
  assert.equal(exists(shop.file("refused")), false, `${line}: a folder is left`);
}

/** A fresh data set in which something is changed. */
function damaged(name: string, change: (data: string) => void): string {
  writeTinyData(shop.file(name));
  change(shop.file(name, "plate"));
  return `--data @${name}`;
}

test("data sets that cannot be learnt from", async () => {
  await refused(`${TRAIN} --data @nowhere`, /nowhere: not a folder/);
  await refused(`${TRAIN} --data @model`, /model: not a data set in MVTec layout/);
  await refused(`${TRAIN} --data @data --part plate,glass`, /no part glass/);
  await refused(`${TRAIN} --data @data --defect rust`, /no defect rust/);
  for (const word of ["scrach", "two-words"]) {
    const line = `--data @data --initializer-token ${word}`, unknown = /vocabulary has no word "/;
    await refused(`${TRAIN} ${line}`, unknown);
    await refused(`${TRAIN_MASKS} ${line}`, unknown);
  }
  const broken = damaged("broken", (data) => {
    Deno.writeFileSync(join(data, "test/dent/000.png"), Deno.readFileSync(join(data, "test/dent/000.png")).fill(9, 33));
  });
  await refused(`${TRAIN} ${broken}`, /broken\/plate\/test\/dent\/000\.png: the image is broken/);
  await refused(`${TRAIN_MASKS} ${broken}`, /broken\/plate\/test\/dent\/000\.png: the image is broken/);
  const noImage = damaged("text", (data) => Deno.writeTextFileSync(join(data, "test/dent/001.png"), "not an image"));
  await refused(`${TRAIN} ${noImage}`, /dent\/001\.png: not a PNG, JPEG or BMP image/);
  const hollow = damaged("hollow", (data) => Deno.writeTextFileSync(join(data, "ground_truth/dent/000_mask.png"), ""));
  await refused(`${TRAIN} ${hollow}`, /000_mask\.png: the file is empty/);
  const unmasked = damaged("unmasked", (data) => Deno.removeSync(join(data, "ground_truth/scratch/001_mask.png")));
  await refused(`${TRAIN} ${unmasked}`, /scratch\/001\.png: no mask/);
  const lonely = damaged("lonely", (data) => Deno.removeSync(join(data, "test/scratch/000.png")));
  await refused(`${TRAIN} ${lonely}`, /ground_truth\/scratch\/000_mask\.png: no image$/);
  const other = damaged("other-size", (data) => {
    savePng(join(data, "ground_truth/dent/003_mask.png"), tinyMask("weave", "dent", 0));
  });
  await refused(`${TRAIN} ${other}`, /003_mask\.png: the mask has 50×44 pixels, its image 40×36/);
  const black = damaged("black", (data) => {
    const mask = tinyMask("plate", "dent", 0);
    savePng(join(data, "ground_truth/dent/000_mask.png"), { ...mask, data: mask.data.fill(0) });
  });
  await refused(`${TRAIN} ${black}`, /000_mask\.png: the mask is empty/);
  await refused(`generate-masks --model @model --source real ${black}`, /000_mask\.png: the mask is empty/);
  const single = damaged("single", (data) => {
    for (const i of [1, 2, 3, 4, 5]) {
      Deno.removeSync(join(data, `test/dent/00${i}.png`));
      Deno.removeSync(join(data, `ground_truth/dent/00${i}_mask.png`));
    }
  });
  await refused(`${TRAIN} ${single}`, /dent: the defect has only one image/);
  const bad = damaged("no-good", (data) => Deno.removeSync(join(data, "train/good"), { recursive: true }));
  await refused(`${TRAIN} ${bad}`, /plate: no good images/);
});

test("masks of another shape than the image, which would be stretched into another defect", async () => {
  const given = (name: string, width: number, height: number) => {
    Deno.mkdirSync(shop.file(name, "plate/dent"), { recursive: true });
    const data = new Uint8Array(width * height).fill(1, Math.floor(width * height / 3), Math.ceil(width * height / 2));
    savePng(shop.file(name, "plate/dent/0.png"), { width, height, channels: 1, data });
    return `${PAIRS} --data @data --defect dent --count 1 --masks @${name}`;
  };
  for (const [width, height] of [[500, 20], [36, 40], [64, 64], [40, 30]]) {
    const sizes = new RegExp(
      `masks-${width}/plate/dent/0\\.png: the mask has ${width}×${height} pixels, the image .*/plate/train/good/00\\d\\.png 40×36$`,
    );
    await refused(given(`masks-${width}`, width, height), sizes);
  }
  // The model's own size, the image's, and its shape in whole pixels.
  for (const [width, height] of [[32, 32], [40, 36], [400, 360], [27, 24]]) {
    await shop.good(`${given(`fit-${width}`, width, height)} --out @fit-${width}-pairs`);
  }
  // generate-masks with a model of another side.
  const line = given("larger", 64, 64);
  Deno.writeTextFileSync(shop.file("larger/config.json"), JSON.stringify({ command: "generate-masks" }));
  await shop.good(`${line} --out @larger-pairs`);
});

test("flags without effect beside the others", async () => {
  await refused(`${TRAIN} --data @data --window whole --zoom 2`, /--zoom goes with --window mask/);
  await refused(`${TRAIN} --data @data --parity official --zoom 2`, /--zoom goes with --window mask/);
  await refused(`${TRAIN} --data @data --unet-learning-rate 1`, /--unet-learning-rate goes with --tune/);
  await refused(`${PAIRS} --data @data --sampler dpm++2m --eta 0.5`, /--eta goes with --sampler ddim/);
  await refused(`${PAIRS} --data @data --no-quality-gate --max-attempts 2`, /--max-attempts goes with --quality-gate/);
  await refused("demo --all --part nowhere", /--part goes without --all/);
  Deno.writeTextFileSync(shop.file("idle.json"), JSON.stringify({ sampler: "dpm++sde", eta: 0.5 }));
  await refused(`${PAIRS} --data @data --config @idle.json`, /--eta goes with --sampler ddim/);
  await shop.good(`${TRAIN} --data @data --part plate --window whole --out @whole-run`);
  await refused(`${PAIRS} --data @data --zoom 2`.replace("@run", "@whole-run"), /--zoom goes with --window mask/);
  // A run's own config names every flag.
  await shop.good(`${PAIRS} --data @data --count 1 --sampler dpm++sde --out @few`);
  await shop.good("generate --config @few/config.json --out @few-again");
  assert.deepEqual(shop.products("few-again"), shop.products("few"));
});

test("flags that contradict each other are told before a model, data or an adapter is looked for", async () => {
  const wrong = {
    "train --official-bn": /--official-bn goes with --spatial-encoder official/,
    "train --tune --no-surface": /--tune learns the surfaces too/,
    "train --tune --scale-lr": /--tune has a loss and rates of its own/,
    "generate-masks": /--source embeddings needs --masks-run/,
    "inspect patchcore --train-run @nowhere --backbone @nowhere": /both name the network of the features/,
    "pretrain --stage unet": /the U-Net alone needs a trained autoencoder/,
    "reproduce table1": /table1 needs --inception and --lpips/,
    "reproduce table2 --seeds 1,1": /--seeds names 1 twice/,
  };
  for (const [line, message] of Object.entries(wrong)) {
    const model = /^(train|generate)/.test(line) ? "--model @nowhere" : "";
    const result = await shop.run(`${line} ${model} --data @nowhere --out @run --overwrite`);
    assertRefused(result, message);
    assert.equal(result.code, 2, line);
  }
  assert.ok(exists(shop.file("run/embeddings.safetensors")));
});

test("file names are free, and the layout may be plain folders", async () => {
  for (const folder of ["good", "old dent", "masks/old dent"]) {
    Deno.mkdirSync(shop.file("plain", folder), { recursive: true });
  }
  savePng(shop.file("plain/good/Photo 1.PNG"), tinyNormal("plate", 0));
  for (const [i, stem] of ["IMG (1)", "ß-2", "c.d"].entries()) {
    const { image, mask } = tinyPair("plate", "dent", i);
    savePng(shop.file("plain/old dent", `${stem}.png`), image);
    savePng(shop.file("plain/masks/old dent", `${stem}.png`), mask);
  }
  await shop.good(`${TRAIN} --data @plain --out @plain-run`);
  await shop.good(
    "generate --data @plain --model @model --train-run @plain-run --steps 1 --count 1 --out @plain-pairs",
  );
  assert.ok(exists(shop.file("plain-pairs/plain/test/old dent/0000.png")));
});

test("pictures that cannot be read are told in one line", async () => {
  const data = damaged("tiff", (data) => {
    Deno.copyFileSync(join(data, "train/good/000.png"), join(data, "train/good/more.tiff"));
    Deno.copyFileSync(join(data, "test/dent/000.png"), join(data, "test/dent/more.webp"));
  });
  const line =
    /^warning: .*tiff: files are passed over that cannot be read: 1 \.tiff, 1 \.webp; convert them to PNG$/gm;
  for (const command of [`${TRAIN} ${data} --part plate`, `baseline --method cutpaste --count 1 ${data}`]) {
    const { err } = await shop.good(`${command} --out @tiff-${command.split(" ")[0]}`);
    assert.equal(err.match(line)?.length, 1, err);
  }
});

test("model folders that do not fit", async () => {
  const train = TRAIN.replace("@model", "@odd") + " --data @data";
  await refused(train, /odd: no such model folder/);
  const odd = (salt: string, change: (folder: string) => void) => {
    if (exists(shop.file("odd"))) Deno.renameSync(shop.file("odd"), shop.file(`odd-${salt}`));
    writeTinyModel(shop.file("odd"));
    change(shop.file("odd"));
  };
  const config = (change: (config: ReturnType<typeof tinyModelConfig>) => void) => (folder: string) => {
    const changed = tinyModelConfig();
    change(changed);
    Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(changed));
  };
  const diagnosed = async (message: RegExp) => {
    const { code, out, err } = await shop.run("doctor --model @odd");
    assert.equal(code, 1);
    assert.match(err, /^error: .*\n {2}hint: .*config\.json, \*\.safetensors and vocab\.txt\n$/);
    assert.match(err, message);
    assert.doesNotMatch(out, /^ready|undefined/m);
  };
  const refusedByAll = async (message: RegExp) => {
    await refused(train, message);
    await diagnosed(message);
  };
  odd("a", (folder) => Deno.removeSync(join(folder, "config.json")));
  await refusedByAll(/config\.json is missing/);
  odd("b", (folder) => Deno.writeTextFileSync(join(folder, "config.json"), "{"));
  await refusedByAll(/config\.json: not valid JSON/);
  odd("c", config((c) => c.unet.contextDim = 64));
  await refusedByAll(/unet\.contextDim: expected text\.width = 32, found 64/);
  odd("d", (folder) => Deno.writeTextFileSync(join(folder, "vocab.txt"), "[PAD]\n[UNK]\n"));
  await refusedByAll(/vocab\.txt: expected \d+ word pieces, found 2/);
  odd("e", (folder) => Deno.truncateSync(join(folder, "model.safetensors"), 5000));
  await refusedByAll(/model\.safetensors/);
  odd("f", (folder) => {
    Deno.writeTextFileSync(join(folder, "config.json"), "{}");
    Deno.writeTextFileSync(join(folder, "vocab.txt"), "[PAD]\n");
    Deno.writeFileSync(join(folder, "model.safetensors"), encodeSafetensors({}));
  });
  await refusedByAll(/config\.json: /);
  odd("g", config((c) => c.autoencoder.numResBlocks = 2));
  await refusedByAll(/odd: (no tensor|tensor "|missing: )/);
  const { code, out } = await shop.run("doctor --model @model");
  assert.equal(code, 0);
  assert.match(out, /32 pixels, [\d.]+ MB \(.*model\)[^]*^ready$/m);
});

test("embeddings and masks of something else", async () => {
  await refused(`${PAIRS} --data @data`.replace("@run", "@nowhere"), /embeddings\.safetensors is missing/);
  await refused(`${PAIRS} --data @data`.replace("@run", "@run/loss.jsonl"), /embeddings\.safetensors is missing/);
  await refused(`${PAIRS} --data @data`.replace("@run", "@mask-run"), /was written by train-masks/);
  await refused("generate-masks --model @model --data @data --masks-run @run", /was written by train\b/);
  await refused("generate-masks --model @model --data @data", /--source embeddings needs --masks-run/);
  writeTinyModel(shop.file("stranger"), "stranger");
  await refused(`${PAIRS} --data @data`.replace("@model", "@stranger"), /was trained on another base model/);
  await refused(
    "generate-masks --model @stranger --data @data --masks-run @mask-run",
    /was trained on another base model/,
  );
  await refused(`${PAIRS} --data @data`.replace("plate", "weave"), /nothing was learned for weave\+hole, weave\+stain/);
  await refused(`${PAIRS} --data @data`.replace("plate", "weave --defect hole"), /nothing was learned for weave\+hole/);
  await refused(
    "generate-masks --model @model --data @data --masks-run @mask-run --part weave,plate --defect dent,stain",
    /nothing was learned for weave\+stain/,
  );
  Deno.mkdirSync(shop.file("torn"));
  Deno.writeFileSync(
    shop.file("torn/embeddings.safetensors"),
    Deno.readFileSync(shop.file("run/embeddings.safetensors")).subarray(0, 3000),
  );
  await refused(`${PAIRS} --data @data`.replace("@run", "@torn"), /torn\/embeddings\.safetensors/);
  await refused(`${PAIRS} --data @data --masks @data`, /data\/plate\/dent holds no masks/);
  await refused(`${PAIRS} --data @data --masks @nowhere`, /nowhere\/plate\/dent holds no masks/);
  Deno.mkdirSync(shop.file("blank/plate/dent"), { recursive: true });
  const mask = tinyMask("plate", "dent", 0);
  savePng(shop.file("blank/plate/dent/000.png"), { ...mask, data: mask.data.fill(0) });
  await refused(
    `${PAIRS} --data @data --defect dent --masks @blank`,
    /blank\/plate\/dent\/000\.png: the mask is empty/,
  );
});

test("a second run in the same folder changes nothing, and one that came to grief loses nothing", async () => {
  const data = damaged("half", (path) => {
    for (const i of [1, 2, 3]) Deno.copyFileSync(join(path, "train/good/000.png"), join(path, `train/good/00${i}.png`));
    Deno.renameSync(join(path, "train/good/003.png"), join(path, "train/good/aside"));
    Deno.writeTextFileSync(join(path, "train/good/003.png"), "broken later");
  });
  const line = `${PAIRS} ${data} --masks @masks --count 6 --batch-size 1 --out @half-pairs`;
  assertRefused(await shop.run(line), /train\/good\/003\.png: not a PNG, JPEG or BMP image/);
  const kept = shop.products("half-pairs");
  assert.ok(Object.keys(kept).some((name) => name.endsWith(".png")), "nothing was made before the broken image");
  assertRefused(await shop.run(line), /already holds a run of generate/);
  assert.deepEqual(shop.products("half-pairs"), kept);
  Deno.renameSync(shop.file("half/plate/train/good/aside"), shop.file("half/plate/train/good/003.png"));
  await shop.good(`${line} --resume`);
  const all = shop.products("half-pairs");
  for (const [name, bytes] of Object.entries(kept)) {
    if (name.endsWith(".png")) assert.ok(all[name] === bytes, `${name} was made again`);
  }
  await shop.good(line.replace("@half-pairs", "@half-whole"));
  assert.deepEqual(all, shop.products("half-whole"));
  await shop.good(`${TRAIN} --data @data --out @later --part plate --seed 3`);
  Deno.renameSync(shop.file("run"), shop.file("run-before"));
  Deno.renameSync(shop.file("later"), shop.file("run")); // trained again in the same place
  assertRefused(await shop.run(`${line} --resume`), /half-pairs holds pairs of other embeddings/);
  assertRefused(await shop.run(`${TRAIN} --data @data --out @half-pairs`), /holds a run of generate/);
  assertRefused(await shop.run(`${TRAIN} --data @data --out @half-pairs --resume`), /generate/);
  assert.deepEqual(shop.products("half-pairs"), all);
});

/** Mounts a small file system of its own, where this user may. */
function mount(...options: string[]): boolean {
  const disk = shop.file("disk");
  Deno.mkdirSync(disk, { recursive: true });
  try {
    return new Deno.Command("mount", { args: [...options, disk], stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false; // no such command
  }
}

const unmount = () => new Deno.Command("umount", { args: [shop.file("disk")] }).outputSync().success;
const smallDisk = (kilobytes: number) => ["-t", "tmpfs", "-o", `size=${kilobytes}k`, "tmpfs"];
const mayMount = Deno.build.os === "linux" && mount(...smallDisk(60)) && unmount();
test("a full disk: one line, and --resume goes on once there is space", async () => {
  assert.ok(mount(...smallDisk(60)));
  try {
    const line = `${PAIRS} --data @data --masks @masks --count 12`;
    assertRefused(await shop.run(`${line} --out @disk/pairs`), /the disk is full/);
    const made = Object.keys(shop.products("disk/pairs")).filter((name) => name.endsWith(".png"));
    assert.ok(made.length > 0, "nothing fitted");
    assert.ok(mount("-o", "remount,size=4m"));
    await shop.good(`${line} --out @disk/pairs --resume`);
    await shop.good(`${line} --out @roomy`);
    assert.deepEqual(shop.products("disk/pairs"), shop.products("roomy"));
  } finally {
    unmount();
  }
}, !mayMount);

test(
  "a disk that is full at a training's third checkpoint: one line, the two before are whole, and --resume goes on",
  async () => {
    const line = `${TRAIN} --data @data --part plate --max-train-steps 8 --checkpointing-steps 2`;
    await shop.good(`${line} --out @roomy-run`);
    const whole = shop.contents("roomy-run"), names = Object.keys(whole).filter((name) => name.endsWith(".ckpt"));
    assert.deepEqual(names.sort(), ["checkpoints/00000006.ckpt", "checkpoints/00000008.ckpt"]);
    assert.ok(mount(...smallDisk(Math.ceil(2.5 * whole[names[0]].length / 1024) + 16))); // files of text take some pages
    try {
      const result = await shop.run(`${line} --out @disk/run`);
      assertRefused(result, /checkpoints\/00000006\.ckpt: the disk is full/);
      assert.match(result.err, /hint: free some space .* --resume/);
      const kept = shop.contents("disk/run", (path) => !path.endsWith(".lock"));
      assert.deepEqual(Object.keys(kept).sort(), [
        "checkpoints/00000002.ckpt",
        "checkpoints/00000004.ckpt",
        "config.json",
        "loss.jsonl",
        "origin.json",
      ]);
      assert.ok(mount("-o", "remount,size=16m"));
      await shop.good(`${line} --out @disk/run --resume`);
      assert.deepEqual(shop.contents("disk/run"), whole);
    } finally {
      unmount();
    }
  },
  !mayMount,
);

test("a file where the run folder should be", async () => {
  for (const out of ["@run/config.json", "@run/config.json/below"]) {
    const before = shop.products("run"), result = await shop.run(`${TRAIN} --data @data --out ${out}`);
    assertRefused(result, /(a file is there already|a file stands where a folder is needed): .*config\.json/);
    assert.deepEqual(shop.products("run"), before);
  }
});

test("a machine without an adapter", async () => {
  const child = shop.spawn(`${TRAIN} --data @data --out @nothing`, { DENO_WEBGPU_BACKEND: "noop" });
  assertRefused(await ended(child), /no graphics adapter was found with DENO_WEBGPU_BACKEND=noop/);
  assert.equal(exists(shop.file("nothing")), false);
});

// The last one: the device of this file is gone afterwards.
test("a device that is lost: one line, and --resume goes on with what is there", async () => {
  const line = `${PAIRS} --data @data --masks @masks --count 12`;
  const { device } = await openGpu();
  const watch = setInterval(() => {
    if (exists(shop.file("lost/manifest.jsonl")) && Deno.statSync(shop.file("lost/manifest.jsonl")).size > 0) {
      device.destroy();
      clearInterval(watch);
    }
  }, 1);
  try {
    assertRefused(await shop.run(`${line} --out @lost`), /the GPU was lost/);
  } finally {
    clearInterval(watch);
  }
  const made = shop.products("lost");
  const pairs = Object.keys(made).filter((name) => name.includes("/test/"));
  assert.ok(pairs.length > 0 && pairs.length < 24, `${pairs.length} pairs were made`);
  const rest = await ended(shop.spawn(`${line} --out @lost --resume`));
  assert.equal(rest.code, 0, rest.err);
  const all = shop.products("lost");
  assert.equal(Object.keys(all).filter((name) => name.includes("/test/")).length, 24);
  for (const name of pairs) assert.ok(all[name] === made[name], `${name} was made again`);
});
