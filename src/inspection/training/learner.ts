/**
 * Training of an inspection network, by default as the AnomalyDiffusion code does it: focal loss for the localisation U-Net
 * (Lin et al. 2017, γ 2, smoothing 1e-5), cross-entropy for ResNet-34, Adam, a rate that falls to a fifth at 0.8 and again at 0.9
 * of the way. A saved training goes on bit for bit.
 */

import { UserError } from "../../errors.ts";
import type { Gpu } from "../../gpu/device.ts";
import { compile, type Compiled, type Feed } from "../../graph/compile.ts";
import { gradient } from "../../graph/gradient.ts";
import { crossEntropy, focalLoss } from "../../graph/ops/losses.ts";
import { adam, adamHyper, assign } from "../../graph/ops/optimise.ts";
import { add } from "../../graph/ops/pointwise.ts";
import type { PlanReport } from "../../graph/plan.ts";
import type { Tensor } from "../../graph/tensor.ts";
import { input, readVariables, Variable } from "../../graph/variable.ts";
import { isRunningStatistic } from "../../models/official_spatial_encoder.ts";
import type { Parameters } from "../../nn/parameters.ts";
import { encodeSafetensors, Safetensors, type TensorToWrite } from "../../weights/safetensors.ts";
import { type NetworkConfig, networkGraph } from "../models/network.ts";
import { crossEntropyDice, type LocalisationLoss } from "./losses.ts";

/** How a network is trained. */
export interface LearnerSettings {
  /** Side S of the images, or of the crops, that a step sees: what `sideMultiple` asks for. */
  readonly side: number;
  /** Images in one step. */
  readonly batch: number;
  readonly steps: number;
  readonly learningRate: number;
  /** Default `steps`. */
  readonly schedule?: Schedule;
  /** Of the localisation U-Net; default `focal`. */
  readonly loss?: LocalisationLoss;
}

/** How the rate goes: {@linkcode steppedRate} or {@linkcode cosineRate}. */
export type Schedule = "steps" | "cosine";

/** One step's images [B, S, S, 3] in [0, 1], and labels: [B, S, S] of zeros and ones, or the class of each image [B]. */
export interface TrainingBatch {
  readonly image: Float32Array;
  readonly labels: Uint32Array;
}

/** Rate at a step: falls to a fifth at 0.8 and again at 0.9 of all steps. */
export function steppedRate(step: number, steps: number, rate: number): number {
  return rate * (step >= 0.8 * steps ? 0.2 : 1) * (step >= 0.9 * steps ? 0.2 : 1);
}

/** Steps of a cosine schedule in which the rate rises. */
const WARM_UP = 20;

/** Rate at a step: rises linearly over the first 20 steps, and falls to 0 along half a cosine. */
export function cosineRate(step: number, steps: number, rate: number): number {
  return rate * Math.min(1, (step + 1) / WARM_UP) * (0.5 + 0.5 * Math.cos(Math.PI * step / steps));
}

/** Milliseconds of a step above which the host waits for the device after each one. */
const WAIT_ABOVE_MS = 200;

/** A training on a device. Dispose of it to free its moments; the parameters are the caller's. */
export class Learner implements Disposable {
  readonly #gpu: Gpu;
  readonly #settings: LearnerSettings;
  readonly #batch: (step: number) => TrainingBatch;
  readonly #program: Compiled;
  /** Whether the loss reads the labels as numbers too. */
  readonly #dice: boolean;
  readonly #state: Variable[];
  readonly #own: Variable[] = [];
  readonly #sum = Variable.zeros("lossSum", [1]);
  #steps = 0;
  #summed = 0;

  /**
   * @param parameters of `networkParameters`; its running statistics follow the batches
   * @param batch what a step is fed with; depends on the step only
   */
  constructor(
    gpu: Gpu,
    config: NetworkConfig,
    parameters: Parameters,
    batch: (step: number) => TrainingBatch,
    settings: LearnerSettings,
  ) {
    this.#gpu = gpu;
    this.#batch = batch;
    this.#settings = settings;
    const { side, batch: count } = settings;
    const { logits, effects: statistics } = networkGraph(
      config,
      parameters,
      input("image", [count, side, side, 3]),
      "batch",
    );
    const labels = input("labels", logits.shape.slice(0, -1), "u32");
    this.#dice = config.kind === "localisation" && settings.loss === "cross-entropy+dice";
    const loss = config.kind === "classifier"
      ? crossEntropy(logits, labels)
      : this.#dice
      ? crossEntropyDice(logits, labels, input("mask", [count, side, side, 1]))
      : focalLoss(logits, labels);
    const variables = [...parameters.variables.values()];
    const trained = variables.filter(({ name }) => !isRunningStatistic(name));
    const gradients = gradient(loss, trained.map((v) => v.tensor)), hyper = input("hyper", [8]);
    const effects: Tensor[] = [...statistics, assign(this.#sum, add(this.#sum.tensor, loss))];
    trained.forEach((parameter, i) => {
      const m = Variable.zeros(`${parameter.name}.m`, parameter.shape);
      const v = Variable.zeros(`${parameter.name}.v`, parameter.shape);
      this.#own.push(m, v);
      effects.push(adam({ parameter, gradient: gradients[i], m, v, hyper }));
    });
    this.#own.push(this.#sum);
    this.#state = [...variables, ...this.#own];
    this.#program = compile(gpu, {}, effects);
  }

  /** Steps done. */
  get steps(): number {
    return this.#steps;
  }

  /** Launches, FLOPs and bytes of one step. */
  get report(): PlanReport {
    return this.#program.report;
  }

  /**
   * Trains up to step `until` (exclusive), or to the end of the step in which the signal is aborted.
   * @param onStep called after each step with the steps done
   */
  async advance(until: number, signal?: AbortSignal, onStep?: (steps: number) => void): Promise<void> {
    const { steps, learningRate, schedule } = this.#settings, end = Math.min(until, steps);
    let wait = true;
    while (this.#steps < end && !signal?.aborted) {
      const start = performance.now(), { image, labels } = this.#batch(this.#steps);
      const rate = (schedule === "cosine" ? cosineRate : steppedRate)(this.#steps, steps, learningRate);
      const feed: Feed = { image, labels, hyper: adamHyper(this.#steps + 1, { learningRate: rate }) };
      this.#program.step(this.#dice ? { ...feed, mask: Float32Array.from(labels) } : feed);
      this.#steps++;
      this.#summed++;
      // A slow device is waited for, so that Ctrl-C and the progress line mean this step and not one long queued.
      if (wait) {
        await this.#gpu.settle();
        wait = performance.now() - start > WAIT_ABOVE_MS;
      }
      onStep?.(this.#steps);
    }
  }

  /**
   * Mean loss since the last call.
   * @throws UserError where it is not a finite number
   */
  async takeLoss(): Promise<number> {
    const loss = (await this.#sum.read())[0] / this.#summed;
    if (!Number.isFinite(loss)) {
      throw new UserError(
        `the loss is no number after step ${this.#steps}`,
        "train again with a smaller learning rate",
      );
    }
    this.#sum.write(new Float32Array(1));
    this.#summed = 0;
    return loss;
  }

  /** Everything from which training goes on bit for bit, in the engine's layouts. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    const values = await readVariables(this.#state), tensors: Record<string, TensorToWrite> = {};
    this.#state.forEach(({ name, shape }, i) => tensors[name] = { dtype: "F32", shape, data: values[i] });
    return encodeSafetensors(tensors, {
      format: "anomalydiffusion-inspection-training",
      steps: String(this.#steps),
      summed: String(this.#summed),
    });
  }

  /** Goes back to what {@linkcode save} wrote. */
  load(bytes: Uint8Array, label: string): void {
    const file = Safetensors.parse(bytes, label);
    for (const variable of this.#state) variable.write(file.float32(variable.name));
    this.#steps = Number(file.metadata.steps);
    this.#summed = Number(file.metadata.summed);
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    for (const variable of this.#own) variable[Symbol.dispose]();
  }
}
