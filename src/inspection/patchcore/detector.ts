/**
 * PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022): an unsupervised detector that
 * remembers patches of normal images and calls unusual what is far from all of them. It learns from no defect, so that it is
 * what a network trained on generated pairs has to beat.
 */

import { UserError } from "../../errors.ts";
import { greedyCoreset, MemoryBank, projected, type Vectors } from "./bank.ts";
import type { FeatureSample, FeatureSource } from "./features.ts";
import { type FeatureMap, patchGrid, scoreMap } from "./patches.ts";

/** How much is remembered. */
export interface BankOptions {
  /** Share of all normal patches that the coreset keeps, 0 … 1. */
  readonly share: number;
  /** Never more patches than this: the time for an image grows with them. */
  readonly most: number;
  readonly seed: number;
  /** Called with the images that were read so far. */
  readonly onImage?: (done: number) => void;
  /** Called with the patches that were chosen so far, of how many. */
  readonly onPatch?: (chosen: number, wanted: number) => void | Promise<void>;
}

/** What an image is told. */
export interface Detection {
  /** [side, side], 0 … 1: ½ as far from the bank as its patches are from each other. */
  readonly map: Float32Array;
  /** Of the whole image, 0 … 1 on the same scale. */
  readonly score: number;
}

/** A trained detector of one part. */
export class PatchCore {
  readonly #typical: number;

  /**
   * @param source the network of {@linkcode PatchCore.train}
   * @param seen how many normal patches the bank was chosen from
   */
  constructor(readonly source: FeatureSource, readonly bank: MemoryBank, readonly seen: number) {
    this.#typical = bank.typicalDistance();
  }

  /**
   * Remembers normal images.
   * @throws {UserError} without images, or where the network cannot take them
   */
  static async train(
    source: FeatureSource,
    normal: readonly FeatureSample[],
    { share, most, seed, onImage, onPatch }: BankOptions,
  ): Promise<PatchCore> {
    if (normal.length === 0) {
      throw new UserError("PatchCore learns from normal images, and there are none", "put some into train/good");
    }
    const grids: FeatureMap[] = [];
    for await (const { index, layers } of source.extract(normal)) {
      grids.push(patchGrid(layers));
      onImage?.(index + 1);
    }
    const all = joined(grids), wanted = Math.max(1, Math.min(most, Math.round(share * all.count)));
    const chosen = await greedyCoreset(projected(all, seed), wanted, seed, (count) => onPatch?.(count, wanted));
    return new PatchCore(source, new MemoryBank(picked(all, chosen)), all.count);
  }

  /**
   * Scores images of the same part.
   * @param side of the maps
   */
  async *detect(samples: readonly FeatureSample[], side: number): AsyncGenerator<Detection & { index: number }> {
    for await (const { index, layers } of this.source.extract(samples)) {
      const grid = patchGrid(layers), { height, width, channels, data } = grid;
      const { distances, score } = this.bank.compare({ count: height * width, size: channels, data });
      const map = scoreMap(distances, grid, side).map((d) => this.#unusual(d));
      yield { index, map, score: this.#unusual(score) };
    }
  }

  /** Distances have no upper end; curves and pictures need one. The order stays. */
  #unusual(distance: number): number {
    return distance / (distance + this.#typical);
  }
}

/** Patches of all images behind one another. */
function joined(grids: readonly FeatureMap[]): Vectors {
  const size = grids[0].channels, counts = grids.map(({ height, width }) => height * width);
  const data = new Float32Array(size * counts.reduce((a, b) => a + b));
  let at = 0;
  for (const grid of grids) {
    data.set(grid.data, at);
    at += grid.data.length;
  }
  return { count: data.length / size, size, data };
}

/** Some of the vectors. */
function picked({ size, data }: Vectors, chosen: readonly number[]): Vectors {
  const out = new Float32Array(chosen.length * size);
  chosen.forEach((from, i) => out.set(data.subarray(from * size, (from + 1) * size), i * size));
  return { count: chosen.length, size, data: out };
}
