/** Derivatives of the reference element-wise functions, softmax and reductions against central differences. */
import assert from "node:assert/strict";
import { assertClose, map, type NDArray, ndarray, normals, scalar, uniforms } from "../support/arrays.ts";
import { checkAdjoint, checkGradients } from "../support/finite.ts";
import * as p from "../reference/pointwise.ts";
import {
  logSoftmaxBackward,
  logSoftmaxForward,
  logSumExp,
  softmaxBackward,
  softmaxForward,
} from "../reference/softmax.ts";

type Unary = [string, (x: NDArray) => NDArray, (dy: NDArray, x: NDArray) => NDArray, "positive"?];
const unaries: Unary[] = [
  ["silu", p.siluForward, p.siluBackward],
  ["gelu", p.geluForward, p.geluBackward],
  ["relu", p.reluForward, p.reluBackward],
  ["leakyRelu", (x) => p.leakyReluForward(x, 0.2), (dy, x) => p.leakyReluBackward(dy, x, 0.2)],
  ["sigmoid", p.sigmoidForward, p.sigmoidBackward],
  ["tanh", p.tanhForward, p.tanhBackward],
  ["exp", p.expForward, p.expBackward],
  ["log", p.logForward, p.logBackward, "positive"],
  ["sqrt", p.sqrtForward, p.sqrtBackward, "positive"],
  ["rsqrt", p.rsqrtForward, p.rsqrtBackward, "positive"],
  ["square", p.squareForward, p.squareBackward],
  ["negate", p.negateForward, p.negateBackward],
  ["abs", p.absForward, p.absBackward],
  ["erf", p.erfForward, p.erfBackward],
  ["clamp", (x) => p.clampForward(x, -0.5, 0.8), (dy, x) => p.clampBackward(dy, x, -0.5, 0.8)],
  ["geglu", p.gegluForward, p.gegluBackward],
  ["softmax", softmaxForward, softmaxBackward],
  ["logSoftmax", logSoftmaxForward, logSoftmaxBackward],
];

for (const [name, forward, backward, domain] of unaries) {
  Deno.test(`${name}: gradient`, () => {
    const x = domain ? uniforms([3, 2, 6], name, 0.5, 3) : map(normals([3, 2, 6], name), (value) => 1.5 * value);
    checkGradients(name, ({ x }) => forward(x), (dy, { x }) => ({ x: backward(dy, x) }), { x });
  });
}

Deno.test("prelu: gradients", () => {
  checkGradients(
    "prelu",
    ({ x, slope }) => p.preluForward(x, slope),
    (dy, { x, slope }) => p.preluBackward(dy, x, slope),
    { x: normals([2, 3, 5], "prelu/x"), slope: normals([5], "prelu/slope") },
  );
});

Deno.test("erf: known values (Abramowitz & Stegun table 7.1), odd, and continuous where its two forms meet", () => {
  const known: [number, number][] = [[0, 0], [0.5, 0.5204998778130465], [1, 0.8427007929497149], [
    2,
    0.9953222650189527,
  ]];
  for (const [x, value] of known) assert.ok(Math.abs(p.erf(x) - value) < 1e-15, `erf(${x}) = ${p.erf(x)}`);
  assert.ok(Math.abs(p.erf(3) - 0.9999779095030014) < 1e-15);
  assert.ok(Math.abs(p.erf(3) - p.erf(3 - 1e-13)) < 1e-15);
  assert.equal(p.erf(-1.25), -p.erf(1.25));
  assert.equal(p.erf(30), 1);
});

Deno.test("kinks take the derivatives that the file states", () => {
  const zero = scalar(0), one = scalar(1);
  assert.equal(p.reluBackward(one, zero).data[0], 0);
  assert.equal(p.absBackward(one, zero).data[0], 0);
  assert.equal(p.leakyReluBackward(one, zero, 0.2).data[0], 0.2);
  assert.equal(p.clampBackward(one, zero, 0, 1).data[0], 1);
  assert.equal(p.maximumBackward(one, zero, zero).a.data[0], 0.5);
});

type Binary = [
  string,
  (a: NDArray, b: NDArray) => NDArray,
  (dy: NDArray, a: NDArray, b: NDArray) => { a: NDArray; b: NDArray },
];
const binaries: Binary[] = [
  ["add", p.addForward, p.addBackward],
  ["sub", p.subForward, p.subBackward],
  ["mul", p.mulForward, p.mulBackward],
  ["div", p.divForward, p.divBackward],
  ["maximum", p.maximumForward, p.maximumBackward],
  ["minimum", p.minimumForward, p.minimumBackward],
];

for (const [name, forward, backward] of binaries) {
  Deno.test(`${name}: gradients, equal and broadcast shapes`, () => {
    const shapes = [[[2, 3], [2, 3]], [[2, 3, 4], [4]], [[2, 1, 4], [3, 1]], [[], [2, 3]], [[2, 3], [1]]];
    for (const [sa, sb] of shapes) {
      const a = normals(sa, `${name}/a`), b = uniforms(sb, `${name}/b`, 0.5, 2);
      checkGradients(
        `${name} [${sa}] [${sb}]`,
        ({ a, b }) => forward(a, b),
        (dy, { a, b }) => backward(dy, a, b),
        { a, b },
      );
    }
  });
}

Deno.test("broadcasting refuses shapes that do not fit", () => {
  assert.throws(() => p.addForward(ndarray([2, 3]), ndarray([2])), /\[2,3\] and \[2\] do not broadcast/);
});

Deno.test("sum and mean: shapes, values and adjoints", () => {
  const x = ndarray([2, 3], [1, 2, 3, 4, 5, 6]);
  assertClose(p.sumForward(x), scalar(21), 0);
  assertClose(p.sumForward(x, [0]), ndarray([3], [5, 7, 9]), 0);
  assertClose(p.sumForward(x, [-1], true), ndarray([2, 1], [6, 15]), 0);
  assertClose(p.meanForward(x, [1]), ndarray([2], [2, 5]), 0);
  const shape = [2, 3, 1, 4], zero = ndarray(shape);
  for (const axes of [[0], [1, 3], [-1], [0, 1, 2, 3]]) {
    for (const keep of [false, true]) {
      checkAdjoint(`sum ${axes}`, (v) => p.sumForward(v, axes, keep), (dy) => p.sumBackward(dy, zero, axes), shape);
      checkAdjoint(`mean ${axes}`, (v) => p.meanForward(v, axes, keep), (dy) => p.meanBackward(dy, zero, axes), shape);
    }
  }
});

Deno.test("softmax: rows sum to 1, and a common shift or a huge logit does no harm", () => {
  const x = normals([4, 7], "softmax/x");
  assertClose(p.sumForward(softmaxForward(x), [1]), ndarray([4], 1), 1e-14);
  assertClose(softmaxForward(map(x, (value) => value + 1000)), softmaxForward(x), 1e-12);
  assertClose(softmaxForward(ndarray([1, 2], [5000, 0])), ndarray([1, 2], [1, 0]), 0);
  assertClose(logSumExp(ndarray([1, 2], [5000, 5000])), ndarray([1], 5000 + Math.log(2)), 1e-15);
});
