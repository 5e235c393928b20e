/** Places of values: nothing that lives at once overlaps, reads and writes of a launch are apart, and little is wasted. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { assignMemory, roundUp } from "../../src/graph/memory.ts";
import type { Value } from "../../src/graph/op.ts";
import { attention } from "../../src/graph/ops/attention.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { layerNorm } from "../../src/graph/ops/norms.ts";
import { add, gelu, silu } from "../../src/graph/ops/pointwise.ts";
import { plan, type PlannedLaunch } from "../../src/graph/plan.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { input } from "../../src/graph/variable.ts";
import { Random } from "../../src/random/philox.ts";
import { gpu } from "../support/ops.ts";

/** A launch that reads some values and writes one. */
function launch(reads: readonly Value[], write: Value): PlannedLaunch {
  const bindings = [...reads.map(() => "read" as const), "read_write" as const];
  return {
    label: "launch",
    kernel: { name: "k", source: "", bindings },
    defines: {},
    buffers: [...reads, write],
    uniforms: [],
    workgroups: [1, 1, 1],
    flops: 0,
  };
}

/** A chain of values of random sizes, some of which are read again much later, as a backward walk does. */
function network(seed: number, length: number): { launches: PlannedLaunch[]; values: Value[] } {
  const random = new Random(seed, "tests/memory");
  const values: Value[] = [], launches: PlannedLaunch[] = [];
  for (let i = 0; i < length; i++) {
    const value = { id: i, bytes: random.integer(1, 20) * random.pick([100, 4096, 65536]) };
    const reads = i ? [values[i - 1]] : [];
    const partner = values[length - 1 - i];
    if (i > length / 2 && partner) reads.push(partner);
    launches.push(launch([...new Set(reads)], value));
    values.push(value);
  }
  return { launches, values };
}

Deno.test("no two values that live at once overlap, and no launch reads and writes one buffer", () => {
  for (let seed = 0; seed < 8; seed++) {
    const { launches, values } = network(seed, 120), result = values[50];
    const { slots, places, slotBytes, bufferBytes, lowerBoundBytes } = assignMemory(
      launches,
      new Set([values[0]]),
      new Set([result]),
    );
    assert.equal(slots.has(values[0]), false); // a leaf has a buffer of its own
    const lives = values.slice(1).map((value) => {
      const at = launches.flatMap(({ buffers }, i) => (buffers.includes(value) ? [i] : []));
      const { buffer, offset } = places[slots.get(value)!], end = offset + roundUp(value.bytes);
      assert.ok(offset % 256 === 0 && end <= bufferBytes[buffer] && slotBytes[slots.get(value)!] >= value.bytes);
      return { first: at[0], last: value === result ? Infinity : at.at(-1)!, buffer, offset, end };
    });
    lives.forEach((a, i) => {
      for (const b of lives.slice(0, i)) {
        const together = a.buffer === b.buffer && a.first <= b.last && b.first <= a.last;
        assert.ok(!together || a.end <= b.offset || b.end <= a.offset, "overlap");
      }
    });
    for (const { buffers, kernel } of launches) {
      const of = (access: string) =>
        buffers.flatMap((value, i) =>
          kernel.bindings[i] === access && slots.has(value) ? [places[slots.get(value)!].buffer] : []
        );
      const written = new Set(of("read_write"));
      assert.ok(!of("read").some((buffer) => written.has(buffer)), "read and written");
    }
    const total = bufferBytes.reduce((a, b) => a + b, 0);
    assert.ok(total >= lowerBoundBytes && total <= 1.1 * lowerBoundBytes, `${total} for ${lowerBoundBytes}`);
  }
});

Deno.test("shared buffers stay below 128 MiB; a larger value has its own", () => {
  const MIB = 2 ** 20;
  const values = [100, 100, 60, 200, 30].map((mib, id) => ({ id, bytes: mib * MIB }));
  const launches = values.map((value, i) => launch(i ? values.slice(0, i) : [], value));
  const { places, slots, bufferBytes } = assignMemory(launches, new Set(), new Set());
  const large = places[slots.get(values[3])!];
  assert.equal(bufferBytes[large.buffer], 200 * MIB);
  bufferBytes.forEach((bytes, i) => assert.ok(i === large.buffer || bytes <= 128 * MIB));
});

Deno.test("no launches need no memory", () => {
  assert.deepEqual(assignMemory([], new Set(), new Set()).bufferBytes, []);
});

Deno.test({
  name: "layer norm and attention find what they read beside what they make; the bits are the same",
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const found = new Set<string>();
    // Attention's weights are larger than its values, then smaller.
    for (const tokens of [64, 24]) for (const name of await sharing(tokens)) found.add(name);
    assert.deepEqual([...found].sort(), ["attention", "layer norm"]);
  },
});

/** Which launches find what they read beside what they make in a text tower's blocks, whose result is checked. */
async function sharing(tokens: number): Promise<Set<string>> {
  const width = 32, random = new Random(3, "tests/memory"), found = new Set<string>();
  const feed: Record<string, Float32Array> = {};
  const given = (name: string, shape: number[], scale: number) => {
    feed[name] = random.normals(shape.reduce((a, b) => a * b, 1)).map((v) => scale * v);
    return input(name, shape);
  };
  const between: Record<string, Tensor> = {};
  let h = silu(given("x", [2, tokens, width], 1));
  for (let i = 0; i < 3; i++) {
    const weight = (name: string, from: number, to: number) => given(`${name}${i}`, [from, to], from ** -0.5);
    const norm = (name: string, x: Tensor) =>
      between[`${name}${i}`] = layerNorm(
        x,
        given(`${name}.gamma${i}`, [width], 1),
        given(`${name}.beta${i}`, [width], 1),
        {
          eps: 1e-5,
        },
      );
    const n = norm("norm", h);
    const [q, k, v] = ["q", "k", "v"].map((name) => between[`${name}${i}`] = linear(n, weight(name, width, width)));
    const o = between[`o${i}`] = attention(q, k, v, { heads: 1 });
    h = between[`attended${i}`] = add(linear(o, weight("out", width, width)), h);
    const hidden = between[`hidden${i}`] = gelu(linear(norm("second", h), weight("up", width, 4 * width)));
    h = add(linear(hidden, weight("down", 4 * width, width)), h);
  }
  const { launches, slots, places } = plan([h]);
  const bufferOf = (value: Value) => slots.has(value) ? places[slots.get(value)!].buffer : -1;
  for (const { kernel: { name }, defines: { KIND }, buffers } of launches) {
    const at = buffers.map(bufferOf);
    if (name === "norm_rows" && at[0] === at[3]) found.add("layer norm"); // x and y
    if (name === "cross_attention" && KIND === 3 && (at[0] === at[2] || at[1] === at[2])) found.add("attention");
  }
  // What is read at the end has a place of its own until then.
  using shared = compile(gpu, { h }), apart = compile(gpu, { h, ...between });
  assert.ok(apart.report.activationBytes > 2 * shared.report.activationBytes);
  assert.deepEqual((await shared.run(feed)).h, (await apart.run(feed, ["h"])).h);
  return found;
}
