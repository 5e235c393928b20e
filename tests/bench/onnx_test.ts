import assert from "node:assert/strict";
import { channelsFirst, distance } from "../../bench/lib/arrays.ts";
import { decoderOnnx, encoderOnnx, unetOnnx } from "../../bench/lib/onnx.ts";
import { openRival, type RivalInput } from "../../bench/lib/rivals.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { input } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import { timestepEmbedding, unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { FormulaWeights, noise } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { tinyModelConfig } from "../support/tiny_model.ts";

const gpu = await Gpu.open(), weights = new FormulaWeights("bench"), config = tinyModelConfig();
const autoencoder = { ...config.autoencoder, patchSize: 1, midAttention: true };

async function check(
  y: Tensor,
  bytes: Uint8Array,
  feed: Record<string, Float32Array>,
  images: Record<string, RivalInput>,
): Promise<void> {
  using program = compile(gpu, { y });
  const ours = await program.run(feed);
  for (const rival of ["ort-wasm", "ort-webgpu"] as const) {
    const session = await openRival(rival, bytes, images);
    const theirs = await session.run();
    await session.release();
    const off = distance(theirs, channelsFirst(ours.y, y.shape[3]));
    assert.ok(off < 1e-4, `${rival} is off by ${off}`);
  }
}

Deno.test({
  name: "bench: the U-Net's ONNX file computes what ours does, in both providers",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const { unet: sizes } = config, side = 8, length = 5;
    using parameters = new Parameters(weights, torchLayouts);
    const x = noise("a", "x", [side * side * 4]), context = noise("a", "context", [length * sizes.contextDim]);
    const time = timestepEmbedding([321], sizes.modelChannels);
    await check(
      unet(
        sizes,
        parameters,
        input("x", [1, side, side, 4]),
        input("time", [1, sizes.modelChannels]),
        input("context", [1, length, sizes.contextDim]),
      ),
      unetOnnx(sizes, weights, side, length),
      { x, time, context },
      {
        x: { data: channelsFirst(x, 4), shape: [1, 4, side, side] },
        time: { data: time, shape: [1, sizes.modelChannels] },
        context: { data: context, shape: [1, length, sizes.contextDim] },
      },
    );
  },
});

Deno.test({
  name: "bench: so do the autoencoder's",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    using parameters = new Parameters(weights, torchLayouts);
    const image = noise("a", "image", [16 * 16 * 3]), z = noise("a", "z", [8 * 8 * 4]);
    await check(
      encode(autoencoder, parameters, input("x", [1, 16, 16, 3])),
      encoderOnnx(autoencoder, weights, 16),
      { x: image },
      { x: { data: channelsFirst(image, 3), shape: [1, 3, 16, 16] } },
    );
    await check(
      decode(autoencoder, parameters, input("x", [1, 8, 8, 4])),
      decoderOnnx(autoencoder, weights, 8),
      { x: z },
      { x: { data: channelsFirst(z, 4), shape: [1, 4, 8, 8] } },
    );
  },
});
