/**
 * Linear layer, matrix product and 2-D convolution in float64, as the sums that define them.
 * Convolution is the cross-correlation of deep learning (Goodfellow et al., "Deep Learning", eq. 9.6), channels last.
 */
import { broadcastIndex, broadcastShapes, type NDArray, ndarray } from "../support/arrays.ts";

/** y[…, n] = Σₖ x[…, k]·w[k, n] + b[n].  x [..., K], w [K, N], b [N] → [..., N]. */
export function linearForward(x: NDArray, w: NDArray, b?: NDArray): NDArray {
  const [K, N] = w.shape;
  if (x.shape.at(-1) !== K) throw new Error(`linear: x [${x.shape}] does not end in ${K}, the rows of w`);
  const y = ndarray([...x.shape.slice(0, -1), N]); // [..., N]
  for (let row = 0; row < x.data.length / K; row++) {
    for (let n = 0; n < N; n++) {
      let sum = b ? b.data[n] : 0;
      for (let k = 0; k < K; k++) sum += x.data[row * K + k] * w.data[k * N + n];
      y.data[row * N + n] = sum;
    }
  }
  return y;
}

/** Gradients of {@link linearForward}: dx = dy·wᵀ, dw = xᵀ·dy, db = Σ over rows of dy. */
export function linearBackward(dy: NDArray, x: NDArray, w: NDArray): { x: NDArray; w: NDArray; b: NDArray } {
  const [K, N] = w.shape;
  const dx = ndarray(x.shape), dw = ndarray(w.shape), db = ndarray([N]);
  for (let row = 0; row < x.data.length / K; row++) {
    for (let n = 0; n < N; n++) {
      const d = dy.data[row * N + n];
      db.data[n] += d;
      for (let k = 0; k < K; k++) {
        dx.data[row * K + k] += d * w.data[k * N + n];
        dw.data[k * N + n] += d * x.data[row * K + k];
      }
    }
  }
  return { x: dx, w: dw, b: db };
}

/** Which factor of a matrix product is stored transposed: a as [..., K, M], b as [..., N, K]. */
export interface MatmulOptions {
  transposeA?: boolean;
  transposeB?: boolean;
}

/** Sizes, broadcast batches and element readers that forward and backward share. */
function matmulLayout(a: NDArray, b: NDArray, { transposeA = false, transposeB = false }: MatmulOptions) {
  const [a0, a1] = a.shape.slice(-2), [b0, b1] = b.shape.slice(-2);
  const M = transposeA ? a1 : a0, K = transposeA ? a0 : a1, N = transposeB ? b0 : b1;
  if ((transposeB ? b1 : b0) !== K) throw new Error(`matmul: [${a.shape}] and [${b.shape}] do not share K`);
  const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batchA = broadcastIndex(a.shape.slice(0, -2), batch), batchB = broadcastIndex(b.shape.slice(0, -2), batch);
  return {
    M,
    K,
    N,
    batch,
    batches: batchA.length,
    at: (i: number, m: number, k: number) => batchA[i] * M * K + (transposeA ? k * M + m : m * K + k),
    bt: (i: number, k: number, n: number) => batchB[i] * K * N + (transposeB ? n * K + k : k * N + n),
  };
}

/**
 * c[…, m, n] = Σₖ a[…, m, k]·b[…, k, n].  a [..., M, K], b [..., K, N] → [..., M, N]; leading axes broadcast.
 */
export function matmulForward(a: NDArray, b: NDArray, options: MatmulOptions = {}): NDArray {
  const { M, K, N, batch, batches, at, bt } = matmulLayout(a, b, options);
  const c = ndarray([...batch, M, N]);
  for (let i = 0; i < batches; i++) {
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += a.data[at(i, m, k)] * b.data[bt(i, k, n)];
        c.data[(i * M + m) * N + n] = sum;
      }
    }
  }
  return c;
}

/** Gradients of {@link matmulForward}: da = dc·bᵀ, db = aᵀ·dc, summed over broadcast batches. */
export function matmulBackward(
  dc: NDArray,
  a: NDArray,
  b: NDArray,
  options: MatmulOptions = {},
): { a: NDArray; b: NDArray } {
  const { M, K, N, batches, at, bt } = matmulLayout(a, b, options);
  const da = ndarray(a.shape), db = ndarray(b.shape);
  for (let i = 0; i < batches; i++) {
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        const d = dc.data[(i * M + m) * N + n];
        for (let k = 0; k < K; k++) {
          da.data[at(i, m, k)] += d * b.data[bt(i, k, n)];
          db.data[bt(i, k, n)] += d * a.data[at(i, m, k)];
        }
      }
    }
  }
  return { a: da, b: db };
}

/** Strides [sy, sx] (default 1, 1) and zero padding [top, bottom, left, right] (default 0) of a convolution. */
export interface Conv2dOptions {
  stride?: readonly [number, number];
  padding?: readonly [number, number, number, number];
}

/** Output size along one axis: how many kernel positions fit into the padded input. */
export function windowCount(size: number, before: number, after: number, kernel: number, stride: number): number {
  return Math.floor((size + before + after - kernel) / stride) + 1;
}

/** Calls `visit` with the flat index of x, w and y of every product in the convolution's sum; padding is skipped. */
function eachTap(
  xShape: readonly number[],
  wShape: readonly number[],
  { stride = [1, 1], padding = [0, 0, 0, 0] }: Conv2dOptions,
  visit: (x: number, w: number, y: number) => void,
): number[] {
  const [B, H, W, C] = xShape, [kh, kw, cin, O] = wShape;
  if (cin !== C) throw new Error(`conv2d: x [${xShape}] has ${C} channels, w [${wShape}] takes ${cin}`);
  const [top, bottom, left, right] = padding;
  const P = windowCount(H, top, bottom, kh, stride[0]), Q = windowCount(W, left, right, kw, stride[1]);
  for (let b = 0; b < B; b++) {
    for (let p = 0; p < P; p++) {
      for (let q = 0; q < Q; q++) {
        for (let i = 0; i < kh; i++) {
          const y = p * stride[0] + i - top;
          if (y < 0 || y >= H) continue;
          for (let j = 0; j < kw; j++) {
            const x = q * stride[1] + j - left;
            if (x < 0 || x >= W) continue;
            for (let c = 0; c < C; c++) {
              for (let o = 0; o < O; o++) {
                visit(((b * H + y) * W + x) * C + c, ((i * kw + j) * C + c) * O + o, ((b * P + p) * Q + q) * O + o);
              }
            }
          }
        }
      }
    }
  }
  return [B, P, Q, O];
}

/**
 * y[b, p, q, o] = b[o] + Σ x[b, p·sy + i − top, q·sx + j − left, c]·w[i, j, c, o], zero outside x.
 * x [B, H, W, C], w [kh, kw, C, O], b [O] → [B, P, Q, O].
 */
export function conv2dForward(x: NDArray, w: NDArray, b?: NDArray, options: Conv2dOptions = {}): NDArray {
  const [kh, kw, , O] = w.shape;
  const { stride = [1, 1], padding = [0, 0, 0, 0] } = options;
  const P = windowCount(x.shape[1], padding[0], padding[1], kh, stride[0]);
  const Q = windowCount(x.shape[2], padding[2], padding[3], kw, stride[1]);
  const y = ndarray([x.shape[0], P, Q, O]);
  if (b) y.data.forEach((_, i) => y.data[i] = b.data[i % O]);
  eachTap(x.shape, w.shape, options, (xi, wi, yi) => y.data[yi] += x.data[xi] * w.data[wi]);
  return y;
}

/** Gradients of {@link conv2dForward}: every product x·w of the sum sends dy·w to x and dy·x to w. */
export function conv2dBackward(
  dy: NDArray,
  x: NDArray,
  w: NDArray,
  options: Conv2dOptions = {},
): { x: NDArray; w: NDArray; b: NDArray } {
  const O = w.shape[3];
  const dx = ndarray(x.shape), dw = ndarray(w.shape), db = ndarray([O]);
  dy.data.forEach((d, i) => db.data[i % O] += d);
  eachTap(x.shape, w.shape, options, (xi, wi, yi) => {
    dx.data[xi] += dy.data[yi] * w.data[wi];
    dw.data[wi] += dy.data[yi] * x.data[xi];
  });
  return { x: dx, w: dw, b: db };
}
