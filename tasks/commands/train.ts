/** `train`: all anomaly embeddings and one spatial encoder at once (masked textual inversion, paper section 3.2). */
import { usualZoom } from "../../src/anomaly/windows.ts";
import { planTraining } from "../../src/anomaly/budget.ts";
import { Inversion, spatialConfigOf } from "../../src/anomaly/inversion.ts";
import { defectItems } from "../../src/anomaly/training_set.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import { defineCommand } from "../command.ts";
import { openBase, openTrainableBase } from "../device.ts";
import { UsageError } from "../errors.ts";
import { openKinds, tellLearned, trainingSamples } from "../jobs/dataset.ts";
import { fitTrainingTo, jobBudget } from "../jobs/memory.ts";
import { Origin, pairHashes } from "../jobs/origin.ts";
import { encodeSurfaces, encodeViews, surfacesOf, train, unmasked } from "../jobs/training.ts";
import { VALIDATION, validationSheet } from "../jobs/validation.ts";
import * as shared from "./shared.ts";

/** How long embeddings are trained alone, and in which batches, where the flags do not say. */
const USUAL = { steps: 800, batch: 4 };

/** The same where the U-Net is trained along: shapes such as ripples come late, and each kind needs its own time. */
export const TUNED = { stepsPerKind: 100, batch: 24 };

/**
 * Step size for the weights of a U-Net, where the flags do not say. A small one learns as much at 1e-3 in a third of the steps that it
 * takes at 4e-4; a large one keeps what it knows at the rate of Custom Diffusion (Kumari et al. 2023).
 * @param side the model's resolution in pixels
 */
export const tuningRate = (side: number): number => side <= 128 ? 1e-3 : 1e-5;

/** How often the error counts on a defect where the U-Net is tuned. */
const EMPHASIS = 5;

/** Whether the parts' surfaces are learned along. */
const learnsSurface = ({ surface, augmentation }: { surface: boolean; augmentation: string }): boolean =>
  surface && augmentation !== "official";

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
    parity: shared.parity({
      numVectors: 4,
      numSpatialVectors: 4,
      learningRate: 0.005,
      encoderLearningRate: 0.005,
      scaleLr: true,
      lrScheduler: "constant",
      timestepSampling: "uniform",
      maxTrainSteps: 1_000_000,
      trainBatchSize: 4,
      officialSplit: true,
      lossNormalization: "official",
      latentMask: "official",
      augmentation: "official",
      window: "whole",
      tune: false,
      surface: false,
      spatialEncoder: "official",
      officialBn: true,
      initializerToken: "anomaly",
      initializerNoise: 0,
      initializer: "word",
      validationSteps: 500,
      checkpointingSteps: 2000,
      seed: shared.OFFICIAL_SEED,
    }),
    officialSplit: shared.officialSplit,
    allPairs: shared.allPairs,
    seed: shared.seed,
    tune: {
      type: "boolean",
      description:
        "Train the U-Net's weights along, a third of each batch on normal images, for defects that the base model cannot draw " +
        "by words alone; the defect's tokens count in its mask only. The run then has a model/ of its own, which generate takes.",
      default: false,
    },
    unetLearningRate: {
      ...shared.learningRateOr(
        `${tuningRate(128)}, of a model of more than 128 pixels ${tuningRate(256)}`,
        "With --tune: step size for the U-Net's weights.",
      ),
      goesWith: { tune: [true] },
    },
    maxTrainSteps: shared.maxTrainStepsOr(`${USUAL.steps}, with --tune ${TUNED.stepsPerKind} for each kind of defect`),
    trainBatchSize: shared.trainBatchSizeOr(`${USUAL.batch}, with --tune ${TUNED.batch}`),
    learningRate: shared.learningRate(0.02, "Step size for the embeddings."),
    encoderLearningRate: shared.learningRate(0.0001, "Step size for the spatial encoder."),
    scaleLr: shared.scaleLr,
    lrScheduler: shared.lrScheduler,
    timestepSampling: { ...shared.timestepSampling, goesWith: { tune: [false] } },
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
      description: "The light spatial encoder, or the official code's with 356 million parameters at width 1280.",
      choices: ["light", "official"],
      default: "light",
    },
    spatialInit: {
      type: "string",
      description:
        "The light spatial encoder starts from the model folder's, where it has one that fits, or at random.",
      goesWith: { spatialEncoder: ["light"] },
      choices: ["model", "random"],
      default: "model",
    },
    officialBn: {
      type: "boolean",
      description:
        "Normalise by the batch's statistics in the official encoder when images are made too, as the official " +
        "code does: an image then depends on its batch.",
      default: false,
    },
    initializer: shared.initializer,
    initializerToken: shared.initializerToken("defect"),
    initializerNoise: shared.initializerNoise,
    maskedLoss: {
      type: "boolean",
      description: "Count the loss inside the mask only, the paper's way; without it as plain textual inversion does.",
      default: true,
    },
    surface: {
      type: "boolean",
      description:
        "Learn an embedding of each part's normal surface too, from which generate then guides away. Not with " +
        "--augmentation official, whose batches are of defects.",
      default: true,
    },
    lossNormalization: {
      type: "string",
      description: "Divide the masked loss by the mask's area, or by the whole latent as the official code does.",
      choices: ["area", "official"],
      default: "area",
    },
    augmentation: {
      type: "string",
      description:
        "Crop, translate, rotate and flip each pair with the defect kept inside; official: one stretched crop for a " +
        "batch, turned to one side; off: the pairs as they are.",
      choices: ["paper", "official", "off"],
      default: "paper",
    },
    window: { ...shared.window, default: "mask" },
    zoom: {
      ...shared.zoom,
      goesWith: { window: ["mask"] },
      otherwise: "4 with a model of 128 pixels, 2 with a larger one",
    },
    latentMask: shared.latentMask,
    augmentedCopies: shared.augmentedCopies,
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
      idleBeside: { validationSteps: [0] },
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
    // Decides in how many parts a batch runs, and with it the last digits.
    memory: { ...shared.memory, changeable: false },
  },
  examples: ["--data photos --out runs/photos", "--data mvtec --part wood --max-train-steps 2000 --out runs/wood"],
  judge(options) {
    if (options.officialBn && options.spatialEncoder !== "official") {
      throw new UsageError(
        "--official-bn goes with --spatial-encoder official",
        "the light encoder has no batch norms",
      );
    }
    if (options.tune && !(learnsSurface(options) && options.maskedLoss)) {
      throw new UsageError(
        "--tune learns the surfaces too, and what a defect's mask says",
        "leave out --no-surface, --no-masked-loss and --augmentation official",
      );
    }
    const { lossNormalization, lrScheduler, scaleLr } = options;
    if (options.tune && (lossNormalization !== "area" || lrScheduler !== "fall" || scaleLr)) {
      throw new UsageError(
        "--tune has a loss and rates of its own",
        "leave out --loss-normalization, --lr-scheduler and --scale-lr",
      );
    }
  },
  async run(given, context) {
    const options = { ...given, trainBatchSize: given.trainBatchSize ?? (given.tune ? TUNED : USUAL).batch };
    const withSurface = learnsSurface(options);
    using owned = options.tune ? await openTrainableBase(options.model) : undefined;
    const base = owned ?? await openBase(options.model);
    const kinds = openKinds(options, context);
    tellLearned(kinds, options, context);
    const samples = await trainingSamples(kinds, context);
    const origin = await Origin.open(context);
    origin.note("base model", base.sha256);
    origin.note("training pairs", pairHashes(samples));
    const { maxTrainSteps = options.tune ? TUNED.stepsPerKind * kinds.length : USUAL.steps } = options;
    if (options.initializer === "word") base.wordVector(options.initializerToken); // refused before anything is encoded
    const area = options.lossNormalization === "area";
    const spatial = spatialConfigOf(
      { ...options, spatialTokens: options.numSpatialVectors },
      base.config.text.width,
      base.side,
    );
    const shown = Math.min(VALIDATION.batch, kinds.length * options.numValidationImages);
    const sizes = {
      batch: options.trainBatchSize,
      tokens: options.numVectors,
      spatial,
      area,
      tune: options.tune,
      kinds: kinds.length + (withSurface ? surfacesOf(kinds) : 0),
      validation: options.validationSteps ? { ...VALIDATION, batch: shown } : undefined,
    };
    const budget = await jobBudget(options.memory, base.gpu, () => planTraining(base.config, sizes));
    const { pictures, ...fitted } = fitTrainingTo(
      budget,
      options.memory !== undefined,
      base.config,
      sizes,
      base.gpu.device,
      context,
    );
    const rates = shared.rates(options, options.learningRate, options.encoderLearningRate);
    context.log(`learning rates: embeddings ${rates.learningRate}, spatial encoder ${rates.encoderLearningRate}`);
    const view = { window: options.window, zoom: options.zoom ?? usualZoom(base.side) };
    const viewing = {
      ...options,
      view,
      origin,
      latentMask: shared.latentMaskMode(options.latentMask),
      batch: options.trainBatchSize,
    };
    const views = await encodeViews(defectItems, base, samples, viewing, "view", context);
    const defects = options.maskedLoss ? views : unmasked(views);
    const items = withSurface ? [...defects, ...await encodeSurfaces(base, kinds, defects, viewing, context)] : defects;
    using inversion = new Inversion(base, items, {
      tokens: options.numVectors,
      spatialTokens: options.numSpatialVectors,
      spatialEncoder: spatial,
      spatialInit: options.spatialInit,
      batch: options.trainBatchSize,
      steps: maxTrainSteps,
      seed: options.seed,
      ...rates,
      // Fine shapes are decided at low noise, where balanced draws are rare; the loss has a weight for each level as it is.
      timesteps: options.tune ? "uniform" : options.timestepSampling,
      inOrder: options.augmentation === "official",
      initializer: options.initializer,
      initializerToken: options.initializerToken,
      initializerNoise: options.initializerNoise,
      area,
      ...fitted,
      view,
      templates: promptTemplates,
      tune: options.tune
        ? { learningRate: options.unetLearningRate ?? tuningRate(base.side), emphasis: EMPHASIS }
        : undefined,
    });
    await train(
      inversion,
      {
        label: "training",
        origin,
        checkpointingSteps: options.checkpointingSteps,
        checkpointsTotalLimit: options.checkpointsTotalLimit,
        patience: options.patience,
        validationSteps: pictures ? options.validationSteps : 0,
        validate: async (step) => {
          const sheet = await validationSheet(base, await inversion.borrowed(), kinds, options, pictures);
          await context.runFolder.write(`validation/step-${String(step).padStart(6, "0")}.png`, sheet);
        },
      },
      context,
      owned,
    );
  },
});
