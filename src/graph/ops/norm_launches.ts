/** The launches that norms.ts is made of: kernels, the way x is cut for them, and their uniforms. */

import functions from "../../../shaders/functions.wgsl" with { type: "text" };
import applySource from "../../../shaders/norm_apply.wgsl" with { type: "text" };
import columnsSource from "../../../shaders/norm_columns.wgsl" with { type: "text" };
import groupsSource from "../../../shaders/norm_groups.wgsl" with { type: "text" };
import rowsSource from "../../../shaders/norm_rows.wgsl" with { type: "text" };
import { float, grid, kernel, type Lowering, type Value } from "../op.ts";
import { blockOf } from "./reduce.ts";
import { type Shape, sizeOf, type Tensor } from "../tensor.ts";

/** A function applied to the normalised result, in the same kernel. */
export type NormActivation = "silu" | "relu";

/** Attributes of the norms' ops. */
export interface Norm {
  /** Groups per image; 0 stands for layer norm, whose statistics belong to rows. */
  readonly groups: number;
  readonly eps: number;
  readonly activation?: NormActivation;
  /** Batch norm: one image, a group per channel, and the moments as outputs. */
  readonly batch?: boolean;
}

const kernels = {
  moments: kernel("norm_columns", columnsSource, ["read", "read_write", "read_write"]),
  sums: kernel("norm_columns", columnsSource, [...Array(5).fill("read"), "read_write", "read_write"]),
  stats: kernel("norm_groups", groupsSource, ["read", "read", "read_write"]),
  batchStats: kernel("norm_groups", groupsSource, ["read", "read", ...Array(3).fill("read_write")]),
  means: kernel("norm_groups", groupsSource, ["read", "read", "read", "read_write"]),
  parameters: kernel("norm_groups", groupsSource, ["read", "read", "read_write", "read_write"]),
  apply: kernel("norm_apply", applySource, [...Array(4).fill("read"), "read_write"]),
  inference: kernel("norm_apply", applySource, [...Array(5).fill("read"), "read_write"]),
  input: kernel("norm_apply", applySource, [...Array(6).fill("read"), "read_write"]),
  // x is only read: bound for writing, it may share a buffer with y, which saves memory.
  rows: kernel("norm_rows", rowsSource, ["read_write", "read", "read", "read_write", "read_write"]),
  rowsInput: kernel("norm_rows", rowsSource, [...Array(4).fill("read"), "read_write"]),
};

/** How x is read: images × rows × channels, in lanes of four channels where they divide, in chunks of rows. */
export interface Layout {
  readonly images: number;
  readonly rows: number;
  readonly channels: number;
  readonly lanes: number;
  readonly chunk: number;
  readonly splits: number;
}

/** Invocations to aim for in the passes over columns, and the fewest rows worth one. */
const INVOCATIONS = 16384, FEWEST_ROWS = 16;

/** Most rows of an invocation, which walks them twice: llvmpipe ends its loops after 65,535 turns in all, without a word. */
const MOST_ROWS = 16384;

/** Layout of a tensor whose first axis counts images, or whose leading axes are all rows of one. */
export function layoutOf(shape: Shape, perImage: boolean): Layout {
  const channels = shape.at(-1)!, images = perImage ? shape[0] : 1;
  const rows = sizeOf(shape) / channels / images;
  const lanes = channels % 4 === 0 ? channels / 4 : channels;
  const wanted = Math.max(1, Math.floor(INVOCATIONS / (images * lanes)));
  const chunk = Math.min(rows, MOST_ROWS, Math.max(FEWEST_ROWS, Math.ceil(rows / wanted)));
  return { images, rows, channels, lanes, chunk, splits: Math.ceil(rows / chunk) };
}

/** Layout of a norm's input. */
export const layout = (x: Tensor, { groups, batch }: Norm) => layoutOf(x.shape, groups > 0 && !batch);

function definesOf({ channels, lanes }: Layout, activation?: NormActivation) {
  return {
    VECTOR: lanes < channels,
    SUFFIX: lanes < channels ? "4" : "",
    ACTIVATION: activation === "silu" ? 1 : activation === "relu" ? 2 : 0,
    FUNCTIONS: activation === "silu" ? functions : "",
  };
}

/** Emits the pass over columns: moments of x, or with x, dy, statistics, gamma and beta the sums for the gradients. */
export function launchColumns(
  { launch }: Pick<Lowering, "launch">,
  l: Layout,
  buffers: readonly Value[],
  options: { readonly activation?: NormActivation; readonly perRow?: boolean } = {},
): void {
  const sums = buffers.length > 3, count = l.images * l.splits * l.lanes;
  launch({
    kernel: sums ? kernels.sums : kernels.moments,
    defines: { ...definesOf(l, options.activation), SUMS: sums, PER_ROW: options.perRow ?? false },
    buffers,
    uniforms: [l.rows, l.lanes, l.chunk, l.splits, l.images, blockOf(l.chunk)],
    workgroups: grid(count),
    flops: (sums ? 6 : 4) * l.images * l.rows * l.channels,
  });
}

/** KIND of norm_groups.wgsl. */
export enum Join {
  Stats,
  Means,
  Parameters,
}

/** Emits the pass that joins the partial results. */
export function launchGroups(
  { launch }: Pick<Lowering, "launch">,
  l: Pick<Layout, "images" | "rows" | "channels" | "chunk" | "splits">,
  groups: number,
  join: Join,
  buffers: readonly Value[],
  eps = 0,
): void {
  const batch = join === Join.Stats && buffers.length > 3;
  launch({
    kernel: batch ? kernels.batchStats : [kernels.stats, kernels.means, kernels.parameters][join],
    defines: { KIND: join, BATCH: batch },
    buffers,
    uniforms: [l.images, groups, l.splits, l.channels / groups, l.rows, l.chunk, float(eps)],
    workgroups: grid(l.images * groups, 1),
  });
}

/** Emits the pointwise pass; `kind` is that of norm_apply.wgsl. */
export function launchApply(
  { launch }: Pick<Lowering, "launch">,
  l: Layout,
  { eps, activation }: Pick<Norm, "eps" | "activation">,
  kind: 0 | 1 | 2,
  buffers: readonly Value[],
): void {
  const count = l.images * l.rows * l.lanes;
  launch({
    kernel: [kernels.apply, kernels.inference, kernels.input][kind],
    defines: { ...definesOf(l, activation), KIND: kind },
    buffers,
    uniforms: [count, l.lanes, l.rows * l.lanes, float(eps)],
    workgroups: grid(count),
    flops: (kind === 2 ? 8 : 4) * l.images * l.rows * l.channels,
  });
}

/** Rows that one workgroup of norm_rows.wgsl holds. */
const ROWS_PER_GROUP = 4;

/** Emits layer norm of node.inputs[0], forward or its input's gradient. */
export function launchRows(lowering: Lowering<Norm>, backward: boolean): void {
  const { channels, lanes, rows } = layout(lowering.node.inputs[0], lowering.attributes);
  lowering.launch({
    kernel: backward ? kernels.rowsInput : kernels.rows,
    defines: { VECTOR: lanes < channels, KIND: backward ? 1 : 0 },
    buffers: [...lowering.inputs, ...lowering.outputs],
    uniforms: [rows, lanes, channels, float(lowering.attributes.eps)],
    workgroups: grid(Math.ceil(rows / ROWS_PER_GROUP), 1),
    flops: (backward ? 12 : 8) * rows * channels,
  });
}
