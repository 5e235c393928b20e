/** GEMMs in f16 arithmetic against the float64 references: forward, back to the input, and how a plan comes to take one. */
import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { conv2d, type Conv2dOptions, linear } from "../../src/graph/ops/gemm.ts";
import { gemmVariants, variantName, workgroupBytes } from "../../src/graph/ops/gemm_variants.ts";
import { add, silu } from "../../src/graph/ops/pointwise.ts";
import { f16Key, plan, type Tuning } from "../../src/graph/plan.ts";
import { type ClassFound, OWN_CHOICE, tunableClasses, tuneClass } from "../../src/graph/tuner.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, input, Variable } from "../../src/graph/variable.ts";
import { conv2dBackward, conv2dForward, linearBackward, linearForward } from "../reference/gemm.ts";
import { addForward, siluForward } from "../reference/pointwise.ts";
import { type NDArray, normals } from "../support/arrays.ts";
import { AlwaysInF16, inF16 } from "../support/f16.ts";
import { gpu } from "../support/ops.ts";

/** Largest relative error in the L2 norm: a factor keeps 11 bits, a conversion may round toward zero (2⁻¹⁰). */
const LIMIT = 2e-3;

const scaled = (array: NDArray, by: number): NDArray => ({ ...array, data: array.data.map((v) => v * by) });

interface Case {
  readonly name: string;
  readonly x: NDArray;
  /** Kept as f16. */
  readonly w: NDArray;
  readonly dy: number;
  readonly options?: Conv2dOptions;
}

/** Tiles, blocks, quads of k and images end in the middle; readers, strides, sums of one and of several taps. */
const cases: Case[] = ([
  [[1, 4], [4, 4]],
  [[17, 8], [8, 64]],
  [[9, 20], [20, 140]],
  [[130, 100], [100, 272]],
  [[70, 1280], [1280, 64]],
  [[2, 8, 8, 8], [3, 3, 8, 12], { padding: [1, 1, 1, 1] }],
  [[3, 3, 5, 36], [3, 3, 36, 68], { padding: [1, 1, 1, 1] }],
  [[2, 9, 6, 12], [3, 3, 12, 8], { stride: [2, 2], padding: [0, 1, 0, 1] }],
  [[2, 6, 6, 256], [3, 3, 256, 24], { padding: [1, 1, 1, 1] }],
] as [number[], number[], Conv2dOptions?][]).map(([x, w, options]) => ({
  name: `[${x}] · [${w}] ${JSON.stringify(options ?? {})}`,
  x: normals(x, "x"),
  w: scaled(normals(w, "w"), 0.05),
  dy: 1,
  options,
}));
const [, , , plain] = cases, conv = cases[6];
for (const one of [plain, conv]) {
  cases.push(
    { ...one, name: `${one.name}, activations and gradients beyond f16`, x: scaled(one.x, 1e6), dy: 1e9 },
    { ...one, name: `${one.name}, activations and gradients below f16`, x: scaled(one.x, 1e-9), dy: 1e-12 },
    { ...one, name: `${one.name}, the largest weights`, w: scaled(one.w, 60000 / 0.05 / 8) },
    { ...one, name: `${one.name}, the smallest weights`, w: scaled(one.w, 2e-4) },
    { ...one, name: `${one.name}, nothing but zeros`, x: scaled(one.x, 0) },
  );
}

const stored = (w: NDArray): NDArray => ({ ...w, data: Float64Array.from(new Float16Array(w.data)) });
const values = (x: NDArray): NDArray => ({ ...x, data: Float64Array.from(Float32Array.from(x.data)) });

function relative(actual: Float32Array, expected: Float64Array | readonly number[]): number {
  let error = 0, total = 0;
  expected.forEach((v, i) => {
    error += (actual[i] - v) ** 2;
    total += v ** 2;
  });
  return total === 0 ? Math.sqrt(error) : Math.sqrt(error / total);
}

const tuning = (over: Partial<Tuning>): Tuning => ({
  choices: new Map(),
  workgroupBytes: gpu.device.limits.maxComputeWorkgroupStorageSize,
  subgroups: false,
  ...over,
});

/** Runs with a variant in f16 and says how far the results are from float64. */
async function errors(one: Case, variant: string, card: boolean): Promise<number[]> {
  using w = new Variable("w", one.w.shape, Float32Array.from(one.w.data), "f16");
  using x = new Variable("x", one.x.shape, Float32Array.from(one.x.data));
  const build = (x: Tensor) => one.w.shape.length === 2 ? linear(x, w.tensor) : conv2d(x, w.tensor, one.options);
  const y = build(x.tensor), dy = values(scaled(normals(y.shape, "dy"), one.dy));
  const [dx] = gradient(y, [x.tensor], constant(Float32Array.from(dy.data), y.shape));
  return await inF16(variant, async () => {
    const { launches } = plan([y, dx], [], tuning({ choices: gpu.choices, f16: true, card }));
    assert.deepEqual(launches.map(({ defines }) => defines.F16), [true, true], "both products are in f16");
    using program = compile(gpu, { y, dx });
    const results = await program.run();
    const full = { stride: [1, 1] as const, padding: [0, 0, 0, 0] as const, ...one.options };
    const inputs = [values(one.x), stored(one.w)] as const;
    const expected = one.w.shape.length === 2
      ? [linearForward(...inputs), linearBackward(dy, ...inputs).x]
      : [conv2dForward(...inputs, undefined, full), conv2dBackward(dy, ...inputs, full).x];
    return [relative(results.y, expected[0].data), relative(results.dx, expected[1].data)];
  }, card);
}

const f16Variants = gemmVariants.filter(({ f16 }) => f16);

const memory = gpu.device.limits.maxComputeWorkgroupStorageSize;

/** Variants, as on a card with its sums in up to four slices or without. */
const ways = f16Variants.flatMap((variant) => [false, true].map((card) => ({ variant, card })));

for (const { variant, card } of ways.filter(({ variant, card }) => !card || workgroupBytes(variant, 4) <= memory)) {
  const name = variantName(variant);
  Deno.test({
    name: `GEMM ${name} on ${cases.length} shapes and ranges${card ? ", as on a card" : ""}`,
    ignore: !gpu.hasF16 || workgroupBytes(variant) > memory,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      let worst = 0;
      for (const one of cases) {
        for (const error of await errors(one, name, card)) {
          assert.ok(error <= LIMIT, `${one.name}, ${name}: off by ${error}`);
          worst = Math.max(worst, error);
        }
      }
      if (Deno.env.get("ANOMALYDIFFUSION_DEBUG")) console.log(`${name}: at most ${worst.toExponential(2)}`);
      assert.ok(worst > 1e-5, "f32 would be this near: it was not f16");
    },
  });
}

Deno.test({
  name: "what is not finite stays so in f16",
  ignore: !gpu.hasF16,
  sanitizeResources: false,
  async fn() {
    using w = new Variable("w", [8, 8], new Float32Array(64).fill(0.5), "f16");
    await inF16("8x4 shared f16", async () => {
      using program = compile(gpu, { y: linear(input("x", [3, 8]), w.tensor) });
      const x = new Float32Array(24).fill(1);
      x[9] = Infinity;
      x[18] = NaN;
      const { y } = await program.run({ x });
      assert.ok(y.subarray(8).every((v) => !Number.isFinite(v)), y.join());
    });
  },
});

Deno.test({
  name: "fused steps follow a product in f16 as another",
  ignore: !gpu.hasF16,
  sanitizeResources: false,
  async fn() {
    const [x, w, b, r] = [[20, 24], [24, 40], [40], [20, 40]].map((shape, i) => normals(shape, `fused ${i}`));
    using weights = new Variable("w", w.shape, Float32Array.from(w.data), "f16");
    const of = ({ data, shape }: NDArray) => constant(Float32Array.from(data), shape);
    const y = silu(add(add(linear(of(x), weights.tensor), of(b)), of(r)));
    await inF16("8x8 shared f16", async () => {
      using program = compile(gpu, { y });
      assert.equal(program.report.launches, 1);
      const expected = siluForward(addForward(addForward(linearForward(x, stored(w)), b), r));
      const error = relative((await program.run()).y, expected.data);
      assert.ok(error > 1e-6 && error < LIMIT, `off by ${error}`);
    });
  },
});

Deno.test("a plan takes a variant in f16 where the table has one, the user allows it, and the weights are frozen f16", () => {
  using frozen = new Variable("w", [64, 72], new Float32Array(64 * 72), "f16");
  using trained = new Variable("v", [72, 72], new Float32Array(72 * 72));
  const x = input("x", [100, 64]), y = linear(linear(x, frozen.tensor), trained.tensor);
  const key = plan([y]).launches[0].alternatives!.tunable!.key;
  const f16 = (over: Partial<Tuning>, outputs = [y]) =>
    plan(outputs, [], tuning({ workgroupBytes: 2 ** 15, ...over })).launches.map(({ defines }) => defines.F16 ?? false);
  const choices = new Map([[f16Key(key), "8x8 shared f16"]]);
  assert.deepEqual(f16({ choices, f16: true }), [true, false]);
  assert.deepEqual(f16({ choices }), [false, false], "not allowed");
  assert.deepEqual(f16({ choices: new Map([[key, "8x8 shared f16"]]) }), [false, false], "named in a table for f32");
  assert.deepEqual(f16({ choices, f16: true, workgroupBytes: 2 ** 13 }), [false, false], "too little workgroup memory");
  assert.deepEqual(f16({ f16: true }), [false, false], "nothing measured");
  // What was measured for f32 holds where nothing was for f16.
  const [launch] = plan([y], [], tuning({ choices: new Map([[key, "4x4"]]), f16: true })).launches;
  assert.deepEqual([launch.defines.TILE, launch.defines.QUADS], [4, 1]);
  // Gradients: frozen weights' input yes; the trained layer, and what its weights get, no.
  const grads = gradient(y, [x, trained.tensor], constant(new Float32Array(7200), [100, 72]));
  const all = plan(grads, [], tuning({ choices: new AlwaysInF16("8x8 shared f16"), f16: true })).launches;
  assert.ok(all.some(({ defines }) => defines.F16 && defines.TRANSPOSED), "the input's gradient");
  for (const { defines, kernel } of all) {
    if (defines.F16) assert.ok(kernel.name === "gemm" && defines.HALF && defines.VECTOR && defines.SHARED);
  }
});

Deno.test({
  name: "the tuner measures variants in f16 where they are allowed, under a key of their own",
  ignore: !gpu.hasF16,
  async fn() {
    using w = new Variable("w", [24, 40], new Float32Array(960), "f16");
    const [one] = tunableClasses([plan([silu(linear(input("x", [70, 24]), w.tensor))])]);
    const halves = ({ variants }: ClassFound) => variants.filter(({ name }) => name.endsWith("f16"));
    const without = await tuneClass(gpu, one);
    assert.equal(without.key, one.key);
    assert.equal(halves(without).length, 0);
    gpu.precision = "f16";
    try {
      const found = await tuneClass(gpu, one);
      assert.equal(found.key, f16Key(one.key));
      assert.deepEqual(halves(found).map(({ result }) => result), f16Variants.map(() => "half"));
      assert.ok(found.choice === OWN_CHOICE || found.variants.some(({ name }) => name === found.choice));
      const f32 = tunableClasses([plan([linear(input("x", [8, 8]), input("w", [8, 8]))])])[0];
      assert.equal((await tuneClass(gpu, f32)).key, f32.key, "no variant in f16, no key of its own");
    } finally {
      gpu.precision = "f32";
    }
  },
});

Deno.test("f16 is refused, in one line, by a device that does not compute in it", async () => {
  const { requestAdapter } = navigator.gpu;
  const adapter = (await navigator.gpu.requestAdapter())!;
  const lesser = new Proxy(adapter, {
    get: (target, name) => {
      if (name === "features") return new Set([...target.features].filter((feature) => feature !== "shader-f16"));
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  navigator.gpu.requestAdapter = () => Promise.resolve(lesser);
  try {
    await assert.rejects(
      Gpu.open({ precision: "f16" }),
      /does not compute in f16 \(WebGPU's shader-f16\)/,
    );
    using plainly = await Gpu.open();
    assert.equal(plainly.hasF16, false);
    assert.equal(plainly.precision, "f32");
  } finally {
    navigator.gpu.requestAdapter = requestAdapter;
  }
});
