/**
 * Values of a pickle and the stack machine that builds them without executing anything: a class or function is only ever a
 * name, and what would be a call becomes an `Opaque` record of that name and its arguments. A few calls that make plain
 * data are understood as such data.
 */

import { UserError } from "../../errors.ts";
import type { ByteReader } from "./bytes.ts";

/** Name of a Python class or function; never looked up, never called. */
export class Global {
  constructor(readonly module: string, readonly name: string) {}

  /** `module.name` */
  get path(): string {
    return `${this.module}.${this.name}`;
  }
}

/** An object of a class that is not known here: its name, what it would be made from, and its attributes. */
export class Opaque {
  state: Value = null;
  /** Entries put into it, where the class is a kind of dict. */
  readonly entries = new Map<Value, Value>();
  /** Items put into it, where the class is a kind of list. */
  readonly items: Value[] = [];

  constructor(readonly global: Global, readonly args: readonly Value[]) {}
}

/** A value that the caller's `reduce` or `persistent` made (a tensor, a storage). */
export abstract class Foreign {
  abstract readonly kind: string;
}

/** What a pickle can hold. Lists and tuples are arrays, dicts are maps, integers beyond 2⁵³ are bigints. */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Value[]
  | Map<Value, Value>
  | Set<Value>
  | Global
  | Opaque
  | Foreign;

/** How the caller understands what the pickle format leaves to it. */
export interface PickleHooks {
  /** A call: a value where the function is understood, undefined to keep it opaque. */
  reduce?(global: Global, args: readonly Value[]): Value | undefined;
  /** An object kept outside of the pickle. */
  persistent?(id: Value): Value;
}

/** Modules that a checkpoint has no honest use for. */
const FORBIDDEN =
  /^(os|nt|posix|sys|subprocess|socket|shutil|runpy|importlib|ctypes|pty|code|commands|webbrowser|marshal|asyncio|multiprocessing|urllib|http|requests|pickle|_pickle|timeit|pdb|bdb|types|tempfile|signal|threading)(\.|$)/;
const FORBIDDEN_BUILTINS =
  /^(eval|exec|execfile|compile|open|file|input|getattr|setattr|delattr|__import__|globals|locals|vars|breakpoint|apply|map|filter)$/;

/** Longest integer that is read, in bytes; torch's magic number has ten. */
const LONGEST_INTEGER = 1024;

export const MARK = Symbol("mark");
export type Cell = Value | typeof MARK;

/** State of one run of the stack machine. */
export class Machine {
  readonly stack: Cell[] = [];
  readonly memo = new Map<number, Value>();

  constructor(readonly reader: ByteReader, readonly hooks: PickleHooks) {}

  refuse(what: string): never {
    const { source, what: part, position } = this.reader;
    throw new UserError(
      `${source.label}: ${part} is damaged: ${what} at byte ${position}`,
      "copy or download the file again",
    );
  }

  push(value: Value): void {
    this.stack.push(value);
  }

  pop(): Value {
    const value = this.stack.pop();
    if (value === undefined || value === MARK) return this.refuse("a value is missing");
    return value;
  }

  top(): Value {
    const value = this.stack.at(-1);
    if (value === undefined || value === MARK) return this.refuse("a value is missing");
    return value;
  }

  /** What was pushed since the last mark, which goes too. */
  popMark(): Value[] {
    const at = this.stack.lastIndexOf(MARK);
    if (at < 0) return this.refuse("a mark is missing");
    const values = this.stack.splice(at) as Value[];
    values.shift();
    return values;
  }

  text(length: number): string {
    return new TextDecoder().decode(this.reader.take(length));
  }

  bytes(length: number): Uint8Array {
    return this.reader.take(length).slice();
  }

  u8 = () => this.reader.byte();
  u16 = () => this.reader.view(2).getUint16(0, true);
  u32 = () => this.reader.view(4).getUint32(0, true);
  i32 = () => this.reader.view(4).getInt32(0, true);
  u64 = () => Number(this.reader.view(8).getBigUint64(0, true));

  put(index: number): void {
    this.memo.set(index, this.top());
  }

  get(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) this.refuse(`nothing is kept under ${index}`);
    this.push(value as Value);
  }

  /** Little-endian two's complement. */
  integer(length: number): void {
    if (length > LONGEST_INTEGER) this.refuse(`an integer of ${length} bytes`);
    const bytes = this.reader.take(length);
    let hex = "";
    for (let i = length - 1; i >= 0; i--) hex += bytes[i].toString(16).padStart(2, "0");
    this.push(plain(length ? BigInt.asIntN(8 * length, BigInt(`0x${hex}`)) : 0n));
  }

  decimal(line: string): void {
    const digits = line.replace(/L$/, "");
    if (!/^[+-]?\d{1,1000}$/.test(digits)) this.refuse("a number is not one");
    this.push(plain(BigInt(digits.replace("+", ""))));
  }

  global(module: string, name: string): void {
    const builtin = /^(__builtin__|builtins)$/.test(module);
    if (FORBIDDEN.test(module) || (builtin && FORBIDDEN_BUILTINS.test(name))) {
      throw new UserError(
        `${this.reader.source.label}: ${this.reader.what} asks for ${module}.${name}, which no checkpoint needs`,
        "nothing was run; do not load this file with Python, and get it from its publisher again",
      );
    }
    this.push(new Global(module, name));
  }

  /** A call or the making of an object: by the hooks, as plain data, or opaque. */
  call(callee: Value, args: Value): void {
    if (!Array.isArray(args)) this.refuse("a call without a list of arguments");
    if (!(callee instanceof Global)) return this.push(new Opaque(new Global("", "an unnamed function"), [callee]));
    this.push(this.hooks.reduce?.(callee, args) ?? dataCall(callee, args) ?? new Opaque(callee, args));
  }

  /** An object outside of the pickle. */
  persistent(id: Value): void {
    if (!this.hooks.persistent) this.refuse("a reference to something outside of it");
    this.push(this.hooks.persistent!(id));
  }

  setItems(target: Value, flat: readonly Value[]): void {
    if (flat.length % 2) this.refuse("a key without a value");
    const map = target instanceof Opaque ? target.entries : target;
    if (!(map instanceof Map)) return this.refuse("entries for what is no dict");
    for (let i = 0; i < flat.length; i += 2) map.set(flat[i], flat[i + 1]);
  }

  append(target: Value, items: readonly Value[]): void {
    const list = target instanceof Opaque ? target.items : target;
    if (!Array.isArray(list) && !(list instanceof Set)) return this.refuse("items for what is no list");
    for (const item of items) list instanceof Set ? list.add(item) : list.push(item);
  }

  build(): void {
    const state = this.pop(), target = this.top();
    if (target instanceof Opaque) target.state = state;
    // Attributes of plain data (an OrderedDict's _metadata) say nothing that is needed.
  }
}

/** A number where it is exact, else a bigint. */
function plain(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Calls that only make plain data. */
function dataCall({ path }: Global, args: readonly Value[]): Value | undefined {
  switch (path) {
    case "collections.OrderedDict":
    case "builtins.dict":
    case "__builtin__.dict": {
      const [items] = args;
      if (items instanceof Map) return new Map(items);
      const map = new Map<Value, Value>();
      if (Array.isArray(items)) { for (const item of items) if (Array.isArray(item)) map.set(item[0], item[1]); }
      return map;
    }
    case "collections.defaultdict":
      return new Map();
    case "builtins.set":
    case "__builtin__.set":
    case "builtins.frozenset":
    case "__builtin__.frozenset":
      return new Set(Array.isArray(args[0]) ? args[0] : []);
    case "torch.Size":
    case "builtins.tuple":
    case "builtins.list":
      return Array.isArray(args[0]) ? [...args[0]] : [];
    case "_codecs.encode":
      if (typeof args[0] !== "string") return undefined;
      return Uint8Array.from(args[0], (letter) => letter.charCodeAt(0));
    default:
      return undefined;
  }
}
