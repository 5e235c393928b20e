/**
 * Reverse-mode differentiation by each op's own rule (Griewank & Walther, "Evaluating Derivatives", ch. 3). Walks only nodes
 * that lie between what is asked for and the loss: a frozen network costs no weight gradients. Blocks named for it keep only
 * their inputs and are computed again on the way back (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
 */

import { add } from "./ops/pointwise.ts";
import { Recomputed } from "./recompute.ts";
import { type Node, sameShape, type Tensor } from "./tensor.ts";
import { filled } from "./variable.ts";

/** Options of {@linkcode gradient}. */
export interface GradientOptions {
  /** Gradient at the loss, of its shape; ones where it is left out. */
  readonly seed?: Tensor;
  /** Scopes whose nodes are computed again for the backward walk instead of being kept. The results are the same numbers. */
  readonly recompute?: ReadonlySet<string>;
}

/**
 * Adds the gradient of `loss` with respect to each of `wrt` to the graph.
 * @param loss a tensor; where it has more than one element, the gradient of the sum weighted by the seed
 * @param wrt tensors that the loss depends on
 * @param options the seed itself, or more
 * @returns one tensor per element of `wrt`, of the same shape
 * @throws Error where the loss does not depend on a tensor, or where an op on the way has no gradient
 */
export function gradient(
  loss: Tensor,
  wrt: readonly Tensor[],
  options: Tensor | GradientOptions = {},
): Tensor[] {
  const given: GradientOptions = "node" in options ? { seed: options } : options;
  const { seed = filled(loss.shape, 1), recompute = new Set() } = given;
  if (!sameShape(loss.shape, seed.shape)) {
    throw new Error(`gradient: seed [${seed.shape}] for a loss of shape [${loss.shape}]`);
  }
  const reaches = nodesThatReach(loss.node, wrt);
  const again = new Recomputed(recompute);
  const grads = new Map<Tensor, Tensor[]>([[loss, [seed]]]);
  const total = (tensor: Tensor): Tensor | undefined => {
    const parts = grads.get(tensor);
    if (!parts) return undefined;
    while (parts.length > 1) parts.push(add(parts.shift()!, parts.shift()!));
    return parts[0];
  };

  const wanted = new Set(wrt);
  for (const node of [...reaches].sort((a, b) => b.id - a.id)) {
    if (node.op.leaf) continue;
    const outputs = node.outputs.map(total);
    if (outputs.every((g) => g === undefined)) continue;
    if (!node.inputs.some((t) => reaches.has(t.node) || wanted.has(t))) continue;
    if (!node.op.gradient) throw new Error(`gradient: ${node.label} has none`);
    const thunks = node.op.gradient({
      inputs: node.inputs.map((t) => again.tensor(t, node)),
      outputs: node.outputs.map((t) => again.tensor(t, node)),
      attributes: node.attributes,
      grads: outputs,
    });
    node.inputs.forEach((tensor, i) => {
      if (!reaches.has(tensor.node) && !wanted.has(tensor)) return;
      const thunk = thunks[i];
      if (!thunk) return;
      const grad = thunk();
      if (!sameShape(grad.shape, tensor.shape)) {
        throw new Error(`gradient of ${node.label}, input ${i}: [${grad.shape}] for [${tensor.shape}]`);
      }
      const parts = grads.get(tensor);
      if (parts) parts.push(grad);
      else grads.set(tensor, [grad]);
    });
  }
  return wrt.map((tensor) => {
    const grad = total(tensor);
    if (!grad) throw new Error(`gradient: the loss does not depend on ${tensor}`);
    return grad;
  });
}

/** Nodes from which the loss is made and that depend on a tensor of `wrt`. */
function nodesThatReach(root: Node, wrt: readonly Tensor[]): Set<Node> {
  const targets = new Set(wrt.map((t) => t.node));
  const known = new Map<Node, boolean>();
  const stack: Node[] = [root];
  while (stack.length) {
    const node = stack[stack.length - 1];
    if (known.has(node)) {
      stack.pop();
      continue;
    }
    const open = node.inputs.filter((t) => !known.has(t.node));
    if (open.length) {
      for (const t of open) stack.push(t.node);
      continue;
    }
    known.set(node, targets.has(node) || node.inputs.some((t) => known.get(t.node)));
    stack.pop();
  }
  return new Set([...known].filter(([, yes]) => yes).map(([node]) => node));
}
