/**
 * The frozen base model on a device: autoencoder, U-Net and text tower of a model folder, with the few things that every
 * job does with them: words to embeddings, images to latent moments, latents to images.
 */

import { placeholder } from "../data/prompts.ts";
import { Tokenizer } from "../data/tokenizer.ts";
import { createSchedule, type Schedule } from "../diffusion/schedule.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { compile, type Compiled } from "../graph/compile.ts";
import { Scratch } from "../graph/scratch.ts";
import type { Tensor } from "../graph/tensor.ts";
import { TiledAutoencoder } from "../models/tiled_autoencoder.ts";
import { TOKEN_TABLE } from "../models/text_tower.ts";
import { Parameters, type ParameterSource } from "../nn/parameters.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import { type ModelFolder, openModelFolder } from "../weights/folder.ts";
import { torchLayouts } from "../weights/rules.ts";
import { type AutoencoderMode, autoencoderMode, decoderGraph, encoderGraph } from "./autoencoder_mode.ts";

export { AUTOENCODER_BATCH } from "./autoencoder_mode.ts";

/** A prompt ready for the text tower. */
export interface Prompt {
  /** Word embeddings [L, D], without positions. */
  readonly words: Float32Array;
  /** Column of the placeholder `*`; −1 where there is none. */
  readonly column: number;
}

/** A model folder opened on a device. Dispose of it to give the memory back. */
export class BaseModel implements Disposable {
  /** Sizes and schedule, from `config.json`. */
  readonly config: ModelConfig;
  /** Noise levels. */
  readonly schedule: Schedule;
  /** Frozen parameters of all three networks. */
  readonly parameters: Parameters;
  /** Of the model's own vocabulary. */
  readonly tokenizer: Tokenizer;
  /** Side of a training image in pixels. */
  readonly side: number;
  /** Side of its latent. */
  readonly latentSide: number;
  /** Channels of a latent. */
  readonly latentChannels: number;
  /** Memory for activations of all programs of this model, which run one after the other. */
  readonly scratch: Scratch;
  readonly #folder: ModelFolder;
  readonly #programs = new Map<string, Compiled<{ y: Tensor }>>();
  #table: Float32Array | undefined;
  readonly #binding: number;
  #mode: AutoencoderMode | undefined;
  /** Where even one image is too large: the autoencoder in bands. */
  #tiled: TiledAutoencoder | undefined;

  /**
   * Reads a model folder; weights go to the device when a graph first needs them.
   * @param path model folder: `config.json`, `*.safetensors`, `vocab.txt`
   * @param dtype storage of frozen matrices
   * @param binding most bytes of one value of the autoencoder; above, it takes fewer images at once, or one in bands
   * @throws UserError where the folder is missing or does not fit
   */
  constructor(
    readonly gpu: Gpu,
    path: string,
    dtype: "f16" | "f32" = "f16",
    binding: number = gpu.device.limits.maxStorageBufferBindingSize,
  ) {
    this.#binding = binding;
    this.scratch = new Scratch(gpu);
    this.#folder = openModelFolder(path);
    this.config = this.#folder.config;
    this.schedule = createSchedule(this.config.schedule);
    this.parameters = new Parameters(this.#folder, torchLayouts, dtype);
    this.tokenizer = new Tokenizer(this.#folder.vocab);
    this.side = this.config.resolution;
    this.latentSide = this.side / downsamplingFactor(this.config.autoencoder);
    this.latentChannels = this.config.autoencoder.embedDim;
  }

  /** The folder that it was read from. */
  get path(): string {
    return this.#folder.path;
  }

  /** SHA-256 of the weights: says in a manifest which model made an image. */
  get sha256(): string {
    return this.#folder.sha256;
  }

  /** Where the folder's spatial encoder, which learned with the networks, has its parameters; undefined without one. */
  get spatialEncoder(): ParameterSource | undefined {
    return this.config.spatialEncoder && this.#folder;
  }

  /** Elements of one latent. */
  get latentSize(): number {
    return this.latentSide ** 2 * this.latentChannels;
  }

  /** Rows of the table of word embeddings. */
  wordRows(ids: ArrayLike<number>): Float32Array {
    const { vocabSize, width } = this.config.text;
    this.#table ??= this.#folder.get(TOKEN_TABLE, [vocabSize, width]);
    const rows = new Float32Array(ids.length * width);
    for (let i = 0; i < ids.length; i++) {
      rows.set(this.#table.subarray(ids[i] * width, (ids[i] + 1) * width), i * width);
    }
    return rows;
  }

  /**
   * Embedding of one word of the vocabulary, [D].
   * @throws UserError where the vocabulary does not have it as a whole
   */
  wordVector(word: string): Float32Array {
    const pieces = this.tokenizer.pieces(word);
    if (pieces.length !== 1 || pieces[0] === this.tokenizer.id("[UNK]")) {
      throw new UserError(`the model's vocabulary has no word "${word}"`, "name one of its vocab.txt");
    }
    return this.wordRows(pieces);
  }

  /**
   * Word embeddings of a text, with the column of its placeholder.
   * @throws UserError where the vocabulary lacks the placeholder, or the text has it twice or past its end
   */
  prompt(text: string): Prompt {
    const ids = this.tokenizer.encode(text, this.config.text.maxLength);
    const column = text.includes(placeholder) ? this.tokenizer.placeholderColumn(ids, placeholder) : -1;
    return { words: this.wordRows(ids), column };
  }

  /** Images that the autoencoder handles at once on this adapter. What becomes of an image does not depend on it. */
  get autoencoderBatch(): number {
    if (!this.#mode) {
      this.#mode = autoencoderMode(this.config, this.parameters, this.#binding);
      if (this.#mode.banded) {
        this.#tiled = new TiledAutoencoder(this.gpu, this.config.autoencoder, this.parameters, this.#binding);
      }
    }
    return this.#mode.batch;
  }

  #program(name: string, build: () => Tensor): Compiled<{ y: Tensor }> {
    let program = this.#programs.get(name);
    if (!program) {
      program = compile(this.gpu, { y: build() }, [], this.scratch);
      this.#programs.set(name, program);
    }
    return program;
  }

  async #banded(
    items: readonly Float32Array[],
    run: (item: Float32Array) => Promise<Float32Array>,
    onItem?: () => void,
  ): Promise<Float32Array[]> {
    const results: Float32Array[] = [];
    for (const item of items) {
      results.push(await run(item));
      onItem?.();
    }
    return results;
  }

  async #batched(
    program: Compiled<{ y: Tensor }>,
    items: readonly Float32Array[],
    batch: number,
    onItem?: () => void,
  ): Promise<Float32Array[]> {
    const results: Float32Array[] = [];
    for (let from = 0; from < items.length; from += batch) {
      const part = items.slice(from, from + batch), size = part[0].length;
      const x = new Float32Array(batch * size);
      part.forEach((item, i) => x.set(item, i * size));
      const { y } = await program.run({ x });
      const each = y.length / batch;
      part.forEach((_, i) => {
        results.push(y.slice(i * each, (i + 1) * each));
        onItem?.();
      });
    }
    return results;
  }

  /**
   * Posterior moments of images.
   * @param images each [side, side, 3] in [−1, 1]
   * @returns each [h, w, 2·C]: mean ‖ log-variance
   */
  encode(images: readonly Float32Array[], onItem?: () => void): Promise<Float32Array[]> {
    const batch = this.autoencoderBatch, tiled = this.#tiled;
    if (tiled) return this.#banded(images, (image) => tiled.encode(image, [this.side, this.side]), onItem);
    const program = this.#program("encode", () => encoderGraph(this.config, this.parameters, batch));
    return this.#batched(program, images, batch, onItem);
  }

  /**
   * Images of latents.
   * @param latents each [h, w, C], scaled as the U-Net sees them
   * @param most images at once, where memory is short; what they look like does not depend on it
   * @returns each [side, side, 3], about [−1, 1]
   */
  decode(latents: readonly Float32Array[], most = Infinity): Promise<Float32Array[]> {
    const batch = Math.min(most, this.autoencoderBatch), tiled = this.#tiled, scale = 1 / this.config.scaleFactor;
    const scaled = latents.map((z) => z.map((v) => v * scale));
    if (tiled) return this.#banded(scaled, (z) => tiled.decode(z, [this.latentSide, this.latentSide]));
    const program = this.#program(`decode ${batch}`, () => decoderGraph(this.config, this.parameters, batch));
    return this.#batched(program, scaled, batch);
  }

  /** A latent from moments [h, w, 2·C]: (mean + σ·noise) · scaleFactor, log-variance clamped to [−30, 20]. */
  sampleLatent(moments: Float32Array, noise: Float32Array): Float32Array {
    const channels = this.latentChannels, scale = this.config.scaleFactor;
    return noise.map((n, i) => {
      const pixel = Math.floor(i / channels), c = i % channels, at = pixel * 2 * channels + c;
      const logVariance = Math.min(20, Math.max(-30, moments[at + channels]));
      return scale * (moments[at] + Math.exp(0.5 * logVariance) * n);
    });
  }

  /** Gives the autoencoder's memory back until it is needed again; the weights stay. */
  rest(): void {
    for (const program of this.#programs.values()) program[Symbol.dispose]();
    this.#programs.clear();
  }

  /** Frees the weights. */
  [Symbol.dispose](): void {
    this.rest();
    this.parameters[Symbol.dispose]();
    this.#folder[Symbol.dispose]();
  }
}
