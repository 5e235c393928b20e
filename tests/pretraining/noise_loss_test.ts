/** Each term of the U-Net's loss and its gradient against plain float64, and what its training is fed with. */
import assert from "node:assert/strict";
import { Tokenizer } from "../../src/data/tokenizer.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { timestepQuantile } from "../../src/diffusion/timesteps.ts";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { mul } from "../../src/graph/ops/pointwise.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, input, Variable } from "../../src/graph/variable.ts";
import { timestepEmbedding, unet } from "../../src/models/unet.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import { noiseLoss, type NoiseTerms, PLAIN_LOSS } from "../../src/pretraining/noise_loss.ts";
import { BALANCED_MOST, noiseLevelWeight } from "../../src/pretraining/recipe.ts";
import { trainUnet } from "../../src/pretraining/unet.ts";
import { Random } from "../../src/random/philox.ts";
import { assertClose } from "../support/close.ts";
import { gpu } from "../support/ops.ts";
import { tinyConfig, tinyImages, VOCAB } from "./tiny.ts";

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

/** Pictures, cells in a row, channels, words. */
const B = 4, H = 16, C = 3, L = 5, SIZE = B * H * H * C;
/** Of the attention maps. */
const SIDES = [16, 8, 8];

/** A damage of 20 cells, one of 3, none, and one that the caption does not name. */
function damage(): { cells: Float32Array; about: Float32Array } {
  const cells = new Float32Array(B * H * H), about = new Float32Array(B * L);
  [20, 3, 0, 9].forEach((count, b) => {
    for (let i = 0; i < count; i++) cells[b * H * H + (5 + Math.floor(i / 5)) * H + 4 + i % 5] = 1;
  });
  about.set([0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]);
  return { cells, about };
}

type Numbers = ArrayLike<number>;

/** The loss as train.py writes it, in float64. */
function reference(eps: Numbers, noise: Numbers, weight: Numbers, maps: readonly Numbers[], t: NoiseTerms): number {
  const { cells, about } = damage(), each = H * H;
  let weights = 0;
  for (const cell of cells) weights += (1 + t.emphasis * cell) / (B * each);
  let loss = 0;
  for (let b = 0; b < B; b++) {
    const damaged = cells.subarray(b * each, (b + 1) * each), count = damaged.reduce((s, v) => s + v, 0);
    let squares = 0, means = 0, damageMeans = 0;
    for (let c = 0; c < C; c++) {
      let total = 0, inside = 0;
      for (let i = 0; i < each; i++) {
        const at = (b * each + i) * C + c, difference = eps[at] - noise[at];
        squares += (1 + t.emphasis * damaged[i]) * difference ** 2 / (each * C);
        total += difference / each;
        inside += difference * damaged[i];
      }
      means += total ** 2 / C;
      damageMeans += (inside / Math.max(8, count)) ** 2 / C;
    }
    const counted = (t.emphasis ? squares / weights : squares) + t.mean * means + t.meanDamage * damageMeans;
    loss += counted * weight[b] / B;
    const said = about.subarray(b * L, (b + 1) * L).includes(1);
    if (!t.localise || !said || count === 0) continue;
    let stray = 0;
    SIDES.forEach((side, m) => {
      let all = 0, held = 0;
      for (let i = 0; i < side * side; i++) {
        const mass = maps[m][b * side * side + i], factor = H / side;
        let inside = 0; // whether any cell of the window is damaged
        for (let k = 0; k < factor * factor; k++) {
          const y = Math.floor(i / side) * factor + Math.floor(k / factor), x = i % side * factor + k % factor;
          inside = Math.max(inside, damaged[y * H + x]);
        }
        all += mass;
        held += mass * inside;
      }
      stray += (1 - held / (all + 1e-6)) ** 2 / SIDES.length;
    });
    loss += t.localise * stray / B;
  }
  return loss;
}

const TERMS: Record<string, Partial<NoiseTerms>> = {
  nothing: {},
  emphasis: { emphasis: 5 },
  mean: { mean: 20 },
  "mean over the damage": { meanDamage: 5 },
  localise: { localise: 0.1 },
  all: { emphasis: 5, mean: 20, meanDamage: 5, localise: 0.1 },
};

test("the loss and its gradient are train.py's, term by term", async () => {
  const random = new Random(3, "noise loss"), { cells, about } = damage();
  const noise = random.normals(SIZE), eps = noise.map((v) => v + 0.1 + 0.5 * random.normal());
  const weight = Float32Array.of(1, 0.3, 0.7, 2);
  const maps = SIDES.map((side) => Float32Array.from({ length: B * side * side }, () => random.uniform(0.01, 0.5)));
  using y = new Variable("eps", [B, H, H, C], eps);
  const at = SIDES.map((side, i) => new Variable(`map ${i}`, [B, side, side], maps[i]));
  for (const [name, some] of Object.entries(TERMS)) {
    const terms: NoiseTerms = { ...PLAIN_LOSS, ...some };
    const { loss, error } = noiseLoss(y.tensor, constant(noise, [B, H, H, C]), constant(weight), terms, {
      cells: constant(cells, [B, H, H, 1]),
      about: constant(about, [B, L]),
      maps: at.map((v) => v.tensor),
    });
    const wrt = [y, ...(terms.localise ? at : [])];
    const slopes = gradient(loss, wrt.map((v) => v.tensor));
    const outputs: Record<string, Tensor> = { loss, error };
    slopes.forEach((slope, i) => outputs[`d${i}`] = slope);
    using program = compile(gpu, outputs);
    const made = await program.run(), expected = reference(eps, noise, weight, maps, terms);
    assert.ok(Math.abs(made.loss[0] - expected) < 2e-6 * expected, `${name}: ${made.loss[0]}, expected ${expected}`);
    const plain = Array.from({ length: B }, (_, b) => {
      let squares = 0;
      for (let i = b * SIZE / B; i < (b + 1) * SIZE / B; i++) squares += (eps[i] - noise[i]) ** 2;
      return squares / (SIZE / B);
    });
    assertClose(made.error, plain, 2e-6, `${name}: the error that is reported`);
    // Central differences in float64: exact to 1e-9 of the slope, since the terms are nearly quadratic.
    [eps, ...maps].slice(0, wrt.length).forEach((values, k) => {
      const moved = Float64Array.from(values), h = 1e-4;
      const all = (value: Numbers): [Numbers, Numbers[]] =>
        k === 0 ? [value, maps] : [eps, maps.map((map, i): Numbers => i === k - 1 ? value : map)];
      const slope = moved.map((v, i) => {
        const side = (step: number) => {
          moved[i] = v + step;
          const [e, m] = all(moved);
          return reference(e, noise, weight, m, terms);
        };
        const difference = (side(h) - side(-h)) / (2 * h);
        moved[i] = v;
        return difference;
      });
      assertClose(made[`d${k}`], slope, 2e-5, `${name}: gradient ${k}`);
    });
  }
  for (const variable of at) variable[Symbol.dispose]();
});

test("terms that know where the damage is move the best ε, the others do not", async () => {
  // Two pictures that look alike with their noise, so that the network says the same for both: the ε of one is 1 where it has
  // damage, that of the other, which has none, is 0. What errs least is a half, and only there may the loss have no slope.
  const shape = [2, 4, 4, 1] as const, half = 16;
  const cells = Float32Array.from({ length: 2 * half }, (_, i) => i < 6 ? 1 : 0);
  const best = Float32Array.from(cells, (_, i) => 0.5 * cells[i % half]);
  using eps = new Variable("eps", [...shape], best);
  const slopeOf = async (terms: Partial<NoiseTerms>) => {
    const { loss } = noiseLoss(eps.tensor, constant(cells, [...shape]), constant(Float32Array.of(1, 1)), {
      ...PLAIN_LOSS,
      ...terms,
    }, {
      cells: constant(cells, [...shape]),
    });
    using program = compile(gpu, { slope: gradient(loss, [eps.tensor])[0] });
    const { slope } = await program.run();
    return slope[0] + slope[half];
  };
  const plain = Math.abs(await slopeOf({})), mean = Math.abs(await slopeOf({ mean: 20 }));
  assert.ok(plain < 1e-7 && mean < 1e-7, `${plain}, ${mean}`);
  for (const terms of [{ emphasis: 1 }, { meanDamage: 5 }]) {
    const slope = await slopeOf(terms);
    assert.ok(slope < -1e-3, `${JSON.stringify(terms)}: ${slope}: more damage than there is lowers the loss`);
  }
});

/** The tiny U-Net with attention on 8 × 8 and 4 × 4 cells. */
function attentive() {
  const config = tinyConfig();
  return { ...config, unet: { ...config.unet, attentionLevels: [true, true] } };
}

test("a probe sees the words' shares of attention in maps that are large enough, and changes no output", async () => {
  const config = attentive(), random = new Random(4, "probe"), words = 8, width = 32;
  using parameters = newParameters(1);
  using context = new Variable("context", [2, words, width], random.normals(2 * words * width));
  const x = constant(random.normals(2 * 256), [2, 8, 8, 4]),
    time = constant(timestepEmbedding([300, 700], 32), [2, 32]);
  const marks = new Float32Array(2 * words);
  marks.set([0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
  const probed = (columns: Tensor, least = 64) => {
    const maps: Tensor[] = [], probe = { columns, least, take: (map: Tensor) => void maps.push(map) };
    return { eps: unet(config.unet, parameters, x, time, context.tensor, undefined, undefined, probe), maps };
  };
  const { eps, maps } = probed(constant(marks, [2, words]));
  const { maps: others } = probed(constant(marks.map((v) => 1 - v), [2, words]));
  assert.deepEqual(maps.map(({ shape }) => shape), Array(3).fill([2, 8, 8]));
  assert.equal(probed(constant(marks, [2, words]), 16).maps.length, 7);
  const plain = unet(config.unet, parameters, x, time, context.tensor);
  const seed = constant(random.normals(128), [2, 8, 8]), seen = sum(mul(maps[1], seed));
  const [slope] = gradient(seen, [context.tensor]);
  using program = compile(gpu, { eps, plain, seen, slope, own: maps[0], rest: others[0] });
  const made = await program.run();
  assert.deepEqual(made.eps, made.plain);
  // The marked and the other words' shares are all of it.
  for (const [i, v] of made.own.entries()) assert.ok(v > 0 && v < 1 && Math.abs(v + made.rest[i] - 1) < 1e-5);
  const start = await context.read(), direction = random.normals(start.length), h = 2e-2;
  const at = async (step: number) => {
    context.write(start.map((v, i) => v + step * direction[i]));
    return (await program.run()).seen[0];
  };
  const measured = (await at(h) - await at(-h)) / (2 * h);
  const expected = made.slope.reduce((total, v, i) => total + v * direction[i], 0);
  assert.ok(Math.abs(measured - expected) < 2e-2 * Math.abs(expected), `${measured}, expected ${expected}`);
});

test("a step is fed with the damage that its pictures have, and with the same pictures as without", async () => {
  const config = attentive(), images = tinyImages(), tokenizer = new Tokenizer(VOCAB), size = 256 * images.count;
  const captions = Array.from({ length: images.count }, (_, i) => tokenizer.encode(images.caption(i), 8));
  const set = {
    latents: new Float16Array(new Random(5, "latents").normals(size)),
    captions,
    empty: tokenizer.encode("", 8),
    damage: captions.map((_, i) => ({ cells: i === 3 ? [] : [i, 63], columns: i === 3 ? [] : [4] })),
  };
  const settings = { seed: 1, batch: 4, steps: 6, learningRate: 1e-3, captionDropout: 0.5, averageDecay: 0.999 };
  const trained = (terms?: Partial<NoiseTerms>) => {
    const [p, average] = [newParameters(1), newParameters(1)];
    const trainer = trainUnet(gpu, config, p, average, set, {
      ...settings,
      terms: terms && { ...PLAIN_LOSS, ...terms },
    });
    return { trainer, parameters: [p, average, trainer] };
  };
  const plain = trained(), none = trained({}), full = trained(TERMS.all);
  const balanced = trained({ timestepSampling: "balanced" });
  try {
    const { cells, about, ...rest } = full.trainer.feed(2);
    assert.deepEqual(plain.trainer.feed(2), rest);
    assert.deepEqual(none.trainer.feed(2), rest);
    // A picture is known by its damage's first cell.
    let dropped = 0;
    for (let b = 0; b < 4; b++) {
      const own = [...cells.subarray(64 * b, 64 * (b + 1)).entries()].flatMap(([i, v]) => v ? [i] : []);
      const empty = rest.ids.subarray(8 * b, 8 * (b + 1)).every((id, i) => id === set.empty[i]);
      if (empty) dropped++;
      const said = !empty && own.length > 0;
      assert.deepEqual([...about.subarray(8 * b, 8 * (b + 1))], [0, 0, 0, 0, said ? 1 : 0, 0, 0, 0]);
      if (!empty && own.length) assert.deepEqual([...rest.ids.subarray(8 * b, 8 * (b + 1))], [...captions[own[0]]]);
    }
    assert.ok(dropped > 0 && dropped < 4);
    const { ids, eps, ...levels } = balanced.trainer.feed(2);
    assert.deepEqual([ids, eps], [rest.ids, rest.eps]);
    assert.notDeepEqual(levels.time, rest.time);
    for (const weight of levels.weight) assert.ok(weight >= 1 && weight <= 4);
    await plain.trainer.advance(2);
    await none.trainer.advance(2);
    assert.deepEqual(await none.trainer.save(), await plain.trainer.save());
    await full.trainer.advance(2);
    assert.ok(await full.trainer.takeLoss() > 0);
  } finally {
    for (const one of [plain, none, full, balanced].flatMap(({ parameters }) => parameters)) one[Symbol.dispose]();
  }
});

test("attention that is to stay on the damage needs maps that are large enough", () => {
  using parameters = newParameters(1);
  using average = newParameters(1);
  const set = {
    latents: new Float16Array(256),
    captions: [[2, 3]],
    empty: [2, 3],
    damage: [{ cells: [], columns: [] }],
  };
  const settings = { seed: 1, batch: 1, steps: 1, learningRate: 1e-3, captionDropout: 0, averageDecay: 0.999 };
  const terms = { ...PLAIN_LOSS, localise: 1 };
  assert.throws(
    () => trainUnet(gpu, tinyConfig(), parameters, average, set, { ...settings, terms }),
    /^UserError: no attention to the caption has a map of 64 cells/,
  );
  return Promise.resolve();
});

Deno.test("balanced noise levels: density and weights are train.py's", () => {
  const schedule = createSchedule(), quantile = timestepQuantile(schedule, "balanced", BALANCED_MOST);
  const noiseToSignal = Array.from(schedule.alphasCumprod, (a) => (1 - a) / a);
  const density = noiseToSignal.map((v) => Math.min(v, 10) + 0.4), total = density.reduce((a, b) => a + b);
  let below = 0;
  density.forEach((d, t) => {
    // Just after a level's first draw and just before its last one.
    assert.equal(quantile((below + 1e-6 * d) / total), t);
    assert.equal(quantile((below + (1 - 1e-6) * d) / total), t);
    below += d;
    const weight = Math.min(4, Math.max(1, noiseToSignal[t] / 10));
    assert.ok(Math.abs(noiseLevelWeight(schedule.alphasCumprod[t], "balanced") - weight) < 1e-12);
    const even = Math.min(1, 5 * noiseToSignal[t]);
    assert.ok(Math.abs(noiseLevelWeight(schedule.alphasCumprod[t], "uniform") - even) < 1e-12);
    assert.equal(noiseLevelWeight(schedule.alphasCumprod[t], "detailed"), 1);
  });
});

Deno.test("a term that asks for what was not given says so", () => {
  const eps = input("eps", [1, 8, 8, 2]), weight = input("weight", [1]);
  assert.throws(() => noiseLoss(eps, eps, weight, { ...PLAIN_LOSS, emphasis: 1 }), /cells with damage/);
  assert.throws(() => noiseLoss(eps, eps, weight, { ...PLAIN_LOSS, localise: 1 }), /damage words' attention/);
});
