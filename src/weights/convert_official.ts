/**
 * Writes learned tokens and the spatial encoder as the official code reads them: the zip form of `torch.save`, with a pickle
 * (protocol 2) that names only `collections.OrderedDict`, `torch.nn.ParameterDict` and PyTorch's own tensor functions.
 */

import { crc32 } from "node:zlib";
import { isRunningStatistic } from "../models/official_spatial_encoder.ts";
import type { Stored } from "../nn/parameters.ts";
import { replaceFile, writeAll } from "./atomic.ts";

/** Bytes of a pickle, put together. */
class PickleWriter {
  readonly #parts: number[] = [0x80, 2];
  /** Values of the storages, in the order of their keys. */
  readonly storages: (Float32Array | BigInt64Array)[] = [];

  op(letters: string): this {
    for (const letter of letters) this.#parts.push(letter.charCodeAt(0));
    return this;
  }

  #u32(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.#parts.push((value >>> shift) & 255);
  }

  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    this.op("X").#u32(bytes.length);
    this.#parts.push(...bytes);
    return this;
  }

  number(value: number): this {
    this.op("J").#u32(value);
    return this;
  }

  global(module: string, name: string): this {
    return this.op(`c${module}\n${name}\n`);
  }

  /** `OrderedDict()`; entries follow between "(" and "u". */
  ordered(): this {
    return this.global("collections", "OrderedDict").op(")R");
  }

  #numbers(values: readonly number[]): this {
    this.op("(");
    for (const value of values) this.number(value);
    return this.op("t");
  }

  /** A row-major tensor with a storage of its own. */
  tensor(shape: readonly number[], data: Float32Array | BigInt64Array): this {
    const strides = shape.map((_, i) => shape.slice(i + 1).reduce((product, axis) => product * axis, 1));
    const type = data instanceof Float32Array ? "FloatStorage" : "LongStorage";
    this.global("torch._utils", "_rebuild_tensor_v2").op("(");
    this.op("(").text("storage").global("torch", type).text(String(this.storages.length)).text("cpu");
    this.number(data.length).op("tQ").number(0);
    this.#numbers(shape).#numbers(strides).op("\x89").ordered().op("tR");
    this.storages.push(data);
    return this;
  }

  /** A tensor that is a parameter to be trained. */
  parameter(shape: readonly number[], data: Float32Array): this {
    return this.global("torch._utils", "_rebuild_parameter").tensor(shape, data).op("\x88").ordered().op("\x87R");
  }

  end(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.op(".").#parts);
  }
}

/** One file of the archive. */
interface Member {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** An uncompressed zip archive below 4 GB, written member by member. The same members give the same bytes. */
function writeZip(path: string, members: readonly Member[]): void {
  const total = members.reduce((sum, { bytes, name }) => sum + bytes.length + 2 * name.length + 100, 100);
  if (total > 0xffffffff) throw new RangeError(`${path}: more than 4 GB in one zip archive`);
  replaceFile(path, (file) => {
    const directory: Uint8Array[] = [];
    let offset = 0, size = 0;
    const put = (bytes: Uint8Array) => {
      writeAll(file, bytes);
      offset += bytes.length;
    };
    for (const { name, bytes } of members) {
      const letters = new TextEncoder().encode(name);
      // Version, flags, method, time, date (1980-01-01), checksum, sizes, lengths of name and extra field.
      const fields = new DataView(new ArrayBuffer(26));
      fields.setUint16(0, 20, true);
      fields.setUint16(8, 33, true);
      fields.setUint32(10, crc32(bytes), true);
      fields.setUint32(14, bytes.length, true);
      fields.setUint32(18, bytes.length, true);
      fields.setUint16(22, letters.length, true);
      const shared = new Uint8Array(fields.buffer), rest = new DataView(new ArrayBuffer(14));
      rest.setUint32(10, offset, true);
      directory.push(
        Uint8Array.of(0x50, 0x4b, 1, 2, 20, 0),
        shared,
        new Uint8Array(rest.buffer),
        letters,
      );
      put(Uint8Array.of(0x50, 0x4b, 3, 4));
      put(shared);
      put(letters);
      put(bytes);
    }
    const start = offset;
    for (const part of directory) {
      put(part);
      size += part.length;
    }
    const end = new DataView(new ArrayBuffer(22));
    end.setUint32(0, 0x06054b50, true);
    end.setUint16(8, members.length, true);
    end.setUint16(10, members.length, true);
    end.setUint32(12, size, true);
    end.setUint32(16, start, true);
    put(new Uint8Array(end.buffer));
  });
}

function save(path: string, writer: PickleWriter): void {
  const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array | BigInt64Array) =>
    new Uint8Array(buffer, byteOffset, byteLength);
  writeZip(path, [
    { name: "archive/data.pkl", bytes: writer.end() },
    { name: "archive/byteorder", bytes: new TextEncoder().encode("little") },
    ...writer.storages.map((data, i) => ({ name: `archive/data/${i}`, bytes: bytesOf(data) })),
    { name: "archive/version", bytes: new TextEncoder().encode("3\n") },
  ]);
}

/**
 * Writes `embeddings.pt`.
 * @param table learned tokens by key, each [tokens, width]; the key is `*` for masks
 * @param placeholder id of `*` in the model's vocabulary
 */
export function writeOfficialEmbeddings(
  path: string,
  table: ReadonlyMap<string, Float32Array>,
  width: number,
  placeholder: number,
): void {
  const writer = new PickleWriter().op("}(").text("string_to_token").op("}").text("*");
  writer.tensor([], BigInt64Array.of(BigInt(placeholder))).op("s");
  writer.text("string_to_param").global("torch.nn.modules.container", "ParameterDict").ordered().op("(");
  for (const [key, data] of table) writer.text(key).parameter([data.length / width, width], data);
  save(path, writer.op("u\x85Ru"));
}

/**
 * Writes `spatial_encoder.pt`, a state dict that PyTorch loads strictly.
 * @param parameters by name, without prefix
 */
export function writeOfficialSpatial(path: string, parameters: ReadonlyMap<string, Stored>): void {
  const writer = new PickleWriter().ordered().op("(");
  for (const [name, { shape, data }] of parameters) {
    writer.text(name).tensor(shape, data);
    if (isRunningStatistic(name) && name.endsWith("_var")) {
      // PyTorch's batch norms count their batches; the count decides nothing here.
      writer.text(name.replace(/running_var$/, "num_batches_tracked")).tensor([], BigInt64Array.of(0n));
    }
  }
  save(path, writer.op("u"));
}
