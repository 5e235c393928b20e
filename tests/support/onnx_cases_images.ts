/** ONNX cases of the operations that resample or move elements. */
import { integers } from "./arrays.ts";
import type { Attribute } from "./onnx.ts";
import { define, fill, fillHalf, nchw, nhwc, type OnnxCase } from "./onnx_case.ts";

/** Resizing, pooling, pixel shuffling. */
export function resampleCases(): OnnxCase[] {
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

/** concat, slice, pad, permute, embedding, gatherRows, broadcastTo. */
export function shapeCases(): OnnxCase[] {
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
  const embedding = (label: string, table: number[], half = false): OnnxCase => ({
    ...define(
      "embedding",
      label,
      { table: (half ? fillHalf : fill)(table, "table"), ids: integers([2, 4], "onnx/ids", 0, 6) },
      {},
      (g, { table, ids }) => g.node("Gather", [g.input(table), g.integers(ids.data, ids.shape)], { axis: 0 }),
    ),
    half: half ? ["table"] : undefined,
  });
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
    embedding("repeated rows", [6, 5]),
    embedding("repeated rows of 8 numbers in f16", [6, 8], true),
    embedding("repeated rows of 6 numbers in f16", [6, 6], true),
    define(
      "gatherRows",
      "picked per image",
      { x: fill([2, 6, 4], "x"), ids: integers([2, 7], "onnx/rows", 0, 6) },
      {},
      (g, { x, ids }) => g.node("GatherND", [g.input(x), g.integers(ids.data, [...ids.shape, 1])], { batch_dims: 1 }),
    ),
    define(
      "broadcastTo",
      "two axes",
      { x: fill([3, 1, 4], "x") },
      { shape: [2, 3, 5, 4] },
      (g, { x }) => g.node("Expand", [g.input(x), g.integers([2, 3, 5, 4])]),
    ),
  ];
}
