/** Axis orders of images: ours has channels last, other runtimes channels first. */

/** [C, H, W] of [H, W, C], one image. */
export function channelsFirst(data: Float32Array, channels: number): Float32Array {
  const pixels = data.length / channels, out = new Float32Array(data.length);
  for (let p = 0; p < pixels; p++) {
    for (let c = 0; c < channels; c++) out[c * pixels + p] = data[p * channels + c];
  }
  return out;
}

/** ‖a − b‖ / ‖b‖; infinite where lengths differ or a number is not finite. */
export function distance(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Infinity;
  let difference = 0, size = 0;
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  const relative = Math.sqrt(difference / size);
  return Number.isFinite(relative) ? relative : Infinity;
}

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
