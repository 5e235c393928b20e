/** Inspection networks learn, go on bit for bit from what was saved, and survive their file; what a step sees is as stated. */
import assert from "node:assert/strict";
import { encodePng } from "../../../src/data/png.ts";
import { type Image, savePng } from "../../../src/data/image.ts";
import { networkParameters } from "../../../src/inspection/models/init.ts";
import type { NetworkConfig } from "../../../src/inspection/models/network.ts";
import { Evaluation } from "../../../src/inspection/metrics/evaluation.ts";
import { addSample, classifierFigures } from "../../../src/inspection/training/evaluate.ts";
import { scanGenerated } from "../../../src/inspection/training/generated.ts";
import { cosineRate, Learner, steppedRate } from "../../../src/inspection/training/learner.ts";
import { decodeInspector, encodeInspector, withPrefix } from "../../../src/inspection/training/model_file.ts";
import { Predictor } from "../../../src/inspection/training/predictor.ts";
import { adjusted, type RecipeName, recipeNetwork, RECIPES } from "../../../src/inspection/training/recipe.ts";
import {
  classifierBatches,
  type InspectionSample,
  loadSample,
  localisationBatches,
  refuseOverlap,
} from "../../../src/inspection/training/samples.ts";
import { Random } from "../../../src/random/philox.ts";
import { gpu } from "../../support/ops.ts";

const SIDE = 32;
const CLASSIFIER: NetworkConfig = { kind: "classifier", baseWidth: 4, classes: 2 };

/** Grey noise, with a bright ("hole": dark) square where a defect is. */
function sample(index: number, kind?: "bump" | "hole"): InspectionSample {
  const random = new Random(4, `inspect/${kind}`, index), mask = new Uint8Array(SIDE * SIDE);
  const x0 = random.integer(2, 20), y0 = random.integer(2, 20);
  if (kind) { for (let y = y0; y < y0 + 9; y++) mask.fill(1, y * SIDE + x0, y * SIDE + x0 + 9); }
  const pixels = Uint8ClampedArray.from({ length: 3 * SIDE * SIDE }, (_, i) => {
    const on = mask[Math.floor(i / 3)];
    return random.integer(90, 130) + (on ? (kind === "bump" ? 90 : -80) : 0);
  });
  return { path: `${kind}-${index}`, kind, pixels, mask: kind && mask, hash: `${kind}-${index}` };
}

const normal = [0, 1, 2, 3, 4].map((i) => sample(i));
const defects = [0, 1, 2, 3].flatMap((i) => [sample(i, "bump"), sample(i, "hole")]);

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

const settings = { side: SIDE, batch: 4, steps: 60, learningRate: 5e-3 };

for (const name of ["official", "narrow"] as const) {
  test(`the localisation U-Net learns to mark squares that it has not seen: ${name} recipe`, () => learns(name));
}

/** Trains by a recipe at the sizes of the test. */
async function learns(name: RecipeName): Promise<void> {
  const recipe = adjusted(RECIPES.localisation[name], {
    baseWidth: name === "narrow" ? 8 : 4,
    side: SIDE,
    batch: 4,
    steps: 60,
    learningRate: name === "narrow" ? 1e-2 : 5e-3,
  });
  const config = recipeNetwork(recipe, "localisation", 0);
  using parameters = networkParameters(1);
  const batches = localisationBatches(1, 4, normal, defects, recipe);
  using learner = new Learner(gpu, config, parameters, batches, recipe);
  await learner.advance(5);
  const first = await learner.takeLoss();
  await learner.advance(55);
  await learner.takeLoss();
  await learner.advance(60);
  const last = await learner.takeLoss();
  assert.ok(last < 0.5 * first, `loss ${first} → ${last}`);
  using predictor = new Predictor(gpu, config, parameters, SIDE, 4);
  const unseen = [sample(9), sample(10), sample(9, "bump"), sample(9, "hole"), sample(10, "bump")];
  const evaluation = new Evaluation();
  for await (const { index, values } of predictor.predict(unseen)) addSample(evaluation, unseen[index], values, SIDE);
  const { pixelAuroc, pixelAp } = evaluation.figures().values;
  assert.ok(pixelAuroc! > 0.9 && pixelAp! > 0.5, `AUROC ${pixelAuroc}, AP ${pixelAp}`);
  const { positives, negatives } = evaluation.imageRanking();
  assert.deepEqual([negatives, positives], [2, 3]);
}

test("a saved training goes on bit for bit, running statistics included; its file keeps what it learned", async () => {
  const made = (p: ReturnType<typeof networkParameters>) =>
    new Learner(gpu, CLASSIFIER, p, classifierBatches(2, 4, defects, ["bump", "hole"]), { ...settings, steps: 6 });
  using whole = networkParameters(2);
  using without = made(whole);
  await without.advance(6);
  using before = networkParameters(2);
  using stopped = made(before);
  await stopped.advance(3);
  const saved = await stopped.save();
  using after = networkParameters(5); // other values: all must come from what was saved
  using resumed = made(after);
  resumed.load(saved, "saved");
  assert.equal(resumed.steps, 3);
  await resumed.advance(6);
  assert.equal(await resumed.takeLoss(), await without.takeLoss());
  assert.deepEqual(await resumed.save(), await without.save());

  const stored = await whole.store(), statistics = stored.get("classifier.bn1.running_var")!.data;
  assert.ok(statistics.every((v) => v !== 1), "the running statistics follow the batches");
  const info = {
    config: CLASSIFIER,
    side: SIDE,
    labels: ["bump", "hole"],
    parts: ["toy"],
    selection: "last" as const,
    step: 6,
    seed: 2,
    trainedOn: ["ab", "cd"],
  };
  const file = decodeInspector(encodeInspector(info, stored), "file");
  assert.deepEqual(file.info, info);
  assert.ok(file.weights.has("layer1.0.conv1.weight"), "names are torchvision's");
  using read = networkParameters(7, withPrefix(CLASSIFIER, file.weights));
  using own = new Predictor(gpu, CLASSIFIER, whole, SIDE, 3);
  using opened = new Predictor(gpu, CLASSIFIER, read, SIDE, 2);
  const results = async (predictor: Predictor) =>
    (await Array.fromAsync(predictor.predict(defects))).map((r) => r.values);
  assert.deepEqual(await results(opened), await results(own), "neither the file nor the batch changes a result");
  assert.throws(() => decodeInspector(saved, "saved"), /no trained inspection network/);
  const last = stored.get("classifier.fc.weight")!, { shape, data } = last;
  const broken = new Map(stored).set("classifier.fc.weight", { ...last, data: data.with(0, NaN) });
  const { weights } = decodeInspector(encodeInspector(info, broken), "broken");
  assert.throws(() => weights.get("fc.weight", shape), /broken: tensor "fc\.weight" holds values that are no numbers/);
});

Deno.test("the rate falls to a fifth at 0.8 and again at 0.9 of all steps", () => {
  const rates = [0, 79, 80, 89, 90, 99].map((step) => steppedRate(step, 100, 1));
  [1, 1, 0.2, 0.2, 0.04, 0.04].forEach((rate, i) => assert.ok(Math.abs(rates[i] - rate) < 1e-12, `${rates}`));
});

Deno.test("a cosine schedule rises over 20 steps and ends near 0", () => {
  const rates = [0, 9, 19, 50, 99].map((step) => cosineRate(step, 100, 1));
  const cosine = (step: number) => 0.5 + 0.5 * Math.cos(Math.PI * step / 100);
  [0.05, 0.5 * cosine(9), cosine(19), 0.5, cosine(99)].forEach((rate, i) =>
    assert.ok(Math.abs(rates[i] - rate) < 1e-12, `${rates}`)
  );
});

Deno.test("a crop holds a defect's pixel, keeps image and mask together, and comes in every place and mirrored", () => {
  const side = SIDE, crop = 16, mask = new Uint8Array(side * side), pixels = new Uint8ClampedArray(3 * side * side);
  for (let y = 3; y < 6; y++) for (let x = 20; x < 26; x++) mask[y * side + x] = 1;
  // Red tells the column, green the row, blue the mask.
  mask.forEach((on, i) => pixels.set([i % side, Math.floor(i / side), 200 * on], 3 * i));
  const only: InspectionSample = { path: "a", kind: "bump", pixels, mask, hash: "a" };
  const batch = localisationBatches(5, 8, [{ ...only, kind: undefined, mask: undefined }], [only], {
    normalShare: 0.25,
    flips: true,
    crop,
  });
  let normals = 0;
  const corners = new Set<string>(), mirrored = new Set<string>();
  for (let step = 0; step < 50; step++) {
    const { image, labels } = batch(step);
    assert.equal(image.length, 8 * 3 * crop * crop);
    for (let b = 0; b < 8; b++) {
      const at = (x: number, y: number, c: number) => Math.round(255 * image[((b * crop + y) * crop + x) * 3 + c]);
      const own = labels.subarray(b * crop * crop, (b + 1) * crop * crop);
      if (own.includes(1)) {
        own.forEach((on, i) => assert.equal(at(i % crop, Math.floor(i / crop), 2), 200 * on));
      } else normals++;
      const [dx, dy] = [at(1, 0, 0) - at(0, 0, 0), at(0, 1, 1) - at(0, 0, 1)];
      assert.deepEqual([Math.abs(dx), Math.abs(dy)], [1, 1], "neighbours stay neighbours");
      mirrored.add(`${dx},${dy}`);
      corners.add(`${at(0, 0, 0)},${at(0, 0, 1)}`);
    }
  }
  assert.equal(mirrored.size, 4);
  assert.ok(corners.size > 60, `${corners.size} places`);
  assert.ok(Math.abs(normals - 100) < 35, `${normals} of 400 normal`);
  assert.deepEqual(batch(7), batch(7));
});

Deno.test("controls are half of the normal items, shown where surface was drawn, and their masks are no labels", () => {
  const side = SIDE, crop = 16, mask = new Uint8Array(side * side), pixels = new Uint8ClampedArray(3 * side * side);
  for (let y = 3; y < 6; y++) for (let x = 20; x < 26; x++) mask[y * side + x] = 1;
  mask.forEach((on, i) => pixels.set([0, on ? 255 : 0, 0], 3 * i)); // what was drawn is green
  const control: InspectionSample = { path: "c", kind: "bump", pixels, mask, hash: "c" };
  const batch = localisationBatches(6, 8, normal, defects, { normalShare: 0.5, crop }, [control]);
  let controls = 0, plain = 0;
  for (let step = 0; step < 50; step++) {
    const { image, labels } = batch(step), each = crop * crop;
    for (let b = 0; b < 8; b++) {
      const own = image.subarray(3 * b * each, 3 * (b + 1) * each),
        isControl = own.every((v, i) => i % 3 === 1 || v === 0);
      const marked = labels.subarray(b * each, (b + 1) * each).includes(1);
      if (isControl) {
        controls++;
        assert.ok(own.includes(1), "the crop shows nothing of what was drawn");
        assert.ok(!marked, "a control's mask is no label");
      } else if (!marked) plain++;
    }
  }
  assert.ok(
    Math.abs(controls - 100) < 35 && Math.abs(plain - 100) < 35,
    `${controls} controls, ${plain} normal images`,
  );
  assert.deepEqual(batch(7), batch(7));
});

Deno.test("half of what is drawn is normal, all kinds come as often, and a step draws the same again", () => {
  const unequal = [...defects, ...[4, 5, 6, 7, 8, 9].map((i) => sample(i, "hole"))];
  const batch = localisationBatches(3, 8, normal, unequal), counts = { normal: 0, bump: 0, hole: 0 };
  for (let step = 0; step < 60; step++) {
    const { image, labels } = batch(step), each = SIDE * SIDE;
    for (let b = 0; b < 8; b++) {
      const at = labels.subarray(b * each, (b + 1) * each).indexOf(1);
      if (at < 0) counts.normal++;
      else counts[image[(b * each + at) * 3] > 0.5 ? "bump" : "hole"]++;
    }
  }
  assert.ok(Math.abs(counts.normal - 240) < 45, JSON.stringify(counts));
  assert.ok(Math.abs(counts.bump - 120) < 40 && Math.abs(counts.hole - 120) < 40, JSON.stringify(counts));
  assert.deepEqual(localisationBatches(3, 8, normal, unequal)(7), batch(7));
  const classes = classifierBatches(3, 4, defects, ["bump", "hole"]);
  const epoch = [0, 1].flatMap((step) => [...classes(step).labels]);
  assert.equal(epoch.filter((label) => label === 0).length, 4, "an epoch shows every image once");
});

Deno.test("accuracy and confusion", () => {
  const { accuracy, confusion } = classifierFigures([0, 0, 1, 2], [0, 1, 1, 0], 3);
  assert.equal(accuracy, 0.5);
  assert.deepEqual(confusion, [[1, 1, 0], [0, 1, 0], [1, 0, 0]]);
});

Deno.test("figures of whole images are left out where no image is normal; a NaN is refused", () => {
  const evaluation = new Evaluation(), one = sample(0, "bump");
  const map = Float32Array.from(one.mask!, (v) => v * 0.9);
  assert.equal(addSample(evaluation, one, map, SIDE, 0.7), 0.7);
  const { values } = evaluation.figures();
  assert.equal(values.pixelAp, 1);
  assert.equal(values.imageAuroc, undefined);
  assert.throws(() => addSample(evaluation, one, map.map(() => NaN), SIDE), /NaN|finite|number/);
});

Deno.test("an image is known by its pixels, under any name; overlap is refused by name", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const image: Image = { width: 40, height: 40, channels: 3, data: new Uint8ClampedArray(4800).fill(77, 100, 300) };
    savePng(`${folder}/a.png`, image);
    await Deno.writeFile(`${folder}/b.png`, encodePng(image));
    savePng(`${folder}/c.png`, { ...image, data: image.data.with(0, 1) as unknown as Uint8ClampedArray });
    const [a, b, c] = await Promise.all(["a", "b", "c"].map((n) => loadSample(32, { image: `${folder}/${n}.png` })));
    assert.equal(a.pixels.length, 3 * 32 * 32);
    assert.throws(() => refuseOverlap([a.hash.slice(0, 16)], [c, b]), /b\.png is a training image too/);
    refuseOverlap([a.hash], [c]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("generated pairs: the manifest's accepted ones, or the layout's; a missing mask is named", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (const name of ["test/crack/0.png", "test/crack/1.png", "ground_truth/crack/0_mask.png"]) {
      await Deno.mkdir(`${folder}/wood/${name.slice(0, name.lastIndexOf("/"))}`, { recursive: true });
      savePng(`${folder}/wood/${name}`, { width: 2, height: 2, channels: 1, data: new Uint8Array(4) });
    }
    assert.throws(() => scanGenerated(folder), /1\.png: no mask/);
    const line = (stem: string, accepted: boolean) =>
      JSON.stringify({
        part: "wood",
        defect: "crack",
        image: `wood/test/crack/${stem}.png`,
        mask: `wood/ground_truth/crack/${stem}_mask.png`,
        accepted,
      });
    await Deno.writeTextFile(`${folder}/manifest.jsonl`, `${line("0", true)}\n${line("1", false)}\n`);
    assert.deepEqual(scanGenerated(folder).map(({ image }) => image), [`${folder}/wood/test/crack/0.png`]);
    assert.throws(() => scanGenerated(folder, { parts: ["metal"] }), /no pairs of part metal/);
    assert.throws(() => scanGenerated(`${folder}/nowhere`), /no generated pairs/);
    const hole = line("2", false).replaceAll("crack", "hole"),
      notes: string[] = [],
      note = (text: string) => notes.push(text);
    await Deno.writeTextFile(`${folder}/manifest.jsonl`, `${line("0", true)}\n${hole}\n`);
    assert.equal(scanGenerated(folder, { note }).length, 1);
    assert.match(notes.join("\n"), /^wood\+hole: left out, since the quality gate refused every pair/);
    assert.throws(() => scanGenerated(folder, { defects: ["hole"] }), /the quality gate refused every pair/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
