/**
 * The official spatial encoder at toy widths against a float64 composition of the reference layers: tokens under both kinds
 * of statistics, all gradients (as derivatives along random directions), the running statistics that a batch leaves.
 */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { decodeEmbedding, encodeEmbedding } from "../../src/anomaly/embedding.ts";
import { Inversion } from "../../src/anomaly/inversion.ts";
import { Sampler } from "../../src/anomaly/sampler.ts";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, input, readVariables } from "../../src/graph/variable.ts";
import {
  isRunningStatistic,
  type OfficialSpatialConfig,
  officialSpatialConfig,
  officialSpatialEncoder,
  officialSpatialInit,
  type Statistics,
} from "../../src/models/official_spatial_encoder.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { Random } from "../../src/random/philox.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { conv2dForward, linearForward } from "../reference/gemm.ts";
import { batchNormForward, batchNormInferenceForward } from "../reference/norms.ts";
import { leakyReluForward, preluForward } from "../reference/pointwise.ts";
import { resizeBilinearForward } from "../reference/resample.ts";
import { dot, map, type NDArray, ndarray, normals, reshape, uniforms } from "../support/arrays.ts";
import { assertClose, relativeL2 } from "../support/close.ts";
import { gpu } from "../support/ops.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

const CONFIG: OfficialSpatialConfig = {
  ...officialSpatialConfig(2, 8, { side: 40 }),
  channels: [4, 4, 6, 8, 12],
};
const BATCH = 2, PREFIX = "spatial_encoder";

type Values = ReadonlyMap<string, NDArray>;

const plus = (a: NDArray, b: NDArray) => map(a, (value, i) => value + b.data[i]);

/** Every other row and column, from the first on. */
function thinned(x: NDArray): NDArray {
  const [B, H, W, C] = x.shape, h = Math.ceil(H / 2), w = Math.ceil(W / 2);
  const y = ndarray([B, h, w, C]);
  for (let b = 0; b < B; b++) {
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++) {
        for (let c = 0; c < C; c++) {
          y.data[((b * h + i) * w + j) * C + c] = x.data[((b * H + 2 * i) * W + 2 * j) * C + c];
        }
      }
    }
  }
  return y;
}

/** Tokens [B, n, width] in float64; kernels are HWIO. */
function reference(values: Values, mask: NDArray, statistics: Statistics): NDArray {
  const get = (name: string) => {
    const value = values.get(`${PREFIX}.${name}`);
    assert.ok(value, name);
    return value;
  };
  const norm = (name: string, x: NDArray) => {
    const [gamma, beta] = [get(`${name}.weight`), get(`${name}.bias`)], options = { eps: 1e-5 };
    return statistics === "batch"
      ? batchNormForward(x, gamma, beta, options).y
      : batchNormInferenceForward(x, gamma, beta, get(`${name}.running_mean`), get(`${name}.running_var`), options);
  };
  const conv = (name: string, x: NDArray, stride: number, bias = false) => {
    const w = get(`${name}.weight`), half = w.shape.length === 4 ? (w.shape[0] - 1) / 2 : 0;
    const kernel = w.shape.length === 4 ? w : reshape(w, [1, 1, ...w.shape]);
    const options = { stride: [stride, stride], padding: [half, half, half, half] } as const;
    return conv2dForward(x, kernel, bias ? get(`${name}.bias`) : undefined, options);
  };
  const [B, S] = mask.shape;
  const three = ndarray(
    [B, S, S, 3],
    Float64Array.from({ length: B * S * S * 3 }, (_, i) => {
      return 2 * mask.data[Math.floor(i / 3)] - 1;
    }),
  );
  let h = preluForward(norm("input_layer.1", conv("input_layer.0", three, 1)), get("input_layer.2.weight"));
  const taps: NDArray[] = [];
  for (let i = 0; i < 24; i++) {
    const name = `body.${i}`, stride = [0, 3, 7, 21].includes(i) ? 2 : 1;
    let r = conv(`${name}.res_layer.1`, norm(`${name}.res_layer.0`, h), 1);
    r = conv(`${name}.res_layer.3`, preluForward(r, get(`${name}.res_layer.2.weight`)), stride);
    r = norm(`${name}.res_layer.4`, r);
    const projected = values.has(`${PREFIX}.${name}.shortcut_layer.0.weight`);
    const shortcut = projected
      ? norm(`${name}.shortcut_layer.1`, conv(`${name}.shortcut_layer.0`, h, stride))
      : stride === 2
      ? thinned(h)
      : h;
    h = plus(r, shortcut);
    if ([6, 20, 23].includes(i)) taps.push(h);
  }
  const merge = (above: NDArray, tap: NDArray, name: string) => {
    const size = [tap.shape[1], tap.shape[2]] as const;
    return plus(conv(name, tap, 1, true), resizeBilinearForward(above, { size, alignCorners: true }));
  };
  const p1 = merge(merge(taps[2], taps[1], "latlayer1"), taps[0], "latlayer2");
  const tokens = ndarray([B, CONFIG.tokens, CONFIG.width]);
  for (let k = 0; k < CONFIG.tokens; k++) {
    let t = p1;
    for (let i = 0; t.shape[1] > 1; i += 2) t = leakyReluForward(conv(`styles.${k}.convs.${i}`, t, 2, true), 0.01);
    const flat = reshape(t, [B, CONFIG.width]), w = get(`styles.${k}.linear.weight`);
    const y = linearForward(flat, map(w, (v) => v / Math.sqrt(CONFIG.width)), get(`styles.${k}.linear.bias`));
    for (let b = 0; b < B; b++) {
      tokens.data.set(
        y.data.subarray(b * CONFIG.width, (b + 1) * CONFIG.width),
        (b * CONFIG.tokens + k) * CONFIG.width,
      );
    }
  }
  return tokens;
}

const mask = uniforms([BATCH, CONFIG.side, CONFIG.side, 1], "mask");

/** Values of all parameters in the engine's layout. */
async function valuesOf(p: Parameters): Promise<Map<string, NDArray>> {
  const variables = [...p.variables.values()], data = await readVariables(variables);
  return new Map(variables.map(({ name, shape }, i) => [name, ndarray(shape, data[i])]));
}

for (const statistics of ["running", "batch"] as const) {
  Deno.test({
    name: `official spatial encoder: tokens and gradients, ${statistics} statistics`,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      using p = new Parameters(new FormulaWeights("toy"), torchLayouts);
      const built = officialSpatialEncoder(CONFIG, p, input("mask", mask.shape), statistics);
      assert.deepEqual(built.tokens.shape, [BATCH, 2, 8]);
      const dy = normals(built.tokens.shape, "spatial encoder/dy"), before = await valuesOf(p);
      const names = [...before.keys()].filter((name) => !isRunningStatistic(name));
      const seed = constant(Float32Array.from(dy.data), dy.shape);
      const grads = gradient(built.tokens, names.map((name) => p.variables.get(name)!.tensor), seed);
      using program = compile(
        gpu,
        Object.fromEntries([["tokens", built.tokens], ...grads.map((grad, i) => [names[i], grad])]) as Record<
          string,
          Tensor
        >,
        built.effects,
      );
      const result = await program.run({ mask: Float32Array.from(mask.data) });
      assertClose(result.tokens, reference(before, mask, statistics).data, 2e-5, "tokens");

      const groups = [
        /res_layer\.[13]\.weight|input_layer\.0/,
        /res_layer\.[04]\.weight/,
        /res_layer\.[04]\.bias/,
        /shortcut_layer/,
        /\.2\.weight$/,
        /latlayer/,
        /convs.*weight/,
        /convs.*bias/,
        /linear/,
      ];
      for (const group of groups) {
        // So short a step that hardly any slope's kink lies within it.
        const moved = names.filter((name) => group.test(name)), step = 1e-7;
        assert.ok(moved.length, `${group}`);
        const directions = new Map(moved.map((name) => [name, normals(before.get(name)!.shape, `direction/${name}`)]));
        const at = (t: number) => {
          const values = new Map(before);
          for (const [name, d] of directions) values.set(name, map(before.get(name)!, (v, i) => v + t * d.data[i]));
          return dot(reference(values, mask, statistics), dy);
        };
        const expected = (at(step) - at(-step)) / (2 * step);
        let actual = 0, size = 0;
        for (const [name, d] of directions) {
          d.data.forEach((v, i) => actual += v * result[name][i]);
          size += result[name].reduce((sum, g) => sum + g * g, 0);
        }
        // The derivative along a random direction has the gradient's norm as its standard deviation.
        const error = Math.abs(actual - expected) / Math.sqrt(size);
        assert.ok(error < 1e-5, `${group}: ${actual}, expected ${expected}, off by ${error} of the gradient's norm`);
      }

      const after = await valuesOf(p);
      for (const [name, value] of before) {
        const moved = value.data.some((v, i) => v !== after.get(name)!.data[i]);
        assert.equal(moved, statistics === "batch" && isRunningStatistic(name), name);
      }
    },
  });
}

Deno.test({
  name: "official spatial encoder: a batch moves the running statistics a tenth of the way",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    using p = new Parameters(new FormulaWeights("toy"), torchLayouts);
    const { tokens, effects } = officialSpatialEncoder(CONFIG, p, input("mask", mask.shape), "batch");
    const before = await valuesOf(p);
    using program = compile(gpu, { tokens }, effects);
    await program.run({ mask: Float32Array.from(mask.data) });
    const after = await valuesOf(p);
    const [B, S] = mask.shape, w = before.get(`${PREFIX}.input_layer.0.weight`)!;
    const three = ndarray(
      [B, S, S, 3],
      Float64Array.from({ length: B * S * S * 3 }, (_, i) => {
        return 2 * mask.data[Math.floor(i / 3)] - 1;
      }),
    );
    const x = conv2dForward(three, w, undefined, { padding: [1, 1, 1, 1] }), ones = ndarray([4], 1);
    const { mean, variance } = batchNormForward(x, ones, ones, { eps: 1e-5 }), count = B * S * S;
    const expected = { running_mean: mean, running_var: map(variance, (v) => v * count / (count - 1)) };
    for (const [part, batch] of Object.entries(expected)) {
      const name = `${PREFIX}.input_layer.1.${part}`, old = before.get(name)!;
      assertClose(after.get(name)!.data, old.data.map((v, i) => 0.9 * v + 0.1 * batch.data[i]), 1e-5, name);
    }
  },
});

Deno.test("official spatial encoder: the state dict at width 1280 has the published size and names", () => {
  const config = officialSpatialConfig(4, 1280), shapes = new Map<string, readonly number[]>();
  const source = { get: () => new Float32Array(0) };
  const p = new Parameters(source, {
    // Variables ask for their values only when a device needs them: nothing of this size is made here.
    fromTorch: (_, data) => data,
    toTorch: (_, data) => data,
  });
  officialSpatialEncoder(config, p, input("mask", [1, 256, 256, 1]));
  for (const { name, shape } of p.variables.values()) shapes.set(name, shape);
  const norms = [...shapes.keys()].filter((name) => name.endsWith(".running_mean")).length;
  // The reference counts 397 tensors, one step counter per norm among them.
  assert.equal(shapes.size + norms, 397);
  const trained = [...shapes].filter(([name]) => !isRunningStatistic(name));
  assert.equal(trained.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0), 356_019_392);
  for (const name of ["body.21.shortcut_layer.0.weight", "styles.3.convs.10.bias", "latlayer2.bias"]) {
    assert.ok(shapes.has(`${PREFIX}.${name}`), name);
  }
});

Deno.test("official spatial encoder: initial values follow PyTorch's defaults", () => {
  const source = officialSpatialInit(CONFIG, 3), at = (name: string, shape: number[]) => source.get(name, shape);
  const all = (values: Float32Array, value: number) => assert.ok(values.every((v) => v === value));
  all(at("spatial_encoder.body.0.res_layer.0.weight", [4]), 1);
  all(at("spatial_encoder.body.0.res_layer.0.running_var", [4]), 1);
  all(at("spatial_encoder.body.0.res_layer.4.running_mean", [4]), 0);
  all(at("spatial_encoder.body.0.res_layer.2.weight", [4]), 0.25);
  all(at("spatial_encoder.styles.0.linear.bias", [8]), 0);
  const spread = (name: string, shape: number[]) => at(name, shape).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  for (
    const [name, shape, bound] of [
      ["body.0.res_layer.1.weight", [40, 25, 3, 3], 1 / 15],
      ["latlayer1.bias", [2000], 1 / Math.sqrt(8)],
      ["styles.1.convs.0.bias", [2000], 1 / Math.sqrt(108)],
      ["styles.1.convs.2.bias", [2000], 1 / Math.sqrt(72)],
    ] as const
  ) {
    const most = spread(`spatial_encoder.${name}`, [...shape]);
    assert.ok(most <= bound && most > 0.98 * bound, `${name}: ${most}, bound ${bound}`);
  }
  const linear = at("spatial_encoder.styles.0.linear.weight", [100, 100]);
  const variance = linear.reduce((sum, v) => sum + v * v, 0) / linear.length;
  assert.ok(Math.abs(variance - 1) < 0.05, `${variance}`);
});

Deno.test("official spatial encoder: a mask too small for its strides is refused", () => {
  using p = new Parameters(new FormulaWeights("toy"), torchLayouts);
  const config = officialSpatialConfig(1, 8, { side: 16 });
  assert.throws(() => officialSpatialEncoder(config, p, input("mask", [1, 16, 16, 1])), /at least 32 × 32/);
});

Deno.test({
  name: "official spatial encoder: trains in an inversion, resumes to the bit, and its file samples",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const folder = Deno.makeTempDirSync();
    try {
      writeTinyModel(folder);
      using base = new BaseModel(gpu, folder, "f32");
      const { side, latentSize, latentSide } = base, mask = new Float32Array(side ** 2).fill(1, 100, 300);
      const item = { key: "part+defect", latentMask: new Float32Array(latentSide ** 2).fill(1, 5, 30), mask };
      const items = [1, 2].map((i) => ({ ...item, moments: new Random(i, "moments").normals(2 * latentSize) }));
      const settings = {
        tokens: 2,
        spatialTokens: 1,
        spatialEncoder: { ...CONFIG, tokens: 1, width: 32, side: 32 },
        batch: 2,
        steps: 3,
        seed: 1,
        learningRate: 0.005,
        encoderLearningRate: 0.001,
        initializerToken: "defect",
        area: true,
        templates: ["a photo of a *"],
      };
      using once = new Inversion(base, items, settings);
      await once.advance(2);
      const saved = await once.save(), loss = await once.advance(3);
      using again = new Inversion(base, items, settings);
      again.load(saved, "checkpoint");
      assert.equal(await again.advance(3), loss);
      const learned = decodeEmbedding(encodeEmbedding(await again.embedding()), "embeddings");
      const parameters = learned.spatial!.parameters,
        initial = officialSpatialInit(learned.spatial!.config as OfficialSpatialConfig, 1);
      for (const name of ["input_layer.0.weight", "input_layer.1.running_var", "styles.0.linear.weight"]) {
        const { shape, data } = parameters.get(`${PREFIX}.${name}`)!, start = initial.get(`${PREFIX}.${name}`, shape);
        assert.ok(data.some((v, i) => v !== start[i]), `${name} has not moved`);
      }
      using sampler = new Sampler(base, learned, {
        batch: 1,
        steps: 2,
        eta: 1,
        guidance: 1,
        reweighting: "off",
        seed: 1,
      });
      const job = {
        stream: "pair",
        index: 0,
        attempt: 0,
        prompt: base.prompt("a photo of a *"),
        tokens: learned.table,
      };
      const [one] = await sampler.sample([{ ...job, mask }]),
        [other] = await sampler.sample([{ ...job, mask: mask.map((v) => 1 - v) }]);
      assert.ok(one.every(Number.isFinite));
      assert.ok(relativeL2(one, other) > 1e-6, "the mask does not reach the picture");
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
