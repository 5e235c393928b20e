/**
 * Figures of a detector from how its scores rank positives and negatives, in scikit-learn's conventions: ties are one
 * point, a score counts as found where it is at least the threshold. All take a {@linkcode Ranking}, which a list of scores
 * or a streaming accumulator gives.
 */

import { UserError } from "../../errors.ts";

/** Called for one distinct score with how many positives and negatives have it. */
export type Visit = (score: number, positives: number, negatives: number) => void;

/** Distinct scores from the highest to the lowest, with what has them. */
export interface Ranking {
  /** What was scored: `pixels`, `images`; for error messages. */
  readonly what: string;
  /** How many items are positive. */
  readonly positives: number;
  /** How many are not. */
  readonly negatives: number;
  /** Calls `visit` for every distinct score, the highest first. */
  descend(visit: Visit): void;
}

/**
 * Ranks a list of scores.
 * @param labels true or non-zero for a positive
 * @throws {UserError} if a score is not a finite number
 * @example
 * ```ts
 * import { auroc, rank } from "./ranking.ts";
 * if (auroc(rank([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])) !== 0.75) throw new Error("not the value that scikit-learn gives");
 * ```
 */
export function rank(
  scores: ArrayLike<number>,
  labels: ArrayLike<number | boolean>,
  what = "images",
): Ranking {
  if (scores.length !== labels.length) throw new RangeError(`${scores.length} scores, ${labels.length} labels`);
  let positives = 0;
  for (let i = 0; i < scores.length; i++) {
    if (!Number.isFinite(scores[i])) throw new UserError(`${what}: score ${i} is ${scores[i]}, not a finite number`);
    if (labels[i]) positives++;
  }
  const order = Uint32Array.from({ length: scores.length }, (_, i) => i).sort((a, b) => scores[b] - scores[a]);
  return {
    what,
    positives,
    negatives: scores.length - positives,
    descend(visit) {
      for (let i = 0; i < order.length;) {
        const score = scores[order[i]];
        let found = 0, wrong = 0;
        for (; i < order.length && scores[order[i]] === score; i++) labels[order[i]] ? found++ : wrong++;
        visit(score, found, wrong);
      }
    },
  };
}

/** Walks a ranking and checks on the way that it tells something. */
function descend({ what, positives, negatives, ...ranking }: Ranking, visit: Visit): void {
  if (positives === 0) {
    throw new UserError(`${what}: none is defective, so ranking them says nothing`, "test on defects with masks too");
  }
  if (negatives === 0) {
    throw new UserError(`${what}: all are defective, so ranking them says nothing`, "test on normal images too");
  }
  let distinct = 0, last = 0;
  ranking.descend((score, found, wrong) => {
    distinct++;
    last = score;
    visit(score, found, wrong);
  });
  if (distinct < 2) {
    throw new UserError(`${what}: every score is ${last}, so nothing was told apart`, "train the detector longer");
  }
}

/**
 * Area under the ROC curve: the chance that a positive scores above a negative, ties counting half (Mann–Whitney;
 * sklearn.metrics.roc_auc_score).
 * @throws {UserError} without a positive, without a negative, or where all scores are equal
 */
export function auroc(ranking: Ranking): number {
  let above = 0, area = 0;
  descend(ranking, (_, positives, negatives) => {
    area += negatives * (above + positives / 2);
    above += positives;
  });
  return area / ranking.positives / ranking.negatives;
}

/**
 * Average precision: Σ (recall_n − recall_{n−1}) · precision_n over distinct scores, no interpolation
 * (sklearn.metrics.average_precision_score). The trapezoid under the PR curve, anomalib's AUPR, is another, higher figure.
 * @throws {UserError} as {@linkcode auroc}
 */
export function averagePrecision(ranking: Ranking): number {
  let found = 0, taken = 0, sum = 0;
  descend(ranking, (_, positives, negatives) => {
    found += positives;
    taken += positives + negatives;
    if (positives) sum += positives * found / taken;
  });
  return sum / ranking.positives;
}

/** The best F1 and where it is reached. */
export interface BestF1 {
  /** 0 to 1. */
  readonly f1: number;
  /** Scores of at least this are called defective. */
  readonly threshold: number;
  /** At that threshold, 0 to 1. */
  readonly precision: number;
  /** At that threshold, 0 to 1. */
  readonly recall: number;
}

/**
 * F1-max: the largest F1 = 2·TP / (2·TP + FP + FN) over all thresholds of the PR curve; of equal ones, that at the highest
 * threshold. anomalib adds 1e−10 to the denominator.
 * @throws {UserError} as {@linkcode auroc}
 */
export function f1Max(ranking: Ranking): BestF1 {
  let found = 0, taken = 0;
  let best: BestF1 = { f1: 0, threshold: Infinity, precision: 0, recall: 0 };
  descend(ranking, (threshold, positives, negatives) => {
    found += positives;
    taken += positives + negatives;
    const f1 = 2 * found / (taken + ranking.positives);
    if (f1 > best.f1) best = { f1, threshold, precision: found / taken, recall: found / ranking.positives };
  });
  return best;
}

/** Counts above a threshold, and what follows from them. */
export interface AtThreshold {
  readonly threshold: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

/** Keeps denominators from 0, as the official evaluation does. */
const EPS = 1e-8;

/**
 * Precision, recall and F1 of scores *above* (not at) each threshold, with 1e−8 in the denominators.
 * @param thresholds in any order
 * @returns in the order of `thresholds`
 */
export function atThresholds(ranking: Ranking, thresholds: readonly number[]): AtThreshold[] {
  const order = thresholds.map((_, i) => i).sort((a, b) => thresholds[b] - thresholds[a]);
  const results: AtThreshold[] = [];
  let found = 0, taken = 0, next = 0;
  const close = (score: number) => {
    for (; next < order.length && score <= thresholds[order[next]]; next++) {
      const precision = found / (taken + EPS), recall = found / (ranking.positives + EPS);
      const f1 = 2 * precision * recall / (precision + recall + EPS);
      results[order[next]] = { threshold: thresholds[order[next]], precision, recall, f1 };
    }
  };
  descend(ranking, (score, positives, negatives) => {
    close(score);
    found += positives;
    taken += positives + negatives;
  });
  close(-Infinity);
  return results;
}

/** 0, 0.05, … 1: the thresholds of the official pixel F1. */
export const officialThresholds: readonly number[] = Array.from({ length: 21 }, (_, i) => i / 20);

/**
 * F1-max over 21 thresholds 0, 0.05 … 1, `score > threshold`, counts over the whole data set: the official pixel form. At
 * most {@linkcode f1Max}, but for its 1e−8.
 * @param ranking of scores in 0 … 1
 * @throws {UserError} as {@linkcode auroc}
 */
export function f1Max21(ranking: Ranking): number {
  return Math.max(...atThresholds(ranking, officialThresholds).map(({ f1 }) => f1));
}

/** A curve's points as a chart takes them. */
export type Points = [x: number, y: number][];

/**
 * Keeps the points that are at least 1/resolution away from the last one kept, and both ends.
 * @returns what to call for each point, and what to call in the end
 */
export function decimator(resolution: number): { add(x: number, y: number): void; finish(): Points } {
  const points: Points = [];
  let last: [number, number] | undefined;
  return {
    add(x, y) {
      last = [x, y];
      const kept = points[points.length - 1];
      if (!kept || Math.abs(x - kept[0]) + Math.abs(y - kept[1]) >= 1 / resolution) points.push(last);
    },
    finish() {
      if (last && points[points.length - 1] !== last) points.push(last);
      return points;
    },
  };
}

/**
 * The ROC curve from (0, 0) to (1, 1), thinned to steps of 1/resolution: some hundred points for a chart.
 * @returns [false positive rate, true positive rate]
 * @throws {UserError} as {@linkcode auroc}
 */
export function rocCurve(ranking: Ranking, resolution = 200): Points {
  const points = decimator(resolution);
  let found = 0, wrong = 0;
  points.add(0, 0);
  descend(ranking, (_, positives, negatives) => {
    found += positives;
    wrong += negatives;
    points.add(wrong / ranking.negatives, found / ranking.positives);
  });
  return points.finish();
}

/**
 * The precision–recall curve from the highest threshold to recall 1, thinned to steps of 1/resolution.
 * @returns [recall, precision]
 * @throws {UserError} as {@linkcode auroc}
 */
export function precisionRecallCurve(ranking: Ranking, resolution = 200): Points {
  const points = decimator(resolution);
  let found = 0, taken = 0;
  descend(ranking, (_, positives, negatives) => {
    found += positives;
    taken += positives + negatives;
    points.add(found / ranking.positives, found / taken);
  });
  return points.finish();
}
