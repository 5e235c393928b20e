import assert from "node:assert/strict";
import { ddimSteps } from "../../src/diffusion/ddim.ts";
import { dpmSteps, dpmTimesteps, dpmUpdate } from "../../src/diffusion/dpm.ts";
import { samplingSteps } from "../../src/diffusion/sampling.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { ddimUpdate, predictX0 } from "../reference/diffusion.ts";
import { ndarray } from "../support/arrays.ts";
import { assertClose } from "../support/close.ts";

const schedule = createSchedule();

/**
 * Data from N(0, s²) have an exact noise prediction, and the ODE scales x by the ratio of standard deviations.
 * @returns the relative error of a solver after all steps
 */
function error(solver: "ddim" | "dpm", steps: number, s = 0.3): number {
  const variance = (aBar: number) => aBar * s * s + 1 - aBar;
  const eps = (x: Float32Array, aBar: number) => x.map((v) => v * Math.sqrt(1 - aBar) / variance(aBar));
  let x: Float32Array = Float32Array.of(1), before: Float32Array | undefined;
  const list = solver === "dpm" ? dpmSteps(schedule, steps) : ddimSteps(schedule, steps, 0);
  for (const step of list) {
    const e = eps(x, step.aBar), x0 = x.map((v, i) => (v - Math.sqrt(1 - step.aBar) * e[i]) / Math.sqrt(step.aBar));
    x = "x0Coef" in step ? dpmUpdate(step, x, x0, before) : x.map((v, i) => v * step.xCoef + e[i] * step.epsCoef);
    before = x0;
  }
  const exact = Math.sqrt(variance(list.at(-1)!.aBarPrev) / variance(list[0].aBar));
  return Math.abs(x[0] / exact - 1);
}

Deno.test("dpm: twenty steps are closer to the exact solution than two hundred of DDIM, and the order is two", () => {
  for (const s of [0.1, 0.3, 0.6]) {
    assert.ok(error("dpm", 20, s) < error("ddim", 200, s), `${error("dpm", 20, s)}, DDIM ${error("ddim", 200, s)}`);
  }
  assert.ok(error("dpm", 20) / error("dpm", 40) > 3, `${error("dpm", 20)} → ${error("dpm", 40)}`);
});

Deno.test("dpm: the first step is DDIM's, and few steps end with one of first order", () => {
  const [dpm] = dpmSteps(schedule, 20), { aBar, aBarPrev } = dpm;
  const x = ndarray([2], [0.3, -1.2]), eps = ndarray([2], [0.5, 0.1]), x0 = predictX0(x, eps, aBar);
  const ddim = ddimUpdate({ aBar, aBarPrev, sigma: 0 }, x, eps, ndarray([2]));
  assertClose(
    dpmUpdate(dpm, Float32Array.from(x.data), Float32Array.from(x0.data)),
    Float32Array.from(ddim.data),
    1e-6,
  );
  assert.equal(dpmSteps(schedule, 10).at(-1)!.x0PrevCoef, 0);
  assert.ok(dpmSteps(schedule, 20).at(-1)!.x0PrevCoef < 0);
});

Deno.test("dpm++sde: each step is SDE-DPM-Solver++'s of first order, by the formula in λ", () => {
  const lambda = (aBar: number) => Math.log(Math.sqrt(aBar / (1 - aBar)));
  const steps = samplingSteps(schedule, "dpm++sde", 12), t = dpmTimesteps(schedule, 12).reverse();
  assert.deepEqual(steps.map((step) => step.t), t);
  steps.forEach(({ aBar, coefficients: [x, eps, noise] }, i) => {
    const next = schedule.alphasCumprod[t[i + 1] ?? 0], h = lambda(next) - lambda(aBar);
    const [a, s, aNext, sNext] = [aBar, 1 - aBar, next, 1 - next].map(Math.sqrt);
    // With ε = (x − a·x̂₀)/s the step is linear in x and x̂₀.
    const found = [x + eps / s, -eps * a / s, noise];
    const wanted = [sNext / s * Math.exp(-h), aNext * -Math.expm1(-2 * h), sNext * Math.sqrt(-Math.expm1(-2 * h))];
    assertClose(Float32Array.from(found), Float32Array.from(wanted), 1e-5);
  });
});

Deno.test("dpm++sde: data of one variance keep it in twenty steps, better than in twenty of DDIM with noise", () => {
  for (const s of [0.1, 0.3, 0.6]) {
    const miss = (kind: "ddim" | "dpm++sde", count: number) => {
      let variance = 1; // of x, whose noise prediction is exact for data from N(0, s²)
      for (const { aBar, coefficients: [x, eps, noise] } of samplingSteps(schedule, kind, count, 1)) {
        variance = (x + eps * Math.sqrt(1 - aBar) / (aBar * s * s + 1 - aBar)) ** 2 * variance + noise ** 2;
      }
      const end = schedule.alphasCumprod[0];
      return Math.abs(variance / (end * s * s + 1 - end) - 1);
    };
    assert.ok(miss("dpm++sde", 20) < miss("ddim", 20), `${s}: ${miss("dpm++sde", 20)}, DDIM ${miss("ddim", 20)}`);
    assert.ok(miss("dpm++sde", 40) < 0.7 * miss("dpm++sde", 20), `${s}: no convergence`);
  }
});

Deno.test("dpm: as many timesteps as asked for, ascending from 1 to 999", () => {
  for (const steps of [2, 5, 20, 100, 500, 999]) {
    const sequence = dpmTimesteps(schedule, steps);
    assert.equal(sequence.length, steps);
    assert.deepEqual([sequence[0], sequence.at(-1)], [1, 999]);
    assert.ok(sequence.every((t, i) => i === 0 || t > sequence[i - 1]));
  }
  assert.deepEqual(dpmTimesteps(schedule, 1), [999]);
  assert.deepEqual(dpmTimesteps(schedule, 20).slice(0, 6), [1, 3, 6, 11, 21, 38]);
  assert.throws(() => dpmTimesteps(schedule, 1000), /from 1 to 999, found 1000/);
});

Deno.test("dpm: a steady prediction is followed exactly", () => {
  // With x̂₀ constant, x = √ᾱ·x̂₀ + √(1−ᾱ)·ε at every step.
  const x0 = Float32Array.of(0.7),
    at = (aBar: number) => Float32Array.of(Math.sqrt(aBar) * 0.7 + Math.sqrt(1 - aBar) * 2);
  for (const step of dpmSteps(schedule, 12)) {
    assertClose(dpmUpdate(step, at(step.aBar), x0, x0), at(step.aBarPrev), 1e-6);
  }
  assert.throws(() => dpmUpdate(dpmSteps(schedule, 12)[3], x0, x0), /needs the prediction of the step before/);
});
