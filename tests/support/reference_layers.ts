/** The layers of the inspection networks in float64, forward and backward: a network is described once and read a third way. */

import type { InspectionConv, Layers } from "../../src/inspection/models/layers.ts";
import { conv2dBackward, conv2dForward, linearBackward, linearForward } from "../reference/gemm.ts";
import { batchNormBackward, batchNormForward } from "../reference/norms.ts";
import { addForward, leakyReluBackward, leakyReluForward, meanBackward, meanForward } from "../reference/pointwise.ts";
import {
  maxPoolBackward,
  maxPoolForward,
  pixelShuffleBackward,
  pixelShuffleForward,
  pixelUnshuffleBackward,
  pixelUnshuffleForward,
  resizeBilinearBackward,
  resizeBilinearForward,
} from "../reference/resample.ts";
import { concatBackward, concatForward } from "../reference/shape.ts";
import { type NDArray, ndarray } from "./arrays.ts";

/** A value, and where its gradient gathers. */
export interface Node {
  readonly y: NDArray;
  grad?: NDArray;
}

const EPS = 1e-5;

/** Layers that compute at once, with the batch's statistics, and remember how to go back. */
export class ReferenceLayers implements Layers<Node> {
  readonly #tape: (() => void)[] = [];
  /** Parameters by their names. */
  readonly parameters = new Map<string, Node>();
  /** Smallest |x| before a rectifier: how near the values come to where its slope jumps. */
  nearest = Infinity;

  /** @param values of a parameter, in the engine's layout */
  constructor(readonly values: (name: string) => NDArray) {}

  #node(y: NDArray, inputs: readonly Node[], back: (dy: NDArray) => readonly NDArray[]): Node {
    const node: Node = { y };
    this.#tape.push(() => {
      const grads = back(node.grad!);
      for (const [i, one] of inputs.entries()) one.grad = one.grad ? addForward(one.grad, grads[i]) : grads[i];
    });
    return node;
  }

  #parameter(name: string): Node {
    let node = this.parameters.get(name);
    if (!node) this.parameters.set(name, node = { y: this.values(name) });
    return node;
  }

  /** Fills the parameters' gradients, given that of the result. */
  backward(result: Node, dy: NDArray): void {
    result.grad = dy;
    for (const back of this.#tape.toReversed()) back();
  }

  channels(x: Node): number {
    return x.y.shape.at(-1)!;
  }

  conv(name: string, x: Node, _outputs: number, { kernel, stride = 1, bias }: InspectionConv): Node {
    const half = (kernel - 1) / 2, w = this.#parameter(`${name}.weight`);
    const options = { stride: [stride, stride] as const, padding: [half, half, half, half] as const };
    const b = bias ? this.#parameter(`${name}.bias`) : undefined;
    return this.#node(conv2dForward(x.y, w.y, b?.y, options), b ? [x, w, b] : [x, w], (dy) => {
      const grads = conv2dBackward(dy, x.y, w.y, options);
      return [grads.x, grads.w, grads.b];
    });
  }

  norm(name: string, x: Node, activation?: "relu"): Node {
    const gamma = this.#parameter(`${name}.weight`), beta = this.#parameter(`${name}.bias`);
    const { y } = batchNormForward(x.y, gamma.y, beta.y, { eps: EPS });
    const normed = this.#node(y, [x, gamma, beta], (dy) => {
      const grads = batchNormBackward(dy, x.y, gamma.y, { eps: EPS });
      return [grads.x, grads.gamma, grads.beta];
    });
    return activation ? this.relu(normed) : normed;
  }

  perChannel(x: Node, scale: readonly number[], shift: readonly number[]): Node {
    const by = (values: NDArray, of: (v: number, channel: number) => number) => ({
      ...values,
      data: values.data.map((v, i) => of(v, i % scale.length)),
    });
    return this.#node(by(x.y, (v, c) => v * scale[c] + shift[c]), [x], (dy) => [by(dy, (v, c) => v * scale[c])]);
  }

  relu(x: Node): Node {
    this.nearest = x.y.data.reduce((least, v) => Math.min(least, Math.abs(v)), this.nearest);
    return this.#node(leakyReluForward(x.y, 0), [x], (dy) => [leakyReluBackward(dy, x.y, 0)]);
  }

  add(a: Node, b: Node): Node {
    return this.#node(addForward(a.y, b.y), [a, b], (dy) => [dy, dy]);
  }

  concat(a: Node, b: Node): Node {
    return this.#node(concatForward([a.y, b.y], 3), [a, b], (dy) => concatBackward(dy, [a.y, b.y], 3));
  }

  maxPool(x: Node, kernel: number, stride: number, padding: number): Node {
    const options = {
      kernel: [kernel, kernel] as const,
      stride: [stride, stride] as const,
      padding: [padding, padding, padding, padding] as const,
    };
    return this.#node(maxPoolForward(x.y, options), [x], (dy) => [maxPoolBackward(dy, x.y, options)]);
  }

  upsample(x: Node): Node {
    const options = { size: [2 * x.y.shape[1], 2 * x.y.shape[2]] as const, alignCorners: true };
    return this.#node(resizeBilinearForward(x.y, options), [x], (dy) => [resizeBilinearBackward(dy, x.y, options)]);
  }

  intoBlocks(x: Node, r: number): Node {
    return this.#node(pixelUnshuffleForward(x.y, r), [x], (dy) => [pixelUnshuffleBackward(dy, r)]);
  }

  outOfBlocks(x: Node, r: number): Node {
    return this.#node(pixelShuffleForward(x.y, r), [x], (dy) => [pixelShuffleBackward(dy, r)]);
  }

  average(x: Node): Node {
    return this.#node(meanForward(x.y, [1, 2]), [x], (dy) => [meanBackward(dy, x.y, [1, 2])]);
  }

  linear(name: string, x: Node, _outputs: number): Node {
    const w = this.#parameter(`${name}.weight`), b = this.#parameter(`${name}.bias`);
    return this.#node(linearForward(x.y, w.y, b.y), [x, w, b], (dy) => {
      const grads = linearBackward(dy, x.y, w.y);
      return [grads.x, grads.w, grads.b];
    });
  }
}

/** The input of a network. */
export const leaf = (shape: readonly number[], data: ArrayLike<number>): Node => ({ y: ndarray(shape, data) });
