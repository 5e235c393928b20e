/**
 * Measuring which variant of a kernel an adapter runs fastest, on the launches of real plans: their own sizes and fused
 * steps, with made-up numbers. A variant is taken only where its bytes equal those of the op's own choice, so that a table
 * of choices decides about speed and nothing else: seeds, manifests and resumed runs do not depend on it.
 */

import type { Gpu } from "../gpu/device.ts";
import { Program, type Region } from "../gpu/program.ts";
import { Random } from "../random/philox.ts";
import { roundUp } from "./memory.ts";
import type { LaunchSpec, Value } from "./op.ts";
import { type Plan, type PlannedLaunch, runs } from "./plan.ts";

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
  /** `same` bytes as the op's own choice; `rounding`: within f32 rounding of it; `wrong`. Only `same` can be chosen. */
  readonly result: "same" | "rounding" | "wrong";
  /** Of the class's launches in one run; undefined where it was given up as too slow, or not timed. */
  readonly milliseconds?: number;
}

/** What was found about a class. */
export interface ClassFound {
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
  return { key, choice: chooseVariant(variants), variants };
}

function worse(a: VariantFound["result"], b: VariantFound["result"]): VariantFound["result"] {
  const order = ["same", "rounding", "wrong"] as const;
  return order[Math.max(order.indexOf(a), order.indexOf(b))];
}

/** The fastest variant with the same bytes that is worth a change, else {@linkcode OWN_CHOICE}. */
export function chooseVariant(variants: readonly VariantFound[]): string {
  const own = variants.find(({ name }) => name === OWN_CHOICE)?.milliseconds;
  if (own === undefined) return OWN_CHOICE;
  let best = { name: OWN_CHOICE, milliseconds: own * (1 - WORTH) };
  for (const { name, result, milliseconds } of variants) {
    if (result === "same" && milliseconds !== undefined && milliseconds < best.milliseconds) {
      best = { name, milliseconds };
    }
  }
  return best.name;
}

async function tuneLaunch(gpu: Gpu, launch: PlannedLaunch): Promise<VariantFound[]> {
  const { kernel, buffers, alternatives } = launch, { subgroups } = gpu;
  const device = { workgroupBytes: gpu.device.limits.maxComputeWorkgroupStorageSize, subgroups };
  const first: LaunchSpec = (subgroups ? alternatives?.subgroups?.() : undefined) ?? launch, own = shape(first);
  const candidates: { name: string; spec: LaunchSpec }[] = [{ name: OWN_CHOICE, spec: first }];
  const found = new Map<string, VariantFound>();
  let ownName: string | undefined;
  for (const variant of alternatives!.tunable!.variants) {
    if (!runs(variant, device)) continue;
    const { name } = variant, spec = variant.launch();
    if (shape(spec) === own) ownName = name;
    else candidates.push({ name, spec });
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
    for (const { name, spec } of candidates) {
      for (const value of written) gpu.write(regions.get(value)!.buffer, poison(roundUp(value.bytes) / 4));
      using program = make(spec, 1);
      program.replay();
      const actual = await output();
      const result = expected ? comparison(actual, expected) : "same";
      expected ??= actual;
      found.set(name, { name, result });
      if (result !== "same") continue;
      const milliseconds = await timed(gpu, program);
      tried.set(name, milliseconds);
      fastest = Math.min(fastest, milliseconds);
    }
    const allowed = Math.max(1, Math.min(MOST_REPEATS, Math.floor(MOST_FLOPS / Math.max(1, launch.flops))));
    const repeats = Math.min(allowed, Math.max(1, Math.ceil(TIMING / fastest)));
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
function numbers(count: number): Uint32Array {
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

/** How a variant's results compare with those of the op's own choice. */
export function comparison(
  actual: readonly Float32Array[],
  expected: readonly Float32Array[],
): VariantFound["result"] {
  let result: VariantFound["result"] = "same";
  expected.forEach((values, k) => {
    const bits = (array: Float32Array) => new Uint32Array(array.buffer, array.byteOffset, array.length);
    const a = bits(actual[k]), b = bits(values);
    let error = 0, largest = 0, same = true;
    for (let i = 0; i < values.length; i++) {
      largest = Math.max(largest, Math.abs(values[i]));
      if (a[i] === b[i]) continue;
      same = false;
      const difference = Math.abs(actual[k][i] - values[i]);
      error = difference >= 0 ? Math.max(error, difference) : Infinity; // not a number: wrong
    }
    if (!same) result = worse(result, error <= ROUNDING * largest ? "rounding" : "wrong");
  });
  return result;
}
