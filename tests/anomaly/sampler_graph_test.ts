/**
 * Two steps of the program that sampling runs, against float64: blending, guidance, each form of re-weighting and the samplers, with
 * the noise that the U-Net predicts. The first step has no x̂₀ of one before.
 */
import assert from "node:assert/strict";
import { paperWeights } from "../../src/anomaly/paper_weights.ts";
import { disposeState, samplerState, stepEffects } from "../../src/anomaly/sampler_graph.ts";
import { ddimSteps } from "../../src/diffusion/ddim.ts";
import { dpmSteps } from "../../src/diffusion/dpm.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { compile } from "../../src/graph/compile.ts";
import { input } from "../../src/graph/variable.ts";
import { type KeysValues, timestepEmbedding, unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { blend, ddimUpdate, guide, noised, predictX0 } from "../reference/diffusion.ts";
import { dilateMask, maskedDistance, paperWeightsOfLatents, weightMapOfDistance } from "../reference/reweighting.ts";
import { assertClose, map, type NDArray, ndarray, normals } from "../support/arrays.ts";
import { relativeL2 } from "../support/close.ts";
import { gpu } from "../support/ops.ts";
import { tinyModelConfig } from "../support/tiny_model.ts";

const config = tinyModelConfig(), { maxLength } = config.text, B = 2, side = 8, guidance = 3, learned = 3;
const shape = [B, side, side, 4], flat = [B, side, side, 1];
const f32 = (...parts: NDArray[]) => Float32Array.from(parts.flatMap(({ data }) => [...data]));
const ones = (of: readonly number[]) => ndarray(of, 1);

/** The left of the first picture, a piece of the second. */
const mask = map(ndarray(flat), (_, i) => {
  const x = i % side, y = Math.floor(i / side) % side;
  return (i < side * side ? x < 3 : x > 2 && x < 6 && y > 3 && y < 7) ? 1 : 0;
});

/** 1 on the learned columns, which stand at another place in each picture. */
const columns = map(ndarray([B, maxLength]), (_, i) => {
  const at = i % maxLength - (i < maxLength ? 5 : 4);
  return at >= 0 && at < learned ? 1 : 0;
});

const schedule = createSchedule(), HALF_WIDTHS = [2, 1];
const x0 = normals(shape, "z0");

/** x after each of two steps: of the program, which must be that of float64. */
async function twoSteps(sampler: "ddim" | "dpm++2m", form: "off" | "official" | "paper"): Promise<Float32Array[]> {
  using parameters = new Parameters(new FormulaWeights("step"), torchLayouts);
  const sizes = { batch: B, guidance, reweighting: form, tokens: learned, sampler };
  const state = samplerState(config, sizes), found: Float32Array[] = [];
  try {
    const context = new Map<string, KeysValues>();
    for (const [name, { k, v }] of state.keys) {
      k.write(f32(normals(k.shape, `${name} k`)));
      v.write(f32(normals(v.shape, `${name} v`)));
      context.set(name, { k: k.tensor, v: v.tensor });
    }
    using step = compile(gpu, {}, stepEffects(config, parameters, state, sizes));
    const double = [2 * B, ...shape.slice(1)];
    using predictor = compile(gpu, {
      eps: unet(
        config.unet,
        parameters,
        input("blended", double),
        input("time", [2 * B, config.unet.modelChannels]),
        context,
        form === "off" ? undefined : {
          map: input("map", [2 * B, ...flat.slice(1)]),
          columns: input("columns", [2 * B, maxLength]),
          mode: form === "official" ? "logits" : "probabilities",
        },
      ),
    });
    let x = normals(shape, "x"), before: NDArray | undefined;
    state.x.write(f32(x));
    state.z0.write(f32(x0));
    state.mask.write(f32(mask));
    state.columns.write(f32(columns));
    state.clean?.write(f32(x0));
    const steps = sampler === "ddim" ? ddimSteps(schedule, 5, 1) : dpmSteps(schedule, 16);
    for (const [n, at] of steps.slice(0, 2).entries()) {
      const { t, aBar } = at, background = normals(shape, `background ${n}`), noise = normals(shape, `noise ${n}`);
      const time = timestepEmbedding(Array(2 * B).fill(t), config.unet.modelChannels);
      const own = "sigma" in at ? [at.xCoef, at.epsCoef, at.sigma] : [at.xCoef, at.x0Coef, at.x0PrevCoef];
      step.step({
        backgroundNoise: f32(background),
        ...(sampler === "ddim" ? { stepNoise: f32(noise) } : {}),
        coefficients: Float32Array.of(Math.sqrt(aBar), Math.sqrt(1 - aBar), ...own, guidance, 1 / Math.sqrt(aBar)),
        time,
        halfWidth: Uint32Array.of(HALF_WIDTHS[n]),
      });
      const drawn = form === "official" ? dilateMask(mask, HALF_WIDTHS[n]) : mask;
      const weights = form === "official"
        ? weightMapOfDistance(maskedDistance(x, x0, drawn), drawn)
        : form === "paper" && before
        ? paperWeightsOfLatents(before, x0, mask)
        : ones(flat);
      const blended = blend(x, noised(x0, background, aBar), drawn);
      const { eps } = await predictor.run({
        blended: f32(blended, blended),
        time,
        map: f32(weights, ones(flat)),
        columns: f32(columns, ndarray(columns.shape)),
      });
      const half = eps.length / 2;
      const guided = guide(ndarray(shape, eps.subarray(half)), ndarray(shape, eps.subarray(0, half)), guidance);
      const clean = predictX0(blended, guided, aBar);
      x = "sigma" in at
        ? ddimUpdate(at, blended, guided, noise)
        : map(blended, (value, i) =>
          at.xCoef * value + at.x0Coef * clean.data[i] + (before ? at.x0PrevCoef * before.data[i] : 0));
      before = clean;
      const data = await state.x.read();
      assertClose({ shape, data }, x, 1e-4, `${sampler}, ${form}: x after step ${n}`);
      found.push(data);
    }
  } finally {
    disposeState(state);
  }
  return found;
}

Deno.test({
  name:
    "a blended, guided step is float64's, by each sampler and with each form of re-weighting; the paper's begins with the second",
  sanitizeResources: false,
  async fn() {
    const plain = await twoSteps("ddim", "off"), official = await twoSteps("ddim", "official");
    const paper = await twoSteps("ddim", "paper");
    assert.ok(relativeL2(official[0], plain[0]) > 1e-3, "the official form changes nothing");
    assertClose({ shape, data: paper[0] }, ndarray(shape, plain[0]), 1e-5, "weights before there is an x̂₀");
    assert.ok(relativeL2(paper[1], plain[1]) > 1e-3, "the paper's form changes nothing");
    const solver = await twoSteps("dpm++2m", "off");
    assert.ok(relativeL2((await twoSteps("dpm++2m", "paper"))[1], solver[1]) > 1e-3, "nor with DPM-Solver++");
  },
});

Deno.test({
  name: "the paper's weights: any unit of δ, pixels where nothing differs, a mask of nothing",
  sanitizeResources: false,
  async fn() {
    const size = [1, 16, 12, 4], where = [1, 16, 12, 1];
    const some = map(normals(where, "some"), (v) => v > 0 ? 1 : 0), clean = normals(size, "clean");
    using program = compile(gpu, {
      w: paperWeights(input("clean", size), input("z0", size), input("mask", where)),
    });
    const cases: [string, NDArray, NDArray][] = [
      ["latents", clean, some],
      ["large differences", map(clean, (v) => 1e3 * v), some],
      ["small differences", map(clean, (v) => 1e-4 * v), some],
      ["no difference", ndarray(size), some],
      ["no difference at some pixels", map(clean, (v, i) => i % 24 < 8 ? 0 : v), some],
      ["no mask", clean, ndarray(where)],
    ];
    for (const [name, x, m] of cases) {
      const z0 = ndarray(size), { w } = await program.run({ clean: f32(x), z0: f32(z0), mask: f32(m) });
      assertClose({ shape: where, data: w }, paperWeightsOfLatents(x, z0, m), 1e-5, name);
    }
  },
});
