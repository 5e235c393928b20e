/**
 * Speed of the engine's heavy ops at the small U-Net's shapes (batch 8, widths 64, 96 and 128 at 16², 8² and 4²) and at one
 * layer of the decoder: milliseconds and GFLOPS of the forward pass and of the gradients with respect to the activations
 * and to the weights, best of several runs. Times are GPU timestamps; on a software adapter they are processor time over all
 * cores, which other work on the machine disturbs less, and GFLOPS are per core. What a gradient needs of the forward pass
 * counts as its.
 *
 *     deno run -A bench/ops.ts [words that the lines shall contain]
 *
 * @module
 */

import process from "node:process";
import { Gpu } from "../src/gpu/device.ts";
import { compile } from "../src/graph/compile.ts";
import { gradient } from "../src/graph/gradient.ts";
import { attention } from "../src/graph/ops/attention.ts";
import { conv2d, linear } from "../src/graph/ops/gemm.ts";
import { groupNorm } from "../src/graph/ops/norms.ts";
import type { Shape, Tensor } from "../src/graph/tensor.ts";
import { sizeOf } from "../src/graph/tensor.ts";
import { filled, Variable } from "../src/graph/variable.ts";
import { Random } from "../src/random/philox.ts";

/** Timed runs of each program, after one to warm up. */
const RUNS = 7;

/** One line of the table: `build` is given x first, then the weights. */
interface Bench {
  readonly name: string;
  readonly x: Shape;
  readonly weights?: readonly Shape[];
  readonly half?: boolean;
  readonly build: (x: Tensor, ...weights: Tensor[]) => Tensor;
}

const conv = (x: Shape, out: number, size = 3, half = false): Bench => ({
  name: `conv2d ${size}×${size} [${x}] → ${out}${half ? " f16" : ""}`,
  x,
  weights: [[size, size, x[3], out]],
  half,
  build: (x, w) => conv2d(x, w, { padding: Array(4).fill((size - 1) / 2) as [number, number, number, number] }),
});

const dense = (x: Shape, out: number, half = false): Bench => ({
  name: `linear [${x}] → ${out}${half ? " f16" : ""}`,
  x,
  weights: [[x.at(-1)!, out]],
  half,
  build: linear,
});

const norm = (x: Shape): Bench => ({
  name: `groupNorm + silu [${x}]`,
  x,
  build: (x) => {
    const channels = x.shape.at(-1)!, groups = Math.min(16, channels / 4);
    return groupNorm(x, filled([channels], 1), filled([channels], 0), { groups, eps: 1e-6, activation: "silu" });
  },
});

const self = (x: Shape, heads: number): Bench => ({
  name: `attention [${x}] ${heads} heads`,
  x,
  build: (x) => attention(x, x, x, { heads }),
});

const benches: readonly Bench[] = [
  conv([8, 16, 16, 64], 64),
  conv([8, 8, 8, 96], 96),
  conv([8, 4, 4, 128], 128),
  conv([8, 16, 16, 160], 64),
  conv([8, 16, 16, 64], 64, 3, true),
  conv([8, 4, 4, 128], 128, 3, true),
  conv([1, 64, 64, 128], 128),
  conv([1, 64, 64, 128], 128, 3, true),
  conv([8, 16, 16, 4], 64),
  dense([8, 256, 64], 64),
  dense([8, 256, 64], 512),
  dense([8, 64, 96], 96),
  dense([8, 16, 128], 128),
  dense([8, 24, 128], 128),
  dense([8, 256], 256),
  dense([8, 16, 128], 128, true),
  dense([512, 512], 512),
  norm([8, 16, 16, 64]),
  norm([8, 8, 8, 96]),
  norm([8, 4, 4, 128]),
  self([8, 256, 64], 4),
  self([8, 64, 96], 4),
  self([8, 16, 128], 4),
];

/** Milliseconds and GFLOPS of what `t` needs, best of {@linkcode RUNS}. */
async function time(gpu: Gpu, t: Tensor): Promise<{ ms: number; gflops: number }> {
  using program = compile(gpu, { t });
  const flops = program.report.flops;
  const steps = gpu.info.isFallbackAdapter ? Math.ceil(1e8 / flops) : 1;
  const once = async () => {
    if (!gpu.info.isFallbackAdapter) return (await program.profile()).reduce((sum, row) => sum + row.milliseconds, 0);
    const before = process.cpuUsage();
    for (let step = 0; step < steps; step++) program.step();
    await gpu.settle();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 / steps;
  };
  await once();
  let best = Infinity;
  for (let run = 0; run < RUNS; run++) best = Math.min(best, await once());
  return { ms: best, gflops: flops / best / 1e6 };
}

if (import.meta.main) {
  using gpu = await Gpu.open();
  console.log(gpu.info.description || gpu.info.device);
  const row = (name: string, cells: string[]) =>
    console.log(name.padEnd(42) + cells.map((c) => c.padStart(22)).join(""));
  row("", ["forward", "dx", "dw"]);
  for (const bench of benches.filter(({ name }) => Deno.args.every((word) => name.includes(word)))) {
    const variables = [bench.x, ...bench.weights ?? []].map((shape, i) => {
      const values = new Random(1, "bench", i).normals(sizeOf(shape));
      return new Variable(`${bench.name} ${i}`, shape, values, i && bench.half ? "f16" : "f32");
    });
    const tensors = variables.map((v) => v.tensor), [x, ...weights] = tensors;
    const y = bench.build(x, ...weights);
    const seed = new Variable("dy", y.shape, new Random(1, "bench", 9).normals(y.size));
    const cells: string[] = [];
    for (const t of [y, ...gradient(y, bench.half ? [x] : tensors, seed.tensor)]) {
      const { ms, gflops } = await time(gpu, t);
      cells.push(`${ms.toFixed(2)} ms ${gflops.toFixed(1).padStart(5)} GF`);
    }
    row(bench.name, cells);
    for (const variable of [...variables, seed]) variable[Symbol.dispose]();
  }
}
