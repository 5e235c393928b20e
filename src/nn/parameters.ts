/**
 * Parameters of a network: variables made from a weight source under PyTorch's names, in the engine's layouts, and written
 * back the same way.
 */

import type { Shape, Tensor } from "../graph/tensor.ts";
import { readVariables, Variable } from "../graph/variable.ts";

/** How a parameter lies in PyTorch and here: as it is, [out, in] → [in, out], or OIHW → HWIO. */
export type Layout = "same" | "linear" | "conv";

/** Where values come from: PyTorch's name, shape and axis order in and out. Floor 3's weight sources fit it. */
export interface ParameterSource {
  /**
   * Values of one parameter, row by row.
   * @throws Error where the source lacks it or has it in another shape
   */
  get(name: string, shape: readonly number[]): Float32Array;
}

/** Converts between PyTorch's axis order and the engine's; given by floor 3, which alone knows PyTorch. */
export interface LayoutRules {
  fromTorch(layout: Layout, data: Float32Array, torchShape: Shape): Float32Array;
  toTorch(layout: Layout, data: Float32Array, torchShape: Shape): Float32Array;
}

/** A parameter as PyTorch stores it. */
export interface Stored {
  /** In the layout of this program, channels last. */
  readonly shape: Shape;
  /** Row by row. */
  readonly data: Float32Array;
}

interface Entry {
  readonly variable: Variable;
  readonly layout: Layout;
  /** Of this block. */
  readonly torchShape: Shape;
  /** The parameter that it is a block of, and its first row in PyTorch's layout. */
  readonly name: string;
  readonly from: number;
}

/** Largest buffer that every WebGPU adapter binds, 128 MiB: a larger matrix is kept in blocks of its outputs. */
export const BLOCK_BYTES = 2 ** 27;

const count = (shape: Shape) => shape.reduce((product, axis) => product * axis, 1);

/** All parameters of one network, made when the network's graph is first built and shared by every later graph. */
export class Parameters implements Disposable {
  readonly #source: ParameterSource;
  readonly #rules: LayoutRules;
  readonly #dtype: "f32" | "f16";
  readonly #blockBytes: number;
  readonly #entries = new Map<string, Entry>();

  /**
   * Parameters that are read when a graph first asks for them.
   * @param dtype storage of matrices and convolutions; vectors are always f32. Trained parameters need f32.
   * @param blockBytes most bytes of one block of a matrix
   */
  constructor(
    source: ParameterSource,
    rules: LayoutRules,
    dtype: "f32" | "f16" = "f32",
    blockBytes: number = BLOCK_BYTES,
  ) {
    this.#source = source;
    this.#rules = rules;
    this.#dtype = dtype;
    this.#blockBytes = blockBytes;
  }

  #entry(name: string, layout: Layout, torchShape: Shape, shape: Shape): Tensor {
    const known = this.#entries.get(name);
    if (known) return known.variable.tensor;
    const values = () => this.#rules.fromTorch(layout, this.#source.get(name, torchShape), torchShape);
    // Pairs of halves need an even row.
    const dtype = layout !== "same" && shape.at(-1)! % 2 === 0 ? this.#dtype : "f32";
    const variable = new Variable(name, shape, values, dtype);
    this.#entries.set(name, { variable, layout, torchShape, name, from: 0 });
    return variable.tensor;
  }

  /** A matrix or kernel in as few blocks of its outputs, PyTorch's first axis, as `blockBytes` allows. */
  #blocks(name: string, layout: Layout, torchShape: Shape, shape: Shape, whole: () => Tensor): Tensor[] {
    const outputs = shape.at(-1)!, dtype = outputs % 2 === 0 ? this.#dtype : "f32";
    const perOutput = count(shape) / outputs * (dtype === "f16" ? 2 : 4);
    if (outputs * perOutput <= this.#blockBytes) return [whole()];
    const most = Math.max(2, 2 * Math.floor(this.#blockBytes / perOutput / 2));
    return Array.from({ length: Math.ceil(outputs / most) }, (_, i) => {
      const from = i * most, width = Math.min(most, outputs - from), key = `${name}[${from}:${from + width}]`;
      const known = this.#entries.get(key);
      if (known) return known.variable.tensor;
      const own = [width, ...torchShape.slice(1)], size = count(torchShape.slice(1));
      const values = () =>
        this.#rules.fromTorch(
          layout,
          this.#source.get(name, torchShape).subarray(from * size, (from + width) * size),
          own,
        );
      const variable = new Variable(key, [...shape.slice(0, -1), width], values, dtype);
      this.#entries.set(key, { variable, layout, torchShape: own, name, from });
      return variable.tensor;
    });
  }

  /** As {@linkcode linear}, in blocks [in, part of out] that follow one another. */
  linearBlocks(name: string, inputs: number, outputs: number, axes = 0): Tensor[] {
    return this.#blocks(
      name,
      "linear",
      [outputs, inputs, ...Array(axes).fill(1)],
      [inputs, outputs],
      () => this.linear(name, inputs, outputs, axes),
    );
  }

  /** As {@linkcode conv}, in blocks [k, k, in, part of out] that follow one another. */
  convBlocks(name: string, kernel: number, inputs: number, outputs: number): Tensor[] {
    return this.#blocks(
      name,
      "conv",
      [outputs, inputs, kernel, kernel],
      [kernel, kernel, inputs, outputs],
      () => this.conv(name, kernel, inputs, outputs),
    );
  }

  /** A tensor of any shape in its own layout: biases, norm scales, embedding tables. */
  tensor(name: string, shape: Shape): Tensor {
    return this.#entry(name, "same", shape, shape);
  }

  /** Weight [in, out] of a linear layer; `axes` trailing axes of size 1 in PyTorch (a 1×1 convolution has 2). */
  linear(name: string, inputs: number, outputs: number, axes = 0): Tensor {
    return this.#entry(name, "linear", [outputs, inputs, ...Array(axes).fill(1)], [inputs, outputs]);
  }

  /** Weight [k, k, in, out] of a convolution. */
  conv(name: string, kernel: number, inputs: number, outputs: number): Tensor {
    return this.#entry(name, "conv", [outputs, inputs, kernel, kernel], [kernel, kernel, inputs, outputs]);
  }

  /** The variables made so far, by name. */
  get variables(): ReadonlyMap<string, Variable> {
    return new Map([...this.#entries].map(([name, { variable }]) => [name, variable]));
  }

  /**
   * Values of the variables made so far, in PyTorch's layout.
   * @param chosen those to read, by name; all where left out
   */
  async store(chosen: (name: string) => boolean = () => true): Promise<Map<string, Stored>> {
    const entries = [...this.#entries].filter(([, { name }]) => chosen(name));
    const values = await readVariables(entries.map(([, { variable }]) => variable));
    const stored = new Map<string, Stored>();
    entries.forEach(([, { name, layout, torchShape }], i) => {
      const data = this.#rules.toTorch(layout, values[i], torchShape), before = stored.get(name);
      if (!before) return stored.set(name, { shape: torchShape, data });
      const all = new Float32Array(before.data.length + data.length);
      all.set(before.data);
      all.set(data, before.data.length);
      stored.set(name, { shape: [before.shape[0] + torchShape[0], ...torchShape.slice(1)], data: all });
    });
    return stored;
  }

  /** Puts values in PyTorch's layout into the variables made so far. */
  restore(stored: ReadonlyMap<string, Stored>): void {
    for (const { name, from, variable, layout, torchShape } of this.#entries.values()) {
      const found = stored.get(name);
      if (!found) throw new Error(`"${name}" is missing from what was stored`);
      const start = from * count(torchShape.slice(1)), own = found.data.subarray(start, start + count(torchShape));
      variable.write(this.#rules.fromTorch(layout, own, torchShape));
    }
  }

  /** Frees the weights. */
  [Symbol.dispose](): void {
    for (const { variable } of this.#entries.values()) variable[Symbol.dispose]();
    this.#entries.clear();
  }
}
