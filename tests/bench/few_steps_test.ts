import assert from "node:assert/strict";
import {
  deviation,
  type FewSteps,
  fewStepsTable,
  figuresOf,
  holds,
  pictureDistance,
  type Row,
  seedDistances,
} from "../../bench/lib/few_steps.ts";
import type { GeneratedPair } from "../../src/anomaly/generate.ts";

/** A picture of two pixels, the first inside the mask. */
const pair = (inside: number, changeInside: number, changedShare: number): GeneratedPair => {
  const image = {
    width: 2,
    height: 1,
    channels: 3 as const,
    data: Uint8ClampedArray.of(inside, inside, inside, 9, 9, 9),
  };
  const mask = { width: 2, height: 1, channels: 1 as const, data: Uint8Array.of(1, 0) };
  return {
    job: { index: 0, key: "a+b", source: image, mask },
    image,
    figures: { changeInside, changeOutside: 0, changedShare },
    attempt: 0,
    accepted: true,
    refused: [],
    feather: 0,
  };
};

Deno.test("few steps: figures are means, distances are inside the mask, deviations in those of the seeds", () => {
  assert.deepEqual(figuresOf([pair(0, 0.25, 1), pair(0, 0.75, 0)]), { changeInside: 0.5, changedShare: 0.5 });
  assert.equal(pictureDistance([pair(0, 0, 0), pair(51, 0, 0)], [pair(51, 0, 0), pair(51, 0, 0)]), 0.1);
  assert.ok(Math.abs(deviation(0.4, [0.1, 0.2, 0.3]) - 2) < 1e-9);
  assert.ok(Math.abs(deviation(0.25, [0.25, 0.5, 0.75]) + 1) < 1e-9);
});

Deno.test("few steps: a seed's distance is the mean to the others'", () => {
  const distances = seedDistances([0, 51, 153].map((inside) => [pair(inside, 0, 0)]));
  [0.4, 0.3, 0.5].forEach((expected, i) => assert.ok(Math.abs(distances[i] - expected) < 1e-9, `${distances}`));
});

Deno.test("few steps: what holds is within the spread and as near as another seed; the table says so", () => {
  const row: Row = {
    way: { sampler: "dpm++2m", steps: 12, eta: 0 },
    ...{ seconds: 1, changeInside: 0.2, changedShare: 0.5, toReference: 0.3, toOde: 0.1 },
    off: { changeInside: -1.5, changedShare: 0.5, distance: 1.9 },
  };
  assert.equal(holds(row), true);
  assert.equal(holds({ off: { ...row.off, distance: 2.1 } }), false);
  assert.equal(holds({ off: { ...row.off, distance: -5 } }), true); // nearer than a seed
  assert.equal(holds({ off: { ...row.off, changedShare: -2.1 } }), false);
  const result: FewSteps = {
    format: "anomalydiffusion-few-steps",
    ...{ date: "2026-01-02T00:00:00Z", adapter: "card", model: "small", pairs: 8, seeds: 2, guidance: 3 },
    reference: { sampler: "ddim", steps: 200, eta: 1 },
    references: [{ changeInside: 0.2, changedShare: 0.5 }, { changeInside: 0.3, changedShare: 0.6 }],
    seedDistances: [0.2, 0.3],
    rows: [row],
  };
  const text = fewStepsTable(result);
  assert.ok(
    text.includes("| dpm++2m, 12 steps | 20.0 % (-1.5 σ) | 50.0 % (0.5 σ) | 30.0 % (1.9 σ) | 10.0 % | 1.0 | yes |"),
    text,
  );
  assert.ok(text.includes("ddim η=1, 200 steps, 2 seeds: change inside 20.0 %, 30.0 %"), text);
});
