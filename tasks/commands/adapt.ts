/** `adapt`: the base model gets to know the user's own surfaces, from normal images alone. */
import { usualZoom } from "../../src/anomaly/windows.ts";
import { folderImages } from "../../src/pretraining/images.ts";
import { smallModelFolder } from "../assets.ts";
import { defineCommand } from "../command.ts";
import { trainBaseModel } from "../jobs/pretraining_stages.ts";
import * as shared from "./shared.ts";

/** What a short training on a few surfaces needs: a smaller step than a training from nothing, and averages that follow sooner. */
const LEARNING_RATE = 3e-4, EMA_DECAY = 0.995, CAPTION_DROPOUT = 0.12;

export default defineCommand({
  name: "adapt",
  summary: "Makes the base model know your surfaces, from normal images alone.",
  details:
    "A base model that does not know a surface fills a mask with debris of its own, and no embedding can tell the defect " +
    "from it. adapt trains the U-Net and the text tower on views of your normal images (pretrain --stage unet --views); the " +
    "autoencoder stays. The run folder ends with a folder model/, to be given as --model to every command from train on. " +
    "The model that ships with the program has been adapted to the parts that ship with it.",
  runFolder: true,
  gpu: true,
  flags: {
    data: {
      ...shared.data,
      description: "Folder of normal images, searched with its subfolders: a data set in MVTec layout, as for train.",
    },
    model: shared.model,
    seed: shared.seed,
    views: {
      type: "integer",
      description: "Views of the images: enlarged squares, 15 of 100 whole images, mirrored at random.",
      default: 4000,
      min: 2,
    },
    zoom: {
      ...shared.zoom,
      description: "How much squares are enlarged at most, as in train.",
      otherwise: "4 with a model of 128 pixels, 2 with a larger one",
    },
    maxTrainSteps: shared.maxTrainSteps(400),
    trainBatchSize: { ...shared.trainBatchSize(32), description: "Views in one step." },
    learningRate: shared.learningRate(LEARNING_RATE, "Step size."),
    validationSteps: {
      type: "integer",
      unit: "steps",
      description: "Make samples this often; 0 for none.",
      default: 200,
      min: 0,
      changeable: true,
    },
    checkpointingSteps: { ...shared.checkpointingSteps, default: 50 },
    checkpointsTotalLimit: shared.checkpointsTotalLimit,
    memory: shared.memory,
  },
  examples: [
    "--data photos --out runs/adapted",
    "--data photos --model models/large --train-batch-size 4 --out runs/adapted",
  ],
  async run(options, context) {
    const { data, seed, views: count, zoom, model = smallModelFolder(), memory } = options;
    const open = (side: number) => {
      const views = { seed, count, zoom: zoom ?? usualZoom(side) };
      return folderImages(data, side, views, context.log, () => context.signal.throwIfAborted());
    };
    const unet = { ...options, emaDecay: EMA_DECAY, captionDropout: CAPTION_DROPOUT };
    const whose = "views of the user's";
    context.print(await trainBaseModel({ open, whose }, { seed, model, memory, unet }, context));
  },
});
