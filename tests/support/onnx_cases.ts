/**
 * Operations on small awkward shapes, each with an ONNX graph that computes the same thing. `onnxCases` is a table: the
 * references are checked against it, and so is any other implementation that takes the same inputs and options.
 * Inputs and expected results are channels last; the graphs see PyTorch's layouts.
 */
import { integers, map, type NDArray, normals, reshape, uniforms } from "./arrays.ts";
import { permuteForward } from "../reference/shape.ts";
import { type Attribute, float, OnnxGraph } from "./onnx.ts";

/** One operation on given inputs. */
export interface OnnxCase {
  /** name of the operation in `tests/reference/table.ts` */
  op: string;
  /** what is special about this case */
  label: string;
  inputs: Record<string, NDArray>;
  options: Record<string, unknown>;
  /** the result by onnxruntime-web, channels last */
  expected(): Promise<NDArray>;
}

const nchw = (x: NDArray) => permuteForward(x, [0, 3, 1, 2]);
const nhwc = (x: NDArray) => permuteForward(x, [0, 2, 3, 1]);
const oihw = (w: NDArray) => permuteForward(w, [3, 2, 0, 1]);

/** Builds the graph from its inputs and returns the name of the result. */
type Build<T extends string> = (g: OnnxGraph, inputs: Record<T, NDArray>) => string;

/** A case; `after` brings the graph's result into our layout. */
function define<T extends string>(
  op: string,
  label: string,
  inputs: Record<T, NDArray>,
  options: Record<string, unknown>,
  build: Build<T>,
  after: (y: NDArray) => NDArray = (y) => y,
): OnnxCase {
  const expected = async () => {
    const g = new OnnxGraph();
    return after(await g.run(build(g, inputs)));
  };
  return { op, label, inputs, options, expected };
}

const fill = (shape: number[], name: string) => normals(shape, `onnx/${name}`);

function gemmCases(): OnnxCase[] {
  const linear = (shape: number[], N: number) => {
    const K = shape.at(-1)!;
    return define(
      "linear",
      `[${shape}] to ${N}`,
      { x: fill(shape, "x"), w: fill([K, N], "w"), b: fill([N], "b") },
      {},
      (g, { x, w, b }) => g.node("Add", [g.node("MatMul", [g.input(x), g.input(w)]), g.input(b)]),
    );
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
  const conv = (label: string, x: number[], w: number[], stride: number[], padding: number[]) => {
    const [top, bottom, left, right] = padding;
    return define(
      "conv2d",
      label,
      { x: fill(x, "x"), w: fill(w, "w"), b: fill([w[3]], "b") },
      { stride, padding },
      (g, { x, w, b }) =>
        g.node("Conv", [g.input(nchw(x)), g.input(oihw(w)), g.input(b)], {
          strides: stride,
          pads: [top, left, bottom, right],
          kernel_shape: w.shape.slice(0, 2),
        }),
      nhwc,
    );
  };
  return [
    linear([3, 5], 7),
    linear([2, 3, 20], 17),
    ...[false, true].flatMap((a) => [matmul(a, false), matmul(a, true)]),
    conv("3x3 same", [2, 6, 5, 8], [3, 3, 8, 12], [1, 1], [1, 1, 1, 1]),
    conv("1x1", [2, 5, 3, 7], [1, 1, 7, 6], [1, 1], [0, 0, 0, 0]),
    conv("stride 2, padded below and right", [1, 8, 6, 4], [3, 3, 4, 5], [2, 2], [0, 1, 0, 1]),
    conv("7x7 stride 2", [1, 13, 12, 3], [7, 7, 3, 4], [2, 2], [3, 3, 3, 3]),
    conv("uneven kernel, stride and padding", [1, 7, 9, 3], [2, 3, 3, 2], [3, 2], [1, 0, 2, 1]),
  ];
}

function normCases(): OnnxCase[] {
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

function attentionCases(): OnnxCase[] {
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
    attention("crossAttention", "re-weighted logits", 9, 7, { heads: 2, mode: "logits" }),
    attention("crossAttention", "re-weighted probabilities", 9, 7, { heads: 2, mode: "probabilities" }),
  ];
}

function pointwiseCases(): OnnxCase[] {
  const unary = (op: string, build: (g: OnnxGraph, x: string) => string, options = {}, shape = [3, 4, 7]) => {
    const positive = ["log", "sqrt", "rsqrt"].includes(op);
    const x = positive ? uniforms(shape, `onnx/${op}`, 0.2, 4) : map(fill(shape, op), (v) => Math.fround(2 * v));
    return define(op, "", { x }, options, (g, { x }) => build(g, g.input(x)));
  };
  const direct = (op: string, type: string, attributes: Record<string, Attribute> = {}, options = {}) =>
    unary(op, (g, x) => g.node(type, [x], attributes), options);
  const number = (g: OnnxGraph, value: number) => g.input(map(fill([1], "number"), () => value));
  /** x·½(1 + erf(x ∕ √2)), as exporters write GELU below opset 20. */
  const gelu = (g: OnnxGraph, x: string) => {
    const cdf = g.node("Add", [g.node("Erf", [g.node("Mul", [x, number(g, Math.SQRT1_2)])]), number(g, 1)]);
    return g.node("Mul", [x, g.node("Mul", [cdf, number(g, 0.5)])]);
  };
  const binary = (op: string, type: string) =>
    [[[2, 3, 4], [2, 3, 4]], [[2, 3, 4], [4]], [[2, 1, 4], [3, 1]]].map(([a, b]) =>
      define(
        op,
        `[${a}] with [${b}]`,
        { a: fill(a, "a"), b: uniforms(b, "onnx/b", 0.5, 2) },
        {},
        (g, { a, b }) => g.node(type, [g.input(a), g.input(b)]),
      )
    );
  const reduce = (op: string, type: string) =>
    [[[0]], [[1, 2]], [[2], true], [[0, 1, 2]]].map(([axes, keepDims = false]) =>
      define(
        op,
        `axes ${axes}, keepDims ${keepDims}`,
        { x: fill([3, 5, 4], "x") },
        { axes, keepDims },
        (g, { x }) => g.node(type, [g.input(x), g.integers(axes as number[])], { keepdims: keepDims ? 1 : 0 }),
      )
    );
  return [
    unary("silu", (g, x) => g.node("Mul", [x, g.node("Sigmoid", [x])])),
    unary("gelu", gelu),
    unary("rsqrt", (g, x) => g.node("Reciprocal", [g.node("Sqrt", [x])])),
    unary("square", (g, x) => g.node("Mul", [x, x])),
    unary(
      "geglu",
      (g, x) => {
        const part = (from: number, to: number) =>
          g.node("Slice", [x, g.integers([from]), g.integers([to]), g.integers([-1])]);
        return g.node("Mul", [part(0, 5), gelu(g, part(5, 10))]);
      },
      {},
      [3, 10],
    ),
    unary("clamp", (g, x) => {
      const limit = (value: number) => g.input(map(fill([], "limit"), () => value));
      return g.node("Clip", [x, limit(-0.5), limit(1.25)]);
    }, { lo: -0.5, hi: 1.25 }),
    direct("relu", "Relu"),
    direct("leakyRelu", "LeakyRelu", { alpha: float(0.2) }, { slope: 0.2 }),
    direct("sigmoid", "Sigmoid"),
    direct("tanh", "Tanh"),
    direct("exp", "Exp"),
    direct("log", "Log"),
    direct("sqrt", "Sqrt"),
    direct("negate", "Neg"),
    direct("abs", "Abs"),
    direct("erf", "Erf"),
    direct("softmax", "Softmax", { axis: -1 }),
    direct("logSoftmax", "LogSoftmax", { axis: -1 }),
    define(
      "prelu",
      "",
      { x: fill([2, 4, 3, 5], "x"), slope: fill([5], "slope") },
      {},
      (g, { x, slope }) => g.node("PRelu", [g.input(nchw(x)), g.input(reshape(slope, [5, 1, 1]))]),
      nhwc,
    ),
    ...binary("add", "Add"),
    ...binary("sub", "Sub"),
    ...binary("mul", "Mul"),
    ...binary("div", "Div"),
    ...binary("maximum", "Max"),
    ...binary("minimum", "Min"),
    ...reduce("sum", "ReduceSum"),
    ...reduce("mean", "ReduceMean"),
  ];
}

function resampleCases(): OnnxCase[] {
  const resize = (op: string, size: number[], flags: Record<string, boolean>, attributes: Record<string, Attribute>) =>
    define(
      op,
      `to ${size} ${Object.keys(flags)}`.trim(),
      { x: fill([2, 6, 4, 3], "x") },
      { size, ...flags },
      (g, { x }) => g.node("Resize", [g.input(nchw(x)), "", "", g.integers([2, 3, ...size])], attributes),
      nhwc,
    );
  const nearest = (size: number[]) =>
    resize("resizeNearest", size, {}, {
      mode: "nearest",
      coordinate_transformation_mode: "asymmetric",
      nearest_mode: "floor",
    });
  const linear = (size: number[], flags: Record<string, boolean> = {}) =>
    resize("resizeBilinear", size, flags, {
      mode: "linear",
      coordinate_transformation_mode: flags.alignCorners ? "align_corners" : "half_pixel",
      ...(flags.antialias ? { antialias: 1, exclude_outside: 1 } : {}),
    });
  const pool = (op: string, type: string, kernel: number[], stride: number[], padding: number[]) => {
    const [top, bottom, left, right] = padding;
    return define(
      op,
      `${kernel} by ${stride}, padding ${padding}`,
      { x: fill([2, 7, 6, 3], "x") },
      { kernel, stride, padding },
      (g, { x }) =>
        g.node(type, [g.input(nchw(x))], {
          kernel_shape: kernel,
          strides: stride,
          pads: [top, left, bottom, right],
          ...(type === "AveragePool" ? { count_include_pad: 1 } : {}),
        }),
      nhwc,
    );
  };
  const pools = (op: string, type: string) => [
    pool(op, type, [2, 2], [2, 2], [0, 0, 0, 0]),
    pool(op, type, [3, 3], [2, 2], [1, 1, 1, 1]),
    pool(op, type, [3, 2], [1, 3], [0, 1, 1, 0]),
  ];
  return [
    ...[[12, 8], [3, 2], [9, 4]].map(nearest),
    ...[[12, 8], [3, 2], [9, 7], [1, 1]].map((size) => linear(size)),
    ...[[12, 8], [3, 2], [9, 7]].map((size) => linear(size, { alignCorners: true })),
    ...[[3, 2], [2, 3], [9, 7]].map((size) => linear(size, { antialias: true })),
    ...pools("maxPool", "MaxPool"),
    ...pools("averagePool", "AveragePool"),
    define(
      "pixelShuffle",
      "by 2",
      { x: fill([2, 3, 2, 12], "x") },
      { factor: 2 },
      (g, { x }) => g.node("DepthToSpace", [g.input(nchw(x))], { blocksize: 2, mode: "CRD" }),
      nhwc,
    ),
    define("pixelUnshuffle", "by 2", { x: fill([2, 6, 4, 3], "x") }, { factor: 2 }, (g, { x }) => {
      const cells = g.node("Reshape", [g.input(nchw(x)), g.integers([2, 3, 3, 2, 2, 2])]);
      const grouped = g.node("Transpose", [cells], { perm: [0, 1, 3, 5, 2, 4] });
      return g.node("Reshape", [grouped, g.integers([2, 12, 3, 2])]);
    }, nhwc),
  ];
}

function shapeCases(): OnnxCase[] {
  const concat = (a: number[], b: number[], axis: number) =>
    define(
      "concat",
      `[${a}] with [${b}] along ${axis}`,
      { a: fill(a, "a"), b: fill(b, "b") },
      { axis },
      (g, { a, b }) => g.node("Concat", [g.input(a), g.input(b)], { axis }),
    );
  const slice = (starts: number[], ends: number[], steps: number[]) =>
    define(
      "slice",
      `${starts} to ${ends} by ${steps}`,
      { x: fill([4, 5, 6], "x") },
      { starts, ends, steps },
      (g, { x }) =>
        g.node("Slice", [g.input(x), g.integers(starts), g.integers(ends), g.integers([0, 1, 2]), g.integers(steps)]),
    );
  return [
    concat([2, 3, 4], [2, 3, 5], 2),
    concat([2, 3, 4], [2, 1, 4], 1),
    slice([1, 0, 2], [3, 5, 6], [1, 1, 1]),
    slice([0, 1, 0], [4, 5, 6], [2, 3, 1]),
    define(
      "pad",
      "uneven",
      { x: fill([2, 3, 4], "x") },
      { before: [0, 1, 2], after: [1, 0, 3] },
      (g, { x }) => g.node("Pad", [g.input(x), g.integers([0, 1, 2, 1, 0, 3])]),
    ),
    ...[[0, 3, 1, 2], [2, 0, 3, 1]].map((axes) =>
      define(
        "permute",
        `${axes}`,
        { x: fill([2, 3, 4, 5], "x") },
        { axes },
        (g, { x }) => g.node("Transpose", [g.input(x)], { perm: axes }),
      )
    ),
    define(
      "gather",
      "repeated rows",
      { table: fill([6, 5], "table"), ids: integers([2, 4], "onnx/ids", 0, 6) },
      {},
      (g, { table, ids }) => g.node("Gather", [g.input(table), g.integers(ids.data, ids.shape)], { axis: 0 }),
    ),
  ];
}

function lossCases(): OnnxCase[] {
  const meanOf = (g: OnnxGraph, x: string) => g.node("ReduceMean", [x], { keepdims: 0 });
  const pair = { a: fill([2, 3, 4, 5], "a"), b: fill([2, 3, 4, 5], "b") };
  const labels = integers([6], "onnx/labels", 0, 4);
  return [
    define("l1", "", pair, {}, (g, { a, b }) => meanOf(g, g.node("Abs", [g.node("Sub", [g.input(a), g.input(b)])]))),
    define(
      "maskedMse",
      "over all elements",
      { ...pair, mask: integers([2, 3, 4, 1], "onnx/mask", 0, 2) },
      {},
      (g, { a, b, mask }) => {
        const gap = g.node("Mul", [g.node("Sub", [g.input(a), g.input(b)]), g.input(mask)]);
        return meanOf(g, g.node("Mul", [gap, gap]));
      },
    ),
    define("crossEntropy", "", { logits: fill([6, 4], "logits"), labels }, {}, (g, { logits, labels }) => {
      const logs = g.node("LogSoftmax", [g.input(logits)], { axis: -1 });
      const own = g.node("GatherElements", [logs, g.integers(labels.data, [labels.data.length, 1])], { axis: 1 });
      return g.node("Neg", [meanOf(g, own)]);
    }),
  ];
}

/** All cases; building the table runs nothing. */
export const onnxCases: readonly OnnxCase[] = [
  ...gemmCases(),
  ...normCases(),
  ...attentionCases(),
  ...pointwiseCases(),
  ...resampleCases(),
  ...shapeCases(),
  ...lossCases(),
];
