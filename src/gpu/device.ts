/**
 * The GPU: one WebGPU device with every limit the adapter offers, owned and pooled buffers, cached pipelines, and errors
 * that throw. WebGPU in Deno reports a failed shader or dispatch to an event that nobody hears by default.
 */

import { UserError } from "../errors.ts";
import { hasSubgroups } from "./subgroups.ts";
import { type Defines, expand } from "./template.ts";

/**
 * How a kernel binds a storage buffer. WebGPU has no buffer bound for reading and for writing at once, so what is `read` lies in
 * other buffers than what is written. What is bound as `read_write` and only read may lie beside it, at another offset.
 */
export type Access = "read" | "read_write";

/** A WGSL kernel: its template, and the access of its storage buffers at bindings 1, 2, … (binding 0 is the uniforms). */
export interface Kernel {
  /** For messages and timings. */
  readonly name: string;
  /** WGSL. */
  readonly source: string;
  /** How each storage buffer is used, in the order of the bindings. */
  readonly bindings: readonly Access[];
}

/** Bytes between the uniform blocks of two launches: the largest `minUniformBufferOffsetAlignment` that WebGPU allows. */
export const UNIFORM_STRIDE = 256;

/** A compiled kernel variant. */
export interface Pipeline {
  /** The kernel's name. */
  readonly label: string;
  /** WebGPU's handle. */
  readonly pipeline: GPUComputePipeline;
  /** Of its one bind group. */
  readonly layout: GPUBindGroupLayout;
  /** Compiles it once more, for what it says when it fails. */
  readonly compile: () => void;
}

/** What has launches, and can tell which of them an error of the device comes from. */
export interface Suspect {
  /**
   * The launch that fails with this message when it is set up once more; nothing is run.
   * @returns its label and its kernel, undefined where none does
   */
  blame(message: string): Promise<string | undefined>;
}

/** What products with f16 weights are computed in. */
export type Precision = "f32" | "f16";

/** Whether an adapter computes on the processor. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || /llvmpipe|swiftshader|softpipe|basic render/i.test(info.description);
}

/** Options of {@linkcode Gpu.open}. */
export interface GpuOptions {
  /** Which adapter where there are several. */
  readonly powerPreference?: GPUPowerPreference;
  /** Limits below the adapter's, by name, as a lesser adapter has them. */
  readonly limits?: Readonly<Record<string, number>>;
  /** See {@linkcode Gpu.precision}. */
  readonly precision?: Precision;
}

/** Largest total of released buffers that the pool keeps for the next plan, in bytes. */
const POOL_BYTES = 512 * 2 ** 20;

/**
 * Most bytes of writes that wait for a submit. WebGPU keeps a second copy of each until then: a model's weights, written
 * before the first run, would take twice their memory.
 */
const WAITING_BYTES = 64 * 2 ** 20;

/** An open WebGPU device. Dispose of it when done; buffers that are still out are destroyed with it. */
export class Gpu implements Disposable {
  /** WebGPU's handle. */
  readonly device: GPUDevice;
  /** Names of adapter and vendor. */
  readonly info: GPUAdapterInfo;
  /** Whether kernels can be timed. */
  readonly hasTimestamps: boolean;
  /** Which variant of a kernel is the fastest here, by class of launches: what `tune` measured. Plans made later read it. */
  choices: ReadonlyMap<string, string> = new Map();
  /** Whether plans made later may use subgroups: where these are 8 neighbouring invocations, as on software adapters. */
  subgroups = false;
  /** Whether it is a graphics card, on which plans made later keep many invocations busy, and not a software adapter. */
  card: boolean;
  /** Whether kernels can compute in f16 (`shader-f16`). */
  readonly hasF16: boolean;
  #precision: Precision = "f32";
  #pipelines = new Map<string, Pipeline>();
  #layouts = new Map<string, GPUBindGroupLayout>();
  #free = new Map<number, GPUBuffer[]>();
  #pooled = 0;
  #waiting = 0;
  #owned = new Set<GPUBuffer>();
  #allocated = 0;
  #peak = 0;
  readonly #suspects = new Set<Suspect>();
  #failure: Error | undefined;
  #blamed: Promise<void> | undefined;
  #closed = false;

  private constructor(device: GPUDevice, info: GPUAdapterInfo) {
    this.device = device;
    this.info = info;
    this.card = !isSoftware(info);
    this.hasTimestamps = device.features.has("timestamp-query");
    this.hasF16 = device.features.has("shader-f16");
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      if (this.#failure) return;
      const { error } = event as GPUUncapturedErrorEvent;
      if (error instanceof GPUOutOfMemoryError) {
        this.#failure = new UserError(
          `the graphics adapter has no memory left, with ${(this.#allocated / 2 ** 30).toFixed(1)} GiB in use`,
          "end other programs that use it, or keep to less with --memory; what was finished is saved: --resume goes on",
        );
        return;
      }
      const message = error.message.trim();
      this.#failure = new Error(`GPU: ${message}`);
      this.#blamed = this.#blame(message);
    });
    device.lost.then((lost) => {
      if (this.#closed) return;
      this.#failure ??= new UserError(
        `the GPU was lost: ${lost.message || lost.reason}`,
        "what was finished is saved; run the command again with --resume, and with a smaller batch if memory ran out",
      );
    });
  }

  /**
   * Opens the adapter with all its limits.
   * @throws UserError where there is no adapter, or none that computes in what was asked for
   */
  static async open(options: GpuOptions = {}): Promise<Gpu> {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: options.powerPreference });
    if (!adapter) {
      throw new UserError(
        "no GPU adapter was found",
        "install the graphics driver's Vulkan part, or for a software adapter: apt-get install libvulkan1 mesa-vulkan-drivers; then run doctor",
      );
    }
    const requiredLimits: Record<string, number> = {};
    for (const name in adapter.limits) {
      const value = adapter.limits[name as keyof GPUSupportedLimits];
      if (typeof value === "number") requiredLimits[name] = Math.min(value, options.limits?.[name] ?? value);
    }
    const requiredFeatures = (["timestamp-query", "shader-f16"] as const).filter((name) => adapter.features.has(name));
    // Deno gives subgroups to who asks for them, and does not list them.
    const wanted = { requiredLimits, requiredFeatures: [...requiredFeatures, "subgroups" as GPUFeatureName] };
    let device = await adapter.requestDevice(wanted).catch(() => undefined);
    const subgroups = device !== undefined && await hasSubgroups(device);
    device ??= await adapter.requestDevice({ requiredLimits, requiredFeatures });
    const gpu = new Gpu(device, adapter.info);
    gpu.subgroups = subgroups;
    try {
      gpu.precision = options.precision ?? "f32";
    } catch (error) {
      gpu[Symbol.dispose]();
      throw error;
    }
    return gpu;
  }

  /**
   * What plans made later may compute products with f16 weights in, forward and back to their inputs. `f16` rounds both
   * factors to 11 bits and adds up to 16 products as f16, then goes on in f32; it is used where `tune` found it faster, and
   * results then depend on that table. Default `f32`. Set to `f16` it throws UserError where {@linkcode hasF16} is false.
   */
  get precision(): Precision {
    return this.#precision;
  }

  set precision(precision: Precision) {
    if (precision === "f16" && !this.hasF16) {
      throw new UserError(
        `${this.info.description || "this adapter"} does not compute in f16 (WebGPU's shader-f16)`,
        "leave out --precision f16; doctor lists what the adapter can do",
      );
    }
    this.#precision = precision;
  }

  /** Bytes of GPU memory that this device holds at the moment, pool included. */
  get allocatedBytes(): number {
    return this.#allocated;
  }

  /** Most bytes held at once since the device was opened or {@linkcode resetPeak} was called. */
  get peakBytes(): number {
    return this.#peak;
  }

  /** Starts {@linkcode peakBytes} anew. */
  resetPeak(): void {
    this.#peak = this.#allocated;
  }

  /**
   * Throws the first error that the device reported since it was opened. It names the launch at fault by label and kernel where
   * the error is one of a shader, a binding or a dispatch of a program that is still there. Deno reports errors in a later turn of
   * its event loop, so what made one does not throw; the next {@linkcode read} or {@linkcode settle} does, or an earlier call
   * that checks.
   */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Has a program asked about errors, until {@linkcode forget}. */
  watch(program: Suspect): void {
    this.#suspects.add(program);
  }

  /** Ends {@linkcode watch}. */
  forget(program: Suspect): void {
    this.#suspects.delete(program);
  }

  /** What the device says against something that is done with it, without keeping that as its failure. */
  async errorOf(action: () => void): Promise<string | undefined> {
    for (const filter of ["internal", "validation"] as const) this.device.pushErrorScope(filter);
    action();
    const errors = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    return errors.find((error) => error)?.message.trim();
  }

  /**
   * Names the launch at fault in the failure. WebGPU's messages name a buffer or a shader at best, and a scope around every launch
   * would cost each replay; so it is looked for afterwards. Scopes answer at once: this is done before other code sees the failure.
   */
  async #blame(message: string): Promise<void> {
    for (const program of this.#suspects) {
      const launch = await program.blame(message).catch(() => undefined); // the device may be gone too
      if (launch === undefined) continue;
      this.#failure = new Error(`GPU: ${launch}: ${message}`);
      return;
    }
  }

  /** A storage buffer of at least `bytes` bytes, from the pool where one fits. Contents are undefined. */
  acquire(bytes: number, label: string): GPUBuffer {
    const size = Math.max(256, Math.ceil(bytes / 256) * 256);
    if (size > this.device.limits.maxStorageBufferBindingSize) {
      throw new UserError(
        `${label} needs ${(size / 2 ** 20).toFixed(0)} MiB in one buffer, this adapter binds at most ` +
          `${(this.device.limits.maxStorageBufferBindingSize / 2 ** 20).toFixed(0)} MiB`,
        "use a smaller batch or resolution",
      );
    }
    const pooled = this.#free.get(size)?.pop();
    if (pooled) {
      this.#pooled -= size;
      this.#owned.add(pooled);
      return pooled;
    }
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = this.device.createBuffer({ label, size, usage });
    this.check();
    this.#owned.add(buffer);
    this.#allocated += size;
    this.#peak = Math.max(this.#peak, this.#allocated);
    return buffer;
  }

  /** Gives a buffer of {@linkcode acquire} back. */
  release(buffer: GPUBuffer): void {
    if (!this.#owned.delete(buffer)) throw new Error(`buffer "${buffer.label}" was released twice`);
    if (this.#pooled + buffer.size > POOL_BYTES) {
      this.#allocated -= buffer.size;
      buffer.destroy();
      return;
    }
    this.#pooled += buffer.size;
    const list = this.#free.get(buffer.size);
    if (list) list.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
  }

  /** Destroys the buffers that lie unused in the pool. */
  trim(): void {
    for (const list of this.#free.values()) {
      for (const buffer of list) {
        this.#allocated -= buffer.size;
        buffer.destroy();
      }
    }
    this.#free.clear();
    this.#pooled = 0;
  }

  #layout(bindings: readonly Access[]): GPUBindGroupLayout {
    const key = bindings.join();
    const known = this.#layouts.get(key);
    if (known) return known;
    const visibility = GPUShaderStage.COMPUTE;
    // Explicit, because an automatic layout drops bindings that a variant does not read.
    const layout = this.device.createBindGroupLayout({
      label: `(${key})`,
      entries: [
        { binding: 0, visibility, buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: UNIFORM_STRIDE } },
        ...bindings.map((access, i) => ({
          binding: i + 1,
          visibility,
          buffer: { type: access === "read" ? "read-only-storage" : "storage" } as const,
        })),
      ],
    });
    this.#layouts.set(key, layout);
    return layout;
  }

  /**
   * The pipeline of a kernel with these constants, compiled once per device.
   * @param user whose launch it is for
   */
  pipeline(kernel: Kernel, defines: Defines, user?: string): Pipeline {
    const key = `${kernel.name} ${JSON.stringify(defines)} ${kernel.bindings.join()}`;
    const known = this.#pipelines.get(key);
    if (known) return known;
    const most = this.device.limits.maxStorageBuffersPerShaderStage;
    if (kernel.bindings.length > most) {
      throw new UserError(
        `${user === undefined ? "" : `${user}: `}${kernel.name} binds ${kernel.bindings.length} buffers, ` +
          `this adapter at most ${most}`,
        "use another adapter; doctor lists the limits",
      );
    }
    const layout = this.#layout(kernel.bindings);
    const code = expand(kernel.source, defines);
    const compile = () =>
      this.device.createComputePipeline({
        label: key,
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module: this.device.createShaderModule({ label: key, code }), entryPoint: "main" },
      });
    const again = () => {
      if (Deno.env.get("ANOMALYDIFFUSION_DEBUG")) {
        console.error(code.split("\n").map((line, i) => `${i + 1}: ${line}`).join("\n"));
      }
      compile();
    };
    const result = { label: key, pipeline: compile(), layout, compile: again };
    this.check();
    this.#pipelines.set(key, result);
    return result;
  }

  /** Writes `data` into the front of a buffer. Length in bytes is a multiple of 4. */
  write(buffer: GPUBuffer, data: Float32Array | Uint32Array | Int32Array): void {
    this.device.queue.writeBuffer(buffer, 0, data as BufferSource);
    this.#waiting += data.byteLength;
    if (this.#waiting < WAITING_BYTES) return;
    this.device.queue.submit([]);
    this.#waiting = 0;
  }

  /** Reads `bytes` bytes of each buffer, in one round trip (a trip costs about 11 ms in Deno, whatever its size). */
  async read(sources: readonly { buffer: GPUBuffer; bytes: number; offset?: number }[]): Promise<ArrayBuffer[]> {
    const encoder = this.device.createCommandEncoder({ label: "read" });
    const staged = sources.map(({ buffer, bytes, offset = 0 }) => {
      const size = Math.ceil(bytes / 4) * 4;
      const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
      const staging = this.device.createBuffer({ label: "staging", size, usage });
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
      return staging;
    });
    this.device.queue.submit([encoder.finish()]);
    try {
      await Promise.all(staged.map((staging) => staging.mapAsync(GPUMapMode.READ)));
      await this.#blamed;
      this.check();
      return staged.map((staging, i) => staging.getMappedRange().slice(0, sources[i].bytes));
    } catch (error) {
      await Promise.resolve();
      await this.#blamed;
      this.check();
      throw error;
    } finally {
      for (const staging of staged) staging.destroy();
    }
  }

  /** Waits until everything that was submitted has run. */
  async settle(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone();
    await this.#blamed;
    this.check();
  }

  /** Frees the device and everything on it. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.trim();
    for (const buffer of this.#owned) buffer.destroy();
    this.#owned.clear();
    this.#allocated = 0;
    this.device.destroy();
  }
}
