/** Runs that are resumed once something they began with was replaced: refused in one line, and continued once it is back. */
import assert from "node:assert/strict";
import { toPng } from "../../src/data/image.ts";
import { TINY_GOOD, tinyNormal, tinyPair } from "../support/tiny_data.ts";
import { writeTinyModel } from "../support/tiny_model.ts";
import { ended, Workshop } from "./program.ts";

const shop = new Workshop();
const SMALL = "--data @data --model @model --max-train-steps 2 --train-batch-size 2";
const LEARNING = `${SMALL} --augmented-copies 1 --part plate`;

/** Every command that keeps a training's state, and whether it learns from pairs, their masks alone, or normal images. */
const TRAININGS = {
  train: { line: `train ${LEARNING} --validation-steps 0`, learns: "pairs masks surfaces" },
  tune: { line: `train --tune ${LEARNING} --validation-steps 0`, learns: "pairs masks surfaces" },
  "train-masks": { line: `train-masks ${LEARNING}`, learns: "masks" },
  baseline: {
    line: `baseline --method textual-inversion ${LEARNING} --count 1 --steps 1`,
    learns: "pairs masks surfaces",
  },
  adapt: { line: `adapt ${SMALL} --views 9 --validation-steps 0`, learns: "surfaces" },
  pretrain: {
    line: `pretrain ${SMALL} --autoencoder-steps 1 --autoencoder-batch-size 1 --views 9 --validation-steps 0`,
    learns: "surfaces",
  },
};

function test(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

/**
 * Fails unless a call is refused in one line with one hint.
 * @param fresh in a process of its own: this one keeps base models open
 */
async function refused(line: string, message: RegExp, fresh = false): Promise<void> {
  const { code, err } = fresh ? await ended(shop.spawn(line)) : await shop.run(line), lines = err.trimEnd().split("\n");
  const at = lines.findIndex((line) => line.startsWith("error: "));
  assert.equal(code, 1, err);
  assert.match(lines[at] ?? "", message, err);
  assert.deepEqual(lines.slice(at + 1), [
    "  hint: put back what it began with, or begin anew with --overwrite or another --out",
  ]);
}

/** Does something while files of the shop, or a folder, hold other bytes or are gone. */
async function changed(names: string | string[], bytes: Uint8Array | undefined, fn: () => Promise<unknown>) {
  const paths = [names].flat().map((name) => shop.file(name)), aside = (i: number) => shop.file(`aside-${i}`);
  paths.forEach((path, i) => Deno.renameSync(path, aside(i)));
  try {
    if (bytes) { for (const path of paths) Deno.writeFileSync(path, bytes); }
    await fn();
  } finally {
    paths.forEach((path, i) => Deno.renameSync(aside(i), path));
  }
}

writeTinyModel(shop.file("stranger"), "stranger");
const stranger = Deno.readFileSync(shop.file("stranger/model.safetensors"));
const other = tinyPair("plate", "dent", 50);

const GOOD = Array.from({ length: TINY_GOOD }, (_, i) => `data/plate/train/good/00${i}.png`);
const otherGood = toPng(tinyNormal("plate", 9));

for (const [name, { line, learns }] of Object.entries(TRAININGS)) {
  test(`${name}: goes on with the base model and the data that it began with only`, async () => {
    await shop.good(`${line} --out @${name}`);
    if (name === "baseline") Deno.removeSync(shop.file("baseline/embeddings.safetensors")); // learns no more once it is there
    const resume = `${line} --out @${name} --resume`, before = shop.products(name);
    const is = (what: string) => learns.includes(what), image = toPng(other.image);
    const what = is("pairs") ? "training pairs" : "training masks";
    const others = new RegExp(`/${name} began with other ${what} of plate\\+dent$`);
    await changed(
      "model/model.safetensors",
      stranger,
      () => refused(resume, /began with another base model$/, name !== "tune" && is("masks")),
    );
    if (is("masks")) {
      await changed(
        "data/plate/test/scratch",
        undefined,
        () => refused(resume, new RegExp(`/${name} began with ${what} of plate\\+scratch, which are gone$`)),
      );
      await changed("data/plate/ground_truth/dent/000_mask.png", toPng(other.mask), () => refused(resume, others));
    }
    if (is("pairs")) await changed("data/plate/test/dent/001.png", image, () => refused(resume, others));
    if (is("surfaces")) {
      const message = /began with other normal images( of plate)?$/;
      await changed(GOOD, otherGood, () => refused(resume, message));
    }
    assert.deepEqual(shop.products(name), before);
    if (is("pairs")) await shop.good(resume);
    else await changed("data/plate/test/dent/001.png", image, () => shop.good(resume));
  });
}

test("a kind of defect that is new, and a run from before this was kept", async () => {
  const { line } = TRAININGS.train, resume = `${line} --out @fewer --resume`;
  await changed("data/plate/test/dent", undefined, () => shop.good(`${line} --out @fewer`));
  await refused(resume, /\/fewer began without training pairs of plate\+dent$/);
  Deno.removeSync(shop.file("train/origin.json"));
  const old = `${line} --out @train --resume`;
  await changed("data/plate/test/dent/001.png", toPng(other.image), () => shop.good(old));
  await refused(old, /began with other training pairs of plate\+dent$/); // from then on it is known
});

test("adapt: latents from before the first checkpoint are not mixed with those of other images", async () => {
  Deno.removeSync(shop.file("adapt/checkpoints"), { recursive: true });
  await changed(
    GOOD[2],
    otherGood,
    () => refused(`${TRAININGS.adapt.line} --out @adapt --resume`, /adapt began with other normal images$/),
  );
});

test("generate-masks: masks of two trainings are not mixed", async () => {
  const line = "generate-masks --data @data --model @model --masks-run @masks-run --steps 1 --part plate " +
    "--max-attempts 1";
  const training = `${TRAININGS["train-masks"].line} --out @masks-run`;
  await shop.good(training);
  await shop.good(`${line} --count 1 --out @masks`);
  const before = shop.products("masks");
  await shop.good(`${training} --seed 3 --overwrite`);
  for (const count of [1, 3]) {
    await refused(`${line} --count ${count} --out @masks --resume`, /masks began with other mask embeddings$/);
  }
  assert.deepEqual(Object.keys(shop.products("masks")), Object.keys(before));
  await shop.good(`${training} --overwrite`); // the first ones again, byte for byte
  await shop.good(`${line} --count 2 --out @masks --resume`);
  // A folder from before this was kept goes on.
  Deno.removeSync(shop.file("masks/origin.json"));
  await shop.good(`${training} --seed 3 --overwrite`);
  await shop.good(`${line} --count 3 --out @masks --resume`);
  await shop.good(`${training} --overwrite`);
  await refused(`${line} --count 3 --out @masks --resume`, /masks began with other mask embeddings$/);
});

test("another length on --resume: a constant rate gives what that length gives, one that falls does not", async () => {
  for (const scheduler of ["constant", "fall"]) {
    const line = `${TRAININGS["train-masks"].line} --lr-scheduler ${scheduler}`.replace("steps 2", "steps 4");
    const longer = line.replace("steps 4", "steps 6");
    await shop.good(`${line} --out @${scheduler}-4`);
    await shop.good(`${longer} --out @${scheduler}-4 --resume`);
    await shop.good(`${longer} --out @${scheduler}-6`);
    const [resumed, whole] = [4, 6].map((steps) => shop.products(`${scheduler}-${steps}`)["embeddings.safetensors"]);
    assert.equal(resumed === whole, scheduler === "constant");
  }
});
