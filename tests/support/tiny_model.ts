/**
 * A model folder small enough that every command runs on it in seconds: 32 × 32 pixels, latents of 8 × 8, formula weights
 * (`src/weights/formula.ts`). It draws nothing sensible, but every number in it takes part in what comes out.
 */
import { join } from "node:path";
import { input } from "../../src/graph/variable.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { AUTOENCODER_PREFIX, decode, encode } from "../../src/models/autoencoder.ts";
import { textTower, TOKEN_TABLE } from "../../src/models/text_tower.ts";
import { unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import { splitWords } from "../../src/data/tokenizer.ts";
import type { ModelConfig } from "../../src/weights/config.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { type TensorToWrite, writeSafetensors } from "../../src/weights/safetensors.ts";

/** Word pieces: the special ones, the letters, and every word of the prompts. */
export const TINY_VOCAB: readonly string[] = [
  ...new Set([
    ...["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "*"],
    ..."abcdefghijklmnopqrstuvwxyz",
    ...promptTemplates.flatMap(splitWords),
    ...["defect", "mask", "anomaly", "crack"],
  ]),
];

/** Sizes of the tiny model. */
export function tinyModelConfig(): ModelConfig {
  return {
    format: "anomalydiffusion-model",
    version: 1,
    name: "tiny",
    resolution: 32,
    scaleFactor: 1,
    autoencoder: {
      patchSize: 2,
      inChannels: 3,
      outChannels: 3,
      channels: 32,
      channelMult: [1, 2],
      numResBlocks: 1,
      zChannels: 4,
      embedDim: 4,
      midAttention: false,
      numGroups: 32,
    },
    unet: {
      inChannels: 4,
      outChannels: 4,
      modelChannels: 32,
      channelMult: [1, 2],
      numResBlocks: 1,
      attentionLevels: [false, true],
      numHeads: 2,
      contextDim: 32,
      numGroups: 32,
    },
    text: { vocabSize: TINY_VOCAB.length, width: 32, depth: 1, heads: 2, headDim: 16, maxLength: 24 },
    schedule: { timesteps: 1000, betaStart: 0.00085, betaEnd: 0.012 },
  };
}

/** Notes name and shape of every parameter that a graph asks for; no value is ever made. */
class Recorder extends Parameters {
  readonly shapes = new Map<string, readonly number[]>();

  constructor() {
    super({ get: (name) => new FormulaWeights("").get(name, []) }, torchLayouts, "f32", Infinity);
  }

  override tensor(name: string, shape: readonly number[]): Tensor {
    this.shapes.set(name, shape);
    return super.tensor(name, shape);
  }

  override linear(name: string, inputs: number, outputs: number, axes = 0): Tensor {
    this.shapes.set(name, [outputs, inputs, ...Array(axes).fill(1)]);
    return super.linear(name, inputs, outputs, axes);
  }

  override conv(name: string, kernel: number, inputs: number, outputs: number): Tensor {
    this.shapes.set(name, [outputs, inputs, kernel, kernel]);
    return super.conv(name, kernel, inputs, outputs);
  }
}

/** Name and PyTorch shape of every tensor of a model. */
export function modelShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { autoencoder, unet: network, text, resolution } = config;
  const side = resolution / autoencoder.patchSize / 2 ** (autoencoder.channelMult.length - 1);
  using recorder = new Recorder();
  encode(autoencoder, recorder, input("image", [1, resolution, resolution, 3]));
  const z = input("z", [1, side, side, autoencoder.embedDim]);
  decode(autoencoder, recorder, z);
  const context = textTower(text, recorder, input("words", [1, text.maxLength, text.width]));
  unet(network, recorder, z, input("time", [1, network.modelChannels]), context);
  return new Map([...recorder.shapes, [TOKEN_TABLE, [text.vocabSize, text.width]]]);
}

/**
 * A decoder whose pixels do not mix and that is a little dark: each latent pixel becomes a block of one colour. A sampled
 * picture then has few, whole blocks above the middle grey, as a mask has, where random kernels would give a thousand specks.
 */
function blocky(name: string, [out, inputs, kernel]: readonly number[], data: Float32Array): Float32Array {
  if (name === `${AUTOENCODER_PREFIX}.decoder.conv_out.bias`) return data.fill(-0.2);
  if (!name.startsWith(`${AUTOENCODER_PREFIX}.decoder.`) || kernel !== 3) return data;
  const subPixels = name.endsWith("decoder.conv_out.weight") ? tinyModelConfig().autoencoder.patchSize ** 2 : 1;
  return data.map((_, i) => {
    const tap = i % 9, input = Math.floor(i / 9) % inputs, output = Math.floor(i / 9 / inputs) % out;
    if (tap !== 4) return 0;
    return 3 * data[((output - output % subPixels) * inputs + input) * 9 + 4]; // 3: the variance of nine taps in one
  });
}

/**
 * Writes the tiny model.
 * @param folder where; made if missing
 * @param salt another salt gives another model of the same sizes
 */
export function writeTinyModel(folder: string, salt = "tiny", config: ModelConfig = tinyModelConfig()): void {
  const weights = new FormulaWeights(salt), tensors: Record<string, TensorToWrite> = {};
  for (const [name, shape] of [...modelShapes(config)].sort(([a], [b]) => a < b ? -1 : 1)) {
    tensors[name] = { dtype: "F32", shape: [...shape], data: blocky(name, shape, weights.get(name, shape)) };
  }
  Deno.mkdirSync(folder, { recursive: true });
  writeSafetensors(join(folder, "model.safetensors"), tensors);
  Deno.writeTextFileSync(join(folder, "vocab.txt"), TINY_VOCAB.map((piece) => `${piece}\n`).join(""));
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(config, null, 2));
}
