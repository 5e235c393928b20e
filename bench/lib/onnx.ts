/**
 * The networks of latent diffusion as ONNX graphs with the same weights, in the form in which PyTorch exports them: channels
 * first, group norm as instance norm, attention as two products and a softmax. What the other runtimes are measured on.
 */

import type { ParameterSource } from "../../src/nn/parameters.ts";
import { type Dimension, OnnxWriter } from "../../src/inspection/onnx/writer.ts";
import { AUTOENCODER_PREFIX } from "../../src/models/autoencoder.ts";
import { UNET_PREFIX } from "../../src/models/unet.ts";
import type { AutoencoderConfig, UnetConfig } from "../../src/weights/config.ts";
import { linearFromTorch } from "../../src/weights/layout.ts";

/** An image value of the graph; batch 1. */
interface Image {
  readonly name: string;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** Options of {@linkcode NetworkWriter.conv}. */
interface Conv {
  readonly kernel?: number;
  readonly stride?: number;
  /** ONNX's order: top, left, bottom, right. */
  readonly pads?: readonly [number, number, number, number];
}

/** Writes layers with their weights. */
export class NetworkWriter {
  readonly model = new OnnxWriter();

  constructor(readonly weights: ParameterSource) {}

  #floats(name: string, shape: readonly number[], stored: readonly number[] = shape): string {
    return this.model.floats(name, stored, this.weights.get(name, shape));
  }

  #scalar(value: number): string {
    return this.model.floats(`scalar ${value}`, [], Float32Array.of(value));
  }

  node(type: string, inputs: readonly string[], attributes: Parameters<OnnxWriter["node"]>[2] = {}): string {
    return this.model.node(type, inputs, attributes);
  }

  reshape(x: string, shape: readonly number[]): string {
    return this.node("Reshape", [x, this.model.integers(`shape ${shape}`, shape)]);
  }

  silu(x: string): string {
    return this.node("Mul", [x, this.node("Sigmoid", [x])]);
  }

  conv(name: string, x: Image, channels: number, { kernel = 3, stride = 1, pads }: Conv = {}): Image {
    const half = (kernel - 1) / 2, all = pads ?? [half, half, half, half];
    const weight = this.#floats(`${name}.weight`, [channels, x.channels, kernel, kernel]);
    const y = this.node("Conv", [x.name, weight, this.#floats(`${name}.bias`, [channels])], {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: all,
    });
    const size = (n: number, before: number, after: number) => Math.floor((n + before + after - kernel) / stride) + 1;
    return { name: y, channels, height: size(x.height, all[0], all[2]), width: size(x.width, all[1], all[3]) };
  }

  /** x [..., in] → [..., out]. */
  linear(name: string, x: string, inputs: number, outputs: number, bias = true): string {
    const shape = [outputs, inputs], data = linearFromTorch(this.weights.get(`${name}.weight`, shape), shape);
    const y = this.node("MatMul", [x, this.model.floats(`${name}.weight`, [inputs, outputs], data)]);
    return bias ? this.node("Add", [y, this.#floats(`${name}.bias`, [outputs])]) : y;
  }

  groupNorm(name: string, x: Image, groups: number, epsilon: number, silu = false): Image {
    const { channels, height, width } = x,
      table = (value: number) =>
        this.model.floats(`${groups} of ${value}`, [groups], new Float32Array(groups).fill(value));
    const grouped = this.reshape(x.name, [1, groups, channels / groups * height * width]);
    const hat = this.node("InstanceNormalization", [grouped, table(1), table(0)], { epsilon: { float: epsilon } });
    const image = this.reshape(hat, [1, channels, height, width]);
    const [gamma, beta] = ["weight", "bias"].map((part) =>
      this.#floats(`${name}.${part}`, [channels], [channels, 1, 1])
    );
    const y = this.node("Add", [this.node("Mul", [image, gamma]), beta]);
    return { ...x, name: silu ? this.silu(y) : y };
  }

  layerNorm(name: string, x: string, channels: number): string {
    const tables = ["weight", "bias"].map((part) => this.#floats(`${name}.${part}`, [channels]));
    return this.node("LayerNormalization", [x, ...tables], { axis: -1, epsilon: { float: 1e-5 } });
  }

  /** q [1, N, C], k and v [1, M, C] → [1, N, C]. */
  attention(
    q: string,
    k: string,
    v: string,
    [n, m, channels]: readonly [number, number, number],
    heads: number,
  ): string {
    const split = (x: string, rows: number, perm: readonly number[]) =>
      this.node("Transpose", [this.reshape(x, [1, rows, heads, channels / heads])], { perm });
    const scores = this.node("MatMul", [split(q, n, [0, 2, 1, 3]), split(k, m, [0, 2, 3, 1])]);
    const scaled = this.node("Mul", [scores, this.#scalar(Math.sqrt(heads / channels))]);
    const shares = this.node("Softmax", [scaled], { axis: -1 });
    const mixed = this.node("MatMul", [shares, split(v, m, [0, 2, 1, 3])]);
    return this.reshape(this.node("Transpose", [mixed], { perm: [0, 2, 1, 3] }), [1, n, channels]);
  }

  /** First half times GELU of the second. */
  geglu(x: string, channels: number): string {
    const slice = (from: number, to: number) =>
      this.node("Slice", [x, ...[[from], [to], [2]].map((v) => this.model.integers(`index ${v}`, v))]);
    const gate = slice(channels, 2 * channels);
    const erf = this.node("Erf", [this.node("Div", [gate, this.#scalar(Math.SQRT2)])]);
    const gelu = this.node("Mul", [
      this.node("Mul", [gate, this.node("Add", [erf, this.#scalar(1)])]),
      this.#scalar(0.5),
    ]);
    return this.node("Mul", [slice(0, channels), gelu]);
  }

  add(a: Image, b: Image): Image {
    return { ...a, name: this.node("Add", [a.name, b.name]) };
  }

  concat(a: Image, b: Image): Image {
    return { ...a, name: this.node("Concat", [a.name, b.name], { axis: 1 }), channels: a.channels + b.channels };
  }

  /** Nearest ×2, then a convolution. */
  upsample(name: string, x: Image): Image {
    const scales = this.model.floats("scales", [4], Float32Array.of(1, 1, 2, 2));
    const y = this.node("Resize", [x.name, "", scales], {
      mode: "nearest",
      coordinate_transformation_mode: "asymmetric",
      nearest_mode: "floor",
    });
    return this.conv(name, { ...x, name: y, height: 2 * x.height, width: 2 * x.width }, x.channels);
  }

  /** [1, C, h, w] → [1, h·w, C]. */
  tokens({ name, channels, height, width }: Image): string {
    return this.node("Transpose", [this.reshape(name, [1, channels, height * width])], { perm: [0, 2, 1] });
  }

  image(tokens: string, like: Image): Image {
    const y = this.node("Transpose", [tokens], { perm: [0, 2, 1] });
    return { ...like, name: this.reshape(y, [1, like.channels, like.height, like.width]) };
  }

  finish(output: string, shape: readonly Dimension[]): Uint8Array<ArrayBuffer> {
    this.model.output(output, shape);
    return this.model.build("network");
  }
}

/**
 * The U-Net for one image.
 * @returns ONNX file with inputs `x` [1, C, h, w], `time` [1, modelChannels] and `context` [1, L, D], one output
 */
export function unetOnnx(
  config: UnetConfig,
  weights: ParameterSource,
  side: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  const w = new NetworkWriter(weights), { modelChannels, channelMult, numResBlocks, attentionLevels } = config;
  const { numHeads, numGroups, contextDim } = config;
  w.model.input("x", [1, config.inChannels, side, side]);
  w.model.input("time", [1, modelChannels]);
  w.model.input("context", [1, length, contextDim]);
  const at = (name: string) => `${UNET_PREFIX}.${name}`, wide = 4 * modelChannels;
  const hidden = w.silu(w.linear(at("time_embed.0"), "time", modelChannels, wide));
  const embedded = w.silu(w.linear(at("time_embed.2"), hidden, wide, wide));

  const residual = (name: string, x: Image, channels: number): Image => {
    const block = at(name);
    let h = w.conv(`${block}.in_layers.2`, w.groupNorm(`${block}.in_layers.0`, x, numGroups, 1e-5, true), channels);
    const time = w.reshape(w.linear(`${block}.emb_layers.1`, embedded, wide, channels), [1, channels, 1, 1]);
    h = { ...h, name: w.node("Add", [h.name, time]) };
    h = w.conv(`${block}.out_layers.3`, w.groupNorm(`${block}.out_layers.0`, h, numGroups, 1e-5, true), channels);
    return w.add(h, x.channels === channels ? x : w.conv(`${block}.skip_connection`, x, channels, { kernel: 1 }));
  };

  const transformer = (name: string, x: Image): Image => {
    const { channels: c } = x, n = x.height * x.width, block = `${at(name)}.transformer_blocks.0`;
    const inner = w.conv(`${at(name)}.proj_in`, w.groupNorm(`${at(name)}.norm`, x, numGroups, 1e-6), c, { kernel: 1 });
    let h = w.tokens(inner);
    for (const [i, m, inputs] of [[1, n, c], [2, length, contextDim]]) {
      const normed = w.layerNorm(`${block}.norm${i}`, h, c), source = i === 1 ? normed : "context";
      const q = w.linear(`${block}.attn${i}.to_q`, normed, c, c, false);
      const [k, v] = ["k", "v"].map((s) => w.linear(`${block}.attn${i}.to_${s}`, source, inputs, c, false));
      const o = w.linear(`${block}.attn${i}.to_out.0`, w.attention(q, k, v, [n, m, c], numHeads), c, c);
      h = w.node("Add", [o, h]);
    }
    const gated = w.geglu(w.linear(`${block}.ff.net.0.proj`, w.layerNorm(`${block}.norm3`, h, c), c, 8 * c), 4 * c);
    h = w.node("Add", [w.linear(`${block}.ff.net.2`, gated, 4 * c, c), h]);
    return w.add(w.conv(`${at(name)}.proj_out`, w.image(h, inner), c, { kernel: 1 }), x);
  };

  let h: Image = { name: "x", channels: config.inChannels, height: side, width: side };
  h = w.conv(at("input_blocks.0.0"), h, modelChannels);
  const skips = [h];
  let i = 0;
  channelMult.forEach((mult, level) => {
    for (let k = 0; k < numResBlocks; k++) {
      i++;
      h = residual(`input_blocks.${i}.0`, h, modelChannels * mult);
      if (attentionLevels[level]) h = transformer(`input_blocks.${i}.1`, h);
      skips.push(h);
    }
    if (level === channelMult.length - 1) return;
    i++;
    h = w.conv(at(`input_blocks.${i}.0.op`), h, h.channels, { stride: 2 });
    skips.push(h);
  });
  h = residual("middle_block.2", transformer("middle_block.1", residual("middle_block.0", h, h.channels)), h.channels);
  let o = 0;
  for (let level = channelMult.length - 1; level >= 0; level--) {
    for (let k = 0; k <= numResBlocks; k++, o++) {
      h = residual(`output_blocks.${o}.0`, w.concat(h, skips.pop()!), modelChannels * channelMult[level]);
      if (attentionLevels[level]) h = transformer(`output_blocks.${o}.1`, h);
      if (level > 0 && k === numResBlocks) {
        h = w.upsample(at(`output_blocks.${o}.${attentionLevels[level] ? 2 : 1}.conv`), h);
      }
    }
  }
  h = w.conv(at("out.2"), w.groupNorm(at("out.0"), h, numGroups, 1e-5, true), config.outChannels);
  return w.finish(h.name, [1, h.channels, h.height, h.width]);
}

/** Blocks that encoder and decoder share. */
function autoencoderBlocks(w: NetworkWriter, { numGroups, midAttention }: AutoencoderConfig) {
  const block = (at: string, x: Image, channels: number): Image => {
    const h = w.conv(`${at}.conv1`, w.groupNorm(`${at}.norm1`, x, numGroups, 1e-6, true), channels);
    const skip = x.channels === channels ? x : w.conv(`${at}.nin_shortcut`, x, channels, { kernel: 1 });
    return w.add(w.conv(`${at}.conv2`, w.groupNorm(`${at}.norm2`, h, numGroups, 1e-6, true), channels), skip);
  };
  const middle = (at: string, x: Image): Image => {
    let h = block(`${at}.block_1`, x, x.channels);
    if (midAttention) {
      const normed = w.groupNorm(`${at}.attn_1.norm`, h, numGroups, 1e-6), n = h.height * h.width, c = h.channels;
      const [q, k, v] = ["q", "k", "v"].map((s) => w.tokens(w.conv(`${at}.attn_1.${s}`, normed, c, { kernel: 1 })));
      const attended = w.image(w.attention(q, k, v, [n, n, c], 1), h);
      h = w.add(w.conv(`${at}.attn_1.proj_out`, attended, c, { kernel: 1 }), h);
    }
    return block(`${at}.block_2`, h, h.channels);
  };
  return { block, middle };
}

/** The autoencoder's encoder for one image, without a patch step: `x` [1, 3, H, W] → moments [1, 2·embedDim, h, w]. */
export function encoderOnnx(
  config: AutoencoderConfig,
  weights: ParameterSource,
  side: number,
): Uint8Array<ArrayBuffer> {
  if (config.patchSize > 1) throw new Error("the ONNX encoder has no patch step");
  const w = new NetworkWriter(weights), at = `${AUTOENCODER_PREFIX}.encoder`, levels = config.channelMult.length;
  const { block, middle } = autoencoderBlocks(w, config);
  w.model.input("x", [1, 3, side, side]);
  let h = w.conv(`${at}.conv_in`, { name: "x", channels: 3, height: side, width: side }, config.channels);
  config.channelMult.forEach((mult, level) => {
    for (let k = 0; k < config.numResBlocks; k++) {
      h = block(`${at}.down.${level}.block.${k}`, h, config.channels * mult);
    }
    if (level < levels - 1) {
      h = w.conv(`${at}.down.${level}.downsample.conv`, h, h.channels, { stride: 2, pads: [0, 0, 1, 1] });
    }
  });
  const normed = w.groupNorm(`${at}.norm_out`, middle(`${at}.mid`, h), config.numGroups, 1e-6, true);
  h = w.conv(`${at}.conv_out`, normed, 2 * config.zChannels);
  h = w.conv(`${AUTOENCODER_PREFIX}.quant_conv`, h, 2 * config.embedDim, { kernel: 1 });
  return w.finish(h.name, [1, h.channels, h.height, h.width]);
}

/** The decoder for one latent, without a patch step: `x` [1, embedDim, h, w] → image [1, 3, H, W]. */
export function decoderOnnx(
  config: AutoencoderConfig,
  weights: ParameterSource,
  side: number,
): Uint8Array<ArrayBuffer> {
  if (config.patchSize > 1) throw new Error("the ONNX decoder has no patch step");
  const w = new NetworkWriter(weights), at = `${AUTOENCODER_PREFIX}.decoder`, levels = config.channelMult.length;
  const { block, middle } = autoencoderBlocks(w, config), { channels, channelMult } = config;
  w.model.input("x", [1, config.embedDim, side, side]);
  const z: Image = { name: "x", channels: config.embedDim, height: side, width: side };
  const latent = w.conv(`${AUTOENCODER_PREFIX}.post_quant_conv`, z, config.zChannels, { kernel: 1 });
  let h = middle(`${at}.mid`, w.conv(`${at}.conv_in`, latent, channels * channelMult[levels - 1]));
  for (let level = levels - 1; level >= 0; level--) {
    for (let k = 0; k <= config.numResBlocks; k++) {
      h = block(`${at}.up.${level}.block.${k}`, h, channels * channelMult[level]);
    }
    if (level > 0) h = w.upsample(`${at}.up.${level}.upsample.conv`, h);
  }
  h = w.conv(`${at}.conv_out`, w.groupNorm(`${at}.norm_out`, h, config.numGroups, 1e-6, true), config.outChannels);
  return w.finish(h.name, [1, h.channels, h.height, h.width]);
}
