/** Softmax and log-softmax over the last axis; the gradients keep only the result. */

import source from "../../../shaders/softmax.wgsl" with { type: "text" };
import { apply, defineOp, f32, grid, kernel, type Lowering, require } from "../op.ts";
import type { Tensor } from "../tensor.ts";

const forwardKernel = kernel("softmax", source, ["read", "read_write"]);
const backwardKernel = kernel("softmax", source, ["read", "read", "read_write"]);

/** Rows up to this length are one invocation's work. */
const SHORT_ROW = 16;

function lower({ node, inputs, outputs, launch }: Lowering<null>, kind: number): void {
  const { shape, size } = node.inputs[0], channels = shape.at(-1)!, rows = size / channels;
  const lanes = channels <= SHORT_ROW ? 1 : 16;
  launch({
    kernel: kind < 2 ? forwardKernel : backwardKernel,
    defines: { KIND: kind, LANES: lanes },
    buffers: [...inputs, ...outputs],
    uniforms: [rows, channels],
    workgroups: grid(Math.ceil(rows / (64 / lanes)), 1),
    flops: 5 * size,
  });
}

function rowOp(name: string, kind: 0 | 1) {
  const backward = defineOp<null>({
    name: `${name}Backward`,
    shape: ([y]) => [f32(y.shape)],
    lower: (lowering) => lower(lowering, kind + 2),
  });
  return defineOp<null>({
    name,
    shape(inputs) {
      require(inputs[0].rank > 0 && inputs[0].dtype === "f32", name, "needs x [..., C] f32", inputs);
      return [f32(inputs[0].shape)];
    },
    gradient: ({ outputs: [y], grads: [dy] }) => [() => apply(backward, [y, dy!], null)[0]],
    lower: (lowering) => lower(lowering, kind),
  });
}

const softmaxOp = rowOp("softmax", 0);
const logSoftmaxOp = rowOp("logSoftmax", 1);

/**
 * eˣ / Σ eˣ along the last axis.
 * @param x [..., C], f32, any finite values
 * @returns [..., C]
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { softmax } from "./softmax.ts";
 * const y = softmax(input("scores", [2, 77, 77]));
 * if (y.shape.join() !== "2,77,77") throw new Error(`${y}`);
 * ```
 */
export function softmax(x: Tensor): Tensor {
  return apply(softmaxOp, [x], null)[0];
}

/** x − log Σ eˣ along the last axis; arguments as {@linkcode softmax}. */
export function logSoftmax(x: Tensor): Tensor {
  return apply(logSoftmaxOp, [x], null)[0];
}
