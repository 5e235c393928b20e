/**
 * Where training starts. U-Net and text tower: PyTorch's default initial weights, and latent diffusion's zeros where a
 * residual branch ends (Rombach et al. 2022, `zero_module`). Autoencoder: convolutions that keep the scale of their input
 * (LeCun et al. 1998), since parts of its path are not normalised, and a narrow posterior; with PyTorch's defaults it long
 * gave grey pictures only. Each tensor depends on the seed and its own name only.
 */

import { AUTOENCODER_PREFIX } from "../models/autoencoder.ts";
import { UNET_PREFIX } from "../models/unet.ts";
import { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { torchLayouts } from "../weights/rules.ts";
import type { WeightSource } from "../weights/source.ts";

/** Last layers of the U-Net's branches, which start as zeros. */
const ZEROS = new RegExp(
  `^${UNET_PREFIX.replaceAll(".", "\\.")}\\.(.+\\.out_layers\\.3|.+\\.proj_out|out\\.2)\\.(weight|bias)$`,
);

/** Embedding tables: normal with a small deviation. */
const TABLE = /\.(token_emb|pos_emb\.emb)\.weight$/;
const TABLE_DEVIATION = 0.1;

/** Log-variance of the autoencoder's first posteriors, and how much less than others its weights are. */
const LOG_VARIANCE = -4, LOG_VARIANCE_WEIGHT = 0.05;

/** A convolution of the autoencoder: N(0, 1/fan-in), zeros where a residual branch ends, no bias. */
function autoencoderValues(random: Random, name: string, size: number, fanIn: number): Float32Array {
  const last = name.startsWith(`${AUTOENCODER_PREFIX}.quant_conv.`), half = size / 2; // mean ‖ log-variance
  if (name.endsWith(".bias")) return new Float32Array(size).fill(last ? LOG_VARIANCE : 0, half);
  if (name.endsWith(".conv2.weight")) return new Float32Array(size);
  const deviation = 1 / Math.sqrt(fanIn);
  return random.normals(size).map((v, i) => deviation * v * (last && i >= half ? LOG_VARIANCE_WEIGHT : 1));
}

/**
 * Initial values of one parameter in PyTorch's layout. Outside the autoencoder: U(±1/√fan-in) for weights and biases of
 * linear layers and convolutions (Kaiming-uniform with a = √5), ones and zeros for norms.
 * @param shape PyTorch's
 * @param fanIn inputs of one output of the layer; 0 for a norm
 */
export function initialValues(seed: number, name: string, shape: readonly number[], fanIn: number): Float32Array {
  const size = shape.reduce((a, b) => a * b, 1), random = new Random(seed, `init/${name}`);
  if (ZEROS.test(name)) return new Float32Array(size);
  if (TABLE.test(name)) return random.normals(size).map((v) => TABLE_DEVIATION * v);
  if (fanIn === 0) return new Float32Array(size).fill(name.endsWith(".weight") ? 1 : 0);
  if (name.startsWith(`${AUTOENCODER_PREFIX}.`)) return autoencoderValues(random, name, size, fanIn);
  const bound = 1 / Math.sqrt(fanIn);
  return Float32Array.from({ length: size }, () => random.uniform(-bound, bound));
}

/**
 * Parameters to train, in f32.
 * @param from values to go on from; what it does not hold starts at random
 */
export function newParameters(seed: number, from?: WeightSource): Parameters {
  const parameters: Parameters = new Parameters(
    {
      get(name, shape) {
        if (from?.has(name)) return from.get(name, shape);
        // A bias takes its bound from the weight beside it, whose shape here ends with the outputs.
        const weight = parameters.variables.get(name.replace(/\.bias$/, ".weight"))?.shape ?? [];
        return initialValues(seed, name, shape, weight.length < 2 ? 0 : weight.slice(0, -1).reduce((a, b) => a * b, 1));
      },
    },
    torchLayouts,
  );
  return parameters;
}
