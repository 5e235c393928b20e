/**
 * A reader of Python pickles, protocols 0 to 5 (format: CPython's `Lib/pickletools.py`), that executes nothing. What the
 * opcodes do is here; how values are built, in `pickle_machine.ts`.
 */

import type { ByteReader } from "./bytes.ts";
import { Global, Machine, MARK, type PickleHooks, type Value } from "./pickle_machine.ts";

/** Python's escapes in quoted strings of protocol 0. */
function unquote(line: string): string {
  const escapes: Record<string, string> = { n: "\n", r: "\r", t: "\t" };
  return line.slice(1, -1).replace(
    /\\(x[0-9a-fA-F]{2}|.)/gs,
    (_, found: string) =>
      found.length === 3 ? String.fromCharCode(parseInt(found.slice(1), 16)) : escapes[found] ?? found,
  );
}

/** Python's raw-unicode-escape of protocol 0. */
function unescape(line: string): string {
  return line.replace(
    /\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})/g,
    (_, short, long) => String.fromCodePoint(Math.min(parseInt(short ?? long, 16), 0x10ffff)),
  );
}

/** `[opcode, what it does]`; letters where the format has them. */
const rows: readonly (readonly [opcode: string | number, run: (m: Machine) => void])[] = [
  [0x80, (m) => m.u8()], // protocol
  [0x95, (m) => m.u64()], // frame
  ["(", (m) => m.stack.push(MARK)],
  ["0", (m) => m.stack.pop() === undefined && m.refuse("a value is missing")],
  ["1", (m) => m.popMark()],
  ["2", (m) => m.push(m.top())],
  // Numbers.
  ["F", (m) => m.push(Number(m.reader.line()))],
  ["G", (m) => m.push(m.reader.view(8).getFloat64(0))],
  ["I", (m) => {
    const line = m.reader.line();
    if (line === "00" || line === "01") m.push(line === "01");
    else m.decimal(line);
  }],
  ["J", (m) => m.push(m.i32())],
  ["K", (m) => m.push(m.u8())],
  ["M", (m) => m.push(m.u16())],
  ["L", (m) => m.decimal(m.reader.line())],
  [0x8a, (m) => m.integer(m.u8())],
  [0x8b, (m) => m.integer(m.u32())],
  ["N", (m) => m.push(null)],
  [0x88, (m) => m.push(true)],
  [0x89, (m) => m.push(false)],
  // Texts and bytes.
  ["S", (m) => m.push(unquote(m.reader.line()))],
  ["V", (m) => m.push(unescape(m.reader.line("latin1")))],
  ["T", (m) => m.push(m.text(m.u32()))],
  ["U", (m) => m.push(m.text(m.u8()))],
  ["X", (m) => m.push(m.text(m.u32()))],
  [0x8c, (m) => m.push(m.text(m.u8()))],
  [0x8d, (m) => m.push(m.text(m.u64()))],
  ["B", (m) => m.push(m.bytes(m.u32()))],
  ["C", (m) => m.push(m.bytes(m.u8()))],
  [0x8e, (m) => m.push(m.bytes(m.u64()))],
  [0x96, (m) => m.push(m.bytes(m.u64()))],
  // Containers.
  ["]", (m) => m.push([])],
  [")", (m) => m.push([])],
  ["}", (m) => m.push(new Map())],
  [0x8f, (m) => m.push(new Set())],
  ["l", (m) => m.push(m.popMark())],
  ["t", (m) => m.push(m.popMark())],
  ["d", (m) => {
    const flat = m.popMark(), map = new Map<Value, Value>();
    m.setItems(map, flat);
    m.push(map);
  }],
  [0x91, (m) => m.push(new Set(m.popMark()))],
  [0x85, (m) => m.push([m.pop()])],
  [0x86, (m) => m.push([m.pop(), m.pop()].reverse())],
  [0x87, (m) => m.push([m.pop(), m.pop(), m.pop()].reverse())],
  ["a", (m) => {
    const item = m.pop();
    m.append(m.top(), [item]);
  }],
  ["e", (m) => {
    const items = m.popMark();
    m.append(m.top(), items);
  }],
  [0x90, (m) => {
    const items = m.popMark();
    m.append(m.top(), items);
  }],
  ["s", (m) => {
    const value = m.pop(), key = m.pop();
    m.setItems(m.top(), [key, value]);
  }],
  ["u", (m) => {
    const flat = m.popMark();
    m.setItems(m.top(), flat);
  }],
  // What was kept to be used again.
  ["p", (m) => m.put(Number(m.reader.line()))],
  ["q", (m) => m.put(m.u8())],
  ["r", (m) => m.put(m.u32())],
  [0x94, (m) => m.put(m.memo.size)],
  ["g", (m) => m.get(Number(m.reader.line()))],
  ["h", (m) => m.get(m.u8())],
  ["j", (m) => m.get(m.u32())],
  // Names, and what Python would call.
  ["c", (m) => m.global(m.reader.line(), m.reader.line())],
  [0x93, (m) => {
    const name = m.pop(), module = m.pop();
    m.global(String(module), String(name));
  }],
  ["R", (m) => {
    const args = m.pop();
    m.call(m.pop(), args);
  }],
  [0x81, (m) => {
    const args = m.pop();
    m.call(m.pop(), args);
  }],
  [0x92, (m) => {
    m.pop(); // keyword arguments
    const args = m.pop();
    m.call(m.pop(), args);
  }],
  ["i", (m) => {
    m.global(m.reader.line(), m.reader.line());
    const callee = m.pop();
    m.call(callee, m.popMark());
  }],
  ["o", (m) => {
    const [callee, ...args] = m.popMark();
    m.call(callee ?? null, args);
  }],
  ["b", (m) => m.build()],
  ["P", (m) => m.persistent(m.reader.line())],
  ["Q", (m) => m.persistent(m.pop())],
];

const operations = new Map(rows.map(([opcode, run]) => [
  typeof opcode === "string" ? opcode.charCodeAt(0) : opcode,
  run,
]));
const STOP = ".".charCodeAt(0);

/**
 * Reads one pickle; the reader stands behind it afterwards.
 * @param hooks how calls and objects outside of the pickle are understood; without them both stay opaque
 * @throws {UserError} where it is damaged or cut off, or names what no checkpoint needs (`os.system`)
 * @example
 * ```ts
 * import { ByteReader, ByteSource } from "./bytes.ts";
 * import { readPickle } from "./pickle.ts";
 * const bytes = new TextEncoder().encode("(dS'a'\nI7\ns.");
 * const value = readPickle(new ByteReader(ByteSource.of(bytes, "x.pkl"), "the pickle")) as Map<string, number>;
 * if (value.get("a") !== 7) throw new Error("not what was pickled");
 * ```
 */
export function readPickle(reader: ByteReader, hooks: PickleHooks = {}): Value {
  const machine = new Machine(reader, hooks);
  for (let opcode; (opcode = reader.byte()) !== STOP;) {
    const run = operations.get(opcode);
    if (!run) machine.refuse(`an unknown instruction (0x${opcode.toString(16)})`);
    run!(machine);
  }
  return machine.pop();
}

/** Every class and function name that a value holds, each once; walks shared and circular values once. */
export function opaqueNames(value: Value): string[] {
  const names = new Set<string>(), seen = new Set<unknown>(), open: unknown[] = [value];
  while (open.length) {
    const item = open.pop();
    if (typeof item !== "object" || item === null || item instanceof Uint8Array || seen.has(item)) continue;
    seen.add(item);
    if (item instanceof Global) names.add(item.path);
    else if (item instanceof Map) open.push(...item.keys(), ...item.values());
    else if (Array.isArray(item) || item instanceof Set) { for (const inner of item) open.push(inner); }
    else if ("global" in item) open.push(...Object.values(item));
  }
  return [...names].sort();
}
