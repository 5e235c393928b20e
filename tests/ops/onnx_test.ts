/**
 * Every forward op that has an ONNX counterpart, on the GPU against onnxruntime-web: a second opinion that knows neither our
 * kernels nor our references.
 */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { attention, crossAttention } from "../../src/graph/ops/attention.ts";
import { embedding } from "../../src/graph/ops/gather.ts";
import { geglu, prelu } from "../../src/graph/ops/geglu.ts";
import { conv2d, linear, matmul } from "../../src/graph/ops/gemm.ts";
import { crossEntropy, l1, maskedMse } from "../../src/graph/ops/losses.ts";
import { batchNorm, batchNormInference, groupNorm, layerNorm } from "../../src/graph/ops/norms.ts";
import * as pointwise from "../../src/graph/ops/pointwise.ts";
import { mean, sum } from "../../src/graph/ops/reduce.ts";
import * as resample from "../../src/graph/ops/resample.ts";
import { concat, pad, permute, slice } from "../../src/graph/ops/shape.ts";
import { logSoftmax, softmax } from "../../src/graph/ops/softmax.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { Variable } from "../../src/graph/variable.ts";
import { assertClose } from "../support/arrays.ts";
import { type OnnxCase, onnxCases } from "../support/onnx_cases.ts";
import { gpu } from "../support/ops.ts";

/** Float32 on both sides, summed in different orders. */
const TOLERANCE = 1e-5;

type Inputs = Record<string, Tensor>;
// deno-lint-ignore no-explicit-any -- each op knows its own options; the table of cases cannot.
type Options = any;
type Build = (inputs: Inputs, options: Options) => Tensor;

const one = (op: (x: Tensor) => Tensor): Build => ({ x }) => op(x);
const two = (op: (a: Tensor, b: Tensor) => Tensor): Build => ({ a, b }) => op(a, b);
const sized =
  (op: (x: Tensor, size: [number, number], options: Options) => Tensor): Build => ({ x }, { size, ...rest }) =>
    op(x, size, rest);

/** Ops by the names of the cases. */
const ops: Record<string, Build> = {
  linear: ({ x, w, b }) => pointwise.add(linear(x, w), b),
  matmul: ({ a, b }, { transposeA, transposeB }) =>
    // Both sides transposed is a product the other way round, transposed.
    transposeA && transposeB ? permute(matmul(b, a), [0, 2, 1]) : matmul(a, b, { transposeA, transposeB }),
  conv2d: ({ x, w, b }, options) => pointwise.add(conv2d(x, w, options), b),
  groupNorm: ({ x, gamma, beta }, options) => groupNorm(x, gamma, beta, options),
  layerNorm: ({ x, gamma, beta }, options) => layerNorm(x, gamma, beta, options),
  batchNorm: ({ x, gamma, beta }, options) => batchNorm(x, gamma, beta, options).y,
  batchNormInference: ({ x, gamma, beta, mean, variance }, options) =>
    batchNormInference(x, gamma, beta, mean, variance, options),
  attention: ({ q, k, v }, options) => attention(q, k, v, options),
  crossAttention: ({ q, k, v, map, columns }, options) => crossAttention(q, k, v, options, map, columns),
  softmax: one(softmax),
  logSoftmax: one(logSoftmax),
  silu: one(pointwise.silu),
  gelu: one(pointwise.gelu),
  geglu: one(geglu),
  relu: one(pointwise.relu),
  leakyRelu: ({ x }, { slope }) => pointwise.leakyRelu(x, slope),
  prelu: ({ x, slope }) => prelu(x, slope),
  sigmoid: one(pointwise.sigmoid),
  tanh: one(pointwise.tanh),
  exp: one(pointwise.exp),
  log: one(pointwise.log),
  sqrt: one(pointwise.sqrt),
  rsqrt: one(pointwise.rsqrt),
  square: one(pointwise.square),
  negate: one(pointwise.negate),
  abs: one(pointwise.abs),
  clamp: ({ x }, { lo, hi }) => pointwise.clamp(x, lo, hi),
  add: two(pointwise.add),
  sub: two(pointwise.sub),
  mul: two(pointwise.mul),
  div: two(pointwise.div),
  maximum: two(pointwise.maximum),
  minimum: two(pointwise.minimum),
  sum: ({ x }, { axes, keepDims }) => sum(x, axes, keepDims),
  mean: ({ x }, { axes, keepDims }) => mean(x, axes, keepDims),
  resizeNearest: sized(resample.resizeNearest),
  resizeBilinear: sized(resample.resizeBilinear),
  maxPool: ({ x }, options) => resample.maxPool(x, options),
  averagePool: ({ x }, options) => resample.averagePool(x, options),
  pixelShuffle: ({ x }, { factor }) => resample.pixelShuffle(x, factor),
  pixelUnshuffle: ({ x }, { factor }) => resample.pixelUnshuffle(x, factor),
  concat: ({ a, b }, { axis }) => concat([a, b], axis),
  slice: ({ x }, { starts, ends }) =>
    starts.reduce((part: Tensor, start: number, axis: number) => slice(part, axis, start, ends[axis]), x),
  pad: ({ x }, { before, after }) => pad(x, before.map((n: number, axis: number) => [n, after[axis]])),
  permute: ({ x }, { axes }) => permute(x, axes),
  gather: ({ table, ids }) => embedding(table, ids),
  l1: two(l1),
  maskedMse: ({ a, b, mask }) => maskedMse(a, b, mask),
  crossEntropy: ({ logits, labels }) => crossEntropy(logits, labels),
};

/** What the references cover and the engine does without: erf alone, slices with steps. */
const without = ({ op, options }: OnnxCase) => op === "erf" || (options.steps as number[] ?? []).some((n) => n !== 1);

const indices = new Set(["ids", "labels"]);
const wanted = onnxCases.filter((item) => !without(item));

for (const op of new Set(wanted.map((item) => item.op))) {
  Deno.test({
    name: `onnx: ${op}`,
    // One device serves all tests of a file.
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      assert.ok(ops[op], `${op} has no row in this test`);
      const cases = wanted.filter((item) => item.op === op);
      const variables: Variable[] = [];
      const outputs = Object.fromEntries(cases.map(({ inputs, options }, i) => {
        const tensors = Object.entries(inputs).map(([name, { shape, data }]) => {
          const values = indices.has(name) ? Uint32Array.from(data) : Float32Array.from(data);
          const variable = new Variable(`${name} ${i}`, shape, values, indices.has(name) ? "u32" : "f32");
          variables.push(variable);
          return [name, variable.tensor];
        });
        return [`case ${i}`, ops[op](Object.fromEntries(tensors), options)];
      }));
      using program = compile(gpu, outputs);
      const results = await program.run();
      for (const variable of variables) variable[Symbol.dispose]();
      for (const [i, { label, expected }] of cases.entries()) {
        const y = await expected(), name = `case ${i}`;
        // Losses are tensors of shape [1] here and scalars there.
        const shape = y.data.length === 1 ? y.shape : outputs[name].shape;
        assertClose({ shape, data: results[name] }, y, TOLERANCE, `${op} ${label}`);
      }
    },
  });
}

Deno.test("onnx: every row of this test's table has a case", () => {
  const known = new Set(wanted.map((item) => item.op));
  assert.deepEqual(Object.keys(ops).filter((op) => !known.has(op)), []);
});
