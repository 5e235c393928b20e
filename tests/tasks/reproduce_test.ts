/** The `reproduce` command on tiny budgets: tables beside the paper's, sharing of stages, resume, table 1 and 7, mistakes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { publishedMethods } from "../../src/baselines/published.ts";
import { scanDataset, trainCount } from "../../src/data/mvtec.ts";
import { OnnxWriter } from "../../src/inspection/onnx/writer.ts";
import type { ComparisonTable } from "../../src/report/tables.ts";
import { learnedFirst, shareCount, testedLast } from "../../tasks/jobs/reproduce_share.ts";
import { inspectedName, publishedFigures, TABLE_NAMES, tableSpecs } from "../../tasks/jobs/reproduce_tables.ts";
import { exists, Workshop } from "../end_to_end/program.ts";

const shop = new Workshop();
const TINY = "--data @data --model @model --part plate --count 2 --train-steps 2 --train-batch-size 2 " +
  "--augmented-copies 1 --steps 2 --inspect-steps 2 --inspect-width 4 --inspect-resolution 32 --inspect-batch-size 2";

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });
}

/** A network of one image to an embedding: its mean colour. */
function meanColour(): Uint8Array<ArrayBuffer> {
  const model = new OnnxWriter(), x = model.input("image", [1, 3, 16, 16]);
  model.output(model.node("Flatten", [model.node("GlobalAveragePool", [x])], {}, "embedding"), [1, 3]);
  return model.build("mean colour");
}

const read = (folder: string, name: string): ComparisonTable =>
  JSON.parse(Deno.readTextFileSync(shop.file(folder, `${name}.json`)));

/** Everything that the tables are made of. */
const products = (folder: string) => shop.contents(folder, (path) => /(metrics\.json|table\d\.\w+|\.png)$/.test(path));

Deno.test("every table has rows with printed figures, and what is not measured says why", () => {
  assert.equal(TABLE_NAMES.length, 12);
  const all = tableSpecs(TABLE_NAMES, { controls: true, tune: true });
  assert.deepEqual(all.map(({ name }) => name), [1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => `table${n}`));
  for (const spec of all) {
    for (const row of spec.rows) {
      const { average } = publishedFigures(spec, row, []);
      if (row.beyond) {
        assert.ok(row.recipe && average === undefined, `${spec.name} ${row.name}`);
        continue;
      }
      assert.ok(average && Object.values(average).every(Number.isFinite), `${spec.name} ${row.name}`);
      assert.equal(row.recipe === undefined, row.note !== undefined, `${spec.name} ${row.name}`);
      if (publishedMethods[row.name]?.kind === "gan") assert.match(row.note!, /GAN methods are not built here/);
    }
  }
  const [second] = tableSpecs(["table10", "table2"]);
  assert.match(second.title, /^Tables 2 and 10: /);
  const find = (name: string) => second.rows.find((row) => row.name === name)!;
  assert.deepEqual(publishedFigures(second, find("Crop&Paste"), ["wood", "bolt"]), {
    average: { "pixel AUROC": 90.4, "pixel AP": 48.4, "pixel F1-max": 49.4, PRO: 74.3 },
    wood: { "pixel AUROC": 84, "pixel AP": 45.7, "pixel F1-max": 48, PRO: 57.9 },
  });
  assert.equal(publishedFigures(second, second.rows.at(-1)!, []).average["pixel AP"], 74.02);
});

Deno.test("the whole method is one recipe in every table, its ablations are others", () => {
  const names = (table: string) =>
    tableSpecs([table], { controls: true, tune: true })[0].rows.flatMap(({ recipe }) =>
      recipe ? inspectedName(recipe) : []
    );
  assert.deepEqual(names("table2"), [
    "crop-paste",
    "draem",
    "prn",
    "anomalydiffusion",
    "anomalydiffusion-controls",
    "anomalydiffusion-tuned-no-aar",
  ]);
  assert.deepEqual(names("table6"), [
    "textual-inversion",
    "anomalydiffusion-no-masked-loss-no-aar",
    "anomalydiffusion-no-aar",
    "no-spatial",
    "anomalydiffusion",
  ]);
  assert.equal(names("table8")[0], "anomalydiffusion");
  assert.equal(new Set(names("table8")).size, 4);
  assert.deepEqual(names("table9"), ["prompt-to-prompt", "anomalydiffusion"]);
  assert.deepEqual(names("table5"), ["patchcore", "anomalydiffusion"]);
});

Deno.test("a share of the pairs is the first third of its data set, and never one of the tested half", () => {
  for (let count = 2; count <= 40; count++) {
    const pairs = Array.from({ length: count }, (_, i) => i), half = Math.floor(count / 2);
    const tested = testedLast(pairs.slice(half), pairs.slice(0, half));
    assert.deepEqual(tested.slice(trainCount(tested.length)), pairs.slice(half));
    for (const share of [10, 20, 30, 40, 50]) {
      const wanted = pairs.slice(0, shareCount(count, share)), order = learnedFirst(wanted);
      assert.deepEqual(order.slice(0, trainCount(order.length)), wanted);
      assert.ok(wanted.length >= 1 && wanted.length <= half);
    }
  }
  assert.deepEqual([10, 30, 50].map((share) => shareCount(12, share)), [1, 4, 6]);
});

test("table2 and table6: measured beside printed, over seeds; more tables later cost only what is new", async () => {
  const { out } = await shop.good(`reproduce table2 ${TINY} --seeds 0,3 --out @run`);
  assert.match(out, /^# Tables 2 and 10: /);
  const table = read("run", "table2"), row = (name: string) => table.rows.find((r) => r.name === name)!;
  assert.deepEqual(table.seeds, [0, 3]);
  for (const name of ["Crop&Paste", "DRAEM", "PRN", "AnomalyDiffusion"]) {
    const { mean, std, values } = row(name).measured.average["pixel AP"];
    assert.ok(mean > 0 && mean <= 100 && std !== undefined && values.length === 2, name);
    assert.deepEqual(row(name).measured.plate["pixel AP"].values, values);
  }
  assert.deepEqual(row("DFMGAN").measured, {});
  assert.match(row("DFMGAN").note!, /GAN/);
  assert.equal(row("AnomalyDiffusion").published.average["pixel AP"], 81.4);
  assert.match(table.footing["the paper's figures"], /filtered by hand/);
  assert.match(table.footing["selection here"], /last step/);
  assert.match(table.footing.seeds, /0, 3; .*standard deviation/);
  assert.match(table.footing.split, /learned from: 2; tested on: 4, disjoint/);
  for (const form of ["md", "csv"]) assert.ok(exists(shop.file(`run/table2.${form}`)), form);

  const stamp = Deno.readTextFileSync(shop.file("run/times.jsonl"));
  await shop.good("reproduce --out @run --resume table2 table6 --seeds 0");
  const added = Deno.readTextFileSync(shop.file("run/times.jsonl"));
  assert.ok(added.startsWith(stamp), "what was done is not done again");
  const stages = added.slice(stamp.length).trim().split("\n").map((line) => JSON.parse(line).stage as string);
  assert.ok(stages.length > 0 && stages.every((stage) => stage.startsWith("seed-0/")));
  assert.deepEqual(stages.filter((stage) => /\/(pairs|train)\/[^/]+$/.test(stage)), [
    "seed-0/pairs/textual-inversion",
    "seed-0/train/anomalydiffusion-no-masked-loss",
    "seed-0/pairs/anomalydiffusion-no-masked-loss-no-aar",
    "seed-0/pairs/anomalydiffusion-no-aar",
    "seed-0/pairs/no-spatial",
  ]);
  const ablation = read("run", "table6");
  assert.deepEqual(ablation.rows.map(({ measured }) => Object.keys(measured)), Array(5).fill(["plate", "average"]));
  assert.equal(ablation.rows[0].measured.average["pixel AP"].std, undefined);
  assert.equal(
    ablation.rows[4].measured.average["pixel AP"].mean,
    row("AnomalyDiffusion").measured.average["pixel AP"].values[0],
  );
});

test("report: the curves behind a table, and stages as runs of their own", async () => {
  await shop.good("report @run --out @page");
  const html = Deno.readTextFileSync(shop.file("page/index.html"));
  assert.match(html, /<h2>Tables 2 and 10: .*<h2>Curves of plate</s);
  const charts = [...html.matchAll(/aria-label="PRO"[^]*?<\/svg>/g)].map(([svg]) => svg);
  assert.equal(charts.length, 2); // table6's networks are others
  assert.equal([...charts[0].matchAll(/<path class="series s3"/g)].length, 1, "the fourth method");
  const tested = (method: string) => `@run/seed-3/localisation/${method}/plate/test`;
  const words = `${tested("draem")} ours=${tested("anomalydiffusion")}`.replace("=@", `=${shop.path}/`);
  await shop.good(`report ${words} --out @stages`);
  assert.match(Deno.readTextFileSync(shop.file("stages/index.html")), /Worst and best cases/);
  await shop.good("report @run/seed-0/pairs/draem @run/seed-0/pairs/prn --out @methods");
  assert.match(Deno.readTextFileSync(shop.file("methods/index.html")), /dent, side by side/);
});

test("a run that dies goes on to the same tables", async () => {
  const line = `reproduce table4 ${TINY} --seeds 1`;
  await shop.good(`${line} --out @whole`);
  let deaths = 0;
  for (const n of [25, 90]) {
    if (await shop.runUntilWrite(n, `${line} --out @killed${n}`)) deaths++;
    await shop.good("reproduce --resume --out @killed" + n);
    assert.deepEqual(products(`killed${n}`), products("whole"), `died at write ${n}`);
  }
  assert.equal(deaths, 2);
  const table = read("whole", "table4");
  assert.ok(table.rows.find(({ name }) => name === "AnomalyDiffusion")!.measured.average.accuracy.mean >= 0);
  assert.ok(!exists(shop.file("whole/seed-1/classifier/crop-paste/plate/train/checkpoints")));
});

test("table7 learns from shares of the pairs and tests on one half", async () => {
  await shop.good(`reproduce table7 ${TINY} --count 1 --seeds 0 --out @shares`);
  const learned = (share: number) => scanDataset(shop.file(`shares/data/share-${share}`))[0].defects[0].train.length;
  assert.deepEqual([10, 20, 30, 40, 50].map(learned), [1, 1, 2, 2, 3]);
  assert.equal(scanDataset(shop.file("shares/data/last-half"))[0].defects[0].test.length, 3);
  const { rows, footing } = read("shares", "table7");
  assert.ok(rows.every(({ measured }) => measured.average["pixel AUROC"].mean >= 0));
  assert.match(footing.split, /as the row says; tested on: the last half/);
});

/** A network of one image to two grids of mean colours, named as PatchCore asks for them. */
function colourGrids(): Uint8Array<ArrayBuffer> {
  const model = new OnnxWriter(), x = model.input("image", [1, 3, 32, 32]);
  for (const [name, size] of [["layer2", 8], ["layer3", 16]] as const) {
    const pool = model.node("AveragePool", [x], { kernel_shape: [size, size], strides: [size, size] }, name);
    model.output(pool, [1, 3, 32 / size, 32 / size]);
  }
  return model.build("mean colours");
}

test("table5 compares features of a network that is given, table4 starts from weights that are", async () => {
  await Deno.writeFile(shop.file("grids.onnx"), colourGrids());
  await shop.good(`reproduce table5 ${TINY} --seeds 0 --backbone @grids.onnx --out @detectors`);
  const { rows, footing } = read("detectors", "table5");
  assert.match(footing.detectors, /^PatchCore on grids\.onnx, /);
  assert.ok(rows.find(({ name }) => name === "PatchCore")!.measured.average["pixel AP"].mean > 0);
  const { features } = JSON.parse(
    Deno.readTextFileSync(shop.file("detectors/seed-0/localisation/patchcore/plate/test/metrics.json")),
  );
  assert.match(features, /grids\.onnx/);
  await shop.good(`reproduce table4 ${TINY} --seeds 0 --out @random`);
  const weights = "random/seed-0/classifier/crop-paste/plate/train/model.safetensors";
  await shop.good(`reproduce table4 ${TINY} --seeds 0 --classifier-weights @${weights} --out @from`);
  assert.match(read("from", "table4").footing.inspection, /from the weights of model\.safetensors/);
  const bytes = (folder: string) => shop.contents(`${folder}/seed-0/classifier/crop-paste/plate/train`);
  assert.notEqual(bytes("from")["model.safetensors"], bytes("random")["model.safetensors"]);
});

test("table1 is measured by the networks that are given; without any it says what is missing", async () => {
  await Deno.writeFile(shop.file("lpips.onnx"), meanColour());
  const { code, err } = await shop.run(`reproduce table1 ${TINY} --out @none`);
  assert.equal(code, 2);
  assert.match(err, /table1 needs --inception and --lpips/);
  const told = await shop.good(`reproduce table1 ${TINY} --seeds 0 --count 3 --lpips @lpips.onnx --out @quality`);
  assert.match(told.err, /no --inception: the column IS stays empty/);
  const table = read("quality", "table1");
  const { measured } = table.rows.find(({ name }) => name === "Crop&Paste")!;
  assert.ok(measured.average["IC-LPIPS"].mean >= 0 && measured.average.IS === undefined);
  assert.match(table.footing.inspection, /IS not measured: no --inception; IC-LPIPS by lpips.onnx/);
  assert.match(table.footing.conventions, /IC-LPIPS by the rule anomalydiffusion/);
});

test("mistakes: one line each, and nothing is written", async () => {
  const cases: [line: string, message: RegExp][] = [
    ["--data @data", /^error: missing <table …>$/m],
    ["table13 --data @data", /table13/],
    ["table2 --data @data --seeds 0,x", /--seeds holds "x"/],
    ["table2 --data @data --seeds 1,1", /--seeds names 1 twice/],
    [`table2 ${TINY} --part rug`, /no part rug/],
    [`table5 ${TINY} --backbone @none.onnx`, /none\.onnx: no such file/],
    [
      `table2 ${TINY.replace("resolution 32", "resolution 40")}`,
      /^error: --inspect-resolution 40 is no multiple of 32\n +hint: the networks halve/m,
    ],
    [`table4 ${TINY} --classifier-weights @none.safetensors`, /none\.safetensors: no such file/],
  ];
  for (const [line, message] of cases) {
    const { code, err } = await shop.run(`reproduce ${line} --out @mistake`);
    assert.ok(code === 1 || code === 2, `${line}: ${code}`);
    assert.match(err, message);
    assert.ok(!exists(join(shop.path, "mistake")), `${line} left a folder`);
  }
});
