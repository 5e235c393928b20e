/**
 * The figures of `pairs.ts` for all pairs of one kind of defect, fed pair by pair: no picture is kept, only a descriptor of
 * 3 KB for each pair. Needs no network.
 */

import type { Image, Mask } from "../../data/image.ts";
import {
  changeFigures,
  defectDescriptor,
  type LabelledImage,
  memorisingOf,
  nearDuplicatesOf,
  type Spread,
  spread,
} from "./pairs.ts";

/** What is told of one kind. Changes and distances are parts of the full scale, 0 … 1. */
export interface KindFigures {
  readonly pairs: number;
  /** Mean change of a channel inside the mask, against the source. */
  readonly changeInside: Spread;
  /** Share of the mask whose pixels visibly differ from the source. */
  readonly changedShare: Spread;
  /** Mean change outside the mask and its feather. */
  readonly changeOutside: Spread;
  /** Largest change of a channel there; 0 where the background was kept to the byte. */
  readonly largestOutside: number;
  /** Share of the mask that lies on the part. */
  readonly onPart: Spread;
  /** Distance to the nearest training defect, over all turns and reflections; undefined where none is at hand. */
  readonly nearestTraining?: {
    readonly median: number;
    /** The same between training defects: what to compare with. */
    readonly trainingMedian?: number;
    /** Share of pairs that repeat a training defect. */
    readonly copied: number;
  };
  /** Pairs that look like an earlier one. */
  readonly nearDuplicates: { readonly count: number; readonly share: number };
}

/**
 * Takes the pairs of one kind one by one.
 * @example
 * ```ts
 * import { PairSummary } from "./pair_summary.ts";
 * const image = (value: number) => ({
 *   width: 16, height: 16, channels: 3 as const, data: new Uint8ClampedArray(768).fill(100).fill(value, 0, 384),
 * });
 * const mask = { width: 16, height: 16, channels: 1 as const, data: new Uint8Array(256).fill(1, 0, 128) };
 * const summary = new PairSummary([]);
 * summary.add(image(100), { image: image(151), mask });
 * const { changeInside, largestOutside } = summary.figures();
 * if (Math.abs(changeInside.mean - 0.2) > 1e-9 || largestOutside !== 0) throw new Error(`${changeInside.mean}`);
 * ```
 */
export class PairSummary {
  readonly #known: readonly Float32Array[];
  readonly #descriptors: Float32Array[] = [];
  readonly #values = { changeInside: [], changedShare: [], changeOutside: [], onPart: [] } as Record<
    "changeInside" | "changedShare" | "changeOutside" | "onPart",
    number[]
  >;
  #largest = 0;

  /** @param training pairs that were learned from; may be none */
  constructor(training: readonly LabelledImage[]) {
    this.#known = training.map(defectDescriptor);
  }

  /**
   * Takes a pair.
   * @param source normal image it was drawn into
   * @param options as of {@linkcode changeFigures}
   * @throws {UserError} if sizes differ or the mask is empty
   */
  add(source: Image, pair: LabelledImage, options: { feather?: number; part?: Mask } = {}): void {
    const figures = changeFigures(source, pair, options);
    for (const [name, list] of Object.entries(this.#values)) list.push(figures[name as keyof typeof figures]);
    this.#largest = Math.max(this.#largest, figures.largestOutside);
    this.#descriptors.push(defectDescriptor(pair));
  }

  /** @throws {UserError} without a pair */
  figures(): KindFigures {
    const { changeInside, changedShare, changeOutside, onPart } = this.#values;
    const { count, share } = nearDuplicatesOf(this.#descriptors);
    const result = {
      pairs: changeInside.length,
      changeInside: spread(changeInside),
      changedShare: spread(changedShare),
      changeOutside: spread(changeOutside),
      largestOutside: this.#largest,
      onPart: spread(onPart),
      nearDuplicates: { count, share },
    };
    if (!this.#known.length) return result;
    const { median, trainingMedian, copied } = memorisingOf(this.#descriptors, this.#known);
    return { ...result, nearestTraining: { median, trainingMedian, copied } };
  }
}
