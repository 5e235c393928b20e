/** ONNX cases of the element-wise functions and reductions. */
import { map, reshape, uniforms } from "./arrays.ts";
import { type Attribute, float, type OnnxGraph } from "./onnx.ts";
import { define, fill, nchw, nhwc, type OnnxCase } from "./onnx_case.ts";

/** Functions of one and of two arrays, softmax, prelu, sum and mean. */
export function pointwiseCases(): OnnxCase[] {
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
    unary(
      "affine",
      (g, x) => g.node("Add", [g.node("Mul", [x, number(g, -1.5)]), number(g, 0.25)]),
      { scale: -1.5, shift: 0.25 },
    ),
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
    define("globalNorm", "of two", { a: fill([7, 5], "a"), b: fill([300], "b") }, {}, (g, inputs) => {
      const [a, b] = [inputs.a, inputs.b].map((x) => g.node("ReduceSumSquare", [g.input(x)], { keepdims: 0 }));
      return g.node("Sqrt", [g.node("Add", [a, b])]);
    }),
  ];
}
