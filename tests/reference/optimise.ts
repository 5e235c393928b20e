/**
 * One step of Adam (Kingma & Ba 2015, alg. 1) and AdamW (Loshchilov & Hutter 2019, alg. 2) in float64, as PyTorch
 * defines them: bias corrections apart from the moments, ε added after the square root.
 */
import { map, type NDArray, ndarray } from "../support/arrays.ts";

/** Settings of a step; the defaults are PyTorch's, save that weight decay is 0 for Adam and 0.01 for AdamW. */
export interface AdamOptions {
  lr: number;
  betas?: readonly [number, number];
  eps?: number;
  weightDecay?: number;
}

/** A parameter with its first and second moments and the number of steps taken so far. */
export interface AdamState {
  parameter: NDArray;
  m: NDArray;
  v: NDArray;
  step: number;
}

/** The state before the first step: moments of zero. */
export function adamInit(parameter: NDArray): AdamState {
  return { parameter, m: ndarray(parameter.shape), v: ndarray(parameter.shape), step: 0 };
}

function update(state: AdamState, gradient: NDArray, { lr, betas = [0.9, 0.999], eps = 1e-8 }: AdamOptions): AdamState {
  const step = state.step + 1, [beta1, beta2] = betas;
  const m = map(state.m, (value, i) => beta1 * value + (1 - beta1) * gradient.data[i]);
  const v = map(state.v, (value, i) => beta2 * value + (1 - beta2) * gradient.data[i] ** 2);
  const size = lr / (1 - beta1 ** step), root = Math.sqrt(1 - beta2 ** step);
  const parameter = map(
    state.parameter,
    (value, i) => value - size * m.data[i] / (Math.sqrt(v.data[i]) / root + eps),
  );
  return { parameter, m, v, step };
}

/** The state after one Adam step; weight decay is added to the gradient as λ·parameter. */
export function adamStep(state: AdamState, gradient: NDArray, options: AdamOptions): AdamState {
  const { weightDecay = 0 } = options;
  return update(state, map(gradient, (g, i) => g + weightDecay * state.parameter.data[i]), options);
}

/** The state after one AdamW step; weight decay shrinks the parameter by 1 − lr·λ before the step. */
export function adamWStep(state: AdamState, gradient: NDArray, options: AdamOptions): AdamState {
  const { lr, weightDecay = 0.01 } = options;
  return update({ ...state, parameter: map(state.parameter, (p) => p * (1 - lr * weightDecay)) }, gradient, options);
}
