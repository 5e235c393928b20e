/**
 * Device memory of a pretraining: what its programs may take together. They share the memory for their activations, since no
 * two run at once; beside a training step stand the programs that make latents and sheets, on as many pictures as fit.
 */

import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { compile, type Compiled, type Feed } from "../graph/compile.ts";
import { roundUp } from "../graph/memory.ts";
import { type Plan, plan } from "../graph/plan.ts";
import { fitStep, type Step } from "../graph/recompute.ts";
import { Scratch, sharedBytes } from "../graph/scratch.ts";
import { bytesOf, type Tensor } from "../graph/tensor.ts";
import { type Variable, variableOf } from "../graph/variable.ts";
import type { Parameters } from "../nn/parameters.ts";

/** Bytes of a launch's uniforms. */
const UNIFORM_BYTES = 256;

const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;

/** What a program has for itself: inputs, constants, uniforms, and what is read back. */
function ownBytes({ leaves, report: { launches } }: Plan, outputs: readonly Tensor[], more = 0): number {
  const uploaded = [...leaves].filter(([tensor]) => !variableOf(tensor));
  return uploaded.reduce((sum, [, { bytes }]) => sum + roundUp(bytes), 0) +
    outputs.reduce((sum, tensor) => sum + bytesOf(tensor), 0) + (launches + more) * UNIFORM_BYTES;
}

/** A training step as the room is asked for it. */
export interface StepRequest<S extends Step> {
  /** Whose step it is, for the error. */
  readonly name: string;
  /** Where the forward pass ends, the same in every step that `build` makes. */
  readonly loss: Tensor;
  /** Adds gradients and effects, with these scopes computed again (see `gradient`). */
  readonly build: (recompute: ReadonlySet<string>) => S;
  /** Everything that is trained, with its moments and averages. */
  readonly variables: readonly Variable[];
  /** Outputs of the programs that run while the step is on the device, for one picture each. */
  readonly beside?: readonly (readonly Tensor[])[];
}

/** A forward program that takes its pictures a few at a time. */
export class Batches implements Disposable {
  readonly #program: Compiled<{ y: Tensor }>;

  /** @param size pictures that the program takes at once */
  constructor(program: Compiled<{ y: Tensor }>, readonly size: number) {
    this.#program = program;
  }

  /**
   * The result for `count` pictures, any number of them.
   * @param feed values of all pictures, one after the other
   */
  async run(count: number, feed: Feed): Promise<Float32Array> {
    let all = new Float32Array(0);
    for (let at = 0; at < count; at += this.size) {
      const some = Object.entries(feed).map(([name, values]) => {
        const each = values.length / count, part = values.subarray(at * each, (at + this.size) * each);
        if (part.length === this.size * each) return [name, part];
        const padded = values instanceof Uint32Array
          ? new Uint32Array(this.size * each)
          : new Float32Array(this.size * each);
        padded.set(part);
        return [name, padded];
      });
      const { y } = await this.#program.run(Object.fromEntries(some)), each = y.length / this.size;
      if (at === 0) all = new Float32Array(count * each);
      all.set(y.subarray(0, (count - at) * each), at * each);
    }
    return all;
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
  }
}

/** A budget of device memory, and what lies in it. */
export class Room {
  /** Memory for the activations of all programs here. */
  readonly scratch: Scratch;
  readonly #gpu: Gpu;
  readonly #bytes: number;
  readonly #strict: boolean;
  readonly #kept = new Set<Parameters>();
  /** The step that is on the device now. */
  #step:
    | { readonly variables: readonly Variable[]; readonly own: number; readonly buffers: readonly number[] }
    | undefined;

  /**
   * @param bytes on the device, for weights, moments and all programs
   * @param strict whether a step that does not fit is refused; else it takes the least it can
   */
  constructor(gpu: Gpu, bytes = Infinity, strict = true) {
    this.#gpu = gpu;
    this.#bytes = bytes;
    this.#strict = strict;
    this.scratch = new Scratch(gpu);
  }

  /** Counts parameters that stay on the device beside what a step trains. */
  keep(parameters: Parameters): void {
    this.#kept.add(parameters);
  }

  /** Buffers that lie unused in the device's pool count as well. */
  #trim(): void {
    if (this.#bytes < Infinity) this.#gpu.trim();
  }

  /** Bytes of everything that outlives programs, each variable once. */
  #resident(variables: readonly Variable[]): number {
    const all = new Set([...variables, ...[...this.#kept].flatMap((p) => [...p.variables.values()])]);
    return [...all].reduce((sum, variable) => sum + roundUp(bytesOf(variable)), 0);
  }

  /**
   * Puts a step on the device: as it is where it fits, else with the fewest blocks computed again.
   * @returns the program, and how many blocks it computes again
   * @throws UserError where it does not fit even so
   */
  step<S extends Step>(
    { name, loss, build, variables, beside = [] }: StepRequest<S>,
  ): { program: Compiled; recomputed: number; [Symbol.dispose](): void } {
    const on = (step: S, recomputed: number) => {
      this.#trim();
      const program = compile(this.#gpu, {}, step.effects, this.scratch);
      return {
        program,
        recomputed,
        [Symbol.dispose]: () => {
          program[Symbol.dispose]();
          this.#step = undefined;
        },
      };
    };
    if (this.#bytes === Infinity) return on(build(new Set()), 0);
    const others = beside.map((outputs) => {
      const planned = plan(outputs);
      return { own: ownBytes(planned, outputs), buffers: planned.bufferBytes };
    });
    // What is computed again adds the forward pass's launches at most.
    const own = ownBytes(plan([], build(new Set()).effects), [], plan([loss]).report.launches);
    const resident = this.#resident(variables);
    const most = (buffers: readonly number[]) =>
      others.reduce(
        (sum, other) => Math.max(sum, other.own + sharedBytes([buffers, other.buffers])),
        sharedBytes([buffers]),
      );
    const fitted = fitStep(loss, build, this.#bytes - resident - own, most);
    const buffers = fitted.plan.bufferBytes;
    if (!fitted.fits && this.#strict) {
      throw new UserError(
        `a training step of the ${name} needs ${mib(resident + own + most(buffers))} of device memory, there are ${
          mib(this.#bytes)
        }`,
        "take a smaller batch, or give more memory",
      );
    }
    this.#step = { variables, own, buffers };
    return on(fitted.step, fitted.recompute.size);
  }

  /**
   * Puts a forward program on the device for as many pictures as there is room for, one at least. What becomes of a picture
   * does not depend on their number.
   * @param most pictures at once where memory does not matter
   * @param build the result for a number of pictures, which is the first axis of all inputs and of the result
   */
  forward(most: number, build: (count: number) => Tensor): Batches {
    const { variables = [], own = 0, buffers = [] } = this.#step ?? {};
    for (let count = most;; count = Math.floor(count / 2)) {
      const y = build(count);
      if (count > 1 && this.#bytes < Infinity) {
        const planned = plan([y]), needed = own + ownBytes(planned, [y]) + sharedBytes([buffers, planned.bufferBytes]);
        if (this.#resident(variables) + needed > this.#bytes) continue;
      }
      this.#trim();
      return new Batches(compile(this.#gpu, { y }, [], this.scratch), count);
    }
  }
}
