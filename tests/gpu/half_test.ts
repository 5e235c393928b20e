import assert from "node:assert/strict";
import { fromHalf, packHalf, toHalf, unpackHalf } from "../../src/gpu/half.ts";

Deno.test("half: rounds to nearest even, keeps subnormals, overflows to infinity", () => {
  const cases: [number, number][] = [
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519, 0x7bff],
    [65520, 0x7c00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [1.5 * 2 ** -24, 0x0002],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [Infinity, 0x7c00],
    [1 / 3, 0x3555],
  ];
  assert.deepEqual([...toHalf(cases.map(([value]) => value))], cases.map(([, bits]) => bits));
});

Deno.test("half: every finite binary16 survives the way to float32 and back", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00);
  assert.deepEqual(toHalf(fromHalf(all)), all);
});

Deno.test("half: pairs hold the first value in the low bits; an odd end is filled with zero", () => {
  assert.deepEqual([...packHalf([1, -2, 0.5])], [0xc0003c00, 0x00003800]);
  assert.deepEqual([...unpackHalf(packHalf([1, -2, 0.5]), 3)], [1, -2, 0.5]);
  assert.deepEqual([...unpackHalf(Uint32Array.of(0xc0003c00))], [1, -2]);
});
