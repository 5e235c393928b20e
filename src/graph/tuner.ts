/**
 * Measuring which variant of a kernel an adapter runs fastest, on the launches of real plans: their own sizes and fused
 * steps, with made-up numbers. A variant is taken only where its bytes equal those of the op's own choice, so that a table
 * of choices decides about speed and nothing else: seeds, manifests and resumed runs do not depend on it. The exception is
 * f16 arithmetic, where the user allows it: its choices have keys of their own, and are read with that permission only.
 */

import type { Gpu } from "../gpu/device.ts";
import { Program, type Region } from "../gpu/program.ts";
import { Random } from "../random/philox.ts";
import { roundUp } from "./memory.ts";
import type { LaunchSpec, Value } from "./op.ts";
import { f16Key, type Plan, type PlannedLaunch, runs, waysOf } from "./plan.ts";
import { tuningOf } from "./compile.ts";

/** In a table of choices: the op's own choice was the fastest. No variant is called so. */
export const OWN_CHOICE = "own";

/** Launches of one class. */
export interface TunableClass {
  readonly key: string;
  /** Those that differ, with how often they run; the heaviest first. */
  readonly launches: readonly { readonly launch: PlannedLaunch; readonly count: number }[];
  readonly flops: number;
}

/** What was found about a variant. */
export interface VariantFound {
  readonly name: string;
  /**
   * `same` bytes as the op's own choice; `half`: a variant in f16, within f16 rounding of it; `rounding`: another one, within
   * f32 rounding; `wrong`. Only the first two can be chosen.
   */
  readonly result: "same" | "half" | "rounding" | "wrong";
  /** Of the class's launches in one run; undefined where it was given up as too slow, or not timed. */
  readonly milliseconds?: number;
}

/** What was found about a class. */
export interface ClassFound {
  /** As tables have it: the class, or its {@linkcode f16Key} where variants in f16 were allowed and there are some. */
  readonly key: string;
  /** Name of a variant, or {@linkcode OWN_CHOICE}. */
  readonly choice: string;
  /** The first is the op's own choice. */
  readonly variants: readonly VariantFound[];
}

/** Most different launches of a class that are measured. */
const MOST_LAUNCHES = 3;

/** The launches of these plans of which there are variants, by class, the heaviest class first. */
export function tunableClasses(plans: readonly Plan[]): TunableClass[] {
  const classes = new Map<string, Map<string, { launch: PlannedLaunch; count: number }>>();
  for (const launch of plans.flatMap(({ launches }) => launches)) {
    const key = launch.alternatives?.tunable?.key;
    if (key === undefined) continue;
    const { defines, uniforms, buffers } = launch;
    const members = classes.get(key) ?? new Map<string, { launch: PlannedLaunch; count: number }>();
    classes.set(key, members);
    const signature = JSON.stringify([defines, uniforms, buffers.map(({ bytes }) => bytes)]);
    const known = members.get(signature);
    if (known) known.count++;
    else members.set(signature, { launch, count: 1 });
  }
  const work = ({ launch, count }: { launch: PlannedLaunch; count: number }) => launch.flops * count;
  return [...classes].map(([key, members]) => ({
    key,
    launches: [...members.values()].sort((a, b) => work(b) - work(a)).slice(0, MOST_LAUNCHES),
    flops: [...members.values()].reduce((sum, member) => sum + work(member), 0),
  })).sort((a, b) => b.flops - a.flops);
}

/** Timed rounds, in which the variants take turns: what disturbs the machine for a while disturbs all of them. */
const ROUNDS = 5;

/** What a variant must save to be taken, so that noise changes no table. */
const WORTH = 0.05;

/** Variants that take this much longer than the fastest in a first run are given up. */
const PATIENCE = 2;

/** Time for one timing, in milliseconds, reached by repeating the launch. */
const TIMING = 4;

/** Most repetitions; and FLOPs of one submit, far below what a desktop's watchdog allows. */
const MOST_REPEATS = 64, MOST_FLOPS = 2e11;

/**
 * Measures the variants of a class on the device.
 * @throws Error naming the kernel where the device refuses a variant that its limits allow
 */
export async function tuneClass(gpu: Gpu, { key, launches }: TunableClass): Promise<ClassFound> {
  const limits = gpu.device.limits;
  const bindable = launches.filter(({ launch }) =>
    launch.buffers.every(({ bytes }) => roundUp(bytes) <= limits.maxStorageBufferBindingSize)
  );
  const sums = new Map<string, { result: VariantFound["result"]; milliseconds: number | undefined }>();
  for (const { launch, count } of bindable) {
    for (const { name, result, milliseconds } of await tuneLaunch(gpu, launch)) {
      const before = sums.get(name) ?? { result: "same", milliseconds: 0 };
      const known = before.milliseconds !== undefined && milliseconds !== undefined;
      sums.set(name, {
        result: worse(before.result, result),
        milliseconds: known ? before.milliseconds! + count * milliseconds! : undefined,
      });
    }
  }
  const variants = [...sums].map(([name, found]) => ({ name, ...found }));
  const tunable = launches[0].launch.alternatives!.tunable!;
  const f16 = gpu.precision === "f16" && tunable.variants.some((variant) => variant.f16);
  return { key: f16 ? f16Key(key) : key, choice: chooseVariant(variants), variants };
}

/** Whether a variant with this result can be chosen. */
export function allowed(result: VariantFound["result"]): boolean {
  return result === "same" || result === "half";
}

function worse(a: VariantFound["result"], b: VariantFound["result"]): VariantFound["result"] {
  const order = ["same", "half", "rounding", "wrong"] as const;
  return order[Math.max(order.indexOf(a), order.indexOf(b))];
}

/** The fastest variant whose result is allowed and that is worth a change, else {@linkcode OWN_CHOICE}. */
export function chooseVariant(variants: readonly VariantFound[]): string {
  const own = variants.find(({ name }) => name === OWN_CHOICE)?.milliseconds;
  if (own === undefined) return OWN_CHOICE;
  let best = { name: OWN_CHOICE, milliseconds: own * (1 - WORTH) };
  for (const { name, result, milliseconds } of variants) {
    if (allowed(result) && milliseconds !== undefined && milliseconds < best.milliseconds) {
      best = { name, milliseconds };
    }
  }
  return best.name;
}

async function tuneLaunch(gpu: Gpu, launch: PlannedLaunch): Promise<VariantFound[]> {
  const { kernel, buffers, alternatives } = launch, device = tuningOf(gpu);
  const ways = waysOf(launch, alternatives, device), first = ways.launch(), own = shape(first);
  const candidates: { name: string; spec: LaunchSpec; f16?: boolean }[] = [{ name: OWN_CHOICE, spec: first }];
  const found = new Map<string, VariantFound>();
  let ownName: string | undefined;
  for (const variant of ways.tunable!.variants) {
    if (!runs(variant, device)) continue;
    const { name, f16 } = variant, spec = variant.launch();
    if (shape(spec) === own) ownName = name;
    else candidates.push({ name, spec, f16 });
  }
  const regions = new Map<Value, Region>();
  const written = buffers.filter((_, i) => kernel.bindings[i] !== "read");
  try {
    for (const value of buffers) {
      if (regions.has(value)) continue;
      const size = roundUp(value.bytes), buffer = gpu.acquire(size, launch.label);
      regions.set(value, { buffer, offset: 0, size });
      if (!written.includes(value)) gpu.write(buffer, numbers(size / 4));
    }
    const make = (spec: LaunchSpec, repeats: number) => {
      const one = {
        label: launch.label,
        kernel: spec.kernel,
        defines: spec.defines ?? {},
        buffers: spec.buffers.map((value) => regions.get(value)!),
        uniforms: spec.uniforms ?? [],
        workgroups: spec.workgroups,
        flops: spec.flops ?? 0,
      };
      return new Program(gpu, Array(repeats).fill(one));
    };
    const output = async () => {
      const sources = written.map((value) => ({ buffer: regions.get(value)!.buffer, bytes: value.bytes }));
      return (await gpu.read(sources)).map((bytes) => new Float32Array(bytes));
    };

    // A first run compiles and is compared; a second one is timed.
    let expected: Float32Array[] | undefined, fastest = Infinity;
    const tried = new Map<string, number>();
    for (const { name, spec, f16 } of candidates) {
      for (const value of written) gpu.write(regions.get(value)!.buffer, poison(roundUp(value.bytes) / 4));
      using program = make(spec, 1);
      program.replay();
      const actual = await output();
      const result = expected ? comparison(actual, expected, f16) : "same";
      expected ??= actual;
      found.set(name, { name, result });
      if (!allowed(result)) continue;
      const milliseconds = await timed(gpu, program);
      tried.set(name, milliseconds);
      fastest = Math.min(fastest, milliseconds);
    }
    const most = Math.max(1, Math.min(MOST_REPEATS, Math.floor(MOST_FLOPS / Math.max(1, launch.flops))));
    const repeats = Math.min(most, Math.max(1, Math.ceil(TIMING / fastest)));
    const racing = candidates.filter(({ name }) => name === OWN_CHOICE || tried.get(name)! <= PATIENCE * fastest)
      .map(({ name, spec }) => ({ name, program: make(spec, repeats), times: [] as number[] }));
    try {
      for (let round = 0; round < ROUNDS; round++) {
        for (const { program, times } of racing) times.push(await timed(gpu, program) / repeats);
      }
    } finally {
      for (const { program } of racing) program[Symbol.dispose]();
    }
    for (const { name, times } of racing) {
      found.set(name, { ...found.get(name)!, milliseconds: times.sort((a, b) => a - b)[ROUNDS >> 1] });
    }
  } finally {
    for (const { buffer } of regions.values()) gpu.release(buffer);
  }
  // The op's own choice under its name: in another launch of the class the op may choose otherwise.
  if (ownName) found.set(ownName, { ...found.get(OWN_CHOICE)!, name: ownName });
  return [...found.values()];
}

/** What tells two ways of one launch apart. */
function shape({ defines, workgroups }: Pick<LaunchSpec, "defines" | "workgroups">): string {
  return JSON.stringify([defines, workgroups]);
}

/** Milliseconds of a replay: by the device's clock, where it has one. */
async function timed(gpu: Gpu, program: Program): Promise<number> {
  if (gpu.hasTimestamps) return (await program.profile()).reduce((sum, row) => sum + row.milliseconds, 0);
  const start = performance.now();
  program.replay();
  await gpu.settle();
  return performance.now() - start;
}

/** Words that are ordinary numbers of many digits both as one f32 and as two f16: which of them a kernel reads is not known. */
export function numbers(count: number): Uint32Array {
  const random = new Random(0, "tune"), words = new Uint32Array(count), fresh = Math.min(count, PERIOD);
  for (let i = 0; i < fresh; i++) words[i] = (random.word() & 0x83ff83ff) | 0x38003800;
  for (let i = fresh; i < count; i += fresh) words.set(words.subarray(0, Math.min(fresh, count - i)), i);
  return words;
}

/** Numbers after which those of a large buffer begin again: a prime, so that no row repeats another. */
const PERIOD = 262_139;

/** Not-a-numbers: what a variant forgets to write is seen. */
function poison(count: number): Uint32Array {
  return new Uint32Array(count).fill(0x7fc00000);
}

/** Largest error in relation to the largest value that counts as rounding: that of the ops' tests. */
const ROUNDING = 2e-5;

/** Largest relative error, in the L2 norm, that counts as f16's: twice that of factors rounded toward zero. */
const F16_ROUNDING = 2e-3;

/**
 * How a variant's results compare with those of the op's own choice.
 * @param f16 whether the variant computes in f16
 */
export function comparison(
  actual: readonly Float32Array[],
  expected: readonly Float32Array[],
  f16 = false,
): VariantFound["result"] {
  let result: VariantFound["result"] = "same";
  expected.forEach((values, k) => {
    const bits = (array: Float32Array) => new Uint32Array(array.buffer, array.byteOffset, array.length);
    const a = bits(actual[k]), b = bits(values);
    let error = 0, largest = 0, squares = 0, total = 0, same = true;
    for (let i = 0; i < values.length; i++) {
      largest = Math.max(largest, Math.abs(values[i]));
      total += values[i] ** 2;
      if (a[i] === b[i]) continue;
      same = false;
      const difference = Math.abs(actual[k][i] - values[i]);
      error = difference >= 0 ? Math.max(error, difference) : Infinity; // not a number: wrong
      squares += difference ** 2;
    }
    if (same) return;
    const near = f16 ? squares <= F16_ROUNDING ** 2 * total : error <= ROUNDING * largest;
    result = worse(result, near ? f16 ? "half" : "rounding" : "wrong");
  });
  return result;
}
