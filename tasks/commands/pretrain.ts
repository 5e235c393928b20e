/** `pretrain`: a small base model (autoencoder, then U-Net and text tower) from the user's own normal images. */
import { usualZoom } from "../../src/anomaly/windows.ts";
import { folderImages, mixedImages, proceduralImages } from "../../src/pretraining/images.ts";
import { isSoftware } from "../../src/gpu/device.ts";
import { defineCommand } from "../command.ts";
import { openGpu } from "../device.ts";
import { UsageError } from "../errors.ts";
import { kebab } from "../flags.ts";
import { trainBaseModel } from "../jobs/pretraining_stages.ts";
import * as shared from "./shared.ts";

/** Of the U-Net's loss; of the autoencoder's training. */
const OF_UNET = { goesWith: { stage: ["all", "unet"] } } as const;
const OF_AUTOENCODER = { goesWith: { stage: ["all", "autoencoder"] } } as const;
/** Flags of procedural pictures; of the losses those that ask where the damage is, which normal images do not say. */
const OF_PROCEDURAL = ["proceduralForm", "emphasis", "meanDamage", "localise", "damageCrops", "damageWeight"] as const;
/** Procedural pictures where no --data is given. */
const PROCEDURAL_COUNT = 20000;

/** Batches of the recipe. On a software adapter a step of these takes half a minute. */
const GPU_BATCH = { autoencoder: 16, unet: 32 }, SOFTWARE_BATCH = 4;

function batchSize(description: string, onGpu: number) {
  const { type, unit, min, max } = shared.trainBatchSize(onGpu);
  const otherwise = `${onGpu}, or ${SOFTWARE_BATCH} on a software adapter`;
  return { type, unit, min, max, description, otherwise } as const;
}

export default defineCommand({
  name: "pretrain",
  summary: "Trains a small base model from normal images, fully offline.",
  details:
    "Without --data it trains on procedural surfaces and defects, as the model that ships with the program was " +
    "trained; with --data and --procedural-images on both, mixed, as at that model's end. --emphasis, --mean, " +
    "--mean-damage, --localise and --timestep-sampling balanced make its loss that model's. " +
    "The run folder ends with a folder model/ for --model. Long on a software adapter; minutes to hours on a GPU.",
  runFolder: true,
  gpu: true,
  flags: {
    data: {
      type: "string",
      value: "folder",
      description: "Folder of normal images, searched with its subfolders; a subfolder's name is its caption.",
      otherwise: "procedural surfaces and defects",
    },
    model: {
      type: "string",
      value: "folder",
      description: "Model folder to go on from, instead of starting at random.",
      otherwise: "a new model",
    },
    stage: {
      type: "string",
      description: "Train only one of the two networks; for the U-Net alone, --model brings the autoencoder.",
      choices: ["all", "autoencoder", "unet"],
      default: "all",
    },
    seed: shared.seed,
    proceduralImages: {
      type: "integer",
      unit: "images",
      description: "How many procedural pictures to train on; with --data, beside its images.",
      otherwise: `${PROCEDURAL_COUNT}, or none with --data`,
      min: 2,
    },
    proceduralForm: {
      type: "list",
      description:
        "What procedural pictures show: whole parts, windows of them enlarged 1.1 to 2.3 times, or close ones, up to 4.6 " +
        "times. Of several, each takes its turn; one that is named twice has two.",
      choices: ["whole", "windows", "close"],
      otherwise: "whole",
    },
    views: {
      type: "integer",
      description:
        "With --data: train on so many views of its images, 85 of 100 squares that are enlarged by --zoom, as " +
        "train and generate see what surrounds a defect, all mirrored at random.",
      otherwise: "each image once, whole",
      min: 2,
      goesWith: { data: [true] },
    },
    zoom: {
      ...shared.zoom,
      goesWith: { views: [true] },
      description: "With --views: how much squares are enlarged at most; 1 is native resolution.",
      otherwise: "4 with a model of 128 pixels, 2 with a larger one",
    },
    resolution: {
      type: "integer",
      unit: "pixels",
      description: "Side of the training images, a multiple of 32.",
      otherwise: "the model's own, 128 for a new one",
      min: 32,
      max: 512,
    },
    autoencoderSteps: {
      ...shared.maxTrainSteps(20000),
      description:
        "How long to train the autoencoder. A resumed run may be given another number, as of --max-train-steps, until the " +
        "autoencoder is done.",
    },
    maxTrainSteps: shared.maxTrainSteps(20000, "How long to train the U-Net and the text tower."),
    trainBatchSize: batchSize("Images in one step of the U-Net.", GPU_BATCH.unet),
    autoencoderBatchSize: batchSize("Crops in one step of the autoencoder.", GPU_BATCH.autoencoder),
    learningRate: shared.learningRate(0.0008, "Step size for the U-Net and the text tower."),
    autoencoderLearningRate: shared.learningRate(0.001, "Step size for the autoencoder."),
    emaDecay: {
      type: "number",
      description: "Weight of the past in the averaged weights that are saved.",
      default: 0.999,
      min: 0,
      max: 1,
    },
    captionDropout: {
      type: "number",
      description: "Share of captions replaced by the empty one, which guidance needs.",
      default: 0.12,
      min: 0,
      max: 1,
    },
    latentNoise: {
      ...OF_AUTOENCODER,
      type: "number",
      description:
        "Largest noise on latents that the autoencoder learns to decode, in deviations of a channel; each crop's is drawn evenly " +
        "from 0 to this. Lines then survive more noise, and the U-Net decides them earlier.",
      default: 0,
      min: 0,
      max: 2,
    },
    damageCrops: {
      ...OF_AUTOENCODER,
      type: "number",
      description: "Share of the autoencoder's crops that are taken around damage, where the picture has some.",
      default: 0,
      min: 0,
      max: 1,
    },
    damageWeight: {
      ...OF_AUTOENCODER,
      type: "number",
      description: "Damaged pixels count 1 + this in the autoencoder's error of pixels, fine bands and gradients.",
      default: 0,
      min: 0,
    },
    timestepSampling: {
      ...shared.timestepSampling,
      ...OF_UNET,
      description:
        "Noise levels that are trained on: uniform with min-SNR-5 weights; balanced, more of the high ones, where captions " +
        "decide; detailed, more of the low ones, where lines and grain are decided.",
      choices: ["uniform", "balanced", "detailed"],
      default: "uniform",
    },
    emphasis: {
      ...OF_UNET,
      type: "number",
      description:
        "Latent cells with damage in them count 1 + this in the loss. It draws more damage than it was shown, and blots for lines: " +
        "leave it at 0, with which the shipped model ends.",
      default: 0,
      min: 0,
    },
    mean: {
      ...OF_UNET,
      type: "number",
      description:
        "How often more the error of each channel's mean counts, by which words for colours are learned; 20 for the shipped model.",
      default: 0,
      min: 0,
    },
    meanDamage: {
      ...OF_UNET,
      type: "number",
      description:
        "The same over each picture's damaged cells; biased as --emphasis is, and 0 at the shipped model's end.",
      default: 0,
      min: 0,
    },
    localise: {
      ...OF_UNET,
      type: "number",
      description:
        "Weight of the damage words' attention outside the damage, squared, in maps of 8 x 8 cells and more; 0.1 for the " +
        "shipped model.",
      default: 0,
      min: 0,
    },
    validationSteps: {
      type: "integer",
      unit: "steps",
      description: "Make reconstructions and samples this often; 0 for none.",
      default: 1000,
      min: 0,
      changeable: true,
    },
    checkpointingSteps: { ...shared.checkpointingSteps, default: 200 },
    checkpointsTotalLimit: shared.checkpointsTotalLimit,
    memory: shared.memory,
  },
  examples: [
    "--data good-parts --out runs/ours",
    "--data good-parts --views 8000 --procedural-images 12000 --procedural-form whole,close --mean 20 --out runs/mixed",
    "--autoencoder-steps 300 --max-train-steps 300 --out runs/short",
    "--stage autoencoder --procedural-form whole,close --latent-noise 0.5 --damage-crops 0.5 --damage-weight 5 " +
    "--out runs/autoencoder",
    "--stage unet --model runs/ours/model --procedural-form whole,windows --timestep-sampling balanced " +
    "--mean 20 --localise 0.1 --out runs/damage",
  ],
  judge(options) {
    if (options.stage === "unet" && !options.model) {
      throw new UsageError(
        "the U-Net alone needs a trained autoencoder",
        "give a model folder that has one by --model",
      );
    }
    if (!options.data || options.proceduralImages) return;
    for (const key of OF_PROCEDURAL) {
      if (!options[key]) continue;
      throw new UsageError(`--${kebab(key)} needs procedural pictures`, "give --procedural-images too");
    }
  },
  async run(options, context) {
    const { data, stage, views, seed, memory, model, resolution } = options;
    const { latentNoise, damageCrops, damageWeight } = options;
    const { timestepSampling, emphasis, mean, meanDamage, localise, proceduralForm: forms } = options;
    const slow = isSoftware((await openGpu()).info), batch = slow ? undefined : GPU_BATCH;
    const shown = (side: number) => views ? { seed, count: views, zoom: options.zoom ?? usualZoom(side) } : undefined;
    const count = options.proceduralImages ?? (data ? 0 : PROCEDURAL_COUNT);
    const drawn = (side: number, cells: number) => proceduralImages(seed, count, side, { forms, cells });
    const open = async (side: number, cells: number) => {
      if (!data) return drawn(side, cells);
      const normal = await folderImages(data, side, shown(side), context.log, () => context.signal.throwIfAborted());
      return count ? mixedImages(normal, drawn(side, cells)) : normal;
    };
    const own = views ? "views of the user's" : "of the user's";
    const mixed = `pictures: ${count} procedural ones (${(forms ?? ["whole"]).join(", ")}), the rest ${own}`;
    const folder = await trainBaseModel(
      { open, whose: !data ? "procedural ones" : count ? mixed : own },
      {
        ...{ seed, memory, model, resolution },
        autoencoder: stage === "unet" ? undefined : {
          ...options,
          autoencoderBatchSize: options.autoencoderBatchSize ?? batch?.autoencoder ?? SOFTWARE_BATCH,
          alone: stage === "autoencoder",
          terms: { latentNoise, damageCrops, damageWeight },
        },
        unet: stage === "autoencoder" ? undefined : {
          ...options,
          trainBatchSize: options.trainBatchSize ?? batch?.unet ?? SOFTWARE_BATCH,
          terms: { timestepSampling, emphasis, mean, meanDamage, localise },
        },
      },
      context,
    );
    context.print(folder);
  },
});
