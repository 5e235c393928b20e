import assert from "node:assert/strict";
import { ddimSteps, ddimTimesteps } from "../../src/diffusion/ddim.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { ddimUpdate, noised } from "../reference/diffusion.ts";
import { assertClose, map, normals } from "../support/arrays.ts";

const schedule = createSchedule();

Deno.test("ddim: the reference's timesteps, and exactly S of them where S does not divide T", () => {
  assert.deepEqual(ddimTimesteps(5), [1, 201, 401, 601, 801]);
  assert.deepEqual([ddimTimesteps(200)[1], ddimTimesteps(200)[199], ddimTimesteps(100)[99]], [6, 996, 991]);
  for (const steps of [1, 7, 30, 333, 999]) {
    const sequence = ddimTimesteps(steps);
    assert.equal(sequence.length, steps);
    assert.ok(sequence[0] === 1 && sequence.at(-1)! <= 999);
    assert.equal(new Set(sequence).size, steps);
  }
  for (const bad of [0, -1, 1000, 2.5, NaN]) assert.throws(() => ddimTimesteps(bad), /whole number from 1 to 999/);
});

Deno.test("ddim: the reference's σ for S = 200, η = 1", () => {
  const steps = ddimSteps(schedule, 200, 1).reverse();
  const known: [number, number, number][] = [
    [0, 1, 0.020648320],
    [1, 6, 0.034997474],
    [100, 501, 0.153523535],
    [199, 996, 0.241123465],
  ];
  for (const [index, t, sigma] of known) {
    assert.equal(steps[index].index, index);
    assert.equal(steps[index].t, t);
    assert.ok(Math.abs(steps[index].sigma - sigma) < 6e-10, `σ_${index} = ${steps[index].sigma}`);
  }
  assert.equal(steps[0].aBarPrev, schedule.alphasCumprod[0]);
  assert.equal(steps[5].aBarPrev, steps[4].aBar);
});

Deno.test("ddim: with the true noise and η = 0 a step lands exactly on the less noisy sample", () => {
  const x0 = normals([64], "x0"), eps = normals([64], "eps");
  for (const { aBar, aBarPrev, sigma, xCoef, epsCoef } of ddimSteps(schedule, 7, 0)) {
    assert.equal(sigma, 0);
    const next = map(noised(x0, eps, aBar), (v, i) => xCoef * v + epsCoef * eps.data[i]);
    assertClose(next, noised(x0, eps, aBarPrev), 1e-12);
  }
});

Deno.test("ddim: the coefficients are those of the formula by x̂₀, for any η", () => {
  const x = normals([64], "x"), eps = normals([64], "eps"), noise = normals([64], "noise");
  for (const eta of [0, 0.4, 1]) {
    for (const step of ddimSteps(schedule, 9, eta)) {
      const { xCoef, epsCoef, sigma } = step;
      const next = map(x, (v, i) => xCoef * v + epsCoef * eps.data[i] + sigma * noise.data[i]);
      assertClose(next, ddimUpdate(step, x, eps, noise), 1e-12, `η = ${eta}, t = ${step.t}`);
    }
  }
});

Deno.test("ddim: with η = 1 the step keeps the marginal variance", () => {
  for (const { aBar, aBarPrev, xCoef, epsCoef, sigma } of ddimSteps(schedule, 13, 1)) {
    // x = √ᾱ x₀ + √(1−ᾱ) ε: coefficient of x₀ after the step is √ᾱ', and the noise adds up to 1 − ᾱ'.
    assert.ok(Math.abs(xCoef * Math.sqrt(aBar) - Math.sqrt(aBarPrev)) < 1e-14);
    const noiseCoef = xCoef * Math.sqrt(1 - aBar) + epsCoef;
    assert.ok(Math.abs(noiseCoef ** 2 + sigma ** 2 - (1 - aBarPrev)) < 1e-14);
  }
});

Deno.test("ddim: eta out of range is refused", () => {
  assert.throws(() => ddimSteps(schedule, 5, 1.5), /eta must lie between 0 and 1, found 1.5/);
});
