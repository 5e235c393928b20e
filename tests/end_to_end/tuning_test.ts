/** `train --tune` as a program: a model of its own in the run folder, which what follows takes, and the same bytes whatever comes. */
import assert from "node:assert/strict";
import { decodeEmbedding } from "../../src/anomaly/embedding.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { Workshop } from "./program.ts";

const shop = new Workshop();
const TRAIN = "train --tune --data @data --model @model --part plate --max-train-steps 5 --train-batch-size 3 " +
  "--augmented-copies 2 --checkpointing-steps 2 --validation-steps 4 --num-validation-images 1 --unet-learning-rate 0.01";
const PAIRS =
  "generate --data @data --model @model --train-run @run --part plate --steps 2 --count 2 --no-colour-check";

function test(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

test("train --tune leaves a base model whose U-Net alone has changed, and embeddings that belong to it", async () => {
  await shop.good(`${TRAIN} --out @run`);
  using before = openModelFolder(shop.file("model"));
  using after = openModelFolder(shop.file("run/model"));
  assert.deepEqual(after.names().sort(), before.names().sort());
  let unet = 0;
  for (const name of before.names()) {
    const [a, b] = [before.tensor(name).data, after.tensor(name).data];
    const far = a.some((v, i) => Math.abs(v - b[i]) > 2e-3 * Math.max(1, Math.abs(v))); // beyond f16's rounding
    if (name.startsWith("model.diffusion_model.")) unet += far ? 1 : 0;
    else assert.ok(!far, `${name} changed`);
  }
  assert.ok(unet > 20, `${unet} tensors of the U-Net changed`);
  const file = shop.file("run/embeddings.safetensors"), learned = decodeEmbedding(Deno.readFileSync(file), file);
  assert.deepEqual([learned.regions, learned.model], [true, after.sha256]);
  assert.ok(shop.contents("run")["validation/step-000004.png"]);
});

test("train --tune: dies again and again, and ends with the same bytes", async () => {
  const whole = shop.products("run");
  let lives = 1, writes = 4; // the model's tensors are written one by one
  while (await shop.runUntilWrite(writes, `${TRAIN} --out @dying --resume`)) {
    if (++lives > 40) throw new Error(`it never ends: the last life had ${writes} writes`);
    writes = Math.ceil(1.5 * writes);
  }
  assert.ok(lives > 3, `it died ${lives - 1} times only`);
  const found = shop.products("dying");
  assert.deepEqual(Object.keys(found).sort(), Object.keys(whole).sort());
  for (const [path, bytes] of Object.entries(whole)) assert.ok(found[path] === bytes, `${path} differs`);
});

test("generate and regenerate take the training's own model", async () => {
  const { err } = await shop.good(`${PAIRS} --out @pairs`);
  assert.match(err, /the training tuned its U-Net: .*run.model is taken, which came of .*model/);
  const [record] = Deno.readTextFileSync(shop.file("pairs/manifest.jsonl")).split("\n");
  using own = openModelFolder(shop.file("run/model"));
  const { model, settings } = JSON.parse(record);
  assert.deepEqual([model, settings.reweighting, settings.guidanceBelow], [own.sha256, "off", 600]);
  await shop.good("regenerate --pairs @pairs --out @again");
  const images = (folder: string) => shop.contents(folder, (path) => path.endsWith(".png"));
  assert.deepEqual(images("again"), images("pairs"));
});

test("--tune with what it cannot learn from is wrong usage", async () => {
  for (
    const flag of [
      ...["--no-surface", "--no-masked-loss", "--augmentation official"],
      ...["--scale-lr", "--lr-scheduler constant", "--loss-normalization official"],
    ]
  ) {
    const { code, err } = await shop.run(`${TRAIN} ${flag} --out @wrong`);
    assert.equal(code, 2, err);
    assert.match(err, /--tune (learns the surfaces too|has a loss and rates of its own)/);
  }
});

test("the official code cannot take what belongs to a tuned U-Net", async () => {
  await shop.good(`${TRAIN} --max-train-steps 1 --spatial-encoder official --out @official`);
  const { code, err } = await shop.run("import --from @official --to official --out @exported");
  assert.equal(code, 1, err);
  assert.match(err, /belongs to a U-Net that was tuned/);
});
