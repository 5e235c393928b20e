/**
 * Generation of image–mask pairs and of masks on a device. Every result depends on (seed, stream, index) only: not on batch
 * size, order, or an interruption; one that the quality gate refuses is tried again with other numbers.
 */

import { resizeMask, resizeMaskOfficial } from "../data/augment.ts";
import { fromTensor, type Image, type Mask, toTensor } from "../data/image.ts";
import { plainPrompt } from "../data/prompts.ts";
import { resize } from "../data/resize.ts";
import { latentMask, type LatentMaskMode } from "../diffusion/blend.ts";
import type { PlanReport } from "../graph/plan.ts";
import { Random } from "../random/philox.ts";
import type { BaseModel } from "./base_model.ts";
import { type AnomalyEmbedding, tokensOf } from "./embedding.ts";
import { joinFigures, type PairFigures, pairFigures } from "./figures.ts";
import { type GateLimits, type PairRefusal, pairRefusal, throughGate, type Try } from "./gate.ts";
import { maskOfPicture } from "./masks.ts";
import { composite, featherMask } from "./paste.ts";
import { Sampler, type SamplerSettings } from "./sampler.ts";
import { surfaceTokens } from "./surface.ts";
import { crop, type Place, placesOf, putBack, type View } from "./windows.ts";

/** What to make one pair from. */
export interface PairJob {
  /** Which image of its defect. */
  readonly index: number;
  /** `object+defect`. */
  readonly key: string;
  /** Normal image of any size. */
  readonly source: Image;
  /** Mask of the same size. */
  readonly mask: Mask;
  /** Make this try and no other, whatever the gate says of it: a pair of a manifest again. */
  readonly attempt?: number;
  /** Draw the part's own surface instead of the defect: the pair's control, which shows what drawing alone leaves. */
  readonly control?: boolean;
}

/** A finished pair. */
export interface GeneratedPair {
  /** What it was made of. */
  readonly job: PairJob;
  /** With the defect, in the size of its source. */
  readonly image: Image;
  /** What changed. */
  readonly figures: PairFigures;
  /** The try that made the image, 0 the first; with seed and index it names its random numbers. */
  readonly attempt: number;
  /** False where no try passed the gate: this is the best of them. */
  readonly accepted: boolean;
  /** Why tries were refused, in their order. */
  readonly refused: readonly PairRefusal[];
  /** Pixels of the image over which the defect fades into its surroundings, at most. */
  readonly feather: number;
}

/** Settings of pair generation. */
export interface PairSettings extends SamplerSettings, View, GateLimits {
  /** Pixels over which a defect fades into its surroundings, at the model's resolution. */
  readonly feather: number;
  /** Give back fine texture that the autoencoder loses. */
  readonly keepDetail: boolean;
  /** Tries for one pair before the best is taken. */
  readonly maxAttempts: number;
  /** How masks reach the latent grid. */
  readonly latentMask: LatentMaskMode;
  /** Images that are decoded at once, where memory is short; as many as the adapter takes where left out. */
  readonly decodeBatch?: number;
}

/** One place of a job's mask, as the model is given it. */
interface Patch {
  readonly of: Try<PairJob>;
  readonly window: Place["window"];
  /** The place's pixels in its window. */
  readonly maskView: Mask;
  /** Names its random numbers, with the seed, the job's index and the attempt. */
  readonly name: string;
  /** [side, side, 3] in [−1, 1]. */
  readonly picture: Float32Array;
  /** [side, side]. */
  readonly mask: Float32Array;
}

/** Makes pairs with one embedding. */
export class PairGenerator implements Disposable {
  readonly #base: BaseModel;
  readonly #embedding: AnomalyEmbedding;
  readonly #settings: PairSettings;
  readonly #sampler: Sampler;

  /** A generator of pairs of the kinds that the embedding holds. */
  constructor(base: BaseModel, embedding: AnomalyEmbedding, settings: PairSettings) {
    this.#base = base;
    this.#embedding = embedding;
    this.#settings = settings;
    this.#sampler = new Sampler(base, embedding, settings);
  }

  /** Bytes and FLOPs of one sampling step. */
  get report(): PlanReport {
    return this.#sampler.report;
  }

  /**
   * Makes every pair of `jobs`, in their order.
   * @param next called before each batch; throw in it to stop between batches
   * @param onStep called after each sampling step of a batch
   * @param judge why a pair that passed by itself is refused all the same, compared with those before it
   */
  generate(
    jobs: Iterable<PairJob> | AsyncIterable<PairJob>,
    { next, onStep, judge }: {
      next?: () => void;
      onStep?: () => void | Promise<void>;
      judge?: (pair: GeneratedPair) => PairRefusal | undefined;
    } = {},
  ): AsyncGenerator<GeneratedPair> {
    const { batch, maxAttempts } = this.#settings;
    const make = (tries: readonly Try<PairJob>[]) => {
      next?.();
      return this.#make(tries, onStep);
    };
    return throughGate(jobs, { batch, maxAttempts, make, judge });
  }

  async #make(batch: readonly Try<PairJob>[], onStep?: () => void | Promise<void>): Promise<GeneratedPair[]> {
    const { side } = this.#base, settings = this.#settings;
    const patches = batch.flatMap((attempt) =>
      placesOf(attempt.job.mask, side, settings).map((place, number) => this.#patch(attempt, place, number))
    );
    const drawn = await this.#draw(patches, onStep);
    return batch.map((attempt) => {
      const { job } = attempt, { source, mask } = job, figures: PairFigures[] = [], sizes: number[] = [];
      const opacity = new Float32Array(mask.data.length);
      let image = source, feather = 0;
      patches.forEach((patch, k) => {
        if (patch.of !== attempt) return;
        const { window, maskView } = patch;
        const [generated, reconstruction] = drawn[k].map((x) => resize(x, window.width, window.height, "bicubic"));
        const width = settings.feather * Math.max(window.width, window.height) / side,
          own = featherMask(maskView, width);
        feather = Math.max(feather, width);
        const pasted = settings.pasteBack === false
          ? generated
          : composite(crop(image, window), generated, settings.keepDetail ? reconstruction : undefined, own);
        image = putBack(image, pasted, window);
        own.forEach((value, i) => {
          const at = (window.y + Math.floor(i / window.width)) * mask.width + window.x + i % window.width;
          opacity[at] = Math.max(opacity[at], value);
        });
        // Against the reconstruction, whose blur is no defect.
        figures.push(pairFigures(reconstruction, generated, maskView, own));
        sizes.push(maskView.data.reduce((sum, v) => sum + v, 0));
      });
      // The outside is checked on the bytes that are kept.
      const { changeOutside } = pairFigures(source, image, mask, opacity);
      const joined = { ...joinFigures(figures, sizes), changeOutside };
      const why = pairRefusal(joined, settings), refused = why ? [why] : [];
      return { job, image, figures: joined, attempt: attempt.attempt, accepted: !why, refused, feather };
    });
  }

  /** What the model is given of one place of a job's mask. Its random numbers are named by its number: 0 has the job's own. */
  #patch(of: Try<PairJob>, { window, mask }: Place, number: number): Patch {
    const { side } = this.#base, { source, key } = of.job, maskView = crop(mask, window);
    const shrink = this.#settings.latentMask === "official" ? resizeMaskOfficial : resizeMask;
    return {
      of,
      window,
      maskView,
      name: number ? `${key}/${number}` : key,
      picture: toTensor(resize(crop(source, window), side, side, "bicubic")),
      mask: Float32Array.from(shrink(maskView, side, side).data),
    };
  }

  /** For each patch the picture with the defect and the reconstruction without, at the model's resolution. */
  async #draw(patches: readonly Patch[], onStep?: () => void | Promise<void>): Promise<[Image, Image][]> {
    const base = this.#base, { side, latentSide } = base;
    const { seed, batch, guidance, guideFrom, latentMask: mode } = this.#settings;
    const prompt = base.prompt(plainPrompt), { regions } = this.#embedding;
    const moments = await base.encode(patches.map(({ picture }) => picture));
    const backgrounds = moments.map((m, i) => {
      const { of: { job: { index } }, name } = patches[i];
      return base.sampleLatent(m, new Random(seed, `encode/${name}`, index).normals(base.latentSize));
    });
    const jobs = patches.map(({ of: { job: { key, index, control }, attempt }, name, mask }, i) => ({
      stream: `pair/${name}`,
      index,
      attempt,
      prompt,
      tokens: control ? surfaceTokens(this.#embedding, key) : tokensOf(this.#embedding, key),
      surface: regions || (guideFrom === "surface" && guidance !== 1) ? surfaceTokens(this.#embedding, key) : undefined,
      mask,
      latentMask: latentMask(mask, [1, side, side], [latentSide, latentSide], mode),
      background: backgrounds[i],
    }));
    const latents: Float32Array[] = [];
    for (let from = 0; from < jobs.length; from += batch) {
      latents.push(...await this.#sampler.sample(jobs.slice(from, from + batch), onStep));
    }
    const pictures = (await base.decode([...latents, ...backgrounds], this.#settings.decodeBatch)).map((x) =>
      fromTensor(x, side, side)
    );
    return patches.map((_, i) => [pictures[i], pictures[i + patches.length]]);
  }

  /** Frees the sampler; the base model stays. */
  [Symbol.dispose](): void {
    this.#sampler[Symbol.dispose]();
  }
}

/** A sampled mask, not yet judged. */
export interface SampledMask {
  /** Of the mask of its kind, from 0 on. */
  readonly index: number;
  /** How often a mask of this index was refused before. */
  readonly attempt: number;
  /** As sampled, at the model's resolution. */
  readonly mask: Mask;
}

/** Samples masks of one kind with an embedding that was learned from mask pictures. */
export class MaskGenerator implements Disposable {
  readonly #base: BaseModel;
  readonly #embedding: AnomalyEmbedding;
  readonly #threshold: number;
  readonly #batch: number;
  readonly #sampler: Sampler;

  /**
   * A generator of masks of the kinds that the embedding holds.
   * @param threshold channel mean in [−1, 1] above which a pixel belongs to the mask; the official code's is 0.8
   */
  constructor(base: BaseModel, embedding: AnomalyEmbedding, settings: SamplerSettings, threshold: number) {
    this.#base = base;
    this.#embedding = embedding;
    this.#threshold = threshold;
    this.#batch = settings.batch;
    this.#sampler = new Sampler(base, embedding, settings);
  }

  /** Samples masks; each depends on (seed, key, index, attempt) only. At most a batch at a time. */
  async sample(
    key: string,
    jobs: readonly { readonly index: number; readonly attempt: number }[],
    onStep?: () => void,
  ): Promise<SampledMask[]> {
    if (jobs.length > this.#batch) throw new Error(`${jobs.length} masks for a batch of ${this.#batch}`);
    const prompt = this.#base.prompt(plainPrompt), tokens = tokensOf(this.#embedding, key);
    const latents = await this.#sampler.sample(
      jobs.map(({ index, attempt }) => ({ stream: `mask/${key}`, index, attempt, prompt, tokens })),
      onStep,
    );
    const pictures = await this.#base.decode(latents);
    return jobs.map(({ index, attempt }, i) => ({
      index,
      attempt,
      mask: maskOfPicture(pictures[i], this.#base.side, this.#threshold),
    }));
  }

  /** Frees the sampler; the base model stays. */
  [Symbol.dispose](): void {
    this.#sampler[Symbol.dispose]();
  }
}
