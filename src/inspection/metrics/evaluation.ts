/**
 * All detection and localisation figures of one test set at once, each under the name of its convention: what the inspect
 * commands write and the tables print. Protocol: the official AnomalyDiffusion evaluation (Hu et al., AAAI 2024).
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

/**
 * What each figure is: its title in a table, how exactly it is computed, and who computes it so. Its key is its name in
 * `metrics.json` of a test's run folder too.
 */
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
  auPro30: {
    title: "AU-PRO 0.3",
    convention: "mean overlap of 8-connected regions up to FPR 0.3, every distinct score a threshold, divided by 0.3",
    source: "Bergmann et al. 2021",
  },
  auPro30By100Ranks: {
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
  /** For each figure that is left out, what it lacks: to be told in one line, or thrown where the figure is needed. */
  readonly missing: Partial<Record<FigureName, UserError>>;
}

/** Curves of a test set for charts; each is left out where it does not exist. */
export interface DetectionCurves {
  /** Of pixels: [false positive rate, true positive rate]. */
  readonly pixelRoc?: Points;
  /** Of pixels: [recall, precision]. */
  readonly pixelPrecisionRecall?: Points;
  /** Of regions: [false positive rate, mean overlap]. */
  readonly pro?: Points;
  /** Of images: [false positive rate, true positive rate]. */
  readonly imageRoc?: Points;
  /** Of images: [recall, precision]. */
  readonly imagePrecisionRecall?: Points;
}

/** What is known of an image beside its map. */
export interface ImageTruth {
  /** Whether it counts as defective; where its mask has a pixel above 0, unless given. */
  readonly defective?: boolean;
  /** Its score, where the method gives one of its own; else the largest 21×21 mean of the map. */
  readonly score?: number;
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
   * @returns the image's score
   * @throws {UserError} naming the map, as {@linkcode LocalisationScores.add}
   */
  add(map: ScoredMap, { defective, score }: ImageTruth = {}): number {
    this.#pixels.add(map);
    const { name = `map ${this.#images.length}` } = map;
    score ??= imageScore(map.scores, map.width, map.height);
    this.#images.push({ name, score, defective: defective ?? Array.prototype.some.call(map.mask, (v) => v > 0) });
    return score;
  }

  /** Ranking of the images, for other figures. */
  imageRanking(): Ranking {
    return rank(this.#images.map(({ score }) => score), this.#images.map(({ defective }) => defective));
  }

  /**
   * One figure, 0 … 1.
   * @throws {UserError} where it has no meaning on this set, e.g. image AUROC without normal images
   */
  figure(name: FigureName): number {
    return FIGURES[name](this.#pixels, () => this.imageRanking());
  }

  /** All figures, in the order of {@linkcode detectionFigures}. Those without a meaning on this set are missing. */
  figures(): DetectionResult {
    const values: Partial<Record<FigureName, number>> = {}, missing: Partial<Record<FigureName, UserError>> = {};
    for (const name of Object.keys(detectionFigures) as FigureName[]) {
      const value = orError(() => this.figure(name));
      if (value instanceof UserError) missing[name] = value;
      else values[name] = value;
    }
    return { values, missing };
  }

  /**
   * Curves for charts.
   * @param resolution a curve's points are at least 1/resolution apart: some hundred in all
   */
  curves(resolution = 200): DetectionCurves {
    const pixels = this.#pixels.pixels();
    const curves = {
      pixelRoc: () => rocCurve(pixels, resolution),
      pixelPrecisionRecall: () => precisionRecallCurve(pixels, resolution),
      pro: () => proCurve(this.#pixels.regions(), resolution),
      imageRoc: () => rocCurve(this.imageRanking(), resolution),
      imagePrecisionRecall: () => precisionRecallCurve(this.imageRanking(), resolution),
    };
    const drawn = Object.entries(curves).map(([name, curve]) => [name, orError(curve)] as const);
    return Object.fromEntries(drawn.filter(([, points]) => !(points instanceof UserError)));
  }
}

/** How each figure is computed. */
const FIGURES: Readonly<Record<FigureName, (pixels: LocalisationScores, images: () => Ranking) => number>> = {
  pixelAuroc: (all) => auroc(all.pixels()),
  pixelAp: (all) => averagePrecision(all.pixels()),
  pixelF1Max: (all) => f1Max(all.pixels()).f1,
  pixelF1Max21: (all) => f1Max21(all.pixels()),
  auPro30: (all) => auPro(all.regions(), 0.3),
  auPro30By100Ranks: (all) => auProByRank(all.regions(), 0.3, 100),
  imageAuroc: (_, images) => auroc(images()),
  imageAp: (_, images) => averagePrecision(images()),
  imageF1Max: (_, images) => f1Max(images()).f1,
};

/** What a function returns, or what the test set lacks for it. */
function orError<T>(compute: () => T): T | UserError {
  try {
    return compute();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
}
