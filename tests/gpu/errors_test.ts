/** What the device refuses is told with the launch that it comes from, and costs nothing while nothing is refused. */
import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/device.ts";
import { type Launch, Program } from "../../src/gpu/program.ts";
import { compile } from "../../src/graph/compile.ts";
import { apply, defineOp, f32, kernel } from "../../src/graph/op.ts";
import { affine } from "../../src/graph/ops/pointwise.ts";
import { scope, type Tensor } from "../../src/graph/tensor.ts";
import { constant } from "../../src/graph/variable.ts";

/** A kernel that adds something to what it reads. */
const source = (what: string, size = 64) => `
struct Shape { n: u32 }
@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(${size}) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < s.n) { y[id.x] = a[id.x] + ${what}; }
}`;
const add = (name: string, what: string, size?: number) => kernel(name, source(what, size), ["read", "read_write"]);

/** The op `plus` with a kernel. */
const plus = (own: ReturnType<typeof kernel>) => {
  const op = defineOp<null>({
    name: "plus",
    shape: ([x]) => [f32(x.shape)],
    lower({ inputs, outputs, launch }) {
      launch({ kernel: own, buffers: [inputs[0], outputs[0]], uniforms: [64], workgroups: [1, 1, 1] });
    },
  });
  return (x: Tensor) => apply(op, [x], null)[0];
};

const x = constant(new Float32Array(64).fill(1));
const sound = plus(add("sound", "1.0"));

function test(name: string, fn: (gpu: Gpu) => Promise<void>): void {
  Deno.test({
    name,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      using gpu = await Gpu.open();
      await fn(gpu);
    },
  });
}

/** Launches of one kernel on regions of buffers, each `[buffer, offset, size]`. */
type Part = readonly [buffer: GPUBuffer, offset: number, size: number];
function launch(label: string, read: Part, written: Part, own = add("sound", "1.0")): Launch {
  const buffers = [read, written].map(([buffer, offset, size]) => ({ buffer, offset, size }));
  return { label, kernel: own, defines: {}, buffers, uniforms: [64], workgroups: [1, 1, 1], flops: 1 };
}

for (
  const [name, bad, said] of [
    ["a shader that does not compile", plus(add("broken", "nothing")), /identifier: `nothing`/],
    ["a workgroup that is too large", plus(add("wide", "1.0", 4096)), /workgroup size \[4096, 1, 1\]/],
  ] as const
) {
  test(`${name} is told with the node, by all that checks`, async (gpu) => {
    // The two nodes share a pipeline: the first is named.
    const y = scope("decoder", () => {
      const first = scope("block3", () => bad(sound(x)));
      return scope("block4", () => bad(first));
    });
    using program = compile(gpu, { y });
    program.step(); // Deno has not said anything yet
    const label = new RegExp(`^GPU: decoder\\.block3\\.plus \\((broken|wide)\\): [^]*${said.source}`);
    const named = (error: Error) => {
      assert.match(error.message, label);
      return true;
    };
    await assert.rejects(program.read(), named);
    await assert.rejects(gpu.settle(), named);
    assert.throws(() => program.step(), named);
    assert.throws(() => compile(gpu, { y: sound(x) }), named);
  });
}

test("an error that is noticed between two steps has its label already", async (gpu) => {
  using program = compile(gpu, { y: scope("encoder", () => plus(add("broken", "nothing"))(x)) });
  const step = () => new Promise<void>((resolve) => setTimeout(resolve)).then(() => program.step());
  await assert.rejects(async () => {
    for (let i = 0; i < 100; i++) await step();
  }, /^Error: GPU: encoder\.plus \(broken\): /);
});

test("of several programs the one at fault is named", async (gpu) => {
  using before = compile(gpu, { y: scope("one", () => sound(x)) });
  using broken = compile(gpu, { y: scope("two", () => plus(add("broken", "nothing"))(x)) });
  using after = compile(gpu, { y: scope("three", () => plus(add("later", "nowhere"))(x)) });
  for (const program of [after, broken, before]) program.step();
  await assert.rejects(gpu.settle(), /^Error: GPU: two\.plus \(broken\): [^]*`nothing`/);
});

test("a dispatch that reads what it writes is told with launch and kernel", async (gpu) => {
  const a = gpu.acquire(1024, "a"), b = gpu.acquire(1024, "b");
  using program = new Program(gpu, [
    launch("first", [a, 0, 256], [b, 0, 256]),
    launch("middle", [b, 0, 256], [b, 512, 256], add("other", "2.0")),
    launch("last", [b, 0, 256], [a, 0, 256]),
  ]);
  program.replay();
  await assert.rejects(gpu.settle(), /^Error: GPU: middle \(other\): [^]*'b'[^]*conflicting usages/);
});

test("a binding past the end of its buffer is told with the launch", async (gpu) => {
  const a = gpu.acquire(1024, "a"), b = gpu.acquire(1024, "b");
  using program = new Program(gpu, [
    launch("first", [a, 0, 256], [b, 0, 256]),
    launch("middle", [a, 0, 4096], [b, 0, 256]),
  ]);
  await assert.rejects(gpu.settle(), /^Error: GPU: middle \(sound\): [^]*overflow/);
  assert.throws(() => program.replay(), /GPU: middle/);
});

test("a buffer that is gone when it is used is told with the launch", async (gpu) => {
  const a = gpu.acquire(1024, "a"), b = gpu.acquire(1024, "b"), c = gpu.acquire(1024, "c");
  using program = new Program(gpu, [
    launch("first", [a, 0, 256], [b, 0, 256]),
    launch("middle", [c, 0, 256], [b, 0, 256]),
  ]);
  program.replay();
  await gpu.settle();
  c.destroy();
  program.replay();
  await assert.rejects(gpu.settle(), /^Error: GPU: middle \(sound\): [^]*'c'[^]*destroyed/);
});

test("what no program is at fault for, or one that is gone, is told as the device says it", async (gpu) => {
  using other = compile(gpu, { y: sound(x) });
  {
    using broken = compile(gpu, { y: plus(add("broken", "nothing"))(x) });
    broken.step();
  }
  other.step();
  await assert.rejects(gpu.settle(), /^Error: GPU: Shader 'broken [^]*`nothing`/);
});

test("more buffers than the adapter binds are told at once, with the launch", async () => {
  using lesser = await Gpu.open({ limits: { maxStorageBuffersPerShaderStage: 8 } });
  const a = lesser.acquire(256, "a"), many = kernel("many", source("1.0"), Array(9).fill("read"));
  const own = { ...launch("decoder.sum", [a, 0, 256], [a, 0, 256], many), buffers: [] };
  assert.throws(() => new Program(lesser, [own]), /^UserError: decoder\.sum: many binds 9 buffers/);
});

test("while nothing is refused a replay is one pass, without scopes", async (gpu) => {
  const { device } = gpu, counts = { pushErrorScope: 0, createCommandEncoder: 0 };
  const programs = [1, 2].map((shift) => compile(gpu, { y: affine(sound(affine(x, 1, shift)), 2) }));
  for (const name of ["pushErrorScope", "createCommandEncoder"] as const) {
    const own = device[name].bind(device) as (...words: unknown[]) => unknown;
    Object.assign(device, { [name]: (...words: unknown[]) => (counts[name]++, own(...words)) });
  }
  for (const program of programs) program.step();
  assert.deepEqual(counts, { pushErrorScope: 0, createCommandEncoder: 2 });
  assert.equal((await programs[1].read()).y[0], 8);
  for (const program of programs) program[Symbol.dispose]();
});
