/**
 * Dense float64 arrays for the reference operations, and the comparisons that tests make with them.
 * Random fills come from the project's Philox streams and are rounded to float32, so that a GPU or ONNX Runtime can be
 * given exactly the same numbers.
 */
import { Random } from "../../src/random/philox.ts";

/** A row-major array; the last axis varies fastest. */
export interface NDArray {
  shape: number[];
  data: Float64Array;
}

/** Number of elements of a shape; 1 for the scalar shape []. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

/**
 * Makes an array.
 * @param shape any number of axes; [] is a scalar
 * @param data the elements in row-major order, or one number for all of them (default 0)
 * @throws if the count of elements is not the product of the shape
 */
export function ndarray(shape: readonly number[], data: ArrayLike<number> | number = 0): NDArray {
  const size = sizeOf(shape);
  if (typeof data === "number") return { shape: [...shape], data: new Float64Array(size).fill(data) };
  if (data.length !== size) throw new Error(`ndarray [${shape}] needs ${size} elements, got ${data.length}`);
  return { shape: [...shape], data: Float64Array.from(data) };
}

/** A scalar: shape []. */
export function scalar(value: number): NDArray {
  return ndarray([], [value]);
}

/** Standard normal numbers, rounded to float32; the same for the same size, name and seed. */
export function normals(shape: readonly number[], name: string, seed = 1): NDArray {
  return ndarray(shape, new Random(seed, `tests/${name}`).normals(sizeOf(shape)));
}

/** Uniform numbers in [low, high), rounded to float32. */
export function uniforms(shape: readonly number[], name: string, low = 0, high = 1, seed = 1): NDArray {
  const random = new Random(seed, `tests/${name}`);
  return ndarray(shape, Float32Array.from({ length: sizeOf(shape) }, () => random.uniform(low, high)));
}

/** Integers in [low, high), as float64 values. */
export function integers(shape: readonly number[], name: string, low: number, high: number, seed = 1): NDArray {
  const random = new Random(seed, `tests/${name}`);
  return ndarray(shape, Float64Array.from({ length: sizeOf(shape) }, () => random.integer(low, high)));
}

/** The same elements under another shape of the same size. */
export function reshape(x: NDArray, shape: readonly number[]): NDArray {
  return ndarray(shape, x.data);
}

/** f of every element. */
export function map(x: NDArray, f: (value: number, index: number) => number): NDArray {
  return { shape: [...x.shape], data: x.data.map(f) };
}

/** Row-major strides of a shape, in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/** The position of every axis of flat element `flat`. */
export function unravel(flat: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = flat % shape[axis];
    flat = Math.floor(flat / shape[axis]);
  }
  return index;
}

/** NumPy's broadcast of two shapes: aligned at the last axis, 1 stretches. */
export function broadcastShapes(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const m = a[axis - rank + a.length] ?? 1, n = b[axis - rank + b.length] ?? 1;
    if (m !== n && m !== 1 && n !== 1) throw new Error(`shapes [${a}] and [${b}] do not broadcast`);
    return m === 1 ? n : m;
  });
}

/** For each element of `to`, the flat index of the element of `from` that is broadcast there. */
export function broadcastIndex(from: readonly number[], to: readonly number[]): Int32Array {
  const strides = stridesOf(from);
  return Int32Array.from({ length: sizeOf(to) }, (_, flat) => {
    const index = unravel(flat, to).slice(to.length - from.length);
    return index.reduce((sum, i, axis) => sum + (from[axis] === 1 ? 0 : i * strides[axis]), 0);
  });
}

/** The adjoint of broadcasting: sums `dy` down to a shape that broadcasts to its own. */
export function sumTo(dy: NDArray, shape: readonly number[]): NDArray {
  const sum = ndarray(shape);
  broadcastIndex(shape, dy.shape).forEach((from, flat) => sum.data[from] += dy.data[flat]);
  return sum;
}

/** ⟨a, b⟩ over all elements. */
export function dot(a: NDArray, b: NDArray): number {
  sameShape(a, b);
  return a.data.reduce((sum, value, i) => sum + value * b.data[i], 0);
}

/** Where two arrays differ most. */
export interface Difference {
  /** max |actual − expected| */
  maxAbs: number;
  /** the worst element's position along each axis */
  index: number[];
  actual: number;
  expected: number;
  /** ‖actual − expected‖₂ ∕ ‖expected‖₂; the plain norm where expected is all zero */
  relativeL2: number;
}

/** An array of the engine or of ONNX Runtime, or one of ours: only shape and elements matter. */
export interface ArrayOf {
  shape: readonly number[];
  data: ArrayLike<number>;
}

function sameShape(a: ArrayOf, b: ArrayOf): void {
  if (a.shape.length !== b.shape.length || a.shape.some((n, axis) => n !== b.shape[axis])) {
    throw new Error(`shapes differ: [${a.shape}] and [${b.shape}]`);
  }
}

/** Measures how far `actual` is from `expected`. A NaN on one side only counts as an infinite difference. */
export function difference(actual: ArrayOf, expected: ArrayOf): Difference {
  sameShape(actual, expected);
  let worst = 0, maxAbs = 0, squares = 0, norm = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const a = actual.data[i], b = expected.data[i];
    const gap = Object.is(a, b) || a === b ? 0 : Number.isFinite(a - b) ? Math.abs(a - b) : Infinity;
    if (gap > maxAbs) [maxAbs, worst] = [gap, i];
    squares += gap * gap;
    norm += b * b;
  }
  return {
    maxAbs,
    index: unravel(worst, expected.shape),
    actual: actual.data[worst],
    expected: expected.data[worst],
    relativeL2: squares === 0 ? 0 : Math.sqrt(squares / (norm || 1)),
  };
}

/**
 * Fails unless max |actual − expected| ≤ tolerance · max(1, max |expected|), and says which element is worst.
 * @param tolerance 1e-5 suits float32 kernels on reductions of some hundred terms; 1e-12 suits float64
 */
export function assertClose(actual: ArrayOf, expected: ArrayOf, tolerance: number, label = "array"): void {
  const worst = difference(actual, expected);
  let scale = 1;
  for (let i = 0; i < expected.data.length; i++) scale = Math.max(scale, Math.abs(expected.data[i]));
  if (!(worst.maxAbs <= tolerance * scale)) {
    throw new Error(
      `${label}: at [${worst.index}] got ${worst.actual}, expected ${worst.expected}: ` +
        `off by ${worst.maxAbs.toExponential(2)} > ${(tolerance * scale).toExponential(2)} ` +
        `(relative L2 ${worst.relativeL2.toExponential(2)})`,
    );
  }
}
