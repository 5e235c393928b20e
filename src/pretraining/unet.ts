/**
 * Joint training of the U-Net and the text tower on latents that were made once (Rombach et al. 2022, Eq. 3): noise
 * prediction under a min-SNR weight, captions sometimes left out for guidance (Ho & Salimans 2021), averaged weights.
 */

import { createSchedule, qSample } from "../diffusion/schedule.ts";
import { timestepQuantile } from "../diffusion/timesteps.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Feed } from "../graph/compile.ts";
import { embedding } from "../graph/ops/gather.ts";
import { mean } from "../graph/ops/reduce.ts";
import { reshape } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { textTower, TOKEN_TABLE } from "../models/text_tower.ts";
import { type Probe, timestepEmbedding, unet } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import type { RateSchedule } from "../nn/learning_rate.ts";
import { asksDamage, LOCALISED_CELLS, noiseLoss, type NoiseTerms, PLAIN_LOSS } from "./noise_loss.ts";
import { BALANCED_MOST, noiseLevelWeight, unetRate } from "./recipe.ts";
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
  /** Where each picture's damage is, for a loss that asks for it. */
  readonly damage?: readonly LatentDamage[];
}

/** The damage of a picture as the U-Net sees it. */
export interface LatentDamage {
  /** Cells of the latent with damage in them, row by row. */
  readonly cells: readonly number[];
  /** Columns of the caption's ids that speak of it. */
  readonly columns: readonly number[];
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
  /** What counts beside the plain error; nothing where left out. */
  readonly terms?: NoiseTerms;
}

/**
 * ε of a captioned latent.
 * @param x [B, h, w, C]
 * @param time timestep embedding [B, modelChannels]
 * @param ids caption, u32 [B, L]
 * @param probe what is asked of the attention to the caption
 * @returns [B, h, w, C]
 */
export function captionedUnet(
  config: ModelConfig,
  p: Parameters,
  x: Tensor,
  time: Tensor,
  ids: Tensor,
  probe?: Probe,
): Tensor {
  const words = embedding(p.tensor(TOKEN_TABLE, [config.text.vocabSize, config.text.width]), ids); // [B, L, D]
  return unet(config.unet, p, x, time, textTower(config.text, p, words), undefined, undefined, probe);
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
 * @throws UserError where the loss asks for attention maps that the model has not
 */
export function trainUnet(
  gpu: Gpu,
  config: ModelConfig,
  parameters: Parameters,
  average: Parameters,
  { latents, captions, empty, damage }: LatentSet,
  settings: UnetSettings,
  room?: Room,
  beside?: readonly (readonly Tensor[])[],
): Trainer {
  const { seed, batch, captionDropout, terms = PLAIN_LOSS } = settings, { maxLength } = config.text;
  const side = config.resolution / downsamplingFactor(config.autoencoder), channels = config.unet.inChannels;
  const each = side * side * channels, schedule = createSchedule(config.schedule), { alphasCumprod } = schedule;
  const inputs = (): [Tensor, Tensor, Tensor] => [
    input("x", [batch, side, side, channels]),
    input("time", [batch, config.unet.modelChannels]),
    input("ids", [batch, maxLength], "u32"),
  ];
  const maps: Tensor[] = [], asked = asksDamage(terms);
  const cells = asked ? input("cells", [batch, side, side, 1]) : undefined;
  if (asked && !damage) throw new Error("the loss asks where the damage is, the pictures do not say");
  const about = terms.localise ? input("about", [batch, maxLength]) : undefined;
  const probe = about && { columns: about, least: LOCALISED_CELLS, take: (map: Tensor) => void maps.push(map) };
  const eps = captionedUnet(config, parameters, ...inputs(), probe);
  if (about && !maps.length) {
    throw new UserError(
      `no attention to the caption has a map of ${LOCALISED_CELLS} cells or more`,
      "leave --localise out, or train on larger pictures",
    );
  }
  const { loss, error } = noiseLoss(
    eps,
    input("eps", [batch, side, side, channels]),
    input("weight", [batch]),
    terms,
    cells && { cells, about, maps },
  );
  captionedUnet(config, average, ...inputs()); // never run: it makes the averaged parameters

  const order = new Order(seed, captions.length);
  const quantile = timestepQuantile(schedule, terms.timestepSampling, BALANCED_MOST);
  const feed = (step: number): Feed => {
    const random = new Random(seed, "unet/batch", step);
    const x = new Float32Array(batch * each), eps = random.normals(batch * each), weight = new Float32Array(batch);
    const ids = new Uint32Array(batch * maxLength), at: number[] = [];
    const cells = new Float32Array(asked ? batch * side * side : 0);
    const about = new Float32Array(terms.localise ? batch * maxLength : 0);
    for (let b = 0; b < batch; b++) {
      const picture = order.at(step * batch + b);
      const dropped = random.chance(captionDropout);
      ids.set(dropped ? empty : captions[picture], b * maxLength);
      if (asked) { for (const cell of damage![picture].cells) cells[b * side * side + cell] = 1; }
      if (terms.localise && !dropped) { for (const i of damage![picture].columns) about[b * maxLength + i] = 1; }
      // One t per stratum: the loss varies less from step to step than with independent draws.
      const t = quantile((b + random.uniform()) / batch);
      const latent = latents.subarray(picture * each, (picture + 1) * each), start = b * each;
      x.set(qSample(latent, eps.subarray(start, start + each), alphasCumprod[t]), start);
      weight[b] = noiseLevelWeight(alphasCumprod[t], terms.timestepSampling);
      at.push(t);
    }
    return {
      ...{ x, eps, weight, ids, time: timestepEmbedding(at, config.unet.modelChannels) },
      ...(asked ? { cells } : {}),
      ...(terms.localise ? { about } : {}),
    };
  };
  return new Trainer(gpu, {
    name: "U-Net",
    parameters,
    loss,
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
