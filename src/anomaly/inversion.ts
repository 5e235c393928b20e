/**
 * Masked textual inversion (paper, Eq. 5–6; Gal et al. 2022): learns, through the frozen U-Net and text tower, the word
 * embeddings e_a of every kind of defect and one spatial encoder E(mask) → e_s, all at once. The loss is the noise
 * prediction's error inside the mask. Without a spatial encoder and with full masks it is plain textual inversion, which is
 * how mask embeddings are learned.
 */

import { lossWeight, qSample } from "../diffusion/schedule.ts";
import { timestepQuantile, type TimestepSampling } from "../diffusion/timesteps.ts";
import { UserError } from "../errors.ts";
import { compile, type Compiled } from "../graph/compile.ts";
import { adamHyper } from "../graph/ops/optimise.ts";
import type { PlanReport } from "../graph/plan.ts";
import { fitStep } from "../graph/recompute.ts";
import { bytesOf } from "../graph/tensor.ts";
import { readVariables, Variable } from "../graph/variable.ts";
import { officialSpatialConfig, officialSpatialInit } from "../models/official_spatial_encoder.ts";
import { lightSpatialConfig, lightSpatialInit } from "../models/spatial_encoder.ts";
import { insertionRows } from "../models/text_tower.ts";
import { timestepEmbedding } from "../models/unet.ts";
import { rateAt, type RateSchedule } from "../nn/learning_rate.ts";
import { Parameters, type ParameterSource, type Stored } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import type { ModelConfig } from "../weights/config.ts";
import { Safetensors, safetensorsParts } from "../weights/safetensors.ts";
import { torchLayouts } from "../weights/rules.ts";
import type { BaseModel, Prompt } from "./base_model.ts";
import type { AnomalyEmbedding, SpatialConfig } from "./embedding.ts";
import { inversionGraph, isUnet } from "./inversion_graph.ts";
import { isSurface, surfaceOf } from "./surface.ts";
import type { View } from "./windows.ts";

/** One training picture, already a latent. */
export interface InversionItem {
  /** Whose embedding it trains: `object+defect`. */
  readonly key: string;
  /** Posterior moments of the picture [h, w, 2·C]. */
  readonly moments: Float32Array;
  /** 1 where the loss counts, [h, w]. */
  readonly latentMask: Float32Array;
  /** Mask in [0, 1] for the spatial encoder [side, side]; needed where there is one. */
  readonly mask?: Float32Array;
}

/** Settings of a training run. */
export interface InversionSettings {
  /** Tokens k of each embedding. */
  readonly tokens: number;
  /** Tokens n of the spatial encoder; 0 for none. */
  readonly spatialTokens: number;
  /** The light encoder (default), the official code's of 356 M parameters, or one of these sizes. */
  readonly spatialEncoder?: SpatialConfig["kind"] | SpatialConfig;
  /**
   * What the light encoder starts from: the one in the base model's folder where its sizes fit (default), or random
   * parameters.
   */
  readonly spatialInit?: SpatialInit;
  /** Let the official encoder's batch norms use the batch's statistics when images are made, as the official code does. */
  readonly officialBn?: boolean;
  /** Images in one step. */
  readonly batch: number;
  /** Steps in all; rates fall to a fifth after 60 % of them, unless `constantRate`. */
  readonly steps: number;
  /** From which noise, timesteps and prompts follow. */
  readonly seed: number;
  /** Step size of the embeddings. */
  readonly learningRate: number;
  /** Step size of the spatial encoder. */
  readonly encoderLearningRate: number;
  /** The rates stay what they are to the end. */
  readonly constantRate?: boolean;
  /** AdamW's decay of the embeddings; Adam where 0 or left out. */
  readonly weightDecay?: number;
  /**
   * Step by step, the next `batch` items: for items that were augmented together. Otherwise each picture draws its kind, and
   * one of the kind's items.
   */
  readonly inOrder?: boolean;
  /** Noise levels that are drawn; `uniform` where left out. Balanced ones are spread over each batch. */
  readonly timesteps?: TimestepSampling;
  /** Start from a word, the default, or from numbers drawn evenly from 0 to 1. */
  readonly initializer?: "word" | "random";
  /** Word whose embedding e_a starts from. */
  readonly initializerToken: string;
  /** Standard deviation of the noise on it; 0.02 where left out. */
  readonly initializerNoise?: number;
  /** Divide each picture's loss by its mask's area (default) or by the whole latent (official code). */
  readonly area: boolean;
  /** Parts of the batch that run one after the other, to save memory; divides the batch. Rounding apart, a step is the same. */
  readonly parts?: number;
  /** Bytes for activations and gradients; where they do not suffice, blocks are computed again. The results do not change. */
  readonly activationBudget?: number;
  /** What the items show of their pictures; kept with the embeddings, so that generation shows the model the same. */
  readonly view?: View;
  /** Prompts with a placeholder `*`; one is drawn per picture and step. */
  readonly templates: readonly string[];
  /**
   * Train the U-Net's weights along, in the base model's own parameters, which must be f32. A third of each batch are then surfaces,
   * and a defect's tokens count in its mask only, its surface's outside.
   */
  readonly tune?: TuneSettings;
}

/** How the U-Net is trained along. */
export interface TuneSettings {
  /** Step size of its weights. All rates rise at first and fall along a cosine in the second half. */
  readonly learningRate: number;
  /** How often the error counts in a defect's mask. */
  readonly emphasis: number;
}

/** Standard deviation of the noise that keeps copies of the initial word apart, where the settings do not say. */
const INIT_NOISE = 0.02;

/** Values read from the device at once while saving, in bytes: a trip costs 11 ms, memory more. */
const SAVE_BYTES = 2 ** 27;

/** How all rates go where the U-Net is tuned; the rise takes a fifth of a short training at most. */
const TUNE_RATE: RateSchedule = { warmUp: 50, flat: 0.5, rest: 0.01 };

/** Share of surfaces in a batch where the U-Net is tuned: it must not forget what is no defect. */
const SURFACE_SHARE = 1 / 3;

/** What a light spatial encoder starts from. */
export type SpatialInit = "model" | "random";

/** Whether a model folder's own spatial encoder has the sizes of the one that is to be trained. */
export function pretrainedSpatialFits({ spatialEncoder: own }: ModelConfig, wanted: SpatialConfig): boolean {
  return own !== undefined && wanted.kind === "light" && own.tokens === wanted.tokens && own.width === wanted.width &&
    own.channels.join() === wanted.channels.join();
}

/** Sizes of the encoder that the settings ask for; the official one never reads finer masks than it was made for. */
export function spatialConfigOf(
  settings: Pick<InversionSettings, "spatialTokens" | "spatialEncoder" | "officialBn">,
  width: number,
  side: number,
): SpatialConfig {
  const { spatialTokens, spatialEncoder, officialBn } = settings;
  if (typeof spatialEncoder === "object") {
    if (spatialEncoder.tokens === spatialTokens && spatialEncoder.width === width) return spatialEncoder;
    throw new Error(`the spatial encoder must make ${spatialTokens} tokens of width ${width}`);
  }
  if (spatialEncoder !== "official") return lightSpatialConfig(spatialTokens, width);
  return officialSpatialConfig(spatialTokens, width, {
    side: Math.min(side, 256),
    generation: officialBn ? "batch" : "running",
  });
}

/** A training run on a device. */
export class Inversion implements Disposable {
  /** Kinds that are learned, `part+defect`. */
  readonly keys: readonly string[];
  /** As given. */
  readonly settings: InversionSettings;
  readonly #base: BaseModel;
  readonly #items: readonly InversionItem[];
  readonly #byKey: readonly InversionItem[][];
  readonly #prompts: readonly Prompt[];
  readonly #timestep: (u: number) => number;
  readonly #table: Variable;
  readonly #encoder: Parameters;
  readonly #spatialConfig: SpatialConfig | undefined;
  readonly #moments: readonly Variable[];
  readonly #tuned: readonly Variable[];
  readonly #lossSum = Variable.zeros("lossSum", [1]);
  readonly #program: Compiled;
  /** With several parts, what follows the last of them. */
  readonly #update: Compiled | undefined;
  readonly #sums: readonly Variable[];
  #steps = 0;

  /**
   * Prepares a training on pictures that are latents already.
   * @throws Error where an item's size does not fit the base model, or a surface is missing that tuning needs
   */
  constructor(base: BaseModel, items: readonly InversionItem[], settings: InversionSettings) {
    this.#base = base;
    this.settings = settings;
    this.#items = items;
    this.keys = [...new Set(items.map(({ key }) => key))].sort();
    this.#byKey = this.keys.map((key) => items.filter((item) => item.key === key));
    if (settings.tune && !this.keys.every((key) => isSurface(key) || surfaceOf(this.keys, key))) {
      throw new Error("tuning the U-Net needs items of every surface");
    }
    this.#prompts = settings.templates.map((text) => base.prompt(text));
    this.#timestep = timestepQuantile(base.schedule, settings.timesteps ?? "uniform");
    const { tokens, spatialTokens, seed } = settings, width = base.config.text.width;
    const { initializerNoise = INIT_NOISE } = settings, random = new Random(seed, "init/embedding");
    const count = this.keys.length * tokens * width;
    const word = settings.initializer === "random" ? [] : base.wordVector(settings.initializerToken);
    this.#table = new Variable(
      "embeddings",
      [this.keys.length * tokens, width],
      settings.initializer === "random"
        ? Float32Array.from({ length: count }, () => random.uniform())
        : random.normals(count).map((v, i) => word[i % width] + initializerNoise * v),
    );
    this.#spatialConfig = spatialTokens ? spatialConfigOf(settings, width, base.side) : undefined;
    this.#encoder = new Parameters(this.#initialEncoder(), torchLayouts);
    const { batch, parts = 1, area, weightDecay = 0, activationBudget = Infinity, tune } = settings;
    const graph = inversionGraph(
      base.config,
      { base: base.parameters, encoder: this.#encoder },
      this.#table,
      this.#lossSum,
      {
        ...{ batch, parts, tokens, spatial: this.#spatialConfig, decoupledDecay: weightDecay > 0 },
        area: area && !tune, // tuned, each cell has a weight of its own
        tune: tune !== undefined,
      },
    );
    this.#tuned = tune ? [...base.parameters.variables.values()].filter(({ name }) => isUnet(name)) : [];
    this.#moments = graph.moments;
    this.#sums = graph.sums;
    const { step } = fitStep(graph.loss, graph.step, activationBudget);
    this.#program = compile(base.gpu, {}, step.effects, base.scratch);
    this.#update = parts > 1 ? compile(base.gpu, {}, graph.update().effects, base.scratch) : undefined;
  }

  #initialEncoder(): ParameterSource {
    const { seed, spatialInit = "model" } = this.settings, config = this.#spatialConfig;
    if (config?.kind === "official") return officialSpatialInit(config, seed);
    return config && spatialInit === "model" && pretrainedSpatialFits(this.#base.config, config) &&
        this.#base.spatialEncoder ||
      lightSpatialInit(seed);
  }

  /** Steps done. */
  get steps(): number {
    return this.#steps;
  }

  /** Bytes and FLOPs of one step. */
  get report(): PlanReport {
    return this.#program.report;
  }

  /** Kind of picture `b` of a batch: any, but surfaces in the last third of it, or one of them, where the U-Net is tuned. */
  #drawKind(random: Random, b: number): number {
    const { tune, batch } = this.settings;
    if (!tune) return random.integer(0, this.keys.length);
    const surfaces = batch > 1
      ? b >= batch - Math.max(1, Math.round(SURFACE_SHARE * batch))
      : random.chance(SURFACE_SHARE);
    const kinds = this.keys.map((_, kind) => kind).filter((kind) => isSurface(this.keys[kind]) === surfaces);
    return random.pick(kinds);
  }

  /** Kinds and timesteps of the pictures of a step, in their order. */
  drawn(step: number): { readonly key: string; readonly timestep: number }[] {
    const { feed: { ids }, timesteps } = this.#feed(step), { tokens } = this.settings;
    return timesteps.map((timestep, b) => ({ key: this.keys[ids[b * tokens] / tokens], timestep }));
  }

  /** What step `step` is trained on; depends on (seed, step) only. */
  #feed(step: number): { feed: Record<string, Float32Array | Uint32Array>; timesteps: readonly number[] } {
    const { batch, tokens, spatialTokens, seed, learningRate, encoderLearningRate, weightDecay } = this.settings;
    const { inOrder, tune, timesteps: sampling = "uniform" } = this.settings;
    const { latentSize, latentSide, side, schedule, config } = this.#base, cells = latentSide ** 2;
    const random = new Random(seed, "train/batch", step);
    const { maxLength, width } = config.text;
    const x = new Float32Array(batch * latentSize), eps = new Float32Array(batch * latentSize);
    const latentMask = new Float32Array(batch * cells), mask = new Float32Array(batch * side ** 2);
    const words = new Float32Array(batch * maxLength * width), ids = new Uint32Array(batch * tokens);
    const region = new Float32Array(batch * cells), outsideIds = new Uint32Array(batch * tokens);
    const columns: number[] = [], timesteps: number[] = [];
    const spread = sampling === "balanced" || tune !== undefined;
    // Which stratum of the noise levels each picture draws from. Tuned, surfaces come last: in turn they would share their levels.
    const first = spread && !tune ? random.integer(0, batch) : 0;
    const strata = tune && random.shuffle(Array.from({ length: batch }, (_, b) => b));
    for (let b = 0; b < batch; b++) {
      const drawn = inOrder ? undefined : this.#drawKind(random, b);
      const item = drawn === undefined
        ? this.#items[(step * batch + b) % this.#items.length]
        : random.pick(this.#byKey[drawn]);
      const key = drawn ?? this.keys.indexOf(item.key);
      const prompt = random.pick(this.#prompts);
      const t = spread
        ? this.#timestep(((strata ? strata[b] : (first + b) % batch) + random.uniform()) / batch)
        : random.integer(0, schedule.timesteps);
      const z0 = this.#base.sampleLatent(item.moments, random.normals(latentSize)), noise = random.normals(latentSize);
      const aBar = schedule.alphasCumprod[t];
      x.set(qSample(z0, noise, aBar), b * latentSize);
      eps.set(noise, b * latentSize);
      if (tune) {
        region.set(item.latentMask, b * cells);
        outsideIds.set(this.#rowsOf(this.#outside(key)), b * tokens);
      }
      latentMask.set(tune ? this.#weights(item, aBar, isSurface(item.key)) : item.latentMask, b * cells);
      if (item.mask) mask.set(item.mask, b * side ** 2);
      words.set(prompt.words, b * maxLength * width);
      columns.push(prompt.column);
      timesteps.push(t);
      ids.set(this.#rowsOf(key), b * tokens);
    }
    const rate = this.#rate(step);
    const feed = {
      x,
      eps,
      latentMask,
      mask,
      words,
      ids,
      rows: insertionRows(columns, maxLength, tokens + spatialTokens),
      time: timestepEmbedding(timesteps, config.unet.modelChannels),
      embeddingHyper: adamHyper(step + 1, { learningRate: learningRate * rate, weightDecay }),
      encoderHyper: adamHyper(step + 1, { learningRate: encoderLearningRate * rate }),
      ...(tune
        ? { region, outsideIds, unetHyper: adamHyper(step + 1, { learningRate: tune.learningRate * rate }) }
        : {}),
    };
    return { feed, timesteps };
  }

  /** Rows of the table that belong to a kind. */
  #rowsOf(kind: number): number[] {
    const { tokens } = this.settings;
    return Array.from({ length: tokens }, (_, k) => kind * tokens + k);
  }

  /** The kind whose tokens count outside a kind's mask: its part's surface. */
  #outside(kind: number): number {
    const key = this.keys[kind];
    return isSurface(key) ? kind : this.keys.indexOf(surfaceOf(this.keys, key)!);
  }

  /** Weights of the error's roots, [h, w]: the noise level's of `pretrain`, and more on a defect. */
  #weights({ latentMask }: InversionItem, aBar: number, surface: boolean): Float32Array {
    const weight = lossWeight(aBar), { emphasis } = this.settings.tune!;
    return latentMask.map((v) => Math.sqrt(weight * (v && !surface ? emphasis : 1)));
  }

  /** Share of the rates at a step. */
  #rate(step: number): number {
    const { tune, steps, constantRate } = this.settings;
    if (tune) return rateAt(step, steps, 1, { ...TUNE_RATE, warmUp: Math.min(TUNE_RATE.warmUp, steps / 5) });
    return constantRate || step < 0.6 * steps ? 1 : 0.2;
  }

  #step(feed: Record<string, Float32Array | Uint32Array>): void {
    const { parts = 1 } = this.settings;
    for (let part = 0; part < parts; part++) {
      const own = Object.entries(feed).map(([name, values]) => {
        const size = values.length / parts;
        return [name, name.endsWith("Hyper") ? values : values.subarray(part * size, (part + 1) * size)];
      });
      this.#program.step(Object.fromEntries(own));
    }
    this.#update?.step(feed);
  }

  /**
   * Trains up to step `until` (exclusive) and reads the mean loss of these steps, the only trip to the host.
   * @throws UserError where the loss is not a finite number
   */
  async advance(until: number): Promise<number> {
    const from = this.#steps;
    this.#lossSum.write(new Float32Array(1));
    while (this.#steps < Math.min(until, this.settings.steps)) this.#step(this.#feed(this.#steps++).feed);
    const loss = (await this.#lossSum.read())[0] / (this.#steps - from);
    if (!Number.isFinite(loss)) {
      throw new UserError(
        `the loss is not a number after step ${this.#steps}`,
        "train again with a smaller learning rate",
      );
    }
    return loss;
  }

  #state(): Variable[] {
    return [this.#table, ...this.#encoder.variables.values(), ...this.#tuned, ...this.#moments];
  }

  /** Everything from which training goes on bit for bit, in pieces: the official encoder's state is 4.3 GB. */
  saveParts(): AsyncGenerator<Uint8Array> {
    const groups: Variable[][] = [[]];
    let bytes = 0;
    for (const variable of this.#state()) {
      bytes += bytesOf(variable);
      if (bytes > SAVE_BYTES && groups.at(-1)!.length) {
        groups.push([]);
        bytes = bytesOf(variable);
      }
      groups.at(-1)!.push(variable);
    }
    const metadata = { format: "anomalydiffusion-training", steps: String(this.#steps) };
    return safetensorsParts(groups, readVariables, metadata);
  }

  /** What {@linkcode saveParts} gives, as one. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await new Blob(await Array.fromAsync(this.saveParts()) as BlobPart[]).arrayBuffer());
  }

  /** Goes back to what {@linkcode save} wrote. */
  load(bytes: Uint8Array, label: string): void {
    const file = Safetensors.parse(bytes, label);
    for (const variable of this.#state()) variable.write(file.float32(variable.name));
    this.#steps = Number(file.metadata.steps);
  }

  /** The embeddings as they are now. */
  async embedding(): Promise<AnomalyEmbedding> {
    const { spatial, ...rest } = await this.borrowed();
    return { ...rest, spatial: spatial && { config: spatial.config, parameters: await this.#encoder.store() } };
  }

  /** The same with the spatial encoder where it is, on the device: for pictures on the way, until the next step. */
  async borrowed(): Promise<AnomalyEmbedding> {
    const { tokens, view } = this.settings, config = this.#spatialConfig;
    return {
      keys: this.keys,
      tokens,
      width: this.#base.config.text.width,
      table: await this.#table.read(),
      spatial: config && { config, parameters: new Map<string, Stored>(), resident: this.#encoder },
      model: this.#base.sha256,
      view,
      ...(this.settings.tune ? { regions: true } : {}),
    };
  }

  /** Frees the buffers of the training; the base model stays. */
  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    this.#update?.[Symbol.dispose]();
    for (const variable of [this.#table, this.#lossSum, ...this.#moments, ...this.#sums]) variable[Symbol.dispose]();
    this.#encoder[Symbol.dispose]();
  }
}
