/**
 * The autoencoder in bands of rows, for images whose activations do not fit the adapter: the same numbers as untiled, rounding
 * apart. Overlapping tiles cannot be exact, since group norm's statistics belong to the whole image. So the network runs layer
 * by layer: a map lies in host memory, each band of it is uploaded with the rows that a 3×3 kernel needs around it, and while
 * a layer runs the moments of each of its bands are taken, from which the next norm's statistics follow (Chan et al. 1979).
 */

import type { Gpu } from "../gpu/device.ts";
import { compile, type Compiled, type Feed } from "../graph/compile.ts";
import { batchNormInference } from "../graph/ops/norms.ts";
import { add, square, sub } from "../graph/ops/pointwise.ts";
import { mean } from "../graph/ops/reduce.ts";
import { pixelShuffle, pixelUnshuffle, resizeNearest } from "../graph/ops/resample.ts";
import { slice } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { convLayer } from "../nn/layers.ts";
import type { Parameters } from "../nn/parameters.ts";
import { type AutoencoderConfig, downsamplingFactor } from "../weights/config.ts";
import { AUTOENCODER_PREFIX, decoderStem, encoderHead, EPS } from "./autoencoder.ts";

/** Mean and (biased) variance of each channel. */
interface Moments {
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

/** An image of one layer, in host memory, channels last. */
interface FeatureMap {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly data: Float32Array;
  readonly moments: Moments;
}

/** What a layer makes of a band. */
interface Layer {
  /** The map whose bands are read with a row more on each side. */
  readonly source: FeatureMap;
  /** A map of the result's size, read without. */
  readonly beside?: FeatureMap;
  /** Rows of the result per row of the source: 1, 2 (upsampling) or ½ (stride 2). */
  readonly scale: 1 | 2 | 0.5;
  /** The name of the norm before the layer, with SiLU; none where left out. */
  readonly norm?: string;
  /** @param pads rows of zeros above and below: 1 at the image's own edge only */
  build(x: Tensor, pads: readonly [top: number, bottom: number], beside?: Tensor): Tensor;
}

/** Bytes that a band's input, output and what lies between may take together. */
const BAND_BYTES = 64 * 2 ** 20;

/** Moments of a whole from those of its parts. */
function joinMoments(parts: readonly { readonly rows: number; readonly moments: Moments }[]): Moments {
  const channels = parts[0].moments.mean.length, all = parts.reduce((sum, { rows }) => sum + rows, 0);
  const joined = { mean: new Float64Array(channels), variance: new Float64Array(channels) };
  for (const { rows, moments } of parts) {
    for (let c = 0; c < channels; c++) joined.mean[c] += rows / all * moments.mean[c];
  }
  for (const { rows, moments } of parts) {
    for (let c = 0; c < channels; c++) {
      joined.variance[c] += rows / all * (moments.variance[c] + (moments.mean[c] - joined.mean[c]) ** 2);
    }
  }
  return joined;
}

/** Mean and variance of each channel's group, repeated for each channel. */
function groupMoments({ mean, variance }: Moments, groups: number): { mean: Float32Array; variance: Float32Array } {
  const channels = mean.length, each = channels / groups;
  const out = { mean: new Float32Array(channels), variance: new Float32Array(channels) };
  for (let g = 0; g < groups; g++) {
    let centre = 0, spread = 0;
    for (let c = g * each; c < (g + 1) * each; c++) centre += mean[c] / each;
    for (let c = g * each; c < (g + 1) * each; c++) spread += (variance[c] + (mean[c] - centre) ** 2) / each;
    out.mean.fill(centre, g * each, (g + 1) * each);
    out.variance.fill(spread, g * each, (g + 1) * each);
  }
  return out;
}

/** Encoder and decoder in bands, for one image at a time. */
export class TiledAutoencoder {
  readonly #gpu: Gpu;
  readonly #config: AutoencoderConfig;
  readonly #parameters: Parameters;
  readonly #bandBytes: number;

  /**
   * @param parameters the autoencoder's; shared with whatever else uses them
   * @param bandBytes about what a band may take on the device, 64 MiB at most; bands are two rows at least
   */
  constructor(gpu: Gpu, config: AutoencoderConfig, parameters: Parameters, bandBytes = BAND_BYTES) {
    this.#gpu = gpu;
    this.#config = config;
    this.#parameters = parameters;
    this.#bandBytes = Math.min(bandBytes, BAND_BYTES);
  }

  /**
   * Posterior of the latent, as `encode` of autoencoder.ts.
   * @param image [H, W, 3] in [−1, 1]; H and W are multiples of the downsampling factor
   * @returns moments [h, w, 2·embedDim]
   */
  async encode(image: Float32Array, [height, width]: readonly [number, number]): Promise<Float32Array> {
    const config = this.#config, p = this.#parameters, at = `${AUTOENCODER_PREFIX}.encoder`, patch = config.patchSize;
    this.#check(image, height, width, 3, downsamplingFactor(config));
    let h = patch > 1 ? await this.#whole(image, [1, height, width, 3], (x) => pixelUnshuffle(x, patch)) : {
      height,
      width,
      channels: 3,
      data: image,
      moments: { mean: new Float64Array(3), variance: new Float64Array(3) },
    };
    h = await this.#layer({
      source: h,
      scale: 1,
      build: (x, [top, bottom]) =>
        convLayer(p, `${at}.conv_in`, x, config.channels, 3, { padding: [top, bottom, 1, 1] }),
    });
    for (const [level, mult] of config.channelMult.entries()) {
      for (let k = 0; k < config.numResBlocks; k++) {
        h = await this.#block(`${at}.down.${level}.block.${k}`, h, config.channels * mult);
      }
      if (level < config.channelMult.length - 1) {
        const name = `${at}.down.${level}.downsample.conv`, { channels } = h;
        h = await this.#layer({
          source: h,
          scale: 0.5,
          build: (x, [, bottom]) => convLayer(p, name, x, channels, 3, { stride: 2, padding: [0, bottom, 0, 1] }),
        });
      }
    }
    const { data } = await this.#whole(h.data, [1, h.height, h.width, h.channels], (x) => encoderHead(config, p, x));
    return data;
  }

  /**
   * Image of a latent, as `decode` of autoencoder.ts.
   * @param z [h, w, embedDim], already divided by the latent scale
   * @returns [f·h, f·w, 3]
   */
  async decode(z: Float32Array, [height, width]: readonly [number, number]): Promise<Float32Array> {
    const config = this.#config, p = this.#parameters, at = `${AUTOENCODER_PREFIX}.decoder`;
    this.#check(z, height, width, config.embedDim, 1);
    let h = await this.#whole(z, [1, height, width, config.embedDim], (x) => decoderStem(config, p, x));
    for (let level = config.channelMult.length - 1; level >= 0; level--) {
      for (let k = 0; k <= config.numResBlocks; k++) {
        h = await this.#block(`${at}.up.${level}.block.${k}`, h, config.channels * config.channelMult[level]);
      }
      if (level > 0) {
        const name = `${at}.up.${level}.upsample.conv`, { channels } = h;
        h = await this.#layer({
          source: h,
          scale: 2,
          build: (x, [top, bottom]) => {
            const [, rows, columns] = x.shape, wide = resizeNearest(x, [2 * rows, 2 * columns]);
            // Of the doubled neighbour rows only the nearer one is read.
            const own = slice(wide, 1, top ? 0 : 1, 2 * rows - (bottom ? 0 : 1));
            return convLayer(p, name, own, channels, 3, { padding: [top, bottom, 1, 1] });
          },
        });
      }
    }
    const { patchSize: patch } = config, channels = config.outChannels * patch ** 2;
    const last = await this.#layer({
      source: h,
      scale: 1,
      norm: `${at}.norm_out`,
      build: (x, [top, bottom]) => convLayer(p, `${at}.conv_out`, x, channels, 3, { padding: [top, bottom, 1, 1] }),
    });
    if (patch === 1) return last.data;
    return (await this.#whole(last.data, [1, last.height, last.width, channels], (x) => pixelShuffle(x, patch))).data;
  }

  #check(data: Float32Array, height: number, width: number, channels: number, factor: number): void {
    if (height % factor || width % factor) throw new RangeError(`height and width must be multiples of ${factor}`);
    if (data.length !== height * width * channels) {
      throw new RangeError(`expected ${height}×${width}×${channels} values`);
    }
  }

  async #block(at: string, x: FeatureMap, channels: number): Promise<FeatureMap> {
    const p = this.#parameters;
    const convolve = (name: string) => (h: Tensor, [top, bottom]: readonly [number, number]) =>
      convLayer(p, name, h, channels, 3, { padding: [top, bottom, 1, 1] });
    const h = await this.#layer({ source: x, scale: 1, norm: `${at}.norm1`, build: convolve(`${at}.conv1`) });
    return await this.#layer({
      source: h,
      beside: x,
      scale: 1,
      norm: `${at}.norm2`,
      build: (h, pads, own) => {
        const skip = x.channels === channels ? own! : convLayer(p, `${at}.nin_shortcut`, own!, channels, 1);
        return add(convolve(`${at}.conv2`)(h, pads), skip);
      },
    });
  }

  /** A map through a graph in one piece: what is small, or only moves numbers. */
  async #whole(
    data: Float32Array,
    shape: readonly number[],
    build: (x: Tensor) => Tensor,
  ): Promise<FeatureMap> {
    const y = build(input("x", shape)), [, height, width, channels] = y.shape;
    using program = compile(this.#gpu, { y, ...momentsOf(y) });
    const { y: values, mean, variance } = await program.run({ x: data });
    const moments = { mean: Float64Array.from(mean), variance: Float64Array.from(variance) };
    return { height, width, channels, data: values, moments };
  }

  async #layer({ source, beside, scale, norm, build }: Layer): Promise<FeatureMap> {
    const height = source.height * scale, width = source.width * scale;
    const statistics: Feed = norm ? { ...groupMoments(source.moments, this.#config.numGroups) } : {};
    const programs = new Map<string, Compiled<{ y: Tensor; mean: Tensor; variance: Tensor }>>();
    const parts: { rows: number; moments: Moments }[] = [];
    let out: Float32Array | undefined, channels = 0;
    // Input, normed input and output of a row, the larger side counted; bands of an even number of rows.
    const rowBytes = 4 * Math.max(width, source.width) * 4 * source.channels * Math.max(1, scale);
    const band = Math.max(2, 2 * Math.floor(this.#bandBytes / rowBytes / 2));
    try {
      for (let from = 0; from < height; from += band) {
        const to = Math.min(height, from + band);
        const first = scale === 0.5 ? 2 * from : Math.max(0, from / scale - 1);
        const last = Math.min(source.height, to / scale + 1);
        const pads = [
          from === 0 && scale !== 0.5 ? 1 : 0,
          to === height ? 1 : 0,
        ] as const;
        const rows = last - first, key = `${rows} ${to - from} ${pads}`;
        let program = programs.get(key);
        if (!program) {
          const x = input("x", [1, rows, source.width, source.channels]);
          const own = beside && input("beside", [1, to - from, beside.width, beside.channels]);
          const y = build(norm ? this.#normed(norm, x) : x, pads, own);
          programs.set(key, program = compile(this.#gpu, { y, ...momentsOf(y) }));
          channels = y.shape[3];
        }
        const line = source.width * source.channels;
        const feed: Record<string, Float32Array | Uint32Array> = {
          ...statistics,
          x: source.data.subarray(first * line, last * line),
        };
        if (beside) {
          const own = beside.width * beside.channels;
          feed.beside = beside.data.subarray(from * own, to * own);
        }
        const { y, mean, variance } = await program.run(feed);
        out ??= new Float32Array(height * width * channels);
        out.set(y, from * width * channels);
        parts.push({
          rows: to - from,
          moments: { mean: Float64Array.from(mean), variance: Float64Array.from(variance) },
        });
      }
    } finally {
      for (const program of programs.values()) program[Symbol.dispose]();
    }
    return { height, width, channels, data: out!, moments: joinMoments(parts) };
  }

  /** Group norm by given statistics, and SiLU. */
  #normed(name: string, x: Tensor): Tensor {
    const p = this.#parameters, channels = x.shape[3], shape = [channels];
    return batchNormInference(
      x,
      p.tensor(`${name}.weight`, shape),
      p.tensor(`${name}.bias`, shape),
      input("mean", shape),
      input("variance", shape),
      { eps: EPS, activation: "silu" },
    );
  }
}

/** Moments of a band [1, rows, width, C], by channel, in two passes. */
function momentsOf(y: Tensor): { mean: Tensor; variance: Tensor } {
  const axes = [0, 1, 2], centre = mean(y, axes);
  return { mean: centre, variance: mean(square(sub(y, centre)), axes) };
}
