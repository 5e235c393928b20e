/** `demo`: the whole job on the embedded small model and few-shot parts, ending in a folder and a page to look at. */
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "demo",
  summary: "The whole job on what ships with the program: train, masks, pairs, and an HTML page.",
  details:
    "Learns the two defects of one embedded part from its few training pairs, makes masks and pairs, and writes " +
    "index.html, a page without links to look at. About five minutes on two CPU cores with the software adapter.",
  runFolder: true,
  gpu: true,
  flags: {
    part: {
      type: "string",
      value: "name",
      description: "Which of the embedded parts; doctor lists them.",
      otherwise: "the first",
    },
    all: { type: "boolean", description: "Every embedded part.", default: false },
    model: shared.model,
    seed: shared.seed,
    count: {
      type: "integer",
      unit: "pairs",
      description: "Pairs for each kind of defect.",
      default: 8,
      min: 1,
      max: 1000,
      changeable: true,
    },
    maxTrainSteps: { ...shared.maxTrainSteps(300), description: "How long to train the embeddings and the encoder." },
    maskTrainSteps: {
      type: "integer",
      unit: "steps",
      description: "How long to train the mask embeddings.",
      default: 100,
      min: 1,
      changeable: true,
    },
    trainBatchSize: shared.trainBatchSize(4),
    batchSize: shared.batchSize,
    steps: shared.steps(30),
    guidanceScale: shared.guidanceScale(3),
    reweighting: {
      type: "string",
      description: "Adaptive attention re-weighting: none, as the official code, or as the paper's equation 7.",
      choices: ["off", "official", "paper"],
      default: "official",
    },
  },
  examples: ["", "--all", "--part wood --count 24 --out runs/wood-demo"],
  run() {
    return Promise.reject(new UserError("demo is not part of this version"));
  },
});
