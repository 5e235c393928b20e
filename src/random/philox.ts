/**
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
 *
 * A stream is named by (seed, purpose, index), so that what it yields never depends on what else was drawn before it:
 * image 17 of a run is the same in any batch, in any order, after any interruption.
 */

const M0 = 0xd2511f53, M1 = 0xcd9e8d57, W0 = 0x9e3779b9, W1 = 0xbb67ae85;

/** High and low words of a 32×32-bit product, into `out`. */
function multiply(a: number, b: number, out: Uint32Array): void {
  const al = a & 0xffff, ah = a >>> 16, bl = b & 0xffff, bh = b >>> 16;
  const mid = ah * bl + Math.floor((al * bl) / 65536);
  const mid2 = al * bh + (mid % 65536);
  out[0] = ah * bh + Math.floor(mid / 65536) + Math.floor(mid2 / 65536);
  out[1] = Math.imul(a, b);
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
  const c = Uint32Array.from(counter), p = new Uint32Array(2), q = new Uint32Array(2);
  let k0 = key[0] >>> 0, k1 = key[1] >>> 0;
  for (let round = 0; round < 10; round++) {
    multiply(M0, c[0], p);
    multiply(M1, c[2], q);
    const c1 = c[1], c3 = c[3];
    c[0] = q[0] ^ c1 ^ k0;
    c[1] = q[1];
    c[2] = p[0] ^ c3 ^ k1;
    c[3] = p[1];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return c;
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
  #block = 0;
  #words: Uint32Array = new Uint32Array(0);
  #next = 0;
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
    if (this.#next === this.#words.length) {
      const block = this.#block++;
      this.#words = philox([block >>> 0, Math.floor(block / 2 ** 32), ...this.#index], this.#key);
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
    return Float32Array.from({ length: count }, () => this.normal());
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
