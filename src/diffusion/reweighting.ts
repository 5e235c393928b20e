/** Adaptive attention re-weighting in the official code: how the mask that a step draws in follows from its time. */

/**
 * How far the mask is widened at timestep t: ⌊reach·(t + 100)/1000⌋ latent pixels to every side. The paper's code uses a
 * reach of 8 on 32×32 latents, and 16 where it samples exactly 50 steps.
 */
export function dilationRadius(t: number, steps: number, reach = steps === 50 ? 16 : 8): number {
  return Math.floor(reach * (t + 100) / 1000);
}
