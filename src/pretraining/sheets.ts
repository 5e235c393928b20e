/**
 * Sheets to judge a base model by while it trains: reconstructions, and samples of captions with guidance. The loss hardly
 * shows whether the text is followed; the samples do.
 */

import { fromTensor, type Image } from "../data/image.ts";
import { dpmSteps, dpmUpdate } from "../diffusion/dpm.ts";
import { createSchedule } from "../diffusion/schedule.ts";
import type { Gpu } from "../gpu/device.ts";
import { compile } from "../graph/compile.ts";
import { slice } from "../graph/ops/shape.ts";
import { input } from "../graph/variable.ts";
import { decode, encode } from "../models/autoencoder.ts";
import { timestepEmbedding } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import type { TrainingImages } from "./images.ts";
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

/** The first pictures above what the autoencoder makes of them. */
export async function reconstructions(
  gpu: Gpu,
  config: ModelConfig,
  autoencoder: Parameters,
  images: TrainingImages,
  count = 4,
): Promise<Image> {
  const { side } = images, each = 3 * side * side, x = new Float32Array(count * each);
  for (let i = 0; i < count; i++) {
    x.set(Float32Array.from(images.pixels(i % images.count), (v) => v / 127.5 - 1), i * each);
  }
  const moments = encode(config.autoencoder, autoencoder, input("x", [count, side, side, 3]));
  const z = slice(moments, 3, 0, config.autoencoder.embedDim);
  using program = compile(gpu, { y: decode(config.autoencoder, autoencoder, z) });
  const { y } = await program.run({ x });
  return tile(Float32Array.from([...x, ...y]), side, count);
}

/**
 * One picture per caption by DPM-Solver++ with classifier-free guidance.
 * @param networks U-Net and text tower
 * @param captions ids of each, `maxLength` each
 * @param empty ids of the empty caption
 */
export async function samples(
  gpu: Gpu,
  config: ModelConfig,
  autoencoder: Parameters,
  networks: Parameters,
  captions: readonly ArrayLike<number>[],
  empty: ArrayLike<number>,
): Promise<Image> {
  const count = captions.length, { maxLength } = config.text, channels = config.unet.inChannels;
  const side = config.resolution / downsamplingFactor(config.autoencoder), size = count * side * side * channels;
  const latent = [2 * count, side, side, channels]; // first with captions, then without
  using denoise = compile(gpu, {
    eps: captionedUnet(
      config,
      networks,
      input("x", latent),
      input("time", [2 * count, config.unet.modelChannels]),
      input("ids", [2 * count, maxLength], "u32"),
    ),
  });
  const ids = Uint32Array.from([...captions, ...Array(count).fill(empty)].flatMap((one) => Array.from<number>(one)));
  let x: Float32Array = new Random(0, "pretraining/samples").normals(size), before: Float32Array | undefined;
  for (const step of dpmSteps(createSchedule(config.schedule), STEPS)) {
    const pair = new Float32Array(2 * size);
    pair.set(x);
    pair.set(x, size);
    const time = timestepEmbedding(Array(2 * count).fill(step.t), config.unet.modelChannels);
    const { eps } = await denoise.run({ x: pair, time, ids });
    const signal = Math.sqrt(step.aBar), sigma = Math.sqrt(1 - step.aBar);
    const clean = x.map((value, i) => {
      const guided = eps[size + i] + GUIDANCE * (eps[i] - eps[size + i]);
      return Math.max(-LATENT_LIMIT, Math.min(LATENT_LIMIT, (value - sigma * guided) / signal));
    });
    x = dpmUpdate(step, x, clean, before);
    before = clean;
  }
  const z = input("z", [count, side, side, channels]);
  using paint = compile(gpu, { y: decode(config.autoencoder, autoencoder, z) });
  const { y } = await paint.run({ z: x.map((v) => v / config.scaleFactor) });
  return tile(y, config.resolution, Math.min(4, count));
}
