/**
 * What a job will cost before it is run: memory by category, FLOPs and parameters, from the graphs alone. Needs neither
 * weights nor a device. `budget_phases.ts` counts single programs.
 */

import { plan } from "../graph/plan.ts";
import { fitStep } from "../graph/recompute.ts";
import { sharedBytes } from "../graph/scratch.ts";
import { bytesOf } from "../graph/tensor.ts";
import { Variable } from "../graph/variable.ts";
import { AUTOENCODER_PREFIX } from "../models/autoencoder.ts";
import { TEXT_PREFIX, TOKEN_TABLE } from "../models/text_tower.ts";
import { UNET_PREFIX } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import type { ModelConfig } from "../weights/config.ts";
import {
  autoencoderPhase,
  count,
  DECODE,
  ENCODE,
  keptBy,
  ownOf,
  peakOf,
  type Phase,
  phase,
  type Resident,
  type SeePlan,
  sizesOnly,
  total,
} from "./budget_phases.ts";
import { inversionGraph, type InversionSizes, isUnet } from "./inversion_graph.ts";
import {
  prepareEffects,
  type SamplerSizes,
  samplerState,
  samplingDtype,
  stateVariables,
  stepEffects,
} from "./sampler_graph.ts";

/** Bytes on the host by what they are for. */
export interface HostBytes {
  /** The table of word embeddings. */
  readonly words: number;
  /** The largest weight on its way to the device: as in the file, turned, and packed. */
  readonly weight: number;
  /** What is trained, as a checkpoint or a resumed run holds it. */
  readonly trained: number;
  /** Pictures that are decoded at once. */
  readonly pictures: number;
}

/** A whole job. */
export interface JobPlan {
  /** Numbers by network. */
  readonly parameters: Readonly<Record<string, number>>;
  readonly phases: readonly Phase[];
  /** Most bytes on the device in any phase. */
  readonly devicePeak: number;
  /** Bytes for activations and gradients in the budget: what {@linkcode "./inversion.ts".InversionSettings} take. */
  readonly activationBudget: number;
  /** Bytes on the host beyond the program itself. */
  readonly host: HostBytes;
  /** All of them together. */
  readonly hostPeak: number;
  /** False where the budget is not met. */
  readonly fits: boolean;
}

/**
 * The training that fits: the whole batch at once, else the fewest parts of it. Pictures on the way are made one at a time, or
 * not at all, where that is what it takes.
 * @param binding bytes that the adapter binds at most
 * @returns the plan, in how many parts the batch runs, and how many pictures are made on the way at once; where nothing fits, the
 * plan of single pictures
 */
export function fitTraining(
  config: ModelConfig,
  sizes: TrainingSizes,
  budget: number,
  binding = Infinity,
): { job: JobPlan; parts: number; pictures: number } {
  const { batch, validation } = sizes, most = validation?.batch ?? 0;
  for (let parts = 1;; parts++) {
    if (batch % parts) continue;
    for (const pictures of new Set([most, Math.min(1, most)])) {
      const own = { ...sizes, parts, validation: validation && { ...validation, batch: pictures } };
      const job = planTraining(config, own, budget, undefined, binding);
      if (job.fits || (parts === batch && most === 0)) return { job, parts, pictures };
    }
    if (parts === batch) return fitTraining(config, { ...sizes, validation: undefined }, budget, binding);
  }
}

/**
 * The generation that fits: this batch, else the largest half, quarter, … of it.
 * @param binding bytes that the adapter binds at most; the autoencoder keeps to it by itself
 * @returns the plan and the batch; where nothing fits, the plan of single images
 */
export function fitGeneration(
  config: ModelConfig,
  sizes: SamplerSizes,
  budget: number,
  binding = Infinity,
): { job: JobPlan; batch: number } {
  for (let { batch } = sizes;; batch = Math.floor(batch / 2)) {
    const planned = planGeneration(config, { ...sizes, batch }, budget, undefined, binding);
    const [, ...own] = planned.phases.slice(0, -1);
    const job = { ...planned, fits: planned.fits && own.every(({ largestValue }) => largestValue <= binding) };
    if (job.fits || batch === 1) return { job, batch };
  }
}

function parametersByPart(base: Parameters, config: ModelConfig, encoder?: Parameters): Record<string, number> {
  const part = (prefix: string) =>
    count([...base.variables].filter(([name]) => name.startsWith(prefix)).map(([, variable]) => variable));
  return {
    "U-Net": part(UNET_PREFIX),
    "text tower": part(TEXT_PREFIX) + (base.variables.has(TOKEN_TABLE) ? 0 : config.text.vocabSize * config.text.width),
    autoencoder: part(AUTOENCODER_PREFIX),
    ...(encoder ? { "spatial encoder": count(encoder.variables.values()) } : {}),
  };
}

/** Bytes of the pictures that are decoded at once; in bands, of the largest map between two layers, which may be larger. */
function hostImages(config: ModelConfig, { pictures }: Phase): number {
  const image = bytesOf({ shape: [pictures!.batch, config.resolution, config.resolution, 3], dtype: "f32" });
  if (!pictures!.banded) return image;
  const { maps } = DECODE.walk(config, sizesOnly());
  return Math.max(image, ...maps.map(({ height, width, channels }) => 4 * height * width * channels));
}

/** Bytes on the host, and their sum. */
function hostBytes(
  { text: { vocabSize, width } }: ModelConfig,
  base: Parameters,
  trained: number,
  pictures: number,
): Pick<JobPlan, "host" | "hostPeak"> {
  const largest = Math.max(...[...base.variables.values()].map((variable) => 4 * count([variable])));
  const host: HostBytes = { words: 4 * vocabSize * width, weight: 2.5 * largest, trained, pictures };
  return { host, hostPeak: Object.values(host).reduce((a, b) => a + b, 0) };
}

/** What to train. */
export interface TrainingSizes extends InversionSizes {
  /** Kinds of defects learned at once. */
  readonly kinds: number;
  /** Pictures that are made on the way with what was learned so far; none where left out. */
  readonly validation?: Pick<SamplerSizes, "batch" | "guidance" | "reweighting"> & { readonly decodeBatch: number };
}

/** Programs that make pictures while a training stays on the device, and the bytes of their state. */
function validationPhases(
  config: ModelConfig,
  { tokens, spatial, tune, validation }: TrainingSizes,
  encoder: Parameters,
  training: Resident,
  binding: number,
): { phases: Phase[]; state: number } {
  if (!validation) return { phases: [], state: 0 };
  const { base } = training,
    sizes = { ...validation, tokens, spatial, regions: tune },
    state = samplerState(config, sizes);
  const variables = stateVariables(state), resident = { ...training, others: variables };
  const prepare = plan([], prepareEffects(config, base, encoder, state, sizes));
  const step = plan([], stepEffects(config, base, state, sizes));
  const decoding = autoencoderPhase(
    { ...DECODE, name: "validation pictures", most: validation.decodeBatch },
    config,
    resident,
    binding,
  );
  return {
    phases: [phase("validation text", prepare, resident), phase("validation step", step, resident), decoding],
    state: total(variables),
  };
}

/**
 * Plans a training: encoding of the pictures, then the steps.
 * @param budget bytes on the device; blocks are computed again where they are needed to stay below
 * @param seen is shown the plans of what will run
 * @param binding bytes that the adapter binds at most
 */
export function planTraining(
  config: ModelConfig,
  sizes: TrainingSizes,
  budget = Infinity,
  seen?: SeePlan,
  binding = Infinity,
): JobPlan {
  const base = sizesOnly(sizes.tune ? "f32" : "f16"), encoder = sizesOnly(), { width } = config.text;
  const encoding = autoencoderPhase(ENCODE, config, { base }, binding, seen);
  const table = Variable.zeros("embeddings", [sizes.kinds * sizes.tokens, width]);
  const lossSum = Variable.zeros("lossSum", [1]);
  const graph = inversionGraph(config, { base, encoder }, table, lossSum, sizes);
  const resident = {
    base,
    optimiser: [table, ...encoder.variables.values(), ...graph.moments, ...graph.sums],
    others: [lossSum],
  };
  const { phases: pictures, state } = validationPhases(config, sizes, encoder, resident, binding);
  const forward = phase("forward", plan([graph.loss]), resident);
  // Gradients add launches, and with them uniforms: three times the forward pass and more.
  const besides = forward.total - forward.device.activations + 4 * forward.device.staging;
  // What encoding left in the shared memory may not fit the step's buffers.
  const others = [encoding, ...pictures].map(({ buffers }) => buffers);
  const shared = (buffers: readonly number[]) => sharedBytes([...others, buffers]);
  const free = budget - besides - ownOf(encoding) - keptBy(pictures, state);
  const fitted = fitStep(graph.loss, graph.step, free, shared);
  seen?.(fitted.plan, "training step");
  const training = phase("training step", fitted.plan, resident, 4, fitted.recompute.size);
  const phases = [encoding, training, ...pictures];
  const peak = peakOf(phases, keptBy([encoding, training]) + keptBy(pictures, state));
  return {
    parameters: parametersByPart(base, config, sizes.spatial && encoder),
    phases,
    devicePeak: peak,
    activationBudget: free,
    // What is trained, once: as the checkpoint from which a run goes on. Saving one reads a part at a time.
    ...hostBytes(
      config,
      base,
      total([
        ...resident.optimiser,
        ...sizes.tune ? [...base.variables.values()].filter(({ name }) => isUnet(name)) : [],
      ]),
      pictures.length ? 3 * hostImages(config, pictures.at(-1)!) : 0,
    ),
    fits: peak <= budget,
  };
}

/**
 * Plans a generation: encoding of the sources, the text, the sampling steps, decoding.
 * @param budget bytes on the device
 * @param seen is shown the plans of what will run
 * @param binding bytes that the adapter binds at most
 */
export function planGeneration(
  config: ModelConfig,
  sizes: SamplerSizes,
  budget = Infinity,
  seen?: SeePlan,
  binding = Infinity,
): JobPlan {
  const base = sizesOnly("f16"), encoder = sizesOnly(sizes.spatial && samplingDtype(sizes.spatial));
  const encoding = autoencoderPhase(ENCODE, config, { base }, binding, seen);
  const state = samplerState(config, sizes), others = stateVariables(state);
  const prepare = plan([], prepareEffects(config, base, encoder, state, sizes));
  const step = plan([], stepEffects(config, base, state, sizes));
  seen?.(prepare, "text and keys");
  seen?.(step, "sampling step");
  const resident = { base, others, weights: encoder.variables.values().toArray() };
  const phases = [
    encoding,
    phase("text and keys", prepare, resident),
    phase("sampling step", step, resident),
    autoencoderPhase(DECODE, config, resident, binding, seen),
  ];
  const peak = peakOf(phases, keptBy(phases, total(others)));
  return {
    parameters: parametersByPart(base, config, sizes.spatial && encoder),
    phases,
    devicePeak: peak,
    activationBudget: budget - (peak - sharedBytes(phases.map(({ buffers }) => buffers))),
    ...hostBytes(config, base, 0, 3 * hostImages(config, phases.at(-1)!)),
    fits: peak <= budget,
  };
}
