/**
 * Pointwise ops: functions of one tensor, arithmetic of two with broadcasting (NumPy's rule), and the sums that undo a
 * broadcast in the gradient.
 */

import functions from "../../../shaders/functions.wgsl" with { type: "text" };
import source from "../../../shaders/pointwise.wgsl" with { type: "text" };
import { apply, defineOp, f32, float, grid, kernel, type Op, require, ShapeError } from "../op.ts";
import { sameShape, type Shape, type Tensor } from "../tensor.ts";
import { sumTo } from "./reduce.ts";

const kernels = [1, 2, 3].map((n) => kernel("pointwise", source, [...Array(n).fill("read"), "read_write"]));

interface Constants {
  readonly p: number;
  readonly q: number;
}

/** Emits y = EXPRESSION over equal shapes. */
function lowerFlat(expression: string): Op<Constants>["lower"] {
  return ({ node, attributes: { p, q }, inputs, outputs, launch }) => {
    const count = node.outputs[0].size;
    launch({
      kernel: kernels[inputs.length - 1],
      defines: { INPUTS: inputs.length, BROADCAST: 0, EXPRESSION: expression, FUNCTIONS: functions },
      buffers: [...inputs, outputs[0]],
      uniforms: [count, float(p), float(q), 0],
      workgroups: grid(Math.ceil(count / 4)),
      flops: count,
    });
  };
}

/** An op over equal shapes whose gradient is never asked for: the slopes below. */
function flat(name: string, expression: string): Op<Constants> {
  return defineOp<Constants>({
    name,
    shape(inputs) {
      require(
        inputs.every((t) => t.dtype === "f32" && sameShape(t.shape, inputs[0].shape)),
        name,
        "shapes differ",
        inputs,
      );
      return [f32(inputs[0].shape)];
    },
    lower: lowerFlat(expression),
  });
}

/**
 * y = f(x) and dx = dy · f′(x).
 * @param forward WGSL over `a`: x, with constants `s.p`, `s.q`
 * @param slope WGSL over `a` and `b`: gradient of x where b is dy, and a is x (or y where `fromOutput`)
 */
function unary(
  name: string,
  forward: string,
  slope: string,
  options: { fromOutput?: boolean; fuse?: boolean | "with p" } = {},
) {
  const backward = flat(`${name}Backward`, slope);
  const op = defineOp<Constants>({
    name,
    shape(inputs) {
      require(inputs.length === 1 && inputs[0].dtype === "f32", name, "needs one f32 tensor", inputs);
      return [f32(inputs[0].shape)];
    },
    gradient: ({ inputs, outputs, attributes, grads }) => [
      () => apply(backward, [options.fromOutput ? outputs[0] : inputs[0], grads[0]!], attributes)[0],
    ],
    asEpilogue: options.fuse
      ? (_, { p }) => (options.fuse === "with p" ? { expression: name, constant: p } : { expression: name })
      : undefined,
    lower: lowerFlat(forward),
  });
  return (x: Tensor, p = 0, q = 0): Tensor => apply(op, [x], { p, q })[0];
}

const unaryOps = {
  silu: unary("silu", "silu4(a)", "b * siluSlope4(a)", { fuse: true }),
  gelu: unary("gelu", "gelu4(a)", "b * geluSlope4(a)", { fuse: true }),
  relu: unary("relu", "relu4(a)", "select(vec4f(0.0), b, a > vec4f(0.0))", { fuse: true, fromOutput: true }),
  // A slope above 0 keeps the sign: the gradient can look at y.
  leakyRelu: unary("leakyRelu", "leakyRelu4(a, s.p)", "select(s.p * b, b, a > vec4f(0.0))", {
    fuse: "with p",
    fromOutput: true,
  }),
  sigmoid: unary("sigmoid", "sigmoid4(a)", "b * a * (1.0 - a)", { fuse: true, fromOutput: true }),
  // tanh of a large number overflows in some drivers.
  tanh: unary("tanh", "tanh(clamp(a, vec4f(-15.0), vec4f(15.0)))", "b * (1.0 - a * a)", { fromOutput: true }),
  exp: unary("exp", "exp(a)", "b * a", { fromOutput: true }),
  log: unary("log", "log(a)", "b / a"),
  sqrt: unary("sqrt", "sqrt(a)", "0.5 * b / a", { fromOutput: true }),
  rsqrt: unary("rsqrt", "inverseSqrt(a)", "-0.5 * b * a * a * a", { fromOutput: true }),
  square: unary("square", "a * a", "2.0 * a * b"),
  abs: unary("abs", "abs(a)", "b * sign(a)"),
  clamp: unary(
    "clamp",
    "clamp(a, vec4f(s.p), vec4f(s.q))",
    "select(vec4f(0.0), b, a >= vec4f(s.p) & a <= vec4f(s.q))",
  ),
  affine: unary("affine", "s.p * a + s.q", "s.p * b"),
};

/** x · sigmoid(x), any shape. */
export const silu = (x: Tensor): Tensor => unaryOps.silu(x);
/** x · Φ(x) with the exact normal distribution (erf), any shape. */
export const gelu = (x: Tensor): Tensor => unaryOps.gelu(x);
/** max(x, 0), any shape. */
export const relu = (x: Tensor): Tensor => unaryOps.relu(x);
/**
 * x for x > 0, else slope · x.
 * @throws RangeError where the slope is below 0
 */
export const leakyRelu = (x: Tensor, slope = 0.01): Tensor => {
  if (!(slope >= 0)) throw new RangeError(`leakyRelu: a slope of ${slope} would turn signs around`);
  return unaryOps.leakyRelu(x, slope);
};
/** 1 / (1 + e⁻ˣ). */
export const sigmoid = (x: Tensor): Tensor => unaryOps.sigmoid(x);
/** Hyperbolic tangent. */
export const tanh = (x: Tensor): Tensor => unaryOps.tanh(x);
/** eˣ. */
export const exp = (x: Tensor): Tensor => unaryOps.exp(x);
/** Natural logarithm, x > 0. */
export const log = (x: Tensor): Tensor => unaryOps.log(x);
/** Square root, x > 0. */
export const sqrt = (x: Tensor): Tensor => unaryOps.sqrt(x);
/** 1 / √x, x > 0. */
export const rsqrt = (x: Tensor): Tensor => unaryOps.rsqrt(x);
/** x². */
export const square = (x: Tensor): Tensor => unaryOps.square(x);
/** |x|. */
export const abs = (x: Tensor): Tensor => unaryOps.abs(x);
/** x limited to [low, high]; the gradient is 0 outside. */
export const clamp = (x: Tensor, low: number, high: number): Tensor => unaryOps.clamp(x, low, high);
/** scale · x + shift with numbers known when the graph is built. */
export const affine = (x: Tensor, scale: number, shift = 0): Tensor => unaryOps.affine(x, scale, shift);
/** −x. */
export const negate = (x: Tensor): Tensor => affine(x, -1);

/** Shape that two shapes broadcast to, undefined where they do not fit. */
export function broadcastShape(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const result: number[] = [];
  for (let i = 0; i < rank; i++) {
    const n = a[a.length - rank + i] ?? 1, m = b[b.length - rank + i] ?? 1;
    if (n !== m && n !== 1 && m !== 1) return undefined;
    result.push(n === 1 ? m : n);
  }
  return result;
}

/** Output sizes and both inputs' strides over four axes, after neighbouring axes of one kind are merged. */
function strides(out: Shape, a: Shape, b: Shape): { sizes: number[]; a: number[]; b: number[] } | undefined {
  const axes: { size: number; inA: boolean; inB: boolean }[] = [];
  out.forEach((size, i) => {
    if (size === 1) return;
    const inA = (a[a.length - out.length + i] ?? 1) > 1, inB = (b[b.length - out.length + i] ?? 1) > 1;
    const last = axes.at(-1);
    if (last && last.inA === inA && last.inB === inB) last.size *= size;
    else axes.push({ size, inA, inB });
  });
  if (axes.length > 4) return undefined;
  while (axes.length < 4) axes.unshift({ size: 1, inA: false, inB: false });
  const walk = (has: (axis: typeof axes[number]) => boolean) => {
    let stride = 1;
    return axes.toReversed().map((axis) => {
      const own = has(axis) ? stride : 0;
      if (has(axis)) stride *= axis.size;
      return own;
    }).reverse();
  };
  return { sizes: axes.map((x) => x.size), a: walk((x) => x.inA), b: walk((x) => x.inB) };
}

const broadcastKernel = kernel("pointwise", source, ["read", "read", "read_write"]);

function binary(
  name: string,
  expression: string,
  gradients: (a: Tensor, b: Tensor, y: Tensor, dy: Tensor) => [() => Tensor, () => Tensor],
  additive = false,
) {
  const op = defineOp<Constants>({
    name,
    shape(inputs) {
      const shape = broadcastShape(inputs[0].shape, inputs[1].shape);
      require(shape !== undefined, name, "shapes do not broadcast", inputs);
      require(inputs.every((t) => t.dtype === "f32"), name, "needs f32", inputs);
      return [f32(shape)];
    },
    gradient({ inputs: [a, b], outputs, grads }) {
      const [da, db] = gradients(a, b, outputs[0], grads[0]!);
      return [() => sumTo(da(), a.shape), () => sumTo(db(), b.shape)];
    },
    asEpilogue: additive ? () => ({ add: true }) : undefined,
    lower(lowering) {
      const { node, inputs, outputs, launch } = lowering;
      const [a, b] = node.inputs, out = node.outputs[0];
      if (sameShape(a.shape, out.shape) && sameShape(b.shape, out.shape)) return lowerFlat(expression)(lowering);
      const s = strides(out.shape, a.shape, b.shape);
      if (!s) throw new ShapeError(name, "too many alternating broadcast axes", node.inputs);
      launch({
        kernel: broadcastKernel,
        defines: { INPUTS: 2, BROADCAST: 1, EXPRESSION: expression, FUNCTIONS: functions },
        buffers: [...inputs, outputs[0]],
        uniforms: [out.size, float(0), float(0), 0, ...s.sizes.slice(1), 0, ...s.a, ...s.b],
        workgroups: grid(out.size),
        flops: out.size,
      });
    },
  });
  return (a: Tensor, b: Tensor): Tensor => apply(op, [a, b], { p: 0, q: 0 })[0];
}

const largerBackward = flat("maximumBackward", "select(select(vec4f(0.0), c, a > b), 0.5 * c, a == b)");
/** Gradient of `a` where the larger of the two was taken: half of it where they are equal, as in PyTorch. */
const ofLarger = (a: Tensor, b: Tensor, dy: Tensor) =>
  apply(largerBackward, [broadcastTo(a, dy.shape), broadcastTo(b, dy.shape), dy], { p: 0, q: 0 })[0];

const binaryOps = {
  add: binary("add", "a + b", (_a, _b, _y, dy) => [() => dy, () => dy], true),
  sub: binary("sub", "a - b", (_a, _b, _y, dy) => [() => dy, () => negate(dy)]),
  mul: binary("mul", "a * b", (a, b, _y, dy) => [() => mul(dy, b), () => mul(dy, a)]),
  div: binary("div", "a / b", (_a, b, y, dy) => [() => div(dy, b), () => negate(mul(dy, div(y, b)))]),
  maximum: binary(
    "maximum",
    "max(a, b)",
    (a, b, _y, dy) => [() => ofLarger(a, b, dy), () => ofLarger(b, a, dy)],
  ),
  minimum: binary(
    "minimum",
    "min(a, b)",
    (a, b, _y, dy) => [() => ofLarger(b, a, dy), () => ofLarger(a, b, dy)],
  ),
};

/** a + b, broadcast. */
export const add = (a: Tensor, b: Tensor): Tensor => binaryOps.add(a, b);
/** a − b, broadcast. */
export const sub = (a: Tensor, b: Tensor): Tensor => binaryOps.sub(a, b);
/** a · b, broadcast. */
export const mul = (a: Tensor, b: Tensor): Tensor => binaryOps.mul(a, b);
/** a / b, broadcast. */
export const div = (a: Tensor, b: Tensor): Tensor => binaryOps.div(a, b);
/** The larger of a and b, broadcast; of equals each gets half of the gradient. */
export const maximum = (a: Tensor, b: Tensor): Tensor => binaryOps.maximum(a, b);
/** The smaller of a and b, broadcast; of equals each gets half of the gradient. */
export const minimum = (a: Tensor, b: Tensor): Tensor => binaryOps.minimum(a, b);

const broadcastOp = defineOp<{ shape: Shape }>({
  name: "broadcast",
  shape([x], { shape }) {
    const result = broadcastShape(x.shape, shape);
    require(result !== undefined && sameShape(result, shape), "broadcast", `does not fit [${shape}]`, [x]);
    return [f32(shape)];
  },
  gradient: ({ inputs: [x], grads }) => [() => sumTo(grads[0]!, x.shape)],
  lower({ node, inputs, outputs, launch }) {
    const out = node.outputs[0];
    const s = strides(out.shape, node.inputs[0].shape, node.inputs[0].shape);
    if (!s) throw new ShapeError("broadcast", "too many alternating axes", node.inputs);
    launch({
      kernel: broadcastKernel,
      defines: { INPUTS: 2, BROADCAST: 1, EXPRESSION: "a", FUNCTIONS: functions },
      buffers: [inputs[0], inputs[0], outputs[0]],
      uniforms: [out.size, float(0), float(0), 0, ...s.sizes.slice(1), 0, ...s.a, ...s.b],
      workgroups: grid(out.size),
    });
  },
});

/** x repeated along its axes of size 1 to fill `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  return sameShape(x.shape, shape) ? x : apply(broadcastOp, [x], { shape })[0];
}
