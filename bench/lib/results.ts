/** Results of a bench: their file, their table, and the comparison of two. */

import type { Timing } from "./cases.ts";
import type { HostFigures } from "./host.ts";
import type { Limits } from "./limits.ts";
import { type Rival, rivals } from "./rivals.ts";

/** One measured case. */
export interface CaseResult {
  readonly name: string;
  readonly group: "ops" | "networks" | "jobs";
  /** FLOPs and least bytes of one of `repeats`. */
  readonly flops: number;
  readonly bytes?: number;
  /** Layers, steps or images in a timed run; times are of one. */
  readonly repeats: number;
  readonly ours: Timing;
  /** Median rate of the run's best product between these runs, FLOP/s / 10⁹. */
  readonly product?: number;
  /** A time, or why there is none. */
  readonly rivals: Partial<Record<Rival, Timing | { readonly failed: string }>>;
  /** Relative difference of each rival's output to ours. */
  readonly off: Partial<Record<Rival, number>>;
}

/** The file of a run. */
export interface BenchResults {
  readonly format: "anomalydiffusion-bench";
  readonly version: 1;
  /** ISO date and time. */
  readonly date: string;
  readonly program: string;
  readonly quick: boolean;
  readonly machine: {
    readonly adapter: string;
    readonly vendor: string;
    readonly software: boolean;
    readonly deno: string;
    readonly system: string;
    readonly processors: number;
  };
  readonly limits: Limits;
  readonly cases: readonly CaseResult[];
  readonly host: readonly HostFigures[];
}

/** Milliseconds with three figures. */
export function ms(value: number): string {
  return value >= 100
    ? value.toFixed(0)
    : value >= 10
    ? value.toFixed(1)
    : value >= 1
    ? value.toFixed(2)
    : value.toFixed(3);
}

/** What a case reaches of the adapter's limit, as a share; undefined where neither FLOPs nor bytes are counted. */
export function shareOfLimit({ flops, bytes, ours }: CaseResult, { matmul, copy }: Limits): number | undefined {
  if (bytes) return bytes / ours.median / 1e6 / copy.gbps;
  return flops ? flops / ours.median / 1e6 / matmul.gflops : undefined;
}

/** How many times as long a rival takes; undefined where it has no time. */
export function advantage(result: CaseResult, rival: Rival): number | undefined {
  const theirs = result.rivals[rival];
  return theirs && "median" in theirs ? theirs.median / result.ours.median : undefined;
}

/** What cases reach of the best product's rate in the same rounds: other work on the machine slows both. */
export function productLines({ cases }: Pick<BenchResults, "cases">): string[] {
  const lines = cases.flatMap(({ name, flops, ours, product }) =>
    product && flops
      ? [`${name}: ${(100 * flops / ours.median / 1e6 / product).toFixed(0)} % of ${product.toFixed(1)} GFLOP/s`]
      : []
  );
  return lines.length ? ["", "of the best product's rate in the same rounds, medians:", ...lines] : [];
}

/** Share of the clock's time below which a case's work is not this process's: a new process's first image. */
const OWN_WORK = 0.1;

/** Whether a run's processor time says what the run took. */
function ownWork({ processor = 0, best }: Timing): boolean {
  return processor > OWN_WORK * best;
}

/** Processor times of a run of each side, for software adapters: other work on the machine hardly changes them. */
export function processorLine({ cases, machine, limits }: BenchResults): string[] {
  const measured = cases.filter(({ ours }) => ownWork(ours));
  if (!machine.software || measured.length === 0) return [];
  const lines = measured.map(({ name, flops, ours, rivals: theirs }) => {
    const own = ours.processor!,
      share = flops && limits.matmul.perProcessor
        ? `, ${(100 * flops / own / 1e6 / limits.matmul.perProcessor).toFixed(0)} % of the best product`
        : "";
    const others = rivals.flatMap((rival) => {
      const one = theirs[rival];
      return one && "processor" in one && one.processor
        ? [`; ${rival} ${ms(one.processor)} ms, ${(one.processor / own).toFixed(2)} ×`]
        : [];
    });
    return `${name}: ${ms(own)} ms${share}${others.join("")}`;
  });
  return ["", "processor time, all cores together:", ...lines];
}

/** Heads and rows of the table. */
export function tableOf({ cases, limits }: BenchResults): { head: string[]; rows: string[][] } {
  const percent = (share?: number) => share === undefined ? "" : `${(100 * share).toFixed(0)} %`;
  const head = ["", "ours, ms", "GFLOP/s", "of the limit", ...rivals.flatMap((rival) => [`${rival}, ms`, "× ours"])];
  const rows = cases.map((result) => [
    result.name,
    ms(result.ours.median),
    result.flops ? (result.flops / result.ours.median / 1e6).toFixed(1) : "",
    percent(shareOfLimit(result, limits)),
    ...rivals.flatMap((rival) => {
      const theirs = result.rivals[rival], times = advantage(result, rival);
      if (!theirs) return ["", ""];
      return "failed" in theirs ? ["failed", ""] : [ms(theirs.median), times!.toFixed(2)];
    }),
  ]);
  return { head, rows };
}

/** The gradient's cost against the forward pass, where both were measured. */
export function gradientRatio(cases: readonly CaseResult[]): number | undefined {
  const of = (start: string) => cases.find(({ name }) => name.startsWith(start))?.ours.median;
  const forward = of("U-Net forward,"), both = of("U-Net forward + gradient");
  return forward && both ? both / forward : undefined;
}

/** Lines of text for the terminal. */
export function report(results: BenchResults): string[] {
  const { limits, machine } = results, { head, rows } = tableOf(results);
  const widths = head.map((text, i) => Math.max(text.length, ...rows.map((row) => row[i].length)));
  const line = (row: readonly string[]) =>
    row.map((text, i) => i ? text.padStart(widths[i]) : text.padEnd(widths[i])).join("  ");
  const lines = [
    `${machine.adapter}, Deno ${machine.deno}, ${machine.processors} processors`,
    `best matmul ${limits.matmul.gflops.toFixed(1)} GFLOP/s (${limits.matmul.what}), ` +
    `best copy ${limits.copy.gbps.toFixed(1)} GB/s (${limits.copy.what})`,
    "",
    line(head),
    ...rows.map(line),
  ];
  lines.push(...productLines(results), ...processorLine(results));
  const ratio = gradientRatio(results.cases);
  if (ratio) lines.push("", `U-Net forward + gradient takes ${ratio.toFixed(2)} × the forward pass`);
  for (const { name, steps, step, host, growth } of results.host) {
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    lines.push(
      `${name}: ${steps} steps of ${ms(step)} ms, JavaScript at most ${(100 * host / step).toFixed(1)} %; growth ` +
        `device ${mib(growth.device)}, heap ${mib(growth.heap)}, process ${mib(growth.process)}`,
    );
  }
  return lines;
}

/** Ours now against ours then. */
export interface Change {
  readonly name: string;
  /** Medians by the clock, or least processor times, in milliseconds. */
  readonly then: number;
  readonly now: number;
  /** now / then: above 1 is slower. */
  readonly ratio: number;
  readonly by: "clock" | "processor time";
}

/**
 * Compares two runs case by case: by the clock, on software adapters by processor time where both files have it, since other work
 * on the machine would look like a regression.
 * @throws Error where they have no case in common
 */
export function compareResults(then: BenchResults, now: BenchResults): Change[] {
  const before = new Map(then.cases.map((result) => [result.name, result.ours]));
  const software = then.machine.software && now.machine.software;
  const changes = now.cases.flatMap(({ name, ours }): Change[] => {
    const old = before.get(name);
    if (!old) return [];
    const processor = software && ownWork(old) && ownWork(ours);
    const [a, b] = processor ? [old.processor!, ours.processor!] : [old.median, ours.median];
    return [{ name, then: a, now: b, ratio: b / a, by: processor ? "processor time" : "clock" }];
  });
  if (changes.length === 0) throw new Error("the two runs have no case in common");
  return changes;
}

/** Lines for the terminal, and whether a case is slower than `threshold` allows. */
export function verdict(changes: readonly Change[], threshold: number): { lines: string[]; slower: boolean } {
  const lines = changes.map(({ name, then, now, ratio, by }) =>
    `${ratio.toFixed(2)} ×  ${ms(then)} → ${ms(now)} ms  ${name}${by === "clock" ? "" : `, ${by}`}` +
    (ratio > threshold ? "  SLOWER" : "")
  );
  return { lines, slower: changes.some(({ ratio }) => ratio > threshold) };
}

/** A file's results. */
export function parseResults(text: string, label: string): BenchResults {
  const found = JSON.parse(text) as BenchResults;
  if (found?.format !== "anomalydiffusion-bench" || found.version !== 1) throw new Error(`${label} is no bench result`);
  return found;
}
