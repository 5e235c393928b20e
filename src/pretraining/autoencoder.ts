/**
 * Training of the KL autoencoder on random crops (Rombach et al. 2022, section 3.1, with {@linkcode autoencoderLoss} in the
 * place of LPIPS and a discriminator), and what follows from it: latents of all pictures, and weights that give latents of
 * mean 0 and deviation 1 in every channel.
 */

import type { Gpu } from "../gpu/device.ts";
import type { Feed } from "../graph/compile.ts";
import { sampleGaussian } from "../graph/ops/losses.ts";
import { slice } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { AUTOENCODER_PREFIX, decode, encode } from "../models/autoencoder.ts";
import type { Parameters, Stored } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { type AutoencoderConfig, downsamplingFactor } from "../weights/config.ts";
import type { TrainingImages } from "./images.ts";
import { autoencoderLoss } from "./loss.ts";
import { autoencoderRate, CROP } from "./recipe.ts";
import { Room } from "./room.ts";
import { Trainer } from "./trainer.ts";

/** Settings of the autoencoder's training. */
export interface AutoencoderSettings {
  readonly seed: number;
  readonly batch: number;
  readonly steps: number;
  readonly learningRate: number;
}

/** A square piece of a picture in [−1, 1], mirrored and transposed at random, written to `out` [size, size, 3]. */
function crop(pixels: Uint8Array, side: number, size: number, random: Random, out: Float32Array): void {
  const top = random.integer(0, side - size + 1), left = random.integer(0, side - size + 1);
  const [mirror, flip, turn] = [random.chance(0.5), random.chance(0.5), random.chance(0.5)];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const [a, b] = turn ? [j, i] : [i, j];
      const y = top + (flip ? size - 1 - a : a), x = left + (mirror ? size - 1 - b : b);
      for (let c = 0; c < 3; c++) out[3 * (i * size + j) + c] = pixels[3 * (y * side + x) + c] / 127.5 - 1;
    }
  }
}

/**
 * The autoencoder's training; the reported figure is the mean absolute error of pixels in [−1, 1].
 * @param parameters of {@linkcode newParameters}
 * @param room memory to stay within
 */
export function trainAutoencoder(
  gpu: Gpu,
  config: AutoencoderConfig,
  parameters: Parameters,
  images: TrainingImages,
  { seed, batch, steps, learningRate }: AutoencoderSettings,
  room?: Room,
): Trainer {
  const size = Math.min(CROP, images.side), latent = size / downsamplingFactor(config);
  const x = input("x", [batch, size, size, 3]);
  const moments = encode(config, parameters, x); // [B, h, w, 2·C]
  const z = sampleGaussian(moments, input("noise", [batch, latent, latent, config.embedDim]));
  const { loss, pixels } = autoencoderLoss(decode(config, parameters, z), x, moments);
  const feed = (step: number): Feed => {
    const random = new Random(seed, "autoencoder/batch", step), each = 3 * size * size;
    const x = new Float32Array(batch * each);
    for (let b = 0; b < batch; b++) {
      const pixels = images.pixels(random.integer(0, images.count));
      crop(pixels, images.side, size, random, x.subarray(b * each, (b + 1) * each));
    }
    return { x, noise: random.normals(batch * latent * latent * config.embedDim) };
  };
  return new Trainer(gpu, {
    name: "autoencoder",
    parameters,
    loss,
    reported: pixels,
    feed,
    steps,
    learningRate,
    rate: autoencoderRate,
    room,
    beside: [[reconstruction(config, parameters, images.side, 1)]],
  });
}

/** Mean latents of whole pictures, the input `x`: [count, h, w, C]. */
function meanLatent(config: AutoencoderConfig, p: Parameters, side: number, count: number): Tensor {
  return slice(encode(config, p, input("x", [count, side, side, 3])), 3, 0, config.embedDim);
}

/** What the autoencoder makes of whole pictures, the input `x`, without noise: [count, side, side, 3]. */
export function reconstruction(config: AutoencoderConfig, p: Parameters, side: number, count: number): Tensor {
  return decode(config, p, meanLatent(config, p, side, count));
}

/** Pictures that are encoded at once, fewer where they do not fit. */
const ENCODE_BATCH = 8;

/**
 * Mean latents of pictures, one batch after the other.
 * @param from first picture
 * @param to last picture, exclusive
 * @param room memory to stay within
 * @yields mean latents of the next pictures, [n, h, w, C]
 */
export async function* encodeImages(
  gpu: Gpu,
  config: AutoencoderConfig,
  parameters: Parameters,
  images: TrainingImages,
  from: number,
  to: number,
  room = new Room(gpu),
): AsyncGenerator<Float16Array<ArrayBuffer>> {
  const { side } = images, each = 3 * side * side;
  using encoder = room.forward(ENCODE_BATCH, (count) => meanLatent(config, parameters, side, count));
  for (let at = from; at < to; at += encoder.size) {
    const count = Math.min(encoder.size, to - at), x = new Float32Array(count * each);
    for (let b = 0; b < count; b++) x.set(Float32Array.from(images.pixels(at + b), (v) => v / 127.5 - 1), b * each);
    yield new Float16Array(await encoder.run(count, { x }));
  }
}

/** Mean and deviation of each channel. */
export interface ChannelStatistics {
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

/** Statistics of latents [..., channels], in two passes. */
export function channelStatistics(latents: Float16Array, channels: number): ChannelStatistics {
  const count = latents.length / channels, mean = new Float64Array(channels), deviation = new Float64Array(channels);
  for (let i = 0; i < latents.length; i++) mean[i % channels] += latents[i];
  for (let c = 0; c < channels; c++) mean[c] /= count;
  for (let i = 0; i < latents.length; i++) deviation[i % channels] += (latents[i] - mean[i % channels]) ** 2;
  for (let c = 0; c < channels; c++) deviation[c] = Math.sqrt(deviation[c] / (count - 1));
  return { mean, deviation };
}

/** (latents − mean) / deviation in every channel, in place. */
export function standardise(latents: Float16Array, { mean, deviation }: ChannelStatistics): void {
  const channels = mean.length;
  for (let i = 0; i < latents.length; i++) latents[i] = (latents[i] - mean[i % channels]) / deviation[i % channels];
}

/**
 * Folds {@linkcode standardise} into the 1×1 convolutions on both sides of the latent, so that the autoencoder gives and
 * takes standardised latents.
 * @param stored the autoencoder's parameters in PyTorch's layout; these two are changed in place
 */
export function foldStatistics(stored: ReadonlyMap<string, Stored>, { mean, deviation }: ChannelStatistics): void {
  const at = (name: string) => stored.get(`${AUTOENCODER_PREFIX}.${name}`)!.data, n = mean.length;
  const inWeight = at("quant_conv.weight"), inBias = at("quant_conv.bias"); // [2n, 2z, 1, 1]
  const outWeight = at("post_quant_conv.weight"), outBias = at("post_quant_conv.bias"); // [z, n, 1, 1]
  const inputs = inWeight.length / (2 * n);
  for (let o = 0; o < outBias.length; o++) {
    let shift = 0;
    for (let c = 0; c < n; c++) {
      shift += outWeight[o * n + c] * mean[c];
      outWeight[o * n + c] *= deviation[c];
    }
    outBias[o] += shift;
  }
  for (let c = 0; c < n; c++) {
    for (let k = 0; k < inputs; k++) inWeight[c * inputs + k] /= deviation[c];
    inBias[c] = (inBias[c] - mean[c]) / deviation[c];
    inBias[n + c] -= 2 * Math.log(deviation[c]); // log-variance
  }
}
