/**
 * The baselines that are the project's own diffusion with parts of the method taken away (paper, Table 6 and supplement D):
 * a token without a spatial embedding, learned with or without the masked loss, and drawn by blended diffusion without
 * attention re-weighting, or with the token's attention replaced by the mask (supplement E, Table 9).
 */

import { usualZoom, type View } from "../../src/anomaly/windows.ts";
import { createHash } from "node:crypto";
import { join } from "node:path";
import type { BaseModel } from "../../src/anomaly/base_model.ts";
import { planGeneration, planTraining } from "../../src/anomaly/budget.ts";
import { type AnomalyEmbedding, decodeEmbedding } from "../../src/anomaly/embedding.ts";
import { Inversion } from "../../src/anomaly/inversion.ts";
import type { ReweightingForm } from "../../src/anomaly/sampler.ts";
import { defectItems } from "../../src/anomaly/training_set.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import { guideFromOf } from "../../src/anomaly/surface.ts";
import type { SamplerKind } from "../../src/diffusion/sampling.ts";
import { UserError } from "../../src/errors.ts";
import type { Context } from "../command.ts";
import { type Kind, trainingSamples } from "./dataset.ts";
import { existsFile, readProduct } from "./files.ts";
import { fitGenerationTo, fitTrainingTo, jobBudget } from "./memory.ts";
import { Origin, pairHashes } from "./origin.ts";
import { makePairs } from "./pairs.ts";
import { EMBEDDINGS, encodeSurfaces, encodeViews, surfacesOf, train, unmasked } from "./training.ts";

/** Which parts of the method a baseline keeps. */
export interface InversionPreset {
  readonly title: string;
  /** The loss counts inside the mask only; else in the whole picture. */
  readonly maskedLoss: boolean;
  readonly reweighting: ReweightingForm;
}

/** Names of the presets. */
export const INVERSIONS = ["textual-inversion", "prompt-to-prompt", "blended-diffusion", "no-spatial"] as const;
/** One of {@linkcode INVERSIONS}. */
export type InversionName = typeof INVERSIONS[number];

/** The presets; none has a spatial embedding. */
export const inversionPresets: Readonly<Record<InversionName, InversionPreset>> = {
  "textual-inversion": { title: "Textual Inversion", maskedLoss: false, reweighting: "off" },
  "prompt-to-prompt": { title: "Textual Inversion + Prompt-to-Prompt", maskedLoss: false, reweighting: "replace" },
  "blended-diffusion": {
    title: "Blended diffusion without spatial embedding",
    maskedLoss: true,
    reweighting: "off",
  },
  "no-spatial": { title: "Everything but the spatial embedding", maskedLoss: true, reweighting: "official" },
};

/** What to learn and to make. */
export interface InversionRun {
  readonly method: InversionName;
  readonly data: string;
  readonly masks?: string;
  /** Run folder of an earlier baseline whose tokens are used instead of learning them. */
  readonly trainRun?: string;
  readonly count: number;
  readonly seed: number;
  readonly numVectors: number;
  readonly maxTrainSteps: number;
  readonly trainBatchSize: number;
  readonly learningRate: number;
  readonly initializerToken: string;
  readonly checkpointingSteps: number;
  readonly batchSize: number;
  readonly augmentedCopies: number;
  readonly steps: number;
  readonly sampler: SamplerKind;
  readonly eta: number;
  readonly guidanceScale: number;
  /** Device memory to stay within, as flags give it. */
  readonly memory?: string;
}

/** What the model sees: as `train` and `generate` have it, so that methods differ in nothing else. */
const viewOf = ({ side }: BaseModel): View => ({ window: "mask", zoom: usualZoom(side) });

/** Checkpoints kept while the tokens are learned. */
const CHECKPOINTS = 2;

/** Learns the tokens (once) and makes `count` pairs of each kind. */
export async function makeInversionBaseline(
  base: BaseModel,
  kinds: readonly Kind[],
  run: InversionRun,
  context: Context,
): Promise<void> {
  const preset = inversionPresets[run.method];
  const own = context.runFolder.file(EMBEDDINGS);
  if (!run.trainRun && !await existsFile(own)) await learn(base, kinds, run, context);
  const { embedding, sha256 } = await readTokens(run.trainRun ?? context.runFolder.path, base, kinds);
  const guideFrom = guideFromOf(embedding, kinds.map(({ key }) => key));
  const sizes = {
    batch: run.batchSize,
    guidance: run.guidanceScale,
    guideFrom,
    sampler: run.sampler,
    reweighting: preset.reweighting,
    tokens: embedding.tokens,
  };
  const budget = await jobBudget(run.memory, base.gpu, () => planGeneration(base.config, sizes));
  const batch = fitGenerationTo(budget, base.config, sizes, base.gpu.device, context);
  await makePairs(kinds, {
    data: run.data,
    masks: run.masks,
    count: run.count,
    base,
    embedding,
    embeddingHash: sha256,
    settings: {
      seed: run.seed,
      batch,
      steps: run.steps,
      sampler: run.sampler,
      eta: run.eta,
      guidance: run.guidanceScale,
      guideFrom,
      reweighting: preset.reweighting,
      latentMask: "maxPool",
      feather: 3,
      ...viewOf(base),
      keepDetail: true,
      minChange: 0,
      maxAttempts: 1,
    },
  }, context);
}

/** Learns the tokens of every kind and leaves them in the run folder. */
async function learn(base: BaseModel, kinds: readonly Kind[], run: InversionRun, context: Context): Promise<void> {
  base.wordVector(run.initializerToken); // refused before anything is encoded
  const { maskedLoss } = inversionPresets[run.method];
  const learned = kinds.length + surfacesOf(kinds);
  const sizes = { batch: run.trainBatchSize, tokens: run.numVectors, area: true, kinds: learned };
  const budget = await jobBudget(run.memory, base.gpu, () => planTraining(base.config, sizes));
  const fitted = fitTrainingTo(budget, run.memory !== undefined, base.config, sizes, base.gpu.device, context);
  const samples = await trainingSamples(kinds, context), origin = await Origin.open(context);
  origin.note("base model", base.sha256);
  origin.note("training pairs", pairHashes(samples));
  const { seed, augmentedCopies } = run,
    view = viewOf(base),
    options = { seed, augmentation: "paper", augmentedCopies, view, origin } as const;
  const views = await encodeViews(defectItems, base, samples, options, "view", context);
  const defects = maskedLoss ? views : unmasked(views);
  const items = [...defects, ...await encodeSurfaces(base, kinds, defects, options, context)];
  using inversion = new Inversion(base, items, {
    tokens: run.numVectors,
    spatialTokens: 0,
    batch: run.trainBatchSize,
    steps: run.maxTrainSteps,
    seed: run.seed,
    learningRate: run.learningRate,
    encoderLearningRate: 0,
    timesteps: "balanced", // as train has it
    initializerToken: run.initializerToken,
    area: true,
    ...fitted,
    view,
    templates: promptTemplates,
  });
  await train(inversion, {
    label: "training",
    origin,
    checkpointingSteps: run.checkpointingSteps,
    checkpointsTotalLimit: CHECKPOINTS,
  }, context);
}

/** The tokens of a baseline's run folder, checked against what shall be drawn. */
async function readTokens(
  folder: string,
  base: BaseModel,
  kinds: readonly Kind[],
): Promise<{ embedding: AnomalyEmbedding; sha256: string }> {
  const path = join(folder, EMBEDDINGS), bytes = await readProduct(path, "baseline");
  const embedding = decodeEmbedding(bytes, path);
  if (embedding.spatial) {
    throw new UserError(
      `${path} was written by train, with a spatial encoder`,
      "give the run folder of a baseline that learns tokens, such as textual-inversion",
    );
  }
  if (embedding.model !== base.sha256) {
    throw new UserError(`${path} was trained on another base model`, "give the --model of that training");
  }
  const unknown = kinds.filter(({ key }) => !embedding.keys.includes(key)).map(({ key }) => key);
  if (unknown.length) {
    throw new UserError(`nothing was learned for ${unknown.join(", ")}`, `${path} knows ${embedding.keys.join(", ")}`);
  }
  return { embedding, sha256: createHash("sha256").update(bytes).digest("hex") };
}
