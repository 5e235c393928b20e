/** Layers made of ops: each takes the network's parameters and the layer's PyTorch name. Channels last throughout. */

import { conv2d, linear } from "../graph/ops/gemm.ts";
import { groupNorm, layerNorm } from "../graph/ops/norms.ts";
import { add } from "../graph/ops/pointwise.ts";
import { concat } from "../graph/ops/shape.ts";
import { resizeNearest } from "../graph/ops/resample.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Parameters } from "./parameters.ts";

/** What each block of a weight gives, side by side. */
function inBlocks(blocks: readonly Tensor[], apply: (weight: Tensor) => Tensor): Tensor {
  const parts = blocks.map(apply);
  return parts.length === 1 ? parts[0] : concat(parts, parts[0].shape.length - 1);
}

/** y = x·w + b over the last axis. x [..., in] → [..., out]. */
export function linearLayer(p: Parameters, name: string, x: Tensor, outputs: number, bias = true): Tensor {
  const blocks = p.linearBlocks(`${name}.weight`, x.shape.at(-1)!, outputs);
  const y = inBlocks(blocks, (weight) => linear(x, weight));
  return bias ? add(y, p.tensor(`${name}.bias`, [outputs])) : y;
}

/** Options of {@linkcode convLayer}. */
export interface ConvOptions {
  readonly stride?: number;
  /** [top, bottom, left, right]; half the kernel on each side where left out. */
  readonly padding?: readonly [number, number, number, number];
  readonly bias?: boolean;
}

/** k×k convolution with bias. x [B, H, W, in] → [B, H′, W′, out]. */
export function convLayer(
  p: Parameters,
  name: string,
  x: Tensor,
  outputs: number,
  kernel = 3,
  { stride = 1, padding, bias = true }: ConvOptions = {},
): Tensor {
  const half = (kernel - 1) / 2, inputs = x.shape[3];
  const y = kernel === 1 && stride === 1
    ? inBlocks(p.linearBlocks(`${name}.weight`, inputs, outputs, 2), (weight) => linear(x, weight))
    : inBlocks(p.convBlocks(`${name}.weight`, kernel, inputs, outputs), (weight) =>
      conv2d(x, weight, {
        stride: [stride, stride],
        padding: padding ?? [half, half, half, half],
      }));
  return bias ? add(y, p.tensor(`${name}.bias`, [outputs])) : y;
}

/** Group norm with scale and shift, optionally followed by SiLU in the same kernel. x [B, ..., C]. */
export function groupNormLayer(
  p: Parameters,
  name: string,
  x: Tensor,
  options: { readonly groups: number; readonly eps: number; readonly activation?: "silu" },
): Tensor {
  const channels = x.shape.at(-1)!;
  return groupNorm(x, p.tensor(`${name}.weight`, [channels]), p.tensor(`${name}.bias`, [channels]), options);
}

/** Layer norm over the last axis, eps 1e-5. */
export function layerNormLayer(p: Parameters, name: string, x: Tensor): Tensor {
  const channels = x.shape.at(-1)!;
  return layerNorm(x, p.tensor(`${name}.weight`, [channels]), p.tensor(`${name}.bias`, [channels]), { eps: 1e-5 });
}

/** Nearest ×2, then a 3×3 convolution. x [B, H, W, C] → [B, 2H, 2W, C]. */
export function upsampleLayer(p: Parameters, name: string, x: Tensor): Tensor {
  const [, height, width, channels] = x.shape;
  return convLayer(p, name, resizeNearest(x, [2 * height, 2 * width]), channels);
}
