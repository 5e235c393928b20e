/**
 * Planning: from the tensors that are wanted to a list of launches with a place in memory for every value. Runs without a
 * GPU. Dead nodes fall away because only what is reached is visited; chains of pointwise steps after a GEMM are fused into
 * its write, an activation after a norm into the norm's; optimiser steps run as soon as they can; memory is shared by values
 * whose lives do not overlap.
 */

import type { Kernel } from "../gpu/device.ts";
import type { Scalar } from "../gpu/program.ts";
import type { Defines } from "../gpu/template.ts";
import { assignMemory, type Slot } from "./memory.ts";
import type { Alternatives, Epilogue, LaunchSpec, Tunable, Value } from "./op.ts";
import { bytesOf, type Node, sameShape, type Tensor } from "./tensor.ts";

/** A launch before memory is assigned. */
export interface PlannedLaunch {
  readonly label: string;
  readonly kernel: Kernel;
  readonly defines: Defines;
  readonly buffers: readonly Value[];
  readonly uniforms: readonly Scalar[];
  readonly workgroups: readonly [number, number, number];
  readonly flops: number;
  /** Other ways to do it. */
  readonly alternatives?: Alternatives;
}

/**
 * What an adapter can do, and what was measured on it. Decides between kernels only: memory is the same without it, and so
 * are results on one kind of adapter, unless f16 arithmetic is allowed.
 */
export interface Tuning {
  /** Name of a variant by class of launches; what is missing keeps its op's own choice. */
  readonly choices: ReadonlyMap<string, string>;
  /** Workgroup memory of the device: a variant that needs more is not taken. */
  readonly workgroupBytes: number;
  /** Whether the device's subgroups are 8 neighbouring invocations. */
  readonly subgroups: boolean;
  /** Whether it is a graphics card, and not a software adapter. */
  readonly card?: boolean;
  /** Whether products with f16 weights may be computed in f16. */
  readonly f16?: boolean;
}

/** Whether a device can and may run a variant. */
export function runs(
  variant: { workgroupBytes: number; subgroups: boolean; f16?: boolean },
  tuning: Omit<Tuning, "choices">,
): boolean {
  return variant.workgroupBytes <= tuning.workgroupBytes && (tuning.subgroups || !variant.subgroups) &&
    (tuning.f16 || !variant.f16);
}

/** Under what key a table has the choice for a class of launches where f16 arithmetic is allowed. */
export function f16Key(key: string): string {
  return `${key}${IN_F16}`;
}

/** How keys of {@linkcode f16Key} end. */
export const IN_F16 = " in f16";

/** What a device does where no table says otherwise, and between what a table can choose there. */
export function waysOf(own: LaunchSpec, alternatives?: Alternatives, tuning?: Omit<Tuning, "choices">) {
  const card = tuning?.card ? alternatives?.card?.(tuning.workgroupBytes) : undefined;
  if (card) return card;
  const launch = (tuning?.subgroups ? alternatives?.subgroups : undefined) ?? (() => own);
  return { launch, tunable: alternatives?.tunable };
}

/** The variant that a table names, where the device runs it: with f16 allowed what was measured so, else what was without. */
function chosenOf(tunable: Tunable | undefined, tuning: Tuning | undefined) {
  if (!tunable || !tuning) return undefined;
  const { choices } = tuning, measured = tuning.f16 ? choices.get(f16Key(tunable.key)) : undefined;
  const name = measured ?? choices.get(tunable.key);
  return tunable.variants.find((variant) => variant.name === name && runs(variant, tuning));
}

/** How a device does a launch: as its table says, else as a card or with subgroups where it is or has them, else the op's own way. */
export function wayOf(own: LaunchSpec, alternatives: Alternatives | undefined, tuning: Tuning | undefined): LaunchSpec {
  const { launch, tunable } = waysOf(own, alternatives, tuning);
  return (chosenOf(tunable, tuning) ?? { launch }).launch();
}

/** What a graph will do and cost. */
export interface Plan {
  readonly outputs: readonly Tensor[];
  readonly launches: readonly PlannedLaunch[];
  /** Leaf tensors with the values that stand for them. */
  readonly leaves: ReadonlyMap<Tensor, Value>;
  /** Value behind each requested output. */
  readonly results: readonly Value[];
  /** For each temporary value, the slot it lies in. */
  readonly slots: ReadonlyMap<Value, number>;
  /** Buffer and offset of each slot. */
  readonly places: readonly Slot[];
  /** Bytes of the largest value in each slot. */
  readonly slotBytes: readonly number[];
  /** Bytes of each buffer that slots lie in. */
  readonly bufferBytes: readonly number[];
  readonly report: PlanReport;
}

/** Sizes of a plan. */
export interface PlanReport {
  /** Dispatches of one run. */
  readonly launches: number;
  /** Floating-point operations of one run; a multiplication with its addition counts two. */
  readonly flops: number;
  /** Bytes of all buffers for activations and gradients. */
  readonly activationBytes: number;
  /** Largest number of bytes alive at one moment: no assignment can need less. */
  readonly lowerBoundBytes: number;
  /** Bytes of inputs, constants and variables. */
  readonly leafBytes: number;
}

/**
 * Plans the computation of `outputs` and of the effects `effects` (tensors of effect ops, e.g. an optimiser's step).
 * Effects run after everything that was created before them and reads what they overwrite.
 * @param tuning which variants of kernels to take; the ops' own choices where left out
 */
export function plan(outputs: readonly Tensor[], effects: readonly Tensor[] = [], tuning?: Tuning): Plan {
  const order = schedule([...outputs, ...effects].map((t) => t.node));
  const fused = fuse(order, outputs);
  let ids = 0;
  const values = new Map<Tensor, Value>();
  const leaves = new Map<Tensor, Value>();
  const launches: PlannedLaunch[] = [];
  const fresh = (bytes: number): Value => ({ id: ids++, bytes });

  for (const node of order) {
    if (node.op.leaf) {
      const value = fresh(bytesOf(node.outputs[0]));
      values.set(node.outputs[0], value);
      leaves.set(node.outputs[0], value);
    } else if (node.op.alias) {
      values.set(node.outputs[0], values.get(node.inputs[0])!);
    } else if (fused.into.has(node)) {
      continue; // runs at the place of the last step that was fused into it, or of the norm whose activation it is
    } else {
      const chain = fused.chains.get(node), activated = fused.activated.get(node);
      const producer = chain ? chain.producer : node;
      const outputs = node.outputs.map((t) => {
        const value = fresh(bytesOf(t));
        values.set(t, value);
        return value;
      });
      if (activated) values.set(activated.result, outputs[0]);
      const first = launches.length;
      producer.op.lower({
        node: producer,
        attributes: activated ? activated.attributes : producer.attributes,
        inputs: producer.inputs.map((t) => values.get(t)!),
        outputs,
        epilogue: chain ? chain.steps.flatMap((step) => step(values)) : [],
        scratch: fresh,
        launch: (own, alternatives) => {
          const spec = wayOf(own, alternatives, tuning);
          const { kernel, defines = {}, buffers, uniforms = [], workgroups, flops = 0 } = spec;
          if (workgroups.some((n) => n > 65535)) throw new Error(`${producer.label}: ${workgroups} workgroups`);
          launches.push({ label: producer.label, kernel, defines, buffers, uniforms, workgroups, flops, alternatives });
        },
      });
      const flops = producer.op.flops?.(producer.inputs, producer.outputs, producer.attributes) ?? 0;
      const own = launches.slice(first).reduce((sum, l) => sum + l.flops, 0);
      if (flops && !own && launches.length > first) launches[first] = { ...launches[first], flops };
    }
  }

  const results = outputs.map((t) => values.get(t)!);
  const owned = new Set(leaves.values()), ordered = hoistEffects(launches, owned);
  const { lowerBoundBytes, ...placement } = assignMemory(ordered, owned, new Set(results));
  const report: PlanReport = {
    launches: launches.length,
    flops: launches.reduce((sum, l) => sum + l.flops, 0),
    activationBytes: placement.bufferBytes.reduce((a, b) => a + b, 0),
    lowerBoundBytes,
    leafBytes: [...leaves.values()].reduce((sum, v) => sum + v.bytes, 0),
  };
  return { outputs, launches: ordered, leaves, results, ...placement, report };
}

/** Everything that `roots` need, in order of creation. */
function schedule(roots: readonly Node[]): Node[] {
  const seen = new Set<Node>();
  const stack = [...roots];
  while (stack.length) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const t of node.inputs) stack.push(t.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

type Step = (values: ReadonlyMap<Tensor, Value>) => readonly Epilogue[];

interface Chain {
  readonly producer: Node;
  readonly steps: Step[];
}

/** A node whose kernel applies the activation that follows it. */
interface Activated {
  readonly attributes: unknown;
  /** What the activation gives. */
  readonly result: Tensor;
}

/** Longest chain, in sums and in tensors: each costs a binding, and adapters with 8 storage buffers per stage must do. */
const MAX_ADDED = 3, MAX_READ = 5;

/**
 * Finds chains of pointwise nodes whose head is an epilogue op and whose links have one reader each; and where a norm that is in
 * no chain has an activation as its only reader.
 */
function fuse(order: readonly Node[], outputs: readonly Tensor[]) {
  const readers = new Map<Tensor, Node[]>();
  for (const node of order) {
    for (const t of new Set(node.inputs)) {
      const list = readers.get(t);
      if (list) list.push(node);
      else readers.set(t, [node]);
    }
  }
  const wanted = new Set(outputs);
  /** What reads a tensor, where only one node does. */
  const reader = (t: Tensor) => (wanted.has(t) || readers.get(t)?.length !== 1 ? undefined : readers.get(t)![0]);
  const into = new Set<Node>(); // nodes that run in the launch of another one
  const chains = new Map<Node, Chain>(); // by the last node of the chain
  const activated = new Map<Node, Activated>();
  for (const producer of order) {
    if (into.has(producer) || chains.has(producer)) continue;
    const result = producer.outputs[0];
    if (producer.op.withActivation) {
      const next = reader(result), fusion = next?.op.asEpilogue?.(next.inputs, next.attributes);
      if (!next || !fusion || !("expression" in fusion)) continue;
      const attributes = producer.op.withActivation(producer.attributes, fusion.expression);
      if (!attributes) continue;
      into.add(next);
      activated.set(producer, { attributes, result: next.outputs[0] });
    }
    if (!producer.op.epilogue) continue;
    const steps: Step[] = [];
    const links: Node[] = [];
    let added = 0, read = 0;
    let tail = producer;
    while (true) {
      const out = tail.outputs[0], next = reader(out);
      if (!next) break;
      const step = asStep(next, out, result);
      // A sum of two GEMMs goes to the first of them.
      if (chains.has(next) || into.has(next)) break;
      if (!step || (step.read === 1 && added === MAX_ADDED) || read + step.read > MAX_READ) break;
      if (!sameShape(next.outputs[0].shape, result.shape)) break;
      if (step.read === 1) added++;
      read += step.read;
      steps.push(step.make);
      links.push(tail);
      tail = next;
    }
    if (!links.length) continue;
    for (const link of links) into.add(link);
    chains.set(tail, { producer, steps });
  }
  return { into, chains, activated };
}

/** A node as a step after what gives `from`, with the number of tensors that it reads beside. */
function asStep(node: Node, from: Tensor, result: Tensor): { make: Step; read: number } | undefined {
  const fusion = node.op.asEpilogue?.(node.inputs, node.attributes);
  if (!fusion) return undefined;
  if ("norm" in fusion) {
    const { norm: { mean, variance, gamma, beta }, eps, activation } = fusion;
    if ([mean, variance, gamma, beta].includes(from)) return undefined;
    return {
      make: (values) => {
        const of = (t: Tensor) => values.get(t)!;
        const tables = { mean: of(mean), variance: of(variance), gamma: of(gamma), beta: of(beta) };
        const norm = { kind: "norm", tables, eps } as const;
        return activation ? [norm, { kind: "unary", expression: activation }] : [norm];
      },
      read: 4,
    };
  }
  if ("expression" in fusion) {
    const { expression, constant } = fusion;
    return { make: () => [{ kind: "unary", expression, constant }], read: 0 };
  }
  if (node.inputs[0] === node.inputs[1]) return undefined;
  const other = node.inputs[0] === from ? node.inputs[1] : node.inputs[0];
  if (other.dtype !== "f32") return undefined;
  const columns = result.shape.at(-1)!;
  if (sameShape(other.shape, result.shape)) {
    return { make: (values) => [{ kind: "residual", value: values.get(other)! }], read: 1 };
  }
  if (other.shape.at(-1) !== columns) return undefined;
  if (other.size === columns) return { make: (values) => [{ kind: "column", value: values.get(other)! }], read: 1 };
  // [B, 1, …, 1, N] against [B, …, N]
  const leading = other.shape.length === result.shape.length && other.shape[0] === result.shape[0] &&
    other.shape.slice(1, -1).every((n) => n === 1);
  if (!leading) return undefined;
  const rows = result.size / result.shape[0] / columns;
  return { make: (values) => [{ kind: "group", value: values.get(other)!, rows }], read: 1 };
}

/**
 * Moves every launch that writes leaves only (an optimiser's step) to where its inputs are there and nobody needs the old
 * values any more: gradients then die one by one instead of all at the end.
 */
function hoistEffects(launches: readonly PlannedLaunch[], leaves: ReadonlySet<Value>): PlannedLaunch[] {
  const touched = new Map<Value, number>(), written = new Map<Value, number>();
  const keyed = launches.map((launch, i) => {
    const { kernel: { bindings }, buffers } = launch;
    const effect = buffers.every((value, k) => bindings[k] === "read" || leaves.has(value));
    let after = effect ? -1 : i;
    buffers.forEach((value, k) => {
      const before = bindings[k] === "read" ? written : touched;
      after = Math.max(after, before.get(value) ?? -1);
    });
    buffers.forEach((value, k) => {
      touched.set(value, Math.max(touched.get(value) ?? -1, after));
      if (bindings[k] !== "read") written.set(value, Math.max(written.get(value) ?? -1, after));
    });
    return { launch, after };
  });
  return keyed.sort((a, b) => a.after - b.after).map(({ launch }) => launch);
}
