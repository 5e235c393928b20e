/** `inspect test` and `inspect patchcore` over several parts: each part's own figures, and their unweighted means. */
import assert from "node:assert/strict";
import { detectionFigures } from "../../src/inspection/metrics/evaluation.ts";
import { writeTinyPairs } from "../support/tiny_data.ts";
import { Workshop } from "../end_to_end/program.ts";

const shop = new Workshop();
writeTinyPairs(shop.file("pairs"), ["plate", "weave"]);
const SIZE = "--base-width 4 --resolution 32 --train-batch-size 2 --max-train-steps 4";
await shop.good(`inspect train --pairs @pairs --data @data ${SIZE} --out @unet`);

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

const read = (folder: string, name = "metrics.json") => JSON.parse(Deno.readTextFileSync(shop.file(folder, name)));
const FIGURES = Object.keys(detectionFigures);
const COUNTS = ["normalImages", "defectImages"];

/** Runs a test on both parts and on each alone, and holds the one against the others. */
async function compared(line: string, out: string): Promise<string> {
  const { out: printed } = await shop.good(`${line} --out @${out}`);
  const all = read(out), curves = read(out, "curves.json"), parts = ["plate", "weave"];
  assert.deepEqual([Object.keys(all.byPart), Object.keys(curves), Object.keys(curves.byPart)], [
    parts,
    ["byPart"],
    parts,
  ]);
  const alone = [];
  for (const part of parts) {
    await shop.good(`${line} --part ${part} --out @${out}-${part}`);
    const own = read(`${out}-${part}`);
    assert.equal(own.byPart, undefined);
    assert.deepEqual(
      all.byPart[part],
      Object.fromEntries([...FIGURES, ...COUNTS].map((name) => [name, own[name]])),
      part,
    );
    assert.deepEqual(curves.byPart[part], read(`${out}-${part}`, "curves.json"), part);
    alone.push(own);
    assert.match(printed, new RegExp(`^${part} +${own.pixelAuroc.toFixed(4)} `, "m"));
  }
  for (const name of FIGURES) assert.equal(all[name], (alone[0][name] + alone[1][name]) / 2, name);
  for (const name of COUNTS) assert.equal(all[name], alone[0][name] + alone[1][name], name);
  assert.deepEqual([all.normalImages, all.defectImages], [2, 16]);
  assert.match(printed, new RegExp(`^pixelAuroc +${all.pixelAuroc.toFixed(4)}$`, "m"));
  return printed;
}

test("inspect test: of several parts the mean of each one's figures, not one ranking of all pixels", async () => {
  const printed = await compared("inspect test --train-run @unet --data @data", "both");
  assert.match(printed, /^means over 2 parts, each counting alike, and sums of images; by part:$/m);
  await shop.good("report @both --out @page");
  const html = Deno.readTextFileSync(shop.file("page/index.html"));
  assert.match(html, /<h2>By part<\/h2>[^]*<td>plate<\/td>[^]*<h2>Curves of plate<\/h2>[^]*<h2>Curves of weave<\/h2>/);
  assert.doesNotMatch(html, /<h2>Curves<\/h2>/);
  await shop.good(`report both=${shop.file("both")} plate=${shop.file("both-plate")} --out @versus`);
  assert.match(
    Deno.readTextFileSync(shop.file("versus/index.html")),
    /Inspection: localisation[^]*<h2>Curves of plate/,
  );
});

test("inspect patchcore: the same", async () => {
  await compared("inspect patchcore --data @data --model @model --resolution 32 --coreset 50", "patches");
});

test("a part without normal test images: the means of whole images' figures are over the other, and that is said", async () => {
  Deno.renameSync(shop.file("data/weave/test/good"), shop.file("good"));
  try {
    const { err } = await shop.good("inspect test --train-run @unet --data @data --out @lacking");
    assert.match(
      err,
      /^weave: no normal test images \(test\/good\): figures of whole images are left out, their means are over the other parts$/m,
    );
    const { byPart, imageAp } = read("lacking");
    assert.equal(byPart.weave.imageAp, undefined);
    assert.equal(imageAp, byPart.plate.imageAp);
  } finally {
    Deno.renameSync(shop.file("good"), shop.file("data/weave/test/good"));
  }
});
