/** Timing of a case: every side's output is checked against ours, then the sides run in turns. */

import process from "node:process";
import { distance, median } from "./arrays.ts";
import type { Case, Timing } from "./cases.ts";
import type { Probe } from "./limits.ts";
import type { CaseResult } from "./results.ts";
import type { Rival } from "./rivals.ts";

/** Largest relative difference of outputs. */
export const TOLERANCE = 1e-3;

/** A side that has run this long, in milliseconds, after its first few runs need not go on. */
const PATIENCE = 45_000, LEAST = 3;

/**
 * Measures a case and closes it.
 * @param rounds runs of each side; slow sides do fewer, three at least
 * @param probe takes its turn too, right after ours: the rate of the best product on a machine as busy as ours found it
 */
export async function measure(
  own: Case,
  against: readonly Rival[],
  rounds: number,
  probe?: Pick<Probe, "run">,
): Promise<CaseResult> {
  const rates: number[] = [];
  const sides = new Map<"ours" | Rival, { run(): Promise<unknown>; times: number[]; processor: number[] }>();
  const closing: (() => unknown)[] = [() => own.ours.dispose()];
  const failed: Partial<Record<Rival, { failed: string }>> = {}, off: Partial<Record<Rival, number>> = {};
  try {
    const expected = await own.ours.run();
    sides.set("ours", { run: () => own.ours.run(), times: [], processor: [] });
    for (const rival of own.rival ? against : []) {
      try {
        const session = await own.rival!(rival);
        closing.push(() => session.release());
        const found = await session.run();
        off[rival] = expected ? distance(found, expected) : Infinity;
        if (off[rival]! > TOLERANCE) throw new Error(`its output differs by ${off[rival]!.toExponential(1)}`);
        sides.set(rival, { run: () => session.run(), times: [], processor: [] });
      } catch (error) {
        failed[rival] = { failed: (error as Error).message.split("\n")[0] };
      }
    }
    for (let round = 0; round < rounds; round++) {
      for (const [name, side] of sides) {
        const spent = side.times.reduce((a, b) => a + b, 0);
        if (side.times.length >= LEAST && spent > PATIENCE) continue;
        const start = performance.now(), before = process.cpuUsage();
        await side.run();
        side.times.push(performance.now() - start);
        const { user, system } = process.cpuUsage(before);
        side.processor.push((user + system) / 1000);
        if (name === "ours" && probe) rates.push(await probe.run());
      }
    }
  } finally {
    for (const close of closing.reverse()) await close();
  }
  const timing = (
    { times, processor }: { readonly times: readonly number[]; readonly processor: readonly number[] },
  ) => {
    const runs = times.map((time) => Number((time / own.repeats).toPrecision(5)));
    const least = Number((Math.min(...processor) / own.repeats).toPrecision(5));
    return { median: median(runs), best: Math.min(...runs), runs, processor: least } satisfies Timing;
  };
  const theirs: Partial<Record<Rival, Timing | { failed: string }>> = { ...failed };
  for (const rival of against) {
    const side = sides.get(rival);
    if (side) theirs[rival] = timing(side);
  }
  return {
    name: own.name,
    group: own.group,
    flops: own.flops / own.repeats,
    bytes: own.bytes && own.bytes / own.repeats,
    repeats: own.repeats,
    ours: timing(sides.get("ours")!),
    ...(rates.length ? { product: Number(median(rates).toPrecision(5)) } : {}),
    rivals: theirs,
    off,
  };
}
