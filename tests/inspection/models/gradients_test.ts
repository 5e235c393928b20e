/**
 * All logits and all weight gradients of the inspection networks against float64. The golden files of the full networks cannot
 * be met as closely in float32: among millions of rectified values some lie within rounding of 0, and each that rounds to the
 * other side moves the gradient. These networks are as deep but narrow, and a wide margin around every 0 is made sure of.
 */
import assert from "node:assert/strict";
import { compile } from "../../../src/graph/compile.ts";
import { gradient } from "../../../src/graph/gradient.ts";
import { crossEntropy, focalLoss } from "../../../src/graph/ops/losses.ts";
import type { Tensor } from "../../../src/graph/tensor.ts";
import { input } from "../../../src/graph/variable.ts";
import { networkParameters } from "../../../src/inspection/models/init.ts";
import {
  describeNetwork,
  type NetworkConfig,
  networkGraph,
  networkPrefix,
} from "../../../src/inspection/models/network.ts";
import { crossEntropyDice } from "../../../src/inspection/training/losses.ts";
import { isRunningStatistic } from "../../../src/models/official_spatial_encoder.ts";
import { Random } from "../../../src/random/philox.ts";
import {
  crossEntropyBackward,
  crossEntropyForward,
  focalLossBackward,
  focalLossForward,
} from "../../reference/losses.ts";
import { softmaxBackward, softmaxForward } from "../../reference/softmax.ts";
import { type NDArray, ndarray, scalar } from "../../support/arrays.ts";
import { assertClose } from "../../support/close.ts";
import { gpu } from "../../support/ops.ts";
import { leaf, ReferenceLayers } from "../../support/reference_layers.ts";

const BATCH = 2;

/** Value and gradient of cross-entropy + 1 − (2·Σp·m + 1) ∕ (Σp + Σm + 1). */
function crossEntropyDiceReference(logits: NDArray, labels: NDArray): { value: number; grad: NDArray } {
  const shares = softmaxForward(logits), at = (pixel: number) => shares.data[2 * pixel + 1];
  let overlap = 1, both = 1;
  labels.data.forEach((m, i) => {
    overlap += 2 * m * at(i);
    both += m + at(i);
  });
  const dShares = ndarray(logits.shape);
  labels.data.forEach((m, i) => dShares.data[2 * i + 1] = -(2 * m * both - overlap) / both ** 2);
  const grad = crossEntropyBackward(scalar(1), logits, labels), dice = softmaxBackward(dShares, logits);
  return {
    value: crossEntropyForward(logits, labels).data[0] + 1 - overlap / both,
    grad: { ...grad, data: grad.data.map((v, i) => v + dice.data[i]) },
  };
}

interface Case {
  readonly config: NetworkConfig;
  readonly side: number;
  readonly loss: "focal" | "cross-entropy+dice" | "cross-entropy";
  /** A seed for which no value lies near a slope's jump. */
  readonly seed: number;
}

async function check({ config, side, loss: name, seed }: Case): Promise<void> {
  const dense = config.kind === "localisation", prefix = networkPrefix(config);
  const random = new Random(seed, "tests/inspection gradients");
  const pixels = Float32Array.from({ length: BATCH * side * side * 3 }, () => random.uniform());
  const labels = Uint32Array.from({ length: dense ? BATCH * side * side : BATCH }, () => random.integer(0, 2));
  using parameters = networkParameters(seed);
  const image = input("image", [BATCH, side, side, 3]);
  const target = input("labels", dense ? [BATCH, side, side] : [BATCH], "u32");
  const mask = input("mask", [BATCH, side, side, 1]);
  const { logits } = networkGraph(config, parameters, image, "batch");
  const loss = name === "focal"
    ? focalLoss(logits, target)
    : name === "cross-entropy"
    ? crossEntropy(logits, target)
    : crossEntropyDice(logits, target, mask);
  const trained = [...parameters.variables.values()].filter((v) => !isRunningStatistic(v.name));
  const outputs: Record<string, Tensor> = { logits, loss };
  gradient(loss, trained.map((v) => v.tensor)).forEach((grad, i) => outputs[trained[i].name] = grad);
  const values = new Map<string, NDArray>();
  for (const v of trained) values.set(v.name, ndarray(v.shape, await v.read()));
  using program = compile(gpu, outputs);
  const feed = { image: pixels, labels };
  const result = await program.run(name === "cross-entropy+dice" ? { ...feed, mask: Float32Array.from(labels) } : feed);

  const layers = new ReferenceLayers((part) => values.get(`${prefix}.${part}`)!);
  const expected = describeNetwork(config, layers, leaf([BATCH, side, side, 3], pixels));
  assert.ok(layers.nearest > 2e-6, `a value lies ${layers.nearest} from a jump; take another seed`);
  const truth = ndarray(target.shape, labels);
  const { value, grad } = name === "cross-entropy+dice" ? crossEntropyDiceReference(expected.y, truth) : {
    value: (name === "focal" ? focalLossForward : crossEntropyForward)(expected.y, truth).data[0],
    grad: (name === "focal" ? focalLossBackward : crossEntropyBackward)(scalar(1), expected.y, truth),
  };
  layers.backward(expected, grad);
  assertClose(result.logits, expected.y.data, 1e-4, "logits");
  assertClose(result.loss, [value], 1e-5, "loss");
  assert.equal(layers.parameters.size, trained.length, "every trained parameter was reached");
  for (const { name: full } of trained) {
    const part = full.slice(prefix.length + 1), { data } = layers.parameters.get(part)!.grad!;
    // A bias before a batch norm has no gradient: what is left is rounding, beside its kernel's gradient.
    const kernel = layers.parameters.get(part.replace(/bias$/, "weight"))!.grad!.data;
    const scale = Math.max(...kernel.map(Math.abs));
    if (part.endsWith("bias") && data.every((v) => Math.abs(v) < 1e-9 * scale)) {
      const most = Math.max(...result[full].map(Math.abs));
      assert.ok(most < 1e-4 * scale, `${part}: ${most} beside ${scale} of its kernel`);
    } else assertClose(result[full], data, 1e-3, part);
  }
}

const cases: readonly Case[] = [
  { config: { kind: "localisation", baseWidth: 4 }, side: 64, loss: "focal", seed: 0 },
  { config: { kind: "localisation", baseWidth: 8, form: "narrow" }, side: 32, loss: "cross-entropy+dice", seed: 0 },
  { config: { kind: "classifier", baseWidth: 4, classes: 3 }, side: 64, loss: "cross-entropy", seed: 0 },
  {
    config: { kind: "classifier", baseWidth: 4, classes: 3, normalization: "imagenet" },
    side: 64,
    loss: "cross-entropy",
    seed: 0,
  },
];

for (const one of cases) {
  const { kind } = one.config, form = "form" in one.config ? one.config.form : "full depth";
  Deno.test({
    name: `${kind}, ${form}: logits within 1e-4 and every weight's gradient within 1e-3 of float64`,
    fn: () => check(one),
    sanitizeResources: false,
    sanitizeOps: false,
  });
}
