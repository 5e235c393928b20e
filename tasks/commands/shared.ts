/** Rows of flags that several commands share, so that a name means the same thing everywhere. */
import type { LatentMaskMode } from "../../src/diffusion/blend.ts";
import type { Flag, Values } from "../flags.ts";

/** The base model; without it the small model that ships with the program. */
export const model = {
  type: "string",
  value: "folder",
  description: "Model folder with config.json, *.safetensors and vocab.txt.",
  otherwise: "the small model that ships with the program",
} as const satisfies Flag;

export const data = {
  type: "string",
  value: "folder",
  description: "Images in MVTec layout (<part>/train/good, test/<defect>, ground_truth/<defect>) or plain folders " +
    "(good, <defect>, and its masks).",
  required: true,
} as const satisfies Flag;

export const part = {
  type: "list",
  value: "name",
  description: "Only these parts of the data.",
  otherwise: "every part",
} as const satisfies Flag;

export const defect = {
  type: "list",
  value: "name",
  description: "Only these kinds of defect.",
  otherwise: "every kind",
} as const satisfies Flag;

export const seed = {
  type: "integer",
  description: "Number from which everything random follows: the same seed gives the same bytes on the same adapter.",
  default: 0,
  min: 0,
} as const satisfies Flag;

export const officialSplit = {
  type: "boolean",
  description: "Train on images 0 to N//3 inclusive, as the official code does (one of them is a test image).",
  default: false,
} as const satisfies Flag;

export const allPairs = {
  type: "boolean",
  description: "Learn from every pair: none is left to test on.",
  goesWith: { officialSplit: [false] },
  default: false,
} as const satisfies Flag;

/** Seed of the official trainings, which their `--seed` has where it is left out. */
export const OFFICIAL_SEED = 23;

/** A seed that nobody chose: the official generation has none. The run's config.json keeps it. */
export function anySeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

/** One switch for everything in which the official code differs (docs/parity.md); `official` is what it sets. */
export function parity(official: Values | (() => Values)) {
  return {
    type: "string",
    description: "official: work as the official code does, rows in docs/parity.md; flags that are given too win.",
    choices: ["off", "official"],
    default: "off",
    implies: { official },
  } as const satisfies Flag;
}

/** Masks that mark nothing. */
export const emptyMasks = {
  type: "boolean",
  description: "Let empty masks pass, as the official code does: such a pair shows no defect.",
  default: false,
} as const satisfies Flag;

/** How a mask reaches the latent grid. */
export const latentMask = {
  type: "string",
  description: "How the mask is brought to the latent grid; max-pool keeps defects a few pixels wide.",
  choices: ["max-pool", "official", "area"],
  default: "max-pool",
} as const satisfies Flag;

/** The mode that {@linkcode latentMask} names. */
export function latentMaskMode(choice: "max-pool" | "official" | "area"): LatentMaskMode {
  return choice === "max-pool" ? "maxPool" : choice;
}

/** Flags of both trainings about the optimiser's step size. */
export const scaleLr = {
  type: "boolean",
  description: "Multiply the learning rates by the batch size, as the official code does.",
  default: false,
} as const satisfies Flag;

export const lrScheduler = {
  type: "string",
  description: "fall: a fifth of the learning rate after 60 % of the steps; constant: the same to the end.",
  choices: ["fall", "constant"],
  default: "fall",
} as const satisfies Flag;

export const timestepSampling = {
  type: "string",
  description:
    "Noise levels that are trained on: balanced, so that every level counts about alike, or uniform as in the " +
    "official code, where the lowest, which no prompt changes, count most.",
  choices: ["balanced", "uniform"],
  default: "balanced",
} as const satisfies Flag;

/** What the embeddings start from. */
export const initializer = {
  type: "string",
  description:
    "Start from copies of --initializer-token, or from random numbers of 0 to 1, as the paper's masks and the " +
    "official code where it is given no word.",
  choices: ["word", "random"],
  default: "word",
} as const satisfies Flag;

/** Where embeddings start from copies of a word alone. */
const FROM_WORD = { goesWith: { initializer: ["word"] } } as const;

/** The word that they start from. */
export function initializerToken(word: string) {
  return {
    type: "string",
    value: "word",
    description: "Word of the model's vocabulary from which the embeddings start.",
    ...FROM_WORD,
    default: word,
  } as const satisfies Flag;
}

/** How far apart the tokens start. */
export const initializerNoise = {
  type: "number",
  description: "Standard deviation of the noise that keeps the tokens, all copies of one word, apart at the start.",
  ...FROM_WORD,
  default: 0.02,
  min: 0,
  max: 1,
} as const satisfies Flag;

/**
 * Settings of a training that the flags about rates make.
 * @returns the rates that the optimiser takes, and whether they stay
 */
export function rates(
  options: { scaleLr: boolean; trainBatchSize: number; lrScheduler: "fall" | "constant" },
  learningRate: number,
  encoderLearningRate: number,
): { learningRate: number; encoderLearningRate: number; constantRate: boolean } {
  const scale = options.scaleLr ? options.trainBatchSize : 1;
  return {
    learningRate: scale * learningRate,
    encoderLearningRate: scale * encoderLearningRate,
    constantRate: options.lrScheduler === "constant",
  };
}

export const checkpointingSteps = {
  type: "integer",
  unit: "steps",
  description: "Save a resumable checkpoint this often.",
  default: 50,
  min: 1,
  changeable: true,
} as const satisfies Flag;

export const checkpointsTotalLimit = {
  type: "integer",
  description: "How many of the newest checkpoints to keep.",
  default: 2,
  min: 1,
  changeable: true,
} as const satisfies Flag;

export const batchSize = {
  type: "integer",
  unit: "images",
  description: "Images worked on at once; the results do not depend on it.",
  default: 4,
  min: 1,
  max: 256,
  changeable: true,
} as const satisfies Flag;

/** What counts as defect in a test. */
export const groundTruth = {
  type: "string",
  description: "Masks at the network's size: cut at one half, or as the official code has them, where pixels at a " +
    "resized edge count as normal for AUROC and AP and as defect for AU-PRO.",
  choices: ["binary", "official"],
  default: "binary",
} as const satisfies Flag;

export const saveMaps = {
  type: "boolean",
  description: "Write every score map as a PNG too.",
  default: false,
} as const satisfies Flag;

/** What `changeable` means for a training's steps, of which rates are shares: the steps before had those of another length. */
const ANOTHER_LENGTH =
  "A resumed run may be given another number: rates that fall then follow its length, and it ends " +
  "otherwise than one that had it from the start.";

/** A model's training steps; `changeable`, so that a resumed run may go on further. */
export function maxTrainSteps(steps: number, description = "How long to train.") {
  return {
    type: "integer",
    unit: "steps",
    description: `${description} ${ANOTHER_LENGTH}`,
    default: steps,
    min: 1,
    changeable: true,
  } as const satisfies Flag;
}

/**
 * A training's steps where their default depends on another flag.
 * @param otherwise the defaults, in words
 */
export function maxTrainStepsOr(otherwise: string, description = "How long to train.") {
  return {
    type: "integer",
    unit: "steps",
    description: `${description} ${ANOTHER_LENGTH}`,
    otherwise,
    min: 1,
    changeable: true,
  } as const satisfies Flag;
}

export function trainBatchSize(images: number) {
  return {
    type: "integer",
    unit: "images",
    description: "Images in one training step.",
    default: images,
    min: 1,
    max: 256,
  } as const satisfies Flag;
}

/**
 * Images in one training step where their default depends on another flag.
 * @param otherwise the defaults, in words
 */
export function trainBatchSizeOr(otherwise: string) {
  const description = "Images in one training step.";
  return { type: "integer", unit: "images", description, otherwise, min: 1, max: 256 } as const satisfies Flag;
}

export function learningRate(rate: number, what = "Step size of the optimiser.") {
  return { type: "number", description: what, default: rate, min: 0, max: 1 } as const satisfies Flag;
}

/**
 * A step size whose default depends on something else.
 * @param otherwise the defaults, in words
 */
export function learningRateOr(otherwise: string, description: string) {
  return { type: "number", description, otherwise, min: 0, max: 1 } as const satisfies Flag;
}

export function numVectors(count: number) {
  return {
    type: "integer",
    unit: "tokens",
    description: "Learned tokens of one embedding.",
    default: count,
    min: 1,
    max: 64,
  } as const satisfies Flag;
}

/** How pictures are kept. */
export const imageFormat = {
  type: "string",
  description: "Files of images and masks: without loss, or JPEG of quality 75 as the official code writes them.",
  choices: ["png", "jpeg"],
  default: "png",
} as const satisfies Flag;

/** What the model sees of a picture. */
export const window = {
  type: "string",
  description:
    "What the model sees: the whole image, or squares around the mask, one for each place that is far from " +
    "the others.",
  choices: ["whole", "mask"],
} as const satisfies Partial<Flag>;

export const zoom = {
  type: "number",
  description: "How much a square around a small defect is enlarged to the model's resolution; 1 stays at native " +
    "resolution. Only with --window mask.",
  min: 1,
  max: 8,
} as const satisfies Partial<Flag>;

/** How many views the few training pairs become. */
export const augmentedCopies = {
  type: "integer",
  unit: "copies",
  description: "Augmented views of each pair; their latents are made once, before training.",
  default: 24,
  min: 1,
  max: 10000,
} as const satisfies Flag;

/** Sampling steps of one image. */
export function steps(count: number) {
  return {
    type: "integer",
    unit: "steps",
    description: "Sampling steps for one image; more is slower and finer.",
    default: count,
    min: 1,
    max: 999, // as many as a schedule of 1,000 timesteps has after its first
  } as const satisfies Flag;
}

/** How noise becomes an image. */
export const sampler = {
  type: "string",
  description:
    "ddim; dpm++2m, which needs fewer steps and adds no noise; dpm++sde, for few steps with noise (--eta is ddim's).",
  choices: ["ddim", "dpm++2m", "dpm++sde"],
  default: "ddim",
} as const satisfies Flag;

export const eta = {
  type: "number",
  description: "Noise added back at each DDIM step: 0 none, 1 as much as in training.",
  goesWith: { sampler: ["ddim"] },
  default: 1,
  min: 0,
  max: 1,
} as const satisfies Flag;

export function guidanceScale(scale: number) {
  return {
    type: "number",
    description: "Classifier-free guidance: 1 is none, higher follows the learned defect more strongly.",
    default: scale,
    min: 0,
    max: 30,
  } as const satisfies Flag;
}

/** A budget of device memory. */
export const memory = {
  type: "string",
  value: "amount",
  description: "Device memory to stay within, as 8GiB or 6000MB: less is kept and more computed again.",
  otherwise: "as much as it takes",
  changeable: true,
} as const satisfies Flag;

/** What the frozen networks compute in. */
export const precision = {
  type: "string",
  description:
    "Arithmetic of products with f16 weights. f16 is less exact (README, On a graphics card), and is used where " +
    "`tune --precision f16` found it faster.",
  choices: ["f32", "f16"],
  default: "f32",
} as const satisfies Flag;
