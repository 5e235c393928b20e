/**
 * Scaled dot-product attention (Vaswani et al. 2017, eq. 1) over tokens × channels, and cross-attention whose map is
 * re-weighted (AnomalyDiffusion §3.3; the official code multiplies the logits, the paper's eq. 7 the probabilities).
 */

import flashSource from "../../../shaders/attention.wgsl" with { type: "text" };
import mapSource from "../../../shaders/cross_attention.wgsl" with { type: "text" };
import type { Access } from "../../gpu/device.ts";
import {
  apply,
  CARD_WORKGROUPS,
  defineOp,
  f32,
  float,
  grid,
  kernel,
  type LaunchSpec,
  type Lowering,
  require,
  type Value,
} from "../op.ts";
import { sameShape, type Tensor } from "../tensor.ts";
import { SUBGROUP } from "./gemm_variants.ts";

/** Heads of an attention and the factor on q·k. */
export interface AttentionOptions {
  /** Number of heads; head h owns channels h·D … (h + 1)·D − 1. */
  readonly heads: number;
  /** Default 1 ∕ √D. */
  readonly scale?: number;
}

/** Options of {@linkcode crossAttention}. */
export interface CrossAttentionOptions extends AttentionOptions {
  /** What the map multiplies: the scaled logits (default) or the probabilities after the softmax. */
  readonly mode?: "logits" | "probabilities";
}

/** Sizes of one attention. */
interface Sizes {
  readonly images: number;
  readonly n: number;
  readonly m: number;
  readonly heads: number;
  /** Channels of a head. */
  readonly head: number;
}

function sizes(q: Tensor, k: Tensor, heads: number): Sizes {
  return { images: q.shape[0], n: q.shape[1], m: k.shape[1], heads, head: q.shape[2] / heads };
}

function checkShapes(name: string, inputs: readonly Tensor[], heads: number): void {
  const [q, k, v] = inputs;
  require(
    q.rank === 3 && k.rank === 3 && sameShape(k.shape, v.shape),
    name,
    "needs q, k and v [B, tokens, H·D]",
    inputs,
  );
  require(q.shape[0] === k.shape[0] && q.shape[2] === k.shape[2], name, "images or channels differ", inputs);
  const split = Number.isInteger(heads) && heads > 0 && q.shape[2] % heads === 0;
  require(split, name, `channels do not split into ${heads} heads`, inputs);
  require(inputs.every((t) => t.dtype === "f32"), name, "needs f32", inputs);
}

// Kinds of cross_attention.wgsl.
const SCORES = 0, SOFTMAX = 1, SOFTMAX_GRADIENT = 2, WEIGHTED = 3, TRANSPOSED = 4;

/** Of p and b, WEIGHTED only reads: bound for writing, they may share a buffer with what it makes, which saves memory. */
const mapBindings: readonly Access[][] = [
  ["read", "read", "read_write"],
  ["read_write"],
  ["read", "read_write"],
  ["read_write", "read_write", "read_write"],
  ["read", "read", "read_write"],
];
const plainKernels = mapBindings.map((own) => kernel("cross_attention", mapSource, own));
const mappedKernels = mapBindings.map((own) => kernel("cross_attention", mapSource, ["read", "read", ...own]));

/** Of a product, per invocation: queries, quads of keys, quads of channels. */
const TILES = [
  { ROWS: 8, QUADS: 2, WIDE: 1 },
  { ROWS: 1, QUADS: 1, WIDE: 1 },
  { ROWS: 1, QUADS: 1, WIDE: 1 },
  { ROWS: 8, QUADS: 1, WIDE: 2 },
  { ROWS: 1, QUADS: 2, WIDE: 2 },
];

interface MapLaunch {
  readonly sizes: Sizes;
  readonly kind: number;
  /** The buffers after map and columns. */
  readonly buffers: readonly Value[];
  readonly map?: Value;
  readonly columns?: Value;
  readonly scale?: number;
}

function launchMap({ launch }: Pick<Lowering, "launch">, l: MapLaunch): void {
  const { images, n, m, heads, head } = l.sizes;
  const tile = TILES[l.kind];
  const quads = Math.ceil(m / 4), channels = Math.ceil(head / 4);
  const tiles = Math.ceil(n / tile.ROWS),
    blocks = Math.ceil(quads / tile.QUADS),
    wide = Math.ceil(channels / tile.WIDE);
  const count = images * heads * [tiles * blocks, n, n, tiles * wide, blocks * wide][l.kind];
  const vector = head % 4 === 0;
  const product = l.kind === SCORES || l.kind >= WEIGHTED;
  launch({
    kernel: (l.map ? mappedKernels : plainKernels)[l.kind],
    defines: {
      KIND: l.kind,
      ...tile,
      VECTOR: vector,
      MAPPED: l.map !== undefined,
      FIRST: l.map ? 3 : 1,
      T: vector ? "vec4f" : "f32",
    },
    buffers: l.map ? [l.map, l.columns ?? l.map, ...l.buffers] : l.buffers,
    uniforms: [n, m, heads, heads * head, head, quads, tiles, blocks, count, float(l.scale ?? 1), l.columns ? n : 0],
    workgroups: grid(count),
    flops: images * heads * n * m * (product ? 2 * head : 5),
  });
}

interface MapAttributes {
  readonly heads: number;
  readonly scale: number;
  readonly mode: "logits" | "probabilities" | "none";
  readonly columns: boolean;
}

/** Map and columns for launches where they act, by the op's mode. */
function weights({ mode, columns }: MapAttributes, [map, column]: readonly Value[]) {
  const given = { map, columns: columns ? column : undefined };
  return { logits: mode === "logits" ? given : {}, probabilities: mode === "probabilities" ? given : {} };
}

/** Inputs q, k, v, map, columns; outputs o and the probabilities [B·H, ⌈M∕4⌉, N, 4]. */
const mapAttentionOp = defineOp<MapAttributes>({
  name: "crossAttention",
  shape(inputs, { heads, mode, columns }) {
    const [q, k, , map, column] = inputs;
    checkShapes("crossAttention", inputs, heads);
    const { images, n, m } = sizes(q, k, heads);
    if (mode !== "none") require(sameShape(map.shape, [images, n]), "crossAttention", "needs a map [B, N]", inputs);
    if (columns) require(sameShape(column.shape, [images, m]), "crossAttention", "needs columns [B, M]", inputs);
    return [f32(q.shape), f32([images * heads, Math.ceil(m / 4), n, 4])];
  },
  gradient({ inputs, outputs, attributes, grads: [dO] }) {
    const [q, k, v, ...given] = inputs;
    let made: readonly Tensor[] | undefined;
    const all = () => made ??= apply(mapAttentionBackwardOp, [q, k, v, outputs[1], dO!, ...given], attributes);
    return [() => all()[0], () => all()[1], () => all()[2]];
  },
  lower(lowering) {
    const { node, attributes, inputs: [q, k, v, ...given], outputs: [o, p] } = lowering;
    const { logits, probabilities } = weights(attributes, given);
    const common = { sizes: sizes(node.inputs[0], node.inputs[1], attributes.heads) };
    launchMap(lowering, { ...common, ...logits, kind: SCORES, buffers: [q, k, p], scale: attributes.scale });
    launchMap(lowering, { ...common, kind: SOFTMAX, buffers: [p] });
    launchMap(lowering, { ...common, ...probabilities, kind: WEIGHTED, buffers: [p, v, o] });
  },
});

/** Inputs q, k, v, probabilities, dO, map, columns; outputs dq, dk, dv. */
const mapAttentionBackwardOp = defineOp<MapAttributes>({
  name: "crossAttentionBackward",
  shape: ([q, k, v]) => [f32(q.shape), f32(k.shape), f32(v.shape)],
  lower(lowering) {
    const { node, attributes, inputs: [q, k, v, p, dO, ...given], outputs: [dq, dk, dv] } = lowering;
    const { logits, probabilities } = weights(attributes, given);
    const common = { sizes: sizes(node.inputs[0], node.inputs[1], attributes.heads) };
    const t = lowering.scratch(p.bytes);
    launchMap(lowering, { ...common, ...probabilities, kind: TRANSPOSED, buffers: [p, dO, dv] });
    launchMap(lowering, { ...common, ...probabilities, kind: SCORES, buffers: [dO, v, t] });
    launchMap(lowering, { ...common, ...logits, kind: SOFTMAX_GRADIENT, buffers: [p, t], scale: attributes.scale });
    launchMap(lowering, { ...common, kind: WEIGHTED, buffers: [t, k, dq] });
    launchMap(lowering, { ...common, kind: TRANSPOSED, buffers: [t, q, dk] });
  },
});

/**
 * Attention of queries to a short list of keys, as text: the probabilities are kept for the gradient.
 * With a map, the factor f[b, i, j] = 1 + columns[b, j]·(map[b, i] − 1) multiplies what `mode` says: in mode "logits"
 * o = softmax(f·scale·q·kᵀ)·v, in mode "probabilities" o = (f·softmax(scale·q·kᵀ))·v.
 * @param q [B, N, H·D]
 * @param k [B, M, H·D]
 * @param v [B, M, H·D]
 * @param map weight of each query, [B, N]; gets no gradient
 * @param columns 1 on keys that the map re-weights, else 0, [B, M]; all where left out; gets no gradient
 * @returns [B, N, H·D]
 * @throws ShapeError where shapes do not fit
 */
export function crossAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: CrossAttentionOptions,
  map?: Tensor,
  columns?: Tensor,
): Tensor {
  const { heads, scale = 1 / Math.sqrt(q.shape[2] / heads), mode = "logits" } = options;
  const given = map ? (columns ? [map, columns] : [map]) : [];
  return apply(mapAttentionOp, [q, k, v, ...given], {
    heads,
    scale,
    mode: map ? mode : "none",
    columns: given.length === 2,
  })[0];
}

const flashBindings: readonly Access[][] = [
  ["read_write", "read_write"],
  ["read", "read", "read", "read_write", "read_write"],
  ["read", "read", "read", "read_write"],
  ["read", "read", "read", "read_write", "read_write"],
];
const flashKernels = flashBindings.map((own) => kernel("attention", flashSource, ["read", "read", "read", ...own]));

/** Rows of D numbers that each pass keeps per query or key, and keys per step. */
const KEPT = [2, 3, 4], KEYS = [2, 1, 1];

/** Rows per invocation: what a GPU's registers hold; for short heads more, as loads bound the software adapter. */
function flashRows(pass: number, head: number): number {
  return head <= 16 ? [8, 5, 5][pass] : Math.max(1, Math.floor(192 / (KEPT[pass] * head)));
}

interface FlashLaunch {
  readonly sizes: Sizes;
  readonly scale: number;
  readonly pass: 0 | 1 | 2;
  readonly buffers: readonly Value[];
  /** Products of rows of D numbers per query and key. */
  readonly products: number;
  /** What pass 2 makes. */
  readonly dk?: boolean;
  readonly dv?: boolean;
}

/** Rows of the other side that a subgroup reads in a step. */
const SUBGROUP_KEYS = 2;

function launchFlash({ launch }: Pick<Lowering, "launch">, l: FlashLaunch): void {
  const { images, n, m, heads, head } = l.sizes, most = flashRows(l.pass, head), own = l.pass === 2 ? m : n;
  const spec = (subgroup: boolean, rows: number): LaunchSpec => {
    const least = Math.ceil(own / rows);
    const tiles = subgroup ? SUBGROUP * Math.ceil(least / SUBGROUP) : least;
    const count = images * heads * tiles, keys = subgroup ? SUBGROUP_KEYS : KEYS[l.pass];
    return {
      kernel: flashKernels[l.dk && l.dv ? 3 : l.pass],
      defines: {
        PASS: l.pass,
        D: head,
        ROWS: rows,
        DK: l.dk ?? false,
        DV: l.dv ?? false,
        KEYS: keys,
        SUBGROUP: subgroup,
        LOADS: Math.ceil(keys * head / 4 / SUBGROUP),
      },
      buffers: l.buffers,
      uniforms: [n, m, heads, heads * head / 4, tiles, count, float(l.scale)],
      workgroups: grid(count),
      flops: 2 * images * heads * n * m * head * l.products,
    };
  };
  launch(spec(false, most), {
    subgroups: () => spec(true, most),
    card: () => {
      // Fewer rows for each invocation, where a card would have few of them.
      const rows = Math.floor(images * heads * own / (64 * CARD_WORKGROUPS));
      return { launch: () => spec(false, Math.max(1, Math.min(most, rows))) };
    },
  });
}

interface FlashAttributes {
  readonly heads: number;
  readonly scale: number;
}

/** Inputs q, k, v; outputs o and the rows' log-sum-exp [B·H, N]. */
const flashOp = defineOp<FlashAttributes>({
  name: "attention",
  shape(inputs, { heads }) {
    checkShapes("attention", inputs, heads);
    const { images, n } = sizes(inputs[0], inputs[1], heads);
    return [f32(inputs[0].shape), f32([images * heads, n])];
  },
  gradient({ inputs, outputs: [o, lse], attributes, grads: [dO] }) {
    let made: readonly Tensor[] | undefined;
    const all = () => made ??= apply(flashBackwardOp, [...inputs, lse, dO!, o], attributes);
    return [() => all()[0], () => all()[1], () => all()[2]];
  },
  lower(lowering) {
    const { node: { inputs: [q, k] }, attributes: { heads, scale }, inputs, outputs: [o, lse] } = lowering;
    launchFlash(lowering, { sizes: sizes(q, k, heads), scale, pass: 0, buffers: [...inputs, lse, o], products: 2 });
  },
});

/** Widest head whose gradients of k and v one launch makes; wider ones would not fit in a GPU's registers. */
const FUSED_HEAD = 40;

/** Inputs q, k, v, lse, dO, o; outputs dq, dk, dv. */
const flashBackwardOp = defineOp<FlashAttributes>({
  name: "attentionBackward",
  shape: ([q, k, v]) => [f32(q.shape), f32(k.shape), f32(v.shape)],
  lower(lowering) {
    const { node, attributes: { heads, scale }, inputs: [q, k, v, lse, dO, o], outputs: [dq, dk, dv] } = lowering;
    const common = { sizes: sizes(node.inputs[0], node.inputs[1], heads), scale };
    const delta = lowering.scratch(lse.bytes);
    launchFlash(lowering, { ...common, pass: 1, buffers: [q, k, v, lse, dO, o, delta, dq], products: 3 });
    const read = [q, k, v, lse, dO, delta];
    if (common.sizes.head <= FUSED_HEAD) {
      launchFlash(lowering, { ...common, pass: 2, buffers: [...read, dk, dv], products: 4, dk: true, dv: true });
    } else {
      launchFlash(lowering, { ...common, pass: 2, buffers: [...read, dv], products: 2, dv: true });
      launchFlash(lowering, { ...common, pass: 2, buffers: [...read, dk], products: 3, dk: true });
    }
  },
});

/** Widest head and shortest list of keys that the tiled kernels take. */
const WIDEST_HEAD = 64, LONG = 256;

/**
 * Attention of each query to all keys: o = softmax(scale·q·kᵀ)·v per head. From 256 keys on, and for heads of up to 64
 * channels that divide by 4, no N×M map lies in memory: the softmax runs over tiles of keys, and the gradient makes the
 * probabilities again from each row's log-sum-exp. Other sizes go the way of {@linkcode crossAttention}.
 * @param q [B, N, H·D]
 * @param k [B, M, H·D]
 * @param v [B, M, H·D]
 * @returns [B, N, H·D]
 * @throws ShapeError where shapes do not fit
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { heads, scale = 1 / Math.sqrt(q.shape[2] / heads) } = options, head = q.shape[2] / heads;
  if (k.shape[1] < LONG || head > WIDEST_HEAD || head % 4) return crossAttention(q, k, v, { heads, scale });
  return apply(flashOp, [q, k, v], { heads, scale })[0];
}
