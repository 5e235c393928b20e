/**
 * Training of the KL autoencoder on random crops (Rombach et al. 2022, section 3.1, with {@linkcode autoencoderLoss} in the
 * place of LPIPS and a discriminator), and what follows from it: latents of all pictures, and weights that give latents of
 * mean 0 and deviation 1 in every channel.
 *
 * The divergence alone leaves a posterior 0.002 to 0.005 of the latents' deviation wide (small model, 27 November 2026), so
 * that nothing makes latents spend their range on what the eye sees. `latentNoise` does: what shall survive the noise must be
 * large in them, and what is large in them a diffusion model decides early. Denoising as an autoencoder's task is l-DeTok's
 * (Yang et al. 2025, "Latent Denoising Makes Good Visual Tokenizers").
 */

import type { Gpu } from "../gpu/device.ts";
import type { Feed } from "../graph/compile.ts";
import { sampleGaussian } from "../graph/ops/losses.ts";
import { add, affine, mul, sqrt, square, sub } from "../graph/ops/pointwise.ts";
import { mean, sum } from "../graph/ops/reduce.ts";
import { slice } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { AUTOENCODER_PREFIX, decode, encode } from "../models/autoencoder.ts";
import type { Parameters, Stored } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { type AutoencoderConfig, downsamplingFactor } from "../weights/config.ts";
import { cropPixels, cropWeights, drawCrop } from "./crops.ts";
import type { TrainingImages } from "./images.ts";
import { autoencoderLoss } from "./loss.ts";
import { autoencoderRate, CROP } from "./recipe.ts";
import { Room } from "./room.ts";
import { Trainer } from "./trainer.ts";

/** What is asked of an autoencoder beside repeating pictures; 0 is none. */
export interface AutoencoderTerms {
  /** Largest noise on latents, in deviations of their channel over the batch; each picture's is drawn evenly from 0 to this. */
  readonly latentNoise: number;
  /** Share of the crops that are taken around damage where the picture has some, 0 to 1. */
  readonly damageCrops: number;
  /** Damaged pixels count 1 + this in L1, the fine bands and the gradients. */
  readonly damageWeight: number;
}

/** Nothing but repeating them. */
export const PLAIN_AUTOENCODER: AutoencoderTerms = { latentNoise: 0, damageCrops: 0, damageWeight: 0 };

/** Settings of the autoencoder's training. */
export interface AutoencoderSettings {
  readonly seed: number;
  readonly batch: number;
  readonly steps: number;
  readonly learningRate: number;
  /** Nothing where left out. */
  readonly terms?: AutoencoderTerms;
}

/** Keeps the slope of a root finite where a channel is the same everywhere. */
const LEAST_VARIANCE = 1e-12;

/**
 * A draw of the posterior with noise on it in proportion to each channel's deviation over the batch. The gradient goes through
 * the deviation too: larger latents have larger noise, so that growing gains an encoder nothing. Of train.py's one noise of both
 * variances this is the sum of two.
 * @param moments mean ‖ log-variance [B, h, w, 2·C]
 * @param noise standard normal [B, h, w, C]
 * @param extra standard normal times each picture's share of the deviation [B, h, w, C]; none where left out
 * @returns [B, h, w, C]
 */
export function noisyLatent(moments: Tensor, noise: Tensor, extra?: Tensor): Tensor {
  const z = sampleGaussian(moments, noise);
  if (!extra) return z;
  const means = slice(moments, 3, 0, noise.shape[3]), across = [0, 1, 2];
  const squares = sum(square(sub(means, mean(means, across, true))), across, true); // [1, 1, 1, C]
  const deviation = sqrt(affine(squares, 1 / (means.size / noise.shape[3] - 1), LEAST_VARIANCE));
  return add(z, mul(extra, deviation));
}

/** Noise for {@linkcode noisyLatent} at a step, [batch, each]. */
function extraNoise(seed: number, step: number, batch: number, each: number, most: number): Float32Array {
  const random = new Random(seed, "autoencoder/latent-noise", step);
  const shares = Array.from({ length: batch }, () => random.uniform(0, most));
  return random.normals(batch * each).map((v, i) => shares[Math.floor(i / each)] * v);
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
  { seed, batch, steps, learningRate, terms = PLAIN_AUTOENCODER }: AutoencoderSettings,
  room?: Room,
): Trainer {
  const { latentNoise, damageCrops, damageWeight } = terms, { side } = images, cell = downsamplingFactor(config);
  if ((damageCrops && !images.damage) || (damageWeight && !images.damagedSquares)) {
    throw new Error("the autoencoder's training asks where the damage is, the pictures do not say");
  }
  const size = Math.min(CROP, side), area = size * size;
  const latent = [batch, size / cell, size / cell, config.embedDim], each = area / cell ** 2 * config.embedDim;
  const x = input("x", [batch, size, size, 3]);
  const moments = encode(config, parameters, x); // [B, h, w, 2·C]
  const z = noisyLatent(moments, input("noise", latent), latentNoise ? input("extra", latent) : undefined);
  const weight = damageWeight ? input("weight", [batch, size, size, 1]) : undefined;
  const { loss, pixels } = autoencoderLoss(decode(config, parameters, z), x, moments, weight);
  const feed = (step: number): Feed => {
    const random = new Random(seed, "autoencoder/batch", step);
    const x = new Float32Array(batch * 3 * area), weight = new Float32Array(damageWeight ? batch * area : 0);
    for (let b = 0; b < batch; b++) {
      const i = random.integer(0, images.count), pixels = images.pixels(i);
      const sought = damageCrops ? { share: damageCrops, cells: images.damage!(i).cells, cell } : undefined;
      const crop = drawCrop(random, side, size, sought);
      cropPixels(pixels, side, crop, x.subarray(b * 3 * area, (b + 1) * 3 * area));
      if (!damageWeight) continue;
      cropWeights(images.damagedSquares!(i), side, crop, damageWeight, weight.subarray(b * area, (b + 1) * area));
    }
    return {
      ...{ x, noise: random.normals(batch * each) },
      ...(damageWeight ? { weight } : {}),
      ...(latentNoise ? { extra: extraNoise(seed, step, batch, each, latentNoise) } : {}),
    };
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
