/** ONNX cases of the losses, the diagonal Gaussian and the re-weighting map. */
import { integers, map, type NDArray, ndarray, reshape, uniforms } from "./arrays.ts";
import type { OnnxGraph } from "./onnx.ts";
import { define, fill, nchw, nhwc, type OnnxCase } from "./onnx_case.ts";

const number = (g: OnnxGraph, value: number) => g.input(ndarray([], value));
const meanOf = (g: OnnxGraph, x: string) => g.node("ReduceMean", [x], { keepdims: 0 });
const squared = (g: OnnxGraph, x: string) => g.node("Mul", [x, x]);

/** l1, mse, maskedMse, crossEntropy, focalLoss. */
export function lossCases(): OnnxCase[] {
  const pair = { a: fill([2, 3, 4, 5], "a"), b: fill([2, 3, 4, 5], "b") };
  const mask = integers([2, 3, 4, 1], "onnx/mask", 0, 2), firstEmpty = map(mask, (m, i) => i < 12 ? 0 : m);
  const labels = integers([6], "onnx/labels", 0, 4);
  const gap = (g: OnnxGraph, { a, b }: typeof pair) => g.node("Sub", [g.input(a), g.input(b)]);
  const byArea = (label: string, mask: NDArray) =>
    define("maskedMse", label, { ...pair, mask }, { area: true }, (g, { a, b, mask }) => {
      const m = g.input(mask), axes = g.integers([1, 2, 3]);
      const error = g.node("ReduceSum", [squared(g, g.node("Mul", [gap(g, { a, b }), m])), axes], { keepdims: 0 });
      const area = g.node("Mul", [g.node("ReduceSum", [m, axes], { keepdims: 0 }), number(g, 5)]);
      // An empty mask's error is 0, whatever it is divided by.
      return meanOf(g, g.node("Div", [error, g.node("Max", [area, number(g, 1)])]));
    });
  const focal = (classes: number, gamma: number, smooth: number) =>
    define(
      "focalLoss",
      `${classes} classes, gamma ${gamma}, smooth ${smooth}`,
      { logits: fill([2, 3, classes], "logits"), labels: integers([2, 3], "onnx/labels", 0, classes) },
      { gamma, smooth },
      (g, { logits, labels }) => {
        const ids = g.integers(labels.data, labels.shape), ends = ndarray([2], [smooth / (classes - 1), 1 - smooth]);
        const target = g.node("OneHot", [ids, g.integers([classes]), g.input(ends)]);
        const share = g.node("Mul", [g.node("Softmax", [g.input(logits)], { axis: -1 }), target]);
        const sum = g.node("ReduceSum", [share, g.integers([-1])], { keepdims: 0 });
        const p = g.node("Add", [sum, number(g, smooth)]);
        const power = g.node("Pow", [g.node("Sub", [number(g, 1), p]), number(g, gamma)]);
        return g.node("Neg", [meanOf(g, g.node("Mul", [power, g.node("Log", [p])]))]);
      },
    );
  return [
    define("l1", "", pair, {}, (g, pair) => meanOf(g, g.node("Abs", [gap(g, pair)]))),
    define("mse", "", pair, {}, (g, pair) => meanOf(g, squared(g, gap(g, pair)))),
    define(
      "maskedMse",
      "over all elements",
      { ...pair, mask },
      {},
      (g, { a, b, mask }) => meanOf(g, squared(g, g.node("Mul", [gap(g, { a, b }), g.input(mask)]))),
    ),
    byArea("by area", mask),
    byArea("by area, one mask empty", firstEmpty),
    define("crossEntropy", "", { logits: fill([6, 4], "logits"), labels }, {}, (g, { logits, labels }) => {
      const logs = g.node("LogSoftmax", [g.input(logits)], { axis: -1 });
      const own = g.node("GatherElements", [logs, g.integers(labels.data, [labels.data.length, 1])], { axis: 1 });
      return g.node("Neg", [meanOf(g, own)]);
    }),
    focal(2, 2, 1e-5),
    focal(5, 4, 0.1),
  ];
}

/** klGaussian, sampleGaussian; with some log variances beyond the clamp. */
export function gaussianCases(): OnnxCase[] {
  const plain = fill([3, 2, 5, 8], "moments");
  const wide = map(plain, (v, i) => i % 8 < 4 ? v : i % 11 === 7 ? -31 : i % 13 === 9 ? 21 : v);
  const halves = (g: OnnxGraph, moments: NDArray) => {
    const x = g.input(moments);
    const part = (from: number, to: number) =>
      g.node("Slice", [x, g.integers([from]), g.integers([to]), g.integers([-1])]);
    return { mean: part(0, 4), logvar: g.node("Clip", [part(4, 8), number(g, -30), number(g, 20)]) };
  };
  return [["moderate variances", plain], ["variances beyond the clamp", wide]].flatMap(([label, moments]) => [
    define("klGaussian", label as string, { moments: moments as NDArray }, {}, (g, { moments }) => {
      const { mean, logvar } = halves(g, moments);
      const terms = g.node("Sub", [
        g.node("Add", [squared(g, mean), g.node("Exp", [logvar])]),
        g.node("Add", [logvar, number(g, 1)]),
      ]);
      const sum = g.node("ReduceSum", [terms], { keepdims: 0 });
      return g.node("Mul", [sum, number(g, 0.5 / moments.shape[0])]);
    }),
    define(
      "sampleGaussian",
      label as string,
      { moments: moments as NDArray, noise: fill([3, 2, 5, 4], "noise") },
      {},
      (g, { moments, noise }) => {
        const { mean, logvar } = halves(g, moments);
        const deviation = g.node("Exp", [g.node("Mul", [logvar, number(g, 0.5)])]);
        return g.node("Add", [mean, g.node("Mul", [deviation, g.input(noise)])]);
      },
    ),
  ]);
}

interface Weighting {
  form: "official" | "paper";
  limits?: readonly [number, number];
  temperature?: number;
}

/** Weights [B, P] of distances and a mask [B, P]. */
function weights(g: OnnxGraph, d: string, mask: string, { form, limits, temperature = 1 }: Weighting): string {
  const zero = number(g, 0), one = number(g, 1), axis = g.integers([1]);
  const counts = g.node("And", [g.node("Greater", [d, zero]), g.node("Greater", [mask, zero])]);
  const known = g.node("Where", [counts, d, one]), area = g.node("ReduceSum", [mask, axis]);
  let share: string;
  if (form === "official") {
    const v = g.node("Where", [counts, g.node("Div", [mask, known]), zero]);
    share = g.node("Div", [v, g.node("ReduceSum", [v, axis])]);
  } else {
    const scores = g.node("Reciprocal", [g.node("Mul", [known, number(g, temperature)])]);
    share = g.node("Softmax", [g.node("Where", [counts, scores, number(g, -3e38)])], { axis: -1 });
  }
  const [low, high] = limits ?? (form === "official" ? [1, 1.5] : [0, 3e38]);
  const w = g.node("Where", [counts, g.node("Mul", [area, share]), one]);
  return g.node("Clip", [w, number(g, low), number(g, high)]);
}

/** dilate, distanceWeights, reweightingMap. */
export function reweightingCases(): OnnxCase[] {
  const [B, H, W, C] = [3, 5, 4, 3], one = [B, H, W, 1], flat = [B, H * W];
  // The second image has no mask.
  const mask = map(integers(one, "onnx/mask", 0, 2), (m, i) => i >= 20 && i < 40 ? 0 : m);
  const forms: [string, Weighting][] = [
    ["official", { form: "official" }],
    ["official, wide limits", { form: "official", limits: [0, 1000] }],
    ["paper", { form: "paper" }],
    ["paper, temperature 30, limits", { form: "paper", temperature: 30, limits: [0.5, 2] }],
  ];
  const dilate = (half: number) =>
    define("dilate", `by ${half}`, { mask: map(uniforms(one, "onnx/dilate"), (u) => u < 0.1 ? u : 0) }, { half }, (
      g,
      { mask },
    ) =>
      g.node("MaxPool", [g.input(nchw(mask))], {
        kernel_shape: [2 * half + 1, 2 * half + 1],
        pads: [half, half, half, half],
      }), nhwc);
  const shaped = (y: NDArray) => reshape(y, one);
  return [
    dilate(1),
    dilate(3),
    ...forms.flatMap(([label, options]) => [
      define(
        "distanceWeights",
        label,
        { distance: map(uniforms(one, "onnx/distance", 0.05, 2), (d, i) => i % 7 === 3 ? 0 : d), mask },
        { ...options },
        (g, { distance, mask }) => weights(g, g.input(reshape(distance, flat)), g.input(reshape(mask, flat)), options),
        shaped,
      ),
      define(
        "reweightingMap",
        label,
        { x: fill([B, H, W, C], "x"), z0: fill([B, H, W, C], "z0"), mask },
        { ...options },
        (g, { x, z0, mask }) => {
          const gap = g.node("Mul", [g.node("Sub", [g.input(x), g.input(z0)]), g.input(mask)]);
          const d = g.node("ReduceMean", [squared(g, gap), g.integers([3])], { keepdims: 0 });
          return weights(g, g.node("Reshape", [d, g.integers(flat)]), g.input(reshape(mask, flat)), options);
        },
        shaped,
      ),
    ]),
  ];
}
