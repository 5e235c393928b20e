/** `inspect train`: an inspection network (localisation U-Net or ResNet-34) trained on generated pairs. */
import { UserError } from "../../src/errors.ts";
import { networkParameters } from "../../src/inspection/models/init.ts";
import { selectionFigure } from "../../src/inspection/training/evaluate.ts";
import { Learner } from "../../src/inspection/training/learner.ts";
import { startingWeights } from "../../src/inspection/training/model_file.ts";
import { Predictor } from "../../src/inspection/training/predictor.ts";
import {
  adjusted,
  epochSteps,
  recipeInWords,
  type RecipeName,
  recipeNetwork,
  RECIPES,
} from "../../src/inspection/training/recipe.ts";
import {
  classifierBatches,
  localisationBatches,
  refuseOverlap,
  SHORT_HASH,
} from "../../src/inspection/training/samples.ts";
import { isSoftware } from "../../src/gpu/device.ts";
import { defineCommand } from "../command.ts";
import { openGpu } from "../device.ts";
import { leakOf, tellLeak, testImages, trainingImages } from "../jobs/inspection.ts";
import { requireSide, trainInspector } from "../jobs/inspection_training.ts";
import * as shared from "./shared.ts";

/**
 * File that keeps what the surroundings decided for: the recipe that the adapter takes, the steps, and the order of the labels.
 * A resumed run has the same anywhere.
 */
const RECIPE = "recipe.json";

/** What it holds. */
interface Kept {
  readonly recipe: RecipeName;
  readonly steps: number;
  readonly labels: readonly string[];
}

const { steps: OFFICIAL_STEPS } = RECIPES.localisation.official,
  { epochs: CLASSIFIER_EPOCHS } = RECIPES.classifier.official;

/** The recipes' values, for the help. */
function either(key: "baseWidth" | "side" | "batch" | "learningRate"): string {
  const { localisation: { official, narrow }, classifier } = RECIPES, other = classifier.narrow[key];
  return `official ${official[key]}; narrow ${narrow[key]}${other === narrow[key] ? "" : `, classifier ${other}`}`;
}

export default defineCommand({
  name: "inspect-train",
  summary: "Trains an inspection network on generated pairs and normal images.",
  details:
    "The localisation U-Net marks the defect's pixels, the classifier names its kind. One network for all chosen parts; " +
    "the paper trains one for each (--part). The real test images are only looked at to make sure that none is among " +
    "the training images.",
  runFolder: true,
  gpu: true,
  flags: {
    pairs: {
      type: "string",
      value: "folder",
      description: "Generated pairs: the run folder of generate or baseline.",
      required: true,
    },
    data: { ...shared.data, description: "The real data set: its normal images, and the test images to keep apart." },
    part: shared.part,
    defect: shared.defect,
    network: {
      type: "string",
      description: "What to train: a U-Net that marks pixels, or a ResNet-34 that names the kind of defect.",
      choices: ["localisation", "classifier"],
      default: "localisation",
    },
    parity: shared.parity({
      recipe: "official",
      baseWidth: 64,
      resolution: 256,
      trainBatchSize: 8,
      learningRate: 1e-4,
      maxPairs: 500,
      selection: "test-best",
      controls: false,
      labelOrder: "listing",
      normalization: "none",
    }),
    recipe: {
      type: "string",
      description:
        "official: DRAEM's U-Net, focal loss, half normal images, as the paper's code; narrow: a small U-Net on " +
        "blocks of 4×4 pixels, cross-entropy + Dice, a quarter normal images, mirrored crops, warm-up and cosine.",
      choices: ["official", "narrow"],
      otherwise: "official, or narrow on a software adapter",
    },
    seed: shared.seed,
    baseWidth: {
      type: "integer",
      unit: "channels",
      description: "Channels of the network's first level; 64 is the papers' network.",
      otherwise: either("baseWidth"),
      min: 4,
      max: 128,
    },
    resolution: {
      type: "integer",
      unit: "pixels",
      description: "Side at which the network reads images, a multiple of 32.",
      otherwise: either("side"),
      min: 32,
      max: 1024,
    },
    maxTrainSteps: shared.maxTrainStepsOr(
      `official ${OFFICIAL_STEPS}, classifier ${CLASSIFIER_EPOCHS} epochs of five times every pair; ` +
        `narrow ${RECIPES.localisation.narrow.steps}, classifier ${RECIPES.classifier.narrow.steps}`,
    ),
    trainBatchSize: shared.trainBatchSizeOr(either("batch")),
    learningRate: {
      type: "number",
      description:
        "Step size of the optimiser. Official: falls to a fifth at 0.8 and again at 0.9 of all steps; narrow: " +
        "20 steps up, then a cosine.",
      otherwise: either("learningRate"),
      min: 0,
      max: 1,
    },
    loss: {
      goesWith: { network: ["localisation"] },
      type: "string",
      description: "What the localisation network minimises.",
      choices: ["focal", "cross-entropy+dice"],
      otherwise: "the recipe's",
    },
    maxPairs: {
      type: "integer",
      unit: "pairs",
      description: "At most so many pairs of each kind of defect.",
      default: 500,
      min: 1,
    },
    controls: {
      goesWith: { network: ["localisation"] },
      type: "boolean",
      description:
        "Let half of the normal images that the localisation network sees be the pairs' controls, where there are any.",
      default: true,
    },
    weights: {
      type: "string",
      value: "file",
      description: "Weights to start from: DRAEM's or torchvision's state dict as safetensors.",
      otherwise: "random ones",
    },
    selection: {
      type: "string",
      description: "Keep the last weights, or those that do best on the test set, as the official code does: its " +
        "figures on that set are then too good.",
      choices: ["last", "test-best"],
      default: "last",
    },
    validationSteps: {
      goesWith: { selection: ["test-best"] },
      type: "integer",
      unit: "steps",
      description: "With --selection test-best: test this often.",
      otherwise: "after each of the official code's epochs: 500 images, or five times every pair for the classifier",
      min: 1,
    },
    normalization: {
      goesWith: { network: ["classifier"] },
      type: "string",
      description:
        "Colours that the classifier reads: as they are, as in the official code, or as ImageNet's weights expect.",
      choices: ["none", "imagenet"],
      default: "none",
    },
    labelOrder: {
      goesWith: { network: ["classifier"] },
      type: "string",
      description:
        "How the classifier's classes are numbered: by name, or as the file system lists the pairs' folders, as " +
        "the official code does. The names are kept with the weights either way.",
      choices: ["sorted", "listing"],
      default: "sorted",
    },
    checkpointingSteps: { ...shared.checkpointingSteps, default: 100 },
    checkpointsTotalLimit: shared.checkpointsTotalLimit,
  },
  examples: [
    "--pairs runs/pairs --data photos --part wood --out runs/inspector",
    "--pairs runs/pairs --data photos --network classifier --out runs/classifier",
  ],
  async run(options, context) {
    const { network, seed, selection } = options, { runFolder } = context;
    const gpu = await openGpu(), text = await runFolder.readText(RECIPE);
    const kept = text === undefined ? undefined : JSON.parse(text) as Kept;
    const name = kept?.recipe ?? options.recipe ?? (isSoftware(gpu.info) ? "narrow" : "official");
    const recipe = adjusted(RECIPES[network][name], {
      baseWidth: options.baseWidth,
      side: options.resolution,
      batch: options.trainBatchSize,
      steps: options.maxTrainSteps ?? kept?.steps,
      learningRate: options.learningRate,
      loss: options.loss,
    });
    const { side, batch } = recipe;
    requireSide("--resolution", recipe, network);
    const { parts, labels: found, normal, defects, controls, kinds } = await trainingImages(options, side, context);
    const labels = kept?.labels ?? found;
    const plain = recipeNetwork(recipe, network, labels.length), imagenet = options.normalization === "imagenet";
    const config = plain.kind === "classifier" && imagenet ? { ...plain, normalization: "imagenet" as const } : plain;
    if (network === "classifier" && labels.length < 2) {
      throw new UserError(
        `a classifier needs at least two kinds of defect, and there is only ${labels[0]}`,
        "generate another kind, or train --network localisation",
      );
    }
    const blank = network === "localisation" ? defects.filter(({ mask }) => !mask?.includes(1)).length : 0;
    if (blank) {
      context.log(`${blank} of ${defects.length} masks are empty at ${side}×${side}: their pairs count as normal`);
    }
    const official = options.parity === "official" && network === "classifier";
    const epoch = epochSteps(network, defects.length, batch);
    const steps = recipe.epochs ? recipe.epochs * epoch : recipe.steps;
    if (official && !options.weights) {
      context.log("the official classifier starts from ImageNet's weights: --weights takes torchvision's ResNet-34");
    }
    const tested = await testImages(kinds, parts, side, context, selection === "test-best");
    const hashes = [...normal, ...defects, ...controls].map(({ hash }) => hash);
    refuseOverlap(hashes, tested);
    const leak = await leakOf(options.pairs);
    tellLeak(leak, context);
    const classes = network === "classifier" ? labels : undefined;
    const strange = classes && tested.find(({ kind }) => kind !== undefined && !labels.includes(kind));
    if (selection === "test-best" && strange) {
      throw new UserError(`there are test images of ${strange.kind}, but no generated pairs`, "generate them too");
    }
    using parameters = networkParameters(seed, options.weights ? startingWeights(config, options.weights) : undefined);
    const batches = network === "classifier"
      ? classifierBatches(seed, batch, defects, labels, recipe)
      : localisationBatches(seed, batch, normal, defects, recipe, controls);
    using learner = new Learner(gpu, config, parameters, batches, { ...recipe, steps, side: recipe.crop ?? side });
    await runFolder.write(RECIPE, `${JSON.stringify({ recipe: name, steps, labels } satisfies Kept)}\n`);
    context.log(recipeInWords(adjusted(recipe, { steps }), network));
    const count = [...parameters.variables.values()].reduce((sum, v) => sum + v.shape.reduce((a, b) => a * b, 1), 0);
    context.log(
      `${(count / 1e6).toFixed(2)} M parameters at ${side}×${side}, ${(learner.report.flops / 1e9).toFixed(1)} GFLOP ` +
        `a step; ${defects.length} pairs of ${labels.join(", ")} and ${normal.length} normal images` +
        (controls.length && network === "localisation" ? `, ${controls.length} controls` : ""),
    );
    using predictor = selection === "test-best" ? new Predictor(gpu, config, parameters, side) : undefined;
    await trainInspector(learner, parameters, {
      steps,
      checkpointingSteps: options.checkpointingSteps,
      checkpointsTotalLimit: options.checkpointsTotalLimit,
      info: {
        config,
        side,
        labels,
        parts,
        selection,
        seed,
        ...leak,
        trainedOn: [...new Set(hashes.map((hash) => hash.slice(0, SHORT_HASH)))].sort(),
      },
      select: predictor && {
        every: options.validationSteps ?? epoch,
        figure: () => selectionFigure(predictor, tested, side, classes),
      },
    }, context);
    context.print(runFolder.file("model.safetensors"));
  },
});
