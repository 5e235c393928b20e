/**
 * Where PatchCore's features come from: the base model's own encoder, which has seen no defect of the user's; an inspection
 * network that was trained here; or a network that the user gives as an ONNX file (`../metrics/features.ts`).
 */

import type { BaseModel } from "../../anomaly/base_model.ts";
import type { Image } from "../../data/image.ts";
import { UserError } from "../../errors.ts";
import type { Gpu } from "../../gpu/device.ts";
import { compile, type Compiled } from "../../graph/compile.ts";
import { affine } from "../../graph/ops/pointwise.ts";
import type { Tensor } from "../../graph/tensor.ts";
import { input } from "../../graph/variable.ts";
import { encode } from "../../models/autoencoder.ts";
import type { Parameters } from "../../nn/parameters.ts";
import { downsamplingFactor } from "../../weights/config.ts";
import type { FeatureNetwork } from "../metrics/features.ts";
import { GraphLayers } from "../models/layers.ts";
import { describeNetwork, type NetworkConfig, networkPrefix, sideMultiple } from "../models/network.ts";
import type { FeatureMap } from "./patches.ts";
import { imageBatch, type InspectionSample } from "../training/samples.ts";

/** What features are taken of. */
export type FeatureSample = Pick<InspectionSample, "path" | "pixels">;

/** A network's features, image by image. */
export interface FeatureSource {
  /** For a reader: `small-ldm encoder`. */
  readonly name: string;
  /**
   * Features of every image, the finest layer first.
   * @throws {UserError} where the network cannot take the images
   */
  extract(samples: readonly FeatureSample[]): AsyncGenerator<{ readonly index: number; readonly layers: FeatureMap[] }>;
}

/** Features out of a graph of the engine. Dispose of it to free its buffers. */
export class GraphFeatures implements FeatureSource, Disposable {
  readonly #program: Compiled<Record<string, Tensor>>;
  readonly #shapes: readonly (readonly number[])[];

  /**
   * @param side S of the images
   * @param batch images worked on at once; the results do not depend on it
   * @param build layers of an image [B, S, S, 3] of 0 … 1, each [B, h, w, C], the finest first
   */
  constructor(
    gpu: Gpu,
    readonly name: string,
    readonly side: number,
    readonly batch: number,
    build: (image: Tensor) => readonly Tensor[],
  ) {
    const layers = build(input("image", [batch, side, side, 3]));
    this.#shapes = layers.map(({ shape }) => shape);
    this.#program = compile(gpu, Object.fromEntries(layers.map((layer, i) => [`layer${i}`, layer])));
  }

  async *extract(samples: readonly FeatureSample[]): AsyncGenerator<{ index: number; layers: FeatureMap[] }> {
    const { batch } = this;
    for (let from = 0; from < samples.length; from += batch) {
      const part = samples.slice(from, from + batch);
      const results = await this.#program.run({ image: imageBatch(part, batch) });
      for (let b = 0; b < part.length; b++) {
        const layers = this.#shapes.map(([, height, width, channels], i) => {
          const each = height * width * channels;
          return { height, width, channels, data: results[`layer${i}`].slice(b * each, (b + 1) * each) };
        });
        yield { index: from + b, layers };
      }
    }
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
  }
}

/** Levels of the encoder whose features are used: not the finest, which knows colours only. */
const SKIPPED_LEVELS = 1;

/**
 * Features of a base model's autoencoder: every level of the encoder but the finest.
 * @throws {UserError} where the side does not fit the encoder
 */
export function encoderFeatures(base: BaseModel, side: number, batch = 4): GraphFeatures {
  const { config: { autoencoder, name } } = base, factor = downsamplingFactor(autoencoder);
  if (side % factor) throw new UserError(`--resolution ${side} is no multiple of ${factor}`, `${name} needs one`);
  return new GraphFeatures(base.gpu, `encoder of ${name}`, side, batch, (image) => {
    const levels: Tensor[] = [];
    encode(autoencoder, base.parameters, affine(image, 2, -1), (level) => levels.push(level));
    return levels.slice(Math.min(SKIPPED_LEVELS, levels.length - 1));
  });
}

/** Layers that remember the newest value of every block. */
class TappedLayers extends GraphLayers {
  readonly blocks = new Map<string, Tensor>();
  #block = "";

  override norm(name: string, x: Tensor, activation?: "relu"): Tensor {
    const y = super.norm(name, x, activation), parts = name.split(".");
    this.#block = parts[0] === "encoder_segment" ? parts[1] : parts[0];
    this.blocks.set(this.#block, y);
    return y;
  }

  override relu(x: Tensor): Tensor {
    const y = super.relu(x);
    this.blocks.set(this.#block, y);
    return y;
  }
}

/** Blocks of the networks at an eighth and a sixteenth of the image's side, as the paper takes them of its ResNet. */
function blocksOf(config: NetworkConfig): readonly string[] {
  if (config.kind === "classifier") return ["layer2", "layer3"];
  return config.form === "narrow" ? ["block2", "block3"] : ["block4", "block5"];
}

/**
 * Features of a trained inspection network, with its running statistics.
 * @throws {UserError} where the side does not fit the network
 */
export function networkFeatures(
  gpu: Gpu,
  config: NetworkConfig,
  parameters: Parameters,
  side: number,
  batch = 4,
): GraphFeatures {
  const multiple = sideMultiple(config);
  if (side % multiple) {
    throw new UserError(`--resolution ${side} is no multiple of ${multiple}`, "the network needs one");
  }
  return new GraphFeatures(gpu, `trained ${config.kind} network`, side, batch, (image) => {
    const layers = new TappedLayers(parameters, networkPrefix(config), "running");
    describeNetwork(config, layers, image);
    return blocksOf(config).map((block) => layers.blocks.get(block)!);
  });
}

/** Features of the user's own network. */
export class OnnxFeatures implements FeatureSource {
  readonly name: string;

  /** @param side S of the samples */
  constructor(readonly network: FeatureNetwork, readonly side: number) {
    this.name = `${network.label} (${network.outputs.join(", ")})`;
  }

  async *extract(samples: readonly FeatureSample[]): AsyncGenerator<{ index: number; layers: FeatureMap[] }> {
    for (const [index, { pixels }] of samples.entries()) {
      const image: Image = { width: this.side, height: this.side, channels: 3, data: pixels };
      const layers = await this.network.maps(image);
      yield { index, layers: layers.sort((a, b) => b.height * b.width - a.height * a.width) };
    }
  }
}
