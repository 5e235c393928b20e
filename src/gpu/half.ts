/** Half-precision storage: f16 pairs packed in u32, low half first, as WGSL's `unpack2x16float` reads them. */

/** Rounds to f16 (nearest, ties to even) and packs in pairs; an odd count is padded with a zero. */
export function packHalf(values: Float32Array): Uint32Array {
  const half = new Float16Array(Math.ceil(values.length / 2) * 2);
  half.set(values);
  return new Uint32Array(half.buffer);
}

/** The first `count` values of packed pairs. */
export function unpackHalf(packed: Uint32Array, count: number): Float32Array {
  return new Float32Array(new Float16Array(packed.buffer, packed.byteOffset, count));
}
