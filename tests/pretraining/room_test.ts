/** Pretraining within a budget: the same bits, no more bytes on the device than were given, or one clear line. */
import assert from "node:assert/strict";
import { Tokenizer } from "../../src/data/tokenizer.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { encodeImages, trainAutoencoder } from "../../src/pretraining/autoencoder.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import type { NoiseTerms } from "../../src/pretraining/noise_loss.ts";
import { Room } from "../../src/pretraining/room.ts";
import { reconstructions, sampleGraphs, samples } from "../../src/pretraining/sheets.ts";
import { trainUnet } from "../../src/pretraining/unet.ts";
import { Random } from "../../src/random/philox.ts";
import { tinyConfig, tinyImages, VOCAB } from "./tiny.ts";

const tiny = tinyConfig(), tokenizer = new Tokenizer(VOCAB);
/** With something damaged in each. */
const images = { ...tinyImages(), damagedSquares: (i: number) => Uint16Array.of(i, 100, 101) };
const captions = Array.from({ length: images.count }, (_, i) => tokenizer.encode(images.caption(i), 8));
const empty = tokenizer.encode("", 8);
const damage = captions.map((_, i) => ({ cells: [i, 9], columns: [4] }));
/** Everything that may be asked of the autoencoder but where its crops lie: here they are whole pictures. */
const ASKED = { latentNoise: 0.5, damageCrops: 0, damageWeight: 3 };
/** Everything that may count in the U-Net's loss, its attention on 8 × 8 cells included. */
const ALL: NoiseTerms = { emphasis: 5, mean: 20, meanDamage: 5, localise: 0.1, timestepSampling: "balanced" };

/** Of what the two stages take without a budget. */
const SHARE = [0.75, 0.95];

/** What a short pretraining within some bytes for each stage makes, the most that lay on the device, and blocks computed again. */
async function pretrained([first, second]: readonly [number, number], terms?: NoiseTerms) {
  const config = terms ? { ...tiny, unet: { ...tiny.unet, attentionLevels: [true, true] } } : tiny;
  const gpu = await Gpu.open();
  try {
    const made: Record<string, ArrayLike<number>> = {}, again: number[] = [], peaks: number[] = [];
    const peak = () => {
      peaks.push(gpu.peakBytes);
      gpu.trim();
      gpu.resetPeak();
    };
    using autoencoder = newParameters(1), networks = newParameters(2), average = newParameters(2);
    const learning = { seed: 1, batch: 8, steps: 2, learningRate: 5e-3 };
    {
      const room = new Room(gpu, first);
      const settings = { ...learning, terms: terms && ASKED };
      using trainer = trainAutoencoder(gpu, config.autoencoder, autoencoder, images, settings, room);
      await trainer.advance(2);
      made["autoencoder"] = await trainer.save();
      made["reconstructions"] = (await reconstructions(gpu, config, autoencoder, images, room)).data;
      const latents: number[] = [];
      for await (const part of encodeImages(gpu, config.autoencoder, autoencoder, images, 0, images.count, room)) {
        latents.push(...part);
      }
      made["latents"] = latents;
      again.push(trainer.recomputed);
    }
    peak();
    {
      const room = new Room(gpu, second), size = 8 * 8 * 4 * images.count;
      room.keep(autoencoder);
      const latents = new Float16Array(new Random(5, "latents").normals(size));
      const settings = { ...learning, captionDropout: 0.1, averageDecay: 0.999, terms };
      const set = { latents, captions, empty, damage };
      const beside = sampleGraphs(config, autoencoder, average);
      using trainer = trainUnet(gpu, config, networks, average, set, settings, room, beside);
      await trainer.advance(2);
      made["unet"] = await trainer.save();
      made["samples"] = (await samples(gpu, config, autoencoder, average, captions, empty, room)).data;
      again.push(trainer.recomputed);
    }
    peak();
    return { made, again, peaks };
  } finally {
    gpu[Symbol.dispose]();
  }
}

Deno.test({
  name: "pretraining within a budget: blocks are computed again and sheets are made in parts, to the same bits",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    for (const terms of [undefined, ALL]) {
      const free = await pretrained([Infinity, Infinity], terms);
      assert.deepEqual(free.again, [0, 0]);
      const budget = [SHARE[0] * free.peaks[0], SHARE[1] * free.peaks[1]] as const;
      const tight = await pretrained(budget, terms);
      for (const [name, values] of Object.entries(free.made)) assert.deepEqual(tight.made[name], values, name);
      tight.peaks.forEach((peak, i) => {
        assert.ok(tight.again[i] > 0 && peak <= budget[i], `${peak} bytes of ${budget[i]}, ${tight.again[i]} blocks`);
      });
    }
    await assert.rejects(
      pretrained([2 ** 20, Infinity]),
      /^UserError: a training step of the autoencoder needs \d+ MiB of device memory, there are 1 MiB$/,
    );
  },
});
