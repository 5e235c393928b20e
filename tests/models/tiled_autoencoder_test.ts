import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { plan } from "../../src/graph/plan.ts";
import { input } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import { BAND_BYTES, decoderWalk, encoderWalk } from "../../src/models/autoencoder_bands.ts";
import { TiledAutoencoder } from "../../src/models/tiled_autoencoder.ts";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import type { AutoencoderConfig } from "../../src/weights/config.ts";
import { FormulaWeights, noise } from "../../src/weights/formula.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { tinyModelConfig, writeTinyModel } from "../support/tiny_model.ts";

const gpu = await Gpu.open();

const config = (change: Partial<AutoencoderConfig>): AutoencoderConfig => ({
  patchSize: 1,
  inChannels: 3,
  outChannels: 3,
  channels: 8,
  channelMult: [1, 2],
  numResBlocks: 1,
  zChannels: 4,
  embedDim: 4,
  midAttention: true,
  numGroups: 4,
  ...change,
});

const worst = (a: Float32Array, b: Float32Array) => a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);

for (
  const [what, sizes, [height, width]] of [
    ["as LDM's", config({}), [20, 12]],
    ["with a patch step and three levels", config({ patchSize: 2, channelMult: [1, 1, 2], midAttention: false }), [
      6,
      10,
    ]],
  ] as const
) {
  Deno.test({
    name: `tiled autoencoder, ${what}: bands of any height give what the whole image gives, everywhere`,
    sanitizeResources: false,
    async fn() {
      const factor = sizes.patchSize * 2 ** (sizes.channelMult.length - 1),
        side = [height * factor, width * factor] as const;
      using parameters = new Parameters(new FormulaWeights("tiled"), torchLayouts, "f16");
      const z = noise("tiled", "z", [height * width * 4]);
      // A picture whose halves differ, so that the statistics of a band are far from those of the whole.
      const image = noise("tiled", "image", [side[0] * side[1] * 3])
        .map((v, i) => (i < side[0] * side[1] * 1.5 ? 0.05 * v - 0.8 : 0.5 * v + 0.5));
      using whole = compile(gpu, {
        image: decode(sizes, parameters, input("z", [1, height, width, 4])),
        moments: encode(sizes, parameters, input("x", [1, ...side, 3])),
      });
      const expected = await whole.run({ z, x: image });
      for (const bytes of [1, 40_000, 2 ** 26]) {
        const tiled = new TiledAutoencoder(gpu, sizes, parameters, bytes);
        const decoded = await tiled.decode(z, [height, width]), encoded = await tiled.encode(image, side);
        assert.ok(worst(decoded, expected.image) < 2e-4, `decode, ${bytes}: ${worst(decoded, expected.image)}`);
        assert.ok(worst(encoded, expected.moments) < 2e-4, `encode, ${bytes}: ${worst(encoded, expected.moments)}`);
      }
    },
  });
}

Deno.test("tiled autoencoder: no band of the large model takes more than it may, however many channels a layer adds", () => {
  const nothing = { get: () => assert.fail("values are not read to plan") };
  const parameters = new Parameters(nothing, torchLayouts, "f16"), { autoencoder } = largeModelConfig();
  for (
    const walk of [encoderWalk(autoencoder, parameters, [1024, 1024]), decoderWalk(autoencoder, parameters, [128, 128])]
  ) {
    walk.layers.forEach(({ scale }, i) => {
      if (scale === "whole") return;
      const [first] = walk.bands(i, BAND_BYTES), { report } = plan(Object.values(walk.graph(i, first)));
      assert.ok(report.activationBytes <= BAND_BYTES, `layer ${i}: ${report.activationBytes}`);
    });
  }
});

Deno.test("tiled autoencoder: sizes that do not fit are refused", async () => {
  using parameters = new Parameters(new FormulaWeights("tiled"), torchLayouts);
  const tiled = new TiledAutoencoder(gpu, config({}), parameters);
  await assert.rejects(tiled.encode(new Float32Array(5 * 4 * 3), [5, 4]), /multiples of 2/);
  await assert.rejects(tiled.decode(new Float32Array(10), [2, 2]), /expected 2×2×4 values/);
});

Deno.test({
  name: "tiled autoencoder: a base model takes it where one image is more than the adapter binds",
  sanitizeResources: false,
  async fn() {
    const folder = Deno.makeTempDirSync();
    try {
      writeTinyModel(folder, "tiled", { ...tinyModelConfig(), resolution: 64 });
      // The weights fit 96 KiB, a map of 32 × 32 pixels and 32 channels does not.
      using small = new BaseModel(gpu, folder, "f16", 96 * 1024), large = new BaseModel(gpu, folder);
      const image = noise("tiled", "image", [64 * 64 * 3], 0.5), [moments] = await large.encode([image]);
      const latent = noise("tiled", "latent", [large.latentSize]), [picture] = await large.decode([latent]);
      let items = 0;
      const again = await small.encode([image, image], () => items++), [drawn] = await small.decode([latent]);
      assert.equal(items, 2);
      assert.equal(small.autoencoderBatch, 1);
      for (const found of again) assert.ok(worst(found, moments) < 2e-4);
      assert.ok(worst(drawn, picture) < 2e-4);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
