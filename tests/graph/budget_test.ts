/** Training under a budget, shared memory, and adapters with lower limits, on a model small enough to run everywhere. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import {
  fitGeneration,
  fitTraining,
  planGeneration,
  planTraining,
  type TrainingSizes,
} from "../../src/anomaly/budget.ts";
import type { SeePlan } from "../../src/anomaly/budget_phases.ts";
import type { AnomalyEmbedding } from "../../src/anomaly/embedding.ts";
import { PairGenerator } from "../../src/anomaly/generate.ts";
import { Inversion, type InversionItem, type InversionSettings, spatialConfigOf } from "../../src/anomaly/inversion.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { affine, silu, square } from "../../src/graph/ops/pointwise.ts";
import { plan } from "../../src/graph/plan.ts";
import { matchBuffers, Scratch, sharedBytes } from "../../src/graph/scratch.ts";
import { input, variableOf } from "../../src/graph/variable.ts";
import { AUTOENCODER_PREFIX } from "../../src/models/autoencoder.ts";
import { officialSpatialConfig } from "../../src/models/official_spatial_encoder.ts";
import { lightSpatialConfig } from "../../src/models/spatial_encoder.ts";
import { TEXT_PREFIX } from "../../src/models/text_tower.ts";
import { UNET_PREFIX } from "../../src/models/unet.ts";
import { Random } from "../../src/random/philox.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { gpu } from "../support/ops.ts";
import { smallModelFolder } from "../../tasks/assets.ts";
import { VALIDATION } from "../../tasks/jobs/validation.ts";
import { tinyModelConfig, writeTinyModel } from "../support/tiny_model.ts";

const GIB = 2 ** 30;
const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

const folder = Deno.makeTempDirSync();
writeTinyModel(folder);
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

/** Random pictures of two kinds. */
function items(): InversionItem[] {
  const random = new Random(1, "tests/budget");
  return ["part+a", "part+b"].flatMap((key) =>
    [0, 1].map(() => ({
      key,
      moments: random.normals(8 * 8 * 8).map((v, i) => (i % 8 < 4 ? v : -9)),
      latentMask: Float32Array.from({ length: 64 }, () => random.integer(0, 2)),
      mask: Float32Array.from({ length: 32 * 32 }, () => random.integer(0, 2)),
    }))
  );
}

/** What three steps learn. */
async function learned(base: BaseModel, options: Partial<InversionSettings>): Promise<Float32Array> {
  using inversion = new Inversion(base, items(), {
    tokens: 2,
    spatialTokens: 2,
    batch: 4,
    steps: 3,
    seed: 5,
    learningRate: 0.005,
    encoderLearningRate: 0.001,
    initializerToken: "defect",
    area: true,
    templates: promptTemplates,
    ...options,
  });
  if (inversion.settings.steps) assert.ok(Number.isFinite(await inversion.advance(3)));
  return (await inversion.embedding()).table;
}

test("training with recomputation learns the same bits; in parts, the same but for rounding", async () => {
  using base = new BaseModel(gpu, folder);
  const plain = await learned(base, {});
  assert.deepEqual(await learned(base, { activationBudget: 1 }), plain);
  const start = await learned(base, { steps: 0 });
  const moved = Math.max(...plain.map((v, i) => Math.abs(v - start[i])));
  assert.ok(moved > 0.005, `${moved}`);
  for (const parts of [2, 4]) {
    const inParts = await learned(base, { parts });
    // Adam's first steps have the size of the rate whatever the gradient's: a sign that rounding turns shows as a rate.
    const far = plain.filter((v, i) => Math.abs(v - inParts[i]) > 1e-4).length;
    assert.ok(far < 0.02 * plain.length, `${parts} parts: ${far} of ${plain.length} numbers differ`);
  }
  assert.throws(
    () => new Inversion(base, items(), { ...settingsOfThree, parts: 3 }),
    /batch of 4 has no 3 equal parts/,
  );
});

const settingsOfThree: InversionSettings = {
  tokens: 1,
  spatialTokens: 0,
  batch: 4,
  steps: 1,
  seed: 0,
  learningRate: 0.1,
  encoderLearningRate: 0.1,
  initializerToken: "defect",
  area: true,
  templates: promptTemplates,
};

test("on an adapter with 8 storage buffers, the least that WebGPU allows, the same bits come out", async () => {
  const limits = { maxStorageBuffersPerShaderStage: 8, maxStorageBufferBindingSize: 128 * 2 ** 20 };
  using lesser = await Gpu.open({ limits });
  assert.equal(lesser.device.limits.maxStorageBuffersPerShaderStage, 8);
  assert.equal(lesser.device.limits.maxStorageBufferBindingSize, 128 * 2 ** 20);
  using base = new BaseModel(lesser, folder), usual = new BaseModel(gpu, folder);
  assert.deepEqual(await learned(base, {}), await learned(usual, {}));
});

test("the autoencoder takes fewer images at once where its values would not be bound", async () => {
  const limits = { maxStorageBufferBindingSize: 128 * 2 ** 20 }, path = Deno.makeTempDirSync();
  try {
    // Before the last convolution stand 512 × 512 × 64 numbers of each image: 64 MiB.
    writeTinyModel(path, "tiny", { ...tinyModelConfig(), resolution: 1024 });
    using lesser = await Gpu.open({ limits });
    using large = new BaseModel(lesser, path), small = new BaseModel(lesser, folder);
    assert.deepEqual([large.autoencoderBatch, small.autoencoderBatch], [2, 4]);
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
});

test("the plan of the autoencoder is what encoding takes, at once and in bands", async () => {
  const config = { ...tinyModelConfig(), resolution: 64 }, path = Deno.makeTempDirSync();
  try {
    writeTinyModel(path, "tiny", config);
    const image = new Random(2, "tests/budget").normals(64 * 64 * 3);
    // The weights fit 96 KiB, a map of 32 × 32 pixels and 32 channels does not.
    for (const [binding, banded] of [[2 ** 27, false], [96 * 1024, true]] as const) {
      using own = await Gpu.open();
      using base = new BaseModel(own, path, "f16", binding);
      await base.encode(Array(2).fill(image)); // with the second, all weights are there
      const sizes = { batch: 1, tokens: 1, area: true, kinds: 1 };
      const { phases: [encoding] } = planTraining(config, sizes, Infinity, undefined, binding);
      assert.deepEqual(encoding.pictures, { batch: banded ? 1 : 4, banded });
      // Uniforms and what is read back are not among the buffers that are counted.
      const planned = encoding.total - encoding.device.staging, share = own.peakBytes / planned;
      assert.ok(share > 0.98 && share <= 1, `${own.peakBytes} of ${planned} bytes, banded: ${banded}`);
    }
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
});

test("a value that no binding holds is one clear line, and so is a kernel with too many buffers", async () => {
  const limits = { maxStorageBufferBindingSize: 128 * 2 ** 20, maxStorageBuffersPerShaderStage: 8 };
  using lesser = await Gpu.open({ limits });
  const large = () => compile(lesser, { y: silu(input("x", [33 * 2 ** 20])) });
  assert.throws(large, /needs 132 MiB in one buffer, this adapter binds at most 128 MiB/);
  const kernel = { name: "many", source: "", bindings: Array(9).fill("read") };
  assert.throws(() => lesser.pipeline(kernel, {}), /many binds 9 buffers, this adapter at most 8/);
});

test("no launch of the large model's training or sampling binds more than 8 buffers, nor a weight above 128 MiB", () => {
  const config = largeModelConfig(), spatial = officialSpatialConfig(4, 1280);
  const training = planTraining(config, { batch: 1, tokens: 8, area: true, kinds: 1, spatial });
  const sampling = planGeneration(config, { batch: 1, tokens: 8, guidance: 3, reweighting: "official", spatial });
  for (const { name, mostBindings, largestLeaf } of [...training.phases, ...sampling.phases]) {
    assert.ok(mostBindings >= 4 && mostBindings <= 8, `${name}: ${mostBindings}`);
    assert.ok(largestLeaf > 2 ** 20 && largestLeaf <= 128 * 2 ** 20, `${name}: ${largestLeaf}`);
  }
});

test("the paper's model trains at batch 4 in 8 GiB and samples at batch 8 in 5 GiB, within 10 % of the lower bound", () => {
  const config = largeModelConfig();
  for (const spatial of [lightSpatialConfig(4, 1280), officialSpatialConfig(4, 1280)]) {
    // With the pictures that it shows on the way.
    const own = { batch: 4, tokens: 8, area: true, kinds: 73, spatial, validation: VALIDATION };
    const training = planTraining(config, own, 8 * GIB);
    assert.ok(training.fits && training.devicePeak <= 8 * GIB);
    assert.equal(training.phases[1].recomputed > 0, spatial.kind === "official");
    const sizes = { batch: 8, tokens: 8, guidance: 3, reweighting: "official", spatial } as const;
    const sampling = planGeneration(config, sizes, 5 * GIB);
    assert.ok(sampling.fits && sampling.devicePeak <= 5 * GIB);
    for (const { device, lowerBound } of [...training.phases, ...sampling.phases]) {
      assert.ok(device.activations >= lowerBound && device.activations <= 1.1 * lowerBound);
    }
    assert.equal(training.parameters["U-Net"], 872_300_484);
  }
});

test("every program of both models is within 10 % of its lower bound, whatever the batch, the budget and the guidance", () => {
  using small = openModelFolder(smallModelFolder());
  for (const config of [small.config, largeModelConfig()]) {
    const { width } = config.text;
    for (const spatial of [lightSpatialConfig(4, width), officialSpatialConfig(4, width), undefined]) {
      if (spatial?.kind === "official" && config.resolution < 256) continue; // the small model has the light one only
      for (const batch of [1, 4, 8]) {
        const sizes = { batch, tokens: 8, spatial };
        const training = { ...sizes, area: true, kinds: 1, validation: VALIDATION };
        // Nothing, some and all blocks computed again.
        const whole = planTraining(config, training), least = planTraining(config, training, 1);
        const half = (whole.devicePeak + least.devicePeak) / 2;
        const jobs = [whole, least, planTraining(config, training, half)];
        assert.ok(jobs[1].phases[1].recomputed > jobs[2].phases[1].recomputed || whole.devicePeak === least.devicePeak);
        for (const reweighting of ["off", "official", "replace"] as const) {
          jobs.push(planGeneration(config, { ...sizes, reweighting, guidance: 1 }));
          jobs.push(planGeneration(config, { ...sizes, reweighting, guidance: 3, guideFrom: "surface" }));
          jobs.push(planGeneration(config, { ...sizes, reweighting, guidance: 3 }));
        }
        for (const { phases } of jobs) {
          for (const { name, device: { activations }, lowerBound, recomputed } of phases) {
            const what =
              `${config.name}, ${spatial?.kind}, ${batch}, ${name}, ${recomputed}: ${activations}, ${lowerBound}`;
            assert.ok(activations >= lowerBound && activations <= 1.1 * lowerBound, what);
          }
        }
      }
    }
  }
});

test("a training with pictures on the way takes what is planned; they are the same as from a copy of what was learned", async () => {
  using own = await Gpu.open();
  using base = new BaseModel(own, folder, "f16");
  const settings = { ...settingsOfThree, tokens: 2, spatialTokens: 2, steps: 3 };
  using inversion = new Inversion(base, items(), settings);
  const random = new Random(7, "tests/budget"), image = (count: number) => random.normals(count * 32 * 32);
  await base.encode(Array.from({ length: 4 }, () => image(3)));
  await inversion.advance(2);
  const source = {
    width: 32,
    height: 32,
    channels: 3 as const,
    data: Uint8ClampedArray.from(image(3), (v) => 99 + 9 * v),
  };
  const mask = { width: 32, height: 32, channels: 1 as const, data: new Uint8Array(1024).fill(1, 300, 500) };
  const pictures = async (embedding: AnomalyEmbedding) => {
    using generator = new PairGenerator(base, embedding, {
      ...{
        ...VALIDATION,
        batch: 2,
        steps: 2,
        eta: 1,
        seed: 1,
        feather: 0,
        window: "whole",
        zoom: 1,
        keepDetail: false,
      },
      ...{ minChange: 0, maxAttempts: 1, latentMask: "maxPool" },
    });
    const jobs = [0, 1].map((index) => ({ index, key: "part+a", source, mask }));
    return (await Array.fromAsync(generator.generate(jobs))).map(({ image }) => image.data);
  };
  const shown = await pictures(await inversion.borrowed());
  await inversion.advance(3);
  const { devicePeak, phases } = planTraining(base.config, {
    ...{ batch: 4, tokens: 2, area: true, kinds: 2, spatial: spatialConfigOf(settings, 32, 32) },
    validation: { ...VALIDATION, batch: 2 },
  });
  const staging = phases.reduce((sum, { device }) => sum + device.staging, 0),
    share = own.peakBytes / (devicePeak - staging);
  assert.ok(share > 0.95 && share <= 1, `${own.peakBytes} of ${devicePeak} bytes, ${staging} of them not counted`);
  using again = new Inversion(base, items(), settings);
  await again.advance(2);
  assert.deepEqual(await pictures(await again.embedding()), shown);
});

test("the text and its keys are computed once for all steps, the autoencoder once for all training steps", () => {
  const config = tinyModelConfig(), spatial = lightSpatialConfig(2, 32);
  /** Networks whose weights each program reads. */
  const networks = (make: (seen: SeePlan) => void) => {
    const programs: string[] = [];
    make(({ leaves }) => {
      const names = [...leaves.keys()].map((tensor) => variableOf(tensor)?.name ?? "");
      const used = [UNET_PREFIX, TEXT_PREFIX, AUTOENCODER_PREFIX].filter((p) =>
        names.some((name) => name.startsWith(p))
      );
      const keys = names.some((name) => /attn2[.]to_[kv]/.test(name));
      programs.push(`${used.join()}${keys ? " keys" : ""}`);
    });
    return programs;
  };
  const sizes = { batch: 2, tokens: 2, spatial };
  assert.deepEqual(
    networks((seen) => planTraining(config, { ...sizes, area: true, kinds: 1 }, Infinity, seen)),
    [AUTOENCODER_PREFIX, `${UNET_PREFIX},${TEXT_PREFIX} keys`],
  );
  const sampling = { ...sizes, guidance: 3, reweighting: "official" } as const;
  assert.deepEqual(
    networks((seen) => planGeneration(config, sampling, Infinity, seen)).sort(),
    [AUTOENCODER_PREFIX, AUTOENCODER_PREFIX, UNET_PREFIX, `${UNET_PREFIX},${TEXT_PREFIX} keys`].sort(),
  );
});

test("smaller budgets take parts of the batch, and smaller batches; pictures on the way come one by one, or not at all", () => {
  const config = tinyModelConfig(), spatial = lightSpatialConfig(2, 32);
  const sizes = { batch: 8, tokens: 2, area: true, kinds: 1, spatial };
  const whole = planTraining(config, sizes).devicePeak;
  assert.equal(fitTraining(config, sizes, whole).parts, 1);
  // Less than the whole batch with everything computed again, enough for a half.
  const least = planTraining(config, sizes, 1).devicePeak,
    half = planTraining(config, { ...sizes, parts: 2 }, 1).devicePeak;
  assert.ok(half < least && least < whole);
  const tight = fitTraining(config, sizes, (half + least) / 2);
  assert.deepEqual([tight.parts, tight.job.fits], [2, true]);
  assert.equal(fitTraining(config, sizes, 1).job.fits, false);
  const shown = { ...sizes, batch: 1, validation: VALIDATION },
    peak = (validation: TrainingSizes["validation"]) => planTraining(config, { ...shown, validation }, 1).devicePeak;
  const [none, one, four] = [undefined, { ...VALIDATION, batch: 1 }, VALIDATION].map(peak);
  assert.ok(none < one && one < four);
  const fitted = [none, one, four].map((budget) => fitTraining(config, shown, budget));
  assert.deepEqual(fitted.map(({ job, pictures }) => [job.fits, pictures]), [[true, 0], [true, 1], [true, 4]]);
  const sampler = { batch: 8, tokens: 2, guidance: 3, reweighting: "official", spatial } as const;
  const most = planGeneration(config, sampler).devicePeak;
  assert.equal(fitGeneration(config, sampler, most).batch, 8);
  assert.ok(fitGeneration(config, sampler, 0.8 * most).batch < 8);
  const largest = planGeneration(config, sampler).phases[2].largestValue;
  assert.equal(fitGeneration(config, sampler, Infinity, largest - 1).batch, 4);
});

test("buffers are matched once each, the smallest that holds", () => {
  assert.deepEqual(matchBuffers([100, 50, 10], [9, 60, 40]), [2, 0, 1]);
  assert.deepEqual(matchBuffers([100], [90, 95, 1]), [1, 0, 2]);
  assert.equal(sharedBytes([[100, 50], [60, 60], [10]]), 100 + 50 + 60);
});

test("programs in shared memory: results come from the last run only, and the memory is given back", async () => {
  const scratch = new Scratch(gpu), x = () => input("x", [64, 64]);
  const chain = (n: number) => {
    let y = affine(x(), 1, n);
    for (let i = 0; i < 3; i++) y = silu(square(linear(y, x2)));
    return y;
  };
  const x2 = input("w", [64, 64]);
  const graphs = [chain(1), chain(2)],
    feed = {
      x: new Float32Array(4096).fill(0.1),
      w: new Float32Array(4096).fill(0.01),
    };
  using a = compile(gpu, { y: graphs[0] }, [], scratch);
  const alone = scratch.bytes;
  assert.equal(alone, plan([graphs[0]]).report.activationBytes);
  {
    using b = compile(gpu, { y: graphs[1] }, [], scratch);
    assert.equal(scratch.bytes, alone);
    using apart = compile(gpu, { y: graphs[0] });
    const expected = await apart.run(feed);
    assert.deepEqual(await a.run(feed), expected);
    assert.notDeepEqual(await b.run(feed), expected);
    await assert.rejects(() => a.read(), /another program has run in the shared memory/);
    assert.deepEqual(await a.run(feed), expected);
  }
  assert.equal(scratch.bytes, alone);
  a[Symbol.dispose]();
  assert.equal(scratch.bytes, 0);
});
