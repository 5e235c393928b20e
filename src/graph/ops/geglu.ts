/**
 * GEGLU (Shazeer 2020, "GLU variants improve transformer"), the gated feed-forward of latent diffusion's transformers, and
 * PReLU (He et al. 2015), a leaky ReLU whose slopes are learned.
 */

import functions from "../../../shaders/functions.wgsl" with { type: "text" };
import source from "../../../shaders/geglu.wgsl" with { type: "text" };
import type { Access } from "../../gpu/device.ts";
import { apply, defineOp, f32, grid, kernel, type Lowering, require, type Value } from "../op.ts";
import { sameShape, type Tensor } from "../tensor.ts";
import { sumTo } from "./reduce.ts";

// Kinds of geglu.wgsl.
const GEGLU = 0, GEGLU_INPUT = 1, PRELU = 2, PRELU_INPUT = 3, PRELU_SLOPE = 4;

const bindings: readonly Access[][] = [
  ["read", "read_write"],
  ["read", "read", "read_write"],
  ["read", "read", "read_write"],
  ["read", "read", "read", "read_write"],
  ["read", "read", "read_write"],
];
const kernels = bindings.map((own) => kernel("geglu", source, own));

/** Emits one invocation per four (or one) of `size` elements in rows of `channels`. */
function launchActivation(
  { launch }: Pick<Lowering, "launch">,
  kind: number,
  buffers: readonly Value[],
  size: number,
  channels: number,
): void {
  const unit = channels % 4 === 0 ? 4 : 1, count = size / unit;
  launch({
    kernel: kernels[kind],
    defines: { KIND: kind, T: unit === 4 ? "vec4f" : "f32", SUFFIX: unit === 4 ? "4" : "", FUNCTIONS: functions },
    buffers,
    uniforms: [count, channels / unit],
    workgroups: grid(count),
    flops: size,
  });
}

const gegluOp = defineOp<null>({
  name: "geglu",
  shape(inputs) {
    const [x] = inputs, width = x.shape.at(-1) ?? 1;
    require(x.dtype === "f32" && width % 2 === 0, "geglu", "needs f32 with an even number of channels", inputs);
    return [f32([...x.shape.slice(0, -1), width / 2])];
  },
  gradient: ({ inputs: [x], grads: [dy] }) => [() => apply(gegluInputOp, [x, dy!], null)[0]],
  lower(lowering) {
    const [y] = lowering.node.outputs;
    launchActivation(lowering, GEGLU, [lowering.inputs[0], lowering.outputs[0]], y.size, y.shape.at(-1)!);
  },
});

const gegluInputOp = defineOp<null>({
  name: "gegluInput",
  shape: ([x]) => [f32(x.shape)],
  lower(lowering) {
    const { node: { inputs: [, dy] }, inputs, outputs } = lowering;
    launchActivation(lowering, GEGLU_INPUT, [...inputs, outputs[0]], dy.size, dy.shape.at(-1)!);
  },
});

/**
 * y = value · gelu(gate) with the exact GELU; value is the first half of x's channels, gate the second.
 * @param x [..., 2C]
 * @returns [..., C]
 * @throws ShapeError where the number of channels is odd
 */
export function geglu(x: Tensor): Tensor {
  return apply(gegluOp, [x], null)[0];
}

/** An op on tensors of one shape [..., C] and maybe a slope [C], of x's shape. */
function preluKind(name: string, kind: number) {
  return defineOp<null>({
    name,
    shape: ([x]) => [f32(x.shape)],
    lower(lowering) {
      const { node: { inputs: [x] }, inputs, outputs } = lowering;
      launchActivation(lowering, kind, [...inputs, outputs[0]], x.size, x.shape.at(-1)!);
    },
  });
}

const preluInputOp = preluKind("preluInput", PRELU_INPUT);
const preluSlopeOp = preluKind("preluSlope", PRELU_SLOPE);

const preluOp = defineOp<null>({
  ...preluKind("prelu", PRELU),
  shape(inputs) {
    const [x, slope] = inputs;
    require(x.dtype === "f32" && slope.dtype === "f32", "prelu", "needs f32", inputs);
    require(sameShape(slope.shape, x.shape.slice(-1)), "prelu", "needs one slope per channel", inputs);
    return [f32(x.shape)];
  },
  gradient: ({ inputs: [x, slope], grads: [dy] }) => [
    () => apply(preluInputOp, [x, slope, dy!], null)[0],
    () => sumTo(apply(preluSlopeOp, [x, dy!], null)[0], slope.shape),
  ],
});

/**
 * x where it is positive, slope · x elsewhere.
 * @param x [..., C]
 * @param slope [C]
 * @returns [..., C]
 * @throws ShapeError where slope has not one number per channel
 */
export function prelu(x: Tensor, slope: Tensor): Tensor {
  return apply(preluOp, [x, slope], null)[0];
}
