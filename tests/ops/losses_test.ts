/** Losses and the diagonal Gaussian on the GPU against their float64 references. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { crossEntropy, focalLoss, klGaussian, l1, maskedMse, mse, sampleGaussian } from "../../src/graph/ops/losses.ts";
import { constant, input } from "../../src/graph/variable.ts";
import {
  crossEntropyBackward,
  crossEntropyForward,
  focalLossBackward,
  focalLossForward,
  klGaussianBackward,
  klGaussianForward,
  l1Backward,
  l1Forward,
  maskedMseBackward,
  maskedMseForward,
  mseBackward,
  mseForward,
  sampleGaussianBackward,
  sampleGaussianForward,
} from "../reference/losses.ts";
import { assertClose, integers, map, type NDArray, ndarray, normals, reshape, scalar } from "../support/arrays.ts";
import { gpu, type OpCase, testOps } from "../support/ops.ts";

/** The engine's losses are [1], the references' are []. */
const asVector = (x: NDArray) => reshape(x, [1]);
const asScalar = (x: NDArray) => scalar(x.data[0]);
const pair = ({ a, b }: { a: NDArray; b: NDArray }) => [a, b];
const cases: OpCase[] = [];

for (const shape of [[1], [3, 5, 7], [2, 64, 64, 3]]) {
  const inputs = [normals(shape, "a"), normals(shape, "b")];
  cases.push({
    name: `mse [${shape}]`,
    inputs,
    build: mse,
    forward: (a, b) => asVector(mseForward(a, b)),
    backward: (dy, a, b) => pair(mseBackward(asScalar(dy), a, b)),
  }, {
    name: `l1 [${shape}]`,
    inputs,
    build: l1,
    forward: (a, b) => asVector(l1Forward(a, b)),
    backward: (dy, a, b) => pair(l1Backward(asScalar(dy), a, b)),
  });
}

for (const area of [false, true]) {
  for (const shape of [[1, 1, 1, 1], [3, 5, 7, 4], [2, 32, 32, 4]]) {
    // The first image's mask is empty where there are several.
    const mask = map(
      integers([...shape.slice(0, 3), 1], "mask", 0, 2),
      (value, i) => shape[0] > 1 && i < shape[1] * shape[2] ? 0 : shape[0] > 1 ? value : 0.5,
    );
    cases.push({
      name: `maskedMse [${shape}] ${area ? "by area" : "over all"}`,
      inputs: [normals(shape, "a"), normals(shape, "b"), mask],
      wrt: [0, 1],
      build: (a, b, m) => maskedMse(a, b, m, { area }),
      forward: (a, b, m) => asVector(maskedMseForward(a, b, m, { area })),
      backward: (dy, a, b, m) => pair(maskedMseBackward(asScalar(dy), a, b, m, { area })),
    });
  }
}

for (const [shape, scale] of [[[1, 2], 1], [[3, 5, 7, 2], 8], [[11, 13], 1], [[6, 1000], 30]] as const) {
  const logits = map(normals(shape, "logits"), (value) => Math.fround(scale * value));
  const labels = integers(shape.slice(0, -1), "labels", 0, shape.at(-1)!);
  const common = { inputs: [logits, labels], dtypes: ["f32", "u32"] as const };
  cases.push({
    ...common,
    name: `crossEntropy [${shape}] × ${scale}`,
    build: crossEntropy,
    forward: (x, t) => asVector(crossEntropyForward(x, t)),
    backward: (dy, x, t) => [crossEntropyBackward(asScalar(dy), x, t)],
  });
  for (const options of [{}, { gamma: 4, smooth: 0.1 }]) {
    cases.push({
      ...common,
      name: `focalLoss [${shape}] × ${scale} ${JSON.stringify(options)}`,
      build: (x, t) => focalLoss(x, t, options),
      forward: (x, t) => asVector(focalLossForward(x, t, options)),
      backward: (dy, x, t) => [focalLossBackward(asScalar(dy), x, t, options)],
    });
  }
}
{
  const alpha = [0.25, 2, 0.5];
  const logits = normals([40, 3], "logits"), labels = integers([40], "labels", 0, 3);
  cases.push({
    name: "focalLoss weighted by class",
    inputs: [logits, labels],
    dtypes: ["f32", "u32"],
    build: (x, t) => focalLoss(x, t, { alpha }),
    forward: (x, t) => {
      const rows = Array.from(t.data, (label, i) => {
        const row = ndarray([1, 3], x.data.slice(3 * i, 3 * i + 3));
        return alpha[label] * focalLossForward(row, ndarray([1], [label])).data[0];
      });
      return ndarray([1], [rows.reduce((a, b) => a + b) / 40]);
    },
  });
}

for (const shape of [[1, 2], [3, 5, 7, 6], [2, 8, 8, 8]]) {
  // Some log variances lie beyond the clamp at −30 and 20.
  const moments = map(
    normals(shape, "moments"),
    (value, i) => i % shape.at(-1)! < shape.at(-1)! / 2 ? value : i % 11 === 7 ? -31 : i % 13 === 9 ? 21 : value,
  );
  const noise = normals([...shape.slice(0, -1), shape.at(-1)! / 2], "noise");
  cases.push({
    name: `klGaussian [${shape}]`,
    inputs: [moments],
    build: klGaussian,
    forward: (m) => asVector(klGaussianForward(m)),
    backward: (dy, m) => [klGaussianBackward(asScalar(dy), m)],
  }, {
    name: `sampleGaussian [${shape}]`,
    inputs: [moments, noise],
    wrt: [0],
    build: sampleGaussian,
    forward: sampleGaussianForward,
    backward: (dy, m, n) => [sampleGaussianBackward(dy, m, n)],
  });
}

testOps(cases);

Deno.test({
  name: "focalLoss of 4,194,400 rows: more than 65,535 workgroups",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const rows = 4_194_400, logits = normals([32, 2], "x"), labels = integers([32], "t", 0, 2);
    const x = new Float32Array(2 * rows), t = new Uint32Array(rows);
    for (let at = 0; at < rows; at += 32) {
      x.set(logits.data, 2 * at);
      t.set(labels.data, at);
    }
    const variable = constant(x, [rows, 2]), loss = focalLoss(variable, constant(t));
    using program = compile(gpu, { loss, dx: gradient(loss, [variable])[0] });
    const result = await program.run();
    // Repeating the rows changes neither their mean nor, but for the number of rows, the gradient.
    assertClose({ shape: [1], data: result.loss }, asVector(focalLossForward(logits, labels)), 2e-5);
    const expected = focalLossBackward(scalar(1), logits, labels);
    for (const at of [0, 2 * rows - 64]) {
      const dx = result.dx.slice(at, at + 64).map((value) => value * rows / 32);
      assertClose({ shape: [32, 2], data: dx }, expected, 4e-5, `gradient from ${at}`);
    }
  },
});

Deno.test("losses name the shapes that do not fit", () => {
  const a = input("a", [2, 4, 4, 3]), b = input("b", [2, 4, 4, 2]);
  assert.throws(() => mse(a, b), /mse: shapes differ.*\[2, 4, 4, 3\].*\[2, 4, 4, 2\]/);
  assert.throws(() => maskedMse(a, a, b), /mask \[B, H, W, 1\]/);
  assert.throws(() => crossEntropy(a, input("labels", [2, 4, 4])), /u32 labels/);
  assert.throws(() => crossEntropy(a, input("labels", [2, 4], "u32")), /label per row/);
  assert.throws(() => focalLoss(b, input("labels", [2, 4, 4], "u32"), { alpha: [1] }), /weight per class/);
  for (const gamma of [3, 1.5, -2, NaN]) {
    const labels = input("labels", [2, 4, 4], "u32");
    assert.throws(
      () => focalLoss(b, labels, { gamma }),
      new RegExp(`focalLoss: needs an even whole gamma, not ${gamma}`),
    );
  }
  assert.throws(() => klGaussian(a), /2C/);
});
