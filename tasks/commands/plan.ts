/** `plan`: parameters, FLOPs, memory and time of a job, from the graphs alone: no weights, no GPU, nothing is run. */
import { join } from "node:path";
import { type JobPlan, planGeneration, planTraining } from "../../src/anomaly/budget.ts";
import { spatialConfigOf } from "../../src/anomaly/inversion.ts";
import { UserError } from "../../src/errors.ts";
import type { Plan } from "../../src/graph/plan.ts";
import { checkModelConfig, downsamplingFactor, type ModelConfig } from "../../src/weights/config.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { smallModelFolder } from "../assets.ts";
import { defineCommand } from "../command.ts";
import { openGpu } from "../device.ts";
import { UsageError } from "../errors.ts";
import { gib, memoryBytes } from "../jobs/memory.ts";
import { VALIDATION } from "../jobs/validation.ts";
import { kernelTable, profilesOf } from "../jobs/kernel_times.ts";
import { matmulRate } from "../jobs/matmul_rate.ts";
import * as shared from "./shared.ts";

/** Sizes of a model: of the one that ships, of LDM text2img-large, or of a folder. */
function configOf(model: string): ModelConfig {
  if (model === "large") return largeModelConfig();
  const path = join(model === "small" ? smallModelFolder() : model, "config.json");
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
    throw new UserError(`${path} was not found`, "give a model folder, or the word large or small");
  }
  try {
    return checkModelConfig(JSON.parse(text), path);
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserError(`${path}: not valid JSON`);
    throw error;
  }
}

/** The configuration for images of another side. */
function atSize(config: ModelConfig, side: number | undefined): ModelConfig {
  if (side === undefined) return config;
  // The U-Net halves its latent once per level.
  const step = downsamplingFactor(config.autoencoder) * 2 ** (config.unet.channelMult.length - 1);
  if (side % step) throw new UsageError(`--size ${side} does not fit the model`, `take a multiple of ${step}`);
  return { ...config, resolution: side };
}

/** Bytes that graphics cards bind at once, unless told otherwise. */
const MOST_BINDING = 2 ** 31;

export default defineCommand({
  name: "plan",
  summary: "Says what a job will need: parameters, FLOPs, memory and time, without running it.",
  details:
    "Works without a GPU and without weights. Memory is planned as train and generate will use it; with --memory, " +
    "blocks are computed again in training where they must be. Exits with 1 where the job does not fit.",
  runFolder: false,
  gpu: false,
  flags: {
    model: {
      type: "string",
      value: "folder",
      description: "Model folder (only its config.json is read), or `large` for LDM text2img-large, or `small`.",
      default: "small",
    },
    batch: { type: "integer", unit: "images", description: "Images at once.", default: 4, min: 1, max: 256 },
    size: {
      type: "integer",
      unit: "pixels",
      description: "Side of an image.",
      otherwise: "the model's own",
      min: 8,
      max: 4096,
    },
    train: { type: "boolean", description: "Plan a training instead of a generation.", default: false },
    tune: {
      type: "boolean",
      description: "With --train: of a training that tunes the U-Net.",
      goesWith: { train: [true] },
      default: false,
    },
    memory: shared.memory,
    guidanceScale: shared.guidanceScale(2),
    steps: shared.steps(50),
    sampler: shared.sampler,
    numVectors: shared.numVectors(8),
    numSpatialVectors: {
      type: "integer",
      unit: "tokens",
      description: "Tokens of the spatial encoder; 0 for none.",
      default: 4,
      min: 0,
      max: 16,
    },
    spatialEncoder: {
      type: "string",
      description: "Which spatial encoder.",
      choices: ["light", "official"],
      default: "light",
    },
    kinds: { type: "integer", description: "Kinds of defects learned at once.", default: 1, min: 1, max: 1000 },
    tflops: { type: "number", unit: "TFLOP/s", description: "Speed for the estimate of time.", min: 1e-6, max: 1e6 },
    measure: {
      type: "boolean",
      description: "Take the speed of a short matrix product on this machine's adapter.",
      default: false,
    },
    profile: {
      type: "boolean",
      description:
        "Run each program of the job once, with made-up numbers, and print which of its kernels take the longest.",
      goesWith: { measure: [true] },
      default: false,
    },
    binding: {
      type: "string",
      value: "amount",
      description: "Most that the adapter binds at once (doctor: maxStorageBufferBindingSize). Where values of the " +
        "autoencoder are larger, it takes fewer images at once, or one in bands.",
      otherwise: "the adapter's with --measure, else 2GiB",
    },
    json: { type: "boolean", description: "Print one JSON object instead of lines.", default: false, transient: true },
  },
  examples: [
    "--train --measure --profile",
    "--model large --batch 4 --train --memory 8GiB",
    "--model large --batch 8 --memory 5GiB --tflops 20",
  ],
  async run(options, context) {
    const config = atSize(configOf(options.model), options.size), { batch, numSpatialVectors: spatialTokens } = options;
    const budget = options.memory === undefined ? Infinity : memoryBytes(options.memory);
    const spatial = spatialTokens
      ? spatialConfigOf({ ...options, spatialTokens }, config.text.width, config.resolution)
      : undefined;
    const sizes = { batch, tokens: options.numVectors, spatial };
    const gpu = options.measure ? await openGpu() : undefined;
    const binding = options.binding === undefined
      ? gpu?.device.limits.maxStorageBufferBindingSize ?? MOST_BINDING
      : memoryBytes(options.binding, "--binding");
    const programs = new Map<string, Plan>();
    const seen = (plan: Plan, name: string) => void programs.set(name, plan);
    const job = options.train
      ? planTraining(
        config,
        { ...sizes, area: true, kinds: options.kinds, validation: VALIDATION, tune: options.tune },
        budget,
        seen,
        binding,
      )
      : planGeneration(
        config,
        { ...sizes, guidance: options.guidanceScale, reweighting: "official", sampler: options.sampler },
        budget,
        seen,
        binding,
      );
    const rate = gpu ? await matmulRate(gpu) : (options.tflops ?? NaN) * 1e12;
    const seconds = timesOf(job, rate, options);
    const wide = job.phases.find(({ largestValue }) => largestValue > binding);
    const timed = gpu && options.profile && !wide && job.fits ? await profilesOf(gpu, programs, context) : undefined;
    if (options.json) {
      const kernels = timed && Object.fromEntries(timed);
      context.print(JSON.stringify({ ...job, seconds, flopsPerSecond: rate || null, kernels }, null, 2));
    } else {
      for (const line of report(config, job, rate, seconds, options)) context.print(line);
      for (const [name, rows] of timed ?? []) for (const line of kernelTable(name, rows)) context.print(line);
    }
    if (wide) {
      throw new UserError(
        `${wide.name}: this needs ${gib(wide.largestValue)} in one buffer, the adapter binds ${gib(binding)} at most`,
        options.train || wide.pictures
          ? "give a smaller --size or --batch"
          : "generate takes smaller batches by itself",
      );
    }
    if (!job.fits) {
      throw new UserError(
        `this needs ${gib(job.devicePeak)} of device memory, ${gib(budget)} were given`,
        "give a smaller --batch or --size",
      );
    }
  },
});

interface Times {
  readonly train: boolean;
  readonly steps: number;
  readonly batch: number;
}

/** Seconds of a training step, or of a step and of one image. */
function timesOf({ phases }: JobPlan, rate: number, { train, steps, batch }: Times): Record<string, number> {
  if (!(rate > 0)) return {};
  const flops = (name: string) => {
    const found = phases.find((phase) => phase.name === name)!;
    return found.flops / (found.pictures?.batch ?? 1);
  };
  if (train) return { step: flops("training step") / rate };
  const step = flops("sampling step"), once = flops("text and keys");
  // A pair decodes its background too.
  const pictures = flops("encode images") + 2 * flops("decode images");
  return { step: step / rate, image: ((steps * step + once) / batch + pictures) / rate };
}

function report(
  config: ModelConfig,
  job: JobPlan,
  rate: number,
  seconds: Record<string, number>,
  { batch, train, memory }: Times & { memory?: string },
): string[] {
  const row = (name: string, value: string) => `${name.padEnd(22)}${value}`;
  const millions = (n: number) => `${(n / 1e6).toFixed(n < 1e8 ? 2 : 1)} M`;
  const all = Object.values(job.parameters).reduce((a, b) => a + b, 0);
  const parts = Object.entries(job.parameters).map(([name, n]) => `${name} ${millions(n)}`).join(", ");
  const lines = [
    row("Job", `${train ? "training" : "generation"}, batch ${batch}, ${config.resolution} × ${config.resolution}`),
    row("Model", config.name),
    row("Parameters", `${millions(all)} (${parts})`),
    "",
    row("Device memory", "weights, activations, optimiser, latents, staging: together; FLOPs"),
  ];
  for (const { name, device, total, flops, launches, pictures } of job.phases) {
    const at = !pictures ? "" : pictures.banded ? ", one image in bands" : `, ${pictures.batch} at once`;
    const categories = Object.values(device).map(mib).join(", ");
    lines.push(
      row(
        `  ${name}`,
        `${categories}: ${mib(total)} MiB; ${(flops / 1e9).toFixed(1)} GFLOP in ${launches} launches${at}`,
      ),
    );
  }
  const most = job.phases.reduce((a, b) => (b.device.activations > a.device.activations ? b : a));
  const over = most.device.activations / most.lowerBound - 1;
  lines.push(
    row("  peak", `${gib(job.devicePeak)}${memory ? `, ${job.fits ? "within" : "over"} ${memory}` : ""}`),
    row(
      "  lower bound",
      `${mib(most.lowerBound)} MiB live at once in ${most.name}; planned ${(100 * over).toFixed(1)} % above`,
    ),
  );
  const recomputed = Math.max(...job.phases.map((phase) => phase.recomputed));
  if (train) {
    const text = recomputed ? `${recomputed} blocks are computed again in the backward pass` : "none needed";
    lines.push(row("  recomputation", text));
  }
  const host = Object.entries(job.host).filter(([, bytes]) => bytes > 0).map(([name, bytes]) =>
    `${name} ${mib(bytes)}`
  );
  lines.push(row("Host memory", `${gib(job.hostPeak)} beside the program's own, in MiB: ${host.join(", ")}`));
  if (rate > 0) {
    const shown = Object.entries(seconds).map(([what, s]) => `${s.toPrecision(3)} s for one ${what}`).join(", ");
    lines.push(row("Time", `${shown}, at ${(rate / 1e12).toPrecision(3)} TFLOP/s`));
  }
  return lines;
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0);
}
