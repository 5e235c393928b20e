/** How close two arrays are: relative L2 distance, cosine, and assertions that say where the worst element is. */

import assert from "node:assert/strict";

type Values = ArrayLike<number>;

/** ‖a − b‖₂ / ‖b‖₂, in float64. NaN anywhere gives NaN. */
export function relativeL2(actual: Values, expected: Values): number {
  assert.equal(actual.length, expected.length, "lengths differ");
  let difference = 0, norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i] - expected[i]) ** 2;
    norm += expected[i] ** 2;
  }
  return Math.sqrt(difference) / (Math.sqrt(norm) || 1);
}

/** ⟨a, b⟩ / (‖a‖·‖b‖). */
export function cosine(a: Values, b: Values): number {
  assert.equal(a.length, b.length, "lengths differ");
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] ** 2;
    bb += b[i] ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

/** Fails unless ‖a − b‖ ≤ tolerance·‖b‖; the message names the worst element. */
export function assertClose(actual: Values, expected: Values, tolerance: number, what = "values"): void {
  const distance = relativeL2(actual, expected);
  if (distance <= tolerance) return;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!(Math.abs(actual[i] - expected[i]) <= Math.abs(actual[worst] - expected[worst]))) worst = i;
  }
  assert.fail(
    `${what}: relative L2 ${distance} > ${tolerance}; worst at ${worst}: ${actual[worst]}, expected ${expected[worst]}`,
  );
}
