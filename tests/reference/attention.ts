/**
 * Scaled dot-product attention in float64 (Vaswani et al. 2017, eq. 1), and cross-attention re-weighted by a map
 * (AnomalyDiffusion §3.3: eq. 7 multiplies the probabilities, the official code the logits).
 *
 * Tokens × channels throughout: q [B, N, H·D], k and v [B, M, H·D], head h owning channels h·D … (h + 1)·D − 1.
 */
import { type NDArray, ndarray } from "../support/arrays.ts";

/** Number of heads, and the factor on q·k (default 1 ∕ √D). */
export interface AttentionOptions {
  heads: number;
  scale?: number;
}

/** What re-weighted cross-attention multiplies: "logits" before the softmax, "probabilities" after it. */
export interface CrossAttentionOptions extends AttentionOptions {
  mode: "logits" | "probabilities";
}

/** The factor of one query row i of image b on key column j. */
type Factor = (b: number, i: number, j: number) => number;

/** Sizes, and the flat index of channel d of head h of token t in a [B, tokens, H·D] array. */
function layout(q: NDArray, k: NDArray, { heads, scale }: AttentionOptions) {
  const [B, N, width] = q.shape, M = k.shape[1], D = width / heads;
  if (!Number.isInteger(D) || k.shape[2] !== width) {
    throw new Error(`attention: q [${q.shape}] and k [${k.shape}] do not split into ${heads} equal heads`);
  }
  const index = (tokens: number) => (b: number, t: number, h: number, d: number) =>
    (b * tokens + t) * width + h * D + d;
  return { B, N, M, H: heads, D, scale: scale ?? 1 / Math.sqrt(D), qi: index(N), ki: index(M) };
}

type Layout = ReturnType<typeof layout>;

/** One query's row: raw scaled logits s, softmax p of (re-weighted) logits, and the logarithm of its denominator. */
function row(q: NDArray, k: NDArray, l: Layout, b: number, h: number, i: number, factor: Factor) {
  const s = new Float64Array(l.M), logits = new Float64Array(l.M);
  for (let j = 0; j < l.M; j++) {
    for (let d = 0; d < l.D; d++) s[j] += q.data[l.qi(b, i, h, d)] * k.data[l.ki(b, j, h, d)] * l.scale;
    logits[j] = s[j] * factor(b, i, j);
  }
  const max = Math.max(...logits);
  const lse = max + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - max), 0));
  return { s, p: logits.map((value) => Math.exp(value - lse)), lse };
}

const one: Factor = () => 1;

function forward(q: NDArray, k: NDArray, v: NDArray, l: Layout, onLogits: Factor, onProbabilities: Factor) {
  const o = ndarray(q.shape), lse = ndarray([l.B, l.H, l.N]); // [B, N, H·D], [B, H, N]
  for (let b = 0; b < l.B; b++) {
    for (let h = 0; h < l.H; h++) {
      for (let i = 0; i < l.N; i++) {
        const r = row(q, k, l, b, h, i, onLogits);
        lse.data[(b * l.H + h) * l.N + i] = r.lse;
        for (let j = 0; j < l.M; j++) {
          const weight = r.p[j] * onProbabilities(b, i, j);
          for (let d = 0; d < l.D; d++) o.data[l.qi(b, i, h, d)] += weight * v.data[l.ki(b, j, h, d)];
        }
      }
    }
  }
  return { o, lse };
}

function backward(
  dO: NDArray,
  q: NDArray,
  k: NDArray,
  v: NDArray,
  l: Layout,
  onLogits: Factor,
  onProbabilities: Factor,
): { q: NDArray; k: NDArray; v: NDArray } {
  const dq = ndarray(q.shape), dk = ndarray(k.shape), dv = ndarray(v.shape);
  for (let b = 0; b < l.B; b++) {
    for (let h = 0; h < l.H; h++) {
      for (let i = 0; i < l.N; i++) {
        const { p } = row(q, k, l, b, h, i, onLogits);
        const dp = new Float64Array(l.M);
        for (let j = 0; j < l.M; j++) {
          const after = onProbabilities(b, i, j);
          for (let d = 0; d < l.D; d++) {
            const g = dO.data[l.qi(b, i, h, d)];
            dp[j] += after * g * v.data[l.ki(b, j, h, d)];
            dv.data[l.ki(b, j, h, d)] += after * p[j] * g;
          }
        }
        const inner = p.reduce((sum, value, j) => sum + value * dp[j], 0);
        for (let j = 0; j < l.M; j++) {
          const ds = p[j] * (dp[j] - inner) * onLogits(b, i, j) * l.scale;
          for (let d = 0; d < l.D; d++) {
            dq.data[l.qi(b, i, h, d)] += ds * k.data[l.ki(b, j, h, d)];
            dk.data[l.ki(b, j, h, d)] += ds * q.data[l.qi(b, i, h, d)];
          }
        }
      }
    }
  }
  return { q: dq, k: dk, v: dv };
}

/** o = softmax(scale·q·kᵀ)·v per head → o [B, N, H·D] and lse [B, H, N], the log-sum-exp of each row of logits. */
export function attentionForward(
  q: NDArray,
  k: NDArray,
  v: NDArray,
  options: AttentionOptions,
): { o: NDArray; lse: NDArray } {
  return forward(q, k, v, layout(q, k, options), one, one);
}

/** Gradients of o of {@link attentionForward}. */
export function attentionBackward(
  dO: NDArray,
  q: NDArray,
  k: NDArray,
  v: NDArray,
  options: AttentionOptions,
): { q: NDArray; k: NDArray; v: NDArray } {
  return backward(dO, q, k, v, layout(q, k, options), one, one);
}

/**
 * The factor f[b, i, j] = 1 + columns[b, j]·(map[b, i] − 1): the map's value on chosen key columns, 1 on the others.
 * @param map weight per query position, [B, N]; without it every factor is 1
 * @param columns 1 on the key columns that are re-weighted, else 0, [B, M]; without it all are
 */
function reweighting(l: Layout, map?: NDArray, columns?: NDArray): Factor {
  if (!map) return one;
  return (b, i, j) => 1 + (columns ? columns.data[b * l.M + j] : 1) * (map.data[b * l.N + i] - 1);
}

/**
 * Cross-attention with re-weighting. In mode "logits" o = softmax(f·scale·q·kᵀ)·v; in mode "probabilities"
 * o = (f·softmax(scale·q·kᵀ))·v, whose rows no longer sum to 1.
 * @param map [B, N], @param columns [B, M]: see the factor's formula above; both are constants
 * @returns o [B, N, H·D]
 */
export function crossAttentionForward(
  q: NDArray,
  k: NDArray,
  v: NDArray,
  options: CrossAttentionOptions,
  map?: NDArray,
  columns?: NDArray,
): NDArray {
  const l = layout(q, k, options), f = reweighting(l, map, columns);
  return forward(q, k, v, l, options.mode === "logits" ? f : one, options.mode === "probabilities" ? f : one).o;
}

/** Gradients of {@link crossAttentionForward} for q, k and v. */
export function crossAttentionBackward(
  dO: NDArray,
  q: NDArray,
  k: NDArray,
  v: NDArray,
  options: CrossAttentionOptions,
  map?: NDArray,
  columns?: NDArray,
): { q: NDArray; k: NDArray; v: NDArray } {
  const l = layout(q, k, options), f = reweighting(l, map, columns);
  return backward(dO, q, k, v, l, options.mode === "logits" ? f : one, options.mode === "probabilities" ? f : one);
}
