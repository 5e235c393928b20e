/**
 * A training run of some parameters on a device: AdamW on clipped gradients, optionally a moving average of the weights,
 * the mean loss since it was last asked for, and everything saved from which it goes on bit for bit.
 */

import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Compiled, Feed } from "../graph/compile.ts";
import { gradient } from "../graph/gradient.ts";
import { adamHyper, adamW, assign, clipByGlobalNorm, ema } from "../graph/ops/optimise.ts";
import { add } from "../graph/ops/pointwise.ts";
import type { PlanReport } from "../graph/plan.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input, readVariables, Variable } from "../graph/variable.ts";
import type { Parameters } from "../nn/parameters.ts";
import { encodeSafetensors, Safetensors, type TensorToWrite } from "../weights/safetensors.ts";
import { rateAt, type RateSchedule } from "../nn/learning_rate.ts";
import { adamSettings, averageDecay, GRADIENT_LIMIT } from "./recipe.ts";
import { Room } from "./room.ts";

/** What is trained, and how. */
export interface TrainerOptions {
  /** What it is, for errors. */
  readonly name: string;
  readonly parameters: Parameters;
  /** [1]. */
  readonly loss: Tensor;
  /** The figure that is reported, [1]. */
  readonly reported: Tensor;
  /** Values of the graph's inputs at a step; depends on the step only. */
  readonly feed: (step: number) => Feed;
  readonly steps: number;
  readonly learningRate: number;
  readonly rate: RateSchedule;
  /** Parameters of the same names that follow the trained ones, and the largest weight of their past. */
  readonly average?: { readonly parameters: Parameters; readonly decay: number };
  /** Memory to stay within; unlimited where left out. */
  readonly room?: Room;
  /** Programs that run between the steps: outputs for one picture each. */
  readonly beside?: readonly (readonly Tensor[])[];
}

/** Milliseconds of a step above which the host waits for the device after each one. */
const WAIT_ABOVE_MS = 200;

/** A run on a device. Dispose of it to free its moments; the parameters are the caller's. */
export class Trainer implements Disposable {
  readonly #gpu: Gpu;
  readonly #options: TrainerOptions;
  readonly #step: { readonly program: Compiled; readonly recomputed: number } & Disposable;
  readonly #moments: Variable[] = [];
  readonly #sum = Variable.zeros("lossSum", [1]);
  #steps = 0;
  #summed = 0;

  constructor(gpu: Gpu, options: TrainerOptions) {
    this.#gpu = gpu;
    this.#options = options;
    const { name, parameters, loss, reported, average, room = new Room(gpu), beside } = options;
    const trained = [...parameters.variables.values()], followers = average?.parameters.variables;
    for (const { name, shape } of trained) {
      this.#moments.push(Variable.zeros(`${name}.m`, shape), Variable.zeros(`${name}.v`, shape));
    }
    const hyper = input("hyper", [8]), decay = input("decay", [1]);
    const build = (recompute: ReadonlySet<string>) => {
      const gradients = clipByGlobalNorm(
        gradient(loss, trained.map((v) => v.tensor), { recompute }),
        GRADIENT_LIMIT,
      );
      const effects: Tensor[] = [assign(this.#sum, add(this.#sum.tensor, reported))];
      trained.forEach((parameter, i) => {
        const [m, v] = this.#moments.slice(2 * i, 2 * i + 2);
        effects.push(adamW({ parameter, gradient: gradients[i], m, v, hyper }));
      });
      if (followers) {
        for (const parameter of trained) effects.push(ema(followers.get(parameter.name)!, parameter.tensor, decay));
      }
      return { effects };
    };
    const variables = [...trained, ...this.#moments, ...followers?.values() ?? [], this.#sum];
    this.#step = room.step({ name, loss, build, variables, beside });
  }

  /** Steps done. */
  get steps(): number {
    return this.#steps;
  }

  /** Launches, FLOPs and bytes of one step. */
  get report(): PlanReport {
    return this.#step.program.report;
  }

  /** Blocks that a step computes again to stay within its room. */
  get recomputed(): number {
    return this.#step.recomputed;
  }

  /** Everything that a graph of one step is fed with. */
  feed(step: number): Feed {
    const { steps, learningRate, rate, average, feed } = this.#options;
    return {
      ...feed(step),
      hyper: adamHyper(step + 1, { ...adamSettings, learningRate: rateAt(step, steps, learningRate, rate) }),
      ...(average ? { decay: Float32Array.of(averageDecay(step + 1, average.decay)) } : {}),
    };
  }

  /**
   * Trains up to step `until` (exclusive), or to the end of the step in which the signal is aborted.
   * @param onStep called after each step with the steps done
   */
  async advance(until: number, signal?: AbortSignal, onStep?: (steps: number) => void): Promise<void> {
    const end = Math.min(until, this.#options.steps);
    let wait = true;
    while (this.#steps < end && !signal?.aborted) {
      const start = performance.now();
      this.#step.program.step(this.feed(this.#steps));
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
   * Mean of the reported figure since the last call.
   * @throws UserError where it is not a finite number
   */
  async takeLoss(): Promise<number> {
    const loss = (await this.#sum.read())[0] / this.#summed;
    if (!Number.isFinite(loss)) {
      throw new UserError(
        `the loss is not a number after step ${this.#steps}`,
        "train again with a smaller learning rate",
      );
    }
    this.#sum.write(new Float32Array(1));
    this.#summed = 0;
    return loss;
  }

  #state(): [string, Variable][] {
    const { parameters, average } = this.#options;
    return [
      ...[...parameters.variables.values()].map((v): [string, Variable] => [v.name, v]),
      ...this.#moments.map((v): [string, Variable] => [v.name, v]),
      ...[...average?.parameters.variables.values() ?? []].map((v): [string, Variable] => [`${v.name}.average`, v]),
      ["lossSum", this.#sum],
    ];
  }

  /** Everything from which training goes on bit for bit, in the engine's layouts. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    const state = this.#state(), values = await readVariables(state.map(([, variable]) => variable));
    const tensors: Record<string, TensorToWrite> = {};
    state.forEach(([name, { shape }], i) => tensors[name] = { dtype: "F32", shape, data: values[i] });
    return encodeSafetensors(tensors, {
      format: "anomalydiffusion-pretraining",
      steps: String(this.#steps),
      summed: String(this.#summed),
    });
  }

  /** Goes back to what {@linkcode save} wrote. */
  load(bytes: Uint8Array, label: string): void {
    const file = Safetensors.parse(bytes, label);
    for (const [name, variable] of this.#state()) variable.write(file.float32(name));
    this.#steps = Number(file.metadata.steps);
    this.#summed = Number(file.metadata.summed);
  }

  [Symbol.dispose](): void {
    this.#step[Symbol.dispose]();
    for (const variable of [this.#sum, ...this.#moments]) variable[Symbol.dispose]();
  }
}
