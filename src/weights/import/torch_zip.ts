/**
 * PyTorch's checkpoint format since 1.6: a zip archive, uncompressed, of a pickle `data.pkl` and one file per storage
 * (`data/0`, `data/1`, …), with the zip64 records of files beyond 4 GB (PKWARE's APPNOTE 4.3–4.5).
 */

import { UserError } from "../../errors.ts";
import { ByteReader, type ByteSource } from "./bytes.ts";
import { readPickle } from "./pickle.ts";
import type { Value } from "./pickle_machine.ts";
import { type Storage, torchHooks } from "./torch.ts";

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR64 = 0x07064b50;
const END_BYTES = 22, LOCATOR64_BYTES = 20, CENTRAL_BYTES = 46, LOCAL_BYTES = 30;
/** Longest comment that can stand after the end record. */
const LONGEST_TAIL = END_BYTES + 0xffff;
/** Largest directory and largest pickle that are read: a checkpoint of a thousand tensors needs a hundredth of it. */
const LARGEST_PART = 2 ** 27;

/** One file of an archive: where its local header is, and its size. */
export interface ZipEntry {
  readonly header: number;
  readonly size: number;
  readonly compressed: boolean;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Whether a source starts as a zip archive does. */
export function isZip(source: ByteSource): boolean {
  return source.size >= 4 && viewOf(source.read(0, 4, "the start")).getUint32(0, true) === LOCAL;
}

/**
 * The files of a zip archive by name.
 * @throws {UserError} where its directory is missing or damaged, as in a file that was cut off
 */
export function readZipDirectory(source: ByteSource): Map<string, ZipEntry> {
  const refuse = (what: string): never => {
    throw new UserError(`${source.label}: not a whole zip archive: ${what}`, "copy or download it again");
  };
  const length = Math.min(source.size, LONGEST_TAIL), start = source.size - length;
  const tail = viewOf(source.read(start, length, "the directory's end"));
  let at = length - END_BYTES;
  while (at >= 0 && tail.getUint32(at, true) !== END) at--;
  if (at < 0) return refuse("the directory at its end is missing");
  let count = tail.getUint16(at + 10, true),
    size = tail.getUint32(at + 12, true),
    offset = tail.getUint32(at + 16, true);
  const locator = start + at - LOCATOR64_BYTES;
  if (locator >= 0) {
    const view = viewOf(source.read(locator, LOCATOR64_BYTES, "the zip64 locator"));
    if (view.getUint32(0, true) === LOCATOR64) {
      const end = viewOf(source.read(Number(view.getBigUint64(8, true)), 56, "the zip64 directory's end"));
      if (end.getUint32(0, true) !== END64) return refuse("the zip64 record is damaged");
      [count, size, offset] = [32, 40, 48].map((field) => Number(end.getBigUint64(field, true)));
    }
  }
  if (size > LARGEST_PART) return refuse(`its directory claims ${size} bytes`);
  const directory = viewOf(source.read(offset, size, "the directory")), entries = new Map<string, ZipEntry>();
  for (let p = 0, i = 0; i < count; i++) {
    if (p + CENTRAL_BYTES > size || directory.getUint32(p, true) !== CENTRAL) return refuse(`entry ${i} is damaged`);
    const method = directory.getUint16(p + 10, true);
    const nameLength = directory.getUint16(p + 28, true), extraLength = directory.getUint16(p + 30, true);
    const next = p + CENTRAL_BYTES + nameLength + extraLength + directory.getUint16(p + 32, true);
    if (next > size) return refuse(`entry ${i} is damaged`);
    let unpacked = directory.getUint32(p + 24, true), header = directory.getUint32(p + 42, true);
    const packed = directory.getUint32(p + 20, true), extra = p + CENTRAL_BYTES + nameLength;
    for (let e = extra; e + 4 <= extra + extraLength; e += 4 + directory.getUint16(e + 2, true)) {
      if (directory.getUint16(e, true) !== 1) continue;
      // The 64-bit fields stand there for those that are full, in this order.
      let field = e + 4;
      const wide = () => {
        if (field + 8 > extra + extraLength) refuse(`entry ${i} is damaged`);
        return Number(directory.getBigUint64((field += 8) - 8, true));
      };
      if (unpacked === 0xffffffff) unpacked = wide();
      if (packed === 0xffffffff) wide();
      if (header === 0xffffffff) header = wide();
    }
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, p + CENTRAL_BYTES, nameLength));
    entries.set(name, { header, size: unpacked, compressed: method !== 0 });
    p = next;
  }
  return entries;
}

/** Where the bytes of an entry begin, checked against the local header. */
function dataOf(source: ByteSource, name: string, { header, size, compressed }: ZipEntry): number {
  const what = `"${name}" of the archive`;
  if (compressed) throw new UserError(`${source.label}: ${what} is compressed, which PyTorch never writes`);
  const local = viewOf(source.read(header, LOCAL_BYTES, what));
  if (local.getUint32(0, true) !== LOCAL) throw new UserError(`${source.label}: ${what} is damaged`);
  const begin = header + LOCAL_BYTES + local.getUint16(26, true) + local.getUint16(28, true);
  if (begin + size > source.size) {
    throw new UserError(`${source.label}: ${what} is truncated`, "copy or download the file again");
  }
  return begin;
}

/** What `torch.save` wrote: the pickled value, tensors in it as views of the file. */
export function readTorchZip(source: ByteSource): Value {
  const entries = readZipDirectory(source);
  const pickle = [...entries.keys()].find((name) => name === "data.pkl" || /^[^/]+\/data\.pkl$/.test(name));
  if (pickle === undefined) {
    throw new UserError(`${source.label}: a zip archive without data.pkl, so not a PyTorch checkpoint`);
  }
  const prefix = pickle.slice(0, -"data.pkl".length), order = entries.get(`${prefix}byteorder`);
  if (order && order.size < 16) {
    const begin = dataOf(source, "byteorder", order);
    if (new TextDecoder().decode(source.read(begin, order.size, "byteorder")) !== "little") {
      throw new UserError(`${source.label}: its numbers are big-endian`, "save it again on an ordinary machine");
    }
  }
  const { size } = entries.get(pickle)!, begin = dataOf(source, pickle, entries.get(pickle)!);
  if (size > LARGEST_PART) throw new UserError(`${source.label}: "${pickle}" claims ${size} bytes`);
  const storages = new Map<string, Storage>();
  const reader = new ByteReader(source, `"${pickle}"`, begin, begin + size);
  const value = readPickle(reader, torchHooks(source.label, storages));
  for (const [key, storage] of storages) {
    const name = `${prefix}data/${key}`, entry = entries.get(name);
    if (!entry) continue; // an error once a tensor in it is wanted
    if (entry.size < storage.bytes) {
      throw new UserError(
        `${source.label}: "${name}" of the archive has ${entry.size} of ${storage.bytes} bytes`,
        "copy or download the file again",
      );
    }
    storage.begin = dataOf(source, name, entry);
  }
  return value;
}
