/** A model folder's own spatial encoder: when a training starts from it, and which configurations are refused. */
import assert from "node:assert/strict";
import { pretrainedSpatialFits } from "../../src/anomaly/inversion.ts";
import { UserError } from "../../src/errors.ts";
import { lightSpatialConfig } from "../../src/models/spatial_encoder.ts";
import { checkModelConfig } from "../../src/weights/config.ts";
import { tinyModelConfig } from "../support/tiny_model.ts";

Deno.test("spatial encoder of a folder: a training starts from it where its sizes are those asked for", () => {
  const own = { ...tinyModelConfig(), spatialEncoder: lightSpatialConfig(4, 32) };
  assert.equal(pretrainedSpatialFits(own, lightSpatialConfig(4, 32)), true);
  assert.equal(pretrainedSpatialFits(own, lightSpatialConfig(3, 32)), false);
  assert.equal(pretrainedSpatialFits(own, { ...lightSpatialConfig(4, 32), channels: [8] }), false);
  assert.equal(pretrainedSpatialFits(tinyModelConfig(), lightSpatialConfig(4, 32)), false);
});

Deno.test("spatial encoder of a folder: its configuration is checked", () => {
  const own = { ...tinyModelConfig(), spatialEncoder: lightSpatialConfig(4, 32) };
  assert.equal(checkModelConfig(own, "config.json"), own);
  for (const wrong of [{ width: 16 }, { tokens: 0 }, { kind: "official" }, { channels: [] }]) {
    const config = { ...own, spatialEncoder: { ...own.spatialEncoder, ...wrong } };
    assert.throws(() => checkModelConfig(config, "config.json"), (error) => {
      return error instanceof UserError && error.message.includes(`spatialEncoder.${Object.keys(wrong)[0]}`);
    });
  }
});
