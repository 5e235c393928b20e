/**
 * Two ways to train an inspection network: the official one, of the paper's code, and the narrow one for a processor, which
 * learns in a few hundred steps. They differ in the network, its start, the loss, the rate and what a step sees; results of
 * one are not to be compared with results of the other.
 */

import type { NetworkConfig, NetworkKind } from "../models/network.ts";
import type { LearnerSettings } from "./learner.ts";
import type { LocalisationSampling } from "./samples.ts";

/** Names of the recipes. */
export type RecipeName = "official" | "narrow";

/** Everything that is fixed before a training. */
export interface InspectionRecipe
  extends Pick<LearnerSettings, "batch" | "steps" | "learningRate" | "schedule" | "loss">, LocalisationSampling {
  readonly name: RecipeName;
  /** Channels of the network's first level. */
  readonly baseWidth: number;
  /** Side at which images are read. */
  readonly side: number;
  /** Epochs that the steps follow from, where they depend on the pairs; see {@linkcode epochSteps}. */
  readonly epochs?: number;
}

/** Steps of an epoch of the official trainings: 500 items for the localisation U-Net, five times every pair for the classifier. */
export function epochSteps(network: NetworkKind, pairs: number, batch: number): number {
  return Math.ceil((network === "classifier" ? 5 * pairs : 500) / batch);
}

const OFFICIAL: InspectionRecipe = {
  name: "official",
  baseWidth: 64,
  side: 256,
  batch: 8,
  steps: 12600,
  learningRate: 1e-4,
  schedule: "steps",
  loss: "focal",
  normalShare: 0.5,
};

/** The recipes of each network. */
export const RECIPES: Readonly<Record<NetworkKind, Readonly<Record<RecipeName, InspectionRecipe>>>> = {
  localisation: {
    official: OFFICIAL,
    narrow: {
      name: "narrow",
      baseWidth: 24,
      side: 128,
      batch: 16,
      steps: 200,
      learningRate: 4e-3,
      schedule: "cosine",
      loss: "cross-entropy+dice",
      normalShare: 0.25,
      flips: true,
      crop: 64,
    },
  },
  classifier: {
    official: { ...OFFICIAL, epochs: 30 },
    narrow: {
      name: "narrow",
      baseWidth: 8,
      side: 128,
      batch: 8,
      steps: 400,
      learningRate: 1e-2,
      schedule: "cosine",
      flips: true,
    },
  },
};

/** A recipe with other sizes; those that are undefined stay. Where steps are given they hold, whatever the epochs. */
export function adjusted(
  recipe: InspectionRecipe,
  changes: Partial<Pick<InspectionRecipe, "baseWidth" | "side" | "batch" | "steps" | "learningRate" | "loss">>,
): InspectionRecipe {
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const result = { ...recipe, ...given };
  const epochs = changes.steps === undefined ? recipe.epochs : undefined;
  return { ...result, epochs, crop: recipe.crop && Math.min(recipe.crop, result.side) };
}

/** The network that a recipe trains. */
export function recipeNetwork(
  { name, baseWidth }: InspectionRecipe,
  kind: NetworkKind,
  classes: number,
): NetworkConfig {
  if (kind === "classifier") return { kind, baseWidth, classes };
  return name === "narrow" ? { kind, baseWidth, form: "narrow" } : { kind, baseWidth };
}

/** A recipe in words, for the footing of a table. */
export function recipeInWords(recipe: InspectionRecipe, kind: NetworkKind): string {
  const { name, baseWidth, side, batch, steps, epochs, learningRate, schedule, loss, normalShare, flips, crop } =
    recipe;
  return [
    `${name} recipe: base width ${baseWidth}`,
    `${side}×${side} pixels${kind === "localisation" && crop ? ` in crops of ${crop}` : ""}${
      flips ? ", mirrored" : ""
    }`,
    epochs ? `${epochs} epochs of five times every pair, steps of ${batch}` : `${steps} steps of ${batch}`,
    ...(kind === "localisation" ? [`loss ${loss}`, `${100 * normalShare!} % normal images`] : []),
    `step size ${learningRate}, ${schedule === "cosine" ? "cosine" : "to a fifth at 0.8 and 0.9"}`,
  ].join(", ");
}
