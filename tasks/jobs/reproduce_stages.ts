/**
 * The stages of a reproduction: other commands in folders below the run's. A stage that is done is marked so; a run that was
 * killed goes on after the last mark, inside the stage from its newest checkpoint.
 */

import { join } from "node:path";
import type { NetworkKind } from "../../src/inspection/models/network.ts";
import { adjusted, type InspectionRecipe, type RecipeName, RECIPES } from "../../src/inspection/training/recipe.ts";
import type { Context } from "../command.ts";
import baseline from "../commands/baseline.ts";
import generate from "../commands/generate.ts";
import generateMasks from "../commands/generate_masks.ts";
import inspectPatchcore from "../commands/inspect_patchcore.ts";
import inspectTest from "../commands/inspect_test.ts";
import inspectTrain from "../commands/inspect_train.ts";
import train from "../commands/train.ts";
import trainMasks from "../commands/train_masks.ts";
import {
  inspectedName,
  makesControls,
  type Measure,
  type Recipe,
  recipeName,
  trainingName,
} from "./reproduce_tables.ts";
import { type CommandStage, doneWith, runStage } from "./stage.ts";

/** How much is done, the same for every row. */
export interface Budget {
  readonly model?: string;
  readonly masks: "real" | "embeddings";
  readonly count: number;
  /** Make controls of the whole method's pairs. */
  readonly controls: boolean;
  readonly trainSteps: number;
  /** How long the U-Net is tuned. */
  readonly tuneSteps: number;
  readonly maskTrainSteps: number;
  readonly trainBatchSize: number;
  readonly augmentedCopies: number;
  readonly batchSize: number;
  readonly steps: number;
  readonly sampler: string;
  readonly guidanceScale: number;
  readonly inspectRecipe: RecipeName;
  /** The recipe's, as all below, where it is left out. */
  readonly inspectSteps?: number;
  readonly inspectWidth?: number;
  readonly inspectResolution?: number;
  readonly inspectBatchSize?: number;
  readonly inspectLearningRate?: number;
  readonly selection: "last" | "test-best";
  /** Weights that the classifier starts from; random ones where left out. */
  readonly classifierWeights?: string;
  /** ONNX network whose features PatchCore compares; the base model's encoder where left out. */
  readonly backbone?: string;
}

/** How a network is trained on a budget. */
export function inspectionRecipe(budget: Budget, network: NetworkKind): InspectionRecipe {
  return adjusted(RECIPES[network][budget.inspectRecipe], {
    baseWidth: budget.inspectWidth,
    side: budget.inspectResolution,
    batch: budget.inspectBatchSize,
    steps: budget.inspectSteps,
    learningRate: budget.inspectLearningRate,
  });
}

/** Where a recipe's data sets lie: what is learned from, and what is tested on. */
export interface DataFolders {
  readonly train: string;
  readonly test: string;
}

/** Folder of a recipe's pairs below the run folder. */
export const pairsFolder = (seed: number, recipe: Recipe) => `seed-${seed}/pairs/${recipeName(recipe)}`;

/** Folder of the figures of a network that was trained on a recipe's pairs of one part. */
export const figuresFolder = (seed: number, recipe: Recipe, network: Measure, part: string) =>
  `seed-${seed}/${network}/${inspectedName(recipe)}/${part}/test`;

/**
 * The stages that make a recipe's pairs.
 * @param root the run folder
 * @param parts parts of the data set that are used
 */
export function pairStages(
  recipe: Recipe,
  seed: number,
  data: DataFolders,
  parts: readonly string[],
  budget: Budget,
  root: string,
): CommandStage[] {
  const own = pairsFolder(seed, recipe), share = recipe.kind === "learned" ? recipe.share : undefined;
  const common = { data: data.train, part: [...parts], seed };
  const trained = {
    ...common,
    model: budget.model,
    maxTrainSteps: budget.trainSteps,
    trainBatchSize: budget.trainBatchSize,
    augmentedCopies: budget.augmentedCopies,
  };
  const stages: CommandStage[] = [];
  if (recipe.kind === "detector") return [];
  if (recipe.kind === "baseline") {
    return [{ command: baseline, folder: own, given: { ...common, method: recipe.method, count: budget.count } }];
  }
  let masks: string | undefined;
  if (budget.masks === "embeddings") {
    const suffix = share === undefined ? "" : `-share-${share}`;
    const learned = `seed-${seed}/train/masks${suffix}`, made = `seed-${seed}/masks${suffix}`;
    masks = join(root, made);
    const { count, steps, sampler, batchSize } = budget, sampled = { count, steps, sampler, batchSize };
    stages.push(
      { command: trainMasks, folder: learned, given: { ...trained, maxTrainSteps: budget.maskTrainSteps } },
      {
        command: generateMasks,
        folder: made,
        given: { ...common, ...sampled, model: budget.model, masksRun: join(root, learned) },
      },
    );
  }
  const drawn = {
    masks,
    count: budget.count,
    batchSize: budget.batchSize,
    steps: budget.steps,
    sampler: budget.sampler,
    guidanceScale: budget.guidanceScale,
  };
  if (recipe.kind === "inversion") {
    const given = { ...trained, ...drawn, method: recipe.method };
    return [...stages, { command: baseline, folder: own, given }];
  }
  const { maskedLoss = true, reweighting = true, tune = false, numVectors, numSpatialVectors } = recipe;
  const learned = `seed-${seed}/train/${trainingName(recipe)}`;
  const tokens = { ...(numVectors ? { numVectors } : {}), ...(numSpatialVectors ? { numSpatialVectors } : {}) };
  const { model } = budget;
  // Tuning has a length, a batch and a number of views of its own.
  const learning = tune ? { ...common, model, tune, maxTrainSteps: budget.tuneSteps } : { ...trained, maskedLoss };
  return [
    { command: train, folder: learned, given: { ...learning, ...tokens, validationSteps: 0 } },
    ...stages,
    {
      command: generate,
      folder: own,
      given: {
        ...common,
        ...drawn,
        model,
        trainRun: join(root, learned),
        controls: budget.controls && makesControls(recipe),
        qualityGate: false, // as the footing says: every pair is used
        reweighting: reweighting ? "official" : "off",
        guidanceBelow: 1000, // everywhere, as in the committed tables
      },
    },
  ];
}

/** The stages that train and test one network for each part on a recipe's pairs, as the paper does; a detector needs one. */
export function inspectionStages(
  recipe: Recipe,
  network: "localisation" | "classifier",
  seed: number,
  data: DataFolders,
  parts: readonly string[],
  budget: Budget,
  root: string,
): CommandStage[] {
  return parts.flatMap((part): CommandStage[] => {
    const figures = figuresFolder(seed, recipe, network, part), trained = figures.replace(/test$/, "train");
    if (recipe.kind === "detector") {
      const { model, backbone, batchSize } = budget, resolution = inspectionRecipe(budget, network).side;
      return [{
        command: inspectPatchcore,
        folder: figures,
        given: { data: data.test, part: [part], seed, model, backbone, resolution, batchSize },
      }];
    }
    return [
      {
        command: inspectTrain,
        folder: trained,
        given: {
          pairs: join(root, pairsFolder(seed, recipe)),
          data: data.test,
          part: [part],
          network,
          seed,
          recipe: budget.inspectRecipe,
          baseWidth: budget.inspectWidth,
          resolution: budget.inspectResolution,
          maxTrainSteps: budget.inspectSteps,
          trainBatchSize: budget.inspectBatchSize,
          learningRate: budget.inspectLearningRate,
          maxPairs: budget.count,
          controls: recipe.kind === "learned" && recipe.controls === true,
          weights: network === "classifier" ? budget.classifierWeights : undefined,
          selection: budget.selection,
        },
      },
      {
        command: inspectTest,
        folder: figures,
        given: { data: data.test, trainRun: join(root, trained), part: [part], batchSize: budget.batchSize },
      },
    ];
  });
}

/** Whether a stage is done. */
export async function isDone(stage: CommandStage, context: Context): Promise<boolean> {
  return await doneWith(stage, context) !== undefined;
}

/** Runs a stage from where it was left; what only its continuation needs is removed in the end. */
export async function runTableStage(stage: CommandStage, context: Context): Promise<void> {
  // A stage's figures stand in the table; its own prints would hide it.
  await runStage(stage, context, `${stage.command.name}\n`, () => {});
  const checkpoints = join(context.runFolder.file(stage.folder), "checkpoints");
  await Deno.remove(checkpoints, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
