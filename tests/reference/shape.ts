/**
 * Operations that only move elements, in float64: concat, slice, pad, permute, and rows gathered from a table.
 * All are linear maps with one 1 per output row, so every gradient is a scatter of dy.
 */
import { map, type NDArray, ndarray, sizeOf, stridesOf, unravel } from "../support/arrays.ts";

/** Flat index of a position in a shape. */
function ravel(index: readonly number[], shape: readonly number[]): number {
  const strides = stridesOf(shape);
  return index.reduce((sum, i, axis) => sum + i * strides[axis], 0);
}

/** Joins arrays along one axis; the other axes must agree. */
export function concatForward(parts: readonly NDArray[], axis: number): NDArray {
  axis = axis < 0 ? axis + parts[0].shape.length : axis;
  const shape = [...parts[0].shape];
  shape[axis] = parts.reduce((sum, part) => sum + part.shape[axis], 0);
  const y = ndarray(shape);
  let offset = 0;
  for (const part of parts) {
    if (part.shape.some((n, a) => a !== axis && n !== shape[a])) {
      throw new Error(`concat: [${part.shape}] does not fit [${parts[0].shape}] along axis ${axis}`);
    }
    part.data.forEach((value, flat) => {
      const index = unravel(flat, part.shape);
      index[axis] += offset;
      y.data[ravel(index, shape)] = value;
    });
    offset += part.shape[axis];
  }
  return y;
}

/** Gradients of {@link concatForward}, one per part. */
export function concatBackward(dy: NDArray, parts: readonly NDArray[], axis: number): NDArray[] {
  axis = axis < 0 ? axis + dy.shape.length : axis;
  let offset = 0;
  return parts.map((part) => {
    const starts = dy.shape.map((_, a) => a === axis ? offset : 0);
    const ends = dy.shape.map((n, a) => a === axis ? offset + part.shape[axis] : n);
    offset += part.shape[axis];
    return sliceForward(dy, { starts, ends });
  });
}

/** For each axis, the elements starts, starts + steps, … below ends; steps default to 1. */
export interface SliceOptions {
  starts: readonly number[];
  ends: readonly number[];
  steps?: readonly number[];
}

/** Shape of a slice, and the flat index in x of each of its elements. */
function sliceSource(xShape: readonly number[], { starts, ends, steps = starts.map(() => 1) }: SliceOptions) {
  const shape = xShape.map((n, axis) => {
    if (starts[axis] < 0 || ends[axis] > n) throw new Error(`slice ${starts} to ${ends} is outside [${xShape}]`);
    return Math.max(0, Math.ceil((ends[axis] - starts[axis]) / steps[axis]));
  });
  const from = Int32Array.from(
    { length: sizeOf(shape) },
    (_, flat) => ravel(unravel(flat, shape).map((i, axis) => starts[axis] + i * steps[axis]), xShape),
  );
  return { shape, from };
}

/** A box of x, with every step-th element along each axis. */
export function sliceForward(x: NDArray, options: SliceOptions): NDArray {
  const { shape, from } = sliceSource(x.shape, options);
  return ndarray(shape, from.length ? Float64Array.from(from, (at) => x.data[at]) : 0);
}

/** Gradient of {@link sliceForward}: dy in its place, zero elsewhere. Only the shape of x matters. */
export function sliceBackward(dy: NDArray, x: NDArray, options: SliceOptions): NDArray {
  const dx = ndarray(x.shape);
  sliceSource(x.shape, options).from.forEach((at, i) => dx.data[at] += dy.data[i]);
  return dx;
}

/** How many zeros to put before and after each axis. */
export interface PadOptions {
  before: readonly number[];
  after: readonly number[];
}

const padded = (shape: readonly number[], { before, after }: PadOptions) =>
  shape.map((n, axis) => before[axis] + n + after[axis]);

const inner = (shape: readonly number[], { before }: PadOptions): SliceOptions => ({
  starts: before,
  ends: shape.map((n, axis) => before[axis] + n),
});

/** x surrounded by zeros. */
export function padForward(x: NDArray, options: PadOptions): NDArray {
  return sliceBackward(x, ndarray(padded(x.shape, options)), inner(x.shape, options));
}

/** Gradient of {@link padForward}: the inner box of dy. Only the shape of x matters. */
export function padBackward(dy: NDArray, x: NDArray, options: PadOptions): NDArray {
  return sliceForward(dy, inner(x.shape, options));
}

/** y's axis i is x's axis `axes[i]`. */
export function permuteForward(x: NDArray, axes: readonly number[]): NDArray {
  const shape = axes.map((axis) => x.shape[axis]), y = ndarray(shape);
  x.data.forEach((value, flat) => {
    const index = unravel(flat, x.shape);
    y.data[ravel(axes.map((axis) => index[axis]), shape)] = value;
  });
  return y;
}

/** Gradient of {@link permuteForward}: the inverse permutation. */
export function permuteBackward(dy: NDArray, axes: readonly number[]): NDArray {
  return permuteForward(dy, axes.map((_, axis) => axes.indexOf(axis)));
}

/** Rows of a table, as an embedding looks them up.  table [V, C], ids [...] integers in [0, V) → [..., C]. */
export function gatherForward(table: NDArray, ids: NDArray): NDArray {
  const [V, C] = table.shape, y = ndarray([...ids.shape, C]);
  ids.data.forEach((id) => {
    if (!Number.isInteger(id) || id < 0 || id >= V) throw new Error(`gather: row ${id} of a table of ${V} rows`);
  });
  return map(y, (_, i) => table.data[ids.data[Math.floor(i / C)] * C + i % C]);
}

/** Gradient of {@link gatherForward} for the table: dy's rows added up where their ids point. */
export function gatherBackward(dy: NDArray, table: NDArray, ids: NDArray): NDArray {
  const C = table.shape[1], dTable = ndarray(table.shape);
  dy.data.forEach((d, i) => dTable.data[ids.data[Math.floor(i / C)] * C + i % C] += d);
  return dTable;
}
