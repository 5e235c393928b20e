/**
 * Sheets to judge a base model by while it trains: reconstructions, and samples of captions with guidance. The loss hardly
 * shows whether the text is followed; the samples do.
 */

import { fromTensor, type Image } from "../data/image.ts";
import { dpmSteps, dpmUpdate } from "../diffusion/dpm.ts";
import { createSchedule } from "../diffusion/schedule.ts";
import type { Gpu } from "../gpu/device.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { decode } from "../models/autoencoder.ts";
import { timestepEmbedding } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import { reconstruction } from "./autoencoder.ts";
import type { TrainingImages } from "./images.ts";
import { Room } from "./room.ts";
import { captionedUnet } from "./unet.ts";

const STEPS = 20, GUIDANCE = 3;
/** Largest magnitude of a predicted clean latent of deviation 1: guidance at high noise overshoots. */
const LATENT_LIMIT = 6;

/** Pictures [n, side, side, 3] in [−1, 1] beside each other in rows of `columns`. */
export function tile(pictures: Float32Array, side: number, columns: number): Image {
  const each = 3 * side * side,
    count = pictures.length / each,
    rows = Math.ceil(count / columns),
    width = columns * side;
  const sheet = new Float32Array(3 * width * rows * side).fill(1);
  for (let i = 0; i < count; i++) {
    const top = Math.floor(i / columns) * side, left = i % columns * side;
    for (let y = 0; y < side; y++) {
      const row = pictures.subarray(i * each + 3 * y * side, i * each + 3 * (y + 1) * side);
      sheet.set(row, 3 * ((top + y) * width + left));
    }
  }
  return fromTensor(sheet, width, rows * side);
}

/** The first `count` pictures above what the autoencoder makes of them. */
export async function reconstructions(
  gpu: Gpu,
  config: ModelConfig,
  autoencoder: Parameters,
  images: TrainingImages,
  room = new Room(gpu),
  count = 4,
): Promise<Image> {
  const { side } = images, each = 3 * side * side, x = new Float32Array(count * each);
  for (let i = 0; i < count; i++) {
    x.set(Float32Array.from(images.pixels(i % images.count), (v) => v / 127.5 - 1), i * each);
  }
  using program = room.forward(count, (n) => reconstruction(config.autoencoder, autoencoder, side, n));
  return tile(Float32Array.from([...x, ...await program.run(count, { x })]), side, count);
}

/** ε of captioned latents, from the inputs `x`, `time` and `ids`. */
function denoiser(config: ModelConfig, networks: Parameters, count: number): Tensor {
  const side = config.resolution / downsamplingFactor(config.autoencoder);
  return captionedUnet(
    config,
    networks,
    input("x", [count, side, side, config.unet.inChannels]),
    input("time", [count, config.unet.modelChannels]),
    input("ids", [count, config.text.maxLength], "u32"),
  );
}

/** Pictures of latents, the input `z`. */
function painter({ resolution, autoencoder: config }: ModelConfig, autoencoder: Parameters, count: number): Tensor {
  const side = resolution / downsamplingFactor(config);
  return decode(config, autoencoder, input("z", [count, side, side, config.embedDim]));
}

/** Outputs of the programs of {@linkcode samples}, for one latent each: what must find room beside a training step. */
export function sampleGraphs(config: ModelConfig, autoencoder: Parameters, networks: Parameters): Tensor[][] {
  return [[denoiser(config, networks, 1)], [painter(config, autoencoder, 1)]];
}

/**
 * One picture per caption by DPM-Solver++ with classifier-free guidance.
 * @param networks U-Net and text tower
 * @param captions ids of each, `maxLength` each
 * @param empty ids of the empty caption
 * @param room memory to stay within
 */
export async function samples(
  gpu: Gpu,
  config: ModelConfig,
  autoencoder: Parameters,
  networks: Parameters,
  captions: readonly ArrayLike<number>[],
  empty: ArrayLike<number>,
  room = new Room(gpu),
): Promise<Image> {
  const latents = await sampleLatents(config, networks, captions, empty, room), count = captions.length;
  using program = room.forward(count, (n) => painter(config, autoencoder, n));
  const y = await program.run(count, { z: latents.map((v) => v / config.scaleFactor) });
  return tile(y, config.resolution, Math.min(4, count));
}

/** The latents of {@linkcode samples}, [n, h, w, C]. */
async function sampleLatents(
  config: ModelConfig,
  networks: Parameters,
  captions: readonly ArrayLike<number>[],
  empty: ArrayLike<number>,
  room: Room,
): Promise<Float32Array> {
  const side = config.resolution / downsamplingFactor(config.autoencoder), count = captions.length;
  const size = count * side * side * config.unet.inChannels;
  using denoise = room.forward(2 * count, (n) => denoiser(config, networks, n)); // first with captions, then without
  const ids = Uint32Array.from([...captions, ...Array(count).fill(empty)].flatMap((one) => Array.from<number>(one)));
  let x: Float32Array = new Random(0, "pretraining/samples").normals(size), before: Float32Array | undefined;
  for (const step of dpmSteps(createSchedule(config.schedule), STEPS)) {
    const pair = new Float32Array(2 * size);
    pair.set(x);
    pair.set(x, size);
    const time = timestepEmbedding(Array(2 * count).fill(step.t), config.unet.modelChannels);
    const eps = await denoise.run(2 * count, { x: pair, time, ids });
    const signal = Math.sqrt(step.aBar), sigma = Math.sqrt(1 - step.aBar);
    const clean = x.map((value, i) => {
      const guided = eps[size + i] + GUIDANCE * (eps[i] - eps[size + i]);
      return Math.max(-LATENT_LIMIT, Math.min(LATENT_LIMIT, (value - sigma * guided) / signal));
    });
    x = dpmUpdate(step, x, clean, before);
    before = clean;
  }
  return x;
}
