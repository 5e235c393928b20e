/** Pointwise functions and broadcasting arithmetic on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import * as ops from "../../src/graph/ops/pointwise.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, input } from "../../src/graph/variable.ts";
import * as reference from "../reference/pointwise.ts";
import {
  assertClose,
  integers,
  map,
  type NDArray,
  ndarray,
  normals,
  sizeOf,
  sumTo,
  uniforms,
} from "../support/arrays.ts";
import { gpu, type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];

type Forward = (x: NDArray) => NDArray;
type Backward = (dy: NDArray, x: NDArray) => NDArray;
const anywhere = (shape: number[]) => map(normals(shape, "x"), (value) => Math.fround(3 * value));
const positive = (shape: number[]) => uniforms(shape, "x", 0.1, 9);
const unary: [string, (x: Tensor) => Tensor, Forward, Backward, ((shape: number[]) => NDArray)?][] = [
  ["silu", ops.silu, reference.siluForward, reference.siluBackward],
  ["gelu", ops.gelu, reference.geluForward, reference.geluBackward],
  ["relu", ops.relu, reference.reluForward, reference.reluBackward],
  [
    "leakyRelu",
    (x) => ops.leakyRelu(x, 0.2),
    (x) => reference.leakyReluForward(x, 0.2),
    (dy, x) => reference.leakyReluBackward(dy, x, 0.2),
  ],
  ["sigmoid", ops.sigmoid, reference.sigmoidForward, reference.sigmoidBackward],
  ["tanh", ops.tanh, reference.tanhForward, reference.tanhBackward],
  ["exp", ops.exp, reference.expForward, reference.expBackward],
  ["log", ops.log, reference.logForward, reference.logBackward, positive],
  ["sqrt", ops.sqrt, reference.sqrtForward, reference.sqrtBackward, positive],
  ["rsqrt", ops.rsqrt, reference.rsqrtForward, reference.rsqrtBackward, positive],
  ["square", ops.square, reference.squareForward, reference.squareBackward],
  ["abs", ops.abs, reference.absForward, reference.absBackward],
  ["negate", ops.negate, reference.negateForward, reference.negateBackward],
  [
    "clamp",
    (x) => ops.clamp(x, -1, 2),
    (x) => reference.clampForward(x, -1, 2),
    (dy, x) => reference.clampBackward(dy, x, -1, 2),
  ],
  [
    "affine",
    (x) => ops.affine(x, -1.5, 0.25),
    (x) => map(x, (value) => -1.5 * value + 0.25),
    (dy) => map(dy, (d) => -1.5 * d),
  ],
];
for (const [name, build, forward, backward, values = anywhere] of unary) {
  for (const shape of [[1], [7, 19], [2, 8, 8, 4]]) {
    cases.push({
      name: `${name} [${shape}]`,
      inputs: [values(shape)],
      build,
      forward,
      backward: (dy, x) => [backward(dy, x)],
    });
  }
}

// Far from zero the functions must settle, not overflow.
const extremes = ndarray([10], [-200, -90, -30, -8, -1e-4, 1e-4, 8, 30, 90, 200]);
for (const [name, build, forward, backward] of unary.slice(0, 6)) {
  cases.push({
    name: `${name} far from zero`,
    inputs: [extremes],
    build,
    forward,
    backward: (dy, x) => [backward(dy, x)],
  });
}

type Pair = { a: NDArray; b: NDArray };
const binary: [
  string,
  (a: Tensor, b: Tensor) => Tensor,
  (a: NDArray, b: NDArray) => NDArray,
  (dy: NDArray, a: NDArray, b: NDArray) => Pair,
][] = [
  ["add", ops.add, reference.addForward, reference.addBackward],
  ["sub", ops.sub, reference.subForward, reference.subBackward],
  ["mul", ops.mul, reference.mulForward, reference.mulBackward],
  ["div", ops.div, reference.divForward, reference.divBackward],
  ["maximum", ops.maximum, reference.maximumForward, reference.maximumBackward],
  ["minimum", ops.minimum, reference.minimumForward, reference.minimumBackward],
];
const shapes: [number[], number[]][] = [
  [[1], [1]],
  [[3, 5, 7], [3, 5, 7]],
  [[2, 5, 3, 8], [8]], // a bias
  [[2, 5, 3, 8], [2, 1, 1, 8]], // one row per image
  [[2, 5, 3, 1], [2, 5, 3, 4]], // a mask
  [[3, 1, 7], [5, 1]], // both are stretched
  [[1], [4, 6]],
  [[2, 1, 3, 1], [1, 5, 1, 4]], // alternating axes
];
for (const [name, build, forward, backward] of binary) {
  for (const [a, b] of shapes) {
    // Divisors keep away from zero.
    const divisor = map(normals(b, "b"), (value) => Math.fround(value + (value < 0 ? -0.5 : 0.5)));
    cases.push({
      name: `${name} [${a}] and [${b}]`,
      inputs: [normals(a, "a"), name === "div" ? divisor : normals(b, "b")],
      build,
      forward,
      backward: (dy, a, b) => {
        const grads = backward(dy, a, b);
        return [grads.a, grads.b];
      },
    });
  }
}

// Whole numbers, of which many are equal: the gradient is shared there.
for (const [name, build, forward, backward] of binary.slice(-2)) {
  for (const [a, b] of shapes) {
    cases.push({
      name: `${name} of whole numbers [${a}] and [${b}]`,
      inputs: [integers(a, "a", -1, 2), integers(b, "b", -1, 2)],
      build,
      forward,
      backward: (dy, a, b) => {
        const grads = backward(dy, a, b);
        return [grads.a, grads.b];
      },
    });
  }
}

for (const [from, to] of [[[1], [3, 5]], [[2, 1, 1, 4], [2, 3, 5, 4]], [[7, 1], [2, 7, 3]]]) {
  cases.push({
    name: `broadcastTo [${from}] → [${to}]`,
    inputs: [normals(from, "x")],
    build: (x) => ops.broadcastTo(x, to),
    forward: (x) => reference.addForward(x, ndarray(to)),
    backward: (dy) => [sumTo(dy, from)],
  });
}

testOps(cases);

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

test("of equal numbers each gets half of the gradient of maximum and minimum, as in the reference", async () => {
  const values = ndarray([3], [2, -1, 0]), one = ndarray([3], 1);
  const same = constant(Float32Array.from(values.data)), other = constant(Float32Array.from(values.data));
  const references = { maximum: reference.maximumBackward, minimum: reference.minimumBackward };
  for (const name of ["maximum", "minimum"] as const) {
    const [a, b] = gradient(ops[name](same, other), [same, other]), expected = references[name](one, values, values);
    using program = compile(gpu, { a, b });
    const result = await program.run();
    assert.deepEqual([[...result.a], [...result.b]], [[...expected.a.data], [...expected.b.data]]);
    assert.deepEqual([...result.a], [0.5, 0.5, 0.5]);
  }
});

test("relu, clamp and abs at their kinks", async () => {
  const x = constant(Float32Array.of(0, -1, 1));
  const slopes = { relu: ops.relu(x), abs: ops.abs(x), clamp: ops.clamp(x, -1, 1), leaky: ops.leakyRelu(x, 0.5) };
  const grads = Object.fromEntries(Object.entries(slopes).map(([name, y]) => [name, gradient(y, [x])[0]]));
  using program = compile(gpu, grads);
  const result = await program.run() as Record<string, Float32Array>;
  const expected = { relu: [0, 0, 1], abs: [0, -1, 1], clamp: [1, 1, 1], leaky: [0.5, 0.5, 1] };
  for (const [name, values] of Object.entries(expected)) assert.deepEqual([...result[name]], values, name);
});

test("more than 65,535 workgroups: 16,800,003 flat and 4,300,000 broadcast elements", async () => {
  const size = 16_800_003, values = new Float32Array(size);
  for (let i = 0; i < size; i++) values[i] = i % 1021;
  const rows = 1_075_000, few = normals([4], "few"), bias = constant(Float32Array.from(few.data));
  const column = constant(values.subarray(0, rows), [rows, 1]);
  using program = compile(gpu, { flat: ops.affine(constant(values), 2), stretched: ops.mul(column, bias) });
  const { flat, stretched } = await program.run();
  assert.ok(Buffer.from(flat.buffer).equals(Buffer.from(values.map((value) => 2 * value).buffer)));
  for (const row of [0, 1020, 4097, 800_000, rows - 1]) {
    const expected = map(few, (value) => value * values[row]);
    assertClose({ shape: [4], data: stretched.subarray(4 * row, 4 * row + 4) }, expected, 1e-6, `row ${row}`);
  }
});

test("shapes that do not broadcast are named", () => {
  const a = input("a", [2, 3]), b = input("b", [2, 4]), labels = input("labels", [2, 3], "u32");
  assert.throws(() => ops.add(a, b), /add: shapes do not broadcast.*\[2, 3\].*\[2, 4\]/);
  assert.throws(() => ops.mul(a, labels), /needs f32/);
  assert.throws(() => ops.silu(labels), /silu/);
  assert.throws(() => ops.broadcastTo(a, [2, 4]), /does not fit \[2,4\]/);
  assert.throws(() => ops.broadcastTo(a, [3]), /does not fit/);
});

test("broadcastShape is NumPy's rule", () => {
  assert.deepEqual(ops.broadcastShape([2, 1, 4], [3, 1]), [2, 3, 4]);
  assert.deepEqual(ops.broadcastShape([], [5]), [5]);
  assert.equal(ops.broadcastShape([2], [3]), undefined);
  assert.equal(sizeOf(ops.broadcastShape([7, 1], [1, 5])!), 35);
});
