/**
 * The safetensors file format (https://huggingface.co/docs/safetensors): eight bytes with the header's length, a JSON
 * header that names dtype, shape and byte range of each tensor, then the raw little-endian values.
 * Files are read by ranges, so a 6 GB model costs no more memory than the tensor in hand.
 */

import { UserError } from "../errors.ts";
import { replaceFile, writeAll } from "./atomic.ts";

/** Element types that are read and written. */
export type Dtype = "F32" | "F16" | "BF16" | "I32" | "I64" | "U8";

const bytesOf: Record<Dtype, number> = { F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8, U8: 1 };

/** Raw values in the element type's own array; binary16 and bfloat16 as bit patterns. */
export type TensorArray = Float32Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array;

/** A tensor as it lies in a file. */
export interface Tensor {
  dtype: Dtype;
  /** Row-major axis lengths; `[]` is a scalar. */
  shape: readonly number[];
  data: TensorArray;
}

/** A tensor to be written; `data` may be a function, so that a large file never lies in memory as a whole. */
export interface TensorToWrite {
  /** Taken from the array's type where not given (a Uint16Array needs it). */
  dtype?: Dtype;
  shape: readonly number[];
  data: TensorArray | (() => TensorArray);
}

interface Entry {
  dtype: Dtype;
  shape: number[];
  begin: number;
  end: number;
}

/** Reads `length` bytes from `offset`. */
type ReadRange = (offset: number, length: number) => Uint8Array<ArrayBuffer>;

/** Values as float32 whatever the element type; int64 beyond 2⁵³ loses precision. F32 is returned without a copy. */
export function toFloat32(tensor: Tensor): Float32Array {
  const { dtype, data } = tensor;
  if (data instanceof Float32Array) return data;
  if (data instanceof BigInt64Array) return Float32Array.from(data, Number);
  if (dtype === "F16") {
    return new Float32Array(new Float16Array(data.buffer as ArrayBuffer, data.byteOffset, data.length));
  }
  if (dtype === "BF16") return new Float32Array(Uint32Array.from(data, (bits) => bits << 16).buffer);
  return new Float32Array(data);
}

/** An open safetensors file or buffer. Dispose of it (`using`) to close the file. */
export class Safetensors implements Disposable {
  /** The header's free text fields. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(readonly label: string, size: number, readonly read: ReadRange, readonly close: () => void) {
    const header = parseHeader(label, size, read);
    this.metadata = header.metadata;
    this.#entries = header.entries;
  }

  /**
   * Opens a file; only its header is read.
   * @throws {UserError} if the file is missing, truncated or not safetensors
   */
  static open(path: string): Safetensors {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: no such file`);
      throw error;
    }
    const read: ReadRange = (offset, length) => {
      const bytes = new Uint8Array(length);
      file.seekSync(offset, Deno.SeekMode.Start);
      for (let done = 0; done < length;) {
        const count = file.readSync(bytes.subarray(done));
        if (count === null) throw new UserError(`${path}: the file is truncated`, "copy or download it again");
        done += count;
      }
      return bytes;
    };
    try {
      return new Safetensors(path, file.statSync().size, read, () => file.close());
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * Reads from memory.
   * @param label what to call it in error messages
   * @example
   * ```ts
   * import { encodeSafetensors, Safetensors } from "./safetensors.ts";
   * const bytes = encodeSafetensors({ w: { shape: [2], data: new Float32Array([1, 2]) } }, { salt: "alpha" });
   * const file = Safetensors.parse(bytes);
   * if (file.metadata.salt !== "alpha" || file.get("w").data[1] !== 2) throw new Error("not what was written");
   * ```
   */
  static parse(bytes: Uint8Array, label = "safetensors"): Safetensors {
    return new Safetensors(label, bytes.length, (offset, length) => bytes.slice(offset, offset + length), () => {});
  }

  /** Tensor names in file order. */
  names(): string[] {
    return [...this.#entries.keys()];
  }

  /** Whether the file holds a tensor of that name. */
  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** Element type and shape of a tensor, without reading it. */
  info(name: string): { dtype: Dtype; shape: readonly number[] } {
    const entry = this.#entries.get(name);
    if (!entry) throw new UserError(`${this.label}: no tensor "${name}"`);
    return { dtype: entry.dtype, shape: entry.shape };
  }

  /** Reads one tensor. */
  get(name: string): Tensor {
    const { dtype, shape } = this.info(name);
    const { begin, end } = this.#entries.get(name)!;
    const { buffer } = this.read(begin, end - begin);
    const data = dtype === "F32"
      ? new Float32Array(buffer)
      : dtype === "I32"
      ? new Int32Array(buffer)
      : dtype === "I64"
      ? new BigInt64Array(buffer)
      : dtype === "U8"
      ? new Uint8Array(buffer)
      : new Uint16Array(buffer);
    return { dtype, shape, data };
  }

  /** Reads one tensor as float32. */
  float32(name: string): Float32Array {
    return toFloat32(this.get(name));
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Checks and reads the header: known dtypes, sizes that fit the shapes, ranges inside the file and without overlap. */
function parseHeader(label: string, size: number, read: ReadRange) {
  const refuse = (what: string): never => {
    throw new UserError(`${label}: not a whole safetensors file: ${what}`, "copy or download it again");
  };
  if (size < 8) return refuse(`it has ${size} bytes`);
  const length = Number(new DataView(read(0, 8).buffer).getBigUint64(0, true));
  if (length > 100_000_000 || length > size - 8) return refuse(`the header claims ${length} of ${size} bytes`);
  const start = 8 + length;
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(read(8, length)));
  } catch {
    return refuse("the header is not JSON");
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    return refuse("the header is not a JSON object");
  }
  const { __metadata__: metadata = {}, ...tensors } = json as Record<string, unknown>;
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(tensors)) {
    const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
    const natural = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0;
    if (!Array.isArray(shape) || !shape.every(natural)) return refuse(`tensor "${name}" has no shape`);
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(natural)) {
      return refuse(`tensor "${name}" has no byte range`);
    }
    if (!((dtype as string) in bytesOf)) {
      throw new UserError(
        `${label}: tensor "${name}" has the element type ${dtype}; known are ${Object.keys(bytesOf).join(", ")}`,
      );
    }
    const bytes = shape.reduce((product, axis) => product * axis, bytesOf[dtype as Dtype]);
    if (offsets[1] - offsets[0] !== bytes) {
      return refuse(`tensor "${name}" of shape [${shape.join(", ")}] has ${offsets[1] - offsets[0]} bytes`);
    }
    if (start + offsets[1] > size) return refuse(`tensor "${name}" ends after the end of the file`);
    entries.set(name, { dtype: dtype as Dtype, shape, begin: start + offsets[0], end: start + offsets[1] });
  }
  let end = start;
  for (const [name, entry] of [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin < end) return refuse(`tensor "${name}" overlaps another`);
    end = entry.end;
  }
  return { metadata: metadata as Record<string, string>, entries };
}

/** The element type that an array holds where nothing else is said. */
function dtypeOf(name: string, tensor: TensorToWrite): Dtype {
  const { dtype, data } = tensor;
  if (dtype) return dtype;
  if (data instanceof Float32Array) return "F32";
  if (data instanceof Int32Array) return "I32";
  if (data instanceof BigInt64Array) return "I64";
  if (data instanceof Uint8Array) return "U8";
  throw new TypeError(`tensor "${name}": say its dtype`);
}

/** The header's bytes, padded with spaces so that the values start at a multiple of eight. */
function encodeHeader(tensors: Record<string, TensorToWrite>, metadata: Record<string, string>): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, tensor] of Object.entries(tensors)) {
    const dtype = dtypeOf(name, tensor);
    const bytes = tensor.shape.reduce((product, axis) => product * axis, bytesOf[dtype]);
    header[name] = { dtype, shape: tensor.shape, data_offsets: [offset, offset += bytes] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

/** The raw bytes of each tensor in turn, checked against its shape. */
function* payload(tensors: Record<string, TensorToWrite>): Generator<Uint8Array> {
  for (const [name, tensor] of Object.entries(tensors)) {
    const data = typeof tensor.data === "function" ? tensor.data() : tensor.data;
    const bytes = tensor.shape.reduce((product, axis) => product * axis, bytesOf[dtypeOf(name, tensor)]);
    if (data.byteLength !== bytes) {
      throw new RangeError(`tensor "${name}" of shape [${tensor.shape.join(", ")}] has ${data.byteLength} bytes`);
    }
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
}

/** A safetensors file in memory. The same tensors in the same order give the same bytes. */
export function encodeSafetensors(
  tensors: Record<string, TensorToWrite>,
  metadata: Record<string, string> = {},
): Uint8Array<ArrayBuffer> {
  const parts = [encodeHeader(tensors, metadata), ...payload(tensors)];
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/**
 * A safetensors file in pieces, each tensor's values read when their turn comes: the header first.
 * @param groups tensors by name, in the file's order, group by group
 * @param read the values of a group
 */
export async function* safetensorsParts<T extends { readonly name: string; readonly shape: readonly number[] }>(
  groups: readonly (readonly T[])[],
  read: (group: readonly T[]) => Promise<Float32Array[]>,
  metadata: Record<string, string> = {},
): AsyncGenerator<Uint8Array> {
  const nothing = () => new Float32Array();
  const described = groups.flat().map(({ name, shape }) => [name, { dtype: "F32", shape, data: nothing }] as const);
  yield encodeHeader(Object.fromEntries(described), metadata);
  for (const group of groups) {
    const values = await read(group);
    yield* payload(
      Object.fromEntries(group.map(({ name, shape }, i) => [name, { dtype: "F32", shape, data: values[i] }])),
    );
  }
}

/**
 * Writes a safetensors file atomically, tensor by tensor.
 * @throws {UserError} if the folder is missing or the disk is full
 */
export function writeSafetensors(
  path: string,
  tensors: Record<string, TensorToWrite>,
  metadata: Record<string, string> = {},
): void {
  replaceFile(path, (file) => {
    writeAll(file, encodeHeader(tensors, metadata));
    for (const bytes of payload(tensors)) writeAll(file, bytes);
  });
}
