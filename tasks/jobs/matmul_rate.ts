/** How fast an adapter multiplies matrices: what the estimate of a job's time rests on. */

import type { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { Variable } from "../../src/graph/variable.ts";

/** Products in one run, so that the time is not the round trip's. */
const REPEATS = 4;

/**
 * FLOP/s of products of f32 matrices, the best of three runs of a second at most.
 * @param side of the square matrices; small at first, larger where that is quick
 */
export async function matmulRate(gpu: Gpu, side = 512): Promise<number> {
  using x = new Variable("x", [side, side], new Float32Array(side * side).fill(1 / side));
  using w = new Variable("w", [side, side], new Float32Array(side * side).fill(1 / side), "f16");
  let y = x.tensor;
  for (let i = 0; i < REPEATS; i++) y = linear(y, w.tensor);
  using program = compile(gpu, { y });
  program.step();
  await gpu.settle(); // compiles
  let best = Infinity;
  for (let run = 0; run < 3; run++) {
    const start = performance.now();
    program.step();
    await gpu.settle();
    best = Math.min(best, performance.now() - start);
  }
  // A wait takes about 11 ms by itself: shorter runs say little.
  if (best < 100 && side < 8192) return await matmulRate(gpu, 2 * side);
  return program.report.flops / (best / 1000);
}
