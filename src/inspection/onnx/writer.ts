/**
 * Writes ONNX models: the messages of onnx.proto3 that a feed-forward network needs, in Protocol Buffers' wire format. Field
 * numbers are those of that file (ONNX 1.12, IR version 8).
 */

/** Parts of a message, in order; weights are never copied while it grows. */
type Bytes = readonly Uint8Array[];

/** Versions that the models state. */
export const IR_VERSION = 8, OPSET = 17;

/** A dimension: its length, or the name of one that is free. */
export type Dimension = number | string;

/** Value of a node's attribute: an integer, a float, a string, or a list of integers. */
export type Attribute = number | { readonly float: number } | string | readonly number[];

const encoder = new TextEncoder();

/** Base-128 number; negative ones as 64-bit two's complement. */
function varint(value: number): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  return Uint8Array.of(...bytes, Number(rest));
}

const lengthOf = (bytes: Bytes) => bytes.reduce((sum, part) => sum + part.length, 0);
const integer = (field: number, value: number): Bytes => [varint(field << 3), varint(value)];
const message = (field: number, content: Bytes): Bytes => [
  varint(field << 3 | 2),
  varint(lengthOf(content)),
  ...content,
];
const text = (field: number, content: string): Bytes => message(field, [encoder.encode(content)]);
const raw = (values: Float32Array | BigInt64Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** AttributeProto: name 1, f 2, i 3, s 4, ints 8, type 20 (1 float, 2 int, 3 string, 7 ints). */
function attribute(name: string, value: Attribute): Bytes {
  const head = text(1, name);
  if (typeof value === "number") return [...head, ...integer(3, value), ...integer(20, 2)];
  if (typeof value === "string") return [...head, ...text(4, value), ...integer(20, 3)];
  if ("float" in value) return [...head, varint(2 << 3 | 5), raw(Float32Array.of(value.float)), ...integer(20, 1)];
  return [...head, ...value.flatMap((item) => integer(8, item)), ...integer(20, 7)];
}

/** ValueInfoProto of a float32 tensor: name 1, type 2; dimensions by value (1) or by name (2). */
function valueInfo(name: string, shape: readonly Dimension[]): Bytes {
  const dimensions = shape.flatMap((n) => message(1, typeof n === "number" ? integer(1, n) : text(2, n)));
  return [...text(1, name), ...message(2, message(1, [...integer(1, 1), ...message(2, dimensions)]))];
}

/**
 * A model under construction. Values are known by their names.
 * @example
 * ```ts
 * import { OnnxWriter } from "./writer.ts";
 * const model = new OnnxWriter();
 * const x = model.input("x", ["batch", 3]);
 * model.output(model.node("Relu", [x], {}, "y"), ["batch", 3]);
 * if (model.build("example")[0] !== 8) throw new Error("the first field is the IR version");
 * ```
 */
export class OnnxWriter {
  readonly #nodes: Uint8Array[] = [];
  readonly #initializers: Uint8Array[] = [];
  readonly #inputs: Uint8Array[] = [];
  readonly #outputs: Uint8Array[] = [];
  readonly #known = new Set<string>();
  #count = 0;

  /** Declares a float32 input. */
  input(name: string, shape: readonly Dimension[]): string {
    this.#inputs.push(...message(11, valueInfo(name, shape)));
    return name;
  }

  /** Declares a value as a float32 output. */
  output(name: string, shape: readonly Dimension[]): void {
    this.#outputs.push(...message(12, valueInfo(name, shape)));
  }

  /** TensorProto: dims 1, data_type 2 (1 float32, 7 int64), name 8, raw_data 9. A name is written once. */
  #constant(name: string, type: 1 | 7, shape: readonly number[], values: Float32Array | BigInt64Array): string {
    if (this.#known.has(name)) return name;
    this.#known.add(name);
    const dims = shape.flatMap((n) => integer(1, n));
    this.#initializers.push(
      ...message(5, [...dims, ...integer(2, type), ...text(8, name), ...message(9, [raw(values)])]),
    );
    return name;
  }

  /** Adds float32 numbers: weights. */
  floats(name: string, shape: readonly number[], values: Float32Array): string {
    return this.#constant(name, 1, shape, values);
  }

  /** Adds int64 numbers: axes and shapes. */
  integers(name: string, values: readonly number[]): string {
    return this.#constant(name, 7, [values.length], BigInt64Array.from(values, BigInt));
  }

  /**
   * Adds a node. NodeProto: input 1, output 2, name 3, op_type 4, attribute 5.
   * @param inputs names; "" stands for an optional input that is left out
   * @param name of its output, and its own
   */
  node(
    type: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    name = `${type}_${this.#count++}`,
  ): string {
    const content = [
      ...inputs.flatMap((input) => text(1, input)),
      ...text(2, name),
      ...text(3, name),
      ...text(4, type),
      ...Object.entries(attributes).flatMap(([key, value]) => message(5, attribute(key, value))),
    ];
    this.#nodes.push(...message(1, content));
    return name;
  }

  /**
   * The model's bytes. ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8 (version 2), metadata_props 14
   * (key 1, value 2); GraphProto: node 1, name 2, initializer 5, input 11, output 12.
   * @param name of the graph
   * @param metadata free text, for whoever uses the model
   */
  build(name: string, metadata: Readonly<Record<string, string>> = {}): Uint8Array<ArrayBuffer> {
    const graph = [...this.#nodes, ...text(2, name), ...this.#initializers, ...this.#inputs, ...this.#outputs];
    const parts = [
      ...integer(1, IR_VERSION),
      ...text(2, "anomalydiffusion"),
      ...message(7, graph),
      ...message(8, integer(2, OPSET)),
      ...Object.entries(metadata).flatMap(([key, value]) => message(14, [...text(1, key), ...text(2, value)])),
    ];
    const out = new Uint8Array(lengthOf(parts));
    let at = 0;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}
