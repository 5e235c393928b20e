/** `--parity official`: every value that the switch sets, and that each of them changes what it is about. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { PairGenerator, type PairJob, type PairSettings } from "../../src/anomaly/generate.ts";
import { Inversion, type InversionItem, type InversionSettings, spatialConfigOf } from "../../src/anomaly/inversion.ts";
import { limitsOf, refusal } from "../../src/anomaly/masks.ts";
import { type SpatialConfig, withStatistics } from "../../src/anomaly/embedding.ts";
import { lightSpatialConfig } from "../../src/models/spatial_encoder.ts";
import { placedMask } from "../../tasks/jobs/masks.ts";
import { defectItems, type LabelledSample, maskItems } from "../../src/anomaly/training_set.ts";
import { resizeMask, resizeMaskOfficial } from "../../src/data/augment.ts";
import type { Mask } from "../../src/data/image.ts";
import { latentMask } from "../../src/diffusion/blend.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { Random } from "../../src/random/philox.ts";
import generate from "../../tasks/commands/generate.ts";
import generateMasks from "../../tasks/commands/generate_masks.ts";
import inspectTest from "../../tasks/commands/inspect_test.ts";
import inspectTrain from "../../tasks/commands/inspect_train.ts";
import { rates } from "../../tasks/commands/shared.ts";
import train from "../../tasks/commands/train.ts";
import trainMasks from "../../tasks/commands/train_masks.ts";
import { complete, type Flags, kebab, parseFlags, type Values } from "../../tasks/flags.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

/** A square sample whose defect is a rectangle [x0, x1) × [y0, y1). */
function sample(key: string, size: number, [x0, x1, y0, y1]: readonly number[]): LabelledSample {
  const random = new Random(5, key), data = new Uint8Array(size * size);
  for (let y = y0; y < y1; y++) data.fill(1, y * size + x0, y * size + x1);
  return {
    key,
    image: {
      width: size,
      height: size,
      channels: 3,
      data: Uint8ClampedArray.from({ length: 3 * size * size }, () => random.integer(0, 256)),
    },
    mask: { width: size, height: size, channels: 1, data },
  };
}

/** Enough of a base model for views: what would be encoded is handed back. */
const fake = {
  side: 32,
  latentSide: 8,
  encode: (images: readonly Float32Array[]) => Promise.resolve([...images]),
} as unknown as BaseModel;

for (
  const { name, flags } of [train, trainMasks, generate, generateMasks, inspectTrain, inspectTest] as {
    name: string;
    flags: Flags;
  }[]
) {
  Deno.test(`${name} --parity official sets what it implies; flags beside it win`, () => {
    const { official } = flags.parity.implies!, needed = { data: "d", trainRun: "t", pairs: "p" };
    const options = complete(flags, needed, { parity: "official" });
    for (const [key, value] of Object.entries(typeof official === "function" ? official() : official)) {
      assert.ok(key in flags, `${key} is no flag`);
      if (typeof official === "object" || key !== "seed") assert.deepEqual(options[key], value, key);
      // What the command line would refuse is not set by the switch either.
      if (flags[key].type !== "boolean") {
        assert.deepEqual(parseFlags(flags, [`--${kebab(key)}`, String(value)])[key], value);
      }
    }
    const [first, other] = ["batchSize", "trainBatchSize"].filter((key) => key in flags).concat("seed");
    assert.equal(complete(flags, needed, { parity: "official" }, { [first]: 2, [other]: 9 })[first], 2);
    for (const [key, value] of Object.entries(complete(flags, needed, { parity: "off" }))) {
      if (flags[key]?.default !== undefined && key !== "parity") assert.deepEqual(value, flags[key].default, key);
    }
  });
}

Deno.test("learning rates: 4 × 0.005 = 0.02 for the embeddings and for the encoder, to the end", () => {
  const official = complete(train.flags, { data: "d", parity: "official" });
  assert.equal(official.trainBatchSize, 4);
  assert.deepEqual(rates({ ...official, trainBatchSize: 4 }, official.learningRate, official.encoderLearningRate), {
    learningRate: 0.02,
    encoderLearningRate: 0.02,
    constantRate: true,
  });
  const usual = complete(train.flags, { data: "d" });
  assert.deepEqual(rates({ ...usual, trainBatchSize: 4 }, usual.learningRate, usual.encoderLearningRate), {
    learningRate: 0.02,
    encoderLearningRate: 0.0001,
    constantRate: false,
  });
});

Deno.test("seeds: 23 in training; generation draws one, which its config then keeps", () => {
  for (const { flags } of [train, trainMasks]) {
    assert.equal(complete(flags, { data: "d", parity: "official" }).seed, 23);
    assert.equal(complete(flags, { data: "d" }).seed, 0);
  }
  for (const flags of [generate.flags, generateMasks.flags] as Flags[]) {
    const asked: Values = { data: "d", trainRun: "t", parity: "official" };
    const seeds = Array.from({ length: 8 }, () => Number(complete(flags, asked).seed));
    assert.ok(new Set(seeds).size > 6 && seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0), `${seeds}`);
    assert.equal(complete(flags, asked, { seed: 5 }).seed, 5);
    assert.equal(complete(flags, { ...asked, parity: "off" }).seed, 0);
  }
});

Deno.test("the spatial encoder normalises by the batch when images are made, also one that was imported otherwise", () => {
  const { spatialEncoder, officialBn, numSpatialVectors } = complete(train.flags, { data: "d", parity: "official" });
  const config = spatialConfigOf({ spatialEncoder, officialBn, spatialTokens: numSpatialVectors }, 1280, 256);
  assert.ok(config.kind === "official" && config.generation === "batch" && config.tokens === 4);
  const running = spatialConfigOf({ spatialEncoder, officialBn: false, spatialTokens: 4 }, 1280, 256);
  assert.ok(running.kind === "official" && running.generation === "running");
  const of = (config: SpatialConfig) => ({ config, parameters: new Map() });
  const embedding = {
    keys: ["a+b"],
    tokens: 1,
    width: 2,
    table: new Float32Array(2),
    model: "m",
    spatial: of(running),
  };
  const asked = { data: "d", trainRun: "t" };
  const chosen = (options: { officialBn?: boolean }) => withStatistics(embedding, options.officialBn).spatial!.config;
  assert.deepEqual(chosen(complete(generate.flags, asked, { parity: "official" })), {
    ...running,
    generation: "batch",
  });
  assert.deepEqual(chosen(complete(generate.flags, asked)), running);
  assert.deepEqual(chosen(complete(generate.flags, asked, { officialBn: false })), running);
  const light = { ...embedding, spatial: of(lightSpatialConfig(2, 32)) };
  assert.equal(withStatistics(light, true), light);
});

Deno.test("masks: a line of two pixels survives the default path and vanishes on the official one", () => {
  const { mask } = sample("line", 256, [100, 102, 0, 256]);
  const values = (of: Mask) => Float32Array.from(of.data);
  const kept = latentMask(values(resizeMask(mask, 128, 128)), [1, 128, 128], [16, 16], "maxPool");
  const lost = latentMask(values(resizeMaskOfficial(mask, 128, 128)), [1, 128, 128], [16, 16], "official");
  assert.equal(kept.filter((v) => v).length, 16);
  assert.equal(lost.filter((v) => v).length, 0);
  const dots = sample("dots", 256, [100, 101, 40, 41]).mask;
  assert.ok(resizeMask(dots, 32, 32).data.includes(1) && !resizeMaskOfficial(dots, 32, 32).data.includes(1));
});

Deno.test("augmentation: whole batches, cut by one crop, with soft masks; the default has none of it", async () => {
  const samples = [sample("a+b", 64, [10, 20, 10, 20]), sample("a+c", 64, [40, 60, 44, 60])];
  const options = { seed: 3, copies: 8, batch: 4, latentMask: "official" } as const;
  const official = await defectItems(fake, samples, { ...options, augmentation: "official" });
  assert.equal(official.length, 16);
  assert.deepEqual([...new Set(official.map(({ key }) => key))].sort(), ["a+b", "a+c"]);
  assert.ok(official.some(({ mask }) => mask!.some((v) => v > 0 && v < 1)), "soft masks");
  const usual = await defectItems(fake, samples, { ...options, augmentation: "paper" });
  assert.ok(usual.every(({ mask }) => mask!.every((v) => v === 0 || v === 1)) && usual.length === 16);
  assert.deepEqual(await defectItems(fake, samples, { ...options, augmentation: "official" }), official);

  const [grey] = await maskItems(fake, samples, { ...options, augmentation: "official" });
  const [sharp] = await maskItems(fake, samples, { ...options, augmentation: "off" });
  const between = ({ moments }: InversionItem) => moments.filter((v) => Math.abs(v) < 0.99).length;
  assert.ok(between(grey) > 0 && between(sharp) === 0, "edges of mask pictures");
});

Deno.test("the official filter looks at the border alone, so that empty masks pass", () => {
  const real = sample("real", 64, [10, 20, 10, 20]).mask, small = sample("small", 64, [10, 11, 10, 11]).mask;
  const { emptyMasks, maxBorder } = complete(generateMasks.flags, { data: "d", parity: "official" });
  const official = {
    ...limitsOf([real]),
    minArea: 0,
    maxArea: 1,
    maxComponents: Infinity,
    maxBorder,
    empty: emptyMasks,
  };
  const none = sample("none", 64, [0, 0, 0, 0]).mask;
  assert.equal(refusal(none, official), undefined);
  assert.equal(refusal(none, limitsOf([real])), "empty");
  // A real mask that is placed instead of a refused one always marks something.
  const ground = { real: [real], part: { ...real, data: new Uint8Array(64 * 64).fill(1) }, limits: official };
  for (let i = 0; i < 20; i++) assert.ok(placedMask(ground, 1, "a+b", i).data.includes(1));
  assert.equal(refusal(small, limitsOf([real])), "too small");
  assert.equal(refusal(small, official), undefined);
  assert.equal(refusal(sample("edge", 64, [0, 40, 0, 5]).mask, official), "along the border");
});

Deno.test({
  name:
    "training: exact copies of the word, weight decay, a rate that stays, items in order, noise levels; each alone changes the result",
  sanitizeResources: false,
  async fn() {
    const folder = Deno.makeTempDirSync(), gpu = await Gpu.open();
    try {
      writeTinyModel(folder);
      using base = new BaseModel(gpu, folder, "f32");
      const items = ["a+b", "a+c"].map((key): InversionItem => ({
        key,
        moments: new Random(1, key).normals(2 * base.latentSize),
        latentMask: Float32Array.from({ length: base.latentSide ** 2 }, (_, i) => i % 4 ? 0 : 1),
      }));
      const learn = async (own: Partial<InversionSettings>, steps = 3) => {
        using inversion = new Inversion(base, items, {
          ...{ tokens: 2, spatialTokens: 0, batch: 2, steps: 3, seed: 1, learningRate: 0.01, encoderLearningRate: 0 },
          ...{ initializerToken: "defect", area: true, templates: ["a photo of a *"] },
          ...own,
        });
        if (steps) await inversion.advance(steps);
        return (await inversion.embedding()).table;
      };
      const start = await learn({ initializerNoise: 0 }, 0), width = base.config.text.width;
      assert.deepEqual(start.subarray(0, width), start.subarray(width, 2 * width));
      assert.deepEqual(start.subarray(0, width), base.wordVector("defect"));
      const random = await learn({ initializer: "random" }, 0);
      assert.ok(random.every((v) => v >= 0 && v < 1) && new Set(random).size > random.length / 2);
      const plain = await learn({});
      for (
        const own of [
          { initializerNoise: 0 },
          { weightDecay: 0.5 },
          { constantRate: true },
          { inOrder: true },
          { timesteps: "balanced" as const },
          { area: false, learningRate: 0.011 },
        ]
      ) assert.notDeepEqual(await learn(own), plain, JSON.stringify(own));
    } finally {
      gpu[Symbol.dispose]();
      Deno.removeSync(folder, { recursive: true });
    }
  },
});

Deno.test({
  name:
    "generation: without --paste-back the whole picture is the decoder's, with it the bytes away from the mask stay",
  sanitizeResources: false,
  async fn() {
    const folder = Deno.makeTempDirSync(), gpu = await Gpu.open();
    try {
      writeTinyModel(folder);
      using base = new BaseModel(gpu, folder, "f32");
      const width = base.config.text.width, table = new Random(1, "tokens").normals(2 * width);
      const embedding = { keys: ["a+b"], tokens: 2, width, table, model: base.sha256 };
      const { image: source, mask } = sample("source", 32, [8, 16, 8, 16]);
      const make = async (own: Partial<PairSettings>) => {
        using generator = new PairGenerator(base, embedding, {
          ...{
            batch: 1,
            steps: 4,
            eta: 1,
            guidance: 1,
            reweighting: "official",
            seed: 1,
            feather: 0,
            window: "whole",
            zoom: 1,
          },
          ...{ keepDetail: false, minChange: 0, maxAttempts: 1, latentMask: "official" },
          ...own,
        });
        const job: PairJob = { index: 0, key: "a+b", source, mask };
        for await (const { image } of generator.generate([job])) return image.data;
        throw new Error("no pair");
      };
      const kept = await make({}), whole = await make({ pasteBack: false });
      const same = (data: ArrayLike<number>) =>
        mask.data.filter((m, i) => !m && data[3 * i] === source.data[3 * i]).length;
      const outside = mask.data.filter((m) => !m).length;
      assert.equal(same(kept), outside);
      assert.ok(same(whole) < outside / 2);
      assert.notDeepEqual(await make({ reweighting: "off" }), kept);
      assert.notDeepEqual(await make({ eta: 0 }), kept);
    } finally {
      gpu[Symbol.dispose]();
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
