/**
 * The memory bank of PatchCore (Roth et al., CVPR 2022, sections 3.2 and 3.3): a greedy coreset of normal patches, and how
 * far a patch is from it. All distances are exact, in float64; what cannot be the smallest is given up early.
 */

import { UserError } from "../../errors.ts";
import { Random } from "../../random/philox.ts";

/** Vectors of one length, behind one another. */
export interface Vectors {
  readonly count: number;
  readonly size: number;
  /** [count, size]. */
  readonly data: Float32Array;
}

/** Dimensions of the random projection in which the coreset is chosen. */
const PROJECTED = 128;

/** Elements after which a partial sum is compared with what is known. */
const CHUNK = 32;

/** Squared distance of two vectors; once it is above `limit`, any value above it. */
function squaredDistance(
  a: Float32Array,
  i: number,
  b: Float32Array,
  j: number,
  size: number,
  limit: number,
): number {
  let sum = 0;
  for (let from = 0; from < size && sum <= limit; from += CHUNK) {
    const to = Math.min(size, from + CHUNK);
    for (let k = from; k < to; k++) {
      const d = a[i + k] - b[j + k];
      sum += d * d;
    }
  }
  return sum;
}

/**
 * Vectors in few dimensions whose distances are about the same (Johnson and Lindenstrauss): products with Gaussian rows.
 * @returns the vectors themselves where they have no more than `size` dimensions
 */
export function projected(vectors: Vectors, seed: number, size = PROJECTED): Vectors {
  if (vectors.size <= size) return vectors;
  const { count, size: from, data } = vectors;
  const rows = new Random(seed, "patchcore/projection").normals(from * size).map((v) => v / Math.sqrt(size));
  const out = new Float32Array(count * size), sum = new Float64Array(size);
  for (let i = 0; i < count; i++) {
    sum.fill(0);
    for (let k = 0; k < from; k++) {
      const v = data[i * from + k];
      if (v !== 0) { for (let j = 0; j < size; j++) sum[j] += v * rows[k * size + j]; }
    }
    out.set(sum, i * size);
  }
  return { count, size, data: out };
}

/**
 * A greedy coreset: starting from a random vector, again and again the one that is farthest from all chosen ones (Agarwal
 * et al. 2005; k-centre). Of equally far ones the first is taken.
 * @param count how many to choose; fewer where all others repeat chosen ones
 * @param onStep called with the chosen ones so far; waited for
 * @returns indices in the order in which they were chosen
 */
export async function greedyCoreset(
  { count: all, size, data }: Vectors,
  count: number,
  seed: number,
  onStep?: (chosen: number) => void | Promise<void>,
): Promise<number[]> {
  const chosen: number[] = [], nearest = new Float64Array(all).fill(Infinity), owner = new Int32Array(all).fill(-1);
  const between: number[] = []; // squared distances of the newest one to those before it
  let next = new Random(seed, "patchcore/start").integer(0, all);
  while (chosen.length < Math.min(count, all)) {
    for (const [k, other] of chosen.entries()) {
      between[k] = squaredDistance(data, next * size, data, other * size, size, Infinity);
    }
    const index = chosen.push(next) - 1;
    let farthest = -1;
    for (let i = 0; i < all; i++) {
      const known = nearest[i];
      // By the triangle inequality the newest cannot be nearer than the owner where it is twice as far from the owner.
      if (known > 0 && !(owner[i] >= 0 && between[owner[i]] >= 4 * known)) {
        const d = squaredDistance(data, i * size, data, next * size, size, known);
        if (d < known) {
          nearest[i] = d;
          owner[i] = index;
        }
      }
      if (farthest < 0 || nearest[i] > nearest[farthest]) farthest = i;
    }
    await onStep?.(chosen.length);
    if (nearest[farthest] === 0) break;
    next = farthest;
  }
  return chosen;
}

/** How an image's patches compare with the bank. */
export interface Comparison {
  /** Distance of each patch to the nearest one of the bank. */
  readonly distances: Float32Array;
  /** The largest of them, weighted by how unusual its nearest neighbour is in the bank (Eq. 7). */
  readonly score: number;
}

/** Neighbours in the bank that weight an image's score; 9 in the reference implementations. */
const NEIGHBOURS = 9;

/**
 * Patches of normal images.
 * @example
 * ```ts
 * import { MemoryBank } from "./bank.ts";
 * const bank = new MemoryBank({ count: 2, size: 2, data: Float32Array.of(0, 0, 4, 0) });
 * const { distances } = bank.compare({ count: 2, size: 2, data: Float32Array.of(0, 3, 4, 0) });
 * if (distances.join() !== "3,0") throw new Error(distances.join());
 * ```
 */
export class MemoryBank {
  readonly #norms: Float64Array;

  /** @throws {UserError} without patches, or where a feature is no number */
  constructor(readonly patches: Vectors) {
    const { count, size, data } = patches;
    if (count === 0) throw new UserError("PatchCore: no normal patches to remember");
    this.#norms = norms(patches);
    const wrong = this.#norms.findIndex((norm) => !Number.isFinite(norm));
    if (wrong >= 0) {
      throw new UserError(`PatchCore: a feature of a normal image is ${data.subarray(wrong * size).find(isBad)}`);
    }
  }

  /**
   * Compares the patches of one image with the bank.
   * @throws {UserError} where a feature is no number
   */
  compare(patches: Vectors): Comparison {
    const { count, size, data } = patches, { patches: { count: known, data: bank } } = this, own = norms(patches);
    const distances = new Float32Array(count);
    let guess = 0, worst = -1, worstSquared = -1, worstNearest = 0;
    for (let i = 0; i < count; i++) {
      if (!Number.isFinite(own[i])) {
        throw new UserError(`PatchCore: a feature is ${data.subarray(i * size).find(isBad)}, not a number`);
      }
      // A patch often has the neighbour of the patch before it: with a good guess the others are given up early.
      let best = squaredDistance(data, i * size, bank, guess * size, size, Infinity), nearest = guess;
      for (let j = 0; j < known; j++) {
        if ((own[i] - this.#norms[j]) ** 2 > best) continue;
        const d = squaredDistance(data, i * size, bank, j * size, size, best);
        if (d < best) {
          best = d;
          nearest = j;
        }
      }
      guess = nearest;
      distances[i] = Math.sqrt(best);
      if (best > worstSquared) {
        worst = i;
        worstSquared = best;
        worstNearest = nearest;
      }
    }
    return { distances, score: this.#weighted(patches, worst, worstNearest, Math.sqrt(worstSquared)) };
  }

  /** Eq. 7: a large distance from a patch that itself has few neighbours in the bank counts more. */
  #weighted({ size, data }: Vectors, patch: number, nearest: number, distance: number): number {
    const { count, data: bank } = this.patches;
    const byDistance = Array.from({ length: count }, (_, j) => ({
      j,
      d: squaredDistance(bank, nearest * size, bank, j * size, size, Infinity),
    })).sort((a, b) => a.d - b.d || a.j - b.j).slice(0, NEIGHBOURS);
    if (byDistance.length < 2) return distance;
    // exp(d) / Σ exp(d_m), with the largest exponent taken out.
    const far = byDistance.map(({ j }) =>
      Math.sqrt(squaredDistance(data, patch * size, bank, j * size, size, Infinity))
    );
    const most = Math.max(...far, distance);
    const sum = far.reduce((total, d) => total + Math.exp(d - most), 0);
    return (1 - Math.exp(distance - most) / sum) * distance;
  }

  /**
   * What counts as far: the median distance of a patch of the bank to its nearest other one.
   * @param most patches of the bank that are looked at, spread evenly
   */
  typicalDistance(most = 512): number {
    const { count, size, data } = this.patches, step = Math.max(1, count / most), found: number[] = [];
    for (let at = 0; at < count; at += step) {
      const i = Math.floor(at);
      let best = Infinity;
      for (let j = 0; j < count; j++) {
        if (j === i || (this.#norms[i] - this.#norms[j]) ** 2 > best) continue;
        best = Math.min(best, squaredDistance(data, i * size, data, j * size, size, best));
      }
      found.push(Math.sqrt(best));
    }
    found.sort((a, b) => a - b);
    const middle = found[found.length >> 1];
    return Number.isFinite(middle) && middle > 0 ? middle : 1;
  }
}

const isBad = (value: number) => !Number.isFinite(value);

/** Euclidean norms. */
function norms({ count, size, data }: Vectors): Float64Array {
  return Float64Array.from({ length: count }, (_, i) => {
    let sum = 0;
    for (let k = i * size; k < (i + 1) * size; k++) sum += data[k] * data[k];
    return Math.sqrt(sum);
  });
}
