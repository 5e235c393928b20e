/**
 * Every forward op that has an ONNX counterpart, on the GPU against onnxruntime-web: a second opinion that knows neither our
 * kernels nor our references.
 */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { attention, crossAttention } from "../../src/graph/ops/attention.ts";
import { embedding, gatherRows } from "../../src/graph/ops/gather.ts";
import { geglu, prelu } from "../../src/graph/ops/geglu.ts";
import { conv2d, linear, matmul } from "../../src/graph/ops/gemm.ts";
import { crossEntropy, focalLoss, klGaussian, l1, maskedMse, mse, sampleGaussian } from "../../src/graph/ops/losses.ts";
import * as every from "../../src/graph/ops/mod.ts";
import { batchNorm, batchNormInference, groupNorm, layerNorm } from "../../src/graph/ops/norms.ts";
import { globalNorm } from "../../src/graph/ops/optimise.ts";
import * as pointwise from "../../src/graph/ops/pointwise.ts";
import { mean, sum } from "../../src/graph/ops/reduce.ts";
import * as resample from "../../src/graph/ops/resample.ts";
import { dilate, distanceWeights, reweightingMap } from "../../src/graph/ops/reweighting.ts";
import { concat, pad, permute, slice } from "../../src/graph/ops/shape.ts";
import { logSoftmax, softmax } from "../../src/graph/ops/softmax.ts";
import { plan } from "../../src/graph/plan.ts";
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

/** Ops by the names of the cases, which are those of `src/graph/ops/mod.ts`, and `fused`, which are several in one launch. */
const ops: Record<string, Build> = {
  linear: ({ x, w, b }) => pointwise.add(linear(x, w), b),
  matmul: ({ a, b }, { transposeA, transposeB }) =>
    // Both sides transposed is a product the other way round, transposed.
    transposeA && transposeB ? permute(matmul(b, a), [0, 2, 1]) : matmul(a, b, { transposeA, transposeB }),
  conv2d: ({ x, w, b }, options) => pointwise.add(conv2d(x, w, options), b),
  fused: ({ x, w, b, time, residual, gamma, beta, mean, variance }, { activation, eps, ...options }) => {
    const convolved = pointwise.add(conv2d(x, w, options), b);
    if (gamma) return batchNormInference(convolved, gamma, beta, mean, variance, { eps, activation });
    const y = [time, residual].reduce(pointwise.add, convolved);
    return activation === "silu" ? pointwise.silu(y) : pointwise.relu(y);
  },
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
  affine: ({ x }, { scale, shift }) => pointwise.affine(x, scale, shift),
  broadcastTo: ({ x }, { shape }) => pointwise.broadcastTo(x, shape),
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
  globalNorm: ({ a, b }) => globalNorm([a, b]),
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
  embedding: ({ table, ids }) => embedding(table, ids),
  gatherRows: ({ x, ids }) => gatherRows(x, ids),
  l1: two(l1),
  mse: two(mse),
  maskedMse: ({ a, b, mask }, options) => maskedMse(a, b, mask, options),
  crossEntropy: ({ logits, labels }) => crossEntropy(logits, labels),
  focalLoss: ({ logits, labels }, options) => focalLoss(logits, labels, options),
  klGaussian: ({ moments }) => klGaussian(moments),
  sampleGaussian: ({ moments, noise }) => sampleGaussian(moments, noise),
  dilate: ({ mask }, { half }) => dilate(mask, half),
  distanceWeights: ({ distance, mask }, options) => distanceWeights(distance, mask, options),
  reweightingMap: ({ x, z0, mask }, options) => reweightingMap(x, z0, mask, options),
};

/** What `src/graph/ops/mod.ts` exports beside these, and why it has no case. */
const exceptions: Record<string, string> = {
  adam: "an effect on variables, which ONNX graphs lack",
  adamW: "an effect on variables, which ONNX graphs lack",
  assign: "an effect on variables, which ONNX graphs lack",
  ema: "an effect on variables, which ONNX graphs lack",
  adamHyper: "numbers for a step of Adam, no op",
  clipByGlobalNorm: "several tensors; a globalNorm and products",
  scaleBy: "several tensors, each a product",
  nonFinite: "counts what is not finite, and the numbers of cases are",
  isFinite: "a nonFinite, limited to 1",
  reshape: "no kernel",
  transpose: "a permute",
  sumRows: "a sum",
  sumTo: "a sum; ONNX broadcasts one way only",
};

/** What the references cover and the engine does without: erf alone, slices with steps. */
const without = ({ op, options }: OnnxCase) => op === "erf" || (options.steps as number[] ?? []).some((n) => n !== 1);

const indices = new Set(["ids", "labels"]);

/** Variables of a case's inputs. */
function leaves({ inputs, half }: OnnxCase): Record<string, Variable> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, data }]) => {
      if (indices.has(name)) return [name, new Variable(name, shape, Uint32Array.from(data), "u32")];
      return [name, new Variable(name, shape, Float32Array.from(data), half?.includes(name) ? "f16" : "f32")];
    }),
  );
}

/** Result of a case's op. */
function result({ op, options }: OnnxCase, variables: Record<string, Variable>): Tensor {
  return ops[op](Object.fromEntries(Object.entries(variables).map(([name, { tensor }]) => [name, tensor])), options);
}

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
      const outputs = Object.fromEntries(cases.map((item, i) => {
        const own = leaves(item);
        variables.push(...Object.values(own));
        return [`case ${i}`, result(item, own)];
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

Deno.test("onnx: every op has a case, or a reason why not", () => {
  const exported = Object.keys(every), known = (name: string) => name in ops || name in exceptions;
  assert.deepEqual(exported.filter((name) => !known(name)), [], "neither a case nor a reason");
  assert.deepEqual(
    Object.keys(exceptions).filter((name) => name in ops || !exported.includes(name)),
    [],
    "no exceptions",
  );
  assert.deepEqual(Object.keys(ops).filter((name) => !exported.includes(name)), ["fused"]);
});

Deno.test("onnx: cases reach the tiled attention, f16 weights and whole epilogues", () => {
  const launches = (item: OnnxCase) => plan([result(item, leaves(item))]).launches;
  const of = (name: string) => wanted.filter(({ op }) => op === name);
  const keys = of("attention").filter((item) => launches(item).every(({ kernel }) => kernel.name === "attention"));
  assert.deepEqual(keys.map(({ inputs: { k } }) => k.shape[1]), [256, 261, 261]);
  for (const op of ["linear", "conv2d"]) {
    const vector = of(op).map(launches).filter(([{ defines }]) => defines.HALF).map(([{ defines }]) => defines.VECTOR);
    assert.deepEqual(vector.toSorted(), [false, true], op);
  }
  for (const item of of("fused")) {
    assert.deepEqual(launches(item).map(({ kernel }) => kernel.name), ["gemm"], item.label);
  }
});
