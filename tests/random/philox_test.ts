/** Philox against the definition in whole numbers of any size, and streams against blocks. */
import assert from "node:assert/strict";
import { fnv1a, philox, Random } from "../../src/random/philox.ts";

const WORD = 0xffffffffn;

/** Ten rounds as Salmon et al. write them. */
function reference(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter.map(BigInt), [k0, k1] = key.map(BigInt);
  for (let round = 0; round < 10; round++) {
    const p = 0xd2511f53n * c0, q = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(q >> 32n) ^ c1 ^ k0, q & WORD, (p >> 32n) ^ c3 ^ k1, p & WORD];
    [k0, k1] = [(k0 + 0x9e3779b9n) & WORD, (k1 + 0xbb67ae85n) & WORD];
  }
  return [c0, c1, c2, c3].map(Number);
}

Deno.test("philox: known answers of Random123, and the definition on edges and on a thousand others", () => {
  const most = 0xffffffff;
  assert.deepEqual([...philox([0, 0, 0, 0], [0, 0])], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  assert.deepEqual([...philox(Array(4).fill(most), [most, most])], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  const edges = [0, 1, 0xffff, 0x10000, 0x7fffffff, 0x80000000, most], draw = new Random(1, "tests/philox");
  for (let i = 0; i < 1000; i++) {
    const words = Array.from({ length: 6 }, () => (i % 2 ? draw.word() : draw.pick(edges)));
    const counter = words.slice(0, 4), key = words.slice(4);
    assert.deepEqual([...philox(counter, key)], reference(counter, key));
  }
});

Deno.test("a stream is the blocks of its name, one after the other", () => {
  const seed = 5 * 2 ** 32 + 7, index = 3 * 2 ** 32 + 9, stream = new Random(seed, "noise", index);
  const key = [7, (fnv1a("noise") ^ Math.imul(5, 0x9e3779b9)) >>> 0];
  const expected = [0, 1, 2].flatMap((at) => reference([at, 0, 9, 3], key));
  assert.deepEqual(Array.from({ length: 12 }, () => stream.word()), expected);
  const one = new Random(1, "normals"), other = new Random(1, "normals");
  assert.deepEqual(one.normals(7), Float32Array.from({ length: 7 }, () => other.normal()));
});
