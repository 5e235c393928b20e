/**
 * Proof of gradients: central differences of a float64 function, and the adjoint identity of a linear one.
 * The five-point stencil (Fornberg 1988, order 4) keeps the truncation error below rounding at a step of 1e-4.
 */
import { dot, type NDArray, ndarray, normals } from "./arrays.ts";

/** Named inputs of a reference operation. */
export type Inputs = Record<string, NDArray>;

/**
 * The gradient of ⟨f(x), dy⟩ with respect to x by central differences.
 * @param step distance between the stencil's points; inputs must be further than twice this from a kink of f
 */
export function finiteDifference(f: (x: NDArray) => NDArray, x: NDArray, dy: NDArray, step = 1e-4): NDArray {
  const probe = ndarray(x.shape, x.data), gradient = ndarray(x.shape);
  for (let i = 0; i < x.data.length; i++) {
    const value = (offset: number) => {
      probe.data[i] = x.data[i] + offset;
      return dot(f(probe), dy);
    };
    gradient.data[i] = (8 * (value(step) - value(-step)) - (value(2 * step) - value(-2 * step))) / (12 * step);
    probe.data[i] = x.data[i];
  }
  return gradient;
}

/**
 * Fails unless every gradient that `backward` returns equals the central difference of `forward`.
 * @param forward one output from the named inputs
 * @param backward gradients by input name, given dy; inputs it leaves out are constants
 * @param tolerance largest error as a part of the largest gradient element
 */
export function checkGradients(
  label: string,
  forward: (inputs: Inputs) => NDArray,
  backward: (dy: NDArray, inputs: Inputs) => Record<string, NDArray | undefined>,
  inputs: Inputs,
  tolerance = 1e-6,
): void {
  const dy = normals(forward(inputs).shape, `${label}/dy`);
  const gradients = Object.entries(backward(dy, inputs)).filter(([, gradient]) => gradient !== undefined);
  if (gradients.length === 0) throw new Error(`${label}: backward returned no gradient`);
  for (const [name, gradient] of gradients as [string, NDArray][]) {
    if (!(name in inputs)) throw new Error(`${label}: gradient for "${name}", which is not an input`);
    const expected = finiteDifference((x) => forward({ ...inputs, [name]: x }), inputs[name], dy);
    if (`${gradient.shape}` !== `${expected.shape}`) {
      throw new Error(`${label}: gradient of ${name} has shape [${gradient.shape}], the input has [${expected.shape}]`);
    }
    const scale = Math.max(1e-3, ...expected.data.map(Math.abs));
    for (let i = 0; i < expected.data.length; i++) {
      const error = Math.abs(gradient.data[i] - expected.data[i]) / scale;
      if (!(error <= tolerance)) {
        throw new Error(
          `${label}: d/d${name} element ${i} is ${gradient.data[i]}, central difference ${expected.data[i]} ` +
            `(relative error ${error.toExponential(2)})`,
        );
      }
    }
  }
}

/** Fails unless ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ to 1e-12 for random x and y: `adjoint` is the exact transpose of `linear`. */
export function checkAdjoint(
  label: string,
  linear: (x: NDArray) => NDArray,
  adjoint: (y: NDArray) => NDArray,
  shape: readonly number[],
): void {
  const x = normals(shape, `${label}/x`), ax = linear(x), y = normals(ax.shape, `${label}/y`);
  const left = dot(ax, y), right = dot(x, adjoint(y));
  const scale = Math.sqrt(dot(ax, ax) * dot(y, y));
  if (scale === 0) throw new Error(`${label}: A x is zero, so the identity proves nothing`);
  if (!(Math.abs(left - right) <= 1e-12 * scale)) {
    throw new Error(`${label}: <Ax, y> = ${left} but <x, A'y> = ${right}`);
  }
}
