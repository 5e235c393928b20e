/**
 * How much of a step is JavaScript, and whether memory grows: many steps back to back, with all time outside of
 * waits and submits counted as JavaScript's. That is an upper limit: while the host works, the adapter does too.
 */

import { BaseModel } from "../../src/anomaly/base_model.ts";
import { PairGenerator } from "../../src/anomaly/generate.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { benchEmbedding, benchInversion, benchPair, pairSettings, SMALL_MODEL } from "./cases_jobs.ts";

/** What many steps of a job showed. */
export interface HostFigures {
  readonly name: string;
  readonly steps: number;
  /** Milliseconds of a step, and the host's part of them. */
  readonly step: number;
  readonly host: number;
  /** Bytes more after the last step than after the first fifth. */
  readonly growth: { readonly device: number; readonly heap: number; readonly process: number };
}

/**
 * Milliseconds that are not JavaScript's, from now on: waits for results, and the queue's `submit`, in which a software
 * adapter runs what was submitted before.
 */
function watchWaits(gpu: Gpu): { waited: number; stop(): void } {
  const { queue } = gpu.device, { read, settle } = gpu, submit = queue.submit;
  let waiting = 0;
  const watch = {
    waited: 0,
    stop() {
      Object.assign(gpu, { read, settle });
      queue.submit = submit;
    },
  };
  const timed = <A extends unknown[], R>(wait: (...args: A) => Promise<R>) => async (...args: A): Promise<R> => {
    const start = performance.now();
    waiting++;
    try {
      return await wait.apply(gpu, args);
    } finally {
      waiting--;
      watch.waited += performance.now() - start;
    }
  };
  Object.assign(gpu, { read: timed(read), settle: timed(settle) });
  queue.submit = (buffers) => {
    const start = performance.now();
    submit.call(queue, buffers);
    if (!waiting) watch.waited += performance.now() - start;
  };
  return watch;
}

/** Bytes in use, after a collection where the host can be asked for one (`--v8-flags=--expose-gc`). */
function usage(gpu: Gpu) {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, external, rss } = Deno.memoryUsage();
  return { device: gpu.allocatedBytes, heap: heapUsed + external, process: rss };
}

/** Runs `chunk` steps at a time until there are `steps`. */
async function observe(
  gpu: Gpu,
  name: string,
  steps: number,
  chunk: number,
  run: () => Promise<void>,
): Promise<HostFigures> {
  await run(); // compiles
  const rounds = Math.max(2, Math.ceil(steps / chunk)), settled = Math.max(1, Math.floor(rounds / 5));
  const watch = watchWaits(gpu);
  let spent = 0, before = usage(gpu);
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    await run();
    spent += performance.now() - start;
    if (round + 1 === settled) before = usage(gpu);
  }
  watch.stop();
  const after = usage(gpu), count = rounds * chunk;
  return {
    name,
    steps: count,
    step: spent / count,
    host: (spent - watch.waited) / count,
    growth: {
      device: after.device - before.device,
      heap: after.heap - before.heap,
      process: after.process - before.process,
    },
  };
}

/**
 * Training and sampling steps of the small model.
 * @param steps of each
 */
export async function hostFigures(gpu: Gpu, steps: number): Promise<HostFigures[]> {
  using base = new BaseModel(gpu, SMALL_MODEL);
  const figures: HostFigures[] = [], chunk = Math.min(10, Math.ceil(steps / 2));
  {
    using inversion = benchInversion(base, 1e6);
    figures.push(
      await observe(gpu, "training, small model, batch 4", steps, chunk, async () => {
        await inversion.advance(inversion.steps + chunk);
      }),
    );
  }
  const whole = Math.min(50, Math.ceil(steps / 2)), settings = { ...pairSettings, batch: 1, steps: whole };
  using generator = new PairGenerator(base, benchEmbedding(base), settings);
  figures.push(
    await observe(gpu, "sampling, small model, batch 1, with encode and decode", steps, whole, async () => {
      await Array.fromAsync(generator.generate([benchPair(base.side, 0)]));
    }),
  );
  return figures;
}
