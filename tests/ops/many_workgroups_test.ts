/**
 * More workgroups than one dimension of a dispatch holds (65,535), for every kernel that can have them within bindings of
 * 128 MiB; those of pointwise functions, reductions, layer norm, gather, permute and the losses stand in their own tests.
 * The input repeats itself along its first axis, so that one period's reference is the reference of everything.
 *
 * Not here: tiled attention, whose 4.2 million invocations would need bindings of 512 MiB, and weight gradients of layers,
 * which are split over 1,024 invocations at most (their kernel runs in batched products below).
 */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { crossAttention } from "../../src/graph/ops/attention.ts";
import { gatherRows } from "../../src/graph/ops/gather.ts";
import { geglu, prelu } from "../../src/graph/ops/geglu.ts";
import { conv2d, linear, matmul } from "../../src/graph/ops/gemm.ts";
import { klGaussian, sampleGaussian } from "../../src/graph/ops/losses.ts";
import { batchNormInference, groupNorm } from "../../src/graph/ops/norms.ts";
import { adamHyper, adamW, ema } from "../../src/graph/ops/optimise.ts";
import { maxPool } from "../../src/graph/ops/resample.ts";
import { dilate, reweightingMap } from "../../src/graph/ops/reweighting.ts";
import { concat, pad, slice } from "../../src/graph/ops/shape.ts";
import { logSoftmax } from "../../src/graph/ops/softmax.ts";
import { plan } from "../../src/graph/plan.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, input, readVariables, Variable } from "../../src/graph/variable.ts";
import { crossAttentionBackward, crossAttentionForward } from "../reference/attention.ts";
import { conv2dBackward, conv2dForward, linearBackward, linearForward } from "../reference/gemm.ts";
import { matmulBackward, matmulForward } from "../reference/gemm.ts";
import * as losses from "../reference/losses.ts";
import * as norms from "../reference/norms.ts";
import { adamInit, adamWStep } from "../reference/optimise.ts";
import { gegluBackward, gegluForward, preluBackward, preluForward } from "../reference/pointwise.ts";
import { maxPoolBackward, maxPoolForward } from "../reference/resample.ts";
import { dilateMask, officialWeightMap } from "../reference/reweighting.ts";
import { concatBackward, concatForward, padForward, sliceForward } from "../reference/shape.ts";
import { logSoftmaxBackward, logSoftmaxForward } from "../reference/softmax.ts";
import { assertClose, integers, map, type NDArray, ndarray, normals, reshape, uniforms } from "../support/arrays.ts";
import { gpu } from "../support/ops.ts";

/** Rows of a period: a prime, so that no workgroup and no tile begins where a period does. */
const PERIOD = 1021;

interface Case {
  readonly name: string;
  /** Kernels that must have more than 65,535 workgroups. */
  readonly kernels: readonly string[];
  readonly repeats: number;
  /** One period of each input; `whole` ones do not repeat. */
  readonly inputs: readonly NDArray[];
  readonly whole?: readonly number[];
  readonly dtypes?: readonly ("f32" | "u32" | undefined)[];
  readonly build: (...inputs: Tensor[]) => Tensor;
  readonly forward: (...inputs: NDArray[]) => NDArray;
  readonly backward?: (dy: NDArray, ...inputs: NDArray[]) => readonly NDArray[];
  /** Inputs with a gradient, in the order of `backward`. */
  readonly wrt?: readonly number[];
  /** The op averages over the first axis: one number, the same for every repeat. */
  readonly averages?: boolean;
  /** GEMM variant to take. */
  readonly variant?: string;
}

/** A period `times` times along the first axis. */
function repeated({ shape, data }: NDArray, times: number): { shape: number[]; data: Float32Array } {
  const one = Float32Array.from(data), all = new Float32Array(times * one.length);
  for (let k = 0; k < times; k++) all.set(one, k * one.length);
  return { shape: [times * shape[0], ...shape.slice(1)], data: all };
}

/** Fails unless every period of `actual` is the first one, and that one the reference. */
function assertRepeats(actual: Float32Array, expected: NDArray, label: string, tolerance = 4e-5): void {
  const size = expected.data.length, bits = new Uint32Array(actual.buffer, actual.byteOffset, actual.length);
  assertClose({ shape: expected.shape, data: actual.subarray(0, size) }, expected, tolerance, label);
  for (let i = size; i < bits.length; i++) {
    if (bits[i] !== bits[i % size]) assert.fail(`${label}: element ${i} is ${actual[i]}, not ${actual[i % size]}`);
  }
}

async function check(test: Case): Promise<void> {
  const { inputs, whole = [], repeats, averages = false } = test;
  const large = inputs.map((x, i) => whole.includes(i) ? { shape: x.shape, data: x.data } : repeated(x, repeats));
  const variables = large.map(({ shape, data }, i) => {
    const dtype = test.dtypes?.[i] ?? "f32";
    return new Variable(`input ${i}`, shape, dtype === "u32" ? Uint32Array.from(data) : Float32Array.from(data), dtype);
  });
  const y = test.build(...variables.map((v) => v.tensor)), expected = test.forward(...inputs);
  const dy = averages ? normals(y.shape, "dy") : normals(expected.shape, "dy"), outputs: Record<string, Tensor> = { y };
  if (test.backward) {
    const { shape, data } = averages ? dy : repeated(dy, repeats);
    const grads = gradient(y, test.wrt!.map((i) => variables[i].tensor), constant(Float32Array.from(data), shape));
    grads.forEach((grad, k) => outputs[`d${k}`] = grad);
  }
  const choices = new Map<string, string>(), workgroupBytes = gpu.device.limits.maxComputeWorkgroupStorageSize;
  if (test.variant) choices.get = () => test.variant;
  const { launches } = plan(Object.values(outputs), [], { choices, workgroupBytes, subgroups: false });
  for (const name of test.kernels) {
    const most = launches.filter(({ kernel }) => kernel.name === name).map(({ workgroups: [x, y, z] }) => x * y * z);
    assert.ok(Math.max(...most) > 65_535, `${name} has ${most} workgroups only`);
  }
  // Subgroups' tiles are larger, and would leave fewer workgroups.
  const { subgroups } = gpu;
  Object.assign(gpu, { choices, subgroups: false });
  using program = compile(gpu, outputs);
  Object.assign(gpu, { choices: new Map(), subgroups });
  const results = await program.run();
  for (const variable of variables) variable[Symbol.dispose]();
  assertRepeats(results.y, averages ? reshape(expected, y.shape) : expected, `${test.name} forward`);
  test.backward?.(averages ? reshape(dy, expected.shape) : dy, ...inputs).forEach((grad, k) => {
    const i = test.wrt![k], label = `${test.name} gradient ${i}`;
    if (averages) assertRepeats(results[`d${k}`].map((v) => v * repeats), grad, label);
    else if (!whole.includes(i)) assertRepeats(results[`d${k}`], grad, label);
    else assertRepeats(results[`d${k}`].map((v) => v / repeats), grad, label, 2e-4); // millions of float32 terms
  });
}

const P = PERIOD, CHANNELS = 61, MANY = 4120; // 1,021 · 4,120 rows, or 1,021 · 69 rows of 61, are 4.2 million
const group = { groups: 1, eps: 1e-5 }, heads = { heads: 1, mode: "logits" as const };
const padded = { stride: [1, 1] as const, padding: [1, 1, 1, 1] as const };
const pool = { kernel: [1, 2] as const, stride: [1, 1] as const };

const cases: Case[] = [
  {
    name: "products of 4.2 million batches",
    kernels: ["gemm", "gemm_weights"],
    repeats: MANY,
    inputs: [normals([P, 1, 1], "a"), normals([P, 1, 1], "b")],
    build: (a, b) => matmul(a, b),
    forward: (a, b) => matmulForward(a, b),
    backward: (dy, a, b) => Object.values(matmulBackward(dy, a, b)),
    wrt: [0, 1],
  },
  {
    name: "products of 70,000 batches, by workgroups that share their factors",
    kernels: ["gemm"],
    repeats: 69,
    inputs: [normals([P, 1, 2], "a"), normals([P, 2, 3], "b")],
    build: (a, b) => matmul(a, b),
    forward: (a, b) => matmulForward(a, b),
    variant: "4x4 shared",
  },
  {
    name: "a linear layer of 16.8 million rows",
    kernels: ["gemm"],
    repeats: 16440,
    inputs: [normals([P, 1], "x"), normals([1, 1], "w")],
    whole: [1],
    build: linear,
    forward: (x, w) => linearForward(x, w),
    backward: (dy, x, w) => [linearBackward(dy, x, w).x],
    wrt: [0],
    variant: "4x4",
  },
  {
    name: "a convolution over 16.8 million pixels",
    kernels: ["gemm"],
    repeats: 2740,
    inputs: [normals([P, 3, 2, 1], "x"), normals([3, 3, 1, 1], "w")],
    whole: [1],
    build: (x, w) => conv2d(x, w, padded),
    forward: (x, w) => conv2dForward(x, w, undefined, padded),
    backward: (dy, x, w) => [conv2dBackward(dy, x, w, padded).x],
    wrt: [0],
    variant: "4x4",
  },
  {
    name: "cross-attention of 4.2 million images",
    kernels: ["cross_attention"],
    repeats: MANY,
    inputs: [
      normals([P, 1, 1], "q"),
      normals([P, 2, 1], "k"),
      normals([P, 2, 1], "v"),
      uniforms([P, 1], "map", 0.5, 1.5),
    ],
    build: (q, k, v, map) => crossAttention(q, k, v, heads, map),
    forward: (q, k, v, map) => crossAttentionForward(q, k, v, heads, map),
    backward: (dy, q, k, v, map) => {
      const grads = crossAttentionBackward(dy, q, k, v, heads, map);
      return [grads.q, grads.k, grads.v];
    },
    wrt: [0, 1, 2],
  },
  {
    name: "group norm of 70,000 images",
    kernels: ["norm_columns", "norm_groups", "norm_apply"],
    repeats: 70,
    inputs: [normals([P, 1, 1, CHANNELS], "x"), normals([CHANNELS], "gamma"), normals([CHANNELS], "beta")],
    whole: [1, 2],
    build: (x, gamma, beta) => groupNorm(x, gamma, beta, group),
    forward: (x, gamma, beta) => norms.groupNormForward(x, gamma, beta, group),
    backward: (dy, x, gamma, beta) => {
      const grads = norms.groupNormBackward(dy, x, gamma, beta, group);
      return [grads.x, grads.gamma, grads.beta];
    },
    wrt: [0, 1, 2],
  },
  {
    name: "batch norm by running statistics of 70,000 images",
    kernels: ["norm_apply"],
    repeats: 70,
    inputs: [
      normals([P, 1, 1, CHANNELS], "x"),
      ...["gamma", "beta", "mean"].map((name) => normals([CHANNELS], name)),
      uniforms([CHANNELS], "variance", 0.5, 2),
    ],
    whole: [1, 2, 3, 4],
    build: (x, gamma, beta, mean, variance) => batchNormInference(x, gamma, beta, mean, variance, group),
    forward: (x, gamma, beta, mean, variance) => norms.batchNormInferenceForward(x, gamma, beta, mean, variance, group),
  },
  {
    name: "GEGLU's gradient",
    kernels: ["geglu"],
    repeats: MANY,
    inputs: [normals([P, 2], "x")],
    build: geglu,
    forward: gegluForward,
    backward: (dy, x) => [gegluBackward(dy, x)],
    wrt: [0],
  },
  {
    name: "PReLU",
    kernels: ["geglu"],
    repeats: 70,
    inputs: [normals([P, CHANNELS], "x"), normals([CHANNELS], "slope")],
    whole: [1],
    build: prelu,
    forward: preluForward,
    backward: (dy, x, slope) => Object.values(preluBackward(dy, x, slope)),
    wrt: [0, 1],
  },
  {
    name: "the gradient of picked rows",
    kernels: ["gather"],
    repeats: 70,
    inputs: [normals([P, 1, CHANNELS], "x"), ndarray([P, 2])],
    dtypes: [undefined, "u32"],
    build: gatherRows,
    forward: (x) =>
      ndarray(
        [P, 2, CHANNELS],
        Float64Array.from({ length: 2 * x.data.length }, (_, i) => {
          return x.data[Math.floor(i / (2 * CHANNELS)) * CHANNELS + i % CHANNELS];
        }),
      ),
    backward: (dy, x) => [map(x, (_, i) => {
      const at = 2 * CHANNELS * Math.floor(i / CHANNELS) + i % CHANNELS;
      return dy.data[at] + dy.data[at + CHANNELS];
    })],
    wrt: [0],
  },
  {
    name: "draws from a Gaussian",
    kernels: ["gaussian"],
    repeats: MANY,
    inputs: [normals([P, 2], "moments"), normals([P, 1], "noise")],
    build: sampleGaussian,
    forward: losses.sampleGaussianForward,
    backward: (dy, moments, noise) => [losses.sampleGaussianBackward(dy, moments, noise)],
    wrt: [0],
  },
  {
    name: "a Gaussian's KL divergence",
    kernels: ["gaussian"],
    repeats: MANY,
    inputs: [normals([P, 2], "moments")],
    build: klGaussian,
    forward: losses.klGaussianForward,
    backward: (dy, moments) => [losses.klGaussianBackward(dy, moments)],
    wrt: [0],
    averages: true,
  },
  {
    name: "log-softmax's gradient",
    kernels: ["softmax"],
    repeats: MANY,
    inputs: [normals([P, 2], "x")],
    build: logSoftmax,
    forward: logSoftmaxForward,
    backward: (dy, x) => [logSoftmaxBackward(dy, x)],
    wrt: [0],
  },
  {
    name: "max pooling",
    kernels: ["resample"],
    repeats: MANY,
    inputs: [normals([P, 1, 2, 1], "x")],
    build: (x) => maxPool(x, pool),
    forward: (x) => maxPoolForward(x, pool),
    backward: (dy, x) => [maxPoolBackward(dy, x, pool)],
    wrt: [0],
  },
  {
    name: "dilation",
    kernels: ["reweighting"],
    repeats: 700,
    inputs: [map(uniforms([P, 2, 3, 1], "mask"), (u) => (u < 0.2 ? 1 : 0)), ndarray([1], 1)],
    whole: [1],
    dtypes: ["f32", "u32"],
    build: dilate,
    forward: (mask) => dilateMask(mask, 1),
  },
  {
    name: "concatenation",
    kernels: ["shape"],
    repeats: MANY,
    inputs: [normals([P, 1], "a"), normals([P, 2], "b")],
    build: (a, b) => concat([a, b], 1),
    forward: (a, b) => concatForward([a, b], 1),
    backward: (dy, a, b) => concatBackward(dy, [a, b], 1),
    wrt: [0, 1],
  },
  {
    name: "a slice, padded",
    kernels: ["shape"],
    repeats: MANY,
    inputs: [normals([P, 3], "x")],
    build: (x) => pad(slice(x, 1, 1, 2), [[0, 0], [1, 2]]),
    forward: (x) => padForward(sliceForward(x, { starts: [0, 1], ends: [P, 2] }), { before: [0, 1], after: [0, 2] }),
    backward: (
      dy,
    ) => [padForward(sliceForward(dy, { starts: [0, 1], ends: [P, 2] }), { before: [0, 1], after: [0, 1] })],
    wrt: [0],
  },
];

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name: `many workgroups: ${name}`, fn, sanitizeOps: false, sanitizeResources: false });

for (const one of cases) test(one.name, () => check(one));

test("the re-weighting map of 64 large images", async () => {
  // Few images, since a workgroup makes the map of one; few pixels in a period, since an image is one.
  const shape = [1, 241, 293, 1], x = normals(shape, "x"), z0 = normals(shape, "z0"), mask = integers(shape, "m", 0, 2);
  const inputs = [x, z0, mask].map((one) => repeated(one, 64));
  const map = reweightingMap(...inputs.map(({ shape, data }) => constant(data, shape)) as [Tensor, Tensor, Tensor], {
    form: "official",
  });
  assert.ok(plan([map]).launches.some(({ workgroups: [x, y] }) => x * y > 65_535));
  using program = compile(gpu, { map });
  const expected = officialWeightMap({ x, z0, mask, timestep: 0, steps: 200 }).weights;
  assertRepeats((await program.run()).map, expected, "map");
});

test("AdamW and averages of 16.8 million weights", async () => {
  const repeats = 16440, options = { learningRate: 1e-2, weightDecay: 0.1 };
  const start = normals([P], "start"), g = normals([P], "g"), hyper = input("hyper", [8]);
  const { shape, data } = repeated(start, repeats);
  using parameter = new Variable("p", shape, data);
  using m = Variable.zeros("m", shape);
  using v = Variable.zeros("v", shape);
  using average = new Variable("average", shape, data);
  const gradient = constant(repeated(g, repeats).data, shape), decay = constant(Float32Array.of(0.5));
  const effects = [adamW({ parameter, gradient, m, v, hyper }), ema(average, parameter.tensor, decay)];
  for (const { workgroups: [x, y], kernel } of plan([], effects).launches) assert.ok(x * y > 65_535, kernel.name);
  using program = compile(gpu, {}, effects);
  program.step({ hyper: adamHyper(1, options) });
  const results = await readVariables([parameter, m, v, average]);
  const state = adamWStep(adamInit(start), g, { weightDecay: options.weightDecay, lr: options.learningRate });
  [state.parameter, state.m, state.v].forEach((expected, i) => assertRepeats(results[i], expected, "pmv"[i]));
  assertRepeats(results[3], map(start, (value, i) => 0.5 * (value + state.parameter.data[i])), "average");
});
