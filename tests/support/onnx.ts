/**
 * Builds small ONNX models and runs them by onnxruntime-web, an implementation that shares nothing with ours.
 * The writer covers the few messages of onnx.proto3 that a graph of float32 and int64 inputs needs; field numbers are
 * those of that file, wire types those of Protocol Buffers.
 */
import * as ort from "onnxruntime-web";
import { type NDArray, ndarray } from "./arrays.ts";

const encoder = new TextEncoder();

/** Protocol Buffers' base-128 number, for non-negative integers and for negative ones as 64-bit two's complement. */
function varint(value: number): number[] {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  return [...bytes, Number(rest)];
}

/** A field that holds an integer. */
const integer = (field: number, value: number): number[] => [...varint(field << 3), ...varint(value)];

/** A field that holds bytes, a string or another message. */
function block(field: number, content: string | ArrayLike<number>): number[] {
  const bytes = typeof content === "string" ? encoder.encode(content) : content;
  return [...varint(field << 3 | 2), ...varint(bytes.length), ...Array.from(bytes)];
}

/** A field that holds a float32. */
const float32 = (field: number, value: number): number[] => [
  ...varint(field << 3 | 5),
  ...new Uint8Array(Float32Array.of(value).buffer),
];

/** Marks an attribute as a float, since 1 and 1.0 are the same number here. */
export function float(value: number): { float: number } {
  return { float: value };
}

/** Value of a node's attribute: an integer, a marked float, a string, or a list of integers. */
export type Attribute = number | { float: number } | string | readonly number[];

/** AttributeProto: name 1, f 2, i 3, s 4, ints 8, type 20 (1 float, 2 int, 3 string, 7 ints). */
function attribute(name: string, value: Attribute): number[] {
  const head = block(1, name);
  if (typeof value === "number") return [...head, ...integer(3, value), ...integer(20, 2)];
  if (typeof value === "string") return [...head, ...block(4, value), ...integer(20, 3)];
  if ("float" in value) return [...head, ...float32(2, value.float), ...integer(20, 1)];
  return [...head, ...value.flatMap((item) => integer(8, item)), ...integer(20, 7)];
}

/** ValueInfoProto of a float32 (element type 1) or int64 (7) tensor; without a shape its rank is left open. */
function valueInfo(name: string, type: 1 | 7, shape?: readonly number[]): number[] {
  const dims = shape && block(2, shape.flatMap((n) => block(1, integer(1, n))));
  return [...block(1, name), ...block(2, block(1, [...integer(1, type), ...(dims ?? [])]))];
}

/** An ONNX graph under construction. Values are named by strings; "" stands for an optional input that is left out. */
export class OnnxGraph {
  readonly #nodes: number[][] = [];
  readonly #inputs: number[][] = [];
  readonly #feeds: Record<string, ort.Tensor> = {};
  #count = 0;

  /** Adds a float32 input with its value. */
  input(x: NDArray): string {
    const name = `input${this.#count++}`;
    this.#inputs.push(valueInfo(name, 1, x.shape));
    this.#feeds[name] = new ort.Tensor("float32", Float32Array.from(x.data), x.shape);
    return name;
  }

  /** Adds an int64 input with its value: sizes, axes, indices. */
  integers(values: ArrayLike<number>, shape: readonly number[] = [values.length]): string {
    const name = `input${this.#count++}`;
    this.#inputs.push(valueInfo(name, 7, shape));
    this.#feeds[name] = new ort.Tensor("int64", BigInt64Array.from(Array.from(values), BigInt), shape);
    return name;
  }

  /** Adds a node and returns the name of its (first) output. NodeProto: input 1, output 2, op_type 4, attribute 5. */
  node(type: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    const name = `value${this.#count++}`;
    this.#nodes.push([
      ...inputs.flatMap((input) => block(1, input)),
      ...block(2, name),
      ...block(4, type),
      ...Object.entries(attributes).flatMap(([key, value]) => block(5, attribute(key, value))),
    ]);
    return name;
  }

  /**
   * The model's bytes. ModelProto: ir_version 1, graph 7, opset_import 8; GraphProto: node 1, name 2, input 11,
   * output 12.
   * @param output name of the value to return
   * @param opset version of the operators; 18 adds antialiasing to Resize
   */
  build(output: string, opset = 18): Uint8Array {
    const graph = [
      ...this.#nodes.flatMap((node) => block(1, node)),
      ...block(2, "test"),
      ...this.#inputs.flatMap((info) => block(11, info)),
      ...block(12, valueInfo(output, 1)),
    ];
    return Uint8Array.from([...integer(1, 8), ...block(7, graph), ...block(8, integer(2, opset))]);
  }

  /** Runs the graph by onnxruntime-web's WebAssembly backend, on one thread, and returns the value named `output`. */
  async run(output: string): Promise<NDArray> {
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
    const session = await ort.InferenceSession.create(this.build(output), { executionProviders: ["wasm"] });
    try {
      const result = (await session.run(this.#feeds))[output];
      return ndarray(result.dims, result.data as Float32Array);
    } finally {
      await session.release();
    }
  }
}
