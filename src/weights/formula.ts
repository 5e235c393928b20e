/**
 * Weights and inputs that anyone can regenerate from a salt and a name: a 32-bit hash of the position (the "lowbias32"
 * mixer of C. Wellons), scaled to [−1, 1). The parity fixtures hold only what reference modules computed on them.
 */

import { fnv1a } from "../random/philox.ts";
import type { WeightSource } from "./source.ts";

const { fround, imul } = Math;

/** Number of elements of a shape. */
function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, axis) => product * axis, 1);
}

/** Fills by the formula; every arithmetic step after the hash is rounded to float32. */
function fill(salt: string, name: string, shape: readonly number[], scale: number, offset: number): Float32Array {
  const seed = fnv1a(`${salt}/${name}`), factor = fround(scale);
  const out = new Float32Array(sizeOf(shape));
  for (let i = 0; i < out.length; i++) {
    let x = (i + seed) >>> 0;
    x = imul(x ^ (x >>> 16), 0x7feb352d);
    x = imul(x ^ (x >>> 15), 0x846ca68b);
    x = (x ^ (x >>> 16)) >>> 0;
    out[i] = fround(fround(x / 0x80000000 - 1) * factor) + offset;
  }
  return out;
}

/**
 * Uniform values in [−1, 1) that depend on the salt, the name and the position only.
 * @example
 * ```ts
 * import { u } from "./formula.ts";
 * if (u("alpha", "x", [3])[0] !== -0.07512232661247253) throw new Error("not the known answer");
 * ```
 */
export function u(salt: string, name: string, shape: readonly number[]): Float32Array {
  return fill(salt, name, shape, 1, 0);
}

/** `√3·u`: zero mean, unit variance, in [−√3, √3); `scale` multiplies the result, rounded to float32 once more. */
export function noise(salt: string, name: string, shape: readonly number[], scale = 1): Float32Array {
  const out = fill(salt, name, shape, Math.sqrt(3), 0);
  if (scale !== 1) { for (let i = 0; i < out.length; i++) out[i] *= fround(scale); }
  return out;
}

/**
 * A weight source that holds every name in every shape, by formula: 0.1·u for biases and running means, 1 + 0.2·u for
 * other vectors (norm scales, slopes, running variances), √(3 / fan-in)·u for matrices and kernels.
 */
export class FormulaWeights implements WeightSource {
  /** @param salt any text; another salt gives other weights */
  constructor(readonly salt: string) {}

  /** Always true: any name can be generated. */
  has(_name: string): boolean {
    return true;
  }

  /** The tensor of that state-dict name in PyTorch's layout. */
  get(name: string, shape: readonly number[]): Float32Array {
    if (name.endsWith("running_mean")) return fill(this.salt, name, shape, 0.1, 0);
    if (name.endsWith("running_var")) return fill(this.salt, name, shape, 0.2, 1);
    if (shape.length === 1) {
      return name.endsWith("bias") ? fill(this.salt, name, shape, 0.1, 0) : fill(this.salt, name, shape, 0.2, 1);
    }
    return fill(this.salt, name, shape, Math.sqrt(3 / sizeOf(shape.slice(1))), 0);
  }
}
