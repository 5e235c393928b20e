/** Replaced cross-attention against a plain float64 reference, and that the replacement reaches the sampled picture. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { Sampler, type SamplerSettings } from "../../src/anomaly/sampler.ts";
import { compile } from "../../src/graph/compile.ts";
import { input } from "../../src/graph/variable.ts";
import { replacedAttention } from "../../src/nn/replaced_attention.ts";
import { Random } from "../../src/random/philox.ts";
import { assertClose, ndarray, normals, uniforms } from "../support/arrays.ts";
import { gpu } from "../support/ops.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

Deno.test({
  name: "marked columns attend as the map says, the others as the softmax does",
  sanitizeResources: false,
  async fn() {
    const B = 2, N = 9, M = 7, H = 2, D = 4, width = H * D, share = 0.25;
    const q = normals([B, N, width], "q"), k = normals([B, M, width], "k"), v = normals([B, M, width], "v");
    const map = uniforms([B, N], "map");
    const columns = ndarray([B, M]); // the second image's stay as they are: the unconditional half of guidance
    columns.data.set([0, 1, 1, 0, 0, 1, 0]);
    const expected = ndarray([B, N, width]);
    for (let b = 0; b < B; b++) {
      for (let i = 0; i < N; i++) {
        for (let h = 0; h < H; h++) {
          const weights = Array.from({ length: M }, (_, j) => {
            let dot = 0;
            for (let d = 0; d < D; d++) {
              dot += q.data[(b * N + i) * width + h * D + d] * k.data[(b * M + j) * width + h * D + d];
            }
            return Math.exp(dot / Math.sqrt(D));
          });
          const total = weights.reduce((x, y) => x + y);
          weights.forEach((weight, j) => {
            const p = columns.data[b * M + j] ? share * map.data[b * N + i] : weight / total;
            for (let d = 0; d < D; d++) {
              expected.data[(b * N + i) * width + h * D + d] += p * v.data[(b * M + j) * width + h * D + d];
            }
          });
        }
      }
    }
    const arrays = { q, k, v, map, columns };
    const [tq, tk, tv, tm, tc] = Object.entries(arrays).map(([name, { shape }]) => input(name, shape));
    using program = compile(gpu, { o: replacedAttention(tq, tk, tv, { heads: H, share }, tm, tc) });
    const feed = Object.fromEntries(Object.entries(arrays).map(([name, { data }]) => [name, Float32Array.from(data)]));
    const { o } = await program.run(feed);
    assertClose({ shape: expected.shape, data: o }, expected, 1e-5, "replaced attention");
  },
});

Deno.test({
  name: "the sampler's replacement follows the mask and, like all else, the job alone",
  sanitizeResources: false,
  async fn() {
    const folder = Deno.makeTempDirSync();
    try {
      writeTinyModel(folder);
      using base = new BaseModel(gpu, folder);
      const width = base.config.text.width, tokens = new Random(1, "tokens").normals(2 * width);
      const embedding = { keys: ["a+b"], tokens: 2, width, table: tokens, model: base.sha256 };
      const background = new Random(2, "background").normals(base.latentSize);
      const half = Float32Array.from({ length: base.latentSide ** 2 }, (_, i) => (i % base.latentSide < 4 ? 1 : 0));
      const job = (index: number, latentMask: Float32Array) => ({
        stream: "pair/a+b",
        index,
        attempt: 0,
        prompt: base.prompt("a photo of a *"),
        tokens,
        latentMask,
        background,
      });
      const sample = async (change: Partial<SamplerSettings>, index = 0, latentMask = half) => {
        const settings = {
          batch: 2,
          steps: 3,
          eta: 1,
          guidance: 2,
          reweighting: "replace",
          seed: 3,
          ...change,
        } as const;
        using sampler = new Sampler(base, embedding, settings);
        const jobs = [job(5, latentMask), job(6, latentMask)];
        return (await sampler.sample(index ? jobs.slice(0, index) : jobs))[0];
      };
      const replaced = await sample({});
      assert.ok(replaced.every(Number.isFinite));
      assert.deepEqual(await sample({}, 1), replaced); // alone in its batch
      const inside = (x: Float32Array) => x.filter((_, k) => half[Math.floor(k / base.latentChannels)]);
      assert.notDeepEqual(inside(await sample({ reweighting: "off" })), inside(replaced));
      const outside = replaced.filter((_, k) => !half[Math.floor(k / base.latentChannels)]);
      assert.deepEqual(outside, background.filter((_, k) => !half[Math.floor(k / base.latentChannels)]));
      // With a mask everywhere the left half's attention stays replaced, the right half's becomes so.
      assert.notDeepEqual(inside(await sample({}, 0, half.map(() => 1))), inside(replaced));
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
