/**
 * Compiling: a plan with buffers on a device. {@linkcode Compiled.run} uploads the inputs, replays the program in one submit
 * and reads back what was asked for.
 */

import type { Gpu } from "../gpu/device.ts";
import { type KernelTime, Program, type Region } from "../gpu/program.ts";
import { roundUp } from "./memory.ts";
import type { Value } from "./op.ts";
import { plan, type PlanReport, type Tuning } from "./plan.ts";
import type { Scratch } from "./scratch.ts";
import type { Tensor } from "./tensor.ts";
import { bytesOf } from "./tensor.ts";
import { constantValues, inputName, variableOf } from "./variable.ts";

/** Values for the inputs of a run, by name. */
export type Feed = Readonly<Record<string, Float32Array | Uint32Array>>;

/** Named tensors to compute. */
export type Outputs = Readonly<Record<string, Tensor>>;

/** A graph on a device, ready to run any number of times. */
export class Compiled<O extends Outputs = Outputs> implements Disposable {
  /** What the plan costs: launches, FLOPs, bytes. */
  readonly report: PlanReport;
  readonly #gpu: Gpu;
  readonly #program: Program;
  readonly #inputs = new Map<string, { tensor: Tensor; buffer: GPUBuffer }>();
  readonly #owned: GPUBuffer[] = [];
  readonly #scratch: Scratch | undefined;
  readonly #borrowed: GPUBuffer[];
  readonly #results: { name: string; tensor: Tensor; region: Region }[];

  /** Plans the outputs and effects and puts the plan on the device. */
  constructor(gpu: Gpu, outputs: O, effects: readonly Tensor[], scratch?: Scratch) {
    this.#gpu = gpu;
    this.#scratch = scratch;
    const names = Object.keys(outputs);
    const planned = plan(names.map((name) => outputs[name]), effects, tuningOf(gpu));
    this.report = planned.report;
    const own = (bytes: number, label: string) => {
      const buffer = gpu.acquire(bytes, label);
      this.#owned.push(buffer);
      return buffer;
    };
    const leaves = new Map<Value, GPUBuffer>();
    for (const [tensor, value] of planned.leaves) {
      const name = inputName(tensor), values = constantValues(tensor);
      if (name !== undefined) {
        const buffer = own(value.bytes, name);
        if (this.#inputs.has(name)) throw new Error(`two inputs are named "${name}"`);
        this.#inputs.set(name, { tensor, buffer });
        leaves.set(value, buffer);
      } else if (values) {
        const buffer = own(value.bytes, "constant");
        gpu.write(buffer, values);
        leaves.set(value, buffer);
      } else {
        leaves.set(value, variableOf(tensor)!.on(gpu));
      }
    }
    this.#borrowed = scratch?.take(planned.bufferBytes) ?? [];
    const shared = scratch ? this.#borrowed : planned.bufferBytes.map((bytes, i) => own(bytes, `activations ${i}`));
    const place = (value: Value): Region => {
      const size = roundUp(value.bytes), leaf = leaves.get(value);
      if (leaf) return { buffer: leaf, offset: 0, size };
      const { buffer, offset } = planned.places[planned.slots.get(value)!];
      return { buffer: shared[buffer], offset, size };
    };
    this.#program = new Program(gpu, planned.launches.map((l) => ({ ...l, buffers: l.buffers.map(place) })));
    this.#results = names.map((name, i) => ({ name, tensor: outputs[name], region: place(planned.results[i]) }));
  }

  #upload(feed: Feed): void {
    for (const [name, { tensor, buffer }] of this.#inputs) {
      const values = feed[name];
      if (!values) throw new Error(`input "${name}" [${tensor.shape}] was not given`);
      if (values.length !== tensor.size) {
        throw new Error(`input "${name}": ${values.length} values for shape [${tensor.shape}]`);
      }
      if ((values instanceof Uint32Array) !== (tensor.dtype === "u32")) {
        throw new Error(`input "${name}" is ${tensor.dtype}`);
      }
      this.#gpu.write(buffer, values);
    }
  }

  /** Runs without reading anything back: for steps that only change variables. */
  step(feed: Feed = {}): void {
    this.#upload(feed);
    if (this.#scratch) this.#scratch.owner = this;
    this.#program.replay();
  }

  /** Runs and reads the outputs, all or those named. */
  async run<K extends keyof O & string = keyof O & string>(
    feed: Feed = {},
    names?: readonly K[],
  ): Promise<Record<K, Float32Array>> {
    this.step(feed);
    return await this.read(names);
  }

  /** Outputs of the last run. */
  async read<K extends keyof O & string = keyof O & string>(names?: readonly K[]): Promise<Record<K, Float32Array>> {
    if (this.#scratch && this.#scratch.owner !== this) {
      throw new Error("another program has run in the shared memory since: read results before it does");
    }
    const wanted = this.#results.filter(({ name }) => !names || names.includes(name as K));
    const data = await this.#gpu.read(
      wanted.map(({ tensor, region: { buffer, offset } }) => ({ buffer, offset, bytes: bytesOf(tensor) })),
    );
    return Object.fromEntries(wanted.map(({ name }, i) => [name, new Float32Array(data[i])])) as Record<
      K,
      Float32Array
    >;
  }

  /** Runs once with a timestamp around every launch; slowest first. */
  profile(feed: Feed = {}, by: "kernel" | "label" = "kernel"): Promise<KernelTime[]> {
    this.#upload(feed);
    if (this.#scratch) this.#scratch.owner = this;
    return this.#program.profile(by);
  }

  /** Frees the buffers of the plan; those of variables stay. */
  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
    for (const buffer of this.#owned) this.#gpu.release(buffer);
    this.#owned.length = 0;
    this.#scratch?.give(this.#borrowed.splice(0));
  }
}

/** What plans for a device may use. */
export function tuningOf({ choices, device, subgroups, card, precision }: Gpu): Tuning {
  const workgroupBytes = device.limits.maxComputeWorkgroupStorageSize;
  return { choices, workgroupBytes, subgroups, card, f16: precision === "f16" };
}

/**
 * Puts a graph on a device.
 * @param outputs tensors to read after a run, by name
 * @param effects results of effect ops (optimiser steps, assignments) that shall run too
 * @param scratch memory for activations that is shared with other programs; the program's own where left out
 * @throws Error naming the node that needs more workgroups or bindings than there are, UserError naming the input or buffer that is
 * too large. What else the device refuses, shaders among it, Deno reports later: the next read, or a run before it, throws with the
 * node's label and its kernel ({@linkcode Gpu.check}).
 */
export function compile<O extends Outputs>(
  gpu: Gpu,
  outputs: O,
  effects: readonly Tensor[] = [],
  scratch?: Scratch,
): Compiled<O> {
  return new Compiled(gpu, outputs, effects, scratch);
}
