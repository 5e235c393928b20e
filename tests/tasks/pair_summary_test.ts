/** The figures about pairs that every run of generate and baseline tells: right, the same after a resume, and printed. */
import assert from "node:assert/strict";
import { loadImage, loadMask } from "../../src/data/image.ts";
import { changeFigures } from "../../src/inspection/metrics/pairs.ts";
import { type KindSummary, SUMMARY_NOTE, summaryTable } from "../../tasks/jobs/pair_summary.ts";
import type { ManifestRecord } from "../../tasks/jobs/pairs.ts";
import { Workshop } from "../end_to_end/program.ts";

const shop = new Workshop();
const read = (folder: string): KindSummary[] => JSON.parse(Deno.readTextFileSync(shop.file(folder, "summary.json")));
const manifest = (folder: string): ManifestRecord[] =>
  Deno.readTextFileSync(shop.file(folder, "manifest.jsonl")).trimEnd().split("\n").map((line) => JSON.parse(line));

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

test("baseline: changes inside and outside, copies and duplicates; resumed, the same", async () => {
  const { out } = await shop.good("baseline --method crop-paste --data @data --part plate --count 6 --out @crop");
  const summaries = read("crop"), records = manifest("crop");
  assert.deepEqual(summaries.map(({ part, defect, pairs, accepted }) => [part, defect, pairs, accepted]), [
    ["plate", "dent", 6, 6],
    ["plate", "scratch", 6, 6],
  ]);
  for (const summary of summaries) {
    const mine = records.filter(({ defect }) => defect === summary.defect), inside: number[] = [];
    for (const { image, mask, source } of mine) {
      const pair = {
        image: await loadImage(shop.file("crop", image)),
        mask: await loadMask(shop.file("crop", mask)),
      };
      inside.push(changeFigures(await loadImage(shop.file("data", source)), pair).changeInside);
    }
    const mean = inside.reduce((a, b) => a + b) / inside.length;
    assert.ok(Math.abs(summary.changeInside.mean - mean) < 1e-5);
    assert.ok(summary.changeInside.std > 0 && summary.changeInside.count === 6);
    assert.deepEqual([summary.largestOutside, summary.changeOutside.max], [0, 0]);
    assert.ok(summary.onPart.mean > 0.5 && summary.onPart.mean <= 1);
    // What is cut out of a training image and laid elsewhere looks much like it.
    const { median, trainingMedian } = summary.nearestTraining!;
    assert.ok(median > 0 && trainingMedian! > 0);
    assert.equal(summary.seedVariety, undefined);
  }
  assert.match(out, /^defect +pairs +change inside +mask changed/m);
  assert.match(out, /^plate: dent +6 +\d+\.\d ± \d+\.\d %/m);
  assert.doesNotMatch(out, /by seed/);
  await shop.good("baseline --method crop-paste --data @data --part plate --count 3 --out @more");
  await shop.good("baseline --out @more --resume --count 6");
  assert.deepEqual(read("more"), summaries);
});

test("generate: the background is kept to the byte, and the seed makes a difference", async () => {
  const model = "--data @data --model @model --part plate";
  await shop.good(
    `train ${model} --max-train-steps 2 --train-batch-size 1 --augmented-copies 1 --validation-steps 0 --out @run`,
  );
  const line = `generate ${model} --train-run @run --steps 2 --count 2 --seed-probes 2`;
  const { out } = await shop.good(`${line} --out @pairs`);
  const summaries = read("pairs");
  assert.equal(summaries.length, 2);
  for (const { pairs, changeInside, largestOutside, seedVariety, nearDuplicates } of summaries) {
    assert.equal(pairs, 2);
    assert.ok(changeInside.mean > 0 && changeInside.mean < 1);
    assert.equal(largestOutside, 0);
    assert.ok(seedVariety! > 0 && seedVariety! < 1, `${seedVariety}`);
    assert.ok(nearDuplicates.count <= 1);
  }
  assert.match(out, /by seed/);
  assert.equal(manifest("pairs").length, 4); // the probes are not kept
  await shop.good(`${line} --batch-size 1 --out @again`);
  assert.deepEqual(read("again"), summaries);
});

Deno.test("the table leaves out what is not known, and its note explains its columns", () => {
  const same = (value: number) => ({ mean: value, std: 0, min: value, max: value, count: 1 });
  const one: KindSummary = {
    part: "plate",
    defect: "dent",
    pairs: 1,
    accepted: 0,
    changeInside: same(0.25),
    changedShare: same(1),
    changeOutside: same(0),
    largestOutside: 0,
    onPart: same(1),
    nearDuplicates: { count: 0, share: 0 },
  };
  const { columns, rows } = summaryTable([one]);
  assert.deepEqual(columns, [
    ...["defect", "pairs", "change inside", "mask changed", "outside", "largest", "on part", "alike"],
  ]);
  assert.deepEqual(rows, [["plate: dent", "0 of 1", "25.0 %", "100 %", "0.00 %", "0 %", "100 %", "0"]]);
  const all = summaryTable([{ ...one, nearestTraining: { median: 0.1, copied: 1 }, seedVariety: 0.05 }]);
  assert.deepEqual(all.rows[0].slice(-4), ["10.0 %", "1", "0", "5.0 %"]);
  for (const name of ["mask changed", "outside", "largest", "nearest training", "copied", "alike", "by seed"]) {
    assert.ok(SUMMARY_NOTE.toLowerCase().includes(name), name);
  }
});
