/**
 * Updates of variables: Adam (Kingma & Ba 2015, alg. 1) and AdamW (Loshchilov & Hutter 2019, alg. 2) as PyTorch computes
 * them, assignment, moving averages; and what a training step asks of its gradients: their norm, and whether all are finite.
 *
 * Updates are effects: hand the tensors that they return to `compile`'s `effects`, and build them last, after everything
 * that reads the variable's old value.
 */

import source from "../../../shaders/optimise.wgsl" with { type: "text" };
import totalSource from "../../../shaders/total.wgsl" with { type: "text" };
import { apply, defineOp, f32, grid, kernel, type Op, require } from "../op.ts";
import { sameShape, sizeOf, type Tensor } from "../tensor.ts";
import { filled, type Variable, variableOf } from "../variable.ts";
import { affine, div, minimum, mul } from "./pointwise.ts";

/** KIND of optimise.wgsl. */
enum Update {
  Adam,
  AdamW,
  Assign,
  Ema,
}

const updateKernels = [
  kernel("optimise", source, ["read", "read", "read_write", "read_write", "read_write"]),
  kernel("optimise", source, ["read", "read_write"]),
  kernel("optimise", source, ["read", "read", "read_write"]),
];

/** Variable that a tensor is a view of, through reshapes. */
function viewed(tensor: Tensor): Variable | undefined {
  return tensor.node.op.alias ? viewed(tensor.node.inputs[0]) : variableOf(tensor);
}

/** An update: its inputs are what the kernel binds, the `written` last ones are variables of the first one's shape. */
function update(name: string, kind: Update, kernel: typeof updateKernels[number], written: number): Op<null> {
  return defineOp<null>({
    name,
    effect: true,
    shape(inputs) {
      const [value] = inputs, targets = inputs.slice(-written);
      require(inputs.every((t) => t.dtype === "f32"), name, "needs f32", inputs);
      require(targets.every((t) => sameShape(t.shape, value.shape)), name, "shapes differ", inputs);
      const variables = targets.map(variableOf);
      require(variables.every((v) => v) && new Set(variables).size === written, name, "writes variables only", inputs);
      const read = inputs.slice(0, -written).map(viewed);
      require(!read.some((v) => v && variables.includes(v)), name, "reads the variable that it writes", inputs);
      return [f32([1])];
    },
    lower({ node, inputs, launch }) {
      const count = node.inputs[0].size;
      launch({
        kernel,
        defines: { KIND: kind },
        buffers: inputs,
        uniforms: [count],
        workgroups: grid(Math.ceil(count / 4)),
        flops: (kind < Update.Assign ? 12 : 3) * count,
      });
    },
  });
}

const adamOp = update("adam", Update.Adam, updateKernels[0], 3);
const adamWOp = update("adamW", Update.AdamW, updateKernels[0], 3);
const assignOp = update("assign", Update.Assign, updateKernels[1], 1);
const emaOp = update("ema", Update.Ema, updateKernels[2], 1);

/** What a step of Adam reads and writes. */
export interface AdamStep {
  readonly parameter: Variable;
  /** Gradient of the loss, of the parameter's shape. */
  readonly gradient: Tensor;
  /** First moment, zeros before the first step. */
  readonly m: Variable;
  /** Second moment, zeros before the first step. */
  readonly v: Variable;
  /** An input of shape [8], fed with {@linkcode adamHyper}. */
  readonly hyper: Tensor;
}

function step(op: Op<null>, { parameter, gradient, m, v, hyper }: AdamStep): Tensor {
  require(hyper.size === 8, op.name, "needs hyper [8]", [hyper]);
  return apply(op, [gradient, hyper, parameter.tensor, m.tensor, v.tensor], null)[0];
}

/**
 * One step of Adam; weight decay, where there is any, is added to the gradient.
 * @returns an effect, [1]
 * @throws ShapeError where the shapes of parameter, gradient and moments differ
 * @example
 * ```ts
 * import { mul } from "./pointwise.ts";
 * import { sum } from "./reduce.ts";
 * import { gradient } from "../gradient.ts";
 * import { input, Variable } from "../variable.ts";
 * import { adam, adamHyper } from "./optimise.ts";
 * const parameter = Variable.zeros("w", [3]), m = Variable.zeros("m", [3]), v = Variable.zeros("v", [3]);
 * const loss = sum(mul(parameter.tensor, input("x", [3])));
 * const [slope] = gradient(loss, [parameter.tensor]);
 * const effect = adam({ parameter, gradient: slope, m, v, hyper: input("hyper", [8]) });
 * // compile(gpu, { loss }, [effect]).run({ x, hyper: adamHyper(1, { learningRate: 1e-3 }) })
 * if (effect.size !== 1 || adamHyper(1, { learningRate: 1e-3 }).length !== 8) throw new Error();
 * ```
 */
export function adam(options: AdamStep): Tensor {
  return step(adamOp, options);
}

/** One step of AdamW: weight decay shrinks the parameter by 1 − rate · decay. Otherwise as {@linkcode adam}. */
export function adamW(options: AdamStep): Tensor {
  return step(adamWOp, options);
}

/** Settings of Adam. */
export interface AdamOptions {
  readonly learningRate: number;
  /** Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Default 1e-8. */
  readonly eps?: number;
  /** Default 0; PyTorch's AdamW has 0.01. */
  readonly weightDecay?: number;
}

/**
 * The values of `hyper` for one step: rate, β₁, β₂, ε, decay, 1 − β₁ᵗ, 1 − β₂ᵗ, 1 − β₂.
 * @param step t, counted from 1
 * @throws RangeError where the step is not a whole number from 1 on
 */
export function adamHyper(step: number, options: AdamOptions): Float32Array {
  if (!Number.isInteger(step) || step < 1) throw new RangeError(`adamHyper: steps count from 1, got ${step}`);
  const { learningRate, betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0 } = options;
  return Float32Array.of(
    learningRate,
    beta1,
    beta2,
    eps,
    weightDecay,
    1 - beta1 ** step,
    1 - beta2 ** step,
    1 - beta2,
  );
}

/**
 * Copies a tensor into a variable of its shape.
 * @returns an effect, [1]
 */
export function assign(variable: Variable, value: Tensor): Tensor {
  return apply(assignOp, [value, variable.tensor], null)[0];
}

/**
 * Exponential moving average: variable = decay · variable + (1 − decay) · value.
 * @param decay [1], in [0, 1]
 * @returns an effect, [1]
 */
export function ema(variable: Variable, value: Tensor, decay: Tensor): Tensor {
  require(decay.size === 1, "ema", "needs a decay of one number", [decay]);
  return apply(emaOp, [value, decay, variable.tensor], null)[0];
}

const totalKernel = kernel("total", totalSource, ["read", "read_write"]);

/** Workgroups per tensor: enough to fill a GPU, few enough to add up in one more. */
const PARTS = 64;

function total(name: string, kind: number): Op<null> {
  return defineOp<null>({
    name,
    shape(inputs) {
      require(inputs.length > 0 && inputs.every((t) => t.dtype === "f32"), name, "needs f32 tensors", inputs);
      return [f32([1])];
    },
    lower({ node, inputs, outputs, scratch, launch }) {
      const parts = node.inputs.map((t) => Math.min(PARTS, Math.ceil(sizeOf(t.shape) / 64)));
      const all = parts.reduce((a, b) => a + b, 0), partial = scratch(4 * all);
      let at = 0;
      inputs.forEach((x, i) => {
        const count = node.inputs[i].size;
        launch({
          kernel: totalKernel,
          defines: { KIND: kind, FINAL: 0 },
          buffers: [x, partial],
          uniforms: [count, at],
          workgroups: [parts[i], 1, 1],
          flops: 2 * count,
        });
        at += parts[i];
      });
      launch({
        kernel: totalKernel,
        defines: { KIND: kind, FINAL: 1 },
        buffers: [partial, outputs[0]],
        uniforms: [all, 0],
        workgroups: [1, 1, 1],
      });
    },
  });
}

const normOp = total("globalNorm", 0);
const nonFiniteOp = total("nonFinite", 1);

/** √ of the sum of the squares of every number of every tensor, [1]. */
export function globalNorm(tensors: readonly Tensor[]): Tensor {
  return apply(normOp, tensors, null)[0];
}

/** How many numbers of the tensors are NaN or infinite, [1]: what tells a step that went wrong. */
export function nonFinite(tensors: readonly Tensor[]): Tensor {
  return apply(nonFiniteOp, tensors, null)[0];
}

/** 1 where every number of x is finite, else 0; shape [1]. */
export function isFinite(x: Tensor): Tensor {
  return affine(minimum(nonFinite([x]), filled([1], 1)), -1, 1);
}

/** Each tensor times one factor of shape [1]. */
export function scaleBy(tensors: readonly Tensor[], factor: Tensor): Tensor[] {
  require(factor.size === 1, "scaleBy", "needs a factor of one number", [factor]);
  return tensors.map((t) => mul(t, factor));
}

/** Gradients scaled down so that their {@linkcode globalNorm} is at most `limit` (as PyTorch's clip_grad_norm_). */
export function clipByGlobalNorm(gradients: readonly Tensor[], limit: number): Tensor[] {
  const factor = minimum(div(filled([1], limit), affine(globalNorm(gradients), 1, 1e-6)), filled([1], 1));
  return scaleBy(gradients, factor);
}
