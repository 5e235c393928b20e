import assert from "node:assert/strict";
import { createSchedule, qSample, signalToNoise } from "../../src/diffusion/schedule.ts";
import { noised } from "../reference/diffusion.ts";
import { assertClose, normals } from "../support/arrays.ts";

Deno.test("schedule: the reference's values of β and ᾱ", () => {
  const { betas, alphasCumprod } = createSchedule();
  assert.ok(Math.abs(betas[0] - 0.00085) < 1e-17 && Math.abs(betas[999] - 0.012) < 1e-17);
  const known: Record<number, number> = {
    0: 0.99915,
    1: 0.9982960278384514,
    250: 0.6737926252333215,
    500: 0.2763326838229746,
    750: 0.05616984800293729,
    999: 0.004660098513077238,
  };
  for (const [t, value] of Object.entries(known)) {
    assert.ok(Math.abs(alphasCumprod[Number(t)] / value - 1) < 1e-13, `ᾱ_${t} = ${alphasCumprod[Number(t)]}`);
  }
  assert.ok(alphasCumprod.every((value, t) => t === 0 || value < alphasCumprod[t - 1]));
});

Deno.test("schedule: the forward process mixes signal and noise with unit variance", () => {
  assert.deepEqual([...qSample([2, 0], Float32Array.of(0, 1), 0.25)], [1, Math.fround(Math.sqrt(0.75))]);
  assert.deepEqual([...qSample([2], Float32Array.of(5), 1)], [2]);
  const x0 = normals([64], "x0"), noise = normals([64], "noise");
  const data = qSample(Float32Array.from(x0.data), Float32Array.from(noise.data), 0.3);
  assertClose({ shape: [64], data }, noised(x0, noise, 0.3), 1e-7);
});

Deno.test("schedule: signal-to-noise is 1 where half the variance is signal", () => {
  assert.equal(signalToNoise(0.5), 1);
  assert.equal(signalToNoise(0.8), 4.000000000000001);
});
