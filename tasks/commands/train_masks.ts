/** `train-masks`: one mask embedding for each kind of defect by textual inversion (paper section 3.4). */
import { planTraining } from "../../src/anomaly/budget.ts";
import { Inversion } from "../../src/anomaly/inversion.ts";
import { maskItems } from "../../src/anomaly/training_set.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import { defineCommand } from "../command.ts";
import { openBase } from "../device.ts";
import { openKinds, tellLearned, trainingSamples } from "../jobs/dataset.ts";
import { fitTrainingTo, jobBudget } from "../jobs/memory.ts";
import { Origin, pairHashes } from "../jobs/origin.ts";
import { encodeViews, train } from "../jobs/training.ts";
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
    parity: shared.parity({
      numVectors: 16,
      initializerToken: "crack",
      initializerNoise: 0,
      initializer: "word",
      learningRate: 0.005,
      scaleLr: true,
      lrScheduler: "constant",
      timestepSampling: "uniform",
      weightDecay: 0.01,
      maxTrainSteps: 30_001,
      trainBatchSize: 4,
      augmentation: "official",
      lossNormalization: "official",
      seed: shared.OFFICIAL_SEED,
    }),
    officialSplit: shared.officialSplit,
    allPairs: shared.allPairs,
    seed: shared.seed,
    maxTrainSteps: shared.maxTrainSteps(300),
    trainBatchSize: shared.trainBatchSize(4),
    learningRate: shared.learningRate(0.005),
    scaleLr: shared.scaleLr,
    lrScheduler: shared.lrScheduler,
    timestepSampling: shared.timestepSampling,
    weightDecay: {
      type: "number",
      description: "Weight decay of the optimiser (AdamW); 0 is Adam.",
      default: 0,
      min: 0,
      max: 1,
    },
    numVectors: shared.numVectors(4),
    initializer: shared.initializer,
    initializerToken: shared.initializerToken("mask"),
    initializerNoise: shared.initializerNoise,
    augmentation: {
      type: "string",
      description: "Vary the few masks by crops, shifts and rotations, or not; official: not, and with grey edges.",
      choices: ["paper", "official", "off"],
      default: "paper",
    },
    lossNormalization: {
      type: "string",
      description: "Divide the loss by the mask's area, which is everything here, or by all numbers of the latent.",
      choices: ["area", "official"],
      default: "area",
    },
    augmentedCopies: {
      type: "integer",
      unit: "copies",
      description: "Augmented views of each mask; their latents are made once, before training.",
      default: 24,
      min: 1,
      max: 10000,
    },
    checkpointingSteps: shared.checkpointingSteps,
    checkpointsTotalLimit: shared.checkpointsTotalLimit,
    // Decides in how many parts a batch runs, and with it the last digits.
    memory: { ...shared.memory, changeable: false },
  },
  examples: ["--data photos --out runs/photos-masks"],
  async run(options, context) {
    const base = await openBase(options.model);
    const kinds = openKinds(options, context);
    tellLearned(kinds, options, context);
    const samples = await trainingSamples(kinds, context);
    if (options.initializer === "word") base.wordVector(options.initializerToken); // refused before anything is encoded
    const origin = await Origin.open(context);
    origin.note("base model", base.sha256);
    origin.note("training masks", pairHashes(samples, true));
    const area = options.lossNormalization === "area";
    const sizes = { batch: options.trainBatchSize, tokens: options.numVectors, area, kinds: kinds.length };
    const budget = await jobBudget(options.memory, base.gpu, () => planTraining(base.config, sizes));
    const fitted = fitTrainingTo(budget, options.memory !== undefined, base.config, sizes, base.gpu.device, context);
    const rates = shared.rates(options, options.learningRate, options.learningRate);
    context.log(`learning rate ${rates.learningRate}`);
    const viewing = { ...options, latentMask: "maxPool", batch: options.trainBatchSize } as const;
    const items = await encodeViews(maskItems, base, samples, viewing, "mask", context);
    using inversion = new Inversion(base, items, {
      tokens: options.numVectors,
      spatialTokens: 0,
      batch: options.trainBatchSize,
      steps: options.maxTrainSteps,
      seed: options.seed,
      ...rates,
      timesteps: options.timestepSampling,
      weightDecay: options.weightDecay,
      initializer: options.initializer,
      initializerToken: options.initializerToken,
      initializerNoise: options.initializerNoise,
      area,
      ...fitted,
      templates: promptTemplates,
    });
    await train(inversion, { ...options, label: "training masks", origin }, context);
  },
});
