/** The autoencoder's loss where it can be worked out by hand. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { input, Variable } from "../../src/graph/variable.ts";
import { autoencoderLoss } from "../../src/pretraining/loss.ts";
import { Random } from "../../src/random/philox.ts";
import { gpu } from "../support/ops.ts";

const SIDE = 32, SHAPE = [2, SIDE, SIDE, 3], SIZE = 2 * SIDE * SIDE * 3;

/** Loss and pixel error of target + difference, with the given moments. */
async function lossOf(difference: (c: number, x: number, y: number) => number, mean = 0, logVariance = 0) {
  const target = new Random(1, "target").normals(SIZE).map((v) => 0.3 * v);
  const output = target.map((v, i) => v + difference(i % 3, Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE) % SIDE));
  const moments = new Float32Array(2 * 4 * 4 * 8).map((_, i) => i % 8 < 4 ? mean : logVariance);
  using program = compile(gpu, autoencoderLoss(input("y", SHAPE), input("x", SHAPE), input("moments", [2, 4, 4, 8])));
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

test("the gradient is the slope of the loss", async () => {
  const random = new Random(2, "slope"), target = random.normals(SIZE);
  // Away from the target, where the loss changes most.
  const direction = random.normals(SIZE), start = target.map((v, i) => v + 0.5 * direction[i]);
  using y = new Variable("y", SHAPE, start);
  const { loss } = autoencoderLoss(y.tensor, input("x", SHAPE), input("moments", [2, 4, 4, 8]));
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
