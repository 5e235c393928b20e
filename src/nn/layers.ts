/** Layers made of ops: each takes the network's parameters and the layer's PyTorch name. Channels last throughout. */

import { conv2d, linear } from "../graph/ops/gemm.ts";
import { groupNorm, layerNorm } from "../graph/ops/norms.ts";
import { add } from "../graph/ops/pointwise.ts";
import { resizeNearest } from "../graph/ops/resample.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Parameters } from "./parameters.ts";

/** y = x·w + b over the last axis. x [..., in] → [..., out]. */
export function linearLayer(p: Parameters, name: string, x: Tensor, outputs: number, bias = true): Tensor {
  const y = linear(x, p.linear(`${name}.weight`, x.shape.at(-1)!, outputs));
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
    ? linear(x, p.linear(`${name}.weight`, inputs, outputs, 2))
    : conv2d(x, p.conv(`${name}.weight`, kernel, inputs, outputs), {
      stride: [stride, stride],
      padding: padding ?? [half, half, half, half],
    });
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
