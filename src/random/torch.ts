/**
 * The numbers of `torch.randn` on the CPU, for parity with reference runs; nothing else uses them (see `philox.ts`).
 * Mersenne Twister MT19937 (Matsumoto & Nishimura 1998) and PyTorch's two Box–Muller paths: blocks of 16 in float32 for
 * 16 values or more, pairs in float64 below.
 */

const { fround } = Math;

/** Pseudo-random 32-bit words of MT19937, seeded as `init_genrand`. */
class MersenneTwister {
  readonly #state = new Uint32Array(624);
  #next = 624;

  constructor(seed: number) {
    this.#state[0] = seed >>> 0;
    for (let i = 1; i < 624; i++) {
      const last = this.#state[i - 1];
      this.#state[i] = Math.imul(last ^ (last >>> 30), 1812433253) + i;
    }
  }

  word(): number {
    const state = this.#state;
    if (this.#next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.#next = 0;
    }
    let y = state[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
}

/**
 * A generator like `torch.Generator().manual_seed(seed)`.
 * @example
 * ```ts
 * import { TorchRandom } from "./torch.ts";
 * const first = new TorchRandom(0).randn(1)[0];
 * if (Math.abs(first - 1.5409960746765137) > 1e-6) throw new Error("not torch.manual_seed(0); torch.randn(1)");
 * ```
 */
export class TorchRandom {
  readonly #twister: MersenneTwister;
  #spare: number | undefined;

  /** @param seed 0 … 2³² − 1 */
  constructor(seed: number) {
    this.#twister = new MersenneTwister(seed);
  }

  /** `torch.rand(count)`: uniform in [0, 1) with 24 bits. */
  rand(count: number): Float32Array<ArrayBuffer> {
    return Float32Array.from({ length: count }, () => this.#uniform24());
  }

  /**
   * `torch.randn(count)`; equal to PyTorch up to the last bits of its vectorised logarithm and sine.
   */
  randn(count: number): Float32Array<ArrayBuffer> {
    if (count < 16) return Float32Array.from({ length: count }, () => this.#normal());
    const out = this.rand(count);
    for (let start = 0; start + 16 <= count; start += 16) boxMuller16(out.subarray(start, start + 16));
    if (count % 16 !== 0) { // the last 16 are drawn anew
      const last = out.subarray(count - 16);
      last.set(this.rand(16));
      boxMuller16(last);
    }
    return out;
  }

  #uniform24(): number {
    return (this.#twister.word() & 0xffffff) / 2 ** 24;
  }

  /** Uniform in [0, 1) with 53 bits, of two words. */
  #uniform53(): number {
    const high = this.#twister.word() & 0x1fffff, low = this.#twister.word();
    return (high * 2 ** 32 + low) / 2 ** 53;
  }

  #normal(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * this.#uniform53(), radius = Math.sqrt(-2 * Math.log1p(-this.#uniform53()));
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

/** Sixteen uniform values → sixteen normal ones: element i with element i + 8. */
function boxMuller16(values: Float32Array): void {
  for (let i = 0; i < 8; i++) {
    const radius = fround(Math.sqrt(-2 * Math.log(fround(1 - values[i])))), angle = fround(2 * Math.PI * values[i + 8]);
    values[i] = radius * Math.cos(angle);
    values[i + 8] = radius * Math.sin(angle);
  }
}
