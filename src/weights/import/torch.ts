/**
 * What PyTorch puts into pickles: storages kept outside of them, and tensors and parameters that view storages (functions
 * `_rebuild_*` of `torch/_utils.py`). The three file formats differ only in where a storage's bytes are.
 */

import { UserError } from "../../errors.ts";
import type { ByteSource } from "./bytes.ts";
import { Foreign, Global, type PickleHooks, type Value } from "./pickle_machine.ts";

/** Element types by PyTorch's name for their storages: bytes each, and how they become float32. */
const TYPES: Readonly<
  Record<string, readonly [bytes: number, dtype: string, read?: (b: ArrayBuffer) => Float32Array]>
> = {
  Float: [4, "float32", (b) => new Float32Array(b)],
  Half: [2, "float16", (b) => new Float32Array(new Float16Array(b))],
  BFloat16: [2, "bfloat16", (b) => {
    const from = new Uint16Array(b), bits = new Uint32Array(from.length);
    for (let i = 0; i < from.length; i++) bits[i] = from[i] << 16;
    return new Float32Array(bits.buffer);
  }],
  Double: [8, "float64", (b) => new Float32Array(new Float64Array(b))],
  Long: [8, "int64", (b) => Float32Array.from(new BigInt64Array(b), Number)],
  Int: [4, "int32", (b) => new Float32Array(new Int32Array(b))],
  Short: [2, "int16", (b) => new Float32Array(new Int16Array(b))],
  Char: [1, "int8", (b) => new Float32Array(new Int8Array(b))],
  Byte: [1, "uint8", (b) => new Float32Array(new Uint8Array(b))],
  Bool: [1, "bool", (b) => new Float32Array(new Uint8Array(b))],
  ComplexFloat: [8, "complex64"],
  ComplexDouble: [16, "complex128"],
};
const byDtype = new Map(Object.entries(TYPES).map(([name, [, dtype]]) => [dtype, name]));

/** Widest stretch of a storage that a tensor with gaps may span, and largest that one with repeats may grow to, in bytes. */
const WIDEST_SPAN = 2 ** 30;

/** A storage: a flat run of elements of one type. Where its bytes lie is set when the file's format has told it. */
export class Storage extends Foreign {
  override readonly kind = "a storage";
  /** First byte in the source. */
  begin = -1;

  /** @param type PyTorch's name: `Float`, `Half`; `Untyped` counts bytes */
  constructor(readonly key: string, readonly type: string, readonly elements: number) {
    super();
  }

  get elementBytes(): number {
    return TYPES[this.type]?.[0] ?? 1;
  }

  get bytes(): number {
    return this.elements * this.elementBytes;
  }
}

/** A tensor: a view of a storage. */
export class TorchTensor extends Foreign {
  override readonly kind = "a tensor";

  constructor(
    readonly storage: Storage,
    readonly type: string,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {
    super();
  }

  get dtype(): string {
    return TYPES[this.type][1];
  }

  /**
   * Elements in row-major order as float32.
   * @param name of the tensor, for errors
   * @throws {UserError} if it reaches beyond its storage or its type is no real number
   */
  float32(source: ByteSource, name: string): Float32Array {
    const refuse = (what: string): never => {
      throw new UserError(`${source.label}: tensor "${name}" ${what}`, "copy or download the file again");
    };
    const [bytes, dtype, read] = TYPES[this.type], { shape, strides, offset, storage } = this;
    if (!read) return refuse(`has the element type ${dtype}, which no model here has`);
    if (storage.begin < 0) return refuse(`has no data: storage "${storage.key}" is missing from the file`);
    const size = shape.reduce((product, axis) => product * axis, 1);
    if (size === 0) return new Float32Array(0);
    const span = shape.reduce((sum, axis, i) => sum + (axis - 1) * strides[i], 1);
    if ((offset + span) * bytes > storage.bytes) {
      return refuse(`needs ${offset + span} elements of a storage that has ${Math.floor(storage.bytes / bytes)}`);
    }
    const whole = span === size && isRowMajor(shape, strides);
    if (!whole && span * bytes > WIDEST_SPAN) return refuse("is scattered over too much of its storage");
    if (!whole && size * 4 > WIDEST_SPAN) return refuse(`repeats its storage to ${size} elements`);
    const raw = source.read(storage.begin + offset * bytes, span * bytes, `tensor "${name}"`);
    const values = read(raw.buffer);
    return whole ? values : gather(values, shape, strides);
  }
}

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i];
  }
  return true;
}

function gather(values: Float32Array, shape: readonly number[], strides: readonly number[]): Float32Array {
  const out = new Float32Array(shape.reduce((product, axis) => product * axis, 1));
  const index = new Array(shape.length).fill(0);
  for (let i = 0, at = 0; i < out.length; i++) {
    out[i] = values[at];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= shape[axis] * strides[axis];
      index[axis] = 0;
    }
  }
  return out;
}

/** A tensor from what a pickle says about it; anything that is not whole numbers in range is refused. */
export function tensorOf(label: string, storage: Value, offset: Value, shape: Value, strides: Value, type?: string) {
  const natural = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  const naturals = (list: Value): list is number[] => Array.isArray(list) && list.every(natural);
  if (!(storage instanceof Storage) || !natural(offset) || !naturals(shape) || !naturals(strides)) {
    throw new UserError(`${label}: a tensor is described wrongly`, "copy or download the file again");
  }
  const size = shape.reduce((product, axis) => product * axis, 1);
  if (shape.length !== strides.length || shape.length > 16 || !Number.isSafeInteger(size)) {
    throw new UserError(`${label}: a tensor has the impossible shape [${shape.slice(0, 16).join(", ")}]`);
  }
  const element = type ?? storage.type;
  if (!(element in TYPES)) throw new UserError(`${label}: a tensor has the unknown element type ${element}`);
  return new TorchTensor(storage, element, offset, [...shape], [...strides]);
}

/** PyTorch's name of a storage's type from its class: `torch.FloatStorage` → `Float`. */
export function storageType(label: string, value: Value): string {
  const name = value instanceof Global ? /^(\w+)Storage$/.exec(value.name)?.[1] : undefined;
  if (name === undefined || !(name in TYPES || name === "Untyped")) {
    throw new UserError(`${label}: a storage of unknown kind${value instanceof Global ? ` (${value.path})` : ""}`);
  }
  return name;
}

/** How tensors and storages in a pickle are understood. Storages are collected by their key. */
export function torchHooks(label: string, storages: Map<string, Storage>): PickleHooks {
  return {
    reduce({ path }, args) {
      switch (path) {
        case "torch._utils._rebuild_tensor":
        case "torch._utils._rebuild_tensor_v2":
          return tensorOf(label, args[0], args[1], args[2], args[3]);
        case "torch._utils._rebuild_tensor_v3": {
          const dtype = args[6] instanceof Global ? byDtype.get(args[6].name) ?? args[6].name : undefined;
          return tensorOf(label, args[0], args[1], args[2], args[3], dtype);
        }
        case "torch._utils._rebuild_parameter":
        case "torch._utils._rebuild_parameter_with_state":
          return args[0] instanceof TorchTensor ? args[0] : undefined;
        default:
          return undefined;
      }
    },
    persistent(id) {
      const [tag, kind, key, , elements, view] = Array.isArray(id) ? id : [];
      if (tag === "module") return kind ?? null;
      if (tag !== "storage" || typeof elements !== "number" || !Number.isSafeInteger(elements) || elements < 0) {
        throw new UserError(`${label}: a reference to something that is no storage`);
      }
      if (view !== undefined && view !== null) {
        throw new UserError(
          `${label}: storage "${key}" is a view of another, as PyTorch before 0.4 wrote it`,
          "load and save it again with a newer PyTorch",
        );
      }
      const name = String(key), type = storageType(label, kind), known = storages.get(name);
      if (known && known.type === type && known.elements === elements) return known;
      if (known) throw new UserError(`${label}: storage "${name}" is described in two ways`);
      const storage = new Storage(name, type, elements);
      storages.set(name, storage);
      return storage;
    },
  };
}
