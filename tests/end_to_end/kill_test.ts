/**
 * Runs that end before they are done, at any moment and by any cause, and are resumed: what they leave is what a run
 * leaves that nobody disturbed.
 */
import assert from "node:assert/strict";
import { Random } from "../../src/random/philox.ts";
import { ended, exists, Workshop } from "./program.ts";

const shop = new Workshop();
const SMALL = "--max-train-steps 5 --train-batch-size 2 --augmented-copies 1 --checkpointing-steps 2";

/** Every command with a run folder, in the order in which one needs the other. */
const COMMANDS = {
  train: `train --data @data --model @model ${SMALL} --validation-steps 4 --num-validation-images 1 --part plate`,
  "train-masks": `train-masks --data @data --model @model ${SMALL} --part plate`,
  "generate-masks": "generate-masks --data @data --model @model --masks-run @train-masks --steps 2 --count 4 " +
    "--batch-size 3 --part plate",
  generate: "generate --data @data --model @model --train-run @train --masks @generate-masks --steps 2 --count 4 " +
    "--batch-size 3 --min-change 0.25 --part plate",
} as const;

/** The undisturbed runs, in folders named as their commands. */
const whole = new Map<string, Record<string, string>>();
for (const [name, line] of Object.entries(COMMANDS)) {
  await shop.good(`${line} --out @${name}`);
  whole.set(name, shop.products(name));
}

/** Compares a disturbed run with the undisturbed one: the same files, the same bytes. */
function assertSame(expected: Record<string, string>, folder: string): void {
  const found = shop.products(folder);
  assert.deepEqual(Object.keys(found).sort(), Object.keys(expected).sort());
  for (const [path, bytes] of Object.entries(expected)) assert.ok(found[path] === bytes, `${folder}/${path} differs`);
}

function test(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

for (const [name, line] of Object.entries(COMMANDS)) {
  test(`${name}: dies again and again, each time later, and ends with the same bytes`, async () => {
    for (const [first, growth] of [[1, 3], [5, 7]]) {
      const out = `${name}-dying-${first}`;
      let lives = 1;
      for (let writes = first; await shop.runUntilWrite(writes, `${line} --out @${out} --resume`); writes += growth) {
        if (++lives > 60) throw new Error(`it never ends: the last life had ${writes} writes`);
      }
      assert.ok(lives > 3, `it died ${lives - 1} times only`);
      assertSame(whole.get(name)!, out);
    }
  });
}

test("demo: dies at every stage, and ends with the same bytes; then it makes more where more is asked for", async () => {
  const line = "demo --model @model --max-train-steps 2 --mask-train-steps 2 --train-batch-size 1 --steps 1";
  await shop.good(`${line} --count 1 --out @demo`);
  let lives = 1, writes = 9; // the tuned model's tensors are written one by one
  while (await shop.runUntilWrite(writes, `${line} --count 1 --out @demo-dying --resume`)) {
    if (++lives > 20) throw new Error(`it never ends: the last life had ${writes} writes`);
    writes = Math.ceil(1.5 * writes);
  }
  assert.ok(lives > 3, `it died ${lives - 1} times only`);
  const once = shop.products("demo"), again = shop.products("demo-dying");
  assert.deepEqual(Object.keys(again).sort(), Object.keys(once).sort());
  for (const [path, bytes] of Object.entries(once)) assert.ok(again[path] === bytes, `${path} differs`);
  assert.match(once["index.html"], /data:image\/png;base64,/);
  assert.doesNotMatch(once["index.html"], /(src|href)="https?:/);

  await shop.good("demo --out @demo --resume --count 3");
  const more = shop.products("demo");
  const pairs = (files: Record<string, string>) => Object.keys(files).filter((path) => /^pairs\/.*\.png$/.test(path));
  assert.deepEqual([pairs(once).length, pairs(more).length], [2 * 2 * 1, 2 * 2 * 3]);
  for (const path of pairs(once)) assert.ok(more[path] === once[path], `${path} was made again`);
  await shop.good("demo --out @demo --resume --max-train-steps 3");
  const records = Deno.readTextFileSync(shop.file("demo/pairs/manifest.jsonl")).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
  assert.equal(records.length, 2 * 3);
  for (const { image, embeddings } of records) {
    assert.ok(!more["pairs/manifest.jsonl"].includes(embeddings), `${image} is of the embeddings before`);
  }
});

test("one death at a random write, then a resume", async () => {
  const random = new Random(Date.now(), "moments");
  for (const [name, line] of Object.entries(COMMANDS)) {
    const moment = random.integer(1, 60), out = `${name}-once`;
    await shop.runUntilWrite(moment, `${line} --out @${out}`);
    await shop.good(`${line} --out @${out} --resume`);
    console.log(`${name} died at write ${moment}`);
    assertSame(whole.get(name)!, out);
  }
});

/** Starts the program and kills it once a file is there, after a while of at most so many milliseconds. */
async function kill(line: string, out: string, sign: string, most: number): Promise<void> {
  const child = shop.spawn(`${line} --out @${out}`);
  await shop.waitFor(`${out}/${sign}`, child);
  const delay = new Random(Date.now(), "kill").integer(0, most + 1);
  await new Promise((resolve) => setTimeout(resolve, delay));
  try {
    child.kill("SIGKILL");
  } catch {
    // It was faster than the delay; then there is nothing to resume, and the bytes must be the same all the more.
  }
  await ended(child);
  console.log(`${out} was killed ${delay} ms after ${sign} appeared`);
}

test("SIGKILL, whenever it comes", async () => {
  const signs = {
    train: "loss.jsonl",
    "train-masks": "config.json",
    "generate-masks": "plate",
    generate: "manifest.jsonl",
  };
  for (const [name, line] of Object.entries(COMMANDS)) {
    const out = `${name}-killed`;
    await kill(line, out, signs[name as keyof typeof signs], 400);
    await shop.good(`${line} --out @${out} --resume`);
    assertSame(whole.get(name)!, out);
  }
});

test("adapt: SIGKILL among the latents, then among the steps", async () => {
  const line = "adapt --data @data --model @model --views 40 --max-train-steps 6 --train-batch-size 2 " +
    "--checkpointing-steps 2 --validation-steps 0";
  await shop.good(`${line} --out @adapt`);
  await kill(line, "adapt-killed", "latents-0.captions.jsonl", 0);
  assert.ok(!exists(shop.file("adapt-killed/checkpoints")), "it was killed among the steps");
  await kill(`${line} --resume`, "adapt-killed", "checkpoints/00000002.ckpt", 100);
  await shop.good(`${line} --out @adapt-killed --resume`);
  // Beside each loss stand the seconds that it took.
  const timed = ["loss.jsonl", "model/curves.csv"], { [timed[0]]: losses, ...files } = shop.products("adapt");
  assert.equal(losses.trimEnd().split("\n").length, 1);
  const found = shop.products("adapt-killed"), { stage, step, loss } = JSON.parse(losses);
  assert.deepEqual({ ...JSON.parse(found[timed[0]]), seconds: 0 }, { stage, step, loss, seconds: 0 });
  assertSame({ ...files, ...Object.fromEntries(timed.map((name) => [name, found[name]])) }, "adapt-killed");
});

test("Ctrl-C ends with 130, says how to go on, and the rest follows on --resume", async () => {
  // Longer than COMMANDS: a fast machine must not end the run between its first file and the signal.
  const long = [
    ["train", "loss.jsonl", `${COMMANDS.train} --max-train-steps 60 --checkpointing-steps 20 --validation-steps 40`],
    ["generate", "plate", `${COMMANDS.generate} --count 30`],
  ] as const;
  for (const [name, sign, line] of long) {
    await shop.good(`${line} --out @${name}-long`);
    const out = `${name}-stopped`, child = shop.spawn(`${line} --out @${out}`);
    await shop.waitFor(`${out}/${sign}`, child);
    child.kill("SIGINT");
    const { code, err } = await ended(child);
    assert.equal(code, 130, err);
    assert.match(err, new RegExp(`stopped; to go on: .* --out ${shop.file(out)} --resume`));
    assert.doesNotMatch(err, /error/);
    const expected = shop.products(`${name}-long`);
    assert.notDeepEqual(Object.keys(shop.products(out)).sort(), Object.keys(expected).sort());
    await shop.good(`${name} --out @${out} --resume`); // the saved settings hold
    assertSame(expected, out);
  }
});
