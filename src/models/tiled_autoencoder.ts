/**
 * The autoencoder in bands of rows, for images whose activations do not fit the adapter: the same numbers as untiled, rounding
 * apart. Overlapping tiles cannot be exact, since group norm's statistics belong to the whole image. So the network runs layer
 * by layer (`autoencoder_bands.ts`): a map lies in host memory, each band of it is uploaded with the rows that a 3×3 kernel
 * needs around it, and while a layer runs the moments of each of its bands are taken, from which the next norm's statistics
 * follow (Chan et al. 1979).
 */

import type { Gpu } from "../gpu/device.ts";
import { compile, type Compiled, type Feed } from "../graph/compile.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Parameters } from "../nn/parameters.ts";
import { type AutoencoderConfig, downsamplingFactor } from "../weights/config.ts";
import { BAND_BYTES, bandKey, decoderWalk, encoderWalk, type Walk } from "./autoencoder_bands.ts";

/** Mean and (biased) variance of each channel. */
interface Moments {
  readonly mean: Float64Array;
  readonly variance: Float64Array;
}

/** An image of one layer, in host memory, channels last. */
interface FeatureMap {
  readonly data: Float32Array;
  readonly moments: Moments;
}

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
    this.#bandBytes = bandBytes;
  }

  /**
   * Posterior of the latent, as `encode` of autoencoder.ts.
   * @param image [H, W, 3] in [−1, 1]; H and W are multiples of the downsampling factor
   * @returns moments [h, w, 2·embedDim]
   */
  async encode(image: Float32Array, [height, width]: readonly [number, number]): Promise<Float32Array> {
    this.#check(image, height, width, 3, downsamplingFactor(this.#config));
    return await this.#run(encoderWalk(this.#config, this.#parameters, [height, width]), image);
  }

  /**
   * Image of a latent, as `decode` of autoencoder.ts.
   * @param z [h, w, embedDim], already divided by the latent scale
   * @returns [f·h, f·w, 3]
   */
  async decode(z: Float32Array, [height, width]: readonly [number, number]): Promise<Float32Array> {
    this.#check(z, height, width, this.#config.embedDim, 1);
    return await this.#run(decoderWalk(this.#config, this.#parameters, [height, width]), z);
  }

  #check(data: Float32Array, height: number, width: number, channels: number, factor: number): void {
    if (height % factor || width % factor) throw new RangeError(`height and width must be multiples of ${factor}`);
    if (data.length !== height * width * channels) {
      throw new RangeError(`expected ${height}×${width}×${channels} values`);
    }
  }

  async #run(walk: Walk, data: Float32Array): Promise<Float32Array> {
    const none = new Float64Array(walk.maps[0].channels); // no norm reads the input's
    const maps = new Map<number, FeatureMap>([[0, { data, moments: { mean: none, variance: none } }]]);
    const lastUse = new Map<number, number>();
    walk.layers.forEach(({ source, beside = source }, i) => lastUse.set(source, i).set(beside, i));
    for (let i = 0; i < walk.layers.length; i++) {
      maps.set(i + 1, await this.#layer(walk, i, maps));
      for (const map of maps.keys()) if (lastUse.get(map) === i) maps.delete(map);
      this.#gpu.trim(); // every layer has buffers of other sizes
    }
    return maps.get(walk.last)!.data;
  }

  async #layer(walk: Walk, index: number, maps: ReadonlyMap<number, FeatureMap>): Promise<FeatureMap> {
    const { source, beside, norm } = walk.layers[index], { height, width, channels } = walk.maps[index + 1];
    const { moments } = maps.get(source)!;
    const statistics: Feed = norm ? { ...groupMoments(moments, this.#config.numGroups) } : {};
    const rowsOf = (map: number, from: number, to: number) => {
      const line = walk.maps[map].width * walk.maps[map].channels;
      return maps.get(map)!.data.subarray(from * line, to * line);
    };
    const programs = new Map<string, Compiled<{ y: Tensor; mean: Tensor; variance: Tensor }>>();
    const parts: { rows: number; moments: Moments }[] = [], out = new Float32Array(height * width * channels);
    try {
      for (const band of walk.bands(index, this.#bandBytes)) {
        const { from, to, first, last } = band, key = bandKey(band);
        const program = programs.get(key) ?? compile(this.#gpu, walk.graph(index, band));
        programs.set(key, program);
        const { y, mean, variance } = await program.run({
          ...statistics,
          x: rowsOf(source, first, last),
          ...(beside === undefined ? {} : { beside: rowsOf(beside, from, to) }),
        });
        out.set(y, from * width * channels);
        parts.push({
          rows: to - from,
          moments: { mean: Float64Array.from(mean), variance: Float64Array.from(variance) },
        });
      }
    } finally {
      for (const program of programs.values()) program[Symbol.dispose]();
    }
    return { data: out, moments: joinMoments(parts) };
  }
}
