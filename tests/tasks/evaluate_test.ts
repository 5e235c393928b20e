/** The `evaluate` command: the figures of a run's pairs, by themselves and by the user's networks. */
import assert from "node:assert/strict";
import { loadImage } from "../../src/data/image.ts";
import { resize } from "../../src/data/resize.ts";
import { inceptionScore, kernelInceptionDistance } from "../../src/inspection/metrics/generation.ts";
import { OnnxWriter } from "../../src/inspection/onnx/writer.ts";
import type { EvaluationFile } from "../../tasks/jobs/evaluation.ts";
import type { KindSummary } from "../../tasks/jobs/pair_summary.ts";
import { exists, Workshop } from "../end_to_end/program.ts";

const shop = new Workshop();
await shop.good("baseline --method crop-paste --data @data --count 6 --out @pairs");

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

const read = (folder: string): EvaluationFile =>
  JSON.parse(Deno.readTextFileSync(shop.file(folder, "evaluation.json")));
const near = (a: number, b: number, what: string) => assert.ok(Math.abs(a - b) < 2e-5, `${what}: ${a} and ${b}`);

/** A network whose outputs are all an image's mean colour. */
function meanColour(...outputs: string[]): Uint8Array<ArrayBuffer> {
  const model = new OnnxWriter(), x = model.input("image", [1, 3, 16, 16]);
  const mean = model.node("GlobalAveragePool", [x]);
  for (const name of outputs) model.output(model.node("Flatten", [mean], {}, name), [1, 3]);
  return model.build("mean colour");
}

async function colours(paths: readonly string[]): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (const path of paths) {
    const { data } = resize(await loadImage(path), 16, 16, "bilinear"), row = new Float32Array(3);
    data.forEach((v, i) => row[i % 3] += v / 256);
    rows.push(row);
  }
  return rows;
}

test("what baseline said at its end, measured anew; over all the means of the kinds", async () => {
  const { out, err } = await shop.good("evaluate --pairs @pairs --out @plain");
  const file = read("plain"),
    before: KindSummary[] = JSON.parse(Deno.readTextFileSync(shop.file("pairs/summary.json")));
  assert.equal(file.kinds.length, 4);
  for (const [i, kind] of file.kinds.entries()) {
    const known = before[i];
    assert.deepEqual([kind.part, kind.defect, kind.pairs, kind.nearDuplicates.count], [
      ...[known.part, known.defect, known.pairs, known.nearDuplicates.count],
    ]);
    near(kind.changeInside.mean, known.changeInside.mean, "change");
    near(kind.nearestTraining!.median, known.nearestTraining!.median, "nearest");
    near(kind.onPart.mean, known.onPart.mean, "on part");
    assert.equal(kind.is, undefined);
  }
  const mean = (figure: (kind: KindSummary) => number) => file.kinds.reduce((sum, kind) => sum + figure(kind), 0) / 4;
  near(file.overall.changeInside.mean, mean((kind) => kind.changeInside.mean), "overall change");
  near(file.overall.nearestTraining!.median, mean((kind) => kind.nearestTraining!.median), "overall nearest");
  assert.equal(file.overall.pairs, 24);
  assert.match(out, /^defect +pairs +change inside/m);
  assert.match(out, /^overall +24 /m);
  assert.doesNotMatch(out, /IS|KID/);
  assert.match(err, /without --inception and --lpips there are no IS, KID and IC-LPIPS/);
  const page = Deno.readTextFileSync(shop.file("plain/evaluation.md"));
  assert.match(page, /^\| plate: dent \| 6 \|/m);
  assert.match(page, /^\| overall \| 24 \|/m);
});

test("IS, KID and IC-LPIPS under their rules; what has no meaning is left out and said", async () => {
  await Deno.writeFile(shop.file("inception.onnx"), meanColour("logits", "features"));
  await Deno.writeFile(shop.file("lpips.onnx"), meanColour("embedding"));
  const line = "evaluate --pairs @pairs --inception @inception.onnx --lpips @lpips.onnx";
  const { out, err } = await shop.good(`${line} --seed 3 --out @full`);
  const file = read("full");
  const made = await colours([0, 1, 2, 3, 4, 5].map((i) => shop.file(`pairs/plate/test/dent/000${i}.png`)));
  const real = await colours([0, 1, 2, 3, 4, 5].map((i) => shop.file(`data/plate/test/dent/00${i}.png`)));
  const [dent] = file.kinds, kid = kernelInceptionDistance(real, made, { seed: 3 }).mean;
  assert.ok(Math.abs(dent.kid! - kid) < 1e-3 * Math.abs(kid), `${dent.kid} and ${kid}`);
  assert.ok(dent.icLpips! > 0);
  near(file.parts!.plate.icLpips!, (file.kinds[0].icLpips! + file.kinds[1].icLpips!) / 2, "part");
  near(file.overall.kid!, file.kinds.reduce((sum, one) => sum + one.kid!, 0) / 4, "overall KID");
  // Six images of a kind are too few for ten splits; the twelve of a part are not.
  assert.equal(dent.is, undefined);
  const all = [
    ...made,
    ...await colours([0, 1, 2, 3, 4, 5].map((i) => shop.file(`pairs/plate/test/scratch/000${i}.png`))),
  ];
  near(file.parts!.plate.is!, inceptionScore(all, { seed: 3 }).mean, "IS");
  assert.match(err, /plate\+dent: Inception Score: 6 images for 10 splits/);
  assert.match(out, /KID × 1000 \(magic\) +IC-LPIPS \(anomalydiffusion\)/);
  assert.match(out, /^part, all kinds +IS +KID × 1000/m);
  await shop.good("report @full --out @page");
  assert.match(Deno.readTextFileSync(shop.file("page/index.html")), /IC-LPIPS \(anomalydiffusion\)/);
  await shop.good(`${line} --kid-rule o2mag --cluster-rule seas --part plate --out @other`);
  assert.deepEqual(read("other").conventions, { kid: "o2mag", icLpips: "seas", seed: 0 });
  assert.notEqual(read("other").kinds[0].icLpips, dent.icLpips);
  // An Inception with features alone, as torchvision's, gives KID and no IS.
  await Deno.writeFile(shop.file("features.onnx"), meanColour("features"));
  const said = (await shop.good("evaluate --pairs @pairs --inception @features.onnx --part weave --out @features")).err;
  assert.ok(read("features").kinds.every(({ kid, is }) => kid !== undefined && is === undefined));
  assert.match(said, /^KID by features\.onnx; no IS, since the network has no output "logits" \(docs\/metrics\.md\)$/m);
  // One with logits alone gives IS, of a part here.
  await Deno.writeFile(shop.file("logits.onnx"), meanColour("logits"));
  const told = (await shop.good("evaluate --pairs @pairs --inception @logits.onnx --part weave --out @logits")).err;
  assert.ok(read("logits").parts!.weave.is! > 0 && read("logits").kinds.every(({ kid }) => kid === undefined));
  assert.match(told, /^IS by logits\.onnx; no KID, since the network has no output "features" \(docs\/metrics\.md\)$/m);
  assert.match(err, /^IS and KID by inception\.onnx\nIC-LPIPS by lpips\.onnx$/m);
});

test("pairs that the gate refused are not measured", async () => {
  await Deno.mkdir(shop.file("refused"));
  const lines = Deno.readTextFileSync(shop.file("pairs/manifest.jsonl")).trimEnd().split("\n").map((line) => {
    const record = JSON.parse(line);
    return `${
      JSON.stringify({ ...record, accepted: record.index !== 2, refused: record.index === 2 ? ["unchanged"] : [] })
    }\n`;
  });
  await Deno.writeTextFile(shop.file("refused/manifest.jsonl"), lines.join(""));
  for (const part of ["plate", "weave"]) await Deno.symlink(shop.file("pairs", part), shop.file("refused", part));
  await shop.good("evaluate --pairs @refused --data @data --part weave --out @accepted");
  const { kinds, refusedPairs, overall } = read("accepted");
  assert.deepEqual(kinds.map(({ pairs }) => pairs), [5, 5]);
  assert.deepEqual([refusedPairs, overall.pairs], [2, 10]);
});

test("mistakes: one line each, and nothing is written", async () => {
  const cases: [line: string, message: RegExp][] = [
    ["", /missing --pairs/],
    ["--pairs @nowhere --data @data", /nowhere holds no manifest of pairs/],
    ["--pairs @nowhere", /nowhere holds no manifest of pairs/],
    ["--pairs @refused", /the pairs' data set is not where it was/],
    ["--pairs @pairs --data @model", /model: not a data set/],
    ["--pairs @pairs --part glass", /no part glass/],
    ["--pairs @pairs --inception @none.onnx", /none\.onnx: no such file/],
    ["--pairs @pairs --inception @lpips.onnx", /it has no output "logits" or "features", only embedding/],
    ["--pairs @pairs --kid-rule fid", /--kid-rule is one of/],
  ];
  for (const [line, message] of cases) {
    const { code, err } = await shop.run(`evaluate ${line} --out @wrong`);
    assert.ok(code === 1 || code === 2, `${line}: ${code}\n${err}`);
    assert.match(err, message);
    assert.doesNotMatch(err, /fault of the program/);
    assert.ok(!exists(shop.file("wrong")), `${line} left a folder`);
  }
});
