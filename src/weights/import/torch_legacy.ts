/**
 * PyTorch's checkpoint formats before 1.6 (`_legacy_load` of `torch/serialization.py`): a row of pickles followed by the
 * storages in one stream, and before that a tar archive of the files `storages`, `tensors` and `pickle`.
 */

import { UserError } from "../../errors.ts";
import { ByteReader, type ByteSource } from "./bytes.ts";
import { readPickle } from "./pickle.ts";
import type { Value } from "./pickle_machine.ts";
import { Storage, storageType, tensorOf, torchHooks } from "./torch.ts";

/** First value of a stream, and the only protocol there is. */
const MAGIC = 0x1950a86a20f9469cfc6cn, PROTOCOL = 1001;

const AGAIN = "copy or download the file again";

/** Sets where a storage's bytes are: behind a count of its elements, at which the reader stands. */
function place(reader: ByteReader, storage: Storage): void {
  const { source } = reader, elements = Number(reader.view(8).getBigInt64(0, true));
  if (elements !== storage.elements) {
    throw new UserError(
      `${source.label}: storage "${storage.key}" has ${elements} elements, not ${storage.elements}`,
      AGAIN,
    );
  }
  if (reader.position + storage.bytes > reader.end) {
    throw new UserError(`${source.label}: the file is truncated in storage "${storage.key}"`, AGAIN);
  }
  storage.begin = reader.position;
  reader.position += storage.bytes;
}

/** Whether a source starts with the magic number as `torch.save` pickled it. */
export function isTorchStream(source: ByteSource): boolean {
  // PROTO n, LONG1 of ten bytes, the number, STOP.
  if (source.size < 15) return false;
  const start = source.read(0, 15, "the start");
  return start[0] === 0x80 && start[2] === 0x8a && start[3] === 10 && start[4] === 0x6c && start[5] === 0xfc;
}

/** The value of a stream; tensors in it are views of the file. */
export function readTorchStream(source: ByteSource): Value {
  const reader = new ByteReader(source, "the checkpoint's header");
  if (readPickle(reader) !== MAGIC || readPickle(reader) !== PROTOCOL) {
    throw new UserError(`${source.label}: not a PyTorch checkpoint`, AGAIN);
  }
  const system = readPickle(reader);
  if (system instanceof Map && system.get("little_endian") === false) {
    throw new UserError(`${source.label}: its numbers are big-endian`, "save it again on an ordinary machine");
  }
  const storages = new Map<string, Storage>();
  const value = readPickle(reader, torchHooks(source.label, storages)), keys = readPickle(reader);
  if (!Array.isArray(keys)) throw new UserError(`${source.label}: the list of storages is damaged`, AGAIN);
  for (const key of keys) {
    const storage = storages.get(String(key));
    if (!storage) throw new UserError(`${source.label}: storage "${key}" belongs to no tensor`, AGAIN);
    place(reader, storage);
  }
  return value;
}

const BLOCK = 512;

/** Whether a source is a tar archive (the word "ustar" in its first header, or a header that begins with a known name). */
export function isTar(source: ByteSource): boolean {
  if (source.size < 2 * BLOCK) return false;
  const header = new TextDecoder("latin1").decode(source.read(0, BLOCK, "the start"));
  return header.slice(257, 262) === "ustar" || /^(\.\/)?(sys_info|pickle|storages|tensors)\0/.test(header);
}

/** Ranges of the files in a tar archive. */
function readTar(source: ByteSource): Map<string, readonly [begin: number, end: number]> {
  const files = new Map<string, readonly [number, number]>();
  for (let at = 0; at + BLOCK <= source.size;) {
    const header = source.read(at, BLOCK, "a header of the archive");
    if (header.every((byte) => byte === 0)) break;
    const text = new TextDecoder("latin1").decode(header);
    const name = text.slice(0, 100).replace(/\0.*$/s, "").replace(/^\.\//, "");
    // Sizes beyond 8 GB are written in base 256, marked by the highest bit.
    const size = header[124] & 0x80
      ? header.subarray(125, 136).reduce((sum, byte) => sum * 256 + byte, 0)
      : parseInt(text.slice(124, 136).replace(/[\0 ]+$/, "") || "0", 8);
    if (!Number.isSafeInteger(size) || size < 0 || at + BLOCK + size > source.size) {
      throw new UserError(`${source.label}: the file is truncated in "${name}" of the archive`, AGAIN);
    }
    if (!files.has(name)) files.set(name, [at + BLOCK, at + BLOCK + size]);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

/** The value of a tar archive; tensors in it are views of the file. */
export function readTorchTar(source: ByteSource): Value {
  const files = readTar(source), { label } = source;
  const open = (name: string) => {
    const range = files.get(name);
    if (!range) throw new UserError(`${label}: a tar archive without "${name}", so not a PyTorch checkpoint`);
    return new ByteReader(source, `"${name}" of the archive`, ...range);
  };
  const damaged = (what: string): never => {
    throw new UserError(`${label}: ${what} of the archive is damaged`, AGAIN);
  };
  const list = (value: Value, what: string): Value[] => Array.isArray(value) ? value : damaged(what);
  const count = (value: Value, what: string): number =>
    typeof value === "number" && value >= 0 && value <= source.size ? value : damaged(what);
  const objects = new Map<string, Value>();

  const storages = open("storages");
  for (let i = count(readPickle(storages), '"storages"'); i > 0; i--) {
    const [key, , kind] = list(readPickle(storages), '"storages"');
    const ahead = Number(storages.view(8).getBigInt64(0, true));
    storages.position -= 8;
    if (ahead < 0) damaged('"storages"');
    const storage = new Storage(String(key), storageType(label, kind ?? null), ahead);
    place(storages, storage);
    objects.set(storage.key, storage);
  }
  for (const view of list(readPickle(storages), '"storages"')) {
    const [target, root, offset, elements] = list(view, '"storages"'), whole = objects.get(String(root));
    if (!(whole instanceof Storage) || !(Number(offset) >= 0) || !(Number(elements) >= 0)) {
      return damaged('"storages"');
    }
    const part = new Storage(String(target), whole.type, Number(elements));
    part.begin = whole.begin + Number(offset) * whole.elementBytes;
    if (part.begin + part.bytes > whole.begin + whole.bytes) damaged('"storages"');
    objects.set(part.key, part);
  }

  const tensors = open("tensors");
  for (let i = count(readPickle(tensors), '"tensors"'); i > 0; i--) {
    const [key, storage] = list(readPickle(tensors), '"tensors"');
    const axes = tensors.view(8).getInt32(0, true); // written as eight bytes
    if (axes < 0 || axes > 16) damaged('"tensors"');
    const numbers = (length: number) => Array.from({ length }, () => Number(tensors.view(8).getBigInt64(0, true)));
    const shape = numbers(axes), strides = numbers(axes), [offset] = numbers(1);
    objects.set(String(key), tensorOf(label, objects.get(String(storage)) ?? null, offset, shape, strides));
  }
  return readPickle(open("pickle"), {
    ...torchHooks(label, new Map()),
    persistent(id) {
      if (Array.isArray(id)) return id[0] ?? null; // a class with its source
      const found = objects.get(String(id));
      if (found === undefined) throw new UserError(`${label}: object ${String(id)} of the archive is missing`, AGAIN);
      return found;
    },
  });
}
