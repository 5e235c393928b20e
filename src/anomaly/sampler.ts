/**
 * Sampling: DDIM or DPM-Solver++(2M) on the device, blended with a normal image's latent outside the mask (paper, Eq. 1; Avrahami et al. 2022),
 * with classifier-free guidance and adaptive attention re-weighting (section 3.3). Without a background it samples whole
 * pictures, which is how masks are made.
 */

import { dilationRadius } from "../diffusion/reweighting.ts";
import { type SamplerKind, samplingSteps } from "../diffusion/sampling.ts";
import { compile, type Compiled } from "../graph/compile.ts";
import type { PlanReport } from "../graph/plan.ts";
import { insertionRows, learnedColumns } from "../models/text_tower.ts";
import { timestepEmbedding } from "../models/unet.ts";
import { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { torchLayouts } from "../weights/rules.ts";
import type { BaseModel, Prompt } from "./base_model.ts";
import { type AnomalyEmbedding, samplingSizes } from "./embedding.ts";
import type { GuideFrom } from "./surface.ts";
import {
  disposeState,
  prepareEffects,
  type ReweightingForm,
  rows,
  type SamplerState,
  samplerState,
  samplingDtype,
  stepEffects,
} from "./sampler_graph.ts";

export { type BlendedStep, blendedStep, type ReweightingForm } from "./sampler_graph.ts";

/** Settings of a sampler. */
export interface SamplerSettings {
  /** Images at once; what an image looks like does not depend on it. */
  readonly batch: number;
  /** Sampling steps, 1 to the schedule's number of timesteps. */
  readonly steps: number;
  /** DDIM's noise; DPM-Solver++ adds none. */
  readonly eta: number;
  /** `ddim` where left out. */
  readonly sampler?: SamplerKind;
  /** Guidance scale; 1 for none. */
  readonly guidance: number;
  /** What guidance leads away from; the empty prompt where left out. */
  readonly guideFrom?: GuideFrom;
  /**
   * Timestep, 1 to the schedule's number of them, below which alone guidance is used (limited interval guidance, Kynkäänniemi et
   * al. 2024); everywhere where left out.
   */
  readonly guidanceBelow?: number;
  /** Which form of adaptive re-weighting, or `off`. */
  readonly reweighting: ReweightingForm;
  /** Restore the background after the last step (default). The official code leaves what the last step made. */
  readonly pasteBack?: boolean;
  /** From which all noise follows. */
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
  /** Tokens of the whole surface [k, D]; needed to guide away from it, and for what lies outside the mask. */
  readonly surface?: Float32Array;
  /** Mask in [0, 1] for the spatial encoder [side, side]; needed where the embedding has one. */
  readonly mask?: Float32Array;
  /** Latent mask [h, w] of 0 and 1; everything where left out. */
  readonly latentMask?: Float32Array;
  /** Latent of the normal image [h, w, C]; needed with a latent mask. */
  readonly background?: Float32Array;
}

/** A sampler on a device, for one embedding and one batch size. */
export class Sampler implements Disposable {
  readonly #base: BaseModel;
  readonly #settings: SamplerSettings;
  /** Unless the embedding lends its own. */
  readonly #spatial: Parameters | undefined;
  readonly #tokens: number;
  readonly #spatialTokens: number;
  readonly #regions: boolean;
  readonly #state: SamplerState;
  readonly #prepare: Compiled;
  readonly #step: Compiled;

  constructor(base: BaseModel, embedding: AnomalyEmbedding, settings: SamplerSettings) {
    this.#base = base;
    this.#settings = settings;
    const { config, parameters, gpu } = base, { spatial } = embedding;
    const sizes = { ...settings, ...samplingSizes(embedding) };
    this.#regions = embedding.regions === true;
    this.#state = samplerState(config, sizes);
    this.#tokens = embedding.tokens;
    this.#spatialTokens = spatial?.config.tokens ?? 0;
    if (spatial && !spatial.resident) {
      const stored = spatial.parameters;
      this.#spatial = new Parameters(
        { get: (name) => stored.get(name)!.data },
        torchLayouts,
        samplingDtype(spatial.config),
      );
    }
    const encoder = spatial?.resident ?? this.#spatial;
    const prepare = prepareEffects(config, parameters, encoder, this.#state, sizes);
    this.#prepare = compile(gpu, {}, prepare, base.scratch);
    this.#step = compile(gpu, {}, stepEffects(config, parameters, this.#state, sizes), base.scratch);
  }

  /** Bytes and FLOPs of one step. */
  get report(): PlanReport {
    return this.#step.report;
  }

  /**
   * Samples up to `batch` pictures.
   * @param onStep called after each step is queued; waited for, so that it may wait for the device
   * @returns latents [h, w, C]; outside the latent mask exactly the background, unless `pasteBack` is false
   */
  async sample(jobs: readonly SampleJob[], onStep?: () => void | Promise<void>): Promise<Float32Array[]> {
    const { batch, steps, eta, guidance, reweighting, seed, sampler = "ddim", pasteBack = true } = this.#settings;
    const { guidanceBelow = Infinity } = this.#settings;
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
      ...this.#otherTexts(join),
    });
    const streams = full.map(({ stream, index, attempt }) => new Random(seed, `${stream}/${attempt}`, index));
    const noise = () => {
      const out = new Float32Array(batch * latentSize);
      streams.forEach((stream, i) => out.set(stream.normals(latentSize), i * latentSize));
      return out;
    };
    this.#state.x.write(noise());
    this.#state.z0.write(background);
    this.#state.mask.write(latentMask);
    // No x̂₀ yet: beside the normal image itself nothing is less noticeable than the rest, and all weights are 1.
    this.#state.clean?.write(reweighting === "paper" ? background : new Float32Array(batch * latentSize));
    this.#state.columns.write(learnedColumns(columns, length, learned, reweighting === "official"));
    for (const { t, aBar, coefficients } of samplingSteps(schedule, sampler, steps, eta)) {
      const signal = Math.sqrt(aBar);
      this.#step.step({
        backgroundNoise: noise(),
        ...(sampler !== "dpm++2m" ? { stepNoise: noise() } : {}),
        coefficients: Float32Array.of(
          ...[signal, Math.sqrt(1 - aBar), ...coefficients],
          t < guidanceBelow ? guidance : 1,
          1 / signal,
        ),
        time: timestepEmbedding(Array(rows(batch, guidance)).fill(t), config.unet.modelChannels),
        halfWidth: Uint32Array.of(dilationRadius(t, steps, (steps === 50 ? 16 : 8) * latentSide / 32)),
      });
      await onStep?.();
    }
    const x = await this.#state.x.read();
    return jobs.map((job, i) => {
      const latent = x.slice(i * latentSize, (i + 1) * latentSize);
      if (!pasteBack || !job.latentMask || !job.background) return latent;
      return latent.map((v, k) => job.latentMask![Math.floor(k / latentChannels)] ? v : job.background![k]);
    });
  }

  /** Inputs of the unconditional half and of what lies outside the mask, where there are any. */
  #otherTexts(
    join: (size: number, part: (job: SampleJob) => Float32Array | undefined) => Float32Array,
  ): Record<string, Float32Array> {
    const { guidance, guideFrom } = this.#settings, { maxLength, width } = this.#base.config.text;
    const guided = guidance !== 1, fromSurface = guideFrom === "surface";
    const surface = (job: SampleJob) => {
      if (!job.surface) throw new Error(`${job.stream}: the surface's tokens are missing`);
      return job.surface;
    };
    return {
      ...(guided && !fromSurface ? { empty: join(maxLength * width, () => this.#base.prompt("").words) } : {}),
      ...(this.#regions || (guided && fromSurface) ? { surface: join(this.#tokens * width, surface) } : {}),
    };
  }

  [Symbol.dispose](): void {
    this.#prepare[Symbol.dispose]();
    this.#step[Symbol.dispose]();
    disposeState(this.#state);
    this.#spatial?.[Symbol.dispose]();
  }
}
