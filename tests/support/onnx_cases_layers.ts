/** ONNX cases of the layers with weights and of attention: linear, matmul, conv2d, the norms. */
import { integers, map, type NDArray, reshape, uniforms } from "./arrays.ts";
import { permuteForward } from "../reference/shape.ts";
import { float, type OnnxGraph } from "./onnx.ts";
import { define, fill, fillHalf, nchw, nhwc, oihw, type OnnxCase } from "./onnx_case.ts";

/** linear, matmul, conv2d, in f32 and with f16 weights; and what the planner fuses into them. */
export function gemmCases(): OnnxCase[] {
  const weights = (half: boolean) => half ? { w: fillHalf, how: ", f16 weights", half: ["w"] } : { w: fill, how: "" };
  const linear = (shape: number[], N: number, f16 = false): OnnxCase => {
    const K = shape.at(-1)!, { w, how, half } = weights(f16);
    const item = define(
      "linear",
      `[${shape}] to ${N}${how}`,
      { x: fill(shape, "x"), w: w([K, N], "w"), b: fill([N], "b") },
      {},
      (g, { x, w, b }) => g.node("Add", [g.node("MatMul", [g.input(x), g.input(w)]), g.input(b)]),
    );
    return { ...item, half };
  };
  const matmul = (transposeA: boolean, transposeB: boolean) => {
    const swap = [0, 2, 1];
    return define(
      "matmul",
      `transposeA ${transposeA}, transposeB ${transposeB}`,
      { a: fill(transposeA ? [2, 7, 5] : [2, 5, 7], "a"), b: fill(transposeB ? [2, 9, 7] : [2, 7, 9], "b") },
      { transposeA, transposeB },
      (g, { a, b }) => {
        const ga = g.input(a), gb = g.input(b);
        return g.node("MatMul", [
          transposeA ? g.node("Transpose", [ga], { perm: swap }) : ga,
          transposeB ? g.node("Transpose", [gb], { perm: swap }) : gb,
        ]);
      },
    );
  };
  const convolve = (
    g: OnnxGraph,
    x: NDArray,
    w: NDArray,
    b: NDArray,
    strides: number[],
    [top, bottom, left, right]: number[],
  ) =>
    g.node("Conv", [g.input(nchw(x)), g.input(oihw(w)), g.input(b)], {
      strides,
      pads: [top, left, bottom, right],
      kernel_shape: w.shape.slice(0, 2),
    });
  const conv = (label: string, x: number[], w: number[], stride: number[], padding: number[], f16 = false) => {
    const { w: numbers, how, half } = weights(f16);
    const item = define(
      "conv2d",
      label + how,
      { x: fill(x, "x"), w: numbers(w, "w"), b: fill([w[3]], "b") },
      { stride, padding },
      (g, { x, w, b }) => convolve(g, x, w, b, stride, padding),
      nhwc,
    );
    return { ...item, half };
  };
  /** A convolution with all that the planner takes into its launch. */
  const fused = (C: number, O: number, activation: "silu" | "relu") => {
    const [B, H, W] = [2, 5, 4], padding = [1, 1, 1, 1], stride = [1, 1];
    return define(
      "fused",
      `${C} to ${O} channels with bias, time, residual and ${activation}`,
      {
        x: fill([B, H, W, C], "x"),
        w: fill([3, 3, C, O], "w"),
        b: fill([O], "b"),
        time: fill([B, 1, 1, O], "time"),
        residual: fill([B, H, W, O], "residual"),
      },
      { stride, padding, activation },
      (g, { x, w, b, time, residual }) => {
        const y = [time, residual].reduce(
          (sum, value) => g.node("Add", [sum, g.input(nchw(value))]),
          convolve(g, x, w, b, stride, padding),
        );
        return activation === "silu" ? g.node("Mul", [y, g.node("Sigmoid", [y])]) : g.node("Relu", [y]);
      },
      nhwc,
    );
  };
  const normed = (C: number, O: number) => {
    const shapes = { x: [2, 5, 4, C], w: [3, 3, C, O], b: [O], gamma: [O], beta: [O], mean: [O], variance: [O] };
    const inputs = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [
        name,
        name === "variance" ? uniforms(shape, "onnx/variance", 0.3, 2) : fill(shape, name),
      ]),
    ) as Record<keyof typeof shapes, NDArray>;
    const options = { stride: [1, 1], padding: [1, 1, 1, 1], activation: "relu", eps: 1e-5 };
    return define(
      "fused",
      `${C} to ${O} channels with bias, norm by given statistics and relu`,
      inputs,
      options,
      (g, { x, w, b, ...tables }) => {
        const of = [tables.gamma, tables.beta, tables.mean, tables.variance].map((table) => g.input(table));
        const y = convolve(g, x, w, b, options.stride, options.padding);
        return g.node("Relu", [g.node("BatchNormalization", [y, ...of], { epsilon: float(options.eps) })]);
      },
      nhwc,
    );
  };
  return [
    linear([3, 5], 7),
    linear([2, 3, 20], 17),
    linear([3, 5], 6, true),
    linear([2, 3, 20], 16, true),
    ...[false, true].flatMap((a) => [matmul(a, false), matmul(a, true)]),
    conv("3x3 same", [2, 6, 5, 8], [3, 3, 8, 12], [1, 1], [1, 1, 1, 1]),
    conv("1x1", [2, 5, 3, 7], [1, 1, 7, 6], [1, 1], [0, 0, 0, 0]),
    conv("stride 2, padded below and right", [1, 8, 6, 4], [3, 3, 4, 5], [2, 2], [0, 1, 0, 1]),
    conv("7x7 stride 2", [1, 13, 12, 3], [7, 7, 3, 4], [2, 2], [3, 3, 3, 3]),
    conv("uneven kernel, stride and padding", [1, 7, 9, 3], [2, 3, 3, 2], [3, 2], [1, 0, 2, 1]),
    conv("3x3 same", [2, 6, 5, 8], [3, 3, 8, 12], [1, 1], [1, 1, 1, 1], true),
    conv("uneven kernel, stride and padding", [1, 7, 9, 3], [2, 3, 3, 2], [3, 2], [1, 0, 2, 1], true),
    fused(8, 12, "silu"),
    fused(3, 5, "silu"),
    fused(8, 12, "relu"),
    normed(8, 12),
    normed(3, 5),
  ];
}

/** groupNorm, layerNorm, batchNorm, batchNormInference. */
export function normCases(): OnnxCase[] {
  const affine = (C: number) => ({ gamma: fill([C], "gamma"), beta: fill([C], "beta") });
  /** A channel vector as [C, 1, 1], to broadcast over [B, C, H, W]. */
  const column = (g: OnnxGraph, v: NDArray) => g.input(reshape(v, [v.data.length, 1, 1]));
  const group = (groups: number, activation?: "silu") => {
    const [B, H, W, C] = [2, 4, 3, 12];
    return define(
      "groupNorm",
      `${groups} groups${activation ? " with SiLU" : ""}`,
      { x: fill([B, H, W, C], "x"), ...affine(C) },
      { groups, eps: 1e-5, activation },
      (g, { x, gamma, beta }) => {
        const unit = g.input(map(fill([groups], "unit"), () => 1)),
          zero = g.input(map(fill([groups], "zero"), () => 0));
        const sets = g.input(reshape(nchw(x), [B, groups, C / groups * H * W]));
        const hat = g.node("InstanceNormalization", [sets, unit, zero], { epsilon: float(1e-5) });
        const image = g.node("Reshape", [hat, g.integers([B, C, H, W])]);
        const y = g.node("Add", [g.node("Mul", [image, column(g, gamma)]), column(g, beta)]);
        return activation ? g.node("Mul", [y, g.node("Sigmoid", [y])]) : y;
      },
      nhwc,
    );
  };
  const statistics = { mean: fill([5], "mean"), variance: uniforms([5], "onnx/variance", 0.3, 2) };
  return [
    group(1),
    group(4),
    group(12),
    group(4, "silu"),
    define(
      "layerNorm",
      "20 channels",
      { x: fill([2, 3, 20], "x"), ...affine(20) },
      { eps: 1e-5 },
      (g, { x, gamma, beta }) =>
        g.node("LayerNormalization", [g.input(x), g.input(gamma), g.input(beta)], { axis: -1, epsilon: float(1e-5) }),
    ),
    define(
      "batchNorm",
      "batch statistics",
      { x: fill([3, 4, 2, 5], "x"), ...affine(5) },
      { eps: 1e-5 },
      (g, { x, gamma, beta }) => {
        const axes = g.integers([0, 2, 3]), image = g.input(nchw(x));
        const centred = g.node("Sub", [image, g.node("ReduceMean", [image, axes])]);
        const variance = g.node("ReduceMean", [g.node("Mul", [centred, centred]), axes]);
        const eps = g.input(map(fill([1], "eps"), () => 1e-5));
        const hat = g.node("Div", [centred, g.node("Sqrt", [g.node("Add", [variance, eps])])]);
        return g.node("Add", [g.node("Mul", [hat, column(g, gamma)]), column(g, beta)]);
      },
      nhwc,
    ),
    define(
      "batchNormInference",
      "running statistics",
      { x: fill([2, 4, 3, 5], "x"), ...affine(5), ...statistics },
      { eps: 1e-5 },
      (g, { x, gamma, beta, mean, variance }) =>
        g.node(
          "BatchNormalization",
          [nchw(x), gamma, beta, mean, variance].map((value) => g.input(value)),
          { epsilon: float(1e-5) },
        ),
      nhwc,
    ),
  ];
}

/** attention, by the map of few keys and by tiles of many, and re-weighted crossAttention. */
export function attentionCases(): OnnxCase[] {
  /** [B, T, H·D] → [B, H, T, D]. */
  const split = (x: NDArray, heads: number) =>
    permuteForward(reshape(x, [x.shape[0], x.shape[1], heads, x.shape[2] / heads]), [0, 2, 1, 3]);
  const join = (y: NDArray) => {
    const [B, H, T, D] = y.shape;
    return reshape(permuteForward(y, [0, 2, 1, 3]), [B, T, H * D]);
  };
  const attention = (op: string, label: string, N: number, M: number, options: {
    heads: number;
    scale?: number;
    mode?: "logits" | "probabilities";
  }) => {
    const width = 24, { heads, mode } = options, scale = options.scale ?? 1 / Math.sqrt(width / heads);
    const tokens = { q: fill([2, N, width], "q"), k: fill([2, M, width], "k"), v: fill([2, M, width], "v") };
    const weights = { map: uniforms([2, N], "onnx/map", 1, 1.5), columns: integers([2, M], "onnx/columns", 0, 2) };
    const inputs: Record<string, NDArray> = mode ? { ...tokens, ...weights } : tokens;
    return define(op, label, inputs, options, (g, { q, k, v, map: weight, columns }) => {
      const kT = g.node("Transpose", [g.input(split(k, heads))], { perm: [0, 1, 3, 2] });
      const product = g.node("MatMul", [g.input(split(q, heads)), kT]);
      let s = g.node("Mul", [product, g.input(map(fill([1], "scale"), () => scale))]);
      const times = (value: string) => {
        const gain = g.input(map(reshape(weight, [2, 1, N, 1]), (w) => w - 1));
        const chosen = g.node("Mul", [gain, g.input(reshape(columns, [2, 1, 1, M]))]);
        return g.node("Add", [value, g.node("Mul", [value, chosen])]);
      };
      if (mode === "logits") s = times(s);
      let p = g.node("Softmax", [s], { axis: -1 });
      if (mode === "probabilities") p = times(p);
      return g.node("MatMul", [p, g.input(split(v, heads))]);
    }, join);
  };
  return [
    attention("attention", "3 heads, 9 queries, 9 keys", 9, 9, { heads: 3 }),
    attention("attention", "1 head, given scale", 5, 13, { heads: 1, scale: 0.4 }),
    attention("attention", "3 heads, 9 queries, 256 keys", 9, 256, { heads: 3 }),
    attention("attention", "2 heads, 11 queries, 261 keys", 11, 261, { heads: 2 }),
    attention("attention", "1 head, 261 queries and keys, given scale", 261, 261, { heads: 1, scale: 0.4 }),
    attention("crossAttention", "re-weighted logits", 9, 7, { heads: 2, mode: "logits" }),
    attention("crossAttention", "re-weighted probabilities", 9, 7, { heads: 2, mode: "probabilities" }),
  ];
}
