/** How near a pair comes to those made before it, asked pair by pair: `nearDuplicates` of `pairs.ts` while a run goes on. */

import { descriptorDistance } from "./pairs.ts";

/**
 * Descriptors of the pairs of one kind.
 * @example
 * ```ts
 * import { EarlierPairs } from "./earlier_pairs.ts";
 * const pairs = new EarlierPairs();
 * pairs.add(0, Float32Array.of(0.5, 0.5));
 * pairs.add(7, Float32Array.of(0.9, 0.9)); // later than what is asked about
 * const distance = pairs.nearest(3, Float32Array.of(0.5, 0.7))!;
 * if (Math.abs(distance - Math.sqrt(0.02)) > 1e-6) throw new Error(`${distance}`);
 * ```
 */
export class EarlierPairs {
  readonly #known: { index: number; descriptor: Float32Array; mean: number }[] = [];

  /** Takes a pair by its index and its descriptor (`defectDescriptor`). */
  add(index: number, descriptor: Float32Array): void {
    this.#known.push({ index, descriptor, mean: meanOf(descriptor) });
  }

  /** Distance to the nearest pair of a smaller index, 0 … 1; undefined where there is none. */
  nearest(index: number, descriptor: Float32Array): number | undefined {
    const mean = meanOf(descriptor);
    let best: number | undefined;
    for (const one of this.#known) {
      // Means differ by no more than the distance, so that most pairs need not be compared.
      if (one.index >= index || Math.abs(one.mean - mean) > (best ?? Infinity)) continue;
      best = Math.min(best ?? Infinity, descriptorDistance(descriptor, one.descriptor));
    }
    return best;
  }
}

function meanOf(descriptor: Float32Array): number {
  return descriptor.reduce((sum, value) => sum + value, 0) / descriptor.length;
}
