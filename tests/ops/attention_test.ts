/** Attention and re-weighted cross-attention on the GPU against their float64 references. */
import { crossAttention } from "../../src/graph/ops/attention.ts";
import { crossAttentionBackward, crossAttentionForward } from "../reference/attention.ts";
import { integers, normals, uniforms } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];

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
