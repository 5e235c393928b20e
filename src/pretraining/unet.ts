/**
 * Joint training of the U-Net and the text tower on latents that were made once (Rombach et al. 2022, Eq. 3): noise
 * prediction under a min-SNR weight, captions sometimes left out for guidance (Ho & Salimans 2021), averaged weights.
 */

import { createSchedule, lossWeight } from "../diffusion/schedule.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Feed } from "../graph/compile.ts";
import { embedding } from "../graph/ops/gather.ts";
import { mul, square, sub } from "../graph/ops/pointwise.ts";
import { mean } from "../graph/ops/reduce.ts";
import { reshape } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { textTower, TOKEN_TABLE } from "../models/text_tower.ts";
import { timestepEmbedding, unet } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import type { RateSchedule } from "../nn/learning_rate.ts";
import { unetRate } from "./recipe.ts";
import type { Room } from "./room.ts";
import { Trainer } from "./trainer.ts";

/** What the U-Net learns from. */
export interface LatentSet {
  /** [count, h, w, C], as the U-Net shall see them. */
  readonly latents: Float16Array;
  /** Ids of each picture's caption, `maxLength` each. */
  readonly captions: readonly ArrayLike<number>[];
  /** Ids of the empty caption. */
  readonly empty: ArrayLike<number>;
}

/** Settings of the U-Net's training. */
export interface UnetSettings {
  readonly seed: number;
  readonly batch: number;
  readonly steps: number;
  readonly learningRate: number;
  /** Share of captions replaced by the empty one. */
  readonly captionDropout: number;
  /** Largest weight of the past in the averaged weights. */
  readonly averageDecay: number;
  /** How the rate goes; as from random weights where left out. */
  readonly rate?: RateSchedule;
}

/**
 * ε of a captioned latent.
 * @param x [B, h, w, C]
 * @param time timestep embedding [B, modelChannels]
 * @param ids caption, u32 [B, L]
 * @returns [B, h, w, C]
 */
export function captionedUnet(config: ModelConfig, p: Parameters, x: Tensor, time: Tensor, ids: Tensor): Tensor {
  const words = embedding(p.tensor(TOKEN_TABLE, [config.text.vocabSize, config.text.width]), ids); // [B, L, D]
  return unet(config.unet, p, x, time, textTower(config.text, p, words));
}

/** The pictures in the order of use: every epoch a new permutation, the same for the same seed. */
class Order {
  readonly #seed: number;
  readonly #count: number;
  #epoch = -1;
  #order: number[] = [];

  constructor(seed: number, count: number) {
    this.#seed = seed;
    this.#count = count;
  }

  /** Picture of the `position`-th draw since the start of the training. */
  at(position: number): number {
    const epoch = Math.floor(position / this.#count);
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      const all = Array.from({ length: this.#count }, (_, i) => i);
      this.#order = new Random(this.#seed, "unet/order", epoch).shuffle(all);
    }
    return this.#order[position % this.#count];
  }
}

/**
 * The U-Net's training; the reported figure is the mean squared error of ε without weights.
 * @param parameters of {@linkcode newParameters}
 * @param average parameters that started from the same values; they become the averaged weights
 * @param room memory to stay within
 * @param beside programs that run between the steps (see `TrainerOptions`)
 */
export function trainUnet(
  gpu: Gpu,
  config: ModelConfig,
  parameters: Parameters,
  average: Parameters,
  { latents, captions, empty }: LatentSet,
  settings: UnetSettings,
  room?: Room,
  beside?: readonly (readonly Tensor[])[],
): Trainer {
  const { seed, batch, captionDropout } = settings, { maxLength } = config.text;
  const side = config.resolution / downsamplingFactor(config.autoencoder), channels = config.unet.inChannels;
  const each = side * side * channels, { alphasCumprod, timesteps } = createSchedule(config.schedule);
  const inputs = (): [Tensor, Tensor, Tensor] => [
    input("x", [batch, side, side, channels]),
    input("time", [batch, config.unet.modelChannels]),
    input("ids", [batch, maxLength], "u32"),
  ];
  const errors = square(
    sub(captionedUnet(config, parameters, ...inputs()), input("eps", [batch, side, side, channels])),
  );
  const error = mean(errors, [1, 2, 3]); // [B]
  captionedUnet(config, average, ...inputs()); // never run: it makes the averaged parameters

  const order = new Order(seed, captions.length);
  const feed = (step: number): Feed => {
    const random = new Random(seed, "unet/batch", step);
    const x = new Float32Array(batch * each), eps = random.normals(batch * each), weight = new Float32Array(batch);
    const ids = new Uint32Array(batch * maxLength), at: number[] = [];
    for (let b = 0; b < batch; b++) {
      const picture = order.at(step * batch + b);
      ids.set(random.chance(captionDropout) ? empty : captions[picture], b * maxLength);
      // One t per stratum: the loss varies less from step to step than with independent draws.
      const t = Math.min(timesteps - 1, Math.floor((b + random.uniform()) / batch * timesteps));
      const signal = Math.sqrt(alphasCumprod[t]), sigma = Math.sqrt(1 - alphasCumprod[t]);
      const latent = latents.subarray(picture * each, (picture + 1) * each), start = b * each;
      for (let i = 0; i < each; i++) x[start + i] = signal * latent[i] + sigma * eps[start + i];
      weight[b] = lossWeight(alphasCumprod[t]);
      at.push(t);
    }
    return { x, eps, weight, ids, time: timestepEmbedding(at, config.unet.modelChannels) };
  };
  return new Trainer(gpu, {
    name: "U-Net",
    parameters,
    loss: reshape(mean(mul(error, input("weight", [batch]))), [1]),
    reported: reshape(mean(error), [1]),
    feed,
    steps: settings.steps,
    learningRate: settings.learningRate,
    rate: settings.rate ?? unetRate,
    average: { parameters: average, decay: settings.averageDecay },
    room,
    beside,
  });
}
