/** The networks: U-Net forward, the same with the gradient to the context, autoencoder both ways. One image each. */

import type { Gpu } from "../../src/gpu/device.ts";
import { compile, type Compiled } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { input } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import { timestepEmbedding, unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import type { AutoencoderConfig, UnetConfig } from "../../src/weights/config.ts";
import { noise } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { channelsFirst } from "./arrays.ts";
import type { Case, CaseEntry } from "./cases.ts";
import { decoderOnnx, encoderOnnx, unetOnnx } from "./onnx.ts";
import { openRival, type RivalInput } from "./rivals.ts";
import { halfWeights } from "./weights.ts";

/** LDM text2img-large's U-Net at another width, and the side of its latent and the length of its text. */
export function benchUnet(width: number): UnetConfig {
  return {
    inChannels: 4,
    outChannels: 4,
    modelChannels: width,
    channelMult: [1, 2, 4, 4],
    numResBlocks: 2,
    attentionLevels: [true, true, true, false],
    numHeads: 8,
    contextDim: 1280,
    numGroups: 32,
  };
}

/** LDM's KL autoencoder at another width. */
export function benchAutoencoder(width: number): AutoencoderConfig {
  return {
    patchSize: 1,
    inChannels: 3,
    outChannels: 3,
    channels: width,
    channelMult: [1, 2, 4, 4],
    numResBlocks: 2,
    zChannels: 4,
    embedDim: 4,
    midAttention: true,
    numGroups: 32,
  };
}

/** Sizes to measure. */
export interface NetworkSizes {
  /** Channels of the U-Net. */
  readonly width: number;
  /** Side of the latent. */
  readonly side: number;
  /** Channels of the autoencoder. */
  readonly autoencoderWidth: number;
}

const TEXT = 77, weights = halfWeights("bench");

/** Runs a compiled graph; its output y, channels first, where it is compared. */
function network(
  name: string,
  program: Compiled<{ y: Tensor }>,
  parameters: Parameters,
  feed: Record<string, Float32Array>,
  rival?: Case["rival"],
): Case {
  return {
    name,
    group: "networks",
    flops: program.report.flops,
    repeats: 1,
    ours: {
      run: async () => (await program.run(feed)).y,
      dispose() {
        program[Symbol.dispose]();
        parameters[Symbol.dispose]();
      },
    },
    rival,
  };
}

/** U-Net and autoencoder. */
export function networkCases(gpu: Gpu, { width, side, autoencoderWidth }: NetworkSizes): CaseEntry[] {
  const config = benchUnet(width), autoencoder = benchAutoencoder(autoencoderWidth), image = 8 * side;
  const shape = [1, side, side, 4], title = `${width} channels, ${side}×${side}, text ${TEXT}×1280`;
  const feed = {
    x: noise("bench", "x", shape),
    time: timestepEmbedding([500], width),
    context: noise("bench", "context", [1, TEXT, 1280]),
  };
  const graph = () => {
    const parameters = new Parameters(weights, torchLayouts, "f16");
    const context = input("context", [1, TEXT, 1280]);
    return { parameters, context, y: unet(config, parameters, input("x", shape), input("time", [1, width]), context) };
  };
  const single = (
    name: string,
    inner: readonly number[],
    build: (p: Parameters, x: Tensor) => Tensor,
    file: () => Uint8Array,
  ): CaseEntry => ({
    name,
    // deno-lint-ignore require-await
    async open() {
      const parameters = new Parameters(weights, torchLayouts, "f16"), x = noise("bench", name, inner);
      const y = build(parameters, input("x", inner)), channels = inner[3];
      const own = network(name, compile(gpu, { y }), parameters, { x }, (rival) =>
        openRival(rival, file(), {
          x: { data: channelsFirst(x, channels), shape: [1, channels, inner[1], inner[2]] },
        }));
      return firstAxis(own, y.shape[3]);
    },
  });
  return [
    {
      name: `U-Net forward, ${title}`,
      // deno-lint-ignore require-await
      async open() {
        const { parameters, y } = graph();
        const inputs: Record<string, RivalInput> = {
          x: { data: channelsFirst(feed.x, 4), shape: [1, 4, side, side] },
          time: { data: feed.time, shape: [1, width] },
          context: { data: feed.context, shape: [1, TEXT, 1280] },
        };
        const own = network(
          this.name,
          compile(gpu, { y }),
          parameters,
          feed,
          (rival) => openRival(rival, unetOnnx(config, weights, side, TEXT), inputs),
        );
        return firstAxis(own, 4);
      },
    },
    {
      name: `U-Net forward + gradient to the context, ${title}`,
      // deno-lint-ignore require-await
      async open() {
        const { parameters, context, y } = graph();
        const [dContext] = gradient(y, [context], input("seed", y.shape));
        const seed = noise("bench", "seed", y.shape);
        return network(this.name, compile(gpu, { y: dContext }), parameters, { ...feed, seed });
      },
    },
    single(
      `autoencoder encode, ${autoencoderWidth} channels, ${image}×${image}`,
      [1, image, image, 3],
      (p, x) => encode(autoencoder, p, x),
      () => encoderOnnx(autoencoder, weights, image),
    ),
    single(
      `autoencoder decode, ${autoencoderWidth} channels, ${image}×${image}`,
      [1, side, side, 4],
      (p, x) => decode(autoencoder, p, x),
      () => decoderOnnx(autoencoder, weights, side),
    ),
  ];
}

/** The same case with its output channels first, as other runtimes have it. */
function firstAxis(own: Case, channels: number): Case {
  return {
    ...own,
    ours: { ...own.ours, run: async () => channelsFirst(await own.ours.run() as Float32Array, channels) },
  };
}
