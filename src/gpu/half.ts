/**
 * Conversion between float32 and IEEE 754 binary16, rounding to nearest even, and pairs of halves packed in 32-bit words
 * as the kernels read them (WGSL `unpack2x16float`: the first value in the low bits).
 */

/** float32 → binary16 bit patterns. Magnitudes above 65519 become infinities. */
export function toHalf(values: ArrayLike<number>): Uint16Array {
  return new Uint16Array(new Float16Array(values).buffer);
}

/** binary16 bit patterns → float32 (exact). */
export function fromHalf(bits: Uint16Array): Float32Array {
  return new Float32Array(new Float16Array(bits.buffer as ArrayBuffer, bits.byteOffset, bits.length));
}

/**
 * float32 → pairs of binary16 in 32-bit words: element 2i in the low half of word i, 2i + 1 in the high half; an odd
 * last pair is filled up with zero.
 * @example
 * ```ts
 * import { packHalf } from "./half.ts";
 * if (packHalf([1, -2])[0] !== 0xc0003c00) throw new Error("1 belongs in the low bits");
 * ```
 */
export function packHalf(values: ArrayLike<number>): Uint32Array {
  const halves = new Float16Array(values.length + (values.length & 1));
  halves.set(values);
  return new Uint32Array(halves.buffer);
}

/** The first `count` values of packed pairs, as float32. */
export function unpackHalf(words: Uint32Array, count = words.length * 2): Float32Array {
  return new Float32Array(new Float16Array(words.buffer as ArrayBuffer, words.byteOffset, count));
}
