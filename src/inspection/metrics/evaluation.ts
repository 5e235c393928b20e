/**
 * All detection and localisation figures of one test set at once, each under the name of its convention: what
 * `inspect test` and the tables print. Protocol: the official AnomalyDiffusion evaluation (Hu et al., AAAI 2024).
 */

import { UserError } from "../../errors.ts";
import { imageScore } from "./image_score.ts";
import { LocalisationScores, type ScoredMap } from "./localisation.ts";
import {
  auroc,
  averagePrecision,
  f1Max,
  f1Max21,
  type Points,
  precisionRecallCurve,
  rank,
  type Ranking,
  rocCurve,
} from "./ranking.ts";
import { auPro, auProByRank, proCurve } from "./regions.ts";

/** Names of the figures. */
export type FigureName = keyof typeof detectionFigures;

/** What each figure is: its title in a table, how exactly it is computed, and who computes it so. */
export const detectionFigures = {
  pixelAuroc: {
    title: "pixel AUROC",
    convention: "area under the ROC curve over all pixels of all test images, ties counting half",
    source: "sklearn.metrics.roc_auc_score",
  },
  pixelAp: {
    title: "pixel AP",
    convention: "step sum of the precision-recall curve, equal scores one point",
    source: "sklearn.metrics.average_precision_score",
  },
  pixelF1Max: {
    title: "pixel F1-max",
    convention: "largest F1 over every threshold of the precision-recall curve",
    source: "sklearn.metrics.precision_recall_curve",
  },
  pixelF1Max21: {
    title: "pixel F1-max (21)",
    convention: "largest F1 over the thresholds 0, 0.05 … 1, scores above them",
    source: "official AnomalyDiffusion evaluation",
  },
  auPro: {
    title: "AU-PRO 0.3",
    convention: "mean overlap of 8-connected regions up to FPR 0.3, every distinct score a threshold, divided by 0.3",
    source: "Bergmann et al. 2021",
  },
  auProByRank: {
    title: "AU-PRO 0.3 (100)",
    convention: "the same with 100 thresholds at equal ranks of good pixels' scores, FPR taken from the rank",
    source: "MVTec 3D-AD utility, as the official AnomalyDiffusion evaluation calls it",
  },
  imageAuroc: {
    title: "image AUROC",
    convention: "area under the ROC curve over images; the score is the maximum of 21×21 average pooling, zero padding",
    source: "sklearn.metrics.roc_auc_score; official AnomalyDiffusion evaluation",
  },
  imageAp: {
    title: "image AP",
    convention: "step sum of the precision-recall curve over images",
    source: "sklearn.metrics.average_precision_score",
  },
  imageF1Max: {
    title: "image F1-max",
    convention: "largest F1 over every threshold of the precision-recall curve over images",
    source: "sklearn.metrics.precision_recall_curve",
  },
} as const;

/** Values of the figures, and why one is missing. */
export interface DetectionResult {
  /** 0 … 1; a figure that does not exist on this test set is left out. */
  readonly values: Partial<Record<FigureName, number>>;
  /** One line for each figure that is left out. */
  readonly missing: Partial<Record<FigureName, string>>;
}

/** One image's score, as it was added. */
export interface ImageResult {
  /** For messages. */
  readonly name: string;
  /** The higher, the more likely a defect. */
  readonly score: number;
  /** The truth. */
  readonly defective: boolean;
}

/**
 * Takes score maps one by one and tells all figures in the end; see {@linkcode LocalisationScores} for its memory.
 * @example
 * ```ts
 * import { Evaluation } from "./evaluation.ts";
 * const evaluation = new Evaluation();
 * evaluation.add({ width: 2, height: 1, scores: Float32Array.of(0.9, 0.1), mask: [1, 0], name: "crack/000.png" });
 * evaluation.add({ width: 2, height: 1, scores: Float32Array.of(0.2, 0.1), mask: [0, 0], name: "good/000.png" });
 * const { values } = evaluation.figures();
 * if (values.pixelAp !== 1 || values.imageAuroc !== 1) throw new Error(JSON.stringify(values));
 * ```
 */
export class Evaluation {
  readonly #pixels = new LocalisationScores();
  readonly #images: ImageResult[] = [];

  /** Scores of the images, in the order of their maps: for best and worst cases. */
  get images(): readonly ImageResult[] {
    return this.#images;
  }

  /**
   * Adds the map of one test image.
   * @param defective whether the image counts as defective; where its mask has a pixel above 0, unless given
   * @throws {UserError} naming the map, as {@linkcode LocalisationScores.add}
   */
  add(map: ScoredMap, defective?: boolean): void {
    this.#pixels.add(map);
    const { name = `map ${this.#images.length}` } = map;
    const score = imageScore(map.scores, map.width, map.height);
    this.#images.push({ name, score, defective: defective ?? Array.prototype.some.call(map.mask, (v) => v > 0) });
  }

  /** Ranking of the images, for curves and other figures. */
  imageRanking(): Ranking {
    return rank(this.#images.map(({ score }) => score), this.#images.map(({ defective }) => defective));
  }

  /** All figures. Those without a meaning on this set, e.g. image AUROC without normal images, are missing with a reason. */
  figures(): DetectionResult {
    const pixels = this.#pixels.pixels(), regions = this.#pixels.regions(), images = this.imageRanking();
    const compute: Record<FigureName, () => number> = {
      pixelAuroc: () => auroc(pixels),
      pixelAp: () => averagePrecision(pixels),
      pixelF1Max: () => f1Max(pixels).f1,
      pixelF1Max21: () => f1Max21(pixels),
      auPro: () => auPro(regions),
      auProByRank: () => auProByRank(regions),
      imageAuroc: () => auroc(images),
      imageAp: () => averagePrecision(images),
      imageF1Max: () => f1Max(images).f1,
    };
    const values: Partial<Record<FigureName, number>> = {}, missing: Partial<Record<FigureName, string>> = {};
    for (const [name, figure] of Object.entries(compute) as [FigureName, () => number][]) {
      try {
        values[name] = figure();
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        missing[name] = error.message;
      }
    }
    return { values, missing };
  }

  /**
   * Curves for charts, thinned to some hundred points; each is left out where it does not exist.
   * @returns ROC [FPR, TPR] and precision-recall [recall, precision] of pixels, PRO [FPR, overlap], ROC of images
   */
  curves(resolution = 200): { roc?: Points; precisionRecall?: Points; pro?: Points; imageRoc?: Points } {
    const pixels = this.#pixels.pixels();
    const orNothing = (curve: () => Points) => {
      try {
        return curve();
      } catch (error) {
        if (error instanceof UserError) return undefined;
        throw error;
      }
    };
    return {
      roc: orNothing(() => rocCurve(pixels, resolution)),
      precisionRecall: orNothing(() => precisionRecallCurve(pixels, resolution)),
      pro: orNothing(() => proCurve(this.#pixels.regions(), resolution)),
      imageRoc: orNothing(() => rocCurve(this.imageRanking(), resolution)),
    };
  }
}
