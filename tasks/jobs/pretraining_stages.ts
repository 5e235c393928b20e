/** The two stages of `pretrain`, each from a start (random, a model folder, or a checkpoint) to parameters to keep. */
import { join } from "node:path";
import { toPng } from "../../src/data/image.ts";
import { Tokenizer } from "../../src/data/tokenizer.ts";
import { UserError } from "../../src/errors.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { input } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import type { Parameters, Stored } from "../../src/nn/parameters.ts";
import { usualZoom } from "../../src/anomaly/windows.ts";
import { channelStatistics, foldStatistics, standardise, trainAutoencoder } from "../../src/pretraining/autoencoder.ts";
import { type CurvePoint, isAutoencoder } from "../../src/pretraining/export.ts";
import { folderImages, proceduralImages, type TrainingImages, withWords } from "../../src/pretraining/images.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import { continuedRate, smallModelConfig, unetRate } from "../../src/pretraining/recipe.ts";
import type { Room } from "../../src/pretraining/room.ts";
import { reconstructions, sampleGraphs, samples } from "../../src/pretraining/sheets.ts";
import type { Trainer } from "../../src/pretraining/trainer.ts";
import { trainUnet } from "../../src/pretraining/unet.ts";
import { downsamplingFactor, type ModelConfig } from "../../src/weights/config.ts";
import type { ModelFolder } from "../../src/weights/folder.ts";
import { smallModelFolder } from "../assets.ts";
import type { Context } from "../command.ts";
import type { JsonLines } from "../run_folder.ts";
import {
  AUTOENCODER_FILE,
  keepParameters,
  keptLatents,
  keptParameters,
  metaOf,
  openLosses,
  runStage,
} from "./pretraining.ts";

/** The command's flags that the stages read. */
export interface PretrainSettings {
  readonly data: string | undefined;
  readonly stage: "all" | "autoencoder" | "unet";
  readonly seed: number;
  readonly proceduralImages: number;
  /** Views of the images of `data`, each image as it is where undefined. */
  readonly views: number | undefined;
  readonly zoom: number | undefined;
  readonly resolution: number | undefined;
  readonly autoencoderSteps: number;
  readonly maxTrainSteps: number;
  readonly trainBatchSize: number;
  readonly autoencoderBatchSize: number;
  readonly learningRate: number;
  readonly autoencoderLearningRate: number;
  readonly emaDecay: number;
  readonly captionDropout: number;
  readonly validationSteps: number;
  readonly checkpointingSteps: number;
  readonly checkpointsTotalLimit: number;
}

/** What both stages work on. */
export interface Job {
  readonly config: ModelConfig;
  readonly vocab: readonly string[];
  readonly images: TrainingImages;
  /** The model to go on from. */
  readonly start: ModelFolder | undefined;
  readonly losses: JsonLines<CurvePoint>;
  /** Device memory to stay within. */
  readonly room: Room;
}

/** Reads what a run works on: settings of the networks, vocabulary, pictures. */
export async function prepare(
  options: PretrainSettings,
  start: ModelFolder | undefined,
  room: Room,
  context: Context,
): Promise<Job> {
  const side = options.resolution ?? start?.config.resolution ?? 128;
  let vocab: readonly string[] = start?.vocab ?? shippedVocab();
  const shape = start?.config ?? smallModelConfig(vocab.length);
  const unit = downsamplingFactor(shape.autoencoder) * 2 ** (shape.unet.channelMult.length - 1);
  if (side % unit) {
    throw new UserError(`--resolution ${side} is no multiple of ${unit}`, "the networks halve the side that often");
  }
  const images = options.data
    ? await folderImages(options.data, side, options.views ? viewsOf(options, options.views, side) : undefined)
    : proceduralImages(options.seed, options.proceduralImages, side);
  if (options.data && !start) {
    vocab = withWords(
      vocab,
      Array.from({ length: images.count }, (_, i) => images.caption(i)),
    );
  }
  const config = { ...shape, resolution: side, text: { ...shape.text, vocabSize: vocab.length } };
  return { config, vocab, images, start, losses: await openLosses(context), room };
}

const viewsOf = ({ seed, zoom }: PretrainSettings, count: number, side: number) => ({
  seed,
  count,
  zoom: zoom ?? usualZoom(side),
});

/** Word pieces of the model that ships with the program. */
function shippedVocab(): string[] {
  return Deno.readTextFileSync(join(smallModelFolder(), "vocab.txt")).split(/\r?\n/).filter((word) => word !== "");
}

/** Parameters of the starting model that the autoencoder's stage leaves as they are. */
export function othersOf(start: ModelFolder | undefined): Map<string, Stored> {
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

/** Trains the autoencoder, or takes that of the starting model or of an earlier call. */
export async function autoencoderStage(gpu: Gpu, job: Job, options: PretrainSettings, context: Context) {
  const { config, images, start, losses, room } = job, { runFolder } = context;
  const meta = metaOf(context.checkpoint);
  if (meta?.stage === "unet" && meta.before > 0) {
    config.scaleFactor = 1;
    const autoencoder = newParameters(options.seed, keptParameters(AUTOENCODER_FILE, context));
    makeAutoencoder(config, autoencoder);
    return { parameters: autoencoder, steps: meta.before };
  }
  const autoencoder = newParameters(options.seed, start);
  makeAutoencoder(config, autoencoder);
  if (options.stage === "unet") return { parameters: autoencoder, steps: 0 };
  const steps = options.autoencoderSteps;
  using trainer = trainAutoencoder(gpu, config.autoencoder, autoencoder, images, {
    seed: options.seed,
    batch: options.autoencoderBatchSize,
    steps,
    learningRate: options.autoencoderLearningRate,
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
  const few = { ...images, count: Math.min(images.count, options.stage === "autoencoder" ? 1024 : Infinity) };
  const { latents } = await keptLatents(gpu, config, autoencoder, few, latentsName(steps), room, context);
  const stored = await autoencoder.store();
  foldStatistics(stored, channelStatistics(latents, config.autoencoder.embedDim));
  autoencoder.restore(stored);
  config.scaleFactor = 1;
  await keepParameters(stored, AUTOENCODER_FILE, context);
  return { parameters: autoencoder, steps };
}

/** Trains U-Net and text tower; their averaged weights. */
export async function unetStage(
  gpu: Gpu,
  job: Job,
  autoencoder: Parameters,
  before: number,
  options: PretrainSettings,
  context: Context,
): Promise<Map<string, Stored>> {
  const { config, vocab, images, start, losses, room } = job, { runFolder } = context, { maxLength } = config.text;
  room.keep(autoencoder);
  const { latents, captions } = await keptLatents(gpu, config, autoencoder, images, latentsName(before), room, context);
  if (before) standardise(latents, channelStatistics(latents, config.autoencoder.embedDim));
  else for (let i = 0; i < latents.length; i++) latents[i] *= config.scaleFactor;
  const tokenizer = new Tokenizer(vocab), ids = captions.map((text) => tokenizer.encode(text, maxLength));
  const empty = tokenizer.encode("", maxLength);
  using networks = newParameters(options.seed, start);
  using average = newParameters(options.seed, start);
  using trainer = trainUnet(
    gpu,
    config,
    networks,
    average,
    { latents, captions: ids, empty },
    {
      seed: options.seed,
      batch: options.trainBatchSize,
      steps: options.maxTrainSteps,
      learningRate: options.learningRate,
      captionDropout: options.captionDropout,
      averageDecay: options.emaDecay,
      rate: start ? continuedRate : unetRate,
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
