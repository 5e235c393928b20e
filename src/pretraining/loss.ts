/**
 * The autoencoder's loss, without a discriminator: L1 of pixels, of their colour, of Laplacian bands (Burt & Adelson 1983)
 * and of gradients, and the local energy of the fine bands, which keeps a texture's contrast; plus a small pull of the latent
 * to N(0, 1). The weights of colour and of the coarsest band are what ends an early plateau of grey pictures. Pixels may count
 * more than others in what sees fine shapes.
 */

import { klGaussian, l1 } from "../graph/ops/losses.ts";
import { abs, add, affine, mul, sqrt, square, sub } from "../graph/ops/pointwise.ts";
import { mean } from "../graph/ops/reduce.ts";
import { averagePool, resizeBilinear } from "../graph/ops/resample.ts";
import { reshape, slice } from "../graph/ops/shape.ts";
import type { Tensor } from "../graph/tensor.ts";

const BAND_WEIGHTS = [1, 1, 1, 3], FINE_BANDS = 2, ENERGY_WINDOW = 8, ENERGY_STRIDE = 4;
const COLOUR_WEIGHT = 2, GRADIENT_WEIGHT = 0.5, ENERGY_WEIGHT = 0.5, KL_WEIGHT = 1e-4;

/** What each level loses on the way to the next, half as large one, and the last level. */
function pyramid(x: Tensor): Tensor[] {
  const bands: Tensor[] = [];
  for (let level = 1; level < BAND_WEIGHTS.length; level++) {
    const low = averagePool(x, { kernel: [2, 2] });
    bands.push(sub(x, resizeBilinear(low, [x.shape[1], x.shape[2]])));
    x = low;
  }
  return [...bands, x];
}

/** Local root mean square. The small number keeps the root's slope finite. */
function energy(band: Tensor): Tensor {
  const power = averagePool(square(band), {
    kernel: [ENERGY_WINDOW, ENERGY_WINDOW],
    stride: [ENERGY_STRIDE, ENERGY_STRIDE],
  });
  return sqrt(affine(power, 1, 1e-5));
}

const total = (terms: readonly Tensor[]) => terms.reduce(add);

/** Mean of |x| over all elements of [B, H, W, C], times their pixel's weight [B, H, W, 1] where there are weights; [1]. */
function meanAbs(x: Tensor, weight?: Tensor): Tensor {
  return reshape(mean(weight ? mul(abs(x), weight) : abs(x)), [1]);
}

/**
 * Loss of a reconstruction.
 * @param output [B, S, S, 3], S a multiple of 16 and at least 32
 * @param target the same shape, in [−1, 1]
 * @param moments the latent's mean ‖ log-variance [B, s, s, 2·C]
 * @param weight what each pixel counts in L1, in the two fine bands and in the gradients [B, S, S, 1], 0 or more; 1 where left
 * out. Not divided by its mean: damage adds to the loss and takes nothing from what surrounds it
 * @returns the loss, and the mean absolute error of pixels without weights; [1] each
 */
export function autoencoderLoss(
  output: Tensor,
  target: Tensor,
  moments: Tensor,
  weight?: Tensor,
): { loss: Tensor; pixels: Tensor } {
  const pixels = l1(output, target);
  const own = pyramid(output), wanted = pyramid(target);
  const weights = weight ? [weight, averagePool(weight, { kernel: [2, 2] })] : []; // of the fine bands
  const bands = total(own.map((band, i) => affine(meanAbs(sub(band, wanted[i]), weights[i]), BAND_WEIGHTS[i])));
  const energies = total(own.slice(0, FINE_BANDS).map((band, i) => l1(energy(band), energy(wanted[i]))));
  const difference = sub(output, target);
  const gradients = total([1, 2].map((axis) => {
    const step = sub(slice(difference, axis, 1), slice(difference, axis, 0, -1));
    return meanAbs(step, weight && slice(weight, axis, 1));
  }));
  const colour = meanAbs(sub(difference, mean(difference, [3], true)));
  const latents = moments.size / 2 / moments.shape[0];
  const loss = total([
    weight ? meanAbs(difference, weight) : pixels,
    affine(colour, COLOUR_WEIGHT),
    bands,
    affine(gradients, GRADIENT_WEIGHT),
    affine(energies, ENERGY_WEIGHT),
    affine(klGaussian(moments), KL_WEIGHT / latents),
  ]);
  return { loss, pixels };
}
