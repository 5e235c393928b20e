/**
 * Recomputation: a block (everything built in one scope) keeps only its inputs for the backward walk and is computed again
 * there, the same ops on the same numbers (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). Which blocks
 * are, a budget decides.
 */

import { apply } from "./op.ts";
import { type Plan, plan } from "./plan.ts";
import { bytesOf, type Node, scope, type Tensor } from "./tensor.ts";

/** Copies of the nodes of some scopes, made when the gradient first asks for one. */
export class Recomputed {
  readonly #scopes: ReadonlySet<string>;
  readonly #copies = new Map<Node, readonly Tensor[]>();

  constructor(scopes: ReadonlySet<string>) {
    this.#scopes = scopes;
  }

  /** What stands for `tensor` in the gradient of `reader`: a copy where both are of the same recomputed block. */
  tensor(tensor: Tensor, reader: Node): Tensor {
    const { node } = tensor;
    if (node.scope !== reader.scope || !this.#scopes.has(node.scope) || node.op.leaf || node.op.effect) return tensor;
    let copies = this.#copies.get(node);
    if (!copies) {
      const inputs = node.inputs.map((t) => this.tensor(t, node));
      copies = scope(`again.${node.scope}`, () => apply(node.op, inputs, node.attributes));
      this.#copies.set(node, copies);
    }
    return copies[tensor.output];
  }
}

/** A block that could be computed again. */
export interface Block {
  readonly name: string;
  /** What the backward walk would no longer keep. */
  readonly bytes: number;
  /** What its forward pass costs. */
  readonly flops: number;
}

/** Tensor whose memory a view lies in. */
function rootOf(tensor: Tensor): Tensor {
  return tensor.node.op.alias ? rootOf(tensor.node.inputs[0]) : tensor;
}

function reachable(roots: readonly Tensor[]): Set<Node> {
  const seen = new Set<Node>(), stack = roots.map((t) => t.node);
  while (stack.length) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    for (const t of node.inputs) stack.push(t.node);
  }
  return seen;
}

/**
 * The blocks of a training graph that keep something for the backward walk, the cheapest bytes first.
 * @param loss where the forward pass ends
 * @param roots everything that is computed, gradients included
 */
export function blocksOf(loss: Tensor, roots: readonly Tensor[]): Block[] {
  const forward = reachable([loss]);
  const outside = new Set<Tensor>(), late = new Set<Tensor>();
  for (const node of reachable(roots)) {
    for (const input of node.inputs) {
      const tensor = rootOf(input);
      if (!forward.has(node)) late.add(tensor);
      else if (!node.op.alias && node.scope !== tensor.node.scope) outside.add(tensor);
    }
  }
  const bytes = new Map<string, number>(), flops = new Map<string, number>();
  for (const tensor of late) {
    const { node } = tensor;
    if (!node.scope || node.op.leaf || !forward.has(node) || outside.has(tensor)) continue;
    bytes.set(node.scope, (bytes.get(node.scope) ?? 0) + bytesOf(tensor));
  }
  for (const launch of plan([loss]).launches) {
    const name = launch.label.slice(0, Math.max(0, launch.label.lastIndexOf(".")));
    flops.set(name, (flops.get(name) ?? 0) + launch.flops);
  }
  return [...bytes].map(([name, kept]) => ({ name, bytes: kept, flops: flops.get(name) ?? 0 }))
    .sort((a, b) => a.flops / a.bytes - b.flops / b.bytes);
}

/** A graph of a training step. */
export interface Step {
  readonly outputs?: readonly Tensor[];
  readonly effects: readonly Tensor[];
}

/** A step that was made to fit a budget. */
export interface Fitted<S extends Step> {
  readonly step: S;
  readonly plan: Plan;
  /** Scopes that are computed again. */
  readonly recompute: ReadonlySet<string>;
  /** False where even with everything computed again it does not fit; then this is the smallest. */
  readonly fits: boolean;
}

/**
 * Chooses what to compute again so that activations and gradients fit: nothing where they fit already, else the fewest
 * blocks of the cheapest bytes.
 * @param loss where the forward pass ends, the same in every step that `build` makes
 * @param build adds gradients and effects for the scopes to recompute (see {@linkcode "./gradient.ts".gradient})
 * @param budget bytes for activations and gradients
 * @param bytes what buffers of these sizes cost; their sum where left out
 */
export function fitStep<S extends Step>(
  loss: Tensor,
  build: (recompute: ReadonlySet<string>) => S,
  budget: number,
  bytes: (bufferBytes: readonly number[]) => number = (all) => all.reduce((a, b) => a + b, 0),
): Fitted<S> {
  const attempt = (recompute: ReadonlySet<string>): Fitted<S> => {
    const step = build(recompute), planned = plan(step.outputs ?? [], step.effects);
    return { step, plan: planned, recompute, fits: bytes(planned.bufferBytes) <= budget };
  };
  const plain = attempt(new Set());
  if (plain.fits) return plain;
  const names = blocksOf(loss, [...plain.step.outputs ?? [], ...plain.step.effects]).map(({ name }) => name);
  const first = (count: number) => attempt(new Set(names.slice(0, count)));
  let best = first(names.length), low = 0, high = names.length;
  if (!best.fits) {
    return bytes(best.plan.bufferBytes) < bytes(plain.plan.bufferBytes) ? best : plain;
  }
  while (high - low > 1) { // `low` blocks are too few, `high` are enough
    const middle = (low + high) >> 1, tried = first(middle);
    if (tried.fits) [high, best] = [middle, tried];
    else low = middle;
  }
  return best;
}
