/**
 * Diffusion in float64, elementwise by the papers' formulas: the forward process, blending, guidance and one step of DDIM.
 * Latents are channels last.
 */
import { map, type NDArray } from "../support/arrays.ts";

/** x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε (Ho et al. 2020, Eq. 4). */
export function noised(x0: NDArray, noise: NDArray, aBar: number): NDArray {
  return map(x0, (value, i) => Math.sqrt(aBar) * value + Math.sqrt(1 - aBar) * noise.data[i]);
}

/** x⊙M + y⊙(1−M) (the paper's Eq. 1).  x, y [B, H, W, C], mask [B, H, W, 1]. */
export function blend(x: NDArray, y: NDArray, mask: NDArray): NDArray {
  const channels = x.shape.at(-1)!;
  return map(x, (value, i) => {
    const m = mask.data[Math.floor(i / channels)];
    return value * m + y.data[i] * (1 - m);
  });
}

/** ε_∅ + s·(ε_c − ε_∅) (Ho & Salimans 2022, Eq. 6, in the form that Stable Diffusion uses). */
export function guide(unconditional: NDArray, conditional: NDArray, scale: number): NDArray {
  return map(unconditional, (value, i) => value + scale * (conditional.data[i] - value));
}

/** x̂₀ = (x − √(1−ᾱ)·ε)/√ᾱ, the clean latent that a prediction implies. */
export function predictX0(x: NDArray, eps: NDArray, aBar: number): NDArray {
  return map(x, (value, i) => (value - Math.sqrt(1 - aBar) * eps.data[i]) / Math.sqrt(aBar));
}

/** Where a step of DDIM starts and leads to, and the deviation of its noise. */
export interface DdimStep {
  aBar: number;
  aBarPrev: number;
  sigma: number;
}

/** x' = √ᾱ'·x̂₀ + √(1−ᾱ'−σ²)·ε + σ·noise (Song et al. 2021, Eq. 12). */
export function ddimUpdate({ aBar, aBarPrev, sigma }: DdimStep, x: NDArray, eps: NDArray, noise: NDArray): NDArray {
  const direction = Math.sqrt(Math.max(0, 1 - aBarPrev - sigma ** 2));
  return map(
    predictX0(x, eps, aBar),
    (x0, i) => Math.sqrt(aBarPrev) * x0 + direction * eps.data[i] + sigma * noise.data[i],
  );
}
