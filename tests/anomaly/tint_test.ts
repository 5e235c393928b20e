/** Tints of defects: exact on pictures that are made for it, and what a kind's training pairs allow. */
import assert from "node:assert/strict";
import { type Tint, tintOf, TintRange } from "../../src/anomaly/tint.ts";
import { scanDataset } from "../../src/data/mvtec.ts";
import { loadPair } from "../../src/data/mvtec.ts";
import { partsFolder } from "../../tasks/assets.ts";

Deno.test("tintOf() compares the mask with a ring that keeps off its rim, at any size", () => {
  for (const scale of [1, 2]) {
    const side = 128 * scale, marks = new Uint8Array(side * side), data = new Uint8ClampedArray(3 * side * side);
    for (let i = 0; i < side * side; i++) {
      const steps = Math.max(0, Math.abs(i % side - side / 2) + Math.abs(Math.floor(i / side) - side / 2) - 5 * scale);
      marks[i] = steps === 0 ? 1 : 0;
      // A defect of 90, a rim of 255 that is not to be seen, surroundings of 39, and beyond them 0.
      data[3 * i + 1] = steps === 0 ? 90 : steps <= 2 * scale ? 255 : steps <= 8 * scale ? 39 : 0;
    }
    const image = { width: side, height: side, channels: 3 as const, data };
    const tint = tintOf(image, { width: side, height: side, channels: 1, data: marks });
    assert.deepEqual(tint?.map((v) => Math.round(1e6 * v) / 1e6), [0, 0.2, 0]);
  }
  const blank = { width: 8, height: 8, channels: 3 as const, data: new Uint8ClampedArray(192) };
  for (const value of [0, 1]) { // nothing marked, nothing around
    assert.equal(tintOf(blank, { width: 8, height: 8, channels: 1, data: new Uint8Array(64).fill(value) }), undefined);
  }
});

Deno.test("TintRange: as far from the nearest example as examples are from each other and a little more", () => {
  const range = new TintRange([[0, 0, 0], [0.2, 0, 0], [0.1, 0, 0]]);
  assert.ok(Math.abs(range.reach - 0.25) < 1e-12);
  assert.ok(range.holds([0.4, 0, 0]) && range.holds([-0.2, 0.1, 0]) && !range.holds([0.5, 0, 0]));
  const lone = new TintRange([[0.1, 0.1, 0.1]]);
  assert.ok(lone.holds([0.1, 0.1, 0.19]) && !lone.holds([0.1, 0.1, 0.21]));
  assert.ok(new TintRange([]).holds([1, 1, 1]) && lone.holds(undefined));
  assert.equal(lone.distance(undefined), undefined);
});

Deno.test("real defects that were not learned from are of their kind's colours, and no blot of blue or white is", async () => {
  const kinds = scanDataset(partsFolder()).flatMap(({ name, defects }) => defects.map((defect) => ({ name, defect })));
  const tints = await Promise.all(kinds.map(async ({ defect }) => {
    const of = async (pairs: typeof defect.train) => {
      const found: Tint[] = [];
      for (const pair of pairs) {
        const { image, mask } = await loadPair(pair);
        found.push(tintOf(image, mask)!);
      }
      return found;
    };
    return { learned: new TintRange(await of(defect.train)), rest: await of(defect.test) };
  }));
  const refused = tints.flatMap(({ learned, rest }) => rest.map((tint) => !learned.holds(tint)));
  assert.deepEqual([refused.length, refused.filter(Boolean).length], [48, 0]);
  // What the check is for: a blue blot, a white one.
  for (const tint of [[-0.2, -0.1, 0.3], [0.4, 0.4, 0.4]] as const) {
    assert.ok(tints.every(({ learned }) => !learned.holds(tint)), `${tint}`);
  }
});
