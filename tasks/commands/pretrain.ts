/** `pretrain`: a small base model (autoencoder, then U-Net and text tower) from the user's own normal images. */
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "pretrain",
  summary: "Trains a small base model from normal images, fully offline.",
  details:
    "Without --data it trains on procedural surfaces and defects, as the model that ships with the program was " +
    "trained. The run folder ends as a model folder for --model. Long on a software adapter; minutes to hours on a GPU.",
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
      description: "Train only one of the two networks; the U-Net needs a trained autoencoder.",
      choices: ["all", "autoencoder", "unet"],
      default: "all",
    },
    seed: shared.seed,
    resolution: {
      type: "integer",
      unit: "pixels",
      description: "Side of the training images, a multiple of 32.",
      default: 128,
      min: 32,
      max: 512,
    },
    autoencoderSteps: {
      type: "integer",
      unit: "steps",
      description: "How long to train the autoencoder.",
      default: 20000,
      min: 1,
      changeable: true,
    },
    maxTrainSteps: { ...shared.maxTrainSteps(20000), description: "How long to train the U-Net and the text tower." },
    trainBatchSize: shared.trainBatchSize(16),
    learningRate: shared.learningRate(0.0008, "Step size for the U-Net and the text tower."),
    autoencoderLearningRate: shared.learningRate(0.0015, "Step size for the autoencoder."),
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
      default: 0.1,
      min: 0,
      max: 1,
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
  },
  examples: ["--data good-parts --out models/ours", "--out models/procedural --autoencoder-steps 300"],
  run() {
    return Promise.reject(new UserError("pretrain is not part of this version"));
  },
});
