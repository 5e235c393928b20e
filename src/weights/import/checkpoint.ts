/**
 * One face for the files that weights come in: PyTorch checkpoints of all three forms, safetensors, and the index of a
 * checkpoint in several files. The form is told from the first bytes, not from the name. Opening reads names and shapes; a
 * tensor's values are read when asked for.
 */

import { dirname, join } from "node:path";
import { UserError } from "../../errors.ts";
import { Safetensors } from "../safetensors.ts";
import { ByteSource } from "./bytes.ts";
import { Opaque, type Value } from "./pickle_machine.ts";
import { TorchTensor } from "./torch.ts";
import { isTar, isTorchStream, readTorchStream, readTorchTar } from "./torch_legacy.ts";
import { isZip, readTorchZip } from "./torch_zip.ts";

/** Named tensors of one or more files. Dispose of it (`using`) to close them. */
export interface Weights extends Disposable {
  /** Path, for error messages. */
  readonly label: string;
  /** The files that the tensors are in. */
  readonly files: readonly string[];
  names(): string[];
  has(name: string): boolean;
  /** Shape and stored element type. */
  info(name: string): { readonly shape: readonly number[]; readonly dtype: string };
  /** Values in row-major order. */
  float32(name: string): Float32Array;
}

/** A pickled value whose tensors are still in the file. */
export interface TorchFile extends Disposable {
  readonly source: ByteSource;
  readonly value: Value;
}

/**
 * Opens a file that `torch.save` wrote.
 * @throws {UserError} if it is missing, damaged, or something else
 */
export function openTorch(path: string): TorchFile {
  const source = ByteSource.open(path);
  try {
    const read = isZip(source) ? readTorchZip : isTorchStream(source) ? readTorchStream : undefined;
    if (read) return torchFile(source, read(source));
    if (isTar(source)) return torchFile(source, readTorchTar(source));
    throw new UserError(
      `${path}: neither a PyTorch checkpoint nor safetensors`,
      "give a .ckpt, .pt, .bin or .safetensors file, the .index.json of one in parts, or a diffusers folder",
    );
  } catch (error) {
    source.close();
    throw error;
  }
}

function torchFile(source: ByteSource, value: Value): TorchFile {
  return { source, value, [Symbol.dispose]: () => source.close() };
}

/** Entries of a dict, or of a module's parameters and buffers (an `nn.ParameterDict` is one); else undefined. */
export function entriesOf(value: Value | undefined): Map<Value, Value> | undefined {
  if (value instanceof Map) return value;
  if (!(value instanceof Opaque)) return undefined;
  if (value.state instanceof Map) {
    const { state } = value;
    const parts = ["_parameters", "_buffers"].map((part) => state.get(part));
    if (parts[0] instanceof Map) return new Map(parts.flatMap((part) => part instanceof Map ? [...part] : []));
  }
  if (value.entries.size) return value.entries;
  return value.args[0] instanceof Map ? value.args[0] : undefined; // as this program writes them
}

/** The tensors of a checkpoint's `state_dict`, or of the dict that it is. */
function torchWeights(file: TorchFile): Weights {
  const { source, value } = file, root = entriesOf(value);
  const inner = root?.get("state_dict");
  if (root && inner !== undefined && !entriesOf(inner)) {
    throw new UserError(
      `${source.label}: state_dict is no dict of tensors but ${
        inner instanceof Opaque ? inner.global.path : "other data"
      }`,
    );
  }
  const tensors = new Map<string, TorchTensor>();
  for (const [name, tensor] of entriesOf(inner) ?? root ?? []) {
    if (typeof name === "string" && tensor instanceof TorchTensor) tensors.set(name, tensor);
  }
  if (tensors.size === 0) {
    const what = value instanceof Opaque ? `it holds a ${value.global.path}` : "it holds other data";
    throw new UserError(`${source.label}: no named tensors (${what})`, "save the model's state_dict()");
  }
  return {
    label: source.label,
    files: [source.label],
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name),
    info: (name) => tensors.get(name)!,
    float32: (name) => tensors.get(name)!.float32(source, name),
    [Symbol.dispose]: () => file[Symbol.dispose](),
  };
}

/** Whether the header of a safetensors file can begin here: a length, and a brace. */
function isSafetensors(path: string): boolean {
  using source = ByteSource.open(path);
  return path.endsWith(".safetensors") || (source.size > 8 && source.read(8, 1, "the header")[0] === 0x7b);
}

function safetensorsWeights(path: string): Weights {
  const file = Safetensors.open(path);
  return {
    label: path,
    files: [path],
    names: () => file.names(),
    has: (name) => file.has(name),
    info: (name) => file.info(name),
    float32: (name) => file.float32(name),
    [Symbol.dispose]: () => file.close(),
  };
}

/** The parts that an index names, as one. */
function shardedWeights(path: string): Weights {
  let map: unknown;
  try {
    map = JSON.parse(Deno.readTextFileSync(path))?.weight_map;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(`${path}: not valid JSON`, "copy or download it again");
  }
  const places = typeof map === "object" && map !== null ? Object.entries(map) : [];
  if (!places.length || !places.every(([, file]) => typeof file === "string" && !/[/\\]/.test(file))) {
    throw new UserError(`${path}: no "weight_map" of tensors to files beside it`);
  }
  const parts = new Map<string, Weights>();
  const close = () => parts.forEach((part) => part[Symbol.dispose]());
  try {
    for (const [, file] of places) {
      if (!parts.has(file)) parts.set(file, openFile(join(dirname(path), file)));
    }
    const where = new Map<string, Weights>();
    for (const [name, file] of places) {
      const part = parts.get(file)!;
      if (!part.has(name)) throw new UserError(`${part.label}: no tensor "${name}", which ${path} says it has`);
      where.set(name, part);
    }
    return {
      label: path,
      files: [path, ...[...parts.values()].flatMap((part) => part.files)],
      names: () => [...where.keys()],
      has: (name) => where.has(name),
      info: (name) => where.get(name)!.info(name),
      float32: (name) => where.get(name)!.float32(name),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function openFile(path: string): Weights {
  if (isSafetensors(path)) return safetensorsWeights(path);
  const file = openTorch(path);
  try {
    return torchWeights(file);
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

/**
 * Opens weights of any known form.
 * @param path a PyTorch checkpoint, a safetensors file, or the `*.index.json` of one in parts
 * @throws {UserError} in one line, naming the file and the part of it that is wrong
 */
export function openWeights(path: string): Weights {
  return path.endsWith(".json") ? shardedWeights(path) : openFile(path);
}
