/**
 * Linear layers, batched matrix products and 2-D convolution, with their gradients; `gemm_launch.ts` launches them all through
 * one GEMM skeleton.
 */

import { apply, defineOp, f32, require } from "../op.ts";
import { sameShape, type Shape, sizeOf, type Tensor } from "../tensor.ts";
import { launchGemm, launchWeightGradient, type Window } from "./gemm_launch.ts";
import { sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

/** Stride and zero padding of a convolution. */
export interface Conv2dOptions {
  /** [vertical, horizontal], default [1, 1]. */
  readonly stride?: readonly [number, number];
  /** [top, bottom, left, right], default 0. */
  readonly padding?: readonly [number, number, number, number];
}

const linearOp = defineOp<null>({
  name: "linear",
  epilogue: true,
  shape(inputs) {
    const [x, w] = inputs;
    require(x.dtype === "f32" && w.rank === 2, "linear", "needs x [..., K] f32 and w [K, N]", inputs);
    require(x.shape.at(-1) === w.shape[0], "linear", "inner sizes differ", inputs);
    return [f32([...x.shape.slice(0, -1), w.shape[1]])];
  },
  gradient: ({ inputs: [x, w], grads: [dy] }) => [
    () => apply(linearInputOp, [dy!, w], null)[0],
    () => apply(linearWeightOp, [x, dy!], null)[0],
  ],
  lower(lowering) {
    const { node, inputs, outputs, epilogue } = lowering;
    const [x, w] = node.inputs, [inner, cols] = w.shape;
    const rows = x.size / inner;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows,
      cols,
      inner,
      half: w.dtype === "f16",
      epilogue,
    });
  },
});

/** dx [..., K] = dy [..., N] · wᵀ. */
const linearInputOp = defineOp<null>({
  name: "linearInput",
  epilogue: true,
  shape: ([dy, w]) => [f32([...dy.shape.slice(0, -1), w.shape[0]])],
  lower(lowering) {
    const { node, inputs, outputs, epilogue } = lowering;
    const [dy, w] = node.inputs, [cols, inner] = w.shape;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows: dy.size / inner,
      cols,
      inner,
      transposed: true,
      half: w.dtype === "f16",
      epilogue,
    });
  },
});

/** dw [K, N] = Σ over rows of xᵀ · dy. */
const linearWeightOp = defineOp<null>({
  name: "linearWeight",
  shape: ([x, dy]) => [f32([x.shape.at(-1)!, dy.shape.at(-1)!])],
  lower(lowering) {
    const [x, dy] = lowering.node.inputs;
    const inner = x.shape.at(-1)!;
    launchWeightGradient(lowering, {
      a: lowering.inputs[0],
      g: lowering.inputs[1],
      c: lowering.outputs[0],
      inner,
      cols: dy.shape.at(-1)!,
      lines: x.size / inner,
    });
  },
});

/**
 * y = x·w, a linear layer without its bias (add it: the planner fuses the sum into this kernel's write).
 * @param x [..., K], f32
 * @param w [K, N], f32 or f16
 * @returns [..., N]
 */
export function linear(x: Tensor, w: Tensor): Tensor {
  return apply(linearOp, [x, w], null)[0];
}

interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

const matmulOp = defineOp<MatmulOptions>({
  name: "matmul",
  epilogue: true,
  shape(inputs, { transposeA, transposeB }) {
    const [a, b] = inputs;
    const last = (t: Tensor, swap?: boolean) => (swap ? t.shape.slice(-2).reverse() : t.shape.slice(-2));
    const [m, k] = last(a, transposeA), [k2, n] = last(b, transposeB);
    require(a.rank === b.rank && a.rank >= 2, "matmul", "ranks differ", inputs);
    require(sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), "matmul", "batch axes differ", inputs);
    require(k === k2, "matmul", "inner sizes differ", inputs);
    require(!(transposeA && transposeB), "matmul", "transposes one side at most", inputs);
    require(a.dtype === "f32" && b.dtype === "f32", "matmul", "needs f32", inputs);
    return [f32([...a.shape.slice(0, -2), m, n])];
  },
  gradient({ inputs: [a, b], attributes: { transposeA, transposeB }, grads: [dy] }) {
    if (transposeA) return [() => matmul(b, dy!, { transposeB: true }), () => matmul(a, dy!)];
    if (transposeB) return [() => matmul(dy!, b), () => matmul(dy!, a, { transposeA: true })];
    return [() => matmul(dy!, b, { transposeB: true }), () => matmul(a, dy!, { transposeA: true })];
  },
  lower(lowering) {
    const { node, attributes: { transposeA, transposeB }, inputs, outputs, epilogue } = lowering;
    const [a] = node.inputs, [rows, cols] = node.outputs[0].shape.slice(-2);
    const batch = sizeOf(node.outputs[0].shape.slice(0, -2));
    const inner = a.shape.at(transposeA ? -2 : -1)!;
    if (transposeA) {
      if (epilogue.length) throw new Error("matmul: a transposed first factor takes no epilogue");
      const [value, g] = inputs;
      return launchWeightGradient(lowering, { a: value, g, c: outputs[0], inner: rows, cols, lines: inner, batch });
    }
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows,
      cols,
      inner,
      batch,
      transposed: transposeB,
      epilogue,
    });
  },
});

/** As matmul, for a transposed first factor, whose kernel has no epilogue. */
const matmulTransposedOp = defineOp<MatmulOptions>({ ...matmulOp, epilogue: undefined });

/**
 * Batched matrix product a·b over the last two axes.
 * @param a [..., M, K], or [..., K, M] with transposeA
 * @param b [..., K, N], or [..., N, K] with transposeB; not both
 * @returns [..., M, N]
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  return apply(options.transposeA ? matmulTransposedOp : matmulOp, [a, b], options)[0];
}

/** Height and width after a convolution or pooling. */
export function windowedSize([height, width]: Shape, { kh, kw, stride, padding }: Window): [number, number] {
  return [
    Math.floor((height + padding[0] + padding[1] - kh) / stride[0]) + 1,
    Math.floor((width + padding[2] + padding[3] - kw) / stride[1]) + 1,
  ];
}

/** Refuses windows that are not made of whole pixels: kernels take sizes as u32. */
export function checkWindow(op: string, { kh, kw, stride, padding }: Window, inputs: readonly Tensor[]): void {
  const whole = (least: number) => (n: number) => Number.isInteger(n) && n >= least;
  require([kh, kw].every(whole(1)), op, `has no window of ${kh} × ${kw}`, inputs);
  require(stride.every(whole(1)), op, `cannot stride by [${stride}]`, inputs);
  require(padding.every(whole(0)), op, `cannot pad by [${padding}]`, inputs);
}

const conv2dOp = defineOp<Window>({
  name: "conv2d",
  epilogue: true,
  shape(inputs, window) {
    const [x, w] = inputs;
    require(
      x.rank === 4 && w.rank === 4 && x.dtype === "f32",
      "conv2d",
      "needs x [B, H, W, C] and w [kh, kw, C, O]",
      inputs,
    );
    require(x.shape[3] === w.shape[2], "conv2d", "channels differ", inputs);
    checkWindow("conv2d", window, inputs);
    return [f32([x.shape[0], ...windowedSize(x.shape.slice(1, 3), window), w.shape[3]])];
  },
  gradient: ({ inputs: [x, w], attributes: window, grads: [dy] }) => [
    () => apply(conv2dInputOp, [dy!, w], { ...window, target: x.shape })[0],
    () => apply(conv2dWeightOp, [x, dy!], window)[0],
  ],
  lower(lowering) {
    const { node, attributes: window, inputs, outputs, epilogue } = lowering;
    const [x, w] = node.inputs, [, height, width, cols] = node.outputs[0].shape;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows: x.shape[0] * height * width,
      cols,
      inner: x.shape[3],
      half: w.dtype === "f16",
      conv: { ...window, gradient: false, source: [x.shape[1], x.shape[2]], target: [height, width] },
      epilogue,
    });
  },
});

const conv2dInputOp = defineOp<Window & { target: Shape }>({
  name: "conv2dInput",
  epilogue: true,
  shape: (_, { target }) => [f32(target)],
  lower(lowering) {
    const { node, attributes: { target, ...window }, inputs, outputs, epilogue } = lowering;
    const [dy, w] = node.inputs;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows: target[0] * target[1] * target[2],
      cols: target[3],
      inner: dy.shape[3],
      transposed: true,
      half: w.dtype === "f16",
      conv: { ...window, gradient: true, source: [dy.shape[1], dy.shape[2]], target: [target[1], target[2]] },
      epilogue,
    });
  },
});

const conv2dWeightOp = defineOp<Window>({
  name: "conv2dWeight",
  shape: ([x, dy], { kh, kw }) => [f32([kh, kw, x.shape[3], dy.shape[3]])],
  lower(lowering) {
    const { node: { inputs: [x, dy] }, attributes: window, inputs, outputs } = lowering;
    launchWeightGradient(lowering, {
      a: inputs[0],
      g: inputs[1],
      c: outputs[0],
      inner: x.shape[3],
      cols: dy.shape[3],
      lines: dy.shape[0] * dy.shape[1],
      conv: { ...window, images: x.shape[0], source: [x.shape[1], x.shape[2]], target: [dy.shape[1], dy.shape[2]] },
    });
  },
});

/**
 * 2-D convolution (cross-correlation, as PyTorch's) without its bias.
 * @param x [B, H, W, C], f32
 * @param w [kh, kw, C, O], f32 or f16
 * @returns [B, H′, W′, O] with H′ = ⌊(H + top + bottom − kh) / stride⌋ + 1
 */
export function conv2d(x: Tensor, w: Tensor, { stride = [1, 1], padding = [0, 0, 0, 0] }: Conv2dOptions = {}): Tensor {
  const [kh, kw, inner, cols] = w.shape;
  // A 1×1 convolution is a linear layer over pixels.
  if (kh === 1 && kw === 1 && stride[0] === 1 && stride[1] === 1 && padding.every((n) => n === 0)) {
    return linear(x, reshape(w, [inner, cols]));
  }
  return apply(conv2dOp, [x, w], { kh, kw, stride, padding })[0];
}

/** Sum over all axes but the last: the gradient of a bias. */
export function sumRows(x: Tensor): Tensor {
  return sum(x, x.shape.slice(0, -1).map((_, i) => i));
}
