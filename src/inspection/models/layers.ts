/**
 * The layers that the inspection networks are made of, as an interface: a network is described once against it, and the
 * description builds a graph of the engine (here) or an ONNX model (`../onnx/layers.ts`).
 */

import { batchNorm, batchNormInference } from "../../graph/ops/norms.ts";
import { ema } from "../../graph/ops/optimise.ts";
import { add, mul, relu } from "../../graph/ops/pointwise.ts";
import { mean } from "../../graph/ops/reduce.ts";
import { maxPool, pixelShuffle, pixelUnshuffle, resizeBilinear } from "../../graph/ops/resample.ts";
import { concat } from "../../graph/ops/shape.ts";
import type { Tensor } from "../../graph/tensor.ts";
import { constant, filled, variableOf } from "../../graph/variable.ts";
import type { Statistics } from "../../models/official_spatial_encoder.ts";
import { convLayer, linearLayer } from "../../nn/layers.ts";
import type { Parameters } from "../../nn/parameters.ts";

/** Shape of a square convolution; padding is half the kernel. */
export interface InspectionConv {
  readonly kernel: number;
  /** Default 1. */
  readonly stride?: number;
  readonly bias: boolean;
}

/** Layers by their PyTorch names. `T` is an image with channels, whatever the builder stands for it. */
export interface Layers<T> {
  /** How many channels a value has. */
  channels(x: T): number;
  /** Convolution, zero-padded by half its kernel. */
  conv(name: string, x: T, outputs: number, options: InspectionConv): T;
  /** Batch norm with eps 1e-5, then the activation. */
  norm(name: string, x: T, activation?: "relu"): T;
  /** scale · x + shift with fixed numbers for each channel. */
  perChannel(x: T, scale: readonly number[], shift: readonly number[]): T;
  relu(x: T): T;
  add(a: T, b: T): T;
  /** Channels of a, then those of b. */
  concat(a: T, b: T): T;
  maxPool(x: T, kernel: number, stride: number, padding: number): T;
  /** Twice the size, bilinear with aligned corners. */
  upsample(x: T): T;
  /** Blocks of r × r pixels as channels, in the order of PyTorch's `pixel_unshuffle`: channel c·r² + i·r + j. */
  intoBlocks(x: T, r: number): T;
  /** Undoes {@linkcode Layers.intoBlocks}. */
  outOfBlocks(x: T, r: number): T;
  /** Mean over all pixels: [B, C]. */
  average(x: T): T;
  /** Linear layer on [B, C]. */
  linear(name: string, x: T, outputs: number): T;
}

/** How far a batch moves the running statistics (PyTorch's default). */
const MOMENTUM = 0.1;

const EPS = 1e-5;

/** The layers as nodes of the engine's graph, channels last. */
export class GraphLayers implements Layers<Tensor> {
  /** With batch statistics: the running ones take the batch in. To be passed to `compile` as effects. */
  readonly effects: Tensor[] = [];
  readonly #decay = filled([1], 1 - MOMENTUM);

  /**
   * @param p the network's parameters
   * @param prefix of their names, without the dot
   * @param statistics those of the batch in training, the running ones otherwise
   */
  constructor(readonly p: Parameters, readonly prefix: string, readonly statistics: Statistics) {}

  channels(x: Tensor): number {
    return x.shape.at(-1)!;
  }

  conv(name: string, x: Tensor, outputs: number, { kernel, stride = 1, bias }: InspectionConv): Tensor {
    return convLayer(this.p, `${this.prefix}.${name}`, x, outputs, kernel, { stride, bias });
  }

  norm(name: string, x: Tensor, activation?: "relu"): Tensor {
    const table = (part: string) => this.p.tensor(`${this.prefix}.${name}.${part}`, [this.channels(x)]);
    const gamma = table("weight"), beta = table("bias"), mean = table("running_mean"), variance = table("running_var");
    const options = { eps: EPS, activation };
    if (this.statistics === "running") return batchNormInference(x, gamma, beta, mean, variance, options);
    const result = batchNorm(x, gamma, beta, options);
    this.effects.push(
      ema(variableOf(mean)!, result.mean, this.#decay),
      ema(variableOf(variance)!, result.variance, this.#decay),
    );
    return result.y;
  }

  perChannel(x: Tensor, scale: readonly number[], shift: readonly number[]): Tensor {
    return add(mul(x, constant(Float32Array.from(scale))), constant(Float32Array.from(shift)));
  }

  relu(x: Tensor): Tensor {
    return relu(x);
  }

  add(a: Tensor, b: Tensor): Tensor {
    return add(a, b);
  }

  concat(a: Tensor, b: Tensor): Tensor {
    return concat([a, b], 3);
  }

  maxPool(x: Tensor, kernel: number, stride: number, padding: number): Tensor {
    return maxPool(x, {
      kernel: [kernel, kernel],
      stride: [stride, stride],
      padding: [padding, padding, padding, padding],
    });
  }

  upsample(x: Tensor): Tensor {
    return resizeBilinear(x, [2 * x.shape[1], 2 * x.shape[2]], { alignCorners: true });
  }

  intoBlocks(x: Tensor, r: number): Tensor {
    return pixelUnshuffle(x, r);
  }

  outOfBlocks(x: Tensor, r: number): Tensor {
    return pixelShuffle(x, r);
  }

  average(x: Tensor): Tensor {
    return mean(x, [1, 2]);
  }

  linear(name: string, x: Tensor, outputs: number): Tensor {
    return linearLayer(this.p, `${this.prefix}.${name}`, x, outputs);
  }
}
