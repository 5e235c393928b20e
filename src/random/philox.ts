/**
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
 *
 * A stream is named by (seed, purpose, index), so that what it yields never depends on what else was drawn before it:
 * image 17 of a run is the same in any batch, in any order, after any interruption.
 */

const M0 = 0xd2511f53, M1 = 0xcd9e8d57, W0 = 0x9e3779b9, W1 = 0xbb67ae85;

/** High word of a 32×32-bit product, from halves: no step leaves 32 bits. */
function high(a: number, b: number): number {
  const al = a & 0xffff, ah = a >>> 16, bl = b & 0xffff, bh = b >>> 16;
  const low = (Math.imul(ah, bl) >>> 0) + (Math.imul(al, bl) >>> 16);
  const mid = (Math.imul(al, bh) >>> 0) + (low & 0xffff);
  return Math.imul(ah, bh) + (low >>> 16) + (mid >>> 16);
}

/** Ten rounds on the counter (c0, c1, c2, c3), into `out`. Half of the host's time in training and sampling went here. */
function block(c0: number, c1: number, c2: number, c3: number, k0: number, k1: number, out: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    const h0 = high(M0, c0), l0 = Math.imul(M0, c0), h1 = high(M1, c2), l1 = Math.imul(M1, c2);
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 = (k0 + W0) | 0;
    k1 = (k1 + W1) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * One Philox4x32-10 block.
 * @param counter four 32-bit words
 * @param key two 32-bit words
 * @returns four 32-bit words
 * @example
 * ```ts
 * import { philox } from "./philox.ts";
 * const [x] = philox([0, 0, 0, 0], [0, 0]);
 * if (x !== 0x6627e8d5) throw new Error("not the Random123 known answer");
 * ```
 */
export function philox(counter: ArrayLike<number>, key: ArrayLike<number>): Uint32Array {
  const out = new Uint32Array(4);
  block(counter[0], counter[1], counter[2], counter[3], key[0], key[1], out);
  return out;
}

/** 32-bit FNV-1a of the UTF-8 bytes of a string. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/**
 * A stream of random numbers named by (seed, purpose, index).
 * @example
 * ```ts
 * import { Random } from "./philox.ts";
 * const a = new Random(7, "noise", 3).normals(5);
 * const b = new Random(7, "noise", 3).normals(5);
 * if (a.some((v, i) => v !== b[i])) throw new Error("streams of one name differ");
 * ```
 */
export class Random {
  readonly #key: [number, number];
  readonly #index: [number, number];
  readonly #words = new Uint32Array(4);
  #block = 0;
  #next = 4;
  #spare: number | undefined;

  /**
   * A stream of its own for each seed, purpose and index.
   * @param seed any integer of at most 2⁵³; its low 32 bits and the rest both matter
   * @param purpose what the numbers are for: `"noise"`, `"augment"`, …
   * @param index which image, step or sample, 0 … 2⁵³
   */
  constructor(seed: number, purpose: string, index = 0) {
    const high = Math.floor(seed / 2 ** 32) >>> 0;
    this.#key = [seed >>> 0, (fnv1a(purpose) ^ Math.imul(high, 0x9e3779b9)) >>> 0];
    this.#index = [index >>> 0, Math.floor(index / 2 ** 32) >>> 0];
  }

  /** A uniform 32-bit word. */
  word(): number {
    if (this.#next === 4) {
      const at = this.#block++, [i0, i1] = this.#index, [k0, k1] = this.#key;
      block(at >>> 0, Math.floor(at / 2 ** 32), i0, i1, k0, k1, this.#words);
      this.#next = 0;
    }
    return this.#words[this.#next++];
  }

  /** Uniform in [low, high), 32 bits of resolution. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.word() / 2 ** 32);
  }

  /** Uniform integer in [low, high). */
  integer(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low));
  }

  /** True with probability p. */
  chance(p: number): boolean {
    return this.uniform() < p;
  }

  /** One of the items, each with equal probability. */
  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length)];
  }

  /** A standard normal number (Box–Muller, 1958). */
  normal(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log((this.word() + 0.5) / 2 ** 32));
    const angle = 2 * Math.PI * (this.word() / 2 ** 32);
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** `count` standard normal numbers. */
  normals(count: number): Float32Array {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = this.normal();
    return values;
  }

  /** The items in a random order (Fisher–Yates); the argument is left as it is. */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.integer(0, i + 1);
      [result[i], result[j]] = [result[j], result[i]];
    }
    return result;
  }
}
