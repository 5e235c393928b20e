/** Classifier-free guidance (Ho & Salimans 2021, Eq. 6, in the form that Stable Diffusion uses). */

/**
 * ε = ε_∅ + s·(ε_c − ε_∅).
 * @param unconditional prediction for the empty prompt
 * @param conditional prediction for the prompt
 * @param scale s; 1 is the conditional prediction alone
 */
export function guide(unconditional: Float32Array, conditional: Float32Array, scale: number): Float32Array {
  return unconditional.map((value, i) => value + scale * (conditional[i] - value));
}
