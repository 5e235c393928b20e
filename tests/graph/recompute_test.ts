/** Recomputation: the same numbers in less memory, and only as much of it as a budget asks for. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { maskedMse } from "../../src/graph/ops/losses.ts";
import { assign } from "../../src/graph/ops/optimise.ts";
import { gelu, silu, square } from "../../src/graph/ops/pointwise.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { plan } from "../../src/graph/plan.ts";
import { blocksOf, fitStep } from "../../src/graph/recompute.ts";
import { scope, type Tensor } from "../../src/graph/tensor.ts";
import { constant, input, Variable } from "../../src/graph/variable.ts";
import { lightSpatialConfig, lightSpatialEncoder } from "../../src/models/spatial_encoder.ts";
import { officialSpatialEncoder } from "../../src/models/official_spatial_encoder.ts";
import { textTower } from "../../src/models/text_tower.ts";
import { unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { noise } from "../../src/weights/formula.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { gpu } from "../support/ops.ts";
import { tinyModelConfig } from "../support/tiny_model.ts";

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

/** A constant of known numbers. */
const numbers = (name: string, shape: number[]) => constant(noise("recompute", name, shape), shape);

/** The tiny model's training step: a loss, and what its gradient is asked for. */
function trainingGraph(encoder: Parameters, parameters: Parameters): { loss: Tensor; wrt: Tensor[] } {
  const { unet: network, text } = tinyModelConfig(), batch = 2;
  const table = new Variable("words", [batch, text.maxLength, text.width], noise("recompute", "words", [2, 24, 32]));
  const spatial = lightSpatialEncoder(
    lightSpatialConfig(text.maxLength, text.width),
    encoder,
    numbers("mask", [batch, 64, 64, 1]),
  );
  const context = textTower(text, parameters, square(silu(linear(table.tensor, numbers("mix", [32, 32])))));
  const both = textTower(text, parameters, spatial);
  const eps = unet(network, parameters, numbers("x", [batch, 8, 8, 4]), numbers("time", [batch, 32]), context);
  const other = unet(network, parameters, eps, numbers("time", [batch, 32]), both);
  const loss = maskedMse(other, numbers("eps", [batch, 8, 8, 4]), numbers("area", [batch, 8, 8, 1]), { area: false });
  return { loss, wrt: [table.tensor, encoder.variables.get("spatial_encoder.convs.1.weight")!.tensor] };
}

test("recomputing every block changes no bit of the loss and of the gradients", async () => {
  using encoder = new Parameters(new FormulaWeights("encoder"), torchLayouts);
  using parameters = new Parameters(new FormulaWeights("tiny"), torchLayouts, "f16");
  const { loss, wrt } = trainingGraph(encoder, parameters);
  const plain = gradient(loss, wrt);
  const names = blocksOf(loss, [loss, ...plain]).map(({ name }) => name);
  assert.ok(names.includes("input_blocks.3.1") && names.includes("spatial_encoder"), names.join());
  const again = gradient(loss, wrt, { recompute: new Set(names) });
  const before = plan([loss, ...plain]).report, after = plan([loss, ...again]).report;
  assert.ok(
    after.activationBytes < 0.75 * before.activationBytes,
    `${after.activationBytes} ${before.activationBytes}`,
  );
  assert.ok(after.flops > before.flops && after.flops < 1.5 * before.flops);
  const run = async (grads: Tensor[]) => {
    using program = compile(gpu, { loss, table: grads[0], encoder: grads[1] });
    return await program.run();
  };
  const [a, b] = [await run(plain), await run(again)];
  assert.ok(a.table.some((v) => v !== 0) && a.encoder.some((v) => v !== 0));
  assert.deepEqual(a, b);
});

test("a block with batch statistics gives the same gradients, and moves its running ones once", async () => {
  using encoder = new Parameters(new FormulaWeights("official"), torchLayouts);
  const config = {
    kind: "official",
    tokens: 1,
    width: 8,
    side: 32,
    channels: [4, 4, 8, 8, 8],
    generation: "batch",
  } as const;
  const built = officialSpatialEncoder(config, encoder, numbers("mask", [2, 32, 32, 1]), "batch");
  const loss = sum(square(built.tokens));
  const wrt = [encoder.variables.get("spatial_encoder.body.2.res_layer.1.weight")!.tensor];
  const plain = gradient(loss, wrt);
  const names = new Set(blocksOf(loss, [loss, ...plain]).map(({ name }) => name));
  assert.ok(names.has("spatial_encoder.body.4"), [...names].join());
  const again = gradient(loss, wrt, { recompute: names });
  const emas = (effects: readonly Tensor[]) =>
    plan([loss, ...again], effects).launches.filter((launch) => launch.label.endsWith(".ema")).length;
  assert.equal(emas(built.effects), built.effects.length);
  using a = compile(gpu, { grad: plain[0] });
  using b = compile(gpu, { grad: again[0] });
  assert.deepEqual(await a.run(), await b.run());
});

/** Layers of a width, each a block. */
function chain(layers: number): { loss: Tensor; weight: Variable } {
  const weight = Variable.zeros("w", [64, 64]);
  let h: Tensor = input("x", [128, 64]);
  for (let i = 0; i < layers; i++) {
    h = scope(`layer.${i}`, () => gelu(square(silu(linear(h, weight.tensor)))));
  }
  return { loss: sum(h), weight };
}

test("a budget decides how many blocks are recomputed", () => {
  const { loss, weight } = chain(12), target = Variable.zeros("g", [64, 64]);
  const build = (recompute: ReadonlySet<string>) => ({
    effects: [assign(target, gradient(loss, [weight.tensor], { recompute })[0])],
  });
  const free = fitStep(loss, build, Infinity);
  assert.equal(free.recompute.size, 0);
  const all = fitStep(loss, build, 0);
  assert.equal(all.fits, false);
  const [most, least] = [free, all].map((fitted) => fitted.plan.report.activationBytes);
  assert.ok(least < 0.6 * most, `${least} of ${most}`);
  let blocks = -1;
  for (const share of [0.9, 0.6, 0.3]) {
    const budget = least + share * (most - least), fitted = fitStep(loss, build, budget);
    assert.ok(fitted.fits && fitted.plan.report.activationBytes <= budget);
    assert.ok(fitted.recompute.size > blocks && fitted.recompute.size < 12);
    blocks = fitted.recompute.size;
  }
});

test("a scope that keeps nothing for the way back is no block", () => {
  const { loss, weight } = chain(2);
  const frozen = input("frozen", [64, 64]);
  const y = scope("late", () => linear(frozen, frozen));
  const roots = [loss, ...gradient(loss, [weight.tensor]), y];
  assert.deepEqual(blocksOf(loss, roots).map(({ name }) => name).sort(), ["layer.0", "layer.1"]);
  for (const { bytes, flops } of blocksOf(loss, roots)) {
    assert.ok(bytes >= 2 * 128 * 64 * 4 && flops >= 2 * 128 * 64 * 64, `${bytes} ${flops}`);
  }
});
