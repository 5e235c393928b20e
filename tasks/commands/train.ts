/** `train`: all anomaly embeddings and one spatial encoder at once (masked textual inversion, paper section 3.2). */
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "train",
  summary: "Learns how the defects look: an embedding for each kind and one spatial encoder.",
  details: "Trains on the first third of each defect's image-mask pairs; the rest is left for tests. The run folder " +
    "holds the embeddings, the encoder, loss.jsonl, validation pictures and checkpoints.",
  runFolder: true,
  gpu: true,
  flags: {
    data: shared.data,
    model: shared.model,
    part: shared.part,
    defect: shared.defect,
    officialSplit: shared.officialSplit,
    seed: shared.seed,
    resolution: {
      type: "integer",
      unit: "pixels",
      description: "Side of the training images.",
      otherwise: "the model's own",
      min: 32,
      max: 1024,
    },
    maxTrainSteps: shared.maxTrainSteps(800),
    trainBatchSize: shared.trainBatchSize(4),
    learningRate: shared.learningRate(0.005, "Step size for the embeddings."),
    encoderLearningRate: shared.learningRate(0.001, "Step size for the spatial encoder."),
    numVectors: shared.numVectors(8),
    numSpatialVectors: {
      type: "integer",
      unit: "tokens",
      description: "Tokens that the spatial encoder makes of a mask.",
      default: 4,
      min: 1,
      max: 16,
    },
    spatialEncoder: {
      type: "string",
      description: "Size of the spatial encoder; light suits small models, official is the paper's.",
      choices: ["light", "official"],
      default: "light",
    },
    initializerToken: {
      type: "string",
      value: "word",
      description: "Word of the model's vocabulary from which the embeddings start.",
      default: "defect",
    },
    lossNormalization: {
      type: "string",
      description: "Divide the masked loss by the mask's area, or by the whole latent as the official code does.",
      choices: ["area", "official"],
      default: "area",
    },
    augmentation: {
      type: "string",
      description: "Crop, translate and rotate each sample with the defect kept inside, or as the official code does.",
      choices: ["paper", "official", "off"],
      default: "paper",
    },
    validationSteps: {
      type: "integer",
      unit: "steps",
      description: "Make validation pictures this often; 0 for none.",
      default: 200,
      min: 0,
      changeable: true,
    },
    numValidationImages: {
      type: "integer",
      unit: "images",
      description: "Validation pictures for each kind of defect.",
      default: 2,
      min: 1,
      max: 64,
      changeable: true,
    },
    patience: {
      type: "integer",
      unit: "steps",
      description: "Stop when the smoothed loss has not fallen for this long; 0 never stops early.",
      default: 0,
      min: 0,
    },
    checkpointingSteps: shared.checkpointingSteps,
    checkpointsTotalLimit: shared.checkpointsTotalLimit,
  },
  examples: ["--data photos --out runs/photos", "--data mvtec --part wood --max-train-steps 2000 --out runs/wood"],
  run() {
    return Promise.reject(new UserError("train is not part of this version"));
  },
});
