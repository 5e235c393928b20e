/**
 * The ways in which `shaders/gemm.wgsl` can do the same product, and which one a product takes where nothing was measured.
 * Every variant in f32 adds the terms of an element in the same order, so that they differ in speed and not in bytes; whether
 * an adapter's compiler keeps to that is checked before one is taken (`src/graph/tuner.ts`). Those in f16 are for devices
 * whose user allows them (`Gpu.precision`).
 */

import { CARD_WORKGROUPS, grid } from "../op.ts";

/** How a GEMM is cut into invocations. */
export interface GemmVariant {
  /** Rows of the result that one invocation keeps in registers. */
  readonly rows: 4 | 8 | 16 | 32;
  /** Quads of columns that it keeps. */
  readonly quads: 1 | 2 | 4;
  /** Whether 8 × 8 invocations read their factors together, through workgroup memory. */
  readonly shared: boolean;
  /** Whether the 8 invocations of a subgroup read them together. */
  readonly subgroup: boolean;
  /** Whether factors are multiplied as f16; only with f16 weights, and through workgroup memory. */
  readonly f16: boolean;
}

/** Sizes of a product, as far as they decide between variants. */
export interface GemmSizes {
  readonly reader: "product" | "convolution" | "convolution's gradient";
  readonly transposed: boolean;
  readonly half: boolean;
  readonly batch: number;
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
  /** Positions of a convolution's window; 1 for a product. */
  readonly taps: number;
}

const register = (rows: GemmVariant["rows"], quads: GemmVariant["quads"]): GemmVariant => ({
  rows,
  quads,
  shared: false,
  subgroup: false,
  f16: false,
});
const shared = (rows: GemmVariant["rows"], quads: GemmVariant["quads"]): GemmVariant => ({
  ...register(rows, quads),
  shared: true,
});
const subgroup = (rows: GemmVariant["rows"], quads: GemmVariant["quads"]): GemmVariant => ({
  ...register(rows, quads),
  subgroup: true,
});

const half = (rows: GemmVariant["rows"], quads: GemmVariant["quads"]): GemmVariant => ({
  ...shared(rows, quads),
  f16: true,
});

/** All variants. On graphics cards more registers than 16 × 8 or 8 × 16 spill. */
export const gemmVariants: readonly GemmVariant[] = [
  register(8, 1),
  register(8, 2),
  register(8, 4),
  register(4, 1),
  register(4, 2),
  register(4, 4),
  register(16, 1),
  register(16, 2),
  shared(4, 1),
  shared(4, 2),
  shared(8, 1),
  shared(8, 2),
  shared(8, 4),
  subgroup(4, 1),
  subgroup(8, 1),
  subgroup(8, 2),
  subgroup(16, 1),
  subgroup(16, 2),
  subgroup(32, 1),
  half(4, 1),
  half(4, 2),
  half(8, 1),
  half(8, 2),
  half(8, 4),
];

/** As tables write it: `8x16`, rows and columns of an invocation, `8x16 shared`, `8x16 subgroup`, `8x16 shared f16`. */
export function variantName({ rows, quads, shared, subgroup, f16 }: GemmVariant): string {
  return `${rows}x${4 * quads}${shared ? " shared" : subgroup ? " subgroup" : ""}${f16 ? " f16" : ""}`;
}

/**
 * Bytes of workgroup memory: for each slice 8 · rows rows of a and 32 · quads columns of b, 32 deep; in f16 also the largest of
 * each, and sums of the slices after the first.
 */
export function workgroupBytes({ rows, quads, shared, f16 }: GemmVariant, slices = 1): number {
  if (!shared) return 0;
  return f16
    ? slices * (512 * (rows + 4 * quads) + 512) + (slices - 1) * 1024 * rows
    : slices * 1024 * (rows + 4 * quads);
}

/** Whether rows and columns are read four numbers at a time. */
export function isVector({ cols, inner }: Pick<GemmSizes, "cols" | "inner">): boolean {
  return cols % 4 === 0 && inner % 4 === 0;
}

/**
 * Variants that a product can take: sizes that do not divide by 4 are read number by number, in narrow tiles only. f16 is for
 * products with f16 weights, which are frozen.
 */
export function variantsFor(sizes: GemmSizes): readonly GemmVariant[] {
  const vector = isVector(sizes);
  return gemmVariants.filter(({ quads, subgroup, f16 }) =>
    (vector || (quads === 1 && !subgroup && !f16)) && (sizes.half || !f16)
  );
}

/**
 * The class of a product: what it reads, and its sizes down to powers of two. One choice holds for the whole class.
 * @returns e.g. `gemm convolution f16 256 x 64 x 512`: rows of all batches, columns, terms of a sum
 */
export function gemmClass(sizes: GemmSizes): string {
  const { reader, transposed, half, batch, rows, cols, inner, taps } = sizes;
  const floor = (n: number) => 2 ** Math.floor(Math.log2(n));
  const words = ["gemm", reader];
  if (transposed && reader === "product") words.push("transposed");
  if (half) words.push("f16");
  if (!isVector(sizes)) words.push("ragged");
  return `${words.join(" ")} ${floor(batch * rows)} x ${floor(cols)} x ${floor(inner * taps)}`;
}

/** Invocations that a wide tile must leave: two workgroups, for two cores. */
const ENOUGH_INVOCATIONS = 128;

/** Quads of columns per invocation, at most `most`: 4, 2 or 1, so that few invocations' columns lie past the end. */
export function widest(quads: number, most: number): 1 | 2 | 4 {
  return ([4, 2] as const).find((q) => q <= most && Math.ceil(quads / q) * q <= 1.25 * quads) ?? 1;
}

/**
 * What a product takes where no table says otherwise. On software adapters the time goes into loads, of which a tile of
 * 8 × 4·q needs 8 + 4·q per 32·q multiply-adds: 8 × 16 columns ran 10 GFLOPS per core, 8 × 8 8 and 8 × 4 6 (llvmpipe, 3×3
 * convolutions of 64 to 128 channels).
 */
export function defaultVariant(sizes: GemmSizes): GemmVariant {
  if (!isVector(sizes)) return register(8, 1);
  const quads = Math.ceil(sizes.cols / 4), tiles = sizes.batch * Math.ceil(sizes.rows / 8);
  return register(8, widest(quads, Math.ceil(quads / 4) * tiles >= ENOUGH_INVOCATIONS ? 4 : 2));
}

/** GFLOPS per core of a tile on 3×3 convolutions of 128 to 512 channels, f16 weights (llvmpipe; 8 × 16 without: 14). */
const SUBGROUP_RATES: readonly (readonly [GemmVariant, number])[] = [
  [subgroup(16, 2), 27],
  [subgroup(32, 1), 26],
  [subgroup(16, 1), 21.5],
  [subgroup(8, 2), 18],
  [subgroup(8, 1), 15.5],
  [subgroup(4, 1), 9],
];

/**
 * The same where the adapter's subgroups are 8 invocations, which read for each other: what a tile computes per second, by
 * the share of it that lies inside the result, and of the cores that have work.
 * @returns undefined where sizes do not divide by 4
 */
export function subgroupVariant(sizes: GemmSizes): GemmVariant | undefined {
  if (!isVector(sizes)) return undefined;
  const { batch, rows, cols } = sizes;
  const rated = SUBGROUP_RATES.map(([variant, rate]) => {
    const { count } = gemmLayout(variant, sizes),
      inside = batch * rows * cols / (count * 4 * variant.rows * variant.quads);
    return { variant, rate: rate * inside * Math.min(1, count / ENOUGH_INVOCATIONS) };
  });
  return rated.reduce((best, one) => (one.rate > best.rate ? one : best)).variant;
}

/**
 * Variants for graphics cards: they read through workgroup memory, or, where sums are whole and subgroups are 8 invocations, as on
 * Intel's, through these. Without either none was faster by more than a twentieth (H100, 2026-11-27).
 */
export function cardVariantsFor(sizes: GemmSizes, slices: number): readonly GemmVariant[] {
  return variantsFor(sizes).filter(({ shared, subgroup }) => shared || (subgroup && slices === 1));
}

/** The smallest tile of those that share their reads. */
const SMALLEST = shared(4, 1);

/** What a tile computes per second where there are enough of them, in relation to the best (H100, 3×3 convolution of 512 channels). */
const CARD_RATES: readonly (readonly [GemmVariant, number])[] = [
  [shared(8, 2), 1],
  [shared(8, 4), 0.96],
  [shared(4, 2), 0.88],
  [shared(8, 1), 0.86],
  [shared(4, 1), 0.81],
];

/**
 * What a product takes on a graphics card where no table says otherwise: by rate, share inside the result, and workgroups; the
 * smallest where sums are cut into slices.
 */
export function cardVariant(sizes: GemmSizes, slices: number): GemmVariant {
  let best = SMALLEST, most = 0;
  if (slices > 1) return best;
  const vector = isVector(sizes);
  for (const [variant, rate] of CARD_RATES) {
    if (!vector && variant.quads > 1) continue;
    const { count } = gemmLayout(variant, sizes);
    const inside = sizes.batch * sizes.rows * sizes.cols / (count * 256 * variant.rows * variant.quads);
    const speed = rate * inside * Math.min(1, count / CARD_WORKGROUPS);
    if (speed > most) [best, most] = [variant, speed];
  }
  return best;
}

/** Terms that a slice of a sum takes at a turn. */
const TURN = 32;

/**
 * Into how many slices a card's workgroups cut the sums of a product: 1, 2 or 4. It depends on the product and not on the variant,
 * so that all variants have the same roundings.
 * @param bytes workgroup memory of the card
 */
export function slicesFor(sizes: GemmSizes, bytes: number): 1 | 2 | 4 {
  const { count } = gemmLayout(SMALLEST, sizes);
  if (count > 2 * CARD_WORKGROUPS) return 1;
  const turns = Math.ceil(sizes.inner / TURN);
  return ([4, 2] as const).find((n) => turns > n / 2 && workgroupBytes(SMALLEST, n) <= bytes) ?? 1;
}

/** Invocations of a subgroup, where subgroups are used. */
export const SUBGROUP = 8;

/** Most lanes side by side along the columns: a workgroup's block of the result is then at least four tiles high. */
const LANES = 16;

/** Lanes, and tiles of rows, of a workgroup that shares its factors. */
const SIDE = 8;

/** Uniforms and workgroups that a variant needs for a product. */
export function gemmLayout(variant: GemmVariant, { batch, rows, cols }: GemmSizes) {
  const quads = Math.ceil(cols / 4), tiles = Math.ceil(rows / variant.rows);
  const across = Math.ceil(quads / variant.quads);
  if (variant.shared) {
    // Tiles and blocks count workgroups.
    const high = Math.ceil(tiles / SIDE), blocks = Math.ceil(across / SIDE), count = batch * high * blocks;
    return { lanes: SIDE, tiles: high, blocks, count, workgroups: grid(count, 1) };
  }
  if (variant.subgroup) {
    const lanes = Math.min(SUBGROUP, 2 ** Math.ceil(Math.log2(across))), blocks = Math.ceil(across / lanes);
    const count = batch * tiles * blocks * lanes;
    return { lanes, tiles, blocks, count, workgroups: grid(count) };
  }
  const blocks = Math.ceil(across / LANES), lanes = Math.ceil(across / blocks);
  const count = batch * tiles * blocks * lanes;
  return { lanes, tiles, blocks, count, workgroups: grid(count) };
}

/** Constants of the kernel that say how a subgroup shares its reads; without one, each invocation reads for itself. */
export function subgroupDefines(variant: GemmVariant, sizes: GemmSizes) {
  if (!variant.subgroup) return { SUBGROUP: false, LANES: 1, LOADS: variant.rows, SPLIT: 1, PARTS: 0 };
  const { lanes, tiles } = gemmLayout(variant, sizes), side = SUBGROUP / lanes;
  // Tiles of one subgroup must need the same b: one block of columns, and one product.
  const split = sizes.batch === 1 || tiles % side === 0 ? side : 1;
  return {
    SUBGROUP: true,
    LANES: lanes,
    LOADS: Math.max(1, variant.rows / lanes),
    SPLIT: split,
    PARTS: Math.max(1, 4 * variant.quads / split),
  };
}
