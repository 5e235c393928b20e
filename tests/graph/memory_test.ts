/** Places of values: nothing that lives at once overlaps, reads and writes of a launch are apart, and little is wasted. */
import assert from "node:assert/strict";
import { assignMemory, roundUp } from "../../src/graph/memory.ts";
import type { Value } from "../../src/graph/op.ts";
import type { PlannedLaunch } from "../../src/graph/plan.ts";
import { Random } from "../../src/random/philox.ts";

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
