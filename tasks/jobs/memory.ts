/** Amounts of memory as people write them, and how much of it the device has. */

import { fitGeneration, fitTraining, type JobPlan, type TrainingSizes } from "../../src/anomaly/budget.ts";
import type { SamplerSizes } from "../../src/anomaly/sampler_graph.ts";
import { UserError } from "../../src/errors.ts";
import { availableMemory } from "../../src/gpu/available_memory.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import type { ModelConfig } from "../../src/weights/config.ts";
import { isSoftware } from "../../src/gpu/device.ts";
import type { Context } from "../command.ts";
import { UsageError } from "../errors.ts";

const UNITS: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
};

/**
 * Bytes of `8GiB`, `6000 MB`, `512m`.
 * @param flag that gave it, for the error
 * @throws UsageError where it is no amount of memory
 * @example
 * ```ts
 * import { memoryBytes } from "./memory.ts";
 * if (memoryBytes("1.5 GiB") !== 1.5 * 2 ** 30) throw new Error();
 * ```
 */
export function memoryBytes(text: string, flag = "--memory"): number {
  const found = /^\s*(\d+(?:\.\d+)?)\s*([kmg]?i?b|[kmg])\s*$/i.exec(text);
  const bytes = found ? Number(found[1]) * (UNITS[found[2].toLowerCase()] ?? NaN) : NaN;
  if (!(bytes > 0)) throw new UsageError(`${flag} is an amount such as 8GiB or 6000MB, not "${text}"`);
  return bytes;
}

/** `4.06 GiB`, `312 MiB`. */
export function gib(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** Share of the free memory that a software adapter may take: it lies in the same memory as everything else. */
const SHARE = 0.8;

/**
 * Device memory to stay within: what was given, else what is known. WebGPU does not say how much a card has; a software
 * adapter has what the system has free.
 */
export function memoryBudget(given: string | undefined, info: GPUAdapterInfo): number {
  if (given !== undefined) return memoryBytes(given);
  if (!isSoftware(info)) return Infinity;
  const { available } = Deno.systemMemoryInfo();
  return available > 0 ? SHARE * available : Infinity;
}

/** Below this a card is not asked: all have it. Drivers and what WebGPU keeps for itself take as much again at most. */
const SMALL = 2 ** 29;

/** What a job takes on the device beyond what is planned: buffers are planned to the byte, pipelines and queues are not. */
const withOverhead = (bytes: number) => 1.05 * bytes + SMALL / 2;
const withoutOverhead = (bytes: number) => Math.max(1, (bytes - SMALL / 2) / 1.05);

/**
 * {@linkcode memoryBudget} of a job. A card, of which nothing is known, is asked for what the job takes without limits: where
 * it has that, there is no budget.
 * @param gpu what it holds already counts as given
 */
export async function jobBudget(
  given: string | undefined,
  gpu: Pick<Gpu, "info" | "allocatedBytes">,
  job: () => JobPlan,
  ask: (bytes: number) => Promise<number> = availableMemory,
): Promise<number> {
  const known = memoryBudget(given, gpu.info);
  if (known < Infinity) return known;
  const needed = withOverhead(job().devicePeak), held = gpu.allocatedBytes, more = needed - held;
  if (needed < SMALL || more <= 0) return Infinity;
  const free = await ask(more);
  return free < more ? withoutOverhead(held + free) : Infinity;
}

/** A device's limit that decides how the autoencoder works. */
interface Device {
  readonly limits: { readonly maxStorageBufferBindingSize: number };
}

function refuse(job: JobPlan, budget: number): never {
  throw new UserError(
    `one image at a time needs ${gib(job.devicePeak)} of device memory, there are ${gib(budget)}`,
    "give more with --memory, or take a smaller model",
  );
}

/**
 * How a training keeps to a budget; says in one line what it does for it. Blocks are computed again first, which changes
 * nothing that is learned; a batch runs in parts only where that is not enough, which changes its last digits.
 * @param given whether the budget is a flag of the run, not what happened to be free: then what does not fit is refused, else
 * it is tried
 * @returns settings of the training, and how many pictures are made on the way at once
 */
export function fitTrainingTo(
  budget: number,
  given: boolean,
  config: ModelConfig,
  sizes: TrainingSizes,
  { limits }: Device,
  context: Pick<Context, "log">,
): { parts?: number; activationBudget?: number; pictures: number } {
  const asked = sizes.validation?.batch ?? 0;
  if (budget === Infinity) return { pictures: asked };
  const binding = limits.maxStorageBufferBindingSize;
  const { job, parts, pictures } = fitTraining(config, sizes, budget, binding);
  if (!job.fits) {
    if (given) refuse(job, budget);
    context.log(`${gib(job.devicePeak)} are needed where ${gib(budget)} are free; it is tried`);
  }
  const again = Math.max(...job.phases.map(({ recomputed }) => recomputed));
  if (again || parts > 1 || pictures < asked) {
    const how = [
      ...(parts > 1 ? [`batches of ${sizes.batch} run in ${parts} parts`] : []),
      ...(again ? [`${again} blocks are computed again in the backward pass`] : []),
      ...(pictures < asked ? [pictures ? "validation pictures are made one by one" : "no validation pictures"] : []),
    ];
    // A later run, or this one when it goes on, may find another amount free.
    const same = parts > 1 && !given
      ? `; --memory ${Math.floor(budget / 2 ** 20)}MiB gives the same last digits again`
      : "";
    context.log(`to stay within ${gib(budget)}: ${how.join(", ")}${same}`);
  }
  return { parts, activationBudget: job.activationBudget, pictures };
}

/**
 * The batch with which a generation keeps to a budget and to what the adapter binds; says in one line where it is a smaller
 * one.
 */
export function fitGenerationTo(
  budget: number,
  config: ModelConfig,
  sizes: SamplerSizes,
  { limits }: Device,
  context: Pick<Context, "log">,
): number {
  const binding = limits.maxStorageBufferBindingSize, { job, batch } = fitGeneration(config, sizes, budget, binding);
  if (!job.fits) refuse(job, budget);
  if (batch < sizes.batch) {
    const limit = budget === Infinity ? "this adapter's bindings" : gib(budget);
    context.log(
      `to stay within ${limit}: batches of ${batch} images instead of ${sizes.batch}; the images do not change`,
    );
  }
  return batch;
}
