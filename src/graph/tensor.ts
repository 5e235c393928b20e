/**
 * Tensors as nodes of a graph. Building a graph runs nothing: a tensor is a shape, a type and the node that will make it.
 */

import type { Op } from "./op.ts";

/** Element type. `f16` is storage only: pairs packed in u32, unpacked in the kernel, arithmetic in f32. */
export type DType = "f32" | "f16" | "u32";

/** Sizes of the axes, outermost first; the last axis is contiguous. */
export type Shape = readonly number[];

/** Shape and type of a tensor that does not exist yet. */
export interface Spec {
  /** Extents, the slowest axis first. */
  readonly shape: Shape;
  /** Type of the elements. */
  readonly dtype: DType;
}

/** Number of elements of a shape. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Bytes of a tensor in storage. */
export function bytesOf({ shape, dtype }: Spec): number {
  return dtype === "f16" ? Math.ceil(sizeOf(shape) / 2) * 4 : sizeOf(shape) * 4;
}

/** True where both shapes have the same axes. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

let nodes = 0;
const scopes: string[] = [];

/**
 * Names everything that `build` adds to the graph: errors, profiles and memory reports then say where in the model it is.
 * @param name one level of the path, e.g. `input_blocks.1.0`
 */
export function scope<T>(name: string, build: () => T): T {
  scopes.push(name);
  try {
    return build();
  } finally {
    scopes.pop();
  }
}

/** One application of an op. */
export class Node {
  /** Order of creation, which is a topological order. */
  readonly id: number = nodes++;
  readonly label: string;
  /** Path of the scopes that it was built in, e.g. `input_blocks.1.0`; empty outside of any. */
  readonly scope: string;
  readonly outputs: readonly Tensor[];

  constructor(
    readonly op: Op<unknown>,
    readonly inputs: readonly Tensor[],
    readonly attributes: unknown,
    specs: readonly Spec[],
  ) {
    this.scope = scopes.join(".");
    this.label = this.scope ? `${this.scope}.${op.name}` : op.name;
    this.outputs = specs.map((spec, i) => new Tensor(this, i, spec.shape, spec.dtype));
  }
}

/** One output of a node. */
export class Tensor implements Spec {
  /** Made by ops; `output` counts the results of its node. */
  constructor(
    /** @internal */ readonly node: Node,
    readonly output: number,
    readonly shape: Shape,
    readonly dtype: DType,
  ) {}

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Type and shape, for messages. */
  toString(): string {
    return `${this.node.label} [${this.shape.join(", ")}] ${this.dtype}`;
  }
}
