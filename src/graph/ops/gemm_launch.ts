/**
 * Launches of the GEMM kernels: `shaders/gemm.wgsl`, whose readers make it a product, an implicit-GEMM convolution, or either's
 * input gradient, and `gemm_weights.wgsl`, which makes the weight gradients. Tiles are chosen in `gemm_variants.ts`.
 */

import { fnv1a } from "../../random/philox.ts";
import functions from "../../../shaders/functions.wgsl" with { type: "text" };
import gemmSource from "../../../shaders/gemm.wgsl" with { type: "text" };
import tensors from "../../../shaders/gemm_tensors.wgsl" with { type: "text" };
import weightsSource from "../../../shaders/gemm_weights.wgsl" with { type: "text" };
import {
  CARD_WORKGROUPS,
  type Epilogue,
  grid,
  kernel,
  type LaunchSpec,
  type Lowering,
  type Tunable,
  type Value,
} from "../op.ts";
import type { Defines } from "../../gpu/template.ts";
import {
  cardVariant,
  cardVariantsFor,
  defaultVariant,
  gemmClass,
  gemmLayout,
  type GemmSizes,
  type GemmVariant,
  gemmVariants,
  isVector,
  slicesFor,
  SUBGROUP,
  subgroupDefines,
  subgroupVariant,
  variantName,
  variantsFor,
  widest,
  workgroupBytes,
} from "./gemm_variants.ts";
import { launchSum } from "./reduce.ts";

/** Kernel size, stride and zero padding of a convolution. */
export interface Window {
  readonly kh: number;
  readonly kw: number;
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number, number, number];
}

/** A product c = a·b, or a convolution as one. */
export interface Gemm {
  readonly a: Value;
  readonly b: Value;
  readonly c: Value;
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
  readonly batch?: number;
  readonly transposed?: boolean;
  readonly half?: boolean;
  readonly epilogue?: readonly Epilogue[];
  /** Reader of a: a convolution, or (`gradient`) the convolution's input gradient. */
  readonly conv?: Window & {
    readonly gradient: boolean;
    readonly source: readonly [number, number];
    readonly target: readonly [number, number];
  };
}

const source = tensors + gemmSource;

const gemmKernels = [0, 1, 2, 3, 4, 5].map((added) =>
  kernel("gemm", source, ["read", "read", "read_write", ...Array(added).fill("read")])
);

/**
 * Terms from which a convolution sums each tap by itself: the ResNet's 3×3 kernels of 64 channels are among them, whose roundings
 * else decide a rectifier's sign further on. It costs registers, which shorter sums need not: graphics cards
 * spill them, here once per tap.
 */
const LONG_SUM = 512;

/** Changes with the kernel and its variants: choices that were measured with others say nothing about these. */
export const gemmRevision: string = fnv1a(
  [source.replaceAll("\r", ""), ...gemmVariants.map(variantName), LONG_SUM].join("\n"),
).toString(16).padStart(8, "0");

const weightsKernel = kernel("gemm_weights", weightsSource, ["read", "read", "read_write"]);

/** Numbers of each column that `Once` of gemm_tensors.wgsl keeps for all rows of a tile. */
const KEPT = 3;

/** The kernel's text for an epilogue, and the tensors that it reads. */
function epilogueText(steps: readonly Epilogue[], vector: boolean, batch: number, tile: number) {
  const added: Value[] = [], once: string[] = [], each: string[] = [];
  let group = 1;
  /** What is the same for all rows is read once; past the numbers that are kept, for each row. */
  const keep = (i: number, text: string) => {
    if (i >= KEPT) return text;
    once.push(`  h.h${i} = ${text};`);
    return `h.h${i}`;
  };
  for (const step of steps) {
    if (step.kind === "unary") {
      const constant = step.constant === undefined ? "" : `, f32(${step.constant})`;
      each.push(`  v = ${step.expression}${vector ? "4" : ""}(v${constant});`);
      continue;
    }
    const i = added.length;
    if (step.kind === "norm") {
      const { mean, variance, gamma, beta } = step.tables;
      added.push(mean, variance, gamma, beta);
      const [centre, rstd, scale, shift] = [
        `e${i}[quad]`,
        `inverseSqrt(e${i + 1}[quad] + f32(${step.eps}))`,
        `e${i + 2}[quad]`,
        `e${i + 3}[quad]`,
      ].map((text, k) => keep(i + k, text));
      each.push(`  v = (v - ${centre}) * ${rstd} * ${scale} + ${shift};`); // as norm_apply.wgsl
      continue;
    }
    added.push(step.value);
    if (step.kind === "residual") {
      each.push(`  v += e${i}[row * width + quad];`);
    } else if (step.kind === "column") {
      each.push(`  v += ${keep(i, `e${i}[quad]`)};`);
    } else {
      group = step.rows;
      const text = `e${i}[row / s.group * width + quad]`;
      // A tile's rows share their group where tiles do not straddle groups.
      each.push(`  v += ${vector && batch === 1 && group % tile === 0 ? keep(i, text) : text};`);
    }
  }
  return { once: once.join("\n"), each: each.join("\n"), added, group };
}

/** Launches a product by the op's own variant, with the others that the device's table may name. */
export function launchGemm({ launch }: Pick<Lowering, "launch">, g: Gemm): void {
  const { conv } = g;
  const sizes: GemmSizes = {
    reader: conv ? (conv.gradient ? "convolution's gradient" : "convolution") : "product",
    transposed: g.transposed ?? false,
    half: g.half ?? false,
    batch: g.batch ?? 1,
    rows: g.rows,
    cols: g.cols,
    inner: g.inner,
    taps: conv ? conv.kh * conv.kw : 1,
  };
  const together = subgroupVariant(sizes);
  const tunable = (variants: readonly GemmVariant[], slices: number): Tunable => ({
    key: gemmClass(sizes),
    variants: variants.map((variant) => ({
      name: variantName(variant),
      workgroupBytes: workgroupBytes(variant, slices),
      subgroups: variant.subgroup,
      f16: variant.f16,
      launch: () => gemmLaunch(g, sizes, variant, slices),
    })),
  });
  launch(gemmLaunch(g, sizes, defaultVariant(sizes)), {
    subgroups: together && (() => gemmLaunch(g, sizes, together)),
    tunable: tunable(variantsFor(sizes), 1),
    card: (bytes) => {
      const slices = slicesFor(sizes, bytes), own = cardVariant(sizes, slices);
      return {
        launch: () => gemmLaunch(g, sizes, own, slices),
        tunable: tunable(cardVariantsFor(sizes, slices), slices),
      };
    },
  });
}

function gemmLaunch(g: Gemm, sizes: GemmSizes, variant: GemmVariant, slices = 1): LaunchSpec {
  const { conv, epilogue = [] } = g, { batch, rows, cols, inner, taps } = sizes;
  const vector = isVector(sizes);
  const { once, each, added, group } = epilogueText(epilogue, vector, batch, variant.rows);
  const [sourceH, sourceW] = conv?.source ?? [1, rows];
  const [rowH, rowW] = conv?.target ?? [1, rows];
  const { lanes, tiles, blocks, count, workgroups } = gemmLayout(variant, sizes);
  return {
    kernel: gemmKernels[added.length],
    defines: {
      TILE: variant.rows,
      QUADS: variant.quads,
      SHARED: variant.shared,
      F16: variant.f16,
      SLICES: slices,
      SUMS: variant.f16 ? "sums" : "sharedA",
      ...subgroupDefines(variant, sizes),
      VECTOR: vector,
      UNIT: vector ? 4 : 1,
      CONV: conv ? (conv.gradient ? 2 : 1) : 0,
      LONG: taps > 1 && taps * inner >= LONG_SUM,
      TRANSPOSED: sizes.transposed,
      HALF: sizes.half,
      ADDED: added.length,
      ONCE: once,
      EPILOGUE: each,
      FUNCTIONS: epilogue.some(({ kind }) => kind === "unary") ? functions : "",
    },
    buffers: [g.a, g.b, g.c, ...added],
    uniforms: [
      rows,
      cols,
      inner,
      lanes,
      tiles,
      blocks,
      count,
      conv?.kh ?? 1,
      conv?.kw ?? 1,
      sourceH,
      sourceW,
      rowH,
      rowW,
      conv?.stride[0] ?? 1,
      conv?.stride[1] ?? 1,
      conv?.padding[0] ?? 0,
      conv?.padding[2] ?? 0,
      rows * inner,
      inner * cols * taps,
      rows * cols,
      group,
    ],
    workgroups,
    flops: 2 * batch * rows * cols * inner * taps,
  };
}

/**
 * Invocations below which a weight gradient is split over the rows. Splits cost memory traffic: 1,024 invocations ran 7.5
 * GFLOPS per core where 4,096 ran 6 and 16,384 4.5 (llvmpipe).
 */
const WEIGHT_INVOCATIONS = 1024;

/** Fewest rows that are worth a split of their own. */
const ROWS_PER_SPLIT = 64;

/**
 * Most rows of one running sum, where the splits' memory allows it. Rounding errors of equal terms, as a constant background
 * gives them, are equal too: 16,384 of them were off by 1e-4.
 */
const ROWS_PER_SUM = 1024;

/** Most numbers that the splits of a weight gradient may hold. */
const SPLIT_NUMBERS = 2 ** 24;

/** Most turns of an invocation's loops: llvmpipe ends them in silence at 65,535 in all (measured 2026-11-23). */
const TURNS_PER_SPLIT = 60000;

/** A weight gradient c = aᵀ·g, summed over the rows of both. */
export interface WeightGradient {
  readonly a: Value;
  readonly g: Value;
  readonly c: Value;
  readonly inner: number;
  readonly cols: number;
  /** lines × lineLength rows in each batch; splits divide the lines. */
  readonly lines: number;
  readonly batch?: number;
  readonly conv?: Window & {
    readonly images: number;
    readonly source: readonly [number, number];
    readonly target: readonly [number, number];
  };
}

/** Launches a weight gradient, in splits where it has few invocations or long sums. */
export function launchWeightGradient(lowering: Pick<Lowering, "launch" | "scratch">, w: WeightGradient): void {
  const { inner, cols, lines, batch = 1, conv } = w;
  const taps = conv ? conv.kh * conv.kw : 1;
  const vector = cols % 4 === 0 && inner % 4 === 0, quads = Math.ceil(cols / 4);
  const width = vector ? widest(quads, 4) : 1;
  const lanes = Math.ceil(quads / width), tiles = Math.ceil(inner / 8), count = batch * taps * lanes * tiles;
  const size = taps * inner * cols;
  const lineLength = conv ? conv.target[1] : 1;
  const rows = lines * lineLength, room = Math.floor(Math.min(lines, SPLIT_NUMBERS / size));
  const most = Math.max(1, Math.floor(Math.min(room, rows / ROWS_PER_SPLIT)));
  const accurate = Math.min(room, Math.ceil(rows / ROWS_PER_SUM));
  const least = Math.min(lines, Math.ceil(lines * (lineLength + 1) / TURNS_PER_SPLIT));
  const splits = batch > 1 ? least : Math.max(least, accurate, Math.min(most, Math.ceil(WEIGHT_INVOCATIONS / count)));
  const out = splits > 1 ? lowering.scratch(4 * batch * splits * size) : w.c;
  const spec = (defines: Defines, lanes: number, tiles: number, invocations: number): LaunchSpec => ({
    kernel: weightsKernel,
    defines: { VECTOR: vector, CONV: conv ? 1 : 0, ...defines },
    buffers: [w.a, w.g, out],
    uniforms: [
      lines,
      lineLength,
      inner,
      cols,
      splits,
      conv?.kh ?? 1,
      conv?.kw ?? 1,
      conv?.source[0] ?? 1,
      conv?.source[1] ?? 1,
      conv?.target[0] ?? 1,
      conv?.stride[0] ?? 1,
      conv?.stride[1] ?? 1,
      conv?.padding[0] ?? 0,
      conv?.padding[2] ?? 0,
      lines * inner,
      lines * cols,
      splits * size,
      lanes,
      tiles,
      invocations,
    ],
    workgroups: grid(invocations),
    flops: 2 * batch * lines * lineLength * inner * cols * taps,
  });
  const together = (): LaunchSpec => {
    const side = Math.min(SUBGROUP, 2 ** Math.ceil(Math.log2(quads))), blocks = Math.ceil(quads / side);
    const high = Math.ceil(inner / 32), tile = 4 * Math.ceil(inner / 4 / high);
    const defines = { SUBGROUP: true, QUADS: 1, LANES: side, TILE: tile };
    return spec(defines, blocks, high, batch * taps * splits * blocks * high * side);
  };
  const alone = (width: number): LaunchSpec => {
    const lanes = Math.ceil(quads / width);
    return spec(
      { SUBGROUP: false, QUADS: width, LANES: 1, TILE: 8 },
      lanes,
      tiles,
      batch * taps * splits * lanes * tiles,
    );
  };
  // Narrow tiles where a card would have few invocations.
  const card = () => ({ launch: () => alone(count * splits >= 64 * CARD_WORKGROUPS ? width : 1) });
  lowering.launch(alone(width), { subgroups: vector ? together : undefined, card });
  if (splits > 1) launchSum(lowering, out, w.c, [batch, splits, size]);
}
