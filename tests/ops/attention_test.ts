/** Attention and re-weighted cross-attention on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { attention, crossAttention } from "../../src/graph/ops/attention.ts";
import { input } from "../../src/graph/variable.ts";
import {
  attentionBackward,
  attentionForward,
  crossAttentionBackward,
  crossAttentionForward,
} from "../reference/attention.ts";
import { integers, ndarray, normals, uniforms } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];

// Up to 64 channels and from 256 keys on in tiles, the others over a map.
const selfs: [number, number, number, number, number][] = [
  [2, 7, 259, 3, 8],
  [1, 256, 256, 1, 16],
  [2, 13, 258, 2, 24],
  [1, 3, 300, 2, 32],
  [1, 6, 256, 2, 40],
  [1, 5, 261, 1, 64],
  [2, 3, 256, 2, 6],
  [1, 17, 256, 1, 128],
  [1, 16, 16, 2, 80],
  [1, 9, 9, 1, 512],
  [2, 64, 64, 2, 24],
];
for (const [B, N, M, heads, D] of selfs) {
  cases.push({
    name: `attention B ${B} N ${N} M ${M} H ${heads} D ${D}`,
    inputs: [normals([B, N, heads * D], "q"), normals([B, M, heads * D], "k"), normals([B, M, heads * D], "v")],
    build: (q, k, v) => attention(q, k, v, { heads }),
    forward: (q, k, v) => attentionForward(q, k, v, { heads }).o,
    backward: (dO, q, k, v) => {
      const grads = attentionBackward(dO, q, k, v, { heads });
      return [grads.q, grads.k, grads.v];
    },
  });
}

// More than 65,535 workgroups: a single key has weight 1.
cases.push({
  name: "attention N 4200000 M 1 H 1 D 1",
  inputs: [ndarray([1, 4200000, 1], 0.5), normals([1, 1, 1], "k"), normals([1, 1, 1], "v")],
  build: (q, k, v) => attention(q, k, v, { heads: 1 }),
  forward: (q, _k, v) => ndarray(q.shape, v.data[0]),
});

// Equal logits of 28,284, whose exponentials overflow unless the maximum is taken off.
for (const M of [5, 256]) {
  cases.push({
    name: `attention with large logits M ${M}`,
    inputs: [ndarray([1, 3, 8], 100), ndarray([1, M, 8], 100), normals([1, M, 8], "v")],
    build: (q, k, v) => attention(q, k, v, { heads: 1 }),
    forward: (q, k, v) => attentionForward(q, k, v, { heads: 1 }).o,
    backward: (dO, q, k, v) => [attentionBackward(dO, q, k, v, { heads: 1 }).v],
    wrt: [2],
  });
}

const crossed: [number, number, number, number, number][] = [
  [1, 1, 1, 1, 1],
  [2, 7, 5, 3, 3],
  [2, 16, 24, 4, 8],
  [1, 33, 77, 2, 10],
  [3, 5, 128, 1, 40],
  [1, 11, 6, 2, 160],
];
for (const [B, N, M, heads, D] of crossed) {
  for (const mode of ["none", "logits", "probabilities"] as const) {
    for (const picked of mode === "none" ? [false] : [false, true]) {
      const inputs = [
        normals([B, N, heads * D], "q"),
        normals([B, M, heads * D], "k"),
        normals([B, M, heads * D], "v"),
      ];
      if (mode !== "none") inputs.push(uniforms([B, N], "map", 0.5, 1.5));
      if (picked) inputs.push(integers([B, M], "columns", 0, 2));
      const options = { heads, mode: mode === "none" ? "logits" as const : mode };
      cases.push({
        name: `crossAttention B ${B} N ${N} M ${M} H ${heads} D ${D} ${mode}${picked ? " on columns" : ""}`,
        inputs,
        build: (q, k, v, map, columns) => crossAttention(q, k, v, options, map, columns),
        forward: (q, k, v, map, columns) => crossAttentionForward(q, k, v, options, map, columns),
        backward: (dO, q, k, v, map, columns) => {
          const grads = crossAttentionBackward(dO, q, k, v, options, map, columns);
          return [grads.q, grads.k, grads.v];
        },
        wrt: [0, 1, 2],
      });
    }
  }
}

testOps(cases);

Deno.test("attention refuses heads that channels do not split into", () => {
  for (const keys of [9, 256]) {
    const q = input("q", [1, 9, 24]), k = input("k", [1, keys, 24]);
    for (const heads of [5, 1.5, 0.5, 0, -2]) {
      assert.throws(() => attention(q, k, k, { heads }), new RegExp(`do not split into ${heads} heads`));
    }
  }
});
