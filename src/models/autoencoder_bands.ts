/**
 * The autoencoder as a row of layers over bands of rows, described without a device: which rows each band reads and writes,
 * and the graph of a band. `tiled_autoencoder.ts` runs it, a plan counts it. Why layers and not tiles: see there.
 */

import { batchNormInference } from "../graph/ops/norms.ts";
import { add, square, sub } from "../graph/ops/pointwise.ts";
import { mean } from "../graph/ops/reduce.ts";
import { pixelShuffle, pixelUnshuffle, resizeNearest } from "../graph/ops/resample.ts";
import { slice } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input } from "../graph/variable.ts";
import { convLayer } from "../nn/layers.ts";
import type { Parameters } from "../nn/parameters.ts";
import type { AutoencoderConfig } from "../weights/config.ts";
import { AUTOENCODER_PREFIX, decoderStem, encoderHead, EPS } from "./autoencoder.ts";

/** Size of a map between two layers. */
export interface MapShape {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** What a layer makes of a band. */
export interface Layer {
  /** The map whose bands are read with a row more on each side, by its number. */
  readonly source: number;
  /** A map of the result's size, read without. */
  readonly beside?: number;
  /** Rows of the result per row of the source: 1, 2 (upsampling) or ½ (stride 2); whole: all rows in one band. */
  readonly scale: 1 | 2 | 0.5 | "whole";
  /** The name of the norm before the layer, with SiLU; none where left out. */
  readonly norm?: string;
  /** @param pads rows of zeros above and below: 1 at the image's own edge only */
  build(x: Tensor, pads: Pads, beside?: Tensor): Tensor;
}

type Pads = readonly [top: number, bottom: number];

/** Rows of one band. */
export interface Band {
  /** Rows of the result, `to` exclusive. */
  readonly from: number;
  readonly to: number;
  /** Rows of the source, `last` exclusive. */
  readonly first: number;
  readonly last: number;
  readonly pads: Pads;
}

/** Bytes that a band's input, output and what lies between may take together. */
export const BAND_BYTES = 64 * 2 ** 20;

/** Layers one after the other, and the maps between them: map 0 is the input, map i + 1 what layer i makes. */
export class Walk {
  /** The maps' sizes. */
  readonly maps: MapShape[];
  /** The layers. */
  readonly layers: Layer[] = [];

  /** A walk without layers. */
  constructor(readonly config: AutoencoderConfig, readonly parameters: Parameters, first: MapShape) {
    this.maps = [first];
  }

  /** Number of the last map. */
  get last(): number {
    return this.maps.length - 1;
  }

  /** Adds a layer in bands; gives the number of its map. */
  layer(layer: Layer & { readonly scale: 1 | 2 | 0.5 }, channels: number): number {
    const { height, width } = this.maps[layer.source];
    this.layers.push(layer);
    return this.maps.push({ height: height * layer.scale, width: width * layer.scale, channels }) - 1;
  }

  /** Adds what is done in one piece: what is small, or only moves numbers. */
  whole(source: number, build: (x: Tensor) => Tensor): number {
    const { height, width, channels } = this.maps[source], y = build(input("x", [1, height, width, channels]));
    this.layers.push({ source, scale: "whole", build });
    return this.maps.push({ height: y.shape[1], width: y.shape[2], channels: y.shape[3] }) - 1;
  }

  /** Adds a residual block. */
  block(at: string, x: number, channels: number): number {
    const p = this.parameters;
    const convolve = (name: string) => (h: Tensor, [top, bottom]: Pads) =>
      convLayer(p, name, h, channels, 3, { padding: [top, bottom, 1, 1] });
    const before = this.maps[x].channels, second = convolve(`${at}.conv2`);
    const h = this.layer({ source: x, scale: 1, norm: `${at}.norm1`, build: convolve(`${at}.conv1`) }, channels);
    return this.layer({
      source: h,
      beside: x,
      scale: 1,
      norm: `${at}.norm2`,
      build: (h, pads, own) =>
        add(second(h, pads), before === channels ? own! : convLayer(p, `${at}.nin_shortcut`, own!, channels, 1)),
    }, channels);
  }

  /** Where a layer's bands begin and end. */
  bands(index: number, bandBytes: number): Band[] {
    const { source: number, scale } = this.layers[index], source = this.maps[number], result = this.maps[index + 1];
    const { height } = result;
    if (scale === "whole") return [{ from: 0, to: height, first: 0, last: source.height, pads: [1, 1] }];
    // Input, normed input, output and what its moments are taken of, the larger side counted; an even number of rows.
    const most = Math.max(source.width, result.width) * Math.max(source.channels, result.channels);
    const rowBytes = 4 * 4 * most * Math.max(1, scale);
    const rows = Math.max(2, 2 * Math.floor(Math.min(bandBytes, BAND_BYTES) / rowBytes / 2)), bands: Band[] = [];
    for (let from = 0; from < height; from += rows) {
      const to = Math.min(height, from + rows);
      bands.push({
        from,
        to,
        first: scale === 0.5 ? 2 * from : Math.max(0, from / scale - 1),
        last: Math.min(source.height, to / scale + 1),
        pads: [from === 0 && scale !== 0.5 ? 1 : 0, to === height ? 1 : 0],
      });
    }
    return bands;
  }

  /**
   * The graph of a band, and with it of all bands of the same {@linkcode bandKey}.
   *
   * Its inputs are `x`, the rows of the source, where there is a second map its rows as `beside`, and with a norm `mean` and
   * `variance` of each channel's group.
   * @returns the rows y [1, rows, width, channels] of the result, with mean and variance of its channels
   */
  graph(index: number, { from, to, first, last, pads }: Band): { y: Tensor; mean: Tensor; variance: Tensor } {
    const { source, beside, norm, build } = this.layers[index];
    const rowsOf = (map: number, rows: number) => [1, rows, this.maps[map].width, this.maps[map].channels];
    const x = input("x", rowsOf(source, last - first));
    const own = beside === undefined ? undefined : input("beside", rowsOf(beside, to - from));
    const y = build(norm ? this.#normed(norm, x) : x, pads, own);
    return { y, ...momentsOf(y) };
  }

  /** Group norm by given statistics, and SiLU. */
  #normed(name: string, x: Tensor): Tensor {
    const p = this.parameters, channels = x.shape[3], shape = [channels];
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

/** Bands of a layer with the same key have the same graph. */
export function bandKey({ from, to, first, last, pads }: Band): string {
  return `${last - first} ${to - from} ${pads}`;
}

/** Moments of a band [1, rows, width, C], by channel, in two passes. */
function momentsOf(y: Tensor): { mean: Tensor; variance: Tensor } {
  const axes = [0, 1, 2], centre = mean(y, axes);
  return { mean: centre, variance: mean(square(sub(y, centre)), axes) };
}

/** `encode` of autoencoder.ts for one image [height, width, 3]; the last map holds the moments [h, w, 2·embedDim]. */
export function encoderWalk(
  config: AutoencoderConfig,
  p: Parameters,
  [height, width]: readonly [number, number],
): Walk {
  const at = `${AUTOENCODER_PREFIX}.encoder`, walk = new Walk(config, p, { height, width, channels: 3 });
  let h = config.patchSize > 1 ? walk.whole(0, (x) => pixelUnshuffle(x, config.patchSize)) : 0;
  h = walk.layer({
    source: h,
    scale: 1,
    build: (x, [top, bottom]) => convLayer(p, `${at}.conv_in`, x, config.channels, 3, { padding: [top, bottom, 1, 1] }),
  }, config.channels);
  for (const [level, mult] of config.channelMult.entries()) {
    const channels = config.channels * mult;
    for (let k = 0; k < config.numResBlocks; k++) h = walk.block(`${at}.down.${level}.block.${k}`, h, channels);
    if (level < config.channelMult.length - 1) {
      const name = `${at}.down.${level}.downsample.conv`;
      h = walk.layer({
        source: h,
        scale: 0.5,
        build: (x, [, bottom]) => convLayer(p, name, x, channels, 3, { stride: 2, padding: [0, bottom, 0, 1] }),
      }, channels);
    }
  }
  walk.whole(h, (x) => encoderHead(config, p, x));
  return walk;
}

/** `decode` of autoencoder.ts for one latent [height, width, embedDim]; the last map is the image [f·h, f·w, 3]. */
export function decoderWalk(
  config: AutoencoderConfig,
  p: Parameters,
  [height, width]: readonly [number, number],
): Walk {
  const at = `${AUTOENCODER_PREFIX}.decoder`, { patchSize: patch, embedDim } = config;
  const walk = new Walk(config, p, { height, width, channels: embedDim });
  let h = walk.whole(0, (x) => decoderStem(config, p, x));
  for (let level = config.channelMult.length - 1; level >= 0; level--) {
    const channels = config.channels * config.channelMult[level];
    for (let k = 0; k <= config.numResBlocks; k++) h = walk.block(`${at}.up.${level}.block.${k}`, h, channels);
    if (level > 0) {
      const name = `${at}.up.${level}.upsample.conv`;
      h = walk.layer({
        source: h,
        scale: 2,
        build: (x, [top, bottom]) => {
          const [, rows, columns] = x.shape, wide = resizeNearest(x, [2 * rows, 2 * columns]);
          // Of the doubled neighbour rows only the nearer one is read.
          const own = slice(wide, 1, top ? 0 : 1, 2 * rows - (bottom ? 0 : 1));
          return convLayer(p, name, own, channels, 3, { padding: [top, bottom, 1, 1] });
        },
      }, channels);
    }
  }
  const channels = config.outChannels * patch ** 2;
  h = walk.layer({
    source: h,
    scale: 1,
    norm: `${at}.norm_out`,
    build: (x, [top, bottom]) => convLayer(p, `${at}.conv_out`, x, channels, 3, { padding: [top, bottom, 1, 1] }),
  }, channels);
  if (patch > 1) walk.whole(h, (x) => pixelShuffle(x, patch));
  return walk;
}
