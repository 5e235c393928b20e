/**
 * The phases of a job: what each of its programs costs, by category, and what they share and keep while others run. From the
 * graphs alone, without weights or a device.
 */

import { roundUp } from "../graph/memory.ts";
import { type Plan, plan } from "../graph/plan.ts";
import { sharedBytes } from "../graph/scratch.ts";
import { bytesOf, type Spec, type Tensor } from "../graph/tensor.ts";
import type { Variable } from "../graph/variable.ts";
import { bandKey, decoderWalk, encoderWalk, type Walk } from "../models/autoencoder_bands.ts";
import { Parameters } from "../nn/parameters.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import { torchLayouts } from "../weights/rules.ts";
import { type AutoencoderMode, autoencoderMode, decoderGraph, encoderGraph } from "./autoencoder_mode.ts";

/** Bytes on the device by what they are for. */
export interface DeviceBytes {
  /** Frozen networks, and the trained one while it is used only. */
  readonly weights: number;
  /** Values between the ops, and gradients. */
  readonly activations: number;
  /** What is trained, with its moments. */
  readonly optimiser: number;
  /** Latents, keys and values, and everything uploaded for a run. */
  readonly latents: number;
  /** Uniforms of the launches, and buffers for reading back. */
  readonly staging: number;
}

/** One part of a job: a program with what lies on the device while it runs. */
export interface Phase {
  readonly name: string;
  readonly device: DeviceBytes;
  readonly total: number;
  readonly launches: number;
  readonly flops: number;
  /** Least that activations and gradients could do with. */
  readonly lowerBound: number;
  /** Blocks that are computed again. */
  readonly recomputed: number;
  /** Pictures that the program takes at once, and whether in bands, whose memory is given back at the end of each layer. */
  readonly pictures?: AutoencoderMode;
  /** Most storage buffers that one launch binds. */
  readonly mostBindings: number;
  /** Bytes of the largest weight or input. */
  readonly largestLeaf: number;
  /** Bytes of the largest value: what an adapter must bind. */
  readonly largestValue: number;
  /** Buffers of its activations, which it shares with the other phases. */
  readonly buffers: readonly number[];
}

/** Bytes that the programs keep for uniforms and a launch. */
const UNIFORM_BYTES = 256;

/** A network without values: its graph gives all sizes. */
export function sizesOnly(dtype: "f16" | "f32" = "f32"): Parameters {
  const get = (): never => {
    throw new Error("a plan reads no weights");
  };
  return new Parameters({ get }, torchLayouts, dtype);
}

/** Bytes of buffers of these sizes. */
export const total = (specs: Iterable<Spec>) => [...specs].reduce((bytes, spec) => bytes + roundUp(bytesOf(spec)), 0);

/** How many numbers they hold. */
export const count = (specs: Iterable<Spec>) =>
  [...specs].reduce((n, spec) => n + spec.shape.reduce((a, b) => a * b, 1), 0);

/** Is shown each program's plan, and the name of its phase. */
export type SeePlan = (plan: Plan, name: string) => void;

/** What lies on the device besides a program's own buffers. */
export interface Resident {
  readonly base: Parameters;
  readonly optimiser?: readonly Variable[];
  readonly others?: readonly Variable[];
  readonly weights?: Iterable<Variable>;
}

/**
 * A program's phase.
 * @param readBack bytes that are read back after a run
 * @param recomputed blocks that are computed again
 */
export function phase(
  name: string,
  planned: Plan,
  { base, optimiser = [], others = [], weights = [] }: Resident,
  readBack = 0,
  recomputed = 0,
): Phase {
  const { report: { launches, flops, activationBytes, lowerBoundBytes }, bufferBytes: buffers } = planned;
  const variables = new Set<Tensor>(
    [...base.variables.values(), ...optimiser, ...others, ...weights].map(({ tensor }) => tensor),
  );
  const uploaded = [...planned.leaves.keys()].filter((tensor) => !variables.has(tensor));
  const device = {
    weights: total(base.variables.values()) + total(weights),
    activations: activationBytes,
    optimiser: total(optimiser),
    latents: total(others) + total(uploaded),
    staging: launches * UNIFORM_BYTES + readBack,
  };
  const sum = Object.values(device).reduce((a, b) => a + b, 0);
  const largestLeaf = [...planned.leaves.values()].reduce((most, { bytes }) => Math.max(most, bytes), 0);
  return {
    name,
    device,
    total: sum,
    launches,
    flops,
    lowerBound: lowerBoundBytes,
    recomputed,
    mostBindings: planned.launches.reduce((most, { buffers }) => Math.max(most, buffers.length), 0),
    largestLeaf,
    largestValue: planned.slotBytes.reduce((most, bytes) => Math.max(most, bytes), largestLeaf),
    buffers,
  };
}

/**
 * Most bytes on the device: weights and optimiser of the largest phase, the activations that all phases share, and every
 * program's inputs and uniforms, which it keeps.
 * @param kept what {@linkcode keptBy} counts
 */
export function peakOf(phases: readonly Phase[], kept: number): number {
  const most = Math.max(...phases.map(({ device }) => device.weights + device.optimiser));
  return most + kept + sharedBytes(phases.map(({ buffers }) => buffers));
}

/**
 * Bytes that phases keep for themselves while others run.
 * @param state bytes that each of them counts among its latents, though they are there once
 */
export function keptBy(phases: readonly Phase[], state = 0): number {
  const kept = phases.filter(({ pictures }) => !pictures?.banded).reduce((sum, it) => sum + ownOf(it, state), state);
  const passing = phases.reduce((most, it) => it.pictures?.banded ? Math.max(most, ownOf(it, state)) : most, 0);
  return kept + passing;
}

/** Bytes that a phase shares with no other: what is uploaded for it, uniforms, and of bands everything. */
export function ownOf({ device: { activations, latents, staging }, pictures }: Phase, state = 0): number {
  return Math.max(0, latents - state) + staging + (pictures?.banded ? activations : 0);
}

/** Programs of the autoencoder: at once as the adapter allows, or in bands. */
export interface AutoencoderPrograms {
  readonly name: string;
  /** The result for some pictures. */
  readonly graph: (config: ModelConfig, p: Parameters, batch: number) => Tensor;
  /** Pictures at once at most; as many as the adapter takes where left out. */
  readonly most?: number;
  /** The same in bands. */
  readonly walk: (config: ModelConfig, p: Parameters) => Walk;
}

/** Pictures become latents. */
export const ENCODE: AutoencoderPrograms = {
  name: "encode images",
  graph: encoderGraph,
  walk: ({ autoencoder, resolution: side }, p) => encoderWalk(autoencoder, p, [side, side]),
};

/** Latents become pictures. */
export const DECODE: AutoencoderPrograms = {
  name: "decode images",
  graph: decoderGraph,
  walk: ({ autoencoder, resolution }, p) => {
    const side = resolution / downsamplingFactor(autoencoder);
    return decoderWalk(autoencoder, p, [side, side]);
  },
};

/**
 * The phase of the autoencoder.
 * @param binding bytes that the adapter binds at most: pictures that need more go in bands
 */
export function autoencoderPhase(
  { name, graph, walk, most = Infinity }: AutoencoderPrograms,
  config: ModelConfig,
  resident: Resident,
  binding: number,
  seen?: SeePlan,
): Phase {
  const widest = autoencoderMode(config, sizesOnly("f16"), binding); // apart: a run uploads only what it uses
  if (widest.banded) return bandedPhase(name, walk(config, resident.base), widest, resident, binding);
  const mode = { ...widest, batch: Math.min(most, widest.batch) };
  const y = graph(config, resident.base, mode.batch), planned = plan([y]);
  seen?.(planned, name);
  return { ...phase(name, planned, resident, bytesOf(y)), pictures: mode };
}

/** A picture in bands: the memory of the largest layer, whose programs are there together, and the work of all. */
function bandedPhase(
  name: string,
  walk: Walk,
  pictures: AutoencoderMode,
  { base, others = [], weights = [] }: Resident,
  binding: number,
): Phase {
  const plans = walk.layers.map((_, index) => {
    const programs = new Map<string, { planned: Plan; readBack: number; runs: number }>();
    for (const band of walk.bands(index, binding)) {
      const key = bandKey(band), known = programs.get(key);
      if (known) {
        known.runs++;
        continue;
      }
      const outputs = Object.values(walk.graph(index, band));
      const readBack = outputs.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
      programs.set(key, { planned: plan(outputs), readBack, runs: 1 });
    }
    return [...programs.values()];
  });
  // Only now have all layers made their weights.
  const layers = plans.map((programs) =>
    programs.map(({ planned, readBack, runs }) => ({ ...phase(name, planned, { base }, readBack), runs }))
  );
  const sum = <T>(items: readonly T[], of: (item: T) => number) => items.reduce((all, item) => all + of(item), 0);
  const own = ({ device: { activations, latents, staging } }: Phase) => activations + latents + staging;
  const largest = layers.reduce((a, b) => (sum(b, own) > sum(a, own) ? b : a)), all = layers.flat();
  const most = (of: (one: Phase) => number) => Math.max(...all.map(of));
  const device = {
    weights: total(base.variables.values()) + total(weights),
    activations: sum(largest, (one) => one.device.activations),
    optimiser: 0,
    latents: total(others) + sum(largest, (one) => one.device.latents),
    staging: sum(largest, (one) => one.device.staging),
  };
  return {
    name,
    device,
    total: sum(Object.values(device), (bytes) => bytes),
    launches: sum(all, (one) => one.runs * one.launches),
    flops: sum(all, (one) => one.runs * one.flops),
    lowerBound: sum(largest, (one) => one.lowerBound),
    recomputed: 0,
    pictures,
    mostBindings: most((one) => one.mostBindings),
    largestLeaf: most((one) => one.largestLeaf),
    largestValue: most((one) => one.largestValue),
    buffers: [],
  };
}
