/** A tiny base model learns, goes on bit for bit from what was saved, and survives its model folder. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Tokenizer } from "../../src/data/tokenizer.ts";
import { compile } from "../../src/graph/compile.ts";
import { input } from "../../src/graph/variable.ts";
import { encode } from "../../src/models/autoencoder.ts";
import { timestepEmbedding } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import {
  channelStatistics,
  encodeImages,
  foldStatistics,
  standardise,
  trainAutoencoder,
} from "../../src/pretraining/autoencoder.ts";
import { exportModel } from "../../src/pretraining/export.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import type { Trainer } from "../../src/pretraining/trainer.ts";
import { captionedUnet, type LatentSet, trainUnet } from "../../src/pretraining/unet.ts";
import { Random } from "../../src/random/philox.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { assertClose } from "../support/close.ts";
import { gpu } from "../support/ops.ts";
import { tinyConfig, tinyImages, VOCAB } from "./tiny.ts";

const config = tinyConfig(), images = tinyImages();
const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

function autoencoder(parameters: Parameters, steps = 40): Trainer {
  const settings = { seed: 1, batch: 2, steps, learningRate: 5e-3 };
  return trainAutoencoder(gpu, config.autoencoder, parameters, images, settings);
}

/** Latents without an autoencoder behind them: each picture its own constant plus noise. */
function latentSet(): LatentSet {
  const tokenizer = new Tokenizer(VOCAB), size = 8 * 8 * 4, random = new Random(5, "latents");
  const latents = new Float16Array(images.count * size).map((_, i) =>
    (i / size % 2 < 1 ? 1 : -1) + 0.1 * random.normal()
  );
  const captions = Array.from({ length: images.count }, (_, i) => tokenizer.encode(images.caption(i), 8));
  return { latents, captions, empty: tokenizer.encode("", 8) };
}

function denoiser(parameters: Parameters, average: Parameters, steps = 40): Trainer {
  const settings = { seed: 1, batch: 2, steps, learningRate: 5e-3, captionDropout: 0.1, averageDecay: 0.999 };
  return trainUnet(gpu, config, parameters, average, latentSet(), settings);
}

/** Mean figure of the first and the last `window` of 40 steps. */
async function ends(trainer: Trainer, window: number): Promise<[number, number]> {
  await trainer.advance(window);
  const first = await trainer.takeLoss();
  await trainer.advance(40 - window);
  await trainer.takeLoss();
  await trainer.advance(40);
  return [first, await trainer.takeLoss()];
}

test("the autoencoder learns to repeat a few pictures", async () => {
  using parameters = newParameters(1);
  using trainer = autoencoder(parameters);
  const [first, last] = await ends(trainer, 5);
  assert.ok(last < 0.6 * first, `error ${first} → ${last}`);
});

test("the U-Net learns to predict the noise", async () => {
  using parameters = newParameters(1);
  using average = newParameters(1);
  using trainer = denoiser(parameters, average);
  const [first, last] = await ends(trainer, 8);
  assert.ok(last < 0.8 * first, `error ${first} → ${last}`);
});

test("a saved training goes on bit for bit, also from the middle of a window", async () => {
  using whole = newParameters(1);
  using wholeAverage = newParameters(1);
  using without = denoiser(whole, wholeAverage, 6);
  await without.advance(6);
  const expected = await without.takeLoss();

  using before = newParameters(1);
  using beforeAverage = newParameters(1);
  using stopped = denoiser(before, beforeAverage, 6);
  await stopped.advance(3);
  const saved = await stopped.save();
  using after = newParameters(2); // other values: all must come from what was saved
  using afterAverage = newParameters(2);
  using resumed = denoiser(after, afterAverage, 6);
  resumed.load(saved, "saved");
  assert.equal(resumed.steps, 3);
  await resumed.advance(6);
  assert.equal(await resumed.takeLoss(), expected);
  assert.deepEqual(await resumed.save(), await without.save());
});

test("folded statistics give latents of mean 0 and deviation 1", async () => {
  using parameters = newParameters(4);
  const raw = async (p: Parameters) => {
    const parts: number[] = [];
    for await (const part of encodeImages(gpu, config.autoencoder, p, images, 0, images.count)) parts.push(...part);
    return Float16Array.from(parts);
  };
  const latents = await raw(parameters), statistics = channelStatistics(latents, 4);
  const stored = await parameters.store();
  // Both halves of the autoencoder have been made only where it was trained or decoded from.
  stored.set("first_stage_model.post_quant_conv.weight", { shape: [4, 4, 1, 1], data: new Float32Array(16).fill(1) });
  stored.set("first_stage_model.post_quant_conv.bias", { shape: [4], data: new Float32Array(4) });
  foldStatistics(stored, statistics);
  parameters.restore(stored);
  const folded = await raw(parameters), after = channelStatistics(folded, 4);
  for (const mean of after.mean) assert.ok(Math.abs(mean) < 1e-3, `mean ${mean}`);
  for (const deviation of after.deviation) assert.ok(Math.abs(deviation - 1) < 1e-3, `deviation ${deviation}`);
  standardise(latents, statistics);
  assertClose(folded, latents, 2e-3, "latents");
  // The decoder undoes it: its first convolution sees what it saw before.
  const { data: weight } = stored.get("first_stage_model.post_quant_conv.weight")!;
  const { data: bias } = stored.get("first_stage_model.post_quant_conv.bias")!;
  const seen = latents.subarray(0, 4).reduce((sum, v, c) => sum + v * weight[c], bias[0]);
  const { mean, deviation } = statistics;
  const before = latents.subarray(0, 4).reduce((sum, v, c) => sum + v * deviation[c] + mean[c], 0);
  assert.ok(Math.abs(seen - before) < 1e-4, `${seen} and ${before}`);
});

test("an exported model opens and does what the trained one does", async () => {
  const folder = await Deno.makeTempDir();
  try {
    using parameters = newParameters(1);
    using average = newParameters(1);
    using trainer = denoiser(parameters, average, 40);
    await trainer.advance(4);
    using own = newParameters(1);
    encode(config.autoencoder, own, input("x", [1, 32, 32, 3]));
    exportModel(folder, {
      config,
      vocab: VOCAB,
      parameters: [await own.store(), await average.store()],
      curves: [{ stage: "unet", step: 4, seconds: 1, loss: await trainer.takeLoss() }],
    });
    using model = openModelFolder(folder);
    assert.deepEqual(model.config, config);
    assert.deepEqual([...model.vocab], VOCAB);
    using read = new Parameters(model, torchLayouts);
    const graph = (p: Parameters) =>
      captionedUnet(config, p, input("x", [1, 8, 8, 4]), input("time", [1, 32]), input("ids", [1, 8], "u32"));
    using trained = compile(gpu, { y: graph(average) });
    using opened = compile(gpu, { y: graph(read) });
    const feed = {
      x: new Random(9, "x").normals(256),
      time: timestepEmbedding([500], 32),
      ids: Uint32Array.from(latentSet().captions[0]),
    };
    const expected = (await trained.run(feed)).y;
    assert.ok(expected.some((v) => Math.abs(v) > 1e-3), "the output is not the zeros it starts with");
    assertClose((await opened.run(feed)).y, expected, 2e-3, "ε after the folder");
    assert.match(
      await Deno.readTextFile(join(folder, "curves.csv")),
      /^stage,step,seconds,loss\nunet,4,1,\d+\.\d{5}\n$/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
