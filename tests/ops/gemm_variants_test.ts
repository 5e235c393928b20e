/** Every variant of the GEMM kernel in f32 against the float64 references, on awkward shapes; how a plan takes one. */
import assert from "node:assert/strict";
import { compile, tuningOf } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { attention } from "../../src/graph/ops/attention.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import {
  cardVariant,
  cardVariantsFor,
  gemmClass,
  type GemmSizes,
  gemmVariants,
  slicesFor,
  variantName,
  variantsFor,
  workgroupBytes,
} from "../../src/graph/ops/gemm_variants.ts";
import { plan } from "../../src/graph/plan.ts";
import { constant, input, Variable } from "../../src/graph/variable.ts";
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

const device = { card: gpu.card, bytes: gpu.device.limits.maxComputeWorkgroupStorageSize };

/** With one variant everywhere, as a card or as another adapter. */
async function withVariant<T>(name: string, card: boolean, run: () => Promise<T>): Promise<T> {
  Object.assign(gpu, { choices: new Always(name), card });
  try {
    return await run();
  } finally {
    Object.assign(gpu, { choices: new Map(), card: device.card });
  }
}

for (const card of [false, true]) {
  for (const variant of gemmVariants.filter(({ shared, f16 }) => !f16 && (shared || !card))) {
    const name = variantName(variant), how = card ? `${name}, as on a card` : name;
    Deno.test({
      name: `GEMM ${how} on ${cases.length} awkward shapes`,
      ignore: workgroupBytes(variant) > device.bytes || (variant.subgroup && !gpu.subgroups),
      sanitizeOps: false,
      sanitizeResources: false,
      fn: () =>
        withVariant(name, card, async () => {
          for (const one of cases) await checkOp({ ...one, name: `${one.name}, ${how}` });
        }),
    });
  }
}

Deno.test("on cards small products have their sums cut into slices, and every variant that fits gives the same bytes", async () => {
  for (
    const [rows, cols, inner, slices] of [[100, 72, 200, 4], [100, 72, 36, 2], [100, 72, 32, 1], [20000, 72, 200, 1]]
  ) {
    const make = (name: string, shape: number[]) =>
      new Variable(name, shape, Float32Array.from(normals(shape, name).data));
    using x = make("x", [rows, inner]);
    using w = make("w", [inner, cols]);
    const y = linear(x.tensor, w.tensor), seen = new Set<string>(), bytes: Float32Array[] = [];
    for (const name of ["own", ...cardVariantsFor(sizes({ rows, cols, inner }), slices).map(variantName)]) {
      await withVariant(name, true, async () => {
        const { defines } = plan([y], [], tuningOf(gpu)).launches[0];
        assert.equal(defines.SLICES, device.bytes >= 2 ** 15 ? slices : Math.min(slices, 2), name);
        assert.ok(defines.SHARED || defines.SUBGROUP);
        seen.add(`${defines.TILE}x${4 * Number(defines.QUADS)}`);
        using program = compile(gpu, { y });
        bytes.push((await program.run()).y);
      });
    }
    assert.ok(seen.size >= (slices === 4 ? 1 : 3), [...seen].join());
    for (const other of bytes) assert.deepEqual(other, bytes[0]);
  }
});

Deno.test("on cards attention and weight gradients take more and smaller tiles while there are few, in the same memory", () => {
  const x = (shape: number[]) => input(`x ${shape}`, shape);
  const outputs = (images: number) => {
    const q = x([images, 256, 64]), w = x([32, 64]), y = linear(x([images * 64, 32]), w);
    return [attention(q, q, q, { heads: 4 }), ...gradient(y, [w], constant(new Float32Array(y.size), y.shape))];
  };
  const planned = (images: number, card: boolean) => {
    const tuning = { choices: new Map<string, string>(), workgroupBytes: 2 ** 15, subgroups: false, card };
    const { launches, report } = plan(outputs(images), [], tuning);
    const of = (name: string) => launches.find(({ kernel }) => kernel.name === name)!.defines;
    return { rows: of("attention").ROWS, quads: of("gemm_weights").QUADS, memory: report.activationBytes };
  };
  const [few, many] = [planned(1, false), planned(512, false)];
  assert.deepEqual(planned(1, true), { ...few, rows: 1, quads: 1 });
  assert.ok(Number(few.rows) > 1 && Number(few.quads) > 1);
  assert.deepEqual(planned(512, true).rows, many.rows, "enough to do for large ones");
});

Deno.test("what a card takes: small tiles where there is little to do, larger ones for the rest, within its workgroup memory", () => {
  const taken = (over: Partial<GemmSizes>, bytes = 2 ** 15) => {
    const slices = slicesFor(sizes(over), bytes);
    return `${variantName(cardVariant(sizes(over), slices))}, ${slices}`;
  };
  assert.equal(taken({ inner: 512 }), "4x4 shared, 4");
  assert.equal(taken({ inner: 512 }, 2 ** 14), "4x4 shared, 2", "the memory that WebGPU guarantees");
  assert.equal(taken({ inner: 512 }, 2 ** 14 - 1), "4x4 shared, 1");
  assert.equal(taken({ rows: 16384, cols: 512, inner: 512 }), "8x8 shared, 1");
  assert.equal(taken({ rows: 65536, cols: 3, inner: 512 }), "8x4 shared, 1", "columns that do not divide by 4");
  assert.equal(taken({ rows: 65536, cols: 32, inner: 512 }), "8x4 shared, 1", "no columns past the end");
});

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
  for (const variant of ["8x4", "4x8 shared"]) {
    using program = await withVariant(variant, false, () => Promise.resolve(compile(gpu, { y })));
    if (gpu.hasTimestamps) rows.push((await program.profile()).map(({ label }) => label));
  }
  if (gpu.hasTimestamps) assert.ok(rows[0][0].includes('"SHARED":false') && rows[1][0].includes('"SHARED":true'));
});
