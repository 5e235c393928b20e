/** Gradients of the reference normalisations against central differences, and what normalising promises. */
import { assertClose, map, ndarray, normals, uniforms } from "../support/arrays.ts";
import { checkGradients } from "../support/finite.ts";
import {
  batchNormBackward,
  batchNormForward,
  batchNormInferenceBackward,
  batchNormInferenceForward,
  batchNormRunning,
  groupNormBackward,
  groupNormForward,
  type GroupNormOptions,
  layerNormBackward,
  layerNormForward,
} from "../reference/norms.ts";
import { meanForward, squareForward } from "../reference/pointwise.ts";

const affine = (C: number) => ({ gamma: normals([C], "norm/gamma"), beta: normals([C], "norm/beta") });
const ones = (C: number) => ndarray([C], 1);

Deno.test("groupNorm: gradients with and without SiLU, one group to one per channel", () => {
  for (const groups of [1, 2, 6]) {
    for (const activation of [undefined, "silu"] as const) {
      const options: GroupNormOptions = { groups, eps: 1e-3, activation };
      checkGradients(
        `groupNorm ${groups} ${activation}`,
        ({ x, gamma, beta }) => groupNormForward(x, gamma, beta, options),
        (dy, { x, gamma, beta }) => groupNormBackward(dy, x, gamma, beta, options),
        { x: normals([2, 3, 2, 6], "groupNorm/x"), ...affine(6) },
      );
    }
  }
});

Deno.test("groupNorm: each group of each image ends with mean 0 and variance 1", () => {
  const x = map(normals([2, 5, 4], "groupNorm/moments"), (value) => 3 * value + 7);
  const y = groupNormForward(x, ones(4), ndarray([4]), { groups: 2, eps: 0 });
  const grouped = ndarray([2, 5, 2, 2], y.data);
  assertClose(meanForward(grouped, [1, 3]), ndarray([2, 2], 0), 1e-12);
  assertClose(meanForward(squareForward(grouped), [1, 3]), ndarray([2, 2], 1), 1e-12);
});

Deno.test("layerNorm: gradients", () => {
  checkGradients(
    "layerNorm",
    ({ x, gamma, beta }) => layerNormForward(x, gamma, beta, { eps: 1e-3 }),
    (dy, { x, gamma }) => layerNormBackward(dy, x, gamma, { eps: 1e-3 }),
    { x: normals([2, 3, 7], "layerNorm/x"), ...affine(7) },
  );
});

Deno.test("layerNorm: a worked example", () => {
  const y = layerNormForward(ndarray([1, 2], [1, 3]), ndarray([2], [2, 4]), ndarray([2], [10, 20]), { eps: 0 });
  assertClose(y, ndarray([1, 2], [8, 24]), 1e-14);
});

Deno.test("batchNorm: gradients through the batch's statistics", () => {
  checkGradients(
    "batchNorm",
    ({ x, gamma, beta }) => batchNormForward(x, gamma, beta, { eps: 1e-3 }).y,
    (dy, { x, gamma }) => batchNormBackward(dy, x, gamma, { eps: 1e-3 }),
    { x: normals([2, 2, 3, 5], "batchNorm/x"), ...affine(5) },
  );
});

Deno.test("batchNormInference: gradients", () => {
  const mean = normals([5], "bni/mean"), variance = uniforms([5], "bni/variance", 0.5, 2);
  checkGradients(
    "batchNormInference",
    ({ x, gamma, beta }) => batchNormInferenceForward(x, gamma, beta, mean, variance, { eps: 1e-3 }),
    (dy, { x, gamma }) => batchNormInferenceBackward(dy, x, gamma, mean, variance, { eps: 1e-3 }),
    { x: normals([2, 3, 5], "bni/x"), ...affine(5) },
  );
});

Deno.test("batchNorm: training equals inference with the batch's own statistics", () => {
  const x = normals([3, 4, 2], "bn/same"), { gamma, beta } = affine(2);
  const { y, mean, variance } = batchNormForward(x, gamma, beta, { eps: 1e-5 });
  assertClose(batchNormInferenceForward(x, gamma, beta, mean, variance, { eps: 1e-5 }), y, 1e-13);
});

Deno.test("batchNorm: running statistics take a tenth of the batch's mean and unbiased variance", () => {
  const x = ndarray([3, 1], [0, 3, 6]);
  const batch = batchNormForward(x, ones(1), ndarray([1]), { eps: 0 });
  const running = batchNormRunning({ mean: ndarray([1], 2), variance: ndarray([1], 5) }, batch, { count: 3 });
  assertClose(running.mean, ndarray([1], 0.9 * 2 + 0.1 * 3), 1e-15);
  assertClose(running.variance, ndarray([1], 0.9 * 5 + 0.1 * 9), 1e-15);
});
