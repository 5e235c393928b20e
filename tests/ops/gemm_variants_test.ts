/** Every variant of the GEMM kernel in f32 against the float64 references, on awkward shapes; how a plan takes one. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import {
  gemmClass,
  type GemmSizes,
  gemmVariants,
  variantName,
  variantsFor,
  workgroupBytes,
} from "../../src/graph/ops/gemm_variants.ts";
import { plan } from "../../src/graph/plan.ts";
import { input, Variable } from "../../src/graph/variable.ts";
import { normals } from "../support/arrays.ts";
import { gemmCases } from "../support/gemm_cases.ts";
import { checkOp, gpu } from "../support/ops.ts";

/** A table that answers every question in the same way. */
class Always extends Map<string, string> {
  constructor(readonly answer: string) {
    super();
  }

  override get(): string {
    return this.answer;
  }
}

/** Cases in which tiles, blocks, quads or images end in the middle, for every reader and epilogue. */
const awkward = [
  "linear [1,1] → 1 f32",
  "linear [3,5] → 7 f32",
  "linear [130,64] → 36 f32",
  "linear [17,8] → 64 f16",
  "linear [5,6] → 10 f16",
  "linear [9,8] → 140 f32",
  "linear [520,128] → 272 f16",
  "matmul 16×8×12 {}",
  "matmul 65×20×33 {}",
  'matmul 65×20×33 {"transposeB":true}',
  'conv2d [2,5,7,3] * [3,3,3,5] {"padding":[1,1,1,1]} f32',
  'conv2d [1,8,8,4] * [3,3,4,4] {"stride":[2,2],"padding":[1,1,1,1]} f32',
  'conv2d [2,14,14,64] * [3,3,64,84] {"padding":[1,1,1,1]} f32',
  'conv2d [5,3,2,4] * [3,3,4,8] {"padding":[1,1,1,1]} f32',
  'conv2d [4,5,4,4] * [3,3,4,4] {"stride":[3,2],"padding":[2,1,2,1]} f32',
  "conv2d [3,4,6,8] with fused column, group, residual and silu",
  "linear [2,3,5,7] → 5 with fused group and silu",
];
const cases = awkward.map((name) => {
  const found = gemmCases.find((one) => one.name === name);
  assert.ok(found, `no case is called ${name}`);
  return found;
});

for (const variant of gemmVariants.filter(({ f16 }) => !f16)) {
  const name = variantName(variant);
  Deno.test({
    name: `GEMM ${name} on ${cases.length} awkward shapes`,
    ignore: workgroupBytes(variant) > gpu.device.limits.maxComputeWorkgroupStorageSize ||
      (variant.subgroup && !gpu.subgroups),
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      gpu.choices = new Always(name);
      try {
        for (const one of cases) await checkOp({ ...one, name: `${one.name}, ${name}` });
      } finally {
        gpu.choices = new Map();
      }
    },
  });
}

const sizes = (over: Partial<GemmSizes>): GemmSizes => ({
  reader: "product",
  transposed: false,
  half: false,
  batch: 1,
  rows: 64,
  cols: 64,
  inner: 64,
  taps: 1,
  ...over,
});

Deno.test("a plan takes the variant that the table names for its class, where the device can run it", () => {
  const x = input("x", [100, 64]), w = input("w", [64, 72]), y = linear(x, w);
  const taken = (choices: Map<string, string>, workgroupBytes: number, subgroups = false) => {
    const { launches, report, bufferBytes } = plan([y], [], { choices, workgroupBytes, subgroups });
    const { TILE, QUADS, SHARED, SUBGROUP } = launches[0].defines;
    return { variant: [TILE, QUADS, SUBGROUP ? "subgroup" : SHARED], memory: [report.activationBytes, bufferBytes] };
  };
  const key = plan([y]).launches[0].alternatives!.tunable!.key;
  assert.equal(key, "gemm product 64 x 64 x 64");
  const own = taken(new Map(), 2 ** 15);
  assert.deepEqual(own.variant, [8, 2, false]);
  assert.deepEqual(taken(new Map([[key, "4x16 shared"]]), 2 ** 15), own, "no variant has this name");
  assert.deepEqual(taken(new Map([["gemm product 64 x 64 x 32", "4x4"]]), 2 ** 15), own, "another class");
  assert.deepEqual(taken(new Map([[key, "8x8 shared"]]), 2 ** 14), { ...own, variant: [8, 2, true] });
  assert.deepEqual(taken(new Map([[key, "8x8 shared"]]), 2 ** 14 - 1), own, "not enough workgroup memory");
  assert.deepEqual(taken(new Map([[key, "16x4 subgroup"]]), 2 ** 15), own, "no subgroups");
  assert.deepEqual(taken(new Map([[key, "16x4 subgroup"]]), 0, true), { ...own, variant: [16, 1, "subgroup"] });
  assert.deepEqual(
    taken(new Map(), 0, true),
    { ...own, variant: [16, 1, "subgroup"] },
    "the own choice with subgroups",
  );
  assert.deepEqual(taken(new Map([[key, "8x4"]]), 0, true), { ...own, variant: [8, 1, false] }, "measured: without");
});

Deno.test("classes part what variants differ in, and join what they do not", () => {
  const plain = gemmClass(sizes({}));
  for (
    const other of [{ half: true }, { transposed: true }, { reader: "convolution" }, { rows: 128 }, { cols: 63 }, {
      taps: 9,
    }] as const
  ) {
    assert.notEqual(gemmClass(sizes(other)), plain, JSON.stringify(other));
  }
  assert.equal(gemmClass(sizes({ rows: 127, cols: 68, inner: 100 })), plain);
  assert.equal(gemmClass(sizes({ rows: 16, batch: 4 })), plain);
  assert.ok(variantsFor(sizes({ cols: 63 })).every(({ quads }) => quads === 1));
  assert.ok(variantsFor(sizes({})).every(({ f16 }) => !f16), "weights in f32");
  assert.ok(variantsFor(sizes({ half: true, inner: 63 })).every(({ f16 }) => !f16), "sizes that do not divide by 4");
  assert.ok(variantsFor(sizes({ half: true })).some(({ f16 }) => f16));
  assert.equal(new Set(gemmVariants.map(variantName)).size, gemmVariants.length);
});

Deno.test("programs compile with what the device's table says at that time", async () => {
  const data = normals([40, 32], "x").data;
  using x = new Variable("x", [40, 32], Float32Array.from(data));
  using w = new Variable("w", [32, 32], Float32Array.from(data.subarray(0, 1024)));
  const y = linear(x.tensor, w.tensor), rows: string[][] = [];
  for (const choices of [new Map<string, string>(), new Always("4x8 shared")]) {
    gpu.choices = choices;
    using program = compile(gpu, { y });
    gpu.choices = new Map();
    if (gpu.hasTimestamps) rows.push((await program.profile()).map(({ label }) => label));
  }
  if (gpu.hasTimestamps) assert.ok(rows[0][0].includes('"SHARED":false') && rows[1][0].includes('"SHARED":true'));
});
