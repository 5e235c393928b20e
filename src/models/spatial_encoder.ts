/**
 * Spatial encoders E: mask → n spatial tokens e_s, in the space of word embeddings (paper, section "Spatial Anomaly
 * Embedding"). The light one suits small models; `official_spatial_encoder.ts` is the 356 M network of the official code.
 */

import { linear } from "../graph/ops/gemm.ts";
import { add, leakyRelu } from "../graph/ops/pointwise.ts";
import { averagePool, resizeBilinear } from "../graph/ops/resample.ts";
import { reshape } from "../graph/ops/shape.ts";
import { scope, type Tensor } from "../graph/tensor.ts";
import { convLayer } from "../nn/layers.ts";
import type { Parameters, ParameterSource } from "../nn/parameters.ts";
import { Random } from "../random/philox.ts";
import type { LightSpatialConfig } from "../weights/config.ts";

export type { LightSpatialConfig };

/** Prefix of a spatial encoder's parameters. */
export const SPATIAL_PREFIX = "spatial_encoder";

/** Side at which the light encoder reads the mask. */
const INPUT_SIDE = 64;

/** A light encoder for `width`-wide embeddings. */
export function lightSpatialConfig(tokens: number, width: number): LightSpatialConfig {
  return { kind: "light", channels: [16, 32, 64, 64], tokens, width };
}

/**
 * Tokens of a mask.
 * @param mask [B, H, W, 1] in [0, 1], H = W a multiple of 64, or any size (then resized)
 * @returns e_s [B, n, width]
 */
export function lightSpatialEncoder(config: LightSpatialConfig, p: Parameters, mask: Tensor): Tensor {
  const [batch, height, width] = mask.shape, factor = height / INPUT_SIDE;
  return scope(SPATIAL_PREFIX, () => {
    let h = mask;
    if (Number.isInteger(factor) && height === width) {
      // A mean, so that a thin defect leaves a trace.
      if (factor > 1) h = averagePool(h, { kernel: [factor, factor], stride: [factor, factor], padding: [0, 0, 0, 0] });
    } else h = resizeBilinear(h, [INPUT_SIDE, INPUT_SIDE], { antialias: true });
    config.channels.forEach((channels, i) => {
      h = leakyRelu(convLayer(p, `${SPATIAL_PREFIX}.convs.${i}`, h, channels, 3, { stride: 2 }), 0.1);
    });
    const flat = reshape(h, [batch, -1]);
    const outputs = config.tokens * config.width;
    const tokens = linear(flat, p.linear(`${SPATIAL_PREFIX}.linear.weight`, flat.shape[1], outputs));
    return reshape(add(tokens, p.tensor(`${SPATIAL_PREFIX}.linear.bias`, [outputs])), [
      batch,
      config.tokens,
      config.width,
    ]);
  });
}

/** Initial parameters of the light encoder: He-normal convolutions, a last layer so small that e_s starts near zero. */
export function lightSpatialInit(seed: number): ParameterSource {
  return {
    get(name, shape) {
      const size = shape.reduce((a, b) => a * b, 1);
      if (shape.length === 1) return new Float32Array(size);
      const fanIn = size / shape[0];
      const scale = name.includes(".linear.") ? 0.003 : Math.sqrt(2 / fanIn);
      return new Random(seed, `init/${name}`).normals(size).map((v) => v * scale);
    },
  };
}
