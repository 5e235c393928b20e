/**
 * Sampling: DDIM on the device, blended with a normal image's latent outside the mask (paper, Eq. 1; Avrahami et al. 2022),
 * with classifier-free guidance and adaptive attention re-weighting (paper, Eq. 7). Without a background it samples whole
 * pictures, which is how masks are made.
 */

import { ddimSteps } from "../diffusion/ddim.ts";
import { dilationRadius } from "../diffusion/reweighting.ts";
import { compile, type Compiled } from "../graph/compile.ts";
import { assign } from "../graph/ops/optimise.ts";
import { add, mul, sub } from "../graph/ops/pointwise.ts";
import { dilate, reweightingMap } from "../graph/ops/reweighting.ts";
import { concat, slice } from "../graph/ops/shape.ts";
import type { PlanReport } from "../graph/plan.ts";
import type { Tensor } from "../graph/tensor.ts";
import { filled, input, Variable } from "../graph/variable.ts";
import { insertionRows, insertLearned, learnedColumns, textTower } from "../models/text_tower.ts";
import { type Context, contextKeys, timestepEmbedding, transformers, unet } from "../models/unet.ts";
import { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { torchLayouts } from "../weights/rules.ts";
import type { UnetConfig } from "../weights/config.ts";
import type { BaseModel, Prompt } from "./base_model.ts";
import { type AnomalyEmbedding, maskTokens } from "./embedding.ts";

/** Which adaptive attention re-weighting: none, the official code's, or the paper's Eq. 7 (method: see ARCHITECTURE.md). */
export type ReweightingForm = "off" | "official" | "paper";

/** Tensors of one blended step. */
export interface BlendedStep {
  /** x_t as the step before left it [B, h, w, C]. */
  readonly x: Tensor;
  /** Latent of the normal image [B, h, w, C]. */
  readonly z0: Tensor;
  /** 1 where the anomaly shall appear [B, h, w, 1]. */
  readonly mask: Tensor;
  /** Fresh noise for the background at time t, and for the step. */
  readonly backgroundNoise: Tensor;
  readonly stepNoise: Tensor;
  /** [6]: √ᾱ_t, √(1 − ᾱ_t), and the step's coefficients of x, of ε and of its noise, and the guidance scale. */
  readonly coefficients: Tensor;
  /** Sinusoid of t, [B, modelChannels], or [2B, …] with guidance. */
  readonly timeEmbedding: Tensor;
  /** Context of B images; with guidance of 2B, the unconditional ones last. */
  readonly context: Context;
  readonly guided: boolean;
  readonly reweighting?: {
    readonly form: "official" | "paper";
    /** 1 on the learned columns [B, L]. */
    readonly columns: Tensor;
    /** Half-width of the mask's dilation at this time, u32 [1]. */
    readonly halfWidth: Tensor;
  };
}

/** x_{t−1} of one step: blend with the noised background, predict ε, go one DDIM step. */
export function blendedStep(config: UnetConfig, p: Parameters, s: BlendedStep): Tensor {
  const scalar = (i: number) => slice(s.coefficients, 0, i, i + 1);
  const { x, z0, reweighting } = s;
  const mask = reweighting ? dilate(s.mask, reweighting.halfWidth) : s.mask;
  const background = add(mul(z0, scalar(0)), mul(s.backgroundNoise, scalar(1)));
  const blended = add(background, mul(sub(x, background), mask)); // x·M + y_t·(1 − M)
  // The map compares the latent before blending with the clean background: the official code's order.
  const map = reweighting ? reweightingMap(x, z0, mask, { form: reweighting.form }) : undefined;
  const mode = reweighting?.form === "paper" ? "probabilities" : "logits";
  const twice = (t: Tensor, other: Tensor = t) => (s.guided ? concat([t, other], 0) : t);
  const eps = unet(
    config,
    p,
    twice(blended),
    s.timeEmbedding,
    s.context,
    map && {
      map: twice(map, filled(map.shape, 1)),
      columns: twice(reweighting!.columns, filled(reweighting!.columns.shape, 0)),
      mode,
    },
  );
  const batch = x.shape[0];
  const conditional = s.guided ? slice(eps, 0, 0, batch) : eps;
  const guidedEps = s.guided ? guide(conditional, slice(eps, 0, batch, 2 * batch), scalar(5)) : conditional;
  return add(add(mul(blended, scalar(2)), mul(guidedEps, scalar(3))), mul(s.stepNoise, scalar(4)));
}

/** ε_u + g·(ε_c − ε_u) (Ho & Salimans 2022). */
function guide(conditional: Tensor, unconditional: Tensor, scale: Tensor): Tensor {
  return add(unconditional, mul(sub(conditional, unconditional), scale));
}

/** Settings of a sampler. */
export interface SamplerSettings {
  /** Images at once; what an image looks like does not depend on it. */
  readonly batch: number;
  readonly steps: number;
  readonly eta: number;
  /** Guidance scale; 1 for none. */
  readonly guidance: number;
  readonly reweighting: ReweightingForm;
  readonly seed: number;
}

/** One picture to sample. */
export interface SampleJob {
  /** With the seed and the index, names the picture's random numbers: `pair/wood+ring`. */
  readonly stream: string;
  readonly index: number;
  /** How often it was tried before; another try draws other numbers. */
  readonly attempt: number;
  readonly prompt: Prompt;
  /** Learned tokens e_a [k, D]. */
  readonly tokens: Float32Array;
  /** Mask in [0, 1] for the spatial encoder [side, side]; needed where the embedding has one. */
  readonly mask?: Float32Array;
  /** Latent mask [h, w] of 0 and 1; everything where left out. */
  readonly latentMask?: Float32Array;
  /** Latent of the normal image [h, w, C]; needed with a latent mask. */
  readonly background?: Float32Array;
}

/** Unguided, a batch needs half the memory: the U-Net then runs on B images, else on 2B. */
function rows(batch: number, guidance: number): number {
  return guidance === 1 ? batch : 2 * batch;
}

/** A sampler on a device, for one embedding and one batch size. */
export class Sampler implements Disposable {
  readonly #base: BaseModel;
  readonly #settings: SamplerSettings;
  readonly #spatial: Parameters | undefined;
  readonly #spatialTokens: number;
  readonly #variables: Record<"x" | "z0" | "mask" | "columns", Variable>;
  readonly #keys = new Map<string, { k: Variable; v: Variable }>();
  readonly #prepare: Compiled;
  readonly #step: Compiled;

  constructor(base: BaseModel, embedding: AnomalyEmbedding, settings: SamplerSettings) {
    this.#base = base;
    this.#settings = settings;
    const { batch, guidance } = settings, { latentSide: side, latentChannels, config } = base;
    const length = config.text.maxLength, all = rows(batch, guidance);
    this.#variables = {
      x: Variable.zeros("x", [batch, side, side, latentChannels]),
      z0: Variable.zeros("z0", [batch, side, side, latentChannels]),
      mask: Variable.zeros("mask", [batch, side, side, 1]),
      columns: Variable.zeros("columns", [batch, length]),
    };
    for (const { name, width } of transformers(config.unet)) {
      this.#keys.set(name, {
        k: Variable.zeros(`${name}.k`, [all, length, width]),
        v: Variable.zeros(`${name}.v`, [all, length, width]),
      });
    }
    this.#spatialTokens = embedding.spatial?.config.tokens ?? 0;
    if (embedding.spatial) {
      const stored = embedding.spatial.parameters;
      this.#spatial = new Parameters({ get: (name) => stored.get(name)!.data }, torchLayouts);
    }
    this.#prepare = this.#buildPrepare(embedding);
    this.#step = this.#buildStep();
  }

  /** Bytes and FLOPs of one step. */
  get report(): PlanReport {
    return this.#step.report;
  }

  /** The text tower and every cross-attention's keys and values: once per batch, they do not change over the steps. */
  #buildPrepare(embedding: AnomalyEmbedding): Compiled {
    const { batch, guidance } = this.#settings, { config, parameters, side, gpu } = this.#base;
    const { maxLength: length, width } = config.text;
    const ea = input("tokens", [batch, embedding.tokens, width]);
    const learned = embedding.spatial
      ? concat([
        ea,
        maskTokens(embedding.spatial.config, this.#spatial!, input("mask", [batch, side, side, 1])).tokens,
      ], 1)
      : ea;
    const words = insertLearned(input("words", [batch, length, width]), learned, input("rows", [batch, length], "u32"));
    const sequences = guidance === 1 ? words : concat([words, input("empty", [batch, length, width])], 0);
    const context = textTower(config.text, parameters, sequences);
    const effects: Tensor[] = [];
    for (const [name, { k, v }] of contextKeys(config.unet, parameters, context)) {
      const { k: keys, v: values } = this.#keys.get(name)!;
      effects.push(assign(keys, k), assign(values, v));
    }
    return compile(gpu, {}, effects);
  }

  #buildStep(): Compiled {
    const { batch, guidance, reweighting } = this.#settings, { config, parameters, gpu } = this.#base;
    const { x, z0, mask, columns } = this.#variables;
    const next = blendedStep(config.unet, parameters, {
      x: x.tensor,
      z0: z0.tensor,
      mask: mask.tensor,
      backgroundNoise: input("backgroundNoise", x.shape),
      stepNoise: input("stepNoise", x.shape),
      coefficients: input("coefficients", [6]),
      timeEmbedding: input("time", [rows(batch, guidance), config.unet.modelChannels]),
      context: new Map([...this.#keys].map(([name, { k, v }]) => [name, { k: k.tensor, v: v.tensor }])),
      guided: guidance !== 1,
      reweighting: reweighting === "off"
        ? undefined
        : { form: reweighting, columns: columns.tensor, halfWidth: input("halfWidth", [1], "u32") },
    });
    return compile(gpu, {}, [assign(x, next)]);
  }

  /**
   * Samples up to `batch` pictures.
   * @param onStep called after each step is queued
   * @returns latents [h, w, C]; outside the latent mask exactly the background
   */
  async sample(jobs: readonly SampleJob[], onStep?: () => void): Promise<Float32Array[]> {
    const { batch, steps, eta, guidance, reweighting, seed } = this.#settings;
    const { latentSize, latentSide, latentChannels, side, schedule, config } = this.#base;
    if (jobs.length > batch || jobs.length === 0) throw new Error(`${jobs.length} jobs for a batch of ${batch}`);
    // An incomplete batch repeats its last picture: the same program, the same results.
    const full = Array.from({ length: batch }, (_, i) => jobs[Math.min(i, jobs.length - 1)]);
    const { maxLength: length, width } = config.text;
    const join = (size: number, part: (job: SampleJob) => Float32Array | undefined) => {
      const out = new Float32Array(batch * size);
      full.forEach((job, i) => {
        const values = part(job);
        if (values) out.set(values, i * size);
      });
      return out;
    };
    const learned = full[0].tokens.length / width + this.#spatialTokens;
    const columns = full.map(({ prompt }) => prompt.column);
    const latentMask = join(latentSide ** 2, (job) => job.latentMask ?? new Float32Array(latentSide ** 2).fill(1));
    const background = join(latentSize, (job) => job.background);
    this.#prepare.step({
      tokens: join(full[0].tokens.length, (job) => job.tokens),
      mask: join(side ** 2, (job) => job.mask),
      words: join(length * width, (job) => job.prompt.words),
      rows: insertionRows(columns, length, learned),
      ...(guidance === 1 ? {} : { empty: join(length * width, () => this.#base.prompt("").words) }),
    });
    const streams = full.map(({ stream, index, attempt }) => new Random(seed, `${stream}/${attempt}`, index));
    const noise = () => {
      const out = new Float32Array(batch * latentSize);
      streams.forEach((stream, i) => out.set(stream.normals(latentSize), i * latentSize));
      return out;
    };
    this.#variables.x.write(noise());
    this.#variables.z0.write(background);
    this.#variables.mask.write(latentMask);
    this.#variables.columns.write(learnedColumns(columns, length, learned, reweighting === "official"));
    for (const { t, aBar, sigma, xCoef, epsCoef } of ddimSteps(schedule, steps, eta)) {
      this.#step.step({
        backgroundNoise: noise(),
        stepNoise: noise(),
        coefficients: Float32Array.of(Math.sqrt(aBar), Math.sqrt(1 - aBar), xCoef, epsCoef, sigma, guidance),
        time: timestepEmbedding(Array(rows(batch, guidance)).fill(t), config.unet.modelChannels),
        halfWidth: Uint32Array.of(dilationRadius(t, steps, (steps === 50 ? 16 : 8) * latentSide / 32)),
      });
      onStep?.();
    }
    const x = await this.#variables.x.read();
    return jobs.map((job, i) => {
      const latent = x.slice(i * latentSize, (i + 1) * latentSize);
      if (!job.latentMask || !job.background) return latent;
      return latent.map((v, k) => job.latentMask![Math.floor(k / latentChannels)] ? v : job.background![k]);
    });
  }

  [Symbol.dispose](): void {
    this.#prepare[Symbol.dispose]();
    this.#step[Symbol.dispose]();
    for (const variable of Object.values(this.#variables)) variable[Symbol.dispose]();
    for (const { k, v } of this.#keys.values()) {
      k[Symbol.dispose]();
      v[Symbol.dispose]();
    }
    this.#spatial?.[Symbol.dispose]();
  }
}
