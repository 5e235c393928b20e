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
  get(name: string, shape: readonly number[]): Float32Array;
}

/** Converts between PyTorch's axis order and the engine's; given by floor 3, which alone knows PyTorch. */
export interface LayoutRules {
  fromTorch(layout: Layout, data: Float32Array, torchShape: Shape): Float32Array;
  toTorch(layout: Layout, data: Float32Array, torchShape: Shape): Float32Array;
}

/** A parameter as PyTorch stores it. */
export interface Stored {
  readonly shape: Shape;
  readonly data: Float32Array;
}

interface Entry {
  readonly variable: Variable;
  readonly layout: Layout;
  readonly torchShape: Shape;
}

/** All parameters of one network, made when the network's graph is first built and shared by every later graph. */
export class Parameters implements Disposable {
  readonly #source: ParameterSource;
  readonly #rules: LayoutRules;
  readonly #dtype: "f32" | "f16";
  readonly #entries = new Map<string, Entry>();

  /**
   * @param dtype storage of matrices and convolutions; vectors are always f32. Trained parameters need f32.
   */
  constructor(source: ParameterSource, rules: LayoutRules, dtype: "f32" | "f16" = "f32") {
    this.#source = source;
    this.#rules = rules;
    this.#dtype = dtype;
  }

  #entry(name: string, layout: Layout, torchShape: Shape, shape: Shape): Tensor {
    const known = this.#entries.get(name);
    if (known) return known.variable.tensor;
    const values = () => this.#rules.fromTorch(layout, this.#source.get(name, torchShape), torchShape);
    // Pairs of halves need an even row.
    const dtype = layout !== "same" && shape.at(-1)! % 2 === 0 ? this.#dtype : "f32";
    const variable = new Variable(name, shape, values, dtype);
    this.#entries.set(name, { variable, layout, torchShape });
    return variable.tensor;
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

  /** Values of the variables made so far, in PyTorch's layout. */
  async store(): Promise<Map<string, Stored>> {
    const entries = [...this.#entries];
    const values = await readVariables(entries.map(([, { variable }]) => variable));
    return new Map(entries.map(([name, { layout, torchShape }], i) => [
      name,
      { shape: torchShape, data: this.#rules.toTorch(layout, values[i], torchShape) },
    ]));
  }

  /** Puts values in PyTorch's layout into the variables made so far. */
  restore(stored: ReadonlyMap<string, Stored>): void {
    for (const [name, { variable, layout, torchShape }] of this.#entries) {
      const found = stored.get(name);
      if (!found) throw new Error(`"${name}" is missing from what was stored`);
      variable.write(this.#rules.fromTorch(layout, found.data, torchShape));
    }
  }

  [Symbol.dispose](): void {
    for (const { variable } of this.#entries.values()) variable[Symbol.dispose]();
    this.#entries.clear();
  }
}
