/**
 * Where inspection networks start. DRAEM's localisation U-Net: N(0, 0.02) kernels and N(1, 0.02) norm scales. The narrow one and
 * the classifier: torchvision's ResNet, Kaiming-normal kernels by fan-out and identity norms, because behind a batch norm a
 * kernel's rate is relative to its size, and 0.02 is small for a narrow layer. Or weights that the user brings. Each tensor
 * depends on the seed and its own name only.
 */

import { Parameters } from "../../nn/parameters.ts";
import { Random } from "../../random/philox.ts";
import { torchLayouts } from "../../weights/rules.ts";
import type { WeightSource } from "../../weights/source.ts";
import { DRAEM_PREFIX } from "./network.ts";

/** Deviation of DRAEM's first kernels and norm scales. */
const DRAEM_DEVIATION = 0.02;

/**
 * Initial values of one parameter in PyTorch's layout.
 * @param name with its prefix
 * @param fanIn inputs of the layer that a bias belongs to
 */
export function initialNetworkValues(
  seed: number,
  name: string,
  shape: readonly number[],
  fanIn: number,
): Float32Array {
  const size = shape.reduce((a, b) => a * b, 1), random = new Random(seed, `inspect/init/${name}`);
  const draem = name.startsWith(`${DRAEM_PREFIX}.`);
  const normal = (mean: number, deviation: number) => random.normals(size).map((v) => mean + deviation * v);
  const uniform = (bound: number) => Float32Array.from({ length: size }, () => random.uniform(-bound, bound));
  if (name.endsWith(".running_var")) return new Float32Array(size).fill(1);
  if (name.endsWith(".running_mean")) return new Float32Array(size);
  if (shape.length === 4) {
    const [outputs, , kh, kw] = shape;
    return normal(0, draem ? DRAEM_DEVIATION : Math.sqrt(2 / (outputs * kh * kw)));
  }
  if (shape.length === 2) return uniform(1 / Math.sqrt(shape[1]));
  if (name.endsWith(".weight")) return draem ? normal(1, DRAEM_DEVIATION) : new Float32Array(size).fill(1);
  return fanIn ? uniform(1 / Math.sqrt(fanIn)) : new Float32Array(size);
}

/**
 * Parameters of an inspection network, in f32.
 * @param from values to take instead, by names with the prefix; what it does not hold starts at random
 */
export function networkParameters(seed: number, from?: WeightSource): Parameters {
  const parameters: Parameters = new Parameters(
    {
      get(name, shape) {
        if (from?.has(name)) return from.get(name, shape);
        // A bias takes its bound from the kernel beside it, whose shape here ends with the outputs.
        const kernel = parameters.variables.get(name.replace(/\.bias$/, ".weight"))?.shape ?? [];
        const fanIn = kernel.length < 2 ? 0 : kernel.slice(0, -1).reduce((a, b) => a * b, 1);
        return initialNetworkValues(seed, name, shape, fanIn);
      },
    },
    torchLayouts,
  );
  return parameters;
}
