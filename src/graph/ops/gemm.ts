/**
 * Linear layers, batched matrix products and 2-D convolution: one GEMM skeleton (`shaders/gemm.wgsl`), whose readers make
 * it a product, an implicit-GEMM convolution, or either's input gradient; `gemm_weights.wgsl` makes the weight gradients.
 */

import { fnv1a } from "../../random/philox.ts";
import functions from "../../../shaders/functions.wgsl" with { type: "text" };
import source from "../../../shaders/gemm.wgsl" with { type: "text" };
import weightsSource from "../../../shaders/gemm_weights.wgsl" with { type: "text" };
import {
  apply,
  defineOp,
  type Epilogue,
  f32,
  grid,
  kernel,
  type LaunchSpec,
  type Lowering,
  require,
  type Value,
} from "../op.ts";
import type { Defines } from "../../gpu/template.ts";
import { sameShape, type Shape, sizeOf, type Tensor } from "../tensor.ts";
import {
  defaultVariant,
  gemmClass,
  gemmLayout,
  type GemmSizes,
  type GemmVariant,
  gemmVariants,
  isVector,
  SUBGROUP,
  subgroupDefines,
  subgroupVariant,
  variantName,
  variantsFor,
  widest,
  workgroupBytes,
} from "./gemm_variants.ts";
import { launchSum, sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

/** Stride and zero padding of a convolution. */
export interface Conv2dOptions {
  /** [vertical, horizontal], default [1, 1]. */
  readonly stride?: readonly [number, number];
  /** [top, bottom, left, right], default 0. */
  readonly padding?: readonly [number, number, number, number];
}

interface Window {
  readonly kh: number;
  readonly kw: number;
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number, number, number];
}

interface Gemm {
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

const gemmKernels = [0, 1, 2, 3].map((added) =>
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

/** The kernel's text for an epilogue, and the tensors that it adds. */
function epilogueText(steps: readonly Epilogue[], vector: boolean, batch: number, tile: number) {
  const added: Value[] = [], once: string[] = [], each: string[] = [];
  let group = 1;
  for (const step of steps) {
    if (step.kind === "unary") {
      const constant = step.constant === undefined ? "" : `, f32(${step.constant})`;
      each.push(`  v = ${step.expression}${vector ? "4" : ""}(v${constant});`);
      continue;
    }
    const i = added.length;
    added.push(step.value);
    if (step.kind === "residual") {
      each.push(`  v += e${i}[row * width + quad];`);
    } else if (step.kind === "column") {
      once.push(`  h.h${i} = e${i}[quad];`);
      each.push(`  v += h.h${i};`);
    } else {
      group = step.rows;
      const text = `e${i}[row / s.group * width + quad];`;
      // A tile's rows share their group where tiles do not straddle groups.
      if (vector && batch === 1 && group % tile === 0) {
        once.push(`  h.h${i} = ${text}`);
        each.push(`  v += h.h${i};`);
      } else each.push(`  v += ${text}`);
    }
  }
  return { once: once.join("\n"), each: each.join("\n"), added, group };
}

function launchGemm({ launch }: Pick<Lowering, "launch">, g: Gemm): void {
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
  launch(gemmLaunch(g, sizes, defaultVariant(sizes)), {
    subgroups: together && (() => gemmLaunch(g, sizes, together)),
    tunable: {
      key: gemmClass(sizes),
      variants: variantsFor(sizes).map((variant) => ({
        name: variantName(variant),
        workgroupBytes: workgroupBytes(variant),
        subgroups: variant.subgroup,
        f16: variant.f16,
        launch: () => gemmLaunch(g, sizes, variant),
      })),
    },
  });
}

function gemmLaunch(g: Gemm, sizes: GemmSizes, variant: GemmVariant): LaunchSpec {
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
 * GFLOPS per core where 4,096 ran 6 and 16,384 4.5 (llvmpipe, as above).
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

interface WeightGradient {
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

function launchWeightGradient(lowering: Pick<Lowering, "launch" | "scratch">, w: WeightGradient): void {
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
  lowering.launch(
    spec({ SUBGROUP: false, QUADS: width, LANES: 1, TILE: 8 }, lanes, tiles, count * splits),
    { subgroups: vector ? together : undefined },
  );
  if (splits > 1) launchSum(lowering, out, w.c, [batch, splits, size]);
}

const linearOp = defineOp<null>({
  name: "linear",
  epilogue: true,
  shape(inputs) {
    const [x, w] = inputs;
    require(x.dtype === "f32" && w.rank === 2, "linear", "needs x [..., K] f32 and w [K, N]", inputs);
    require(x.shape.at(-1) === w.shape[0], "linear", "inner sizes differ", inputs);
    return [f32([...x.shape.slice(0, -1), w.shape[1]])];
  },
  gradient: ({ inputs: [x, w], grads: [dy] }) => [
    () => apply(linearInputOp, [dy!, w], null)[0],
    () => apply(linearWeightOp, [x, dy!], null)[0],
  ],
  lower(lowering) {
    const { node, inputs, outputs, epilogue } = lowering;
    const [x, w] = node.inputs, [inner, cols] = w.shape;
    const rows = x.size / inner;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows,
      cols,
      inner,
      half: w.dtype === "f16",
      epilogue,
    });
  },
});

/** dx [..., K] = dy [..., N] · wᵀ. */
const linearInputOp = defineOp<null>({
  name: "linearInput",
  epilogue: true,
  shape: ([dy, w]) => [f32([...dy.shape.slice(0, -1), w.shape[0]])],
  lower(lowering) {
    const { node, inputs, outputs, epilogue } = lowering;
    const [dy, w] = node.inputs, [cols, inner] = w.shape;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows: dy.size / inner,
      cols,
      inner,
      transposed: true,
      half: w.dtype === "f16",
      epilogue,
    });
  },
});

/** dw [K, N] = Σ over rows of xᵀ · dy. */
const linearWeightOp = defineOp<null>({
  name: "linearWeight",
  shape: ([x, dy]) => [f32([x.shape.at(-1)!, dy.shape.at(-1)!])],
  lower(lowering) {
    const [x, dy] = lowering.node.inputs;
    const inner = x.shape.at(-1)!;
    launchWeightGradient(lowering, {
      a: lowering.inputs[0],
      g: lowering.inputs[1],
      c: lowering.outputs[0],
      inner,
      cols: dy.shape.at(-1)!,
      lines: x.size / inner,
    });
  },
});

/**
 * y = x·w, a linear layer without its bias (add it: the planner fuses the sum into this kernel's write).
 * @param x [..., K], f32
 * @param w [K, N], f32 or f16
 * @returns [..., N]
 */
export function linear(x: Tensor, w: Tensor): Tensor {
  return apply(linearOp, [x, w], null)[0];
}

interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

const matmulOp = defineOp<MatmulOptions>({
  name: "matmul",
  epilogue: true,
  shape(inputs, { transposeA, transposeB }) {
    const [a, b] = inputs;
    const last = (t: Tensor, swap?: boolean) => (swap ? t.shape.slice(-2).reverse() : t.shape.slice(-2));
    const [m, k] = last(a, transposeA), [k2, n] = last(b, transposeB);
    require(a.rank === b.rank && a.rank >= 2, "matmul", "ranks differ", inputs);
    require(sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2)), "matmul", "batch axes differ", inputs);
    require(k === k2, "matmul", "inner sizes differ", inputs);
    require(!(transposeA && transposeB), "matmul", "transposes one side at most", inputs);
    require(a.dtype === "f32" && b.dtype === "f32", "matmul", "needs f32", inputs);
    return [f32([...a.shape.slice(0, -2), m, n])];
  },
  gradient({ inputs: [a, b], attributes: { transposeA, transposeB }, grads: [dy] }) {
    if (transposeA) return [() => matmul(b, dy!, { transposeB: true }), () => matmul(a, dy!)];
    if (transposeB) return [() => matmul(dy!, b), () => matmul(dy!, a, { transposeA: true })];
    return [() => matmul(dy!, b, { transposeB: true }), () => matmul(a, dy!, { transposeA: true })];
  },
  lower(lowering) {
    const { node, attributes: { transposeA, transposeB }, inputs, outputs, epilogue } = lowering;
    const [a] = node.inputs, [rows, cols] = node.outputs[0].shape.slice(-2);
    const batch = sizeOf(node.outputs[0].shape.slice(0, -2));
    const inner = a.shape.at(transposeA ? -2 : -1)!;
    if (transposeA) {
      if (epilogue.length) throw new Error("matmul: a transposed first factor takes no epilogue");
      const [value, g] = inputs;
      return launchWeightGradient(lowering, { a: value, g, c: outputs[0], inner: rows, cols, lines: inner, batch });
    }
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows,
      cols,
      inner,
      batch,
      transposed: transposeB,
      epilogue,
    });
  },
});

/** As matmul, for a transposed first factor, whose kernel has no epilogue. */
const matmulTransposedOp = defineOp<MatmulOptions>({ ...matmulOp, epilogue: undefined });

/**
 * Batched matrix product a·b over the last two axes.
 * @param a [..., M, K], or [..., K, M] with transposeA
 * @param b [..., K, N], or [..., N, K] with transposeB; not both
 * @returns [..., M, N]
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  return apply(options.transposeA ? matmulTransposedOp : matmulOp, [a, b], options)[0];
}

/** Height and width after a convolution or pooling. */
export function windowedSize([height, width]: Shape, { kh, kw, stride, padding }: Window): [number, number] {
  return [
    Math.floor((height + padding[0] + padding[1] - kh) / stride[0]) + 1,
    Math.floor((width + padding[2] + padding[3] - kw) / stride[1]) + 1,
  ];
}

const conv2dOp = defineOp<Window>({
  name: "conv2d",
  epilogue: true,
  shape(inputs, window) {
    const [x, w] = inputs;
    require(
      x.rank === 4 && w.rank === 4 && x.dtype === "f32",
      "conv2d",
      "needs x [B, H, W, C] and w [kh, kw, C, O]",
      inputs,
    );
    require(x.shape[3] === w.shape[2], "conv2d", "channels differ", inputs);
    return [f32([x.shape[0], ...windowedSize(x.shape.slice(1, 3), window), w.shape[3]])];
  },
  gradient: ({ inputs: [x, w], attributes: window, grads: [dy] }) => [
    () => apply(conv2dInputOp, [dy!, w], { ...window, target: x.shape })[0],
    () => apply(conv2dWeightOp, [x, dy!], window)[0],
  ],
  lower(lowering) {
    const { node, attributes: window, inputs, outputs, epilogue } = lowering;
    const [x, w] = node.inputs, [, height, width, cols] = node.outputs[0].shape;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows: x.shape[0] * height * width,
      cols,
      inner: x.shape[3],
      half: w.dtype === "f16",
      conv: { ...window, gradient: false, source: [x.shape[1], x.shape[2]], target: [height, width] },
      epilogue,
    });
  },
});

const conv2dInputOp = defineOp<Window & { target: Shape }>({
  name: "conv2dInput",
  epilogue: true,
  shape: (_, { target }) => [f32(target)],
  lower(lowering) {
    const { node, attributes: { target, ...window }, inputs, outputs, epilogue } = lowering;
    const [dy, w] = node.inputs;
    launchGemm(lowering, {
      a: inputs[0],
      b: inputs[1],
      c: outputs[0],
      rows: target[0] * target[1] * target[2],
      cols: target[3],
      inner: dy.shape[3],
      transposed: true,
      half: w.dtype === "f16",
      conv: { ...window, gradient: true, source: [dy.shape[1], dy.shape[2]], target: [target[1], target[2]] },
      epilogue,
    });
  },
});

const conv2dWeightOp = defineOp<Window>({
  name: "conv2dWeight",
  shape: ([x, dy], { kh, kw }) => [f32([kh, kw, x.shape[3], dy.shape[3]])],
  lower(lowering) {
    const { node: { inputs: [x, dy] }, attributes: window, inputs, outputs } = lowering;
    launchWeightGradient(lowering, {
      a: inputs[0],
      g: inputs[1],
      c: outputs[0],
      inner: x.shape[3],
      cols: dy.shape[3],
      lines: dy.shape[0] * dy.shape[1],
      conv: { ...window, images: x.shape[0], source: [x.shape[1], x.shape[2]], target: [dy.shape[1], dy.shape[2]] },
    });
  },
});

/**
 * 2-D convolution (cross-correlation, as PyTorch's) without its bias.
 * @param x [B, H, W, C], f32
 * @param w [kh, kw, C, O], f32 or f16
 * @returns [B, H′, W′, O] with H′ = ⌊(H + top + bottom − kh) / stride⌋ + 1
 */
export function conv2d(x: Tensor, w: Tensor, { stride = [1, 1], padding = [0, 0, 0, 0] }: Conv2dOptions = {}): Tensor {
  const [kh, kw, inner, cols] = w.shape;
  // A 1×1 convolution is a linear layer over pixels.
  if (kh === 1 && kw === 1 && stride[0] === 1 && stride[1] === 1 && padding.every((n) => n === 0)) {
    return linear(x, reshape(w, [inner, cols]));
  }
  return apply(conv2dOp, [x, w], { kh, kw, stride, padding })[0];
}

/** Sum over all axes but the last: the gradient of a bias. */
export function sumRows(x: Tensor): Tensor {
  return sum(x, x.shape.slice(0, -1).map((_, i) => i));
}
