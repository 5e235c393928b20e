/**
 * Single ops at the shapes of the U-Net of 128 channels on 32×32 latents: chains of equal layers, long enough that the wait
 * for the result does not count.
 */

import type { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { attention, crossAttention } from "../../src/graph/ops/attention.ts";
import type { Shape, Tensor } from "../../src/graph/tensor.ts";
import { sizeOf } from "../../src/graph/tensor.ts";
import { input } from "../../src/graph/variable.ts";
import { convLayer, groupNormLayer, linearLayer } from "../../src/nn/layers.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { noise } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { channelsFirst } from "./arrays.ts";
import type { CaseEntry } from "./cases.ts";
import type { Limits } from "./limits.ts";
import { NetworkWriter } from "./onnx.ts";
import { openRival, type RivalInput } from "./rivals.ts";
import { halfWeights } from "./weights.ts";

/** A layer that keeps its shape, described for both. */
interface Layer {
  readonly name: string;
  readonly shape: Shape;
  /** FLOPs are few: bytes count. */
  readonly memoryBound?: boolean;
  /** Other inputs: keys and values. */
  readonly others?: Readonly<Record<string, Shape>>;
  ours(p: Parameters, x: Tensor, others: Readonly<Record<string, Tensor>>): Tensor;
  onnx(w: NetworkWriter, x: string): string;
}

const HEADS = 8, TEXT = 77;

const linear = (rows: number, channels: number): Layer => ({
  name: `linear ${rows}×${channels} → ${channels}`,
  shape: [1, rows, channels],
  ours: (p, x) => linearLayer(p, "linear", x, channels),
  onnx: (w, x) => w.linear("linear", x, channels, channels),
});

const image = (name: string, side: number, channels: number) => ({ name, channels, height: side, width: side });

const conv = (side: number, channels: number): Layer => ({
  name: `conv 3×3 ${side}²×${channels}`,
  shape: [1, side, side, channels],
  ours: (p, x) => convLayer(p, "conv", x, channels),
  onnx: (w, x) => w.conv("conv", image(x, side, channels), channels).name,
});

const norm = (side: number, channels: number): Layer => ({
  name: `group norm + SiLU ${side}²×${channels}`,
  shape: [1, side, side, channels],
  memoryBound: true,
  ours: (p, x) => groupNormLayer(p, "norm", x, { groups: 32, eps: 1e-5, activation: "silu" }),
  onnx: (w, x) => w.groupNorm("norm", image(x, side, channels), 32, 1e-5, true).name,
});

const self = (rows: number, channels: number): Layer => ({
  name: `self-attention ${rows}×${channels}, ${HEADS} heads`,
  shape: [1, rows, channels],
  ours: (_, x) => attention(x, x, x, { heads: HEADS }),
  onnx: (w, x) => w.attention(x, x, x, [rows, rows, channels], HEADS),
});

const cross = (rows: number, channels: number): Layer => ({
  name: `cross-attention ${rows}×${channels} to ${TEXT}, ${HEADS} heads`,
  shape: [1, rows, channels],
  others: { k: [1, TEXT, channels], v: [1, TEXT, channels] },
  ours: (_, x, { k, v }) => crossAttention(x, k, v, { heads: HEADS, mode: "logits" }),
  onnx: (w, x) => w.attention(x, "k", "v", [rows, TEXT, channels], HEADS),
});

const layers: readonly Layer[] = [
  ...[linear(1024, 128), linear(256, 256), linear(64, 512)],
  ...[conv(32, 128), conv(16, 256), conv(8, 512)],
  ...[self(1024, 128), self(256, 256), cross(1024, 128), cross(256, 256)],
  ...[norm(32, 128), norm(16, 256)],
];

/** Milliseconds that a chain of ours shall take. */
const AIM = 250, QUICK_AIM = 40;

function entry(gpu: Gpu, limits: () => Limits, quick: boolean, layer: Layer): CaseEntry {
  return {
    name: layer.name,
    // deno-lint-ignore require-await
    async open() {
      const { shape, others = {} } = layer, size = sizeOf(shape), four = shape.length === 4;
      const weights = halfWeights(`op ${layer.name}`);
      const parameters = new Parameters(weights, torchLayouts, "f16");
      const inputs = Object.fromEntries(Object.entries(others).map(([name, own]) => [name, input(name, own)]));
      const chain = (repeats: number) => {
        let y = input("x", shape);
        for (let i = 0; i < repeats; i++) y = layer.ours(parameters, y, inputs);
        return y;
      };
      using one = compile(gpu, { y: chain(1) });
      const { flops } = one.report, bytes = layer.memoryBound ? 8 * size : undefined;
      const least = bytes ? bytes / limits().copy.gbps / 1e6 : flops / limits().matmul.gflops / 1e6; // milliseconds
      const repeats = Math.max(1, Math.min(256, Math.round((quick ? QUICK_AIM : AIM) / (2 * least))));
      const feed: Record<string, Float32Array> = { x: noise("bench", "x", shape) };
      for (const [name, own] of Object.entries(others)) feed[name] = noise("bench", name, own);
      const program = compile(gpu, { y: chain(repeats) });
      return {
        name: layer.name,
        group: "ops",
        flops: flops * repeats,
        bytes: bytes && bytes * repeats,
        repeats,
        ours: {
          run: async () => {
            const { y } = await program.run(feed);
            return four ? channelsFirst(y, shape[3]) : y;
          },
          dispose() {
            program[Symbol.dispose]();
            parameters[Symbol.dispose]();
          },
        },
        rival(which) {
          const w = new NetworkWriter(weights), outer = four ? [1, shape[3], shape[1], shape[2]] : shape;
          let y = w.model.input("x", outer);
          for (const [name, own] of Object.entries(others)) w.model.input(name, own);
          for (let i = 0; i < repeats; i++) y = layer.onnx(w, y);
          const feeds: Record<string, RivalInput> = {
            x: { data: four ? channelsFirst(feed.x, shape[3]) : feed.x, shape: outer },
          };
          for (const [name, own] of Object.entries(others)) feeds[name] = { data: feed[name], shape: own };
          return openRival(which, w.finish(y, outer), feeds);
        },
      };
    },
  };
}

/** All of them. */
export function opCases(gpu: Gpu, limits: () => Limits, quick: boolean): CaseEntry[] {
  return layers.map((layer) => entry(gpu, limits, quick, layer));
}
