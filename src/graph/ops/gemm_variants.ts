/**
 * The ways in which `shaders/gemm.wgsl` can do the same product, and which one a product takes where nothing was measured.
 * Every variant adds the terms of an element in the same order, so that they differ in speed and not in bytes; whether an
 * adapter's compiler keeps to that is checked before one is taken (`src/graph/tuner.ts`).
 */

import { grid } from "../op.ts";

/** How a GEMM is cut into invocations. */
export interface GemmVariant {
  /** Rows of the result that one invocation keeps in registers. */
  readonly rows: 4 | 8 | 16;
  /** Quads of columns that it keeps. */
  readonly quads: 1 | 2 | 4;
  /** Whether 8 × 8 invocations read their factors together, through workgroup memory. */
  readonly shared: boolean;
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
});
const shared = (rows: GemmVariant["rows"], quads: GemmVariant["quads"]): GemmVariant => ({ rows, quads, shared: true });

/** All variants. More registers than 16 × 8 or 8 × 16 spill. Without subgroups: Naga 29 and browsers do not agree on them. */
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
];

/** As tables write it: `8x16`, rows and columns of an invocation, or `8x16 shared`. */
export function variantName({ rows, quads, shared }: GemmVariant): string {
  return `${rows}x${4 * quads}${shared ? " shared" : ""}`;
}

/** Bytes of workgroup memory: 8 · rows rows of a and 32 · quads columns of b, 32 deep. */
export function workgroupBytes({ rows, quads, shared }: GemmVariant): number {
  return shared ? 1024 * (rows + 4 * quads) : 0;
}

/** Whether rows and columns are read four numbers at a time. */
export function isVector({ cols, inner }: Pick<GemmSizes, "cols" | "inner">): boolean {
  return cols % 4 === 0 && inner % 4 === 0;
}

/** Variants that a product can take: sizes that do not divide by 4 are read number by number, in narrow tiles only. */
export function variantsFor(sizes: GemmSizes): readonly GemmVariant[] {
  return isVector(sizes) ? gemmVariants : gemmVariants.filter(({ quads }) => quads === 1);
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
  const blocks = Math.ceil(across / LANES), lanes = Math.ceil(across / blocks);
  const count = batch * tiles * blocks * lanes;
  return { lanes, tiles, blocks, count, workgroups: grid(count) };
}
