/** Gradients of the reference attention against central differences, and the identities of re-weighting. */
import { assertClose, integers, map, ndarray, normals, uniforms } from "../support/arrays.ts";
import { checkGradients } from "../support/finite.ts";
import {
  attentionBackward,
  attentionForward,
  crossAttentionBackward,
  crossAttentionForward,
} from "../reference/attention.ts";

const tokens = () => ({
  q: normals([2, 3, 6], "attention/q"),
  k: normals([2, 5, 6], "attention/k"),
  v: normals([2, 5, 6], "attention/v"),
});

Deno.test("attention: gradients with default and given scale", () => {
  for (const scale of [undefined, 0.3]) {
    for (const heads of [1, 2, 3]) {
      checkGradients(
        `attention ${heads} ${scale}`,
        ({ q, k, v }) => attentionForward(q, k, v, { heads, scale }).o,
        (dy, { q, k, v }) => attentionBackward(dy, q, k, v, { heads, scale }),
        tokens(),
      );
    }
  }
});

Deno.test("attention: equal keys average the values, and lse is the logarithm of their number", () => {
  const k = ndarray([1, 4, 2]), v = ndarray([1, 4, 2], [1, 10, 2, 20, 3, 30, 6, 60]);
  const { o, lse } = attentionForward(normals([1, 3, 2], "q"), k, v, { heads: 2 });
  assertClose(o, ndarray([1, 3, 2], [3, 30, 3, 30, 3, 30]), 1e-14);
  assertClose(lse, ndarray([1, 2, 3], Math.log(4)), 1e-14);
});

Deno.test("attention: heads do not mix", () => {
  const { q, k, v } = tokens();
  const other = map(v, (value, i) => i % 6 >= 3 ? value + 1 : value);
  const change = map(
    attentionForward(q, k, other, { heads: 2 }).o,
    (value, i) => value - attentionForward(q, k, v, { heads: 2 }).o.data[i],
  );
  assertClose(change, map(change, (_, i) => i % 6 >= 3 ? 1 : 0), 1e-13);
});

Deno.test("crossAttention: gradients in both modes", () => {
  const map = uniforms([2, 3], "map", 1, 1.5), columns = integers([2, 5], "columns", 0, 2);
  for (const mode of ["logits", "probabilities"] as const) {
    checkGradients(
      `crossAttention ${mode}`,
      ({ q, k, v }) => crossAttentionForward(q, k, v, { heads: 2, mode }, map, columns),
      (dy, { q, k, v }) => crossAttentionBackward(dy, q, k, v, { heads: 2, mode }, map, columns),
      tokens(),
    );
  }
});

Deno.test("crossAttention: a map of ones, no chosen column, or no map at all is plain attention", () => {
  const { q, k, v } = tokens(), plain = attentionForward(q, k, v, { heads: 2 }).o;
  const weights = uniforms([2, 3], "map", 1, 1.5);
  for (const mode of ["logits", "probabilities"] as const) {
    const options = { heads: 2, mode };
    assertClose(crossAttentionForward(q, k, v, options), plain, 1e-14);
    assertClose(crossAttentionForward(q, k, v, options, ndarray([2, 3], 1)), plain, 1e-14);
    assertClose(crossAttentionForward(q, k, v, options, weights, ndarray([2, 5])), plain, 1e-14);
  }
});

Deno.test("crossAttention: probabilities mode over all columns scales the output, logits mode the queries", () => {
  const { q, k, v } = tokens(), weights = uniforms([2, 3], "map", 1, 1.5);
  const scaled = map(attentionForward(q, k, v, { heads: 2 }).o, (value, i) => value * weights.data[Math.floor(i / 6)]);
  assertClose(crossAttentionForward(q, k, v, { heads: 2, mode: "probabilities" }, weights), scaled, 1e-14);
  const sharper = map(q, (value, i) => value * weights.data[Math.floor(i / 6)]);
  const expected = attentionForward(sharper, k, v, { heads: 2 }).o;
  assertClose(crossAttentionForward(q, k, v, { heads: 2, mode: "logits" }, weights), expected, 1e-13);
});
