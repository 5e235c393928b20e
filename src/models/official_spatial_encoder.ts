/**
 * The spatial encoder of the official code (sjtuplayer/anomalydiffusion, `GradualStyleEncoder` of pSp with an IR-50 body,
 * 356 M parameters at width 1280): a residual network, a feature pyramid, and one convolutional head per token, all of which
 * read the pyramid's finest level. Parameter names are those of its state dict under `spatial_encoder.`.
 */

import { conv2d, linear } from "../graph/ops/gemm.ts";
import { prelu } from "../graph/ops/geglu.ts";
import { batchNorm, batchNormInference } from "../graph/ops/norms.ts";
import { ema } from "../graph/ops/optimise.ts";
import { add, affine, leakyRelu } from "../graph/ops/pointwise.ts";
import { maxPool, resizeBilinear } from "../graph/ops/resample.ts";
import { concat, reshape } from "../graph/ops/shape.ts";
import { scope, type Tensor } from "../graph/tensor.ts";
import { filled, variableOf } from "../graph/variable.ts";
import { convLayer } from "../nn/layers.ts";
import type { Parameters, ParameterSource } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import { u } from "../weights/formula.ts";
import { SPATIAL_PREFIX } from "./spatial_encoder.ts";

/** Which statistics batch norms use: kept ones, or those of the batch at hand (which then also move the kept ones). */
export type Statistics = "running" | "batch";

/** Sizes of the official spatial encoder. */
export interface OfficialSpatialConfig {
  /** Which encoder: the official code's, with an IR-50 body and a feature pyramid. */
  readonly kind: "official";
  /** Number n of tokens, each with a head of its own. */
  readonly tokens: number;
  /** Width of a word embedding. */
  readonly width: number;
  /** Side at which the mask is read, at least 32; 256 in the official code. */
  readonly side: number;
  /** Widths of the stem and of the four groups of residual blocks; the pyramid is as wide as the last. */
  readonly channels: readonly [number, number, number, number, number];
  /** Statistics when images are made. The official code leaves training's on: an image then depends on its batch. */
  readonly generation: Statistics;
}

/** Blocks in each group of an IR-50. */
const UNITS = [3, 4, 14, 3] as const;

/** How far a batch moves the running statistics (PyTorch's default). */
const MOMENTUM = 0.1;

const EPS = 1e-5;

/**
 * The official sizes for `width`-wide embeddings.
 * @example
 * ```ts
 * import { officialSpatialConfig } from "./official_spatial_encoder.ts";
 * if (officialSpatialConfig(4, 1280).channels[4] !== 512) throw new Error();
 * ```
 */
export function officialSpatialConfig(
  tokens: number,
  width: number,
  { side = 256, generation = "running" }: { readonly side?: number; readonly generation?: Statistics } = {},
): OfficialSpatialConfig {
  return { kind: "official", tokens, width, side, channels: [64, 64, 128, 256, 512], generation };
}

/** Stride-2 convolutions that bring the pyramid's finest level, side / 4, down to one pixel. */
function headDepth(side: number): number {
  return Math.ceil(Math.log2(Math.ceil(side / 4)));
}

/** Whether a parameter is a running statistic, which the optimiser leaves alone. */
export function isRunningStatistic(name: string): boolean {
  return name.endsWith(".running_mean") || name.endsWith(".running_var");
}

/** Layers that share the parameters, the statistics and the list of effects. */
class Builder {
  readonly effects: Tensor[] = [];
  readonly #decay = filled([1], 1 - MOMENTUM);

  constructor(readonly p: Parameters, readonly statistics: Statistics) {}

  norm(name: string, x: Tensor): Tensor {
    const shape = [x.shape[3]], table = (part: string) => this.p.tensor(`${name}.${part}`, shape);
    const gamma = table("weight"), beta = table("bias"), mean = table("running_mean"), variance = table("running_var");
    if (this.statistics === "running") return batchNormInference(x, gamma, beta, mean, variance, { eps: EPS });
    const result = batchNorm(x, gamma, beta, { eps: EPS });
    this.effects.push(
      ema(variableOf(mean)!, result.mean, this.#decay),
      ema(variableOf(variance)!, result.variance, this.#decay),
    );
    return result.y;
  }

  /** Convolution without bias, zero-padded by half its kernel. */
  conv(name: string, x: Tensor, outputs: number, kernel: number, stride: number): Tensor {
    const half = (kernel - 1) / 2, weight = this.p.conv(`${name}.weight`, kernel, x.shape[3], outputs);
    return conv2d(x, weight, { stride: [stride, stride], padding: [half, half, half, half] });
  }

  prelu(name: string, x: Tensor): Tensor {
    return prelu(x, this.p.tensor(`${name}.weight`, [x.shape[3]]));
  }

  /** BN, 3×3, PReLU, 3×3 with the stride, BN; added to the input, thinned out or projected. */
  block(name: string, x: Tensor, outputs: number, stride: number): Tensor {
    const layer = `${name}.res_layer`;
    let h = this.norm(`${layer}.0`, x);
    h = this.prelu(`${layer}.2`, this.conv(`${layer}.1`, h, outputs, 3, 1));
    h = this.norm(`${layer}.4`, this.conv(`${layer}.3`, h, outputs, 3, stride));
    if (x.shape[3] !== outputs) {
      const shortcut = `${name}.shortcut_layer`;
      return add(h, this.norm(`${shortcut}.1`, this.conv(`${shortcut}.0`, x, outputs, 1, stride)));
    }
    return add(h, stride === 1 ? x : maxPool(x, { kernel: [1, 1], stride: [stride, stride] }));
  }

  /** One token [B, width]. EqualLinear scales its weight by 1 / √inputs whenever it runs. */
  head(name: string, x: Tensor, width: number, depth: number): Tensor {
    let h = x;
    for (let i = 0; i < depth; i++) {
      h = leakyRelu(convLayer(this.p, `${name}.convs.${2 * i}`, h, width, 3, { stride: 2 }), 0.01);
    }
    const product = linear(reshape(h, [x.shape[0], width]), this.p.linear(`${name}.linear.weight`, width, width));
    return add(affine(product, 1 / Math.sqrt(width)), this.p.tensor(`${name}.linear.bias`, [width]));
  }
}

/** Tokens, and what training has to run besides. */
export interface SpatialTokens {
  /** e_s [B, n, width] */
  readonly tokens: Tensor;
  /** With batch statistics: the running ones take the batch in. To be passed to `compile` as effects. */
  readonly effects: readonly Tensor[];
}

/**
 * Tokens of a mask.
 * @param mask [B, H, W, 1] in [0, 1]; resized where H or W is not `config.side`
 * @param statistics of the batch norms; "batch" needs more than one value per channel, which any side from 32 on gives
 * @throws Error where the side is below 32
 */
export function officialSpatialEncoder(
  config: OfficialSpatialConfig,
  p: Parameters,
  mask: Tensor,
  statistics: Statistics = "running",
): SpatialTokens {
  const { tokens, width, side, channels } = config, batch = mask.shape[0];
  if (side < 32) throw new Error(`the official spatial encoder reads masks of at least 32 × 32, not ${side}`);
  const b = new Builder(p, statistics);
  return scope(SPATIAL_PREFIX, () => {
    const grey = affine(resizeBilinear(mask, [side, side], { antialias: true }), 2, -1);
    const stem = `${SPATIAL_PREFIX}.input_layer`;
    let h = b.conv(`${stem}.0`, concat([grey, grey, grey], 3), channels[0], 3, 1);
    h = b.prelu(`${stem}.2`, b.norm(`${stem}.1`, h));
    let index = 0;
    const [, fine, middle, coarse] = UNITS.map((units, group) => {
      for (let unit = 0; unit < units; unit++, index++) {
        const name = `body.${index}`;
        h = scope(name, () => b.block(`${SPATIAL_PREFIX}.${name}`, h, channels[group + 1], unit === 0 ? 2 : 1));
      }
      return h;
    });
    const lateral = (above: Tensor, tap: Tensor, name: string) =>
      add(
        convLayer(p, `${SPATIAL_PREFIX}.${name}`, tap, channels[4], 1),
        resizeBilinear(above, [tap.shape[1], tap.shape[2]], { alignCorners: true }),
      );
    const p1 = lateral(lateral(coarse, middle, "latlayer1"), fine, "latlayer2");
    const heads = Array.from({ length: tokens }, (_, i) => {
      const name = `styles.${i}`;
      const token = scope(name, () => b.head(`${SPATIAL_PREFIX}.${name}`, p1, width, headDepth(side)));
      return reshape(token, [batch, 1, width]);
    });
    return { tokens: concat(heads, 1), effects: b.effects };
  });
}

/** Initial parameters by PyTorch's defaults: uniform in ±1/√fan-in, EqualLinear N(0, 1), PReLU 0.25, identity norms. */
export function officialSpatialInit(config: OfficialSpatialConfig, seed: number): ParameterSource {
  const { width, channels } = config;
  /** Inputs that one output of the convolution with this bias sums over. */
  const fanInOfBias = (name: string) => {
    if (name.includes(".latlayer1.")) return channels[3];
    if (name.includes(".latlayer2.")) return channels[2];
    return 9 * (name.includes(".convs.0.") ? channels[4] : width);
  };
  return {
    get(name, shape) {
      const size = shape.reduce((a, b) => a * b, 1);
      // 356 M Philox numbers would take minutes; the formula of the parity fixtures takes seconds.
      const uniform = (fanIn: number) => {
        const values = u(`init/${seed}`, name, shape), bound = 1 / Math.sqrt(fanIn);
        for (let i = 0; i < size; i++) values[i] *= bound;
        return values;
      };
      if (name.endsWith(".linear.weight")) return new Random(seed, `init/${name}`).normals(size);
      if (shape.length > 1) return uniform(size / shape[0]);
      if (name.endsWith("running_mean") || name.endsWith(".linear.bias")) return new Float32Array(size);
      if (/\.(convs|latlayer).*\.bias$/.test(name)) return uniform(fanInOfBias(name));
      if (name.endsWith(".bias")) return new Float32Array(size);
      const slope = /\.(input_layer|res_layer)\.2\.weight$/.test(name);
      return new Float32Array(size).fill(slope ? 0.25 : 1);
    },
  };
}
