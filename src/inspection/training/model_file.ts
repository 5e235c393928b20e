/**
 * A trained inspection network as one safetensors file: parameters under DRAEM's or torchvision's names, and in the metadata
 * everything needed to use it: sizes, labels, how it was selected, and hashes of the images it was trained on.
 */

import { UserError } from "../../errors.ts";
import type { Stored } from "../../nn/parameters.ts";
import { encodeSafetensors, Safetensors, type TensorToWrite } from "../../weights/safetensors.ts";
import type { WeightSource } from "../../weights/source.ts";
import { type NetworkConfig, networkPrefix } from "../models/network.ts";

/** How the weights that are kept were chosen. */
export type Selection = "last" | "test-best";

/** What is known about a trained network besides its weights. */
export interface InspectorInfo {
  readonly config: NetworkConfig;
  /** Side S of the images that it reads. */
  readonly side: number;
  /** Kinds of defect; of a classifier in the order of its classes. */
  readonly labels: readonly string[];
  readonly parts: readonly string[];
  /** `test-best` were chosen on the test set, as the official code does: figures on that set are too good. */
  readonly selection: Selection;
  /** Steps after which the weights were kept. */
  readonly step: number;
  readonly seed: number;
  /** Beginnings of the hashes of all training images. */
  readonly trainedOn: readonly string[];
  /** Whether what made its pairs had learned from image ⌊N/3⌋ of each kind too, a test image, as the official code does. */
  readonly officialSplit?: true;
  /** Whether it had learned from all pairs, every test image included. */
  readonly allPairs?: true;
}

const FORMAT = "anomalydiffusion-inspector";

/** A trained network, read. */
export interface Inspector {
  readonly info: InspectorInfo;
  /** Parameters by their names without the prefix. */
  readonly weights: WeightSource;
}

/** The bytes of a trained network; the same network gives the same bytes. */
export function encodeInspector(
  info: InspectorInfo,
  stored: ReadonlyMap<string, Stored>,
): Uint8Array<ArrayBuffer> {
  const tensors: Record<string, TensorToWrite> = {}, skip = networkPrefix(info.config).length + 1;
  for (const name of [...stored.keys()].sort()) {
    const { shape, data } = stored.get(name)!;
    tensors[name.slice(skip)] = { dtype: "F32", shape, data };
  }
  const { trainedOn, ...rest } = info;
  return encodeSafetensors(tensors, { format: FORMAT, info: JSON.stringify(rest), trainedOn: trainedOn.join(" ") });
}

/** A weight source over a file's tensors, their shapes checked. */
function sourceOf(file: Safetensors): WeightSource {
  return {
    has: (name) => file.has(name),
    get(name, shape) {
      const found = file.info(name).shape;
      if (found.join() !== shape.join()) {
        throw new UserError(`${file.label}: tensor "${name}" is [${found.join(", ")}], not [${shape.join(", ")}]`);
      }
      const values = file.float32(name);
      // Rectifiers turn NaN into 0, so that a broken network would give figures.
      if (!values.every(Number.isFinite)) {
        throw new UserError(`${file.label}: tensor "${name}" holds values that are no numbers`, "train it again");
      }
      return values;
    },
  };
}

/**
 * Reads what {@linkcode encodeInspector} wrote.
 * @throws UserError where the bytes are something else
 */
export function decodeInspector(bytes: Uint8Array, label: string): Inspector {
  const file = Safetensors.parse(bytes, label), { format, info, trainedOn = "" } = file.metadata;
  if (format !== FORMAT) {
    throw new UserError(`${label} is no trained inspection network`, "give a run of inspect train");
  }
  return { info: { ...JSON.parse(info), trainedOn: trainedOn.split(" ").filter(Boolean) }, weights: sourceOf(file) };
}

/** A source under the prefix that the program's names have. */
export function withPrefix(config: NetworkConfig, weights: WeightSource): WeightSource {
  const skip = networkPrefix(config).length + 1;
  return {
    has: (name) => weights.has(name.slice(skip)),
    get: (name, shape) => weights.get(name.slice(skip), shape),
  };
}

/**
 * Weights to start from: DRAEM's or torchvision's state dict as safetensors (ImageNet's ResNet-34, for one). The last layer
 * of a classifier with another number of classes starts at random.
 * @throws UserError where the file holds none of the network's parameters
 */
export function startingWeights(config: NetworkConfig, path: string): WeightSource {
  const file = Safetensors.parse(Deno.readFileSync(path), path), source = sourceOf(file);
  const own = config.kind === "classifier" ? "layer1.0.conv1.weight" : "encoder_segment.block1.0.weight";
  if (!file.has(own)) {
    throw new UserError(`${path} holds no "${own}"`, `give a ${config.kind} network's state dict as safetensors`);
  }
  const fits = (name: string) =>
    config.kind === "localisation" || !name.startsWith("fc.") || file.info(name).shape[0] === config.classes;
  return withPrefix(config, { ...source, has: (name) => file.has(name) && fits(name) });
}
