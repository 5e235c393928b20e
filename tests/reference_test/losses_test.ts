/** Gradients of the reference losses against central differences, and worked examples. */
import { assertClose, integers, map, ndarray, normals, scalar, uniforms } from "../support/arrays.ts";
import { checkGradients } from "../support/finite.ts";
import * as l from "../reference/losses.ts";

Deno.test("maskedMse: gradients by all pixels and by area, with an empty mask in the batch", () => {
  const mask = ndarray([3, 2, 2, 1], [1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
  for (const area of [false, true]) {
    checkGradients(
      `maskedMse ${area}`,
      ({ a, b }) => l.maskedMseForward(a, b, mask, { area }),
      (dy, { a, b }) => l.maskedMseBackward(dy, a, b, mask, { area }),
      { a: normals([3, 2, 2, 2], "a"), b: normals([3, 2, 2, 2], "b") },
    );
  }
});

Deno.test("maskedMse: divides by every element, or by the mask's area", () => {
  const a = ndarray([1, 2, 2, 1], [1, 2, 3, 4]), b = ndarray([1, 2, 2, 1]), mask = ndarray([1, 2, 2, 1], [1, 0, 0, 1]);
  assertClose(l.maskedMseForward(a, b, mask), scalar(17 / 4), 0);
  assertClose(l.maskedMseForward(a, b, mask, { area: true }), scalar(17 / 2), 0);
  const three = ndarray([3, 1, 2, 1], [1, 2, 3, 4, 5, 6]), masks = ndarray([3, 1, 2, 1], [1, 1, 0, 0, 0, 1]);
  const parts = [(1 + 4) / 2, 0, 36 / 1];
  const expected = scalar((parts[0] + parts[1] + parts[2]) / 3);
  assertClose(l.maskedMseForward(three, ndarray([3, 1, 2, 1]), masks, { area: true }), expected, 1e-15);
});

Deno.test("focalLoss: gradients for two and four classes", () => {
  for (const C of [2, 4]) {
    const labels = integers([2, 3], "labels", 0, C);
    checkGradients(
      `focal ${C}`,
      ({ x }) => l.focalLossForward(x, labels),
      (dy, { x }) => ({ x: l.focalLossBackward(dy, x, labels) }),
      { x: normals([2, 3, C], "logits") },
    );
  }
});

Deno.test("focalLoss: equal logits give p = 1/2 + smooth; no smoothing and gamma 0 is cross-entropy", () => {
  const p = 0.5 + 1e-5;
  assertClose(
    l.focalLossForward(ndarray([1, 2]), ndarray([1], 1)),
    scalar(-((1 - p) ** 2) * Math.log(p)),
    1e-15,
  );
  const logits = normals([5, 3], "logits"), labels = integers([5], "labels", 0, 3);
  const plain = l.focalLossForward(logits, labels, { gamma: 0, smooth: 0 });
  assertClose(plain, l.crossEntropyForward(logits, labels), 1e-14);
});

Deno.test("crossEntropy: gradient, and ln C for equal logits", () => {
  const labels = integers([4], "labels", 0, 5);
  checkGradients(
    "crossEntropy",
    ({ x }) => l.crossEntropyForward(x, labels),
    (dy, { x }) => ({ x: l.crossEntropyBackward(dy, x, labels) }),
    { x: normals([4, 5], "logits") },
  );
  assertClose(l.crossEntropyForward(ndarray([2, 5]), ndarray([2], [0, 4])), scalar(Math.log(5)), 1e-15);
});

Deno.test("mse: gradients, and the masked one where the mask is full", () => {
  const inputs = { a: normals([2, 2, 3, 2], "a"), b: normals([2, 2, 3, 2], "b") }, { a, b } = inputs;
  checkGradients("mse", ({ a, b }) => l.mseForward(a, b), (dy, { a, b }) => l.mseBackward(dy, a, b), inputs);
  assertClose(l.mseForward(ndarray([3], [1, 2, 3]), ndarray([3], [1, 0, 6])), scalar(13 / 3), 1e-15);
  assertClose(l.mseForward(a, b), l.maskedMseForward(a, b, ndarray([2, 2, 3, 1], 1)), 1e-15);
});

Deno.test("l1: gradients", () => {
  checkGradients("l1", ({ a, b }) => l.l1Forward(a, b), (dy, { a, b }) => l.l1Backward(dy, a, b), {
    a: normals([2, 5], "a"),
    b: normals([2, 5], "b"),
  });
});

Deno.test("klGaussian: gradient, zero for the standard Gaussian, clamped log-variance", () => {
  checkGradients(
    "kl",
    ({ x }) => l.klGaussianForward(x),
    (dy, { x }) => ({ x: l.klGaussianBackward(dy, x) }),
    { x: normals([2, 3, 6], "moments") },
  );
  assertClose(l.klGaussianForward(ndarray([2, 4])), scalar(0), 0);
  const low = ndarray([1, 2], [0, -40]);
  assertClose(l.klGaussianForward(low), scalar(0.5 * (Math.exp(-30) - 1 + 30)), 1e-15);
  assertClose(l.klGaussianBackward(scalar(1), low), ndarray([1, 2]), 0);
});

Deno.test("sampleGaussian: gradient, and the mean where the noise is zero", () => {
  const noise = normals([2, 3, 2], "noise");
  checkGradients(
    "sample",
    ({ x }) => l.sampleGaussianForward(x, noise),
    (dy, { x }) => ({ x: l.sampleGaussianBackward(dy, x, noise) }),
    { x: uniforms([2, 3, 4], "moments", -1, 1) },
  );
  const drawn = l.sampleGaussianForward(ndarray([1, 4], [1, 2, 0, 9]), map(ndarray([1, 2]), () => 0));
  assertClose(drawn, ndarray([1, 2], [1, 2]), 0);
});
