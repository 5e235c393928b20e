/** The autoencoder's loss where it can be worked out by hand. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { constant, input, Variable } from "../../src/graph/variable.ts";
import { autoencoderLoss } from "../../src/pretraining/loss.ts";
import { Random } from "../../src/random/philox.ts";
import { averagePoolForward, resizeBilinearForward } from "../reference/resample.ts";
import { map, type NDArray, ndarray } from "../support/arrays.ts";
import { gpu } from "../support/ops.ts";

const SIDE = 32, SHAPE = [2, SIDE, SIDE, 3], SIZE = 2 * SIDE * SIDE * 3, WEIGHTS = [2, SIDE, SIDE, 1];

/** Loss and pixel error of target + difference, with the given moments, and every pixel of one weight where it is given. */
async function lossOf(
  difference: (c: number, x: number, y: number) => number,
  mean = 0,
  logVariance = 0,
  weight?: number,
) {
  const target = new Random(1, "target").normals(SIZE).map((v) => 0.3 * v);
  const output = target.map((v, i) => v + difference(i % 3, Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE) % SIDE));
  const moments = new Float32Array(2 * 4 * 4 * 8).map((_, i) => i % 8 < 4 ? mean : logVariance);
  const weights = weight === undefined ? undefined : constant(new Float32Array(SIZE / 3).fill(weight), WEIGHTS);
  using program = compile(
    gpu,
    autoencoderLoss(input("y", SHAPE), input("x", SHAPE), input("moments", [2, 4, 4, 8]), weights),
  );
  const { loss, pixels } = await program.run({ y: output, x: target, moments });
  return [loss[0], pixels[0]];
}

const near = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) < 1e-5, `${actual}, expected ${expected}`);

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

test("equal pictures leave the divergence: half of mean² + variance − 1 − log-variance, a ten-thousandth of it", async () => {
  near((await lossOf(() => 0))[0], 0);
  const [loss] = await lossOf(() => 0, 3, 1);
  assert.ok(Math.abs(loss - 1e-4 * 0.5 * (9 + Math.E - 1 - 1)) < 1e-7, `${loss}`);
});

test("a shift of all channels counts as pixels, and three times in the coarsest band", async () => {
  const [loss, pixels] = await lossOf(() => 0.1);
  near(pixels, 0.1);
  near(loss, 0.1 + 3 * 0.1);
});

test("a shift of one channel counts as colour too", async () => {
  const [loss, pixels] = await lossOf((c) => c === 0 ? 0.3 : 0);
  near(pixels, 0.1);
  const colour = (0.2 + 0.1 + 0.1) / 3;
  near(loss, 0.1 + 3 * 0.1 + 2 * colour);
});

test("a pattern finer than the coarse bands counts as pixels, finest band, gradients and energy", async () => {
  // Alternating columns vanish in the mean of two: only the finest band sees them.
  const [loss, pixels] = await lossOf((_, x) => x % 2 ? 0.1 : -0.1);
  near(pixels, 0.1);
  const withoutEnergy = 0.1 + 0.1 + 0.5 * 0.2;
  assert.ok(loss > withoutEnergy + 1e-3 && loss < withoutEnergy + 0.05, `${loss}`);
});

test("weights count in pixels, fine bands and gradients, not in the coarsest band, the colour and the energy", async () => {
  const [shifted, pixels] = await lossOf(() => 0.1, 0, 0, 4);
  near(pixels, 0.1);
  near(shifted, 4 * 0.1 + 3 * 0.1);
  const colour = (0.2 + 0.1 + 0.1) / 3;
  near((await lossOf((c) => c === 0 ? 0.3 : 0, 0, 0, 4))[0], 4 * 0.1 + 3 * 0.1 + 2 * colour);
  const pattern = (_: number, x: number) => x % 2 ? 0.1 : -0.1, [plain] = await lossOf(pattern);
  near((await lossOf(pattern, 0, 0, 4))[0] - plain, 3 * (0.1 + 0.1 + 0.5 * 0.2));
});

/** 1 or 6, at random, of each pixel. */
const someWeights = () => new Random(3, "weights").normals(SIZE / 3).map((v) => v > 1 ? 6 : 1);

/** The loss as train.py writes it, in float64, without the divergence. */
function reference(output: Float32Array, target: Float32Array, weight: Float32Array): number {
  const half = { kernel: [2, 2] as const }, window = { kernel: [8, 8] as const, stride: [4, 4] as const };
  const minus = (a: NDArray, b: NDArray) => map(a, (v, i) => v - b.data[i]);
  const mean = (x: NDArray, weights?: NDArray) => {
    const each = weights ? x.data.length / weights.data.length : 1; // channels
    return x.data.reduce((sum, v, i) => sum + Math.abs(v) * (weights?.data[Math.floor(i / each)] ?? 1), 0) /
      x.data.length;
  };
  const pyramid = (x: NDArray) => {
    const bands: NDArray[] = [];
    for (let level = 0; level < 3; level++) {
      const low = averagePoolForward(x, half);
      bands.push(minus(x, resizeBilinearForward(low, { size: [x.shape[1], x.shape[2]] })));
      x = low;
    }
    return [...bands, x];
  };
  const energy = (x: NDArray) => map(averagePoolForward(map(x, (v) => v * v), window), (v) => Math.sqrt(v + 1e-5));
  const y = ndarray(SHAPE, output), x = ndarray(SHAPE, target), w = ndarray(WEIGHTS, weight), d = minus(y, x);
  const own = pyramid(y), wanted = pyramid(x), weights = [w, averagePoolForward(w, half)];
  const bands = own.reduce((sum, band, i) => sum + [1, 1, 1, 3][i] * mean(minus(band, wanted[i]), weights[i]), 0);
  const energies = [0, 1].reduce((sum, i) => sum + mean(minus(energy(own[i]), energy(wanted[i]))), 0);
  const grey = (i: number) => [0, 1, 2].reduce((sum, c) => sum + d.data[i - i % 3 + c] / 3, 0);
  let gradients = 0;
  for (let i = 0; i < SIZE; i++) {
    const pixel = Math.floor(i / 3), column = pixel % SIDE, row = Math.floor(pixel / SIDE) % SIDE;
    const steps = 2 * (SIDE - 1) * SIDE * 3;
    // Each difference counts as its second pixel does.
    if (column > 0) gradients += weight[pixel] * Math.abs(d.data[i] - d.data[i - 3]) / steps;
    if (row > 0) gradients += weight[pixel] * Math.abs(d.data[i] - d.data[i - 3 * SIDE]) / steps;
  }
  return mean(d, w) + 2 * mean(map(d, (v, i) => v - grey(i))) + bands + 0.5 * gradients + 0.5 * energies;
}

test("with weights and without, the loss is that of plain float64", async () => {
  const random = new Random(4, "reference"), target = random.normals(SIZE).map((v) => 0.3 * v);
  const output = target.map((v) => v + 0.2 * random.normal()), moments = new Float32Array(256);
  const losses: number[] = [];
  for (const weight of [new Float32Array(SIZE / 3).fill(1), someWeights()]) {
    const inputs = [input("y", SHAPE), input("x", SHAPE), input("moments", [2, 4, 4, 8])] as const;
    using program = compile(gpu, {
      plain: autoencoderLoss(...inputs).loss,
      weighted: autoencoderLoss(...inputs, input("weight", WEIGHTS)).loss,
    });
    const { plain, weighted } = await program.run({ y: output, x: target, moments, weight });
    near(weighted[0], reference(output, target, weight));
    losses.push(plain[0], weighted[0]);
  }
  near(losses[1], losses[0]); // weights of 1
  assert.ok(losses[3] > 1.2 * losses[0], `${losses}`);
});

for (const weighted of [false, true]) {
  test(`the gradient is the slope of the loss${weighted ? " with weights" : ""}`, async () => {
    const random = new Random(2, "slope"), target = random.normals(SIZE);
    // Away from the target, where the loss changes most.
    const direction = random.normals(SIZE), start = target.map((v, i) => v + 0.5 * direction[i]);
    using y = new Variable("y", SHAPE, start);
    const weights = weighted ? constant(someWeights(), WEIGHTS) : undefined;
    const { loss } = autoencoderLoss(y.tensor, input("x", SHAPE), input("moments", [2, 4, 4, 8]), weights);
    const [slope] = gradient(loss, [y.tensor]);
    using program = compile(gpu, { loss, slope });
    const feed = { x: target, moments: new Float32Array(256) };
    const expected = (await program.run(feed)).slope.reduce((sum, g, i) => sum + g * direction[i], 0);
    const at = async (h: number) => {
      y.write(start.map((v, i) => v + h * direction[i]));
      return (await program.run(feed)).loss[0];
    };
    const measured = (await at(1e-3) - await at(-1e-3)) / 2e-3;
    assert.ok(Math.abs(measured - expected) < 5e-3 * Math.abs(expected), `${measured}, expected ${expected}`);
  });
}
