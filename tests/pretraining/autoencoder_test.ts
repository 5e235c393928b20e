/** What the autoencoder's training is fed with, with its terms and without, and the noise on its latents. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { mul } from "../../src/graph/ops/pointwise.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { constant, Variable } from "../../src/graph/variable.ts";
import {
  type AutoencoderTerms,
  noisyLatent,
  PLAIN_AUTOENCODER,
  trainAutoencoder,
} from "../../src/pretraining/autoencoder.ts";
import { proceduralImages } from "../../src/pretraining/images.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import { Random } from "../../src/random/philox.ts";
import { assertClose } from "../support/close.ts";
import { gpu } from "../support/ops.ts";
import { tinyConfig, tinyImages } from "./tiny.ts";

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

const B = 3, H = 4, C = 4, CELLS = B * H * H, SIZE = CELLS * C, SHAPE = [B, H, H, C];

/** Means of channels that differ in place and width, log-variances so low that the posterior is a point or wider, and both noises. */
function latents(logVariance: number) {
  const random = new Random(1, "latents"), moments = new Float32Array(2 * SIZE);
  for (let i = 0; i < CELLS; i++) {
    for (let c = 0; c < C; c++) {
      moments[2 * C * i + c] = c - 1 + (c + 0.5) * random.normal();
      moments[2 * C * i + C + c] = logVariance;
    }
  }
  return {
    moments,
    noise: random.normals(SIZE),
    extra: random.normals(SIZE).map((v, i) => v * (i < SIZE / B ? 0.2 : 0.7)),
  };
}

test("the noise on latents is its share of each channel's deviation over the batch, beside the posterior's", async () => {
  const { moments, noise, extra } = latents(-1), mean = (i: number) => moments[2 * C * Math.floor(i / C) + i % C];
  const expected = Float64Array.from({ length: SIZE }, (_, i) => {
    const channel = Array.from({ length: CELLS }, (_, k) => mean(C * k + i % C));
    const middle = channel.reduce((a, b) => a + b) / CELLS;
    const variance = channel.reduce((total, v) => total + (v - middle) ** 2, 0) / (CELLS - 1);
    return mean(i) + Math.exp(-0.5) * noise[i] + Math.sqrt(variance) * extra[i];
  });
  const z = (extra?: Float32Array) =>
    noisyLatent(constant(moments, [B, H, H, 2 * C]), constant(noise, SHAPE), extra && constant(extra, SHAPE));
  using program = compile(gpu, { noisy: z(extra), none: z(extra.map(() => 0)), plain: z() });
  const { noisy, none, plain } = await program.run();
  assertClose(noisy, expected, 1e-6);
  assertClose(none, plain, 1e-6);
});

test("larger latents have as much larger noise, and the gradient knows: growing gains nothing", async () => {
  const { moments, noise, extra } = latents(-60), seed = new Random(2, "seed").normals(SIZE); // no posterior's width
  using given = new Variable("moments", [B, H, H, 2 * C], moments);
  const z = noisyLatent(given.tensor, constant(noise, SHAPE), constant(extra, SHAPE));
  const [slope] = gradient(sum(mul(z, constant(seed, SHAPE))), [given.tensor]);
  using program = compile(gpu, { z, slope });
  const once = await program.run();
  given.write(moments.map((v, i) => i % (2 * C) < C ? 8 * v : v));
  const { z: larger } = await program.run();
  assertClose(larger, once.z.map((v) => 8 * v), 1e-5);
  // z is homogeneous in the means (Euler): the slope along them is z itself. With a fixed deviation it would be the means alone.
  let along = 0, value = 0, fixed = 0;
  for (let i = 0; i < SIZE; i++) {
    const at = 2 * C * Math.floor(i / C) + i % C;
    along += once.slope[at] * moments[at];
    value += seed[i] * once.z[i];
    fixed += seed[i] * moments[at];
  }
  assert.ok(Math.abs(along - value) < 1e-4 * Math.abs(value), `${along}, expected ${value}`);
  assert.ok(Math.abs(value - fixed) > 0.05 * Math.abs(value), `${value} and ${fixed}: the noise has no part in it`);
});

const config = tinyConfig().autoencoder;
const settings = { seed: 7, batch: 2, steps: 4, learningRate: 1e-3 };

test("a step is fed with the same crops and noise as ever where nothing is asked; weights and noise come beside them", () => {
  const images = proceduralImages(1, 6, 96, { cells: 24 }), side = 96, size = 64, latent = 2 * 16 * 16 * 4;
  const feedOf = (terms?: Partial<AutoencoderTerms>) => {
    using parameters = newParameters(1);
    const asked = terms && { ...PLAIN_AUTOENCODER, ...terms };
    using trainer = trainAutoencoder(gpu, config, parameters, images, { ...settings, terms: asked });
    const { hyper: _, ...feed } = trainer.feed(3);
    return { feed, launches: trainer.report.launches };
  };
  const plain = feedOf(), x = new Float32Array(2 * 3 * size * size), random = new Random(7, "autoencoder/batch", 3);
  const weight = new Float32Array(2 * size * size);
  for (let b = 0; b < 2; b++) {
    const i = random.integer(0, 6), top = random.integer(0, 33), left = random.integer(0, 33);
    const [mirror, flip, turn] = [random.chance(0.5), random.chance(0.5), random.chance(0.5)];
    const pixels = images.pixels(i), damaged = new Set(images.damagedSquares(i));
    for (let k = 0; k < size * size; k++) {
      const row = Math.floor(k / size), column = k % size, [r, c] = turn ? [column, row] : [row, column];
      const at = [top + (flip ? 63 - r : r), left + (mirror ? 63 - c : c)];
      const square = (at[0] >> 1) * side / 2 + (at[1] >> 1);
      weight[b * size * size + k] = damaged.has(square) ? 6 : 1;
      for (let c = 0; c < 3; c++) {
        x[3 * (b * size * size + k) + c] = pixels[3 * (at[0] * side + at[1]) + c] / 127.5 - 1;
      }
    }
  }
  const expected = { x, noise: random.normals(latent) };
  assert.deepEqual(plain.feed, expected);
  assert.deepEqual(feedOf({}), plain);
  assert.deepEqual(feedOf({ damageWeight: 5 }).feed, { ...expected, weight });
  assert.ok(weight.includes(6) && weight.includes(1));
  const { feed: { extra, ...rest } } = feedOf({ latentNoise: 0.5 });
  assert.deepEqual(rest, expected);
  const shares = [0, 1].map((b) => {
    const own = (extra as Float32Array).subarray(b * latent / 2, (b + 1) * latent / 2);
    return Math.sqrt(own.reduce((total, v) => total + v * v, 0) / own.length);
  });
  const first = new Random(7, "autoencoder/latent-noise", 3), drawn = [first.uniform(0, 0.5), first.uniform(0, 0.5)];
  shares.forEach((share, b) => assert.ok(Math.abs(share / drawn[b] - 1) < 0.1, `${shares}, drawn ${drawn}`));
  // Around damage: as many inputs as without, other crops.
  const { feed: sought } = feedOf({ damageCrops: 1 });
  assert.deepEqual(Object.keys(sought), ["x", "noise"]);
  assert.notDeepEqual(sought.x, x);
});

test("pictures that do not say where their damage is are refused", () => {
  for (const terms of [{ damageCrops: 0.5 }, { damageWeight: 1 }]) {
    using parameters = newParameters(1);
    const asked = { ...settings, terms: { ...PLAIN_AUTOENCODER, ...terms } };
    assert.throws(
      () => trainAutoencoder(gpu, config, parameters, tinyImages(), asked),
      /asks where the damage is/,
    );
  }
});
