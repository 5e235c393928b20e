/** What the kernels of a plan cost on a device, without its weights: the plan's own launches and memory, with made-up numbers. */

import type { Gpu } from "../gpu/device.ts";
import { type KernelTime, Program, type Region } from "../gpu/program.ts";
import { tuningOf } from "./compile.ts";
import { roundUp } from "./memory.ts";
import type { Value } from "./op.ts";
import { type Plan, wayOf } from "./plan.ts";
import { numbers } from "./tuner.ts";

/** How long a card is kept busy, in milliseconds: it wakes from its idle clock meanwhile (H100: five times as slow at first). */
const WARMING = 500;

/**
 * Runs a plan twice, the second time with a timestamp around every launch, on a card again and again until it is awake, of which
 * the fastest counts; slowest first, products and convolutions by class
 * (reader, storage, sizes down to powers of two), all others by kernel.
 * @throws Error where the adapter has no timestamp queries
 */
export async function profilePlan(gpu: Gpu, planned: Plan): Promise<KernelTime[]> {
  const buffers: GPUBuffer[] = [], leaves = new Map<Value, GPUBuffer>();
  const own = (bytes: number, label: string) => {
    const buffer = gpu.acquire(bytes, label);
    buffers.push(buffer);
    return buffer;
  };
  try {
    for (const [{ dtype }, value] of planned.leaves) {
      const size = roundUp(value.bytes), buffer = own(size, "profiled leaf");
      // Whole numbers may be places in a table.
      gpu.write(buffer, dtype === "u32" ? new Uint32Array(size / 4) : numbers(size / 4));
      leaves.set(value, buffer);
    }
    const shared = planned.bufferBytes.map((bytes) => own(bytes, "profiled activations"));
    const place = (value: Value): Region => {
      const size = roundUp(value.bytes), leaf = leaves.get(value);
      if (leaf) return { buffer: leaf, offset: 0, size };
      const { buffer, offset } = planned.places[planned.slots.get(value)!];
      return { buffer: shared[buffer], offset, size };
    };
    const tuning = tuningOf(gpu);
    using program = new Program(
      gpu,
      planned.launches.map((launch) => {
        const { kernel, defines = {}, uniforms = [], workgroups, ...way } = wayOf(launch, launch.alternatives, tuning);
        return {
          label: launch.alternatives?.tunable?.key ?? kernel.name,
          ...{ kernel, defines, uniforms, workgroups },
          buffers: way.buffers.map(place),
          flops: launch.flops,
        };
      }),
    );
    program.replay(); // compiles
    const total = (times: readonly KernelTime[]) => times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    const start = performance.now();
    let best = await program.profile("label");
    while (gpu.card && performance.now() - start < WARMING) {
      const again = await program.profile("label");
      if (total(again) < total(best)) best = again;
    }
    return best;
  } finally {
    for (const buffer of buffers) gpu.release(buffer);
  }
}
