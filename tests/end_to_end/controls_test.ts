/** Controls of pairs on the tiny model: what they show, that a lost one is made again alone, and that `regenerate` makes them again. */
import assert from "node:assert/strict";
import { binaryMask, loadImage } from "../../src/data/image.ts";
import type { ManifestRecord } from "../../tasks/jobs/pairs.ts";
import { featherMask } from "../../src/anomaly/paste.ts";
import { Workshop } from "./program.ts";

const shop = new Workshop();
const PAIRS = "generate --data @data --model @model --train-run @run --part weave --steps 2 --count 2 --batch-size 4 " +
  "--no-colour-check --min-changed-share 0 --max-attempts 1"; // a random model has colours of its own

/** Records of a run's manifest. */
function manifest(folder: string): ManifestRecord[] {
  return Deno.readTextFileSync(shop.file(folder, "manifest.jsonl")).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
}

/** Image files of a run. */
const pictures = (folder: string) => shop.contents(folder, (path) => path.endsWith(".png"));

/** Control files of a run. */
const controls = (folder: string) => Object.keys(pictures(folder)).filter((path) => path.includes("/train/good/"));

await shop.good(
  "train --data @data --model @model --part weave --max-train-steps 3 --train-batch-size 2 " +
    "--augmented-copies 2 --validation-steps 0 --out @run",
);
await shop.good(`${PAIRS} --min-change 0 --out @pairs`);
// A limit that one of the four pairs does not reach: it is refused, and has no control.
const [least, next] = manifest("pairs").map(({ figures }) => figures.changeInside).sort((a, b) => a - b);
await shop.good(`${PAIRS} --min-change ${(least + next) / 2} --controls --out @controlled`);

/** Runs a test on the folder that all tests share. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

test("generate --controls draws the surface in place of the defect: same pairs, same places, the lost ones again", async () => {
  const records = manifest("controlled"), all = pictures("pairs"), some = pictures("controlled");
  assert.deepEqual(records.map(({ accepted }) => accepted).sort(), [false, true, true, true]);
  assert.equal(controls("controlled").length, 3);
  for (const { part, defect, index, image, mask, source, control, accepted } of records) {
    assert.equal(control, `${part}/train/good/${defect}-000${index}.png`);
    assert.equal(some[image], all[image], "a control changes its pair");
    assert.equal(some[control!] !== undefined, accepted);
    if (!accepted) continue;
    const drawn = await loadImage(shop.file("controlled", control!)), pair = await loadImage(shop.file("pairs", image));
    const from = await loadImage(shop.file("data", source)),
      marks = binaryMask(await loadImage(shop.file("pairs", mask)));
    let differs = 0, changed = 0;
    featherMask(marks, 3 * Math.max(1, marks.width / 32)).forEach((alpha, i) => {
      for (let k = 3 * i; k < 3 * i + 3; k++) {
        if (alpha === 0) assert.equal(drawn.data[k], from.data[k], "a control leaves its mask");
        if (drawn.data[k] !== pair.data[k]) differs++;
        if (drawn.data[k] !== from.data[k]) changed++;
      }
    });
    assert.ok(differs > 0 && changed > 0, `${control} is its pair or its source`);
  }
  // One that is lost is refused where it is needed, and made again alone.
  const lost = controls("controlled")[1];
  await Deno.remove(shop.file("controlled", lost));
  const training = "inspect-train --pairs @controlled --data @data --recipe narrow --max-train-steps 1 " +
    "--train-batch-size 2 --base-width 4 --resolution 32";
  for (const line of [training, "export --pairs @controlled --format coco --controls"]) {
    const { code, err } = await shop.run(`${line} --out @refused`);
    assert.equal(code, 1);
    assert.ok(err.includes(`${lost}: the control is not there\n`) && /hint: .*generate --resume/.test(err), err);
  }
  await shop.good("generate --out @controlled --resume --batch-size 1");
  assert.deepEqual(pictures("controlled"), some);
  assert.match((await shop.good(`${training} --out @inspector`)).err, /reading controls: 3 images/);
  const { out } = await shop.good("export --pairs @controlled --format coco --controls --out @exported");
  assert.match(out, /train \d images .*, val \d images/);
  assert.equal(Object.keys(pictures("exported")).length, 6);
});

test("regenerate makes controls again with the same bytes, those of the chosen pairs alone", async () => {
  const { out } = await shop.good("regenerate --pairs @controlled --batch-size 3 --out @again");
  assert.match(out, /^4 of 4 images and 3 of 3 controls are the same bytes as in .*controlled$/m);
  assert.deepEqual(pictures("again"), pictures("controlled"));
  assert.deepEqual(manifest("again"), manifest("controlled"));
  const [refused] = manifest("controlled").filter(({ accepted }) => !accepted);
  const [, chosen] = manifest("controlled").filter(({ accepted }) => accepted);
  const two = await shop.good(`regenerate --pairs @controlled --image ${chosen.image},${refused.image} --out @two`);
  assert.match(two.out, /^2 of 2 images and 1 of 1 controls are the same bytes/m);
  assert.deepEqual(controls("two"), [chosen.control]);
});

test("regenerate dies again and again, among the controls too, and ends with the same bytes", async () => {
  const line = "regenerate --pairs @controlled --batch-size 1 --out @dying --resume";
  let among = 0, lives = 1;
  for (let writes = 14; await shop.runUntilWrite(writes, line); writes++) {
    const there = controls("dying").length;
    if (there > 0 && there < 3) among++;
    if (++lives > 20) throw new Error(`it never ends: the last life had ${writes} writes`);
  }
  assert.ok(among > 0, `none of ${lives - 1} deaths was among the controls`);
  assert.deepEqual(pictures("dying"), pictures("controlled"));
  assert.deepEqual(manifest("dying"), manifest("controlled"));
});

test("regenerate says which controls are gone, and which differ", async () => {
  const [gone, changed] = controls("controlled"), file = shop.file("controlled", gone);
  const bytes = Deno.readFileSync(file);
  Deno.removeSync(file);
  const { out } = await shop.good("regenerate --pairs @controlled --out @gone");
  assert.match(out, /^4 of 4 images and 2 of 3 controls are the same .*; 1 is not there to compare with$/m);
  Deno.writeFileSync(file, bytes);
  Deno.copyFileSync(file, shop.file("controlled", changed));
  const differing = await shop.run("regenerate --pairs @controlled --out @differing");
  assert.equal(differing.code, 1);
  assert.ok(
    differing.err.includes(`error: 1 of 7 images differ from those in ${shop.file("controlled")}: ${changed}\n`),
  );
});
