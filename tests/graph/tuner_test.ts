/** The tuner: which launches it measures, what it refuses, what it takes. */
import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/device.ts";
import { kernel } from "../../src/graph/op.ts";
import { add, silu } from "../../src/graph/ops/pointwise.ts";
import { conv2d, linear } from "../../src/graph/ops/gemm.ts";
import { type GemmVariant, gemmVariants } from "../../src/graph/ops/gemm_variants.ts";
import { plan, type PlannedLaunch } from "../../src/graph/plan.ts";
import {
  chooseVariant,
  comparison,
  OWN_CHOICE,
  tunableClasses,
  tuneClass,
  type VariantFound,
} from "../../src/graph/tuner.ts";
import { input, Variable } from "../../src/graph/variable.ts";

const gpu = await Gpu.open();

Deno.test("launches are joined by class, equal ones are counted, and the heaviest class comes first", () => {
  const x = input("x", [2, 8, 8, 16]), w = input("w", [3, 3, 16, 16]), v = input("v", [16, 16]);
  const padding = [1, 1, 1, 1] as const;
  const y = conv2d(conv2d(x, w, { padding }), w, { padding }), z = silu(linear(y, v));
  const classes = tunableClasses([plan([add(z, linear(x, v))])]);
  assert.deepEqual(classes.map(({ key }) => key), [
    "gemm convolution 128 x 16 x 128",
    "gemm product 128 x 16 x 16",
  ]);
  assert.deepEqual(classes[0].launches.map(({ count }) => count), [2]);
  assert.deepEqual(classes[1].launches.map(({ count }) => count), [1, 1], "with and without fused steps");
});

Deno.test("every legal variant of a class is compared with the op's own choice", async () => {
  using w = new Variable("w", [24, 40], new Float32Array(960), "f16");
  const y = silu(linear(input("x", [70, 24]), w.tensor));
  const [one] = tunableClasses([plan([y])]);
  const { key, variants, choice } = await tuneClass(gpu, one);
  assert.equal(key, "gemm product f16 64 x 32 x 16");
  assert.equal(variants[0].name, OWN_CHOICE);
  const here = ({ shared, subgroup, f16 }: GemmVariant) =>
    !f16 && (gpu.subgroups || !subgroup) && (shared || subgroup || !gpu.card);
  assert.equal(variants.length, gemmVariants.filter(here).length + 1);
  assert.ok(variants[0].milliseconds! > 0);
  assert.ok(variants.every(({ result }) => result !== "wrong"), JSON.stringify(variants));
  assert.ok(choice === OWN_CHOICE || variants.find(({ name }) => name === choice)!.result === "same");
});

Deno.test("a variant that computes something else, or leaves something out, is not taken however fast it is", async () => {
  const source = (body: string) =>
    `struct S { n: u32 } @group(0) @binding(0) var<uniform> s: S;
     @group(0) @binding(1) var<storage, read> x: array<f32>;
     @group(0) @binding(2) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { ${body} }`;
  const slow = "var t = 0.0; for (var i = 0u; i < 40000u; i++) { t += x[i % 256u]; } y[id.x] = x[id.x] + 1e-30 * t;";
  const x = { id: 0, bytes: 1024 }, y = { id: 1, bytes: 1024 };
  const spec = (name: string, body: string) => ({
    kernel: kernel(name, source(body), ["read", "read_write"]),
    defines: { NAME: name },
    buffers: [x, y],
    uniforms: [256],
    workgroups: [4, 1, 1] as const,
    flops: 1,
  });
  const variant = (name: string, body: string, workgroupBytes = 0) => ({
    name,
    workgroupBytes,
    subgroups: false,
    launch: () => spec(name, body),
  });
  const launch: PlannedLaunch = {
    ...spec("own kernel", slow),
    label: "made up",
    alternatives: {
      tunable: {
        key: "made up",
        variants: [
          variant("wrong", "y[id.x] = 2.0 * x[id.x];"),
          variant("partial", "if (id.x < 255u) { y[id.x] = x[id.x]; }"),
          variant("rounding", "y[id.x] = x[id.x] * 1.0000002;"),
          variant("right", "y[id.x] = x[id.x];"),
          variant("too large", "y[id.x] = x[id.x];", gpu.device.limits.maxComputeWorkgroupStorageSize + 1),
        ],
      },
    },
  };
  const { choice, variants } = await tuneClass(gpu, {
    key: "made up",
    launches: [{ launch, count: 3 }],
    flops: 3,
  });
  assert.deepEqual(variants.map(({ name, result }) => [name, result]), [
    ["own", "same"],
    ["wrong", "wrong"],
    ["partial", "wrong"],
    ["rounding", "rounding"],
    ["right", "same"],
  ]);
  assert.equal(choice, "right");
});

Deno.test("a choice needs the same bytes and five per cent", () => {
  const own = { name: OWN_CHOICE, result: "same", milliseconds: 10 } as const;
  const choose = (milliseconds: number | undefined, result: VariantFound["result"] = "same") =>
    chooseVariant([own, { name: "a", result, milliseconds }]);
  assert.equal(choose(9.4), "a");
  assert.equal(choose(9.6), OWN_CHOICE);
  assert.equal(choose(undefined), OWN_CHOICE);
  assert.equal(choose(1, "rounding"), OWN_CHOICE);
  assert.equal(choose(1, "wrong"), OWN_CHOICE);
  assert.equal(choose(9.4, "half"), "a", "found in f16 only where it is allowed");
  assert.equal(chooseVariant([]), OWN_CHOICE);
});

Deno.test("results are compared bit by bit, then in relation to the largest", () => {
  const of = (...values: number[]) => [Float32Array.from(values)];
  assert.equal(comparison(of(1, -0), of(1, -0)), "same");
  assert.equal(comparison(of(1, 0), of(1, -0)), "rounding");
  assert.equal(comparison(of(1, 100.001), of(1, 100)), "rounding");
  assert.equal(comparison(of(1, 100.003), of(1, 100)), "wrong");
  assert.equal(comparison(of(1, NaN), of(1, 100)), "wrong");
  assert.equal(comparison(of(1, 100), of(1, 100), true), "same");
  assert.equal(comparison(of(1, 100.19), of(1, 100), true), "half");
  assert.equal(comparison(of(1, 100.21), of(1, 100), true), "wrong");
  assert.equal(comparison(of(1, NaN), of(1, 100), true), "wrong");
});
