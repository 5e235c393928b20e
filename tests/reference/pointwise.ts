/**
 * Element-wise functions, broadcasting arithmetic and reductions in float64.
 * At a kink the derivative is PyTorch's: relu'(0) = 0, abs'(0) = 0, leakyRelu'(0) = prelu'(0) = slope, and a tie of
 * maximum or minimum sends half to each side; clamp' = 1 on both limits, where PyTorch's versions differ.
 */
import {
  broadcastIndex,
  broadcastShapes,
  map,
  type NDArray,
  ndarray,
  sizeOf,
  stridesOf,
  sumTo,
  unravel,
} from "../support/arrays.ts";

/**
 * The error function to float64 accuracy: the all-positive series e^(−x²)·Σ 2ⁿx^(2n+1) ∕ (2n+1)‼ near zero, the
 * continued fraction of erfc beyond (Abramowitz & Stegun 7.1.6 and 7.1.14).
 */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 3) {
    let term = a, sum = a;
    for (let n = 1; term > 1e-18 * sum; n++) {
      term *= 2 * a * a / (2 * n + 1);
      sum += term;
    }
    return Math.sign(x) * 2 / Math.sqrt(Math.PI) * Math.exp(-a * a) * sum;
  }
  let fraction = a;
  for (let n = 60; n >= 1; n--) fraction = a + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / fraction);
}

const logistic = (x: number) => 1 / (1 + Math.exp(-x));
const normalCdf = (x: number) => 0.5 * (1 + erf(x / Math.SQRT2));
const geluOf = (x: number) => x * normalCdf(x);
const geluSlope = (x: number) => normalCdf(x) + x * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);

/** A function of one number with its derivative, as [forward(x), backward(dy, x)] on arrays of any shape. */
function unary(f: (x: number) => number, derivative: (x: number) => number) {
  return [
    (x: NDArray): NDArray => map(x, (value) => f(value)),
    (dy: NDArray, x: NDArray): NDArray => map(x, (value, i) => dy.data[i] * derivative(value)),
  ] as const;
}

/** SiLU (swish), x·σ(x). */
export const [siluForward, siluBackward] = unary(
  (x) => x * logistic(x),
  (x) => logistic(x) * (1 + x * (1 - logistic(x))),
);
/** GELU with the exact normal distribution function, x·Φ(x) (Hendrycks & Gimpel 2016); not the tanh form. */
export const [geluForward, geluBackward] = unary(geluOf, geluSlope);
/** max(x, 0). */
export const [reluForward, reluBackward] = unary((x) => Math.max(x, 0), (x) => x > 0 ? 1 : 0);
/** 1 ∕ (1 + e^−x). */
export const [sigmoidForward, sigmoidBackward] = unary(logistic, (x) => logistic(x) * (1 - logistic(x)));
/** Hyperbolic tangent. */
export const [tanhForward, tanhBackward] = unary(Math.tanh, (x) => 1 - Math.tanh(x) ** 2);
/** eˣ. */
export const [expForward, expBackward] = unary(Math.exp, Math.exp);
/** Natural logarithm. */
export const [logForward, logBackward] = unary(Math.log, (x) => 1 / x);
/** √x. */
export const [sqrtForward, sqrtBackward] = unary(Math.sqrt, (x) => 0.5 / Math.sqrt(x));
/** 1 ∕ √x. */
export const [rsqrtForward, rsqrtBackward] = unary((x) => 1 / Math.sqrt(x), (x) => -0.5 / (x * Math.sqrt(x)));
/** x². */
export const [squareForward, squareBackward] = unary((x) => x * x, (x) => 2 * x);
/** −x. */
export const [negateForward, negateBackward] = unary((x) => -x, () => -1);
/** |x|. */
export const [absForward, absBackward] = unary(Math.abs, Math.sign);
/** The error function. */
export const [erfForward, erfBackward] = unary(erf, (x) => 2 / Math.sqrt(Math.PI) * Math.exp(-x * x));

/** x where positive, slope·x elsewhere. */
export function leakyReluForward(x: NDArray, slope: number): NDArray {
  return map(x, (value) => value > 0 ? value : slope * value);
}

/** Gradient of {@link leakyReluForward}. */
export function leakyReluBackward(dy: NDArray, x: NDArray, slope: number): NDArray {
  return map(x, (value, i) => dy.data[i] * (value > 0 ? 1 : slope));
}

/** min(max(x, lo), hi). */
export function clampForward(x: NDArray, lo: number, hi: number): NDArray {
  return map(x, (value) => Math.min(Math.max(value, lo), hi));
}

/** Gradient of {@link clampForward}: passes where lo ≤ x ≤ hi. */
export function clampBackward(dy: NDArray, x: NDArray, lo: number, hi: number): NDArray {
  return map(x, (value, i) => value >= lo && value <= hi ? dy.data[i] : 0);
}

/** Leaky ReLU with a learned slope per channel (He et al. 2015).  x [..., C], slope [C] → [..., C]. */
export function preluForward(x: NDArray, slope: NDArray): NDArray {
  const C = slope.data.length;
  return map(x, (value, i) => value > 0 ? value : slope.data[i % C] * value);
}

/** Gradients of {@link preluForward}. */
export function preluBackward(dy: NDArray, x: NDArray, slope: NDArray): { x: NDArray; slope: NDArray } {
  const C = slope.data.length, dSlope = ndarray(slope.shape);
  const dx = map(x, (value, i) => {
    if (value > 0) return dy.data[i];
    dSlope.data[i % C] += dy.data[i] * value;
    return dy.data[i] * slope.data[i % C];
  });
  return { x: dx, slope: dSlope };
}

/** value·gelu(gate) (Shazeer 2020).  x [..., 2C] = value ‖ gate → [..., C]. */
export function gegluForward(x: NDArray): NDArray {
  const C = x.shape.at(-1)! / 2, y = ndarray([...x.shape.slice(0, -1), C]);
  return map(y, (_, i) => {
    const value = Math.floor(i / C) * 2 * C + i % C;
    return x.data[value] * geluOf(x.data[value + C]);
  });
}

/** Gradient of {@link gegluForward}. */
export function gegluBackward(dy: NDArray, x: NDArray): NDArray {
  const C = x.shape.at(-1)! / 2, dx = ndarray(x.shape);
  dy.data.forEach((d, i) => {
    const value = Math.floor(i / C) * 2 * C + i % C, gate = x.data[value + C];
    dx.data[value] = d * geluOf(gate);
    dx.data[value + C] = d * x.data[value] * geluSlope(gate);
  });
  return dx;
}

/** A function of two numbers with both partial derivatives, broadcast over two arrays. */
function binary(
  f: (a: number, b: number) => number,
  partialA: (a: number, b: number) => number,
  partialB: (a: number, b: number) => number,
) {
  /** Each element's indices into a and b, and the shape that they broadcast to. */
  const pairs = (a: NDArray, b: NDArray) => {
    const shape = broadcastShapes(a.shape, b.shape);
    return { shape, ia: broadcastIndex(a.shape, shape), ib: broadcastIndex(b.shape, shape) };
  };
  const forward = (a: NDArray, b: NDArray): NDArray => {
    const { shape, ia, ib } = pairs(a, b);
    return map(ndarray(shape), (_, i) => f(a.data[ia[i]], b.data[ib[i]]));
  };
  const backward = (dy: NDArray, a: NDArray, b: NDArray): { a: NDArray; b: NDArray } => {
    const { ia, ib } = pairs(a, b);
    const da = map(dy, (d, i) => d * partialA(a.data[ia[i]], b.data[ib[i]]));
    const db = map(dy, (d, i) => d * partialB(a.data[ia[i]], b.data[ib[i]]));
    return { a: sumTo(da, a.shape), b: sumTo(db, b.shape) };
  };
  return [forward, backward] as const;
}

/** 1 where `a` wins, ½ on a tie, 0 where it loses. */
const share = (won: boolean, tie: boolean) => tie ? 0.5 : won ? 1 : 0;

/** a + b, broadcast. */
export const [addForward, addBackward] = binary((a, b) => a + b, () => 1, () => 1);
/** a − b, broadcast. */
export const [subForward, subBackward] = binary((a, b) => a - b, () => 1, () => -1);
/** a·b, broadcast. */
export const [mulForward, mulBackward] = binary((a, b) => a * b, (_, b) => b, (a) => a);
/** a ∕ b, broadcast. */
export const [divForward, divBackward] = binary((a, b) => a / b, (_, b) => 1 / b, (a, b) => -a / (b * b));
/** max(a, b), broadcast. */
export const [maximumForward, maximumBackward] = binary(
  Math.max,
  (a, b) => share(a > b, a === b),
  (a, b) => share(b > a, a === b),
);
/** min(a, b), broadcast. */
export const [minimumForward, minimumBackward] = binary(
  Math.min,
  (a, b) => share(a < b, a === b),
  (a, b) => share(b < a, a === b),
);

/** Shape with the reduced axes kept as 1; axes may count from the end. */
function keptShape(shape: readonly number[], axes: readonly number[]): number[] {
  const reduced = new Set(axes.map((axis) => axis < 0 ? axis + shape.length : axis));
  return shape.map((n, axis) => reduced.has(axis) ? 1 : n);
}

/**
 * Σ over the given axes.
 * @param axes default: all of them
 * @param keepDims leaves a reduced axis as 1 instead of dropping it
 */
export function sumForward(x: NDArray, axes: readonly number[] = x.shape.map((_, i) => i), keepDims = false): NDArray {
  const kept = keptShape(x.shape, axes), sum = ndarray(kept), strides = stridesOf(kept);
  x.data.forEach((value, flat) => {
    const index = unravel(flat, x.shape);
    sum.data[index.reduce((at, i, axis) => at + (kept[axis] === 1 ? 0 : i * strides[axis]), 0)] += value;
  });
  if (keepDims) return sum;
  const reduced = new Set(axes.map((axis) => axis < 0 ? axis + x.shape.length : axis));
  return ndarray(x.shape.filter((_, axis) => !reduced.has(axis)), sum.data);
}

/** Gradient of {@link sumForward}: dy spread over the reduced axes. */
export function sumBackward(dy: NDArray, x: NDArray, axes: readonly number[] = x.shape.map((_, i) => i)): NDArray {
  const from = broadcastIndex(keptShape(x.shape, axes), x.shape);
  return map(x, (_, i) => dy.data[from[i]]);
}

/** Mean over the given axes; arguments as {@link sumForward}. */
export function meanForward(x: NDArray, axes: readonly number[] = x.shape.map((_, i) => i), keepDims = false): NDArray {
  const sum = sumForward(x, axes, keepDims), count = x.data.length / sizeOf(sum.shape);
  return map(sum, (value) => value / count);
}

/** Gradient of {@link meanForward}. */
export function meanBackward(dy: NDArray, x: NDArray, axes: readonly number[] = x.shape.map((_, i) => i)): NDArray {
  const count = x.data.length / dy.data.length;
  return map(sumBackward(dy, x, axes), (value) => value / count);
}
