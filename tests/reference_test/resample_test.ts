/** Adjoint identities and worked examples of the reference resizing, pooling and pixel shuffling. */
import assert from "node:assert/strict";
import { assertClose, type NDArray, ndarray, normals } from "../support/arrays.ts";
import { checkAdjoint, checkGradients } from "../support/finite.ts";
import * as r from "../reference/resample.ts";

const row = (...values: number[]) => ndarray([1, 1, values.length, 1], values);

Deno.test("resize: worked rows, equal to torch.nn.functional.interpolate", () => {
  const x = row(0, 10, 20, 30);
  assertClose(r.resizeNearestForward(x, { size: [1, 6] }), row(0, 0, 10, 20, 20, 30), 0);
  assertClose(r.resizeNearestForward(x, { size: [1, 3] }), row(0, 10, 20), 0);
  assertClose(r.resizeBilinearForward(row(0, 10), { size: [1, 4] }), row(0, 2.5, 7.5, 10), 1e-14);
  assertClose(
    r.resizeBilinearForward(row(0, 10), { size: [1, 5], alignCorners: true }),
    row(0, 2.5, 5, 7.5, 10),
    1e-14,
  );
  assertClose(r.resizeBilinearForward(x, { size: [1, 2] }), row(5, 25), 1e-14);
  assertClose(r.resizeBilinearForward(x, { size: [1, 1], alignCorners: true }), row(0), 0);
  // A triangle of half-width 2 round 1: weights 0.75, 0.75, 0.25 of pixels 0, 1, 2 (pixel 3 is at distance 2.5).
  assertClose(r.resizeBilinearForward(x, { size: [1, 2], antialias: true }), row(50 / 7, 160 / 7), 1e-14);
});

Deno.test("resize: reducing 8 times without antialias is the mean of the central 2x2 pixels", () => {
  const x = normals([1, 16, 16, 1], "resize/8"), y = r.resizeBilinearForward(x, { size: [2, 2] });
  const at = (i: number, j: number) => x.data[i * 16 + j];
  const cell = (i: number, j: number) =>
    (at(i + 3, j + 3) + at(i + 3, j + 4) + at(i + 4, j + 3) + at(i + 4, j + 4)) / 4;
  assertClose(y, ndarray([1, 2, 2, 1], [cell(0, 0), cell(0, 8), cell(8, 0), cell(8, 8)]), 1e-14);
});

Deno.test("resize: adjoints, up and down and both", () => {
  const shape = [2, 5, 4, 3], zero = ndarray(shape);
  for (const size of [[8, 7], [2, 3], [3, 9], [1, 1], [5, 4]] as [number, number][]) {
    checkAdjoint(
      "nearest",
      (v) => r.resizeNearestForward(v, { size }),
      (d) => r.resizeNearestBackward(d, zero, { size }),
      shape,
    );
    for (const flags of [{}, { alignCorners: true }, { antialias: true }]) {
      const options = { size, ...flags };
      checkAdjoint(
        `bilinear ${size} ${JSON.stringify(flags)}`,
        (v) => r.resizeBilinearForward(v, options),
        (d) => r.resizeBilinearBackward(d, zero, options),
        shape,
      );
    }
  }
});

Deno.test("resize: a constant stays constant", () => {
  for (const flags of [{}, { alignCorners: true }, { antialias: true }]) {
    const y = r.resizeBilinearForward(ndarray([1, 7, 5, 2], 3), { size: [4, 9], ...flags });
    assertClose(y, ndarray([1, 4, 9, 2], 3), 1e-14);
  }
});

const pools: r.PoolOptions[] = [
  { kernel: [2, 2] },
  { kernel: [3, 3], stride: [2, 2], padding: [1, 1, 1, 1] },
  { kernel: [3, 2], stride: [1, 3], padding: [0, 1, 1, 0] },
];

Deno.test("pooling: gradients and adjoint", () => {
  for (const options of pools) {
    const x = normals([2, 5, 6, 3], "pool/x"), label = JSON.stringify(options);
    checkGradients(
      `maxPool ${label}`,
      ({ x }) => r.maxPoolForward(x, options),
      (dy, { x }) => ({ x: r.maxPoolBackward(dy, x, options) }),
      { x },
    );
    checkAdjoint(
      `averagePool ${label}`,
      (v) => r.averagePoolForward(v, options),
      (dy) => r.averagePoolBackward(dy, x, options),
      x.shape,
    );
  }
});

Deno.test("pooling: padding is −∞ to the maximum and zero to the mean; a tie goes to the first", () => {
  const x = row(-4, -2), options: r.PoolOptions = { kernel: [1, 3], padding: [0, 0, 1, 0] };
  assertClose(r.maxPoolForward(x, options), row(-2), 0);
  assertClose(r.averagePoolForward(x, options), row(-2), 0);
  assertClose(r.maxPoolBackward(row(5), row(7, 7), { kernel: [1, 2] }), row(5, 0), 0);
});

Deno.test("pixel shuffling: PyTorch's channel order, and each is the other's inverse", () => {
  const x = ndarray([1, 2, 2, 2], [0, 100, 1, 101, 2, 102, 3, 103]);
  const y = r.pixelUnshuffleForward(x, 2);
  assertClose(y, ndarray([1, 1, 1, 8], [0, 1, 2, 3, 100, 101, 102, 103]), 0);
  assert.throws(() => r.pixelShuffleForward(ndarray([1, 2, 2, 6]), 2), /6 channels do not divide by 4/);
  assert.throws(() => r.pixelUnshuffleForward(ndarray([1, 3, 2, 1]), 2), /\[1,3,2,1\] does not divide by 2/);
  const image: NDArray = normals([2, 6, 9, 2], "shuffle");
  assertClose(r.pixelShuffleForward(r.pixelUnshuffleForward(image, 3), 3), image, 0);
  checkAdjoint("unshuffle", (v) => r.pixelUnshuffleForward(v, 3), (d) => r.pixelUnshuffleBackward(d, 3), [2, 6, 9, 2]);
  checkAdjoint("shuffle", (v) => r.pixelShuffleForward(v, 2), (d) => r.pixelShuffleBackward(d, 2), [1, 3, 2, 8]);
});
