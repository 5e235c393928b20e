/** linear, matmul and conv2d with their float64 references, on ordinary and awkward shapes. */
import { add, silu } from "../../src/graph/ops/pointwise.ts";
import { conv2d, linear, matmul } from "../../src/graph/ops/gemm.ts";
import { batchNormInference } from "../../src/graph/ops/norms.ts";
import {
  conv2dBackward,
  conv2dForward,
  linearBackward,
  linearForward,
  matmulBackward,
  matmulForward,
} from "../reference/gemm.ts";
import { batchNormInferenceForward } from "../reference/norms.ts";
import { addForward, siluForward } from "../reference/pointwise.ts";
import { normals, uniforms } from "./arrays.ts";
import type { OpCase } from "./ops.ts";

const linears: [number[], number, ("f32" | "f16")?][] = [
  [[1, 1], 1],
  [[3, 5], 7],
  [[2, 9, 16], 12],
  [[130, 64], 36],
  [[17, 8], 64, "f16"],
  [[5, 6], 10, "f16"],
  [[300000, 1], 1],
  // Several blocks of columns; then so much work that the tiles are larger.
  [[9, 8], 140],
  [[520, 128], 272],
  [[520, 128], 272, "f16"],
];
/** Every case; names start with the op. */
export const gemmCases: OpCase[] = linears.map(([x, n, dtype = "f32"]) => ({
  name: `linear [${x}] → ${n} ${dtype}`,
  inputs: [normals(x, "x"), normals([x.at(-1)!, n], "w")],
  dtypes: ["f32", dtype],
  build: linear,
  forward: (x, w) => linearForward(x, w),
  backward: (dy, x, w) => {
    const grads = linearBackward(dy, x, w);
    return [grads.x, grads.w];
  },
  backwardTolerance: x[0] > 1e5 ? 1e-4 : undefined,
}));

for (const [m, k, n] of [[1, 1, 1], [7, 13, 5], [16, 8, 12], [65, 20, 33]]) {
  for (const options of [{}, { transposeA: true }, { transposeB: true }]) {
    const a = options.transposeA ? [2, 3, k, m] : [2, 3, m, k], b = options.transposeB ? [2, 3, n, k] : [2, 3, k, n];
    gemmCases.push({
      name: `matmul ${m}×${k}×${n} ${JSON.stringify(options)}`,
      inputs: [normals(a, "a"), normals(b, "b")],
      build: (a, b) => matmul(a, b, options),
      forward: (a, b) => matmulForward(a, b, options),
      backward: (dy, a, b) => {
        const grads = matmulBackward(dy, a, b, options);
        return [grads.a, grads.b];
      },
    });
  }
}

const convolutions: [number[], number[], Parameters<typeof conv2d>[2]?, ("f32" | "f16")?][] = [
  [[1, 1, 1, 1], [1, 1, 1, 1]],
  [[2, 5, 7, 3], [3, 3, 3, 5], { padding: [1, 1, 1, 1] }],
  [[2, 8, 8, 8], [3, 3, 8, 12], { padding: [1, 1, 1, 1] }],
  [[2, 8, 8, 8], [3, 3, 8, 12], { padding: [1, 1, 1, 1] }, "f16"],
  [[1, 9, 6, 4], [3, 3, 4, 8], { stride: [2, 2], padding: [0, 1, 0, 1] }],
  [[1, 8, 8, 4], [3, 3, 4, 4], { stride: [2, 2], padding: [1, 1, 1, 1] }],
  [[1, 16, 16, 3], [7, 7, 3, 8], { stride: [2, 2], padding: [3, 3, 3, 3] }],
  [[2, 4, 4, 8], [1, 1, 8, 4], { stride: [2, 2] }],
  [[1, 6, 11, 5], [2, 3, 5, 7], { stride: [1, 3], padding: [1, 0, 2, 1] }],
  [[3, 8, 8, 16], [1, 1, 16, 24]],
  [[1, 40, 24, 4], [3, 3, 4, 4], { padding: [1, 1, 1, 1] }],
  [[2, 14, 14, 64], [3, 3, 64, 84], { padding: [1, 1, 1, 1] }],
  // Images smaller than a tile of rows.
  [[5, 3, 2, 4], [3, 3, 4, 8], { padding: [1, 1, 1, 1] }],
  [[9, 1, 1, 4], [3, 3, 4, 4], { padding: [1, 1, 1, 1] }],
  [[5, 3, 5, 4], [3, 3, 4, 4], { stride: [2, 2], padding: [1, 1, 1, 1] }],
  [[4, 5, 4, 4], [3, 3, 4, 4], { stride: [3, 2], padding: [2, 1, 2, 1] }],
  [[3, 6, 7, 3], [4, 2, 3, 2], { stride: [2, 3], padding: [3, 0, 1, 1] }],
];
for (const [x, w, options = {}, dtype = "f32"] of convolutions) {
  const full = { stride: [1, 1] as const, padding: [0, 0, 0, 0] as const, ...options };
  gemmCases.push({
    name: `conv2d [${x}] * [${w}] ${JSON.stringify(options)} ${dtype}`,
    inputs: [normals(x, "x"), normals(w, "w")],
    dtypes: ["f32", dtype],
    build: (x, w) => conv2d(x, w, options),
    forward: (x, w) => conv2dForward(x, w, undefined, full),
    backward: (dy, x, w) => {
      const grads = conv2dBackward(dy, x, w, full);
      return [grads.x, grads.w];
    },
  });
}

// Long sums of positive terms, whose rounding errors do not cancel: one running sum of all taps is off by 1.9e-6 and 1.2e-6.
for (const [x, w] of [[[1, 4, 4, 1280], [3, 3, 1280, 8]], [[1, 4, 4, 256], [3, 3, 256, 256]]]) {
  const padding = [1, 1, 1, 1] as const;
  gemmCases.push({
    name: `conv2d [${x}] * [${w}] of positive terms`,
    inputs: [uniforms(x, "x"), uniforms(w, "w")],
    build: (x, w) => conv2d(x, w, { padding }),
    forward: (x, w) => conv2dForward(x, w, undefined, { stride: [1, 1], padding }),
    tolerance: 6e-7,
  });
}

// More rows than one invocation's loops may have turns.
for (const batch of [1, 2]) {
  gemmCases.push({
    name: `matmul of ${batch} × 70000 rows, transposed`,
    inputs: [normals([batch, 70000, 2], "a"), normals([batch, 70000, 3], "b")],
    build: (a, b) => matmul(a, b, { transposeA: true }),
    forward: (a, b) => matmulForward(a, b, { transposeA: true }),
  });
}

// The planner fuses these chains into the GEMM's write.
for (const [shape, n] of [[[2, 3, 4, 8], 12], [[2, 4, 4, 8], 20], [[2, 3, 5, 7], 5]] as const) {
  for (
    const [kind, added] of [["column", [n]], ["group", [2, 1, 1, n]], ["residual", [...shape.slice(0, 3), n]]] as const
  ) {
    gemmCases.push({
      name: `linear [${shape}] → ${n} with fused ${kind} and silu`,
      inputs: [normals(shape, "x"), normals([shape[3], n], "w"), normals(added, kind)],
      build: (x, w, r) => silu(add(linear(x, w), r)),
      forward: (x, w, r) => siluForward(addForward(linearForward(x, w), r)),
    });
  }
}

for (const size of [[4, 6], [3, 5]]) {
  const x = [3, ...size, 8], w = [3, 3, 8, 12], padding = [1, 1, 1, 1] as const;
  gemmCases.push({
    name: `conv2d [${x}] with fused column, group, residual and silu`,
    inputs: [x, w, [12], [3, 1, 1, 12], [3, ...size, 12]].map((shape, i) => normals(shape, `fused ${i}`)),
    build: (x, w, b, t, r) => silu(add(add(add(conv2d(x, w, { padding }), b), t), r)),
    forward: (x, w, b, t, r) =>
      siluForward(addForward(addForward(conv2dForward(x, w, b, { stride: [1, 1], padding }), t), r)),
  });
}

for (const [shape, n, dtype = "f32"] of [[[2, 9, 8], 12], [[2, 9, 8], 12, "f16"], [[3, 5, 7], 5]] as const) {
  const tables = ["gamma", "beta", "mean"].map((name) => normals([n], name)), eps = 1e-5;
  gemmCases.push({
    name: `linear [${shape}] → ${n} ${dtype} with fused bias, norm by given statistics and silu`,
    inputs: [
      normals(shape, "x"),
      normals([shape[2], n], "w"),
      normals([n], "column"),
      ...tables,
      uniforms([n], "variance", 0.3, 2),
    ],
    dtypes: ["f32", dtype],
    build: (x, w, b, gamma, beta, mean, variance) =>
      batchNormInference(add(linear(x, w), b), gamma, beta, mean, variance, { eps, activation: "silu" }),
    forward: (x, w, b, gamma, beta, mean, variance) =>
      siluForward(batchNormInferenceForward(linearForward(x, w, b), gamma, beta, mean, variance, { eps })),
  });
}
