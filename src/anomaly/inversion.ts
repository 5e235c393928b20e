/**
 * Masked textual inversion (paper, Eq. 5–6; Gal et al. 2022): learns, through the frozen U-Net and text tower, the word
 * embeddings e_a of every kind of defect and one spatial encoder E(mask) → e_s, all at once. The loss is the noise
 * prediction's error inside the mask. Without a spatial encoder and with full masks it is plain textual inversion, which is
 * how mask embeddings are learned.
 */

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
import { Parameters, type ParameterSource, type Stored } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import type { ModelConfig } from "../weights/config.ts";
import { Safetensors, safetensorsParts } from "../weights/safetensors.ts";
import { torchLayouts } from "../weights/rules.ts";
import type { BaseModel, Prompt } from "./base_model.ts";
import type { AnomalyEmbedding, SpatialConfig } from "./embedding.ts";
import { inversionGraph } from "./inversion_graph.ts";
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
}

/** Standard deviation of the noise that keeps copies of the initial word apart, where the settings do not say. */
const INIT_NOISE = 0.02;

/** Values read from the device at once while saving, in bytes: a trip costs 11 ms, memory more. */
const SAVE_BYTES = 2 ** 27;

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
  readonly #lossSum = Variable.zeros("lossSum", [1]);
  readonly #program: Compiled;
  /** With several parts, what follows the last of them. */
  readonly #update: Compiled | undefined;
  readonly #sums: readonly Variable[];
  #steps = 0;

  /**
   * Prepares a training on pictures that are latents already.
   * @throws Error where an item's size does not fit the base model
   */
  constructor(base: BaseModel, items: readonly InversionItem[], settings: InversionSettings) {
    this.#base = base;
    this.settings = settings;
    this.#items = items;
    this.keys = [...new Set(items.map(({ key }) => key))].sort();
    this.#byKey = this.keys.map((key) => items.filter((item) => item.key === key));
    this.#prompts = settings.templates.map((text) => base.prompt(text));
    this.#timestep = timestepQuantile(base.schedule, settings.timesteps ?? "uniform");
    const { tokens, spatialTokens, seed } = settings, width = base.config.text.width;
    const word = base.wordVector(settings.initializerToken), { initializerNoise = INIT_NOISE } = settings;
    const random = new Random(seed, "init/embedding"), count = this.keys.length * tokens * width;
    this.#table = new Variable(
      "embeddings",
      [this.keys.length * tokens, width],
      settings.initializer === "random"
        ? Float32Array.from({ length: count }, () => random.uniform())
        : random.normals(count).map((v, i) => word[i % width] + initializerNoise * v),
    );
    this.#spatialConfig = spatialTokens ? spatialConfigOf(settings, width, base.side) : undefined;
    this.#encoder = new Parameters(this.#initialEncoder(), torchLayouts);
    const { batch, parts = 1, area, weightDecay = 0, activationBudget = Infinity } = settings;
    const graph = inversionGraph(
      base.config,
      { base: base.parameters, encoder: this.#encoder },
      this.#table,
      this.#lossSum,
      { batch, parts, tokens, area, spatial: this.#spatialConfig, decoupledDecay: weightDecay > 0 },
    );
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

  /** What step `step` is trained on; depends on (seed, step) only. */
  #feed(step: number): Record<string, Float32Array | Uint32Array> {
    const { batch, tokens, spatialTokens, seed, steps, learningRate, encoderLearningRate, weightDecay } = this.settings;
    const { inOrder, constantRate, timesteps: sampling = "uniform" } = this.settings;
    const { latentSize, latentSide, side, schedule, config } = this.#base;
    const random = new Random(seed, "train/batch", step);
    const { maxLength, width } = config.text;
    const x = new Float32Array(batch * latentSize), eps = new Float32Array(batch * latentSize);
    const latentMask = new Float32Array(batch * latentSide ** 2), mask = new Float32Array(batch * side ** 2);
    const words = new Float32Array(batch * maxLength * width), ids = new Uint32Array(batch * tokens);
    const columns: number[] = [], timesteps: number[] = [];
    const first = sampling === "balanced" ? random.integer(0, batch) : 0; // which stratum the first picture draws from
    for (let b = 0; b < batch; b++) {
      const drawn = inOrder ? undefined : random.integer(0, this.keys.length);
      const item = drawn === undefined
        ? this.#items[(step * batch + b) % this.#items.length]
        : random.pick(this.#byKey[drawn]);
      const key = drawn ?? this.keys.indexOf(item.key);
      const prompt = random.pick(this.#prompts);
      const t = sampling === "uniform"
        ? random.integer(0, schedule.timesteps)
        : this.#timestep(((first + b) % batch + random.uniform()) / batch);
      const z0 = this.#base.sampleLatent(item.moments, random.normals(latentSize)), noise = random.normals(latentSize);
      const signal = Math.sqrt(schedule.alphasCumprod[t]), sigma = Math.sqrt(1 - schedule.alphasCumprod[t]);
      x.set(z0.map((v, i) => signal * v + sigma * noise[i]), b * latentSize);
      eps.set(noise, b * latentSize);
      latentMask.set(item.latentMask, b * latentSide ** 2);
      if (item.mask) mask.set(item.mask, b * side ** 2);
      words.set(prompt.words, b * maxLength * width);
      columns.push(prompt.column);
      timesteps.push(t);
      for (let k = 0; k < tokens; k++) ids[b * tokens + k] = key * tokens + k;
    }
    const fall = constantRate || step < 0.6 * steps ? 1 : 0.2;
    return {
      x,
      eps,
      latentMask,
      mask,
      words,
      ids,
      rows: insertionRows(columns, maxLength, tokens + spatialTokens),
      time: timestepEmbedding(timesteps, config.unet.modelChannels),
      embeddingHyper: adamHyper(step + 1, { learningRate: learningRate * fall, weightDecay }),
      encoderHyper: adamHyper(step + 1, { learningRate: encoderLearningRate * fall }),
    };
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
    while (this.#steps < Math.min(until, this.settings.steps)) this.#step(this.#feed(this.#steps++));
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
    return [this.#table, ...this.#encoder.variables.values(), ...this.#moments];
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
