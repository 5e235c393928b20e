/** Exported networks run by onnxruntime-web: the same maps, scores and probabilities as the engine's. */
import assert from "node:assert/strict";
import * as ort from "onnxruntime-web";
import { imageScore } from "../../../src/inspection/metrics/image_score.ts";
import { networkParameters } from "../../../src/inspection/models/init.ts";
import type { NetworkConfig } from "../../../src/inspection/models/network.ts";
import { exportOnnx } from "../../../src/inspection/onnx/export.ts";
import { OPSET } from "../../../src/inspection/onnx/writer.ts";
import { type InspectorInfo, withPrefix } from "../../../src/inspection/training/model_file.ts";
import { Predictor } from "../../../src/inspection/training/predictor.ts";
import { Random } from "../../../src/random/philox.ts";
import { FormulaWeights } from "../../../src/weights/formula.ts";
import { gpu } from "../../support/ops.ts";

const SIDE = 64, COUNT = 3;

/** Statistics and scales differ from the identity in formula weights, so a norm that is left out shows. */
const formula = new FormulaWeights("onnx");

/** The last layer amplified, so that maps have contrast. */
const weights = {
  has: () => true,
  get: (name: string, shape: readonly number[]) =>
    formula.get(name, shape).map((v) => name === "decoder_segment.fin_out.0.weight" ? 20 * v : v),
};

const samples = Array.from({ length: COUNT }, (_, i) => {
  const random = new Random(3, "onnx/image", i);
  return { path: `${i}`, pixels: Uint8ClampedArray.from({ length: 3 * SIDE * SIDE }, () => random.integer(0, 256)) };
});

async function both(config: NetworkConfig) {
  const info: InspectorInfo = {
    config,
    side: SIDE,
    labels: ["crack", "hole", "stain"],
    parts: ["wood"],
    selection: "last",
    step: 1,
    seed: 0,
    trainedOn: [],
  };
  using parameters = networkParameters(0, withPrefix(config, weights));
  using predictor = new Predictor(gpu, config, parameters, SIDE, 2);
  const engine: Float32Array[] = [];
  for await (const { index, values } of predictor.predict(samples)) engine[index] = values;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(exportOnnx({ info, weights }), { executionProviders: ["wasm"] });
  try {
    assert.deepEqual(session.inputNames, ["image"]);
    const image = new Float32Array(COUNT * 3 * SIDE * SIDE), plane = SIDE * SIDE;
    samples.forEach(({ pixels }, b) =>
      pixels.forEach((v, i) => image[(b * 3 + i % 3) * plane + Math.floor(i / 3)] = v)
    );
    const result = await session.run({ image: new ort.Tensor("float32", image, [COUNT, 3, SIDE, SIDE]) });
    return { engine, result, names: session.outputNames };
  } finally {
    await session.release();
  }
}

/** Largest difference. */
const gap = (a: Float32Array, b: Float32Array) => a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

const localisation: readonly NetworkConfig[] = [
  { kind: "localisation", baseWidth: 4 },
  { kind: "localisation", baseWidth: 8, form: "narrow" },
];
for (const config of localisation) {
  const form = "form" in config ? "narrow" : "DRAEM's";
  test(`the exported localisation U-Net, ${form}, makes the engine's maps and scores`, () => sameMaps(config));
}

async function sameMaps(config: NetworkConfig): Promise<void> {
  const { engine, result, names } = await both(config);
  assert.deepEqual([...names].sort(), ["map", "score"]);
  assert.deepEqual(result.map.dims, [COUNT, SIDE, SIDE]);
  const maps = result.map.data as Float32Array, scores = result.score.data as Float32Array;
  assert.equal(scores.length, COUNT);
  engine.forEach((map, b) => {
    const other = maps.subarray(b * SIDE * SIDE, (b + 1) * SIDE * SIDE);
    assert.ok(Math.max(...map) - Math.min(...map) > 0.2, "a map without contrast shows nothing");
    assert.ok(gap(map, other) < 1e-4, `map ${b}: off by ${gap(map, other)}`);
    assert.ok(Math.abs(scores[b] - imageScore(map, SIDE, SIDE)) < 1e-4, `score ${b}`);
  });
}

for (const normalization of [undefined, "imagenet"] as const) {
  test(`the exported classifier gives the engine's probabilities, colours ${normalization ?? "as they are"}`, () =>
    sameProbabilities({ kind: "classifier", baseWidth: 8, classes: 3, normalization }));
}

async function sameProbabilities(config: NetworkConfig): Promise<void> {
  const { engine, result, names } = await both(config);
  assert.deepEqual(names, ["probabilities"]);
  assert.deepEqual(result.probabilities.dims, [COUNT, 3]);
  const shares = result.probabilities.data as Float32Array;
  engine.forEach((row, b) => {
    assert.ok(gap(row, shares.subarray(3 * b, 3 * b + 3)) < 1e-4);
    assert.ok(Math.abs(row[0] + row[1] + row[2] - 1) < 1e-5);
  });
  assert.ok(gap(engine[0], engine[1]) > 1e-5, "the images do not reach the output");
}

Deno.test("the model states its opset and its labels", () => {
  const info: InspectorInfo = {
    config: { kind: "classifier", baseWidth: 4, classes: 2 },
    side: 32,
    labels: ["crack", "stain"],
    parts: ["wood"],
    selection: "test-best",
    step: 1,
    seed: 0,
    trainedOn: [],
  };
  const text = new TextDecoder("latin1").decode(exportOnnx({ info, weights }));
  assert.ok(text.includes('["crack","stain"]') && text.includes("test-best"));
  // opset_import (field 8) with its version (field 2)
  assert.ok(text.includes(String.fromCharCode(8 << 3 | 2, 2, 2 << 3, OPSET)));
});
