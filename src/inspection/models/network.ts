/** The two inspection networks under one roof: their configuration, their prefix in a state dict, and their graph. */

import { scope, type Tensor } from "../../graph/tensor.ts";
import type { Statistics } from "../../models/official_spatial_encoder.ts";
import type { Parameters } from "../../nn/parameters.ts";
import { GraphLayers, type Layers } from "./layers.ts";
import { LOCALISATION_MULTIPLE, type LocalisationConfig, localisationUnet } from "./localisation_unet.ts";
import { NARROW_MULTIPLE, narrowUnet } from "./narrow_unet.ts";
import { CLASSIFIER_MULTIPLE, type ClassifierConfig, resnet34 } from "./resnet34.ts";

/** Sizes of an inspection network. */
export type NetworkConfig = LocalisationConfig | ClassifierConfig;

/** Which network. */
export type NetworkKind = NetworkConfig["kind"];

/** Prefix of the DRAEM network's parameters. */
export const DRAEM_PREFIX = "segmenter";

/** Prefix of the parameters' names inside the program; files leave it out, as DRAEM's and torchvision's do. */
export function networkPrefix(config: NetworkConfig): string {
  if (config.kind === "classifier") return "classifier";
  return config.form === "narrow" ? "narrow" : DRAEM_PREFIX;
}

/** What a network's side is a multiple of. */
export function sideMultiple(config: NetworkConfig): number {
  if (config.kind === "classifier") return CLASSIFIER_MULTIPLE;
  return config.form === "narrow" ? NARROW_MULTIPLE : LOCALISATION_MULTIPLE;
}

/** Describes a network with any builder; see {@linkcode localisationUnet} and {@linkcode resnet34} for the shapes. */
export function describeNetwork<T>(config: NetworkConfig, layers: Layers<T>, image: T): T {
  if (config.kind === "classifier") return resnet34(config, layers, image);
  return (config.form === "narrow" ? narrowUnet : localisationUnet)(config.baseWidth, layers, image);
}

/** A network in the engine's graph. */
export interface NetworkGraph {
  /** [B, S, S, 2] of the localisation U-Net, [B, classes] of the classifier. */
  readonly logits: Tensor;
  /** With batch statistics: what moves the running ones. To be passed to `compile` as effects. */
  readonly effects: readonly Tensor[];
}

/**
 * Adds a network to the graph.
 * @param p its parameters, made on first use
 * @param image [B, S, S, 3] in [0, 1]
 * @param statistics of the batch norms: the batch's in training
 * @throws Error where S is no multiple of {@linkcode sideMultiple}
 * @example
 * ```ts
 * import { input } from "../../graph/variable.ts";
 * import { networkParameters } from "./init.ts";
 * import { networkGraph } from "./network.ts";
 * using p = networkParameters(0);
 * const image = input("image", [2, 64, 64, 3]);
 * const { logits } = networkGraph({ kind: "localisation", baseWidth: 4 }, p, image, "running");
 * if (logits.shape.join() !== "2,64,64,2") throw new Error(`${logits}`);
 * ```
 */
export function networkGraph(
  config: NetworkConfig,
  p: Parameters,
  image: Tensor,
  statistics: Statistics,
): NetworkGraph {
  const multiple = sideMultiple(config), [, height, width] = image.shape;
  if (height % multiple || width % multiple) {
    throw new Error(`the ${config.kind} network reads sides that are multiples of ${multiple}, not ${height}×${width}`);
  }
  const prefix = networkPrefix(config), layers = new GraphLayers(p, prefix, statistics);
  const logits = scope(prefix, () => describeNetwork(config, layers, image));
  return { logits, effects: layers.effects };
}
