/** The inspection networks' layers as nodes of an ONNX model: PyTorch's layouts, channels first. */

import type { WeightSource } from "../../weights/source.ts";
import type { InspectionConv, Layers } from "../models/layers.ts";
import type { OnnxWriter } from "./writer.ts";

/** A value of the model and its channels. */
export interface OnnxValue {
  readonly name: string;
  readonly channels: number;
}

/** Layers that write themselves and their weights into a model. */
export class OnnxLayers implements Layers<OnnxValue> {
  /** @param weights by names without a prefix */
  constructor(readonly model: OnnxWriter, readonly weights: WeightSource) {}

  #weight(name: string, shape: readonly number[]): string {
    return this.model.floats(name, shape, this.weights.get(name, shape));
  }

  channels(x: OnnxValue): number {
    return x.channels;
  }

  conv(name: string, x: OnnxValue, outputs: number, { kernel, stride = 1, bias }: InspectionConv): OnnxValue {
    const half = (kernel - 1) / 2, weights = [this.#weight(`${name}.weight`, [outputs, x.channels, kernel, kernel])];
    if (bias) weights.push(this.#weight(`${name}.bias`, [outputs]));
    return {
      name: this.model.node("Conv", [x.name, ...weights], {
        kernel_shape: [kernel, kernel],
        strides: [stride, stride],
        pads: [half, half, half, half],
      }, name),
      channels: outputs,
    };
  }

  norm(name: string, x: OnnxValue, activation?: "relu"): OnnxValue {
    const tables = ["weight", "bias", "running_mean", "running_var"].map((part) =>
      this.#weight(`${name}.${part}`, [x.channels])
    );
    const y = this.model.node("BatchNormalization", [x.name, ...tables], { epsilon: { float: 1e-5 } }, name);
    return activation ? this.relu({ ...x, name: y }) : { ...x, name: y };
  }

  perChannel(x: OnnxValue, scale: readonly number[], shift: readonly number[]): OnnxValue {
    const table = (name: string, values: readonly number[]) =>
      this.model.floats(`channels.${name}`, [1, values.length, 1, 1], Float32Array.from(values));
    const scaled = this.model.node("Mul", [x.name, table("scale", scale)]);
    return { ...x, name: this.model.node("Add", [scaled, table("shift", shift)]) };
  }

  relu(x: OnnxValue): OnnxValue {
    return { ...x, name: this.model.node("Relu", [x.name]) };
  }

  add(a: OnnxValue, b: OnnxValue): OnnxValue {
    return { ...a, name: this.model.node("Add", [a.name, b.name]) };
  }

  concat(a: OnnxValue, b: OnnxValue): OnnxValue {
    return { name: this.model.node("Concat", [a.name, b.name], { axis: 1 }), channels: a.channels + b.channels };
  }

  maxPool(x: OnnxValue, kernel: number, stride: number, padding: number): OnnxValue {
    const name = this.model.node("MaxPool", [x.name], {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [padding, padding, padding, padding],
    });
    return { ...x, name };
  }

  upsample(x: OnnxValue): OnnxValue {
    const scales = this.model.floats("upsample.scales", [4], Float32Array.of(1, 1, 2, 2));
    const attributes = { mode: "linear", coordinate_transformation_mode: "align_corners" };
    return { ...x, name: this.model.node("Resize", [x.name, "", scales], attributes) };
  }

  intoBlocks(x: OnnxValue, r: number): OnnxValue {
    // SpaceToDepth has the block's place before the channel; one by one, the channels come out as PyTorch has them.
    const planes = Array.from({ length: x.channels }, (_, c) => {
      const index = this.model.integers(`channel.${c}`, [c]);
      const plane = this.model.node("Gather", [x.name, index], { axis: 1 });
      return this.model.node("SpaceToDepth", [plane], { blocksize: r });
    });
    return { name: this.model.node("Concat", planes, { axis: 1 }), channels: x.channels * r * r };
  }

  outOfBlocks(x: OnnxValue, r: number): OnnxValue {
    const name = this.model.node("DepthToSpace", [x.name], { blocksize: r, mode: "CRD" });
    return { name, channels: x.channels / (r * r) };
  }

  average(x: OnnxValue): OnnxValue {
    return { ...x, name: this.model.node("Flatten", [this.model.node("GlobalAveragePool", [x.name])], { axis: 1 }) };
  }

  linear(name: string, x: OnnxValue, outputs: number): OnnxValue {
    const inputs = [
      x.name,
      this.#weight(`${name}.weight`, [outputs, x.channels]),
      this.#weight(`${name}.bias`, [outputs]),
    ];
    return { name: this.model.node("Gemm", inputs, { transB: 1 }, name), channels: outputs };
  }
}
