/** `train-masks`: one mask embedding for each kind of defect by textual inversion (paper section 3.4). */
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "train-masks",
  summary: "Learns what the masks of each kind of defect look like.",
  details: "Trains on the masks of the same first third that train uses. The run folder holds the mask embeddings, " +
    "loss.jsonl and checkpoints; generate-masks samples from them.",
  runFolder: true,
  gpu: true,
  flags: {
    data: shared.data,
    model: shared.model,
    part: shared.part,
    defect: shared.defect,
    officialSplit: shared.officialSplit,
    seed: shared.seed,
    maxTrainSteps: shared.maxTrainSteps(300),
    trainBatchSize: shared.trainBatchSize(4),
    learningRate: shared.learningRate(0.005),
    numVectors: shared.numVectors(4),
    initializerToken: {
      type: "string",
      value: "word",
      description: "Word of the model's vocabulary from which the embeddings start.",
      default: "mask",
    },
    augmentation: {
      type: "string",
      description: "Vary the few masks by crops, shifts and rotations, or not, as the official code.",
      choices: ["paper", "off"],
      default: "paper",
    },
    checkpointingSteps: shared.checkpointingSteps,
    checkpointsTotalLimit: shared.checkpointsTotalLimit,
  },
  examples: ["--data photos --out runs/photos-masks"],
  run() {
    return Promise.reject(new UserError("train-masks is not part of this version"));
  },
});
