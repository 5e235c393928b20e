/**
 * An op is one row: its shape rule, its kernels and its gradient. {@linkcode defineOp} makes the row, {@linkcode apply} adds
 * a node of it to the graph.
 */

import type { Access, Kernel } from "../gpu/device.ts";
import type { Scalar } from "../gpu/program.ts";
import type { Defines } from "../gpu/template.ts";
import { Node, type Shape, type Spec, type Tensor } from "./tensor.ts";

/** A buffer in a plan, before it has a place in memory. */
export interface Value {
  readonly id: number;
  readonly bytes: number;
}

/** A step that a kernel of the GEMM family applies to its result before it writes it. */
export type Epilogue =
  /** A function of `shaders/functions.wgsl`, and its constant where it has one. */
  | { readonly kind: "unary"; readonly expression: string; readonly constant?: number }
  /** Adds a tensor of the result's shape. */
  | { readonly kind: "residual"; readonly value: Value }
  /** Adds `value[n]`, one number per column. */
  | { readonly kind: "column"; readonly value: Value }
  /** Adds `value[row / rows][n]`: one row of numbers per `rows` rows, e.g. a time embedding per image. */
  | { readonly kind: "group"; readonly value: Value; readonly rows: number }
  /** Normalises each column by given statistics: (v − mean[n]) ∕ √(variance[n] + eps) · gamma[n] + beta[n]. */
  | { readonly kind: "norm"; readonly tables: Readonly<Record<NormTable, Value>>; readonly eps: number };

/** What a norm by given statistics reads, one number per column each. */
export type NormTable = "mean" | "variance" | "gamma" | "beta";

/** What a node becomes that an epilogue op's kernel takes in. */
export type Fusion =
  /** A function of `shaders/functions.wgsl`, and its constant where it has one. */
  | { readonly expression: string; readonly constant?: number }
  /** A sum of its two inputs. */
  | { readonly add: true }
  /** A norm of its first input by given statistics, and a function of `shaders/functions.wgsl` applied to it. */
  | {
    readonly norm: Readonly<Record<NormTable, Tensor>>;
    readonly eps: number;
    readonly activation?: string;
  };

/** A dispatch as an op emits it. */
export interface LaunchSpec {
  readonly kernel: Kernel;
  readonly defines?: Defines;
  readonly buffers: readonly Value[];
  readonly uniforms?: readonly Scalar[];
  readonly workgroups: readonly [number, number, number];
  readonly flops?: number;
}

/** A launch that can be done in several ways with the same result, or with one that is f16's roundings away. */
export interface Tunable {
  /** Class of shapes that share a choice: the key of a table of choices. */
  readonly key: string;
  /** Every way, with the same buffers. */
  readonly variants: readonly {
    readonly name: string;
    /** Workgroup memory that it needs. */
    readonly workgroupBytes: number;
    /** Whether it needs subgroups of 8 neighbouring invocations. */
    readonly subgroups: boolean;
    /** Whether it computes in f16: its result is a less exact one, for those who allow it. */
    readonly f16?: boolean;
    launch(): LaunchSpec;
  }[];
}

/** Other ways to do a launch, with the same buffers and, on one kind of adapter, the same result. */
export interface Alternatives {
  /** What adapters with subgroups of 8 neighbouring invocations do instead, where no table says otherwise. */
  readonly subgroups?: () => LaunchSpec;
  /** What can be measured and chosen by a table. */
  readonly tunable?: Tunable;
  /**
   * What graphics cards do instead, which need many more invocations than a software adapter: its own way and those that a table
   * can choose, within so much workgroup memory. Sums may be shared out among invocations, with roundings of their own.
   */
  readonly card?: (workgroupBytes: number) => CardWays;
}

/** See {@linkcode Alternatives.card}. */
export interface CardWays {
  /** Where no table says otherwise. */
  launch(): LaunchSpec;
  readonly tunable?: Tunable;
}

/** What an op's `lower` writes its kernel launches into. */
export interface Lowering<A = unknown> {
  readonly node: Node;
  readonly attributes: A;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  /** Steps fused into this node's only output; non-empty only where the op says `epilogue: true`. */
  readonly epilogue: readonly Epilogue[];
  /** A temporary buffer that lives within this node. */
  scratch(bytes: number): Value;
  /** Emits a dispatch. */
  launch(launch: LaunchSpec, alternatives?: Alternatives): void;
}

/** What an op's `gradient` is given. */
export interface GradientContext<A> {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attributes: A;
  /** Gradient of the loss for each output; undefined where nothing depends on that output. */
  readonly grads: readonly (Tensor | undefined)[];
}

/** Makes the gradient of one input when called; only what someone asked for is called. */
export type Thunk = () => Tensor;

/** One row of the table of ops. */
export interface Op<A> {
  readonly name: string;
  /** Checks the inputs and gives the outputs' shapes and types. Throws {@linkcode ShapeError}. */
  shape(inputs: readonly Tensor[], attributes: A): readonly Spec[];
  /** One thunk per input, undefined for inputs without a gradient. */
  gradient?(context: GradientContext<A>): readonly (Thunk | undefined)[];
  /** Emits the launches. */
  lower(lowering: Lowering<A>): void;
  /** Floating-point operations, multiply and add counted apart; for the planner's report. */
  flops?(inputs: readonly Tensor[], outputs: readonly Tensor[], attributes: A): number;
  /** The output is the first input's buffer under another shape. */
  readonly alias?: true;
  /** Leaves have a buffer of their own that outlives the plan or is uploaded per run. */
  readonly leaf?: true;
  /** This op's kernel can apply {@linkcode Epilogue} steps to its single output [..., N]. */
  readonly epilogue?: true;
  /** As a consumer of an epilogue op: what this node becomes there. */
  asEpilogue?(inputs: readonly Tensor[], attributes: A): Fusion | undefined;
  /**
   * As a producer that is no epilogue op: the attributes with which its kernel also applies this function (one without a
   * constant) to its first output; undefined where it cannot.
   */
  withActivation?(attributes: A, expression: string): A | undefined;
  /** Runs for its effect on the variables that it writes; kept by the planner without a reader. */
  readonly effect?: true;
}

/** A call with shapes that do not fit. */
export class ShapeError extends Error {
  constructor(op: string, message: string, inputs: readonly Tensor[]) {
    const shapes = inputs.map((t) => `[${t.shape.join(", ")}] ${t.dtype}`).join(" · ");
    super(`${op}: ${message} (inputs ${shapes})`);
    this.name = "ShapeError";
  }
}

/** Throws {@linkcode ShapeError} unless `condition`. */
export function require(condition: boolean, op: string, message: string, inputs: readonly Tensor[]): asserts condition {
  if (!condition) throw new ShapeError(op, message, inputs);
}

/** Declares an op. */
export function defineOp<A>(op: Op<A>): Op<A> {
  return op;
}

/** Adds a node to the graph and returns its outputs. */
export function apply<A>(op: Op<A>, inputs: readonly Tensor[], attributes: A): readonly Tensor[] {
  const specs = op.shape(inputs, attributes);
  for (const { shape } of specs) {
    require(shape.every((n) => Number.isInteger(n) && n > 0), op.name, `result would have shape [${shape}]`, inputs);
  }
  return new Node(op as Op<unknown>, inputs, attributes, specs).outputs;
}

/** Workgroups of 64 invocations that keep a graphics card busy: two on each of an H100's 132 multiprocessors. */
export const CARD_WORKGROUPS = 264;

/** A kernel: the text of a `.wgsl` file and how it uses the buffers at bindings 1, 2, … */
export function kernel(name: string, source: string, bindings: readonly Access[]): Kernel {
  return { name, source, bindings };
}

/** `f32` spec of a shape. */
export function f32(shape: Shape): Spec {
  return { shape, dtype: "f32" };
}

/** A float among uniforms. */
export function float(value: number): Scalar {
  return { f32: value };
}

const MAX_GROUPS = 65535;

/**
 * Workgroups for `count` invocations in one dimension, folded into two where there are more than 65,535 groups.
 * The kernel's index is `gid.x + gid.y * (num_workgroups.x * SIZE)`; it returns where that is ≥ count.
 */
export function grid(count: number, size = 64): [number, number, number] {
  const groups = Math.max(1, Math.ceil(count / size));
  if (groups <= MAX_GROUPS) return [groups, 1, 1];
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, 1];
}
