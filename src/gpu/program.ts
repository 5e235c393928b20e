/**
 * A program: a list of kernel launches with their buffers, recorded once and replayed each step in one compute pass and one
 * submit. Uniforms of all launches lie in one buffer with dynamic offsets and are uploaded once.
 */

import { type Gpu, type Kernel, type Pipeline, type Suspect, UNIFORM_STRIDE } from "./device.ts";
import type { Defines } from "./template.ts";

/** A number in a uniform block: an unsigned integer, or `{ f32 }`. */
export type Scalar = number | { readonly f32: number };

/** A part of a buffer; `offset` is a multiple of 256. */
export interface Region {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** One dispatch of a kernel. */
export interface Launch {
  readonly label: string;
  readonly kernel: Kernel;
  readonly defines: Defines;
  /** One region per binding of the kernel. What it reads and what it writes lie in different buffers. */
  readonly buffers: readonly Region[];
  /** Fields of the kernel's uniform struct, each of four bytes, at most 64. */
  readonly uniforms: readonly Scalar[];
  readonly workgroups: readonly [number, number, number];
  /** Floating-point operations, for the report and for the size of a submit. */
  readonly flops: number;
}

/** Time of one kernel variant over a profiled replay. */
export interface KernelTime {
  /** The kernel's name. */
  readonly label: string;
  /** How often it ran. */
  readonly launches: number;
  /** Of all its launches together. */
  readonly milliseconds: number;
  /** 10⁹ floating-point operations a second; 0 where they were not counted. */
  readonly gflops: number;
}

/** Most FLOPs of a submit, unless one launch has more: watchdogs of desktop drivers end a submit after about 2 s. */
export const FLOPS_PER_SUBMIT = 2e12;

interface Recorded {
  readonly launch: Launch;
  readonly pipeline: Pipeline;
  readonly group: GPUBindGroup;
  readonly offset: number;
}

/** Launches with their pipelines, bind groups and uniforms. */
export class Program implements Disposable, Suspect {
  readonly #gpu: Gpu;
  readonly #recorded: Recorded[] = [];
  readonly #uniforms: GPUBuffer;

  constructor(gpu: Gpu, launches: readonly Launch[]) {
    this.#gpu = gpu;
    const bytes = new ArrayBuffer(Math.max(1, launches.length) * UNIFORM_STRIDE);
    const view = new DataView(bytes);
    this.#uniforms = gpu.device.createBuffer({
      label: "uniforms",
      size: bytes.byteLength,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    const groups = new Map<string, GPUBindGroup>();
    const ids = new Map<GPUBuffer, number>();
    const id = ({ buffer, offset, size }: Region) => {
      if (!ids.has(buffer)) ids.set(buffer, ids.size);
      return `${ids.get(buffer)}:${offset}:${size}`;
    };
    launches.forEach((launch, i) => {
      const pipeline = gpu.pipeline(launch.kernel, launch.defines, launch.label);
      if (launch.buffers.length !== launch.kernel.bindings.length) {
        throw new Error(
          `${launch.label}: ${launch.kernel.name} binds ${launch.kernel.bindings.length} buffers, got ${launch.buffers.length}`,
        );
      }
      if (launch.uniforms.length * 4 > UNIFORM_STRIDE) throw new Error(`${launch.label}: too many uniforms`);
      launch.uniforms.forEach((value, k) => {
        const at = i * UNIFORM_STRIDE + 4 * k;
        if (typeof value === "number") view.setUint32(at, value, true);
        else view.setFloat32(at, value.f32, true);
      });
      const key = `${launch.kernel.bindings.join()} ${launch.buffers.map(id).join()}`;
      let group = groups.get(key);
      if (!group) {
        group = this.#bind(launch, pipeline);
        groups.set(key, group);
      }
      this.#recorded.push({ launch, pipeline, group, offset: i * UNIFORM_STRIDE });
    });
    gpu.device.queue.writeBuffer(this.#uniforms, 0, bytes);
    gpu.check();
    gpu.watch(this);
  }

  #bind({ label, buffers }: Launch, { layout }: Pipeline): GPUBindGroup {
    return this.#gpu.device.createBindGroup({
      label,
      layout,
      entries: [
        { binding: 0, resource: { buffer: this.#uniforms, size: UNIFORM_STRIDE } },
        ...buffers.map((region, k) => ({ binding: k + 1, resource: region })),
      ],
    });
  }

  /** Number of dispatches in one replay. */
  get launches(): number {
    return this.#recorded.length;
  }

  #dispatch(pass: GPUComputePassEncoder, { launch, pipeline, group, offset }: Recorded, last?: Pipeline): void {
    if (pipeline !== last) pass.setPipeline(pipeline.pipeline);
    pass.setBindGroup(0, group, [offset]);
    pass.dispatchWorkgroups(...launch.workgroups);
  }

  /** Encodes and submits every launch. Returns at once; the queue runs on. */
  replay(): void {
    const { device } = this.#gpu;
    let at = 0;
    while (at < this.#recorded.length) {
      const encoder = device.createCommandEncoder({ label: "replay" });
      const pass = encoder.beginComputePass();
      let flops = 0, last: Pipeline | undefined;
      do {
        const recorded = this.#recorded[at++];
        this.#dispatch(pass, recorded, last);
        last = recorded.pipeline;
        flops += recorded.launch.flops;
      } while (at < this.#recorded.length && flops + this.#recorded[at].launch.flops <= FLOPS_PER_SUBMIT);
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
    this.#gpu.check();
  }

  /** See {@linkcode Suspect.blame}. Encodes and binds each launch alone, and compiles only what does not encode. */
  async blame(message: string): Promise<string | undefined> {
    const gpu = this.#gpu;
    for (const recorded of this.#recorded) {
      const { launch, pipeline } = recorded;
      const encoding = await gpu.errorOf(() => {
        const encoder = gpu.device.createCommandEncoder({ label: launch.label }), pass = encoder.beginComputePass();
        this.#dispatch(pass, recorded);
        pass.end();
        encoder.finish();
      });
      const binding = await gpu.errorOf(() => this.#bind(launch, pipeline));
      const compiling = encoding && !binding ? await gpu.errorOf(pipeline.compile) : undefined;
      // What fails at its submit, as a buffer that is gone does, fails with more words than when it is bound.
      if ([encoding, binding, compiling].some((said) => said && message.includes(said))) {
        return `${launch.label} (${launch.kernel.name})`;
      }
    }
  }

  /**
   * Replays with a timestamp on each side of every launch, and sums by kernel variant, slowest first.
   * @throws Error where the adapter has no timestamp queries
   */
  async profile(by: "kernel" | "label" = "kernel"): Promise<KernelTime[]> {
    const { device, hasTimestamps } = this.#gpu;
    if (!hasTimestamps) throw new Error("this adapter has no timestamp queries");
    const count = this.#recorded.length;
    const chunk = 1024; // a query set holds at most 4096 timestamps
    const sums = new Map<string, { launches: number; nanoseconds: number; flops: number }>();
    for (let from = 0; from < count; from += chunk) {
      const part = this.#recorded.slice(from, from + chunk);
      const querySet = device.createQuerySet({ type: "timestamp", count: 2 * part.length });
      const resolved = device.createBuffer({
        size: 16 * part.length,
        usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
      });
      const encoder = device.createCommandEncoder({ label: "profile" });
      part.forEach((recorded, i) => {
        const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
        const pass = encoder.beginComputePass({ timestampWrites });
        this.#dispatch(pass, recorded);
        pass.end();
      });
      encoder.resolveQuerySet(querySet, 0, 2 * part.length, resolved, 0);
      device.queue.submit([encoder.finish()]);
      const [bytes] = await this.#gpu.read([{ buffer: resolved, bytes: 16 * part.length }]);
      const ticks = new BigUint64Array(bytes);
      part.forEach(({ launch, pipeline }, i) => {
        const key = by === "kernel" ? pipeline.label : launch.label;
        const sum = sums.get(key) ?? { launches: 0, nanoseconds: 0, flops: 0 };
        sum.launches++;
        sum.nanoseconds += Number(ticks[2 * i + 1] - ticks[2 * i]);
        sum.flops += launch.flops;
        sums.set(key, sum);
      });
      resolved.destroy();
      querySet.destroy();
    }
    return [...sums].map(([label, { launches, nanoseconds, flops }]) => ({
      label,
      launches,
      milliseconds: nanoseconds / 1e6,
      gflops: flops / Math.max(1, nanoseconds),
    })).sort((a, b) => b.milliseconds - a.milliseconds);
  }

  [Symbol.dispose](): void {
    this.#gpu.forget(this);
    this.#uniforms.destroy();
  }
}
