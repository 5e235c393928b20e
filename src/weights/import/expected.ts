/** The tensors that a configuration asks for, found by building its networks' graphs: names and shapes are written once. */

import { input } from "../../graph/variable.ts";
import type { Tensor } from "../../graph/tensor.ts";
import { decode, encode } from "../../models/autoencoder.ts";
import { type OfficialSpatialConfig, officialSpatialEncoder } from "../../models/official_spatial_encoder.ts";
import { textTower, TOKEN_TABLE } from "../../models/text_tower.ts";
import { unet } from "../../models/unet.ts";
import { Parameters } from "../../nn/parameters.ts";
import { downsamplingFactor, type ModelConfig } from "../config.ts";
import { torchLayouts } from "../rules.ts";

/** Names of tensors with their PyTorch shapes. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

/** Notes name and shape of every parameter that a graph asks for; no value is ever made. */
class Recorder extends Parameters {
  readonly shapes = new Map<string, readonly number[]>();

  constructor() {
    const get = () => {
      throw new Error("shapes need no values");
    };
    super({ get }, torchLayouts, "f32", Infinity);
  }

  override tensor(name: string, shape: readonly number[]): Tensor {
    this.shapes.set(name, [...shape]);
    return super.tensor(name, shape);
  }

  override linear(name: string, inputs: number, outputs: number, axes = 0): Tensor {
    this.shapes.set(name, [outputs, inputs, ...Array(axes).fill(1)]);
    return super.linear(name, inputs, outputs, axes);
  }

  override conv(name: string, kernel: number, inputs: number, outputs: number): Tensor {
    this.shapes.set(name, [outputs, inputs, kernel, kernel]);
    return super.conv(name, kernel, inputs, outputs);
  }
}

/**
 * Every tensor of a model folder.
 * @example
 * ```ts
 * import { expectedTensors } from "./expected.ts";
 * import { largeModelConfig } from "../large.ts";
 * const shapes = expectedTensors(largeModelConfig());
 * if (shapes.size !== 1354) throw new Error(`${shapes.size} tensors`); // 1356 less the unused to_logits
 * ```
 */
export function expectedTensors(config: ModelConfig): Shapes {
  const { autoencoder, unet: network, text, resolution } = config, side = resolution / downsamplingFactor(autoencoder);
  using recorder = new Recorder();
  encode(autoencoder, recorder, input("image", [1, resolution, resolution, 3]));
  const z = input("z", [1, side, side, autoencoder.embedDim]);
  decode(autoencoder, recorder, z);
  recorder.shapes.set(TOKEN_TABLE, [text.vocabSize, text.width]);
  const context = textTower(text, recorder, input("words", [1, text.maxLength, text.width]));
  unet(network, recorder, z, input("time", [1, network.modelChannels]), context);
  return recorder.shapes;
}

/** Every tensor of an official spatial encoder. */
export function expectedSpatialTensors(config: OfficialSpatialConfig): Shapes {
  using recorder = new Recorder();
  officialSpatialEncoder(config, recorder, input("mask", [1, config.side, config.side, 1]));
  return recorder.shapes;
}
