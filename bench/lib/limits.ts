/** What the adapter itself can do, found in the same run: the best rate of matrix products, and the best rate of copying. */

import process from "node:process";
import type { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { affine } from "../../src/graph/ops/pointwise.ts";
import { Variable } from "../../src/graph/variable.ts";

/** The adapter's limits, with what reached them. */
export interface Limits {
  readonly matmul: {
    readonly gflops: number;
    readonly what: string;
    /** Rows, inner numbers and columns of that product, and how its weights lie. */
    readonly product?: readonly [number, number, number];
    readonly dtype?: "f16" | "f32";
    /** On software adapters: GFLOP per second of processor time, which other work on the machine hardly changes. */
    readonly perProcessor?: number;
  };
  /** Bytes read plus bytes written, per second / 10⁹. */
  readonly copy: { readonly gbps: number; readonly what: string };
}

/** Seconds of a run of `steps` submits and one wait, the best of several, and the least processor time. */
async function timesOf(gpu: Gpu, step: () => void, rounds: number): Promise<{ seconds: number; processor: number }> {
  step();
  await gpu.settle(); // compiles
  let best = Infinity, processor = Infinity;
  for (let round = 0, steps = 1; round < rounds;) {
    const start = performance.now(), before = process.cpuUsage();
    for (let i = 0; i < steps; i++) step();
    await gpu.settle();
    const spent = performance.now() - start;
    // A wait takes about 11 ms by itself: longer runs until it no longer counts.
    if (spent < 250 && steps < 4096) {
      steps = Math.min(4096, Math.ceil(steps * Math.max(2, 300 / spent)));
      continue;
    }
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, spent / steps / 1000);
    processor = Math.min(processor, (user + system) / 1e6 / steps);
    round++;
  }
  return { seconds: best, processor };
}

/** One linear layer of these sizes. */
function product(gpu: Gpu, [rows, inner, columns]: readonly number[], dtype: "f16" | "f32") {
  const owned = new DisposableStack();
  const x = owned.use(new Variable("x", [rows, inner], new Float32Array(rows * inner).fill(1 / inner)));
  const w = owned.use(new Variable("w", [inner, columns], new Float32Array(inner * columns).fill(1), dtype));
  const program = owned.use(compile(gpu, { y: linear(x.tensor, w.tensor) })), { flops } = program.report;
  return { step: () => program.step(), flops, [Symbol.dispose]: () => owned.dispose() };
}

/** FLOP/s / 10⁹ of one linear layer of these sizes, by the clock and by processor time. */
async function productRate(gpu: Gpu, sizes: readonly number[], dtype: "f16" | "f32", rounds: number) {
  using one = product(gpu, sizes, dtype);
  const { seconds, processor } = await timesOf(gpu, one.step, rounds);
  return { gflops: one.flops / seconds / 1e9, perProcessor: one.flops / processor / 1e9 };
}

/** The best product again, for about as long as it takes to tell its rate: beside a case, on a machine as busy as the case saw it. */
export interface Probe extends Disposable {
  /** FLOP/s / 10⁹ of a run of half a second. */
  run(): Promise<number>;
}

/** Opens the best product of a run. */
export async function openProbe(gpu: Gpu, { matmul }: Limits): Promise<Probe | undefined> {
  if (!matmul.product || !matmul.dtype) return undefined;
  const one = product(gpu, matmul.product, matmul.dtype);
  one.step();
  await gpu.settle();
  const steps = Math.max(1, Math.ceil(0.5e9 * matmul.gflops / one.flops));
  return {
    async run() {
      const start = performance.now();
      for (let i = 0; i < steps; i++) one.step();
      await gpu.settle();
      return steps * one.flops / (performance.now() - start) / 1e6;
    },
    [Symbol.dispose]: () => one[Symbol.dispose](),
  };
}

/** GB/s of copies of `bytes` by the queue, and of a kernel that reads and writes as many. */
async function copyRates(gpu: Gpu, bytes: number, rounds: number) {
  const [from, to] = ["from", "to"].map((label) => gpu.acquire(bytes, label));
  const queue = await timesOf(gpu, () => {
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
    gpu.device.queue.submit([encoder.finish()]);
  }, rounds);
  for (const buffer of [from, to]) gpu.release(buffer);
  using x = new Variable("x", [bytes / 4], new Float32Array(bytes / 4));
  using program = compile(gpu, { y: affine(x.tensor, 2) });
  const kernel = await timesOf(gpu, () => program.step(), rounds);
  return { queue: 2 * bytes / queue.seconds / 1e9, kernel: 2 * bytes / kernel.seconds / 1e9 };
}

/**
 * Measures both limits.
 * @param quick one size of each
 */
export async function measureLimits(gpu: Gpu, quick: boolean): Promise<Limits> {
  const rounds = quick ? 1 : 4;
  let matmul: Limits["matmul"] = { gflops: 0, what: "" }, best = 0;
  const sizes = quick
    ? [[512, 512, 512]]
    : gpu.info.isFallbackAdapter
    ? [[512, 512, 512], [1024, 512, 512], [256, 1024, 1024], [1024, 1024, 1024]]
    : [[1024, 1024, 1024], [2048, 2048, 2048], [4096, 4096, 4096]];
  for (const size of sizes) {
    for (const dtype of ["f32", "f16"] as const) {
      const { gflops, perProcessor } = await productRate(gpu, size, dtype, rounds);
      best = Math.max(best, perProcessor);
      if (gflops > matmul.gflops) {
        const [rows, inner, columns] = size, what = `${size.join(" × ")}, ${dtype} weights`;
        matmul = { gflops, what, product: [rows, inner, columns], dtype };
      }
    }
  }
  const { queue, kernel } = await copyRates(gpu, (quick ? 16 : 64) * 2 ** 20, rounds);
  const copy = queue > kernel ? { gbps: queue, what: "buffer copy" } : { gbps: kernel, what: "y = 2·x" };
  return { matmul: gpu.info.isFallbackAdapter ? { ...matmul, perProcessor: best } : matmul, copy };
}

/** The higher of each. */
export function betterLimits(a: Limits, b: Limits): Limits {
  const better = a.matmul.gflops > b.matmul.gflops ? a.matmul : b.matmul;
  const rates = [a, b].flatMap(({ matmul: { perProcessor } }) => perProcessor ?? []);
  return {
    matmul: rates.length ? { ...better, perProcessor: Math.max(...rates) } : better,
    copy: a.copy.gbps > b.copy.gbps ? a.copy : b.copy,
  };
}
