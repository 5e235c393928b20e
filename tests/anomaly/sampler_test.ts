import assert from "node:assert/strict";
import { type BlendedStep, blendedStep, Sampler, type SamplerSettings } from "../../src/anomaly/sampler.ts";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { samplingSteps } from "../../src/diffusion/sampling.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { input } from "../../src/graph/variable.ts";
import { timestepEmbedding, unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { Random } from "../../src/random/philox.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { assertClose, relativeL2 } from "../support/close.ts";
import { tinyModelConfig, writeTinyModel } from "../support/tiny_model.ts";

const gpu = await Gpu.open();

/** Runs with a tiny base model, and an embedding of two tokens for one kind. */
async function withTinyBase(
  run: (base: BaseModel, tokens: Float32Array, embedding: ConstructorParameters<typeof Sampler>[1]) => Promise<void>,
): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    writeTinyModel(folder);
    using base = new BaseModel(gpu, folder, "f32");
    const width = base.config.text.width, tokens = new Random(1, "tokens").normals(2 * width);
    await run(base, tokens, { keys: ["a+b"], tokens: 2, width, table: tokens, model: base.sha256 });
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test({
  name:
    "sampler: a blended run of DPM-Solver++(2M) is the paper's algorithm in float64, with the noise that the U-Net predicts",
  sanitizeResources: false,
  async fn() {
    const config = tinyModelConfig().unet, side = 8, size = side * side * 4, steps = 16;
    const schedule = createSchedule(), shape = [1, side, side, 4];
    using parameters = new Parameters(new FormulaWeights("dpm"), torchLayouts);
    const time = input("time", [1, config.modelChannels]), context = input("context", [1, 24, config.contextDim]);
    const { next, clean } = blendedStep(
      config,
      parameters,
      {
        x: input("x", shape),
        z0: input("z0", shape),
        mask: input("mask", [1, side, side, 1]),
        backgroundNoise: input("backgroundNoise", shape),
        carried: input("carried", shape),
        coefficients: input("coefficients", [7]),
        timeEmbedding: time,
        context,
        guided: false,
        sampler: "dpm++2m",
      } satisfies BlendedStep,
    );
    using program = compile(gpu, { next, clean: clean! });
    using predictor = compile(gpu, { eps: unet(config, parameters, input("x", shape), time, context) });
    const draw = (purpose: string, count = size) => new Random(1, purpose).normals(count);
    const z0 = draw("z0"), words = draw("context", 24 * config.contextDim), noise = new Random(1, "steps");
    const mask = Float32Array.from({ length: side * side }, (_, i) => (i % side < 5 ? 1 : 0));
    const alphas = schedule.alphasCumprod, lambda = (a: number) => Math.log(Math.sqrt(a) / Math.sqrt(1 - a));
    const sequence = samplingSteps(schedule, "dpm++2m", steps);

    let x: Float32Array = draw("x"), carried: Float32Array = new Float32Array(size);
    let reference: Float64Array = Float64Array.from(x), before: Float64Array | undefined, lambdaBefore = 0;
    for (const [i, { t, aBar, coefficients }] of sequence.entries()) {
      const backgroundNoise = noise.normals(size), embedded = timestepEmbedding([t], config.modelChannels);
      const signal = Math.sqrt(aBar), spread = Math.sqrt(1 - aBar);
      const feed = { z0, mask, backgroundNoise, carried, time: embedded, context: words };
      ({ next: x, clean: carried } = await program.run({
        ...feed,
        x,
        coefficients: Float32Array.of(signal, spread, ...coefficients, 1, 1 / signal),
      }));
      // Algorithm 2 of Lu et al. 2022, by its own names, on x blended as by DDIM.
      const blended = reference.map((v, k) => mask[k >> 2] ? v : signal * z0[k] + spread * backgroundNoise[k]);
      const { eps } = await predictor.run({ x: Float32Array.from(blended), time: embedded, context: words });
      const x0 = blended.map((v, k) => (v - spread * eps[k]) / signal);
      const target = alphas[i + 1 < steps ? sequence[i + 1].t : 0], h = lambda(target) - lambda(aBar);
      const r = (lambda(aBar) - lambdaBefore) / h;
      const d = before ? x0.map((v, k) => (1 + 1 / (2 * r)) * v - 1 / (2 * r) * before![k]) : x0;
      reference = blended.map((v, k) =>
        Math.sqrt(1 - target) / spread * v - Math.sqrt(target) * (Math.exp(-h) - 1) * d[k]
      );
      [before, lambdaBefore] = [x0, lambda(aBar)];
    }
    assertClose(x, reference, 2e-4, "latent after all steps");
  },
});

Deno.test({
  name: "sampler: DPM-Solver++(2M) reaches the solution of DDIM's ODE, in fewer steps, and is of the job alone",
  sanitizeResources: false,
  fn: () =>
    withTinyBase(async (base, tokens, embedding) => {
      const job = (index: number) => (
        { stream: "mask/a+b", index, attempt: 0, prompt: base.prompt("a photo of a *"), tokens }
      );
      const sample = async (settings: Partial<SamplerSettings>, jobs = [job(3)]) => {
        using sampler = new Sampler(base, embedding, {
          ...{ batch: 1, steps: 20, eta: 0, guidance: 1, reweighting: "off", seed: 3 },
          ...settings,
        });
        return await sampler.sample(jobs);
      };
      // Steps of one timestep each: as fine as DDIM can be.
      const [exact] = await sample({ steps: 999 });
      const errors: Record<string, number> = {};
      for (const [sampler, steps] of [["ddim", 20], ["dpm++2m", 20], ["dpm++2m", 250]] as const) {
        errors[`${sampler} ${steps}`] = relativeL2((await sample({ sampler, steps }))[0], exact);
      }
      const text = JSON.stringify(errors);
      assert.ok(errors["dpm++2m 250"] < 0.01, text);
      assert.ok(errors["dpm++2m 20"] < errors["ddim 20"], text);
      const [first] = await sample({ sampler: "dpm++2m" });
      assert.deepEqual((await sample({ sampler: "dpm++2m", batch: 2 }, [job(9), job(3)]))[1], first);
      // No noise is added, so eta is not looked at.
      assert.deepEqual((await sample({ sampler: "dpm++2m", eta: 1 }))[0], first);
      // With noise of its own, which neither eta nor the batch changes.
      const [noisy] = await sample({ sampler: "dpm++sde" });
      assert.notDeepEqual(noisy, first);
      assert.deepEqual((await sample({ sampler: "dpm++sde", eta: 1, batch: 2 }, [job(9), job(3)]))[1], noisy);
    }),
});

Deno.test({
  name:
    "sampler: the paper's re-weighting acts from the second step on, and is of the job alone, whatever was sampled before",
  sanitizeResources: false,
  fn: () =>
    withTinyBase(async (base, tokens, embedding) => {
      const background = new Random(2, "background").normals(base.latentSize);
      const latentMask = Float32Array.from(
        { length: base.latentSide ** 2 },
        (_, i) => (i % base.latentSide < 4 ? 1 : 0),
      );
      const prompt = base.prompt("a photo of a *");
      const job = (index: number) => (
        { stream: "pair/a+b", index, attempt: 0, prompt, tokens, latentMask, background }
      );
      const settings = { batch: 1, eta: 1, guidance: 2, seed: 3 } as const;
      for (const sampler of ["ddim", "dpm++2m"] as const) {
        const sample = async (reweighting: "off" | "paper", steps: number) => {
          using program = new Sampler(base, embedding, { ...settings, sampler, reweighting, steps });
          return (await program.sample([job(5)]))[0];
        };
        assertClose(await sample("paper", 1), await sample("off", 1), 1e-5, `${sampler}: one step`);
        const paper = await sample("paper", 4);
        assert.ok(relativeL2(paper, await sample("off", 4)) > 1e-5, `${sampler}: four steps`);
        using program = new Sampler(base, embedding, {
          ...settings,
          batch: 2,
          sampler,
          reweighting: "paper",
          steps: 4,
        });
        await program.sample([job(7), job(8)]);
        assert.deepEqual((await program.sample([job(9), job(5)]))[1], paper);
      }
    }),
});
