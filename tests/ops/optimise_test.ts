/** Adam, AdamW, assignment, moving averages, clipping and the finiteness check, over several steps against references. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { compile } from "../../src/graph/compile.ts";
import {
  adam,
  adamHyper,
  adamW,
  assign,
  clipByGlobalNorm,
  ema,
  globalNorm,
  isFinite,
  nonFinite,
} from "../../src/graph/ops/optimise.ts";
import { affine } from "../../src/graph/ops/pointwise.ts";
import { constant, input, readVariables, Variable } from "../../src/graph/variable.ts";
import { adamInit, adamStep, adamWStep } from "../reference/optimise.ts";
import { assertClose, map, normals } from "../support/arrays.ts";
import { gpu } from "../support/ops.ts";

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

for (const [name, op, reference] of [["adam", adam, adamStep], ["adamW", adamW, adamWStep]] as const) {
  for (const shape of [[1], [7, 13], [64, 320]]) {
    const settings = { learningRate: 3e-3, weightDecay: 0.05, betas: [0.85, 0.999] as const, eps: 1e-7 };
    test(`${name} [${shape}], 5 steps`, async () => {
      const start = normals(shape, "start");
      using parameter = new Variable("p", shape, Float32Array.from(start.data));
      using m = Variable.zeros("m", shape);
      using v = Variable.zeros("v", shape);
      const gradient = input("gradient", shape), hyper = input("hyper", [8]);
      using program = compile(gpu, {}, [op({ parameter, gradient, m, v, hyper })]);
      let state = adamInit(start);
      for (let t = 1; t <= 5; t++) {
        // Gradients of very different sizes: Adam's steps must not depend on their scale.
        const g = map(normals(shape, "g", t), (value) => Math.fround(value * 10 ** (-t)));
        program.step({ gradient: Float32Array.from(g.data), hyper: adamHyper(t, settings) });
        state = reference(state, g, { ...settings, lr: settings.learningRate });
      }
      const [p, first, second] = await readVariables([parameter, m, v]);
      // Compared as moves, which are a thousand times smaller than the parameters.
      const moved = { shape, data: p.map((value, i) => (value - start.data[i]) / settings.learningRate) };
      assertClose(
        moved,
        map(state.parameter, (value, i) => (value - start.data[i]) / settings.learningRate),
        1e-4,
        name,
      );
      assertClose({ shape, data: first }, state.m, 1e-6, "m");
      assertClose({ shape, data: second.map((value) => value * 1e3) }, map(state.v, (x) => x * 1e3), 1e-5, "v");
    });
  }
}

test("adamHyper counts steps from 1", () => {
  const hyper = adamHyper(2, { learningRate: 0.1 });
  assertClose({ shape: [8], data: hyper }, {
    shape: [8],
    data: [0.1, 0.9, 0.999, 1e-8, 0, 0.19, 0.001999, 0.001],
  }, 1e-7);
  assert.throws(() => adamHyper(0, { learningRate: 0.1 }), RangeError);
});

test("updates refuse shapes that differ, variables given twice and values that are the variable itself", () => {
  const a = Variable.zeros("a", [2, 3]), b = Variable.zeros("b", [2, 3]), c = Variable.zeros("c", [3]);
  const gradient = input("g", [2, 3]), hyper = input("hyper", [8]);
  assert.throws(() => adam({ parameter: a, gradient, m: b, v: c, hyper }), /shapes differ/);
  assert.throws(() => adam({ parameter: a, gradient, m: b, v: b, hyper }), /variables/);
  assert.throws(() => adam({ parameter: a, gradient: a.tensor, m: b, v: Variable.zeros("d", [2, 3]), hyper }), /reads/);
  assert.throws(() => assign(a, input("x", [3, 2])), /shapes differ/);
  assert.throws(() => assign(a, a.tensor), /reads the variable/);
});

test("assign and ema change their variables, in the order they were built", async () => {
  const values = normals([3, 5], "value"), old = normals([3, 5], "old");
  using copy = Variable.zeros("copy", [3, 5]);
  using average = new Variable("average", [3, 5], Float32Array.from(old.data));
  const x = input("x", [3, 5]);
  const doubled = affine(x, 2);
  const effects = [assign(copy, doubled), ema(average, copy.tensor, input("decay", [1]))];
  using program = compile(gpu, { doubled }, effects);
  let expected = old;
  for (const decay of [0.9, 0.25]) {
    await program.run({ x: Float32Array.from(values.data), decay: Float32Array.of(decay) });
    expected = map(expected, (value, i) => decay * value + (1 - decay) * 2 * values.data[i]);
  }
  const [a, b] = await readVariables([copy, average]);
  assertClose({ shape: [3, 5], data: a }, map(values, (value) => 2 * value), 1e-7, "copy");
  assertClose({ shape: [3, 5], data: b }, expected, 1e-6, "average");
});

test("assign reaches the last of 16,800,003 numbers: more than 65,535 workgroups", async () => {
  const size = 16_800_003, values = new Float32Array(size);
  for (let i = 0; i < size; i++) values[i] = i % 1021;
  using target = Variable.zeros("target", [size]);
  using program = compile(gpu, {}, [assign(target, constant(values))]);
  program.step();
  assert.ok(Buffer.from((await target.read()).buffer).equals(Buffer.from(values.buffer)));
});

test("globalNorm and clipping over tensors of several sizes", async () => {
  const parts = [[1], [7, 3], [20000]].map((shape, i) => normals(shape, `part ${i}`));
  const tensors = parts.map((p) => constant(Float32Array.from(p.data), p.shape));
  const norm = Math.sqrt(parts.reduce((sum, p) => p.data.reduce((s, value) => s + value * value, sum), 0));
  for (const limit of [0.5, 1e6]) {
    const clipped = Object.fromEntries(clipByGlobalNorm(tensors, limit).map((t, i) => [`c${i}`, t]));
    using program = compile(gpu, { norm: globalNorm(tensors), ...clipped });
    const result = await program.run() as Record<string, Float32Array>;
    assertClose({ shape: [1], data: result.norm }, { shape: [1], data: [norm] }, 1e-6, "norm");
    parts.forEach((p, i) => {
      const scaled = map(p, (value) => value * Math.min(1, limit / norm));
      assertClose({ shape: p.shape, data: result[`c${i}`].map((x) => x / limit) }, map(scaled, (x) => x / limit), 1e-6);
    });
  }
});

test("non-finite numbers are found wherever they are", async () => {
  const x = input("x", [5003]), y = input("y", [3]);
  using program = compile(gpu, { count: nonFinite([x, y]), x: isFinite(x), y: isFinite(y) });
  const cases: [[number, number][], [number, number][], number[]][] = [
    [[], [], [0, 1, 1]],
    [[[5002, NaN]], [], [1, 0, 1]],
    [[[0, Infinity], [4096, -Infinity], [17, NaN]], [[2, NaN]], [4, 0, 0]],
    [[[3, 3.4e38], [4, 1e-40]], [[1, -Infinity]], [1, 1, 0]],
  ];
  for (const [inX, inY, expected] of cases) {
    const feed = { x: Float32Array.from(normals([5003], "x").data), y: new Float32Array(3) };
    for (const [i, value] of inX) feed.x[i] = value;
    for (const [i, value] of inY) feed.y[i] = value;
    const result = await program.run(feed);
    assert.deepEqual([result.count[0], result.x[0], result.y[0]], expected);
  }
});
