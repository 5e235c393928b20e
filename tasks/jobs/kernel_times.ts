/** Where the time of a job goes, kernel by kernel, for `plan --measure --profile`. */

import type { Gpu } from "../../src/gpu/device.ts";
import type { KernelTime } from "../../src/gpu/program.ts";
import type { Plan } from "../../src/graph/plan.ts";
import { profilePlan } from "../../src/graph/profile.ts";
import type { Context } from "../command.ts";

/** Kernels that are shown of a program. */
const SHOWN = 8;

/**
 * Times of the kernels of each program, slowest first.
 * @returns undefined where the adapter cannot tell, which is logged
 */
export async function profilesOf(
  gpu: Gpu,
  programs: ReadonlyMap<string, Plan>,
  context: Pick<Context, "log" | "signal">,
): Promise<[program: string, kernels: KernelTime[]][] | undefined> {
  if (!gpu.hasTimestamps) {
    context.log("this adapter has no timestamp queries: kernels cannot be timed one by one");
    return undefined;
  }
  const all: [string, KernelTime[]][] = [];
  for (const [name, planned] of programs) {
    context.signal.throwIfAborted();
    all.push([name, await profilePlan(gpu, planned)]);
  }
  return all;
}

/** The most expensive kernels of a program: launches, milliseconds, share of the program's time, GFLOP/s where known. */
export function kernelTable(program: string, kernels: readonly KernelTime[]): string[] {
  const sum = (rows: readonly KernelTime[], of: (row: KernelTime) => number) => rows.reduce((n, row) => n + of(row), 0);
  const total = sum(kernels, (row) => row.milliseconds), launches = sum(kernels, (row) => row.launches);
  const line = (name: string, count: number, milliseconds: number, rate = "") => {
    const share = `${(100 * milliseconds / total).toFixed(1)} %`, time = `${milliseconds.toFixed(2)} ms`;
    return `  ${name.padEnd(44)}${String(count).padStart(5)} ×${time.padStart(14)}${share.padStart(9)}${rate}`;
  };
  const rows = kernels.slice(0, SHOWN).map(({ label, launches, milliseconds, gflops }) =>
    line(label, launches, milliseconds, gflops >= 0.05 ? `${gflops.toFixed(1).padStart(10)} GFLOP/s` : "")
  );
  const rest = kernels.slice(SHOWN);
  if (rest.length) {
    rows.push(line(`${rest.length} others`, sum(rest, (row) => row.launches), sum(rest, (row) => row.milliseconds)));
  }
  const heading = `${total.toFixed(2)} ms in ${launches} launches, each by itself, by the adapter's clock`;
  return ["", `Kernels of ${program}: ${heading}`, ...rows];
}
