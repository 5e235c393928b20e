/** How a learning rate goes over a training. */

/** How a learning rate goes: a linear rise, flat, then half a cosine down to a rest. */
export interface RateSchedule {
  /** Steps of the rise. */
  readonly warmUp: number;
  /** Share of the training before the fall begins. */
  readonly flat: number;
  /** What is left at the end, as a share of the peak. */
  readonly rest: number;
}

/**
 * Learning rate of a step.
 * @param step from 0
 * @param steps of the whole training
 * @example
 * ```ts
 * import { rateAt } from "./learning_rate.ts";
 * const schedule = { warmUp: 10, flat: 0.5, rest: 0.1 };
 * if (rateAt(0, 100, 1, schedule) !== 0.1 || rateAt(50, 100, 1, schedule) !== 1) throw new Error("not a rise, then flat");
 * ```
 */
export function rateAt(step: number, steps: number, peak: number, { warmUp, flat, rest }: RateSchedule): number {
  const fall = Math.max(0, (step / steps - flat) / (1 - flat));
  return peak * Math.min(1, (step + 1) / warmUp) * (rest + (1 - rest) * 0.5 * (1 + Math.cos(Math.PI * fall)));
}
