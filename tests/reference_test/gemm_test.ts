/** Gradients of the reference linear layer, matrix product and convolution: central differences and adjoint identities. */
import assert from "node:assert/strict";
import { assertClose, ndarray, normals } from "../support/arrays.ts";
import { checkAdjoint, checkGradients } from "../support/finite.ts";
import {
  conv2dBackward,
  conv2dForward,
  type Conv2dOptions,
  linearBackward,
  linearForward,
  matmulBackward,
  matmulForward,
  type MatmulOptions,
} from "../reference/gemm.ts";

Deno.test("linear: a worked example", () => {
  const x = ndarray([2, 2], [1, 2, 3, 4]), w = ndarray([2, 3], [1, 0, -1, 2, 1, 0]), b = ndarray([3], [10, 20, 30]);
  assertClose(linearForward(x, w, b), ndarray([2, 3], [15, 22, 29, 21, 24, 27]), 0);
});

Deno.test("linear: gradients and adjoints", () => {
  const inputs = { x: normals([2, 3, 5], "linear/x"), w: normals([5, 7], "linear/w"), b: normals([7], "linear/b") };
  checkGradients("linear", ({ x, w, b }) => linearForward(x, w, b), (dy, { x, w }) => linearBackward(dy, x, w), inputs);
  // Linear in each factor.
  const { x, w } = inputs;
  checkAdjoint("linear x", (v) => linearForward(v, w), (dy) => linearBackward(dy, x, w).x, x.shape);
  checkAdjoint("linear w", (v) => linearForward(x, v), (dy) => linearBackward(dy, x, w).w, w.shape);
});

Deno.test("matmul: gradients and adjoints for every transposition, with broadcast batches", () => {
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      const options: MatmulOptions = { transposeA, transposeB };
      const inputs = {
        a: normals([2, 1, ...(transposeA ? [4, 3] : [3, 4])], "matmul/a"),
        b: normals([3, ...(transposeB ? [5, 4] : [4, 5])], "matmul/b"),
      };
      assert.deepEqual(matmulForward(inputs.a, inputs.b, options).shape, [2, 3, 3, 5]);
      checkGradients(
        `matmul ${transposeA} ${transposeB}`,
        ({ a, b }) => matmulForward(a, b, options),
        (dy, { a, b }) => matmulBackward(dy, a, b, options),
        inputs,
      );
      const { a, b } = inputs, label = `matmul ${transposeA} ${transposeB}`;
      checkAdjoint(
        `${label} a`,
        (v) => matmulForward(v, b, options),
        (dy) => matmulBackward(dy, a, b, options).a,
        a.shape,
      );
      checkAdjoint(
        `${label} b`,
        (v) => matmulForward(a, v, options),
        (dy) => matmulBackward(dy, a, b, options).b,
        b.shape,
      );
    }
  }
});

Deno.test("matmul: a transposed factor means the same product", () => {
  const a = ndarray([2, 3], [1, 2, 3, 4, 5, 6]), at = ndarray([3, 2], [1, 4, 2, 5, 3, 6]);
  const b = ndarray([3, 1], [1, -1, 2]), bt = ndarray([1, 3], [1, -1, 2]);
  const expected = ndarray([2, 1], [5, 11]);
  assertClose(matmulForward(a, b), expected, 0);
  assertClose(matmulForward(at, bt, { transposeA: true, transposeB: true }), expected, 0);
});

const convolutions: { label: string; x: number[]; w: number[]; options: Conv2dOptions }[] = [
  { label: "3x3 same", x: [2, 4, 5, 3], w: [3, 3, 3, 2], options: { padding: [1, 1, 1, 1] } },
  { label: "1x1", x: [1, 3, 4, 5], w: [1, 1, 5, 3], options: {} },
  {
    label: "stride 2, padded right and bottom",
    x: [1, 6, 5, 2],
    w: [3, 3, 2, 3],
    options: { stride: [2, 2], padding: [0, 1, 0, 1] },
  },
  { label: "uneven everything", x: [1, 7, 6, 2], w: [2, 3, 2, 2], options: { stride: [3, 2], padding: [2, 0, 1, 2] } },
];

Deno.test("conv2d: gradients and adjoints", () => {
  for (const { label, x, w, options } of convolutions) {
    const inputs = { x: normals(x, `${label}/x`), w: normals(w, `${label}/w`), b: normals([w[3]], `${label}/b`) };
    checkGradients(
      `conv2d ${label}`,
      ({ x, w, b }) => conv2dForward(x, w, b, options),
      (dy, { x, w }) => conv2dBackward(dy, x, w, options),
      inputs,
    );
    checkAdjoint(
      `conv2d ${label}`,
      (v) => conv2dForward(v, inputs.w, undefined, options),
      (dy) => conv2dBackward(dy, inputs.x, inputs.w, options).x,
      x,
    );
    checkAdjoint(
      `conv2d ${label} w`,
      (v) => conv2dForward(inputs.x, v, undefined, options),
      (dy) => conv2dBackward(dy, inputs.x, inputs.w, options).w,
      w,
    );
  }
});

Deno.test("conv2d: asymmetric padding shifts the window", () => {
  const x = ndarray([1, 1, 3, 1], [1, 2, 3]), w = ndarray([1, 2, 1, 1], [10, 1]);
  const y = conv2dForward(x, w, undefined, { padding: [0, 0, 1, 0] });
  assertClose(y, ndarray([1, 1, 3, 1], [1, 12, 23]), 0);
});
