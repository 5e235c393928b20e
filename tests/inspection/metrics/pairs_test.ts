/** Figures of pairs without a network, and the evaluation that gathers all detection figures. */
import assert from "node:assert/strict";
import { detectionFigures, Evaluation } from "../../../src/inspection/metrics/evaluation.ts";
import {
  changeFigures,
  defectDescriptor,
  descriptorDistance,
  DUPLICATE,
  type LabelledImage,
  memorising,
  nearDuplicates,
  seedVariety,
  spread,
} from "../../../src/inspection/metrics/pairs.ts";
import { PairSummary } from "../../../src/inspection/metrics/pair_summary.ts";
import type { Image, Mask } from "../../../src/data/image.ts";
import { UserError } from "../../../src/errors.ts";
import { Random } from "../../../src/random/philox.ts";

const SIDE = 48;

const maskOf = (inside: (x: number, y: number) => boolean): Mask => ({
  width: SIDE,
  height: SIDE,
  channels: 1,
  data: Uint8Array.from({ length: SIDE * SIDE }, (_, i) => +inside(i % SIDE, Math.floor(i / SIDE))),
});

const imageOf = (value: (x: number, y: number) => number): Image => ({
  width: SIDE,
  height: SIDE,
  channels: 3,
  data: Uint8ClampedArray.from(
    { length: 3 * SIDE * SIDE },
    (_, k) => value(Math.floor(k / 3) % SIDE, Math.floor(k / 3 / SIDE)),
  ),
});

const square = maskOf((x, y) => x >= 16 && x < 32 && y >= 16 && y < 32);

/** A pair whose defect is a random pattern of coarse blocks; the same for the same index. */
function patterned(index: number, noise = 0, turn = false): LabelledImage {
  const random = new Random(6, "tests/pattern", index), grain = new Random(index, "tests/grain", noise);
  const blocks = Array.from({ length: 64 }, () => random.integer(0, 256));
  const image = imageOf((x, y) => {
    const [u, v] = turn ? [SIDE - 1 - y, x] : [x, y];
    return blocks[Math.floor(v / 6) * 8 + Math.floor(u / 6)];
  });
  if (noise) image.data.forEach((v, k) => image.data[k] = v + noise * grain.normal());
  return { image, mask: square };
}

Deno.test("changes: inside, outside and beyond the feather, largest and on the part", () => {
  const source = imageOf(() => 100);
  const result = imageOf((
    x,
    y,
  ) => (square.data[y * SIDE + x] ? (x < 24 ? 151 : 102) : x === 15 && y === 20 ? 110 : 100));
  result.data[0] = 200; // one channel of a corner
  const part = maskOf((x) => x >= 20), figures = changeFigures(source, { image: result, mask: square }, { part });
  assert.ok(Math.abs(figures.changeInside - (51 + 2) / 2 / 255) < 1e-12);
  assert.equal(figures.changedShare, 0.5);
  assert.equal(figures.onPart, 0.75);
  assert.equal(figures.largestOutside, 100 / 255);
  assert.ok(figures.changeOutside > 0);
  result.data[0] = 100;
  assert.equal(changeFigures(source, { image: result, mask: square }).largestOutside, 10 / 255);
  assert.equal(changeFigures(source, { image: result, mask: square }, { feather: 2 }).largestOutside, 0);
  assert.equal(changeFigures(source, { image: result, mask: square }).onPart, 1);
});

Deno.test("memorising: a noisy, turned copy is found, a new pattern is not", () => {
  const training = [0, 1, 2, 3].map((i) => patterned(i));
  const { nearest, copied, median, trainingMedian } = memorising(
    [patterned(2, 4), patterned(1, 4, true), patterned(10), patterned(11)],
    training,
  );
  assert.deepEqual(nearest.slice(0, 2).map(({ index }) => index), [2, 1]);
  assert.ok(nearest[0].distance < DUPLICATE && nearest[1].distance < DUPLICATE, JSON.stringify(nearest));
  assert.equal(copied, 0.5);
  assert.ok(nearest[2].distance > 5 * DUPLICATE && trainingMedian! > 5 * DUPLICATE && median > 0);
  assert.equal(memorising([patterned(5)], [patterned(6)]).trainingMedian, undefined);
});

Deno.test("near-duplicates: every later pair that looks like an earlier one, as all comparisons find them", () => {
  const pairs = [0, 1, 2, 0, 3, 1, 0, 4].map((index, at) => patterned(index, at % 2 ? 3 : 2));
  const { count, share, pairs: found } = nearDuplicates(pairs);
  assert.deepEqual(found, [[0, 3], [1, 5], [0, 6]]);
  assert.deepEqual([count, share], [3, 3 / 8]);
  assert.equal(nearDuplicates([]).share, 0);
  // A threshold in the middle of all distances: the sorted search must miss none.
  const many = Array.from({ length: 30 }, (_, i) => patterned(i % 11, 1 + i));
  const descriptors = many.map(defectDescriptor), threshold = 0.28, expected: [number, number][] = [];
  for (let later = 0; later < 30; later++) {
    const earlier = descriptors.findIndex((d, i) => i < later && descriptorDistance(d, descriptors[later]) < threshold);
    if (earlier >= 0) expected.push([earlier, later]);
  }
  assert.ok(expected.length > 0 && expected.length < 30);
  assert.deepEqual(nearDuplicates(many, threshold).pairs, expected);
});

Deno.test("descriptor: small and border windows, and a mask that covers all", () => {
  const { image } = patterned(0);
  const corner = maskOf((x, y) => x === SIDE - 1 && y === 0), all = maskOf(() => true);
  for (const mask of [corner, all]) {
    const descriptor = defectDescriptor({ image, mask });
    assert.equal(descriptor.length, 16 * 16 * 3);
    assert.ok(descriptor.every((v) => v >= 0 && v <= 1));
  }
  const tiny: Image = { width: 5, height: 4, channels: 3, data: new Uint8ClampedArray(60).fill(51) };
  const dot: Mask = { width: 5, height: 4, channels: 1, data: Uint8Array.from({ length: 20 }, (_, i) => +(i === 7)) };
  assert.ok(defectDescriptor({ image: tiny, mask: dot }).every((v) => Math.abs(v - 0.2) < 1e-6));
});

Deno.test("variety over seeds: the mean over all pairs of images, inside the mask", () => {
  const images = [3, 250, 40, 40].map((value) => imageOf((x, y) => (square.data[y * SIDE + x] ? value : 77)));
  const differences = [247, 37, 37, 210, 210, 0];
  const expected = differences.reduce((a, b) => a + b) / 6 / 255;
  assert.ok(Math.abs(seedVariety(images, square) - expected) < 1e-12);
  assert.equal(seedVariety([images[2], images[3]], square), 0);
});

Deno.test("spread: sample deviation, one value, none", () => {
  assert.deepEqual(spread([1, 3]), { mean: 2, std: Math.SQRT2, min: 1, max: 3, count: 2 });
  assert.equal(spread([5]).std, 0);
});

Deno.test("pairs: empty masks, other sizes and missing images are one clear line each", () => {
  const image = imageOf(() => 9), empty = maskOf(() => false);
  const small: Image = { width: 2, height: 2, channels: 3, data: new Uint8ClampedArray(12) };
  for (
    const [run, pattern] of [
      [() => changeFigures(image, { image, mask: empty }), /mask of the result is empty/],
      [() => changeFigures(small, { image, mask: square }), /one size, not 2×2 and 48×48/],
      [() => memorising([], [patterned(0)]), /needs generated and training pairs/],
      [() => seedVariety([image], square), /at least two images/],
      [() => seedVariety([image, small], square), /the mask's size/],
      [() => seedVariety([image, image], empty), /not empty/],
      [() => spread([]), /no values/],
      [() => spread([1, NaN]), /is NaN/],
    ] as const
  ) {
    assert.throws(run, (error: Error) => error instanceof UserError && pattern.test(error.message), `${pattern}`);
  }
});

Deno.test("evaluation: all figures of a set, and why some are missing", () => {
  const random = new Random(2, "tests/evaluation"), size = 30;
  const map = (index: number, defective: boolean) => {
    const mask = Array.from({ length: size * size }, (_, i) => +(defective && i % size < 9 && i < 200));
    const scores = Float32Array.from(mask, (m) => 0.5 * random.uniform() + (m ? 0.3 : 0));
    return { width: size, height: size, scores, mask, name: `${index}.png` };
  };
  const whole = new Evaluation(), names = Object.keys(detectionFigures);
  for (let i = 0; i < 6; i++) whole.add(map(i, i > 2));
  const { values, missing } = whole.figures();
  assert.deepEqual(Object.keys(values).sort(), names.sort());
  assert.deepEqual(missing, {});
  assert.equal(values.imageAuroc, 1);
  assert.ok(values.pixelAuroc! > 0.8 && values.pixelAuroc! < 1 && values.auPro30! > 0.5);
  assert.deepEqual(whole.images.map(({ defective }) => defective), [false, false, false, true, true, true]);
  for (const name of names as (keyof typeof values)[]) assert.equal(whole.figure(name), values[name]);
  const { pixelRoc, pixelPrecisionRecall, pro, imageRoc, imagePrecisionRecall } = whole.curves(50);
  for (const curve of [pixelRoc, pixelPrecisionRecall, pro]) assert.ok(curve!.length > 20);
  for (const curve of [imageRoc, imagePrecisionRecall]) assert.ok(curve!.length >= 3);

  const defects = new Evaluation();
  defects.add(map(0, true));
  defects.add(map(1, true));
  const part = defects.figures();
  assert.match(part.missing.imageAuroc!.message, /images: all are defective/);
  assert.ok(part.values.pixelAp! > 0 && part.values.auPro30! > 0 && part.values.imageAp === undefined);
  assert.deepEqual(Object.keys(defects.curves()), ["pixelRoc", "pixelPrecisionRecall", "pro"]);
  const good = new Evaluation();
  good.add(map(0, false));
  assert.deepEqual(good.figures().values, {});
  assert.match(good.figures().missing.auPro30!.message, /no mask has a defective region/);
  assert.throws(() => good.figure("auPro30"), UserError);
  assert.deepEqual(good.curves(), {});
});

Deno.test("a summary fed pair by pair tells what the figures tell of all pairs", () => {
  const source = imageOf(() => 100), training = [0, 1, 2].map((i) => patterned(i));
  const generated = [patterned(2, 4), patterned(10), patterned(10, 3), patterned(11)];
  const summary = new PairSummary(training);
  for (const pair of generated) summary.add(source, pair, { part: maskOf((x) => x >= 20) });
  const figures = summary.figures(), { median, trainingMedian, copied } = memorising(generated, training);
  assert.deepEqual(figures.nearestTraining, { median, trainingMedian, copied });
  assert.deepEqual(figures.nearDuplicates, { count: 1, share: 0.25 });
  assert.deepEqual([figures.pairs, figures.onPart.mean, figures.onPart.std], [4, 0.75, 0]);
  const changes = generated.map((pair) => changeFigures(source, pair));
  assert.deepEqual(figures.changeInside, spread(changes.map(({ changeInside }) => changeInside)));
  assert.equal(figures.largestOutside, Math.max(...changes.map(({ largestOutside }) => largestOutside)));
  assert.throws(() => new PairSummary([]).figures(), UserError);
});
