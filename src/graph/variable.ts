/**
 * Leaves of a graph: inputs, which are uploaded for each run, and variables, whose buffers outlive the plan: weights,
 * optimiser state, the latent of a sampler.
 */

import type { Gpu } from "../gpu/device.ts";
import { packHalf, unpackHalf } from "../gpu/half.ts";
import { apply, defineOp } from "./op.ts";
import { bytesOf, type DType, type Shape, sizeOf, type Spec, type Tensor } from "./tensor.ts";

const inputOp = defineOp<{ name: string; spec: Spec }>({
  name: "input",
  leaf: true,
  shape: (_, { spec }) => [spec],
  lower() {},
});

const variableOp = defineOp<{ variable: Variable }>({
  name: "variable",
  leaf: true,
  shape: (_, { variable }) => [variable],
  lower() {},
});

const constantOp = defineOp<{ shape: Shape; values: Float32Array | Uint32Array }>({
  name: "constant",
  leaf: true,
  shape: (_, { shape, values }) => [{ shape, dtype: values instanceof Uint32Array ? "u32" : "f32" }],
  lower() {},
});

/** A tensor whose values are part of the graph; each plan uploads its own copy. */
export function constant(values: Float32Array | Uint32Array, shape: Shape = [values.length]): Tensor {
  if (values.length !== sizeOf(shape)) throw new Error(`constant: ${values.length} values for shape [${shape}]`);
  return apply(constantOp, [], { shape, values })[0];
}

/** A constant with one value everywhere. */
export function filled(shape: Shape, value: number): Tensor {
  return constant(new Float32Array(sizeOf(shape)).fill(value), shape);
}

/** Values of a constant leaf, undefined for any other tensor. */
export function constantValues(tensor: Tensor): Float32Array | Uint32Array | undefined {
  return tensor.node.op === constantOp as unknown
    ? (tensor.node.attributes as { values: Float32Array }).values
    : undefined;
}

/** A tensor whose values come with each run, under `name`. */
export function input(name: string, shape: Shape, dtype: "f32" | "u32" = "f32"): Tensor {
  return apply(inputOp, [], { name, spec: { shape, dtype } })[0];
}

/** Name of an input leaf, undefined for any other tensor. */
export function inputName(tensor: Tensor): string | undefined {
  return tensor.node.op === inputOp as unknown ? (tensor.node.attributes as { name: string }).name : undefined;
}

/** Variable behind a leaf, undefined for any other tensor. */
export function variableOf(tensor: Tensor): Variable | undefined {
  return tensor.node.op === variableOp as unknown
    ? (tensor.node.attributes as { variable: Variable }).variable
    : undefined;
}

/** Values in f32 or u32, as an array or as something that makes it when it is first needed. */
export type Source = Float32Array | Uint32Array | (() => Float32Array | Uint32Array);

/**
 * A tensor with a buffer of its own. Values stay on the host until a plan needs them on a GPU; then the host copy is
 * dropped if it can be made again.
 */
export class Variable implements Spec, Disposable {
  /** The variable as a leaf of graphs. */
  readonly tensor: Tensor;
  #source: Source | undefined;
  #gpu: Gpu | undefined;
  #buffer: GPUBuffer | undefined;

  /** A variable whose first values are read when it first reaches a device. */
  constructor(readonly name: string, readonly shape: Shape, source: Source, readonly dtype: DType = "f32") {
    if (dtype === "f16" && (shape.at(-1) ?? 1) % 2) throw new Error(`${name}: f16 needs an even last axis`);
    if (typeof source !== "function" && source.length !== sizeOf(shape)) {
      throw new Error(`${name}: ${source.length} values for shape [${shape}]`);
    }
    this.#source = source;
    this.tensor = apply(variableOp, [], { variable: this })[0];
  }

  /** A variable of zeros. */
  static zeros(name: string, shape: Shape): Variable {
    return new Variable(name, shape, () => new Float32Array(sizeOf(shape)));
  }

  /** The buffer, uploaded to this device if it is not there yet. */
  on(gpu: Gpu): GPUBuffer {
    if (this.#buffer && this.#gpu === gpu) return this.#buffer;
    if (this.#buffer) throw new Error(`${this.name} lives on another device`);
    const source = this.#source;
    if (!source) throw new Error(`${this.name} was disposed of`);
    this.#gpu = gpu;
    this.#buffer = gpu.acquire(bytesOf(this), this.name);
    this.#upload(typeof source === "function" ? source() : source);
    if (typeof source === "function") this.#source = undefined;
    return this.#buffer;
  }

  #upload(values: Float32Array | Uint32Array): void {
    if (values.length !== sizeOf(this.shape)) {
      throw new Error(`${this.name}: ${values.length} values for shape [${this.shape}]`);
    }
    this.#gpu!.write(this.#buffer!, this.dtype === "f16" ? packHalf(values as Float32Array) : values);
  }

  /** Replaces the values. */
  write(values: Float32Array | Uint32Array): void {
    if (values.length !== sizeOf(this.shape)) {
      throw new Error(`${this.name}: ${values.length} values for shape [${this.shape}]`);
    }
    if (this.#buffer) this.#upload(values);
    if (!this.#buffer || typeof this.#source !== "function") this.#source = values;
  }

  /** The values as they are now. */
  async read(): Promise<Float32Array> {
    return (await readVariables([this]))[0];
  }

  /** Buffer and device, undefined while the values are on the host only. */
  get placed(): { gpu: Gpu; buffer: GPUBuffer } | undefined {
    return this.#buffer && this.#gpu ? { gpu: this.#gpu, buffer: this.#buffer } : undefined;
  }

  /** Values while they are on the host only. */
  get host(): Float32Array | Uint32Array | undefined {
    return typeof this.#source === "function" ? this.#source() : this.#source;
  }

  /** Frees its buffer. */
  [Symbol.dispose](): void {
    if (this.#buffer && this.#gpu) this.#gpu.release(this.#buffer);
    this.#buffer = undefined;
    this.#source = undefined;
  }
}

/** Values of several variables in one round trip. Variables of type u32 cannot be read this way. */
export async function readVariables(variables: readonly Variable[]): Promise<Float32Array[]> {
  const placed = variables.flatMap((v) => (v.placed ? [v] : []));
  const gpu = placed[0]?.placed?.gpu;
  const bytes = gpu ? await gpu.read(placed.map((v) => ({ buffer: v.placed!.buffer, bytes: bytesOf(v) }))) : [];
  const read = new Map(placed.map((v, i) => [v, bytes[i]]));
  return variables.map((v) => {
    const data = read.get(v);
    if (!data) return Float32Array.from(v.host!);
    return v.dtype === "f16" ? unpackHalf(new Uint32Array(data), sizeOf(v.shape)) : new Float32Array(data);
  });
}
