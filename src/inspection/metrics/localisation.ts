/**
 * Pixel scores of a whole test set, fed map by map and not kept as maps: what AUROC, AP, F1-max and AU-PRO over all pixels
 * need, exact for every distinct float32 score.
 */

import { labelRegions } from "../../data/regions.ts";
import { UserError } from "../../errors.ts";
import type { Ranking } from "./ranking.ts";
import type { RegionRanking } from "./regions.ts";
import { keyOfBits, ScoreMultiset, scoreOfKey } from "./score_multiset.ts";

/** A score map with what is true. */
export interface ScoredMap {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** How defective each pixel looks, finite, [height, width]. */
  readonly scores: Float32Array;
  /**
   * 0 … 1, [height, width]. Only pixels of exactly 1 are positives and all above 0 belong to regions, which is how the
   * official evaluation treats a mask that was resized and not made binary again. In a binary mask both are the same.
   */
  readonly mask: ArrayLike<number>;
  /** What to call it in an error message, e.g. its file. */
  readonly name?: string;
}

/** Regions that fit beside a key of 32 bits and a mark in the 53 bits of a number. */
const MOST_REGIONS = 2 ** 20;

/**
 * The scores of all pixels, by what they truly are. Memory: 8 MiB, one to two bytes for each distinct score of good pixels
 * (see {@linkcode ScoreMultiset}) and eight bytes for each pixel of a defect; maps are not kept.
 * @example
 * ```ts
 * import { LocalisationScores } from "./localisation.ts";
 * import { auroc } from "./ranking.ts";
 * import { auPro } from "./regions.ts";
 * const all = new LocalisationScores();
 * all.add({ width: 2, height: 2, scores: Float32Array.of(0.9, 0.1, 0.2, 0.3), mask: [1, 0, 0, 0] });
 * if (auroc(all.pixels()) !== 1 || auPro(all.regions()) !== 1) throw new Error("a perfect map");
 * ```
 */
export class LocalisationScores {
  readonly #good = new ScoreMultiset();
  /** Pixels of regions: (key · 2²⁰ + region) · 2 + 1 where the pixel is a positive. */
  #marked: Float64Array[] = [];
  #isSorted = false;
  #positives = 0;
  #inRegions = 0;
  readonly #sizes: number[] = [];

  /** Pixels that were added. */
  get pixelCount(): number {
    return this.#good.size + this.#inRegions;
  }

  /** Bytes that the scores take now, without the 8 MiB for those that wait to be sorted. */
  get bytes(): number {
    return this.#good.bytes + this.#marked.reduce((sum, part) => sum + part.byteLength, 0);
  }

  /**
   * Adds a map.
   * @throws {UserError} if sizes differ, a score is not finite, or the mask has values outside 0 … 1
   */
  add({ width, height, scores, mask, name = "a score map" }: ScoredMap): void {
    const size = width * height;
    if (scores.length !== size || mask.length !== size) {
      throw new UserError(
        `${name}: ${width}×${height} pixels need ${size} scores and mask values, not ${scores.length} and ${mask.length}`,
      );
    }
    let marked = 0;
    for (let i = 0; i < size; i++) {
      if (!Number.isFinite(scores[i])) {
        throw new UserError(
          `${name}: the score of pixel (${i % width}, ${Math.floor(i / width)}) is ${scores[i]}`,
          "the detector is broken, train it again",
        );
      }
      if (!(mask[i] >= 0 && mask[i] <= 1)) {
        throw new UserError(`${name}: the mask has the value ${mask[i]}`, "give masks in 0 … 1");
      }
      if (mask[i] > 0) marked++;
    }
    if (marked === 0) return this.#good.add(scores);
    const { labels, sizes } = labelRegions(mask, width, height), first = this.#sizes.length;
    if (first + sizes.length > MOST_REGIONS) {
      throw new UserError(`${name}: more than a million regions`, "the masks look like noise: check them");
    }
    for (const regionSize of sizes) this.#sizes.push(regionSize);
    const good = new Float32Array(size - marked), part = new Float64Array(marked);
    const bits = new Uint32Array(scores.buffer, scores.byteOffset, size);
    for (let i = 0, g = 0, m = 0; i < size; i++) {
      if (labels[i] === 0) good[g++] = scores[i];
      else {
        const positive = mask[i] === 1 ? 1 : 0;
        this.#positives += positive;
        part[m++] = (keyOfBits(bits[i]) * MOST_REGIONS + first + labels[i] - 1) * 2 + positive;
      }
    }
    this.#good.add(good);
    this.#marked.push(part);
    this.#isSorted = false;
    this.#inRegions += marked;
  }

  /** Ranks pixels: positives are those whose mask is 1, negatives all others. */
  pixels(): Ranking {
    const positives = this.#positives;
    return {
      what: "pixels",
      positives,
      negatives: this.pixelCount - positives,
      descend: (visit) =>
        this.#descend((score, good, inRegions, found) => visit(score, found, good + inRegions - found)),
    };
  }

  /** Ranks regions: pixels above 0 of a mask, against all others. */
  regions(): RegionRanking {
    return {
      good: this.#good.size,
      regions: this.#sizes.length,
      descend: (visit) => this.#descend((score, good, _, __, overlap) => visit(score, good, overlap)),
    };
  }

  /** Distinct scores, highest first, with counts of good pixels, pixels in regions, positives, and the gain of overlap. */
  #descend(visit: (score: number, good: number, inRegions: number, found: number, overlap: number) => void): void {
    const marked = this.#sorted(), shares = this.#sizes.map((size) => 1 / size / this.#sizes.length);
    let at = 0, inRegions = 0, found = 0, overlap = 0;
    const keyAt = (i: number) => Math.floor(marked[i] / (2 * MOST_REGIONS));
    /** Takes all marked pixels of the key at hand. */
    const take = () => {
      inRegions = found = overlap = 0;
      for (const key = keyAt(at); at < marked.length && keyAt(at) === key; at++) {
        inRegions++;
        found += marked[at] % 2;
        overlap += shares[Math.floor(marked[at] / 2) % MOST_REGIONS];
      }
    };
    let next = marked.length ? scoreOfKey(keyAt(0)) : -Infinity;
    const advance = () => next = at < marked.length ? scoreOfKey(keyAt(at)) : -Infinity;
    this.#good.descend((score, good) => {
      while (next > score) {
        const higher = next;
        take();
        advance();
        visit(higher, 0, inRegions, found, overlap);
      }
      if (next === score) {
        take();
        advance();
        visit(score, good, inRegions, found, overlap);
      } else visit(score, good, 0, 0, 0);
    });
    while (at < marked.length) {
      const score = next;
      take();
      advance();
      visit(score, 0, inRegions, found, overlap);
    }
  }

  /** All pixels of regions in one sorted array, highest score first. */
  #sorted(): Float64Array {
    if (this.#marked.length === 0) return new Float64Array(0);
    if (this.#marked.length > 1) {
      const all = new Float64Array(this.#inRegions);
      let at = 0;
      for (const part of this.#marked) {
        all.set(part, at);
        at += part.length;
      }
      this.#marked = [all];
    }
    if (!this.#isSorted) this.#marked[0].sort();
    this.#isSorted = true;
    return this.#marked[0];
  }
}
