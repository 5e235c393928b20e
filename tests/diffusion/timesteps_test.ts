/** Draws of noise levels. */
import assert from "node:assert/strict";
import { createSchedule, signalToNoise } from "../../src/diffusion/schedule.ts";
import { timestepQuantile, type TimestepSampling } from "../../src/diffusion/timesteps.ts";

const schedule = createSchedule(), DRAWS = 200_000;

function histogram(sampling: TimestepSampling): Float64Array {
  const quantile = timestepQuantile(schedule, sampling), counts = new Float64Array(schedule.timesteps);
  for (let k = 0; k < DRAWS; k++) counts[quantile((k + 0.5) / DRAWS)]++;
  return counts.map((n) => n / DRAWS);
}

Deno.test("uniform draws are uniform", () => {
  assert.ok(histogram("uniform").every((share) => share === 1 / 1000));
});

Deno.test("balanced draws follow the inverse of the error, and stay in range", () => {
  const shares = histogram("balanced");
  const wanted = Float64Array.from(schedule.alphasCumprod, (a) => Math.min(1 / signalToNoise(a), 5) + 0.4);
  const total = wanted.reduce((a, b) => a + b, 0);
  shares.forEach((share, t) => assert.ok(Math.abs(share - wanted[t] / total) < 1.01 / DRAWS, `t = ${t}`));
  const quantile = timestepQuantile(schedule, "balanced");
  assert.deepEqual([quantile(0), quantile(1 - 2 ** -53)], [0, 999]);
});

Deno.test("detailed draws take the first two fifths four times as often", () => {
  histogram("detailed").forEach((share, t) => {
    const wanted = (t < 400 ? 4 : 1) / 2200;
    assert.ok(Math.abs(share - wanted) < 1.01 / DRAWS, `t = ${t}: ${share}, expected ${wanted}`);
  });
});
