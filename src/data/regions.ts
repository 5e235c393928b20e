/** Connected regions of a mask. */

/** Regions of a mask. */
export interface Regions {
  /** 0 for background, else 1 + the region's index, [height, width]. */
  readonly labels: Uint32Array;
  /** Pixels of each region. */
  readonly sizes: readonly number[];
}

/**
 * 8-connected regions of what is above 0, numbered by their first pixel in reading order (union-find, two passes:
 * Rosenfeld and Pfaltz 1966).
 * @param mask [height, width]
 * @example
 * ```ts
 * import { labelRegions } from "./regions.ts";
 * const { sizes } = labelRegions([1, 0, 0, 1, 0, 1, 0, 1], 4, 2); // pixels that touch at a corner are one region
 * if (String(sizes) !== "2,2") throw new Error(String(sizes));
 * ```
 */
export function labelRegions(mask: ArrayLike<number>, width: number, height: number): Regions {
  if (mask.length !== width * height) throw new RangeError(`a mask of ${width}×${height} has ${mask.length} values`);
  const labels = new Uint32Array(mask.length), parents = [0];
  const root = (label: number) => {
    while (parents[label] !== label) label = parents[label] = parents[parents[label]];
    return label;
  };
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!(mask[i] > 0)) continue;
      let label = x > 0 ? labels[i - 1] : 0;
      if (y > 0) {
        for (let from = Math.max(0, x - 1); from <= Math.min(width - 1, x + 1); from++) {
          const other = labels[i - x - width + from];
          if (!other || other === label) continue;
          const a = root(other), b = label ? root(label) : a;
          parents[Math.max(a, b)] = label = Math.min(a, b);
        }
      }
      if (!label) parents.push(label = parents.length);
      labels[i] = label;
    }
  }
  const numbers = new Uint32Array(parents.length), sizes: number[] = [];
  for (let i = 0; i < labels.length; i++) {
    if (!labels[i]) continue;
    const top = root(labels[i]);
    if (!numbers[top]) numbers[top] = sizes.push(0);
    sizes[numbers[top] - 1]++;
    labels[i] = numbers[top];
  }
  return { labels, sizes };
}
