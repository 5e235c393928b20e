/**
 * Adaptive attention re-weighting: where inside the mask the latent still resembles the normal image, the learned tokens
 * get more attention (paper, Eq. 6–7). Two forms: the authors' code, and the paper's formula made numerically safe.
 * Weight maps hold 1 outside the mask. Latents are channels last.
 */

/**
 * How far the mask is widened at timestep t: ⌊reach·(t + 100)/1000⌋ latent pixels to every side. The paper's code uses a
 * reach of 8 on 32×32 latents, and 16 where it samples exactly 50 steps.
 */
export function dilationRadius(t: number, steps: number, reach = steps === 50 ? 16 : 8): number {
  return Math.floor(reach * (t + 100) / 1000);
}

/**
 * Square max filter.
 * @param mask [count, height, width]
 * @param radius half width in pixels; 0 leaves the mask as it is
 */
export function dilate(
  mask: Float32Array,
  [count, height, width]: readonly [number, number, number],
  radius: number,
): Float32Array {
  const across = new Float32Array(mask.length), out = new Float32Array(mask.length);
  for (let row = 0; row < count * height; row++) {
    for (let x = 0; x < width; x++) {
      const low = Math.max(0, x - radius), high = Math.min(width, x + radius + 1);
      for (let k = low; k < high; k++) {
        across[row * width + x] = Math.max(across[row * width + x], mask[row * width + k]);
      }
    }
  }
  for (let n = 0; n < count; n++) {
    for (let y = 0; y < height; y++) {
      const low = Math.max(0, y - radius), high = Math.min(height, y + radius + 1);
      for (let k = low; k < high; k++) {
        for (let x = 0; x < width; x++) {
          const at = (n * height + y) * width + x;
          out[at] = Math.max(out[at], across[(n * height + k) * width + x]);
        }
      }
    }
  }
  return out;
}

/** Mean over channels of (M·(x − y))², [positions]. */
export function maskedDistance(x: Float32Array, y: Float32Array, mask: Float32Array): Float64Array {
  const channels = x.length / mask.length;
  if (!Number.isInteger(channels) || y.length !== x.length) throw new RangeError("x, y and mask do not fit");
  return Float64Array.from(mask, (m, position) => {
    let sum = 0;
    for (let i = position * channels; i < (position + 1) * channels; i++) sum += (m * (x[i] - y[i])) ** 2;
    return sum / channels;
  });
}

/**
 * The authors' map: inside the mask w = |M|₁·(1/d)/Σ(1/d), clamped to [1, 1.5]; 1 elsewhere.
 * @param distance d ≥ 0 of one sample's positions; positions with d = 0 are left out
 * @param mask the (dilated) mask of the same positions
 * @example
 * ```ts
 * import { officialWeights } from "./reweighting.ts";
 * const map = officialWeights([1, 2, 4], [1, 1, 1]);
 * if (map.join() !== "1.5,1,1") throw new Error("not the known answer");
 * ```
 */
export function officialWeights(
  distance: ArrayLike<number>,
  mask: ArrayLike<number>,
  [low, high]: readonly [number, number] = [1, 1.5],
): Float32Array {
  const inverse = Float64Array.from(distance, (d, i) => d === 0 ? 0 : mask[i] / d);
  const total = inverse.reduce((sum, v) => sum + v, 0), area = Array.from(mask).reduce((sum, m) => sum + m, 0);
  return Float32Array.from(inverse, (v) => v === 0 ? 1 : Math.min(high, Math.max(low, area * v / total)));
}

/**
 * The authors' maps of a batch: dilation, distance between the noisy latent and the clean normal one, weights.
 * @param x the current latent before blending, [count, height, width, channels]
 * @param x0 the normal image's latent, same shape
 * @param mask latent mask, [count, height, width]
 * @param radius dilation, see `dilationRadius`
 * @returns the dilated mask, with which this step also blends, and the map, both [count, height, width]
 */
export function officialReweighting(
  x: Float32Array,
  x0: Float32Array,
  mask: Float32Array,
  shape: readonly [number, number, number],
  radius: number,
): { mask: Float32Array; map: Float32Array } {
  const [count, height, width] = shape, size = height * width;
  const dilated = dilate(mask, shape, radius), distance = maskedDistance(x, x0, dilated);
  const map = new Float32Array(dilated.length);
  for (let n = 0; n < count; n++) {
    const own = [n * size, (n + 1) * size] as const;
    map.set(officialWeights(distance.subarray(...own), dilated.subarray(...own)), own[0]);
  }
  return { mask: dilated, map };
}

/**
 * The paper's map (Eq. 7): w = ‖m‖₁·softmax(f(δ)/τ) over the mask, f(x) = 1/x; 1 outside. Taken literally (τ = 1) the
 * softmax of 1/δ puts nearly all weight on the position that changed least; a larger τ spreads it. The exponent is
 * shifted by its largest value, so that nothing overflows; a position with δ = 0 counts as the smallest δ above 0.
 * @param delta δ of one sample's positions: squared difference between the normal image and the decoded prediction
 * @param mask latent mask of the same positions
 * @param temperature τ > 0
 */
export function paperWeights(delta: ArrayLike<number>, mask: ArrayLike<number>, temperature = 1): Float32Array {
  const inside = Array.from(mask, (m, i) => m >= 0.5 ? i : -1).filter((i) => i >= 0);
  const map = new Float32Array(mask.length).fill(1);
  const positive = inside.map((i) => delta[i]).filter((d) => d > 0);
  if (positive.length === 0) return map; // nothing has changed yet: no position is preferred
  const least = positive.reduce((a, b) => Math.min(a, b));
  const exponents = inside.map((i) => 1 / Math.max(delta[i], least) / temperature);
  const shift = 1 / least / temperature;
  const powers = exponents.map((e) => Math.exp(e - shift)), total = powers.reduce((sum, p) => sum + p, 0);
  inside.forEach((i, k) => map[i] = inside.length * powers[k] / total);
  return map;
}
