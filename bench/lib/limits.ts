/** What the adapter itself can do, found in the same run: the best rate of matrix products, and the best rate of copying. */

import type { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { affine } from "../../src/graph/ops/pointwise.ts";
import { Variable } from "../../src/graph/variable.ts";

/** The adapter's limits, with what reached them. */
export interface Limits {
  readonly matmul: { readonly gflops: number; readonly what: string };
  /** Bytes read plus bytes written, per second / 10⁹. */
  readonly copy: { readonly gbps: number; readonly what: string };
}

/** Seconds of a run of `steps` submits and one wait, the best of several. */
async function seconds(gpu: Gpu, step: () => void, rounds: number): Promise<number> {
  step();
  await gpu.settle(); // compiles
  let best = Infinity;
  for (let round = 0, steps = 1; round < rounds;) {
    const start = performance.now();
    for (let i = 0; i < steps; i++) step();
    await gpu.settle();
    const spent = performance.now() - start;
    // A wait takes about 11 ms by itself: longer runs until it no longer counts.
    if (spent < 250 && steps < 4096) {
      steps = Math.min(4096, Math.ceil(steps * Math.max(2, 300 / spent)));
      continue;
    }
    best = Math.min(best, spent / steps / 1000);
    round++;
  }
  return best;
}

/** FLOP/s / 10⁹ of one linear layer of these sizes. */
async function productRate(gpu: Gpu, [rows, inner, columns]: readonly number[], dtype: "f16" | "f32", rounds: number) {
  using x = new Variable("x", [rows, inner], new Float32Array(rows * inner).fill(1 / inner));
  using w = new Variable("w", [inner, columns], new Float32Array(inner * columns).fill(1), dtype);
  using program = compile(gpu, { y: linear(x.tensor, w.tensor) });
  return program.report.flops / await seconds(gpu, () => program.step(), rounds) / 1e9;
}

/** GB/s of copies of `bytes` by the queue, and of a kernel that reads and writes as many. */
async function copyRates(gpu: Gpu, bytes: number, rounds: number) {
  const [from, to] = ["from", "to"].map((label) => gpu.acquire(bytes, label));
  const queue = 2 * bytes / await seconds(gpu, () => {
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
    gpu.device.queue.submit([encoder.finish()]);
  }, rounds);
  for (const buffer of [from, to]) gpu.release(buffer);
  using x = new Variable("x", [bytes / 4], new Float32Array(bytes / 4));
  using program = compile(gpu, { y: affine(x.tensor, 2) });
  const kernel = 2 * bytes / await seconds(gpu, () => program.step(), rounds);
  return { queue: queue / 1e9, kernel: kernel / 1e9 };
}

/**
 * Measures both limits.
 * @param quick one size of each
 */
export async function measureLimits(gpu: Gpu, quick: boolean): Promise<Limits> {
  const rounds = quick ? 1 : 4;
  let matmul = { gflops: 0, what: "" };
  const sizes = quick
    ? [[512, 512, 512]]
    : gpu.info.isFallbackAdapter
    ? [[512, 512, 512], [1024, 512, 512], [256, 1024, 1024], [1024, 1024, 1024]]
    : [[1024, 1024, 1024], [2048, 2048, 2048], [4096, 4096, 4096]];
  for (const size of sizes) {
    for (const dtype of ["f32", "f16"] as const) {
      const gflops = await productRate(gpu, size, dtype, rounds);
      if (gflops > matmul.gflops) matmul = { gflops, what: `${size.join(" × ")}, ${dtype} weights` };
    }
  }
  const { queue, kernel } = await copyRates(gpu, (quick ? 16 : 64) * 2 ** 20, rounds);
  const copy = queue > kernel ? { gbps: queue, what: "buffer copy" } : { gbps: kernel, what: "y = 2·x" };
  return { matmul, copy };
}

/** The higher of each. */
export function betterLimits(a: Limits, b: Limits): Limits {
  return {
    matmul: a.matmul.gflops > b.matmul.gflops ? a.matmul : b.matmul,
    copy: a.copy.gbps > b.copy.gbps ? a.copy : b.copy,
  };
}
