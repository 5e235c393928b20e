/** The two stages of a base model's training, each from a start (random, a model folder, or a checkpoint) to parameters to keep. */
import { join } from "node:path";
import { toPng } from "../../src/data/image.ts";
import { Tokenizer } from "../../src/data/tokenizer.ts";
import { UserError } from "../../src/errors.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { input } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import type { Parameters, Stored } from "../../src/nn/parameters.ts";
import {
  type AutoencoderTerms,
  channelStatistics,
  foldStatistics,
  PLAIN_AUTOENCODER,
  standardise,
  trainAutoencoder,
} from "../../src/pretraining/autoencoder.ts";
import { type CurvePoint, exportModel, isAutoencoder } from "../../src/pretraining/export.ts";
import { type TrainingImages, withWords } from "../../src/pretraining/images.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import { asksDamage, type NoiseTerms, PLAIN_LOSS } from "../../src/pretraining/noise_loss.ts";
import { continuedRate, smallModelConfig, unetRate } from "../../src/pretraining/recipe.ts";
import { Room } from "../../src/pretraining/room.ts";
import { reconstructions, sampleGraphs, samples } from "../../src/pretraining/sheets.ts";
import type { Trainer } from "../../src/pretraining/trainer.ts";
import { trainUnet } from "../../src/pretraining/unet.ts";
import { downsamplingFactor, type ModelConfig } from "../../src/weights/config.ts";
import { type ModelFolder, openModelFolder } from "../../src/weights/folder.ts";
import { smallModelFolder } from "../assets.ts";
import type { Context } from "../command.ts";
import { openGpu } from "../device.ts";
import { type JsonLines, readJsonLines } from "../run_folder.ts";
import { memoryBudget } from "./memory.ts";
import { Origin } from "./origin.ts";
import {
  AUTOENCODER_FILE,
  keepParameters,
  keptLatents,
  keptParameters,
  metaOf,
  openLosses,
  runStage,
} from "./pretraining.ts";

/** What every stage's training is told. */
interface StageSettings {
  readonly seed: number;
  readonly validationSteps: number;
  readonly checkpointingSteps: number;
  readonly checkpointsTotalLimit: number;
}

/** The autoencoder's training. */
export interface AutoencoderSettings extends StageSettings {
  readonly autoencoderSteps: number;
  readonly autoencoderBatchSize: number;
  readonly autoencoderLearningRate: number;
  /** Whether it is the only network to be trained. */
  readonly alone: boolean;
  /** What is asked of it beside repeating pictures. */
  readonly terms: AutoencoderTerms;
}

/** The training of U-Net and text tower. */
export interface UnetStageSettings extends StageSettings {
  readonly maxTrainSteps: number;
  readonly trainBatchSize: number;
  readonly learningRate: number;
  readonly emaDecay: number;
  readonly captionDropout: number;
  /** What counts beside the plain error of the noise; nothing where left out. */
  readonly terms?: NoiseTerms;
}

/** What both stages work on. */
interface Job {
  readonly config: ModelConfig;
  readonly vocab: readonly string[];
  readonly images: TrainingImages;
  /** The model to go on from. */
  readonly start: ModelFolder | undefined;
  readonly losses: JsonLines<CurvePoint>;
  /** Whether the U-Net's loss asks where the damage is. */
  readonly asksDamage: boolean;
  /** Device memory to stay within. */
  readonly room: Room;
}

/** Where a run's pictures come from. */
export interface Pictures {
  /** Makes or reads them at a side in pixels, whose latent has so many cells in a row. */
  readonly open: (side: number, cells: number) => TrainingImages | Promise<TrainingImages>;
  /** Whose they are, for the model's record: what follows their number. */
  readonly whose: string;
}

/** Reads what a run works on: settings of the networks, vocabulary, pictures. */
async function prepare(
  resolution: number | undefined,
  pictures: Pictures,
  start: ModelFolder | undefined,
  terms: NoiseTerms | undefined,
  room: Room,
  context: Context,
): Promise<Job> {
  const side = resolution ?? start?.config.resolution ?? 128;
  let vocab: readonly string[] = start?.vocab ?? shippedVocab();
  const shape = start?.config ?? smallModelConfig(vocab.length);
  const unit = downsamplingFactor(shape.autoencoder) * 2 ** (shape.unet.channelMult.length - 1);
  if (side % unit) {
    throw new UserError(`--resolution ${side} is no multiple of ${unit}`, "the networks halve the side that often");
  }
  const origin = await Origin.open(context);
  if (start) origin.note("base model", start.sha256);
  const images = await pictures.open(side, side / downsamplingFactor(shape.autoencoder));
  if (images.sha256) origin.note("normal images", images.sha256);
  if (!start) vocab = withWords(vocab, images.newCaptions ?? []);
  const config = { ...shape, resolution: side, text: { ...shape.text, vocabSize: vocab.length } };
  const asks = terms !== undefined && asksDamage(terms);
  const losses = await openLosses(context);
  await origin.keep(); // latents are kept before the first checkpoint
  return { config, vocab, images, start, losses, asksDamage: asks, room };
}

/** Word pieces of the model that ships with the program. */
function shippedVocab(): string[] {
  return Deno.readTextFileSync(join(smallModelFolder(), "vocab.txt")).split(/\r?\n/).filter((word) => word !== "");
}

/** Parameters of the starting model that the autoencoder's stage leaves as they are. */
function othersOf(start: ModelFolder | undefined): Map<string, Stored> {
  const names = start?.names().filter((name) => !isAutoencoder(name)) ?? [];
  return new Map(names.map((name) => [name, start!.tensor(name)]));
}

function describe(context: Context, what: string, parameters: Parameters, { report, recomputed }: Trainer): void {
  const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  const count = [...parameters.variables.values()].reduce((sum, v) => sum + v.shape.reduce((a, b) => a * b, 1), 0);
  context.log(
    `${what}: ${(count / 1e6).toFixed(2)} M parameters, ${(report.flops / 1e9).toFixed(1)} GFLOP a step; ` +
      `${mib(report.activationBytes)} for activations and gradients, ${mib(report.leafBytes)} for weights and moments`,
  );
  if (recomputed) context.log(`to stay within memory: ${recomputed} blocks are computed again in the backward pass`);
}

/**
 * Trains the autoencoder, or takes that of the starting model or of an earlier call.
 * @param options undefined to take the starting model's as it is
 */
async function autoencoderStage(
  gpu: Gpu,
  job: Job,
  seed: number,
  options: AutoencoderSettings | undefined,
  context: Context,
) {
  const { config, images, start, losses, room } = job, { runFolder } = context;
  const meta = metaOf(context.checkpoint);
  if (meta?.stage === "unet" && meta.before > 0) {
    config.scaleFactor = 1;
    const autoencoder = newParameters(seed, keptParameters(AUTOENCODER_FILE, context));
    makeAutoencoder(config, autoencoder);
    return { parameters: autoencoder, steps: meta.before };
  }
  const autoencoder = newParameters(seed, start);
  makeAutoencoder(config, autoencoder);
  if (!options) return { parameters: autoencoder, steps: 0 };
  const steps = options.autoencoderSteps;
  using trainer = trainAutoencoder(gpu, config.autoencoder, autoencoder, images, {
    seed: options.seed,
    batch: options.autoencoderBatchSize,
    steps,
    learningRate: options.autoencoderLearningRate,
    terms: options.terms,
  }, room);
  describe(context, "autoencoder", autoencoder, trainer);
  await runStage(trainer, {
    ...options,
    stage: "autoencoder",
    label: "autoencoder",
    steps,
    before: 0,
    losses,
    validate: async (step) => {
      const sheet = await reconstructions(gpu, config, autoencoder, images, room);
      await runFolder.write(`validation/autoencoder-${number(step)}.png`, toPng(sheet));
    },
  }, context);
  // Standardised latents: the U-Net learns best from numbers of mean 0 and deviation 1.
  const few = { ...images, count: Math.min(images.count, options.alone ? 1024 : Infinity) };
  const kept = latentsName(steps), asks = job.asksDamage;
  const { latents } = await keptLatents(gpu, config, autoencoder, few, kept, asks, room, context);
  const stored = await autoencoder.store();
  foldStatistics(stored, channelStatistics(latents, config.autoencoder.embedDim));
  autoencoder.restore(stored);
  config.scaleFactor = 1;
  await keepParameters(stored, AUTOENCODER_FILE, context);
  return { parameters: autoencoder, steps };
}

/** Trains U-Net and text tower; their averaged weights. */
async function unetStage(
  gpu: Gpu,
  job: Job,
  autoencoder: Parameters,
  before: number,
  options: UnetStageSettings,
  context: Context,
): Promise<Map<string, Stored>> {
  const { config, vocab, images, start, losses, room } = job, { runFolder } = context, { maxLength } = config.text;
  room.keep(autoencoder);
  const name = latentsName(before), asks = job.asksDamage;
  const kept = await keptLatents(gpu, config, autoencoder, images, name, asks, room, context);
  const { latents, captions } = kept;
  if (before) standardise(latents, channelStatistics(latents, config.autoencoder.embedDim));
  else for (let i = 0; i < latents.length; i++) latents[i] *= config.scaleFactor;
  const tokenizer = new Tokenizer(vocab), ids = captions.map((text) => tokenizer.encode(text, maxLength));
  const empty = tokenizer.encode("", maxLength);
  const damage = kept.damage?.map(({ cells, words }, i) => ({
    cells,
    columns: tokenizer.columns(captions[i], words, maxLength),
  }));
  using networks = newParameters(options.seed, start);
  using average = newParameters(options.seed, start);
  using trainer = trainUnet(
    gpu,
    config,
    networks,
    average,
    { latents, captions: ids, empty, damage },
    {
      seed: options.seed,
      batch: options.trainBatchSize,
      steps: options.maxTrainSteps,
      learningRate: options.learningRate,
      captionDropout: options.captionDropout,
      averageDecay: options.emaDecay,
      rate: start ? continuedRate : unetRate,
      terms: options.terms,
    },
    room,
    sampleGraphs(config, autoencoder, average),
  );
  describe(context, "U-Net and text tower", networks, trainer);
  const shown = [...new Set(captions)].slice(0, 4).map((text) => tokenizer.encode(text, maxLength));
  await runStage(trainer, {
    ...options,
    stage: "unet",
    label: "U-Net",
    steps: options.maxTrainSteps,
    before,
    losses,
    validate: async (step) => {
      const sheet = await samples(gpu, config, autoencoder, average, shown, empty, room);
      await runFolder.write(`validation/unet-${number(step)}.png`, toPng(sheet));
    },
  }, context);
  return await average.store();
}

const number = (step: number) => String(step).padStart(6, "0");

/** Latents belong to the autoencoder's last step; 0 where it is the starting model's own. */
const latentsName = (autoencoderSteps: number) => `latents-${autoencoderSteps}`;

/** Makes all of the autoencoder's parameters, so that they can be stored whole. */
function makeAutoencoder(config: ModelConfig, parameters: Parameters): void {
  const { autoencoder } = config, side = config.resolution / downsamplingFactor(autoencoder);
  encode(autoencoder, parameters, input("image", [1, config.resolution, config.resolution, autoencoder.inChannels]));
  decode(autoencoder, parameters, input("latent", [1, side, side, autoencoder.embedDim]));
}

/** What a model's record says of a network's loss, under `name`: the terms that were on; nothing where none was. */
function recorded<T extends object>(name: string, terms: T | undefined, plain: T): Record<string, Partial<T>> {
  const on = Object.entries(terms ?? {}).filter(([key, value]) => value !== plain[key as keyof T]);
  return on.length ? { [name]: Object.fromEntries(on) as Partial<T> } : {};
}

/** What a run trains: one network or both. */
export interface BaseTraining {
  readonly seed: number;
  /** Model folder to go on from; random weights where undefined. */
  readonly model: string | undefined;
  readonly resolution?: number;
  readonly memory: string | undefined;
  readonly autoencoder?: AutoencoderSettings;
  readonly unet?: UnetStageSettings;
}

/**
 * Trains a base model on pictures in the run folder and leaves it there as `model/`.
 * @returns its path
 */
export async function trainBaseModel(pictures: Pictures, training: BaseTraining, context: Context): Promise<string> {
  const { model, memory, seed, resolution, autoencoder: first, unet: second } = training;
  using start = model ? openModelFolder(model) : undefined;
  const gpu = await openGpu(), room = new Room(gpu, memoryBudget(memory, gpu.info), memory !== undefined);
  const job = await prepare(resolution, pictures, start, second?.terms, room, context);
  const { parameters: made, steps } = await autoencoderStage(gpu, job, seed, first, context);
  using autoencoder = made;
  const parameters: ReadonlyMap<string, Stored>[] = [await autoencoder.store()];
  parameters.push(second ? await unetStage(gpu, job, autoencoder, steps, second, context) : othersOf(start));
  const folder = context.runFolder.file("model");
  exportModel(folder, {
    config: {
      ...job.config,
      training: {
        from: start?.config.name ?? "random weights",
        images: `${job.images.count} ${pictures.whose}`,
        seed,
        autoencoderSteps: steps,
        ...recorded("autoencoderLoss", first?.terms, PLAIN_AUTOENCODER),
        ...(second ? { unetSteps: second.maxTrainSteps, unetBatch: second.trainBatchSize } : {}),
        ...recorded("unetLoss", second?.terms, PLAIN_LOSS),
      },
    },
    vocab: job.vocab,
    parameters,
    curves: await readJsonLines<CurvePoint>(context.runFolder.file("loss.jsonl")),
  });
  return folder;
}
