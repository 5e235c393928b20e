/**
 * AU-PRO: how much of each defective region is found, against the share of good pixels that are called defective
 * (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 4.2).
 */

import { UserError } from "../../errors.ts";
import { decimator, type Points } from "./ranking.ts";

/** Distinct scores from the highest to the lowest, with what good pixels and regions have of them. */
export interface RegionRanking {
  /** Good pixels: outside every region. */
  readonly good: number;
  /** How many 8-connected regions of defect there are. */
  readonly regions: number;
  /**
   * Calls `visit` for every distinct score, the highest first.
   * @param visit given a score, the good pixels that have it, and by how much it lifts the mean overlap of regions
   */
  descend(visit: (score: number, good: number, overlap: number) => void): void;
}

/** Refuses what has no curve. */
function check({ good, regions }: RegionRanking): void {
  if (regions === 0) throw new UserError("AU-PRO: no mask has a defective region", "test on defects with masks");
  if (good === 0) {
    throw new UserError("AU-PRO: every pixel is defective", "check that the masks are black where nothing is");
  }
}

/** Walks the PRO curve: false positive rate and per-region overlap after each distinct score, from (0, 0). */
function descend(ranking: RegionRanking, visit: (fpr: number, pro: number, score: number) => void): void {
  check(ranking);
  let good = 0, pro = 0, distinct = 0, last = 0;
  visit(0, 0, Infinity);
  ranking.descend((score, here, overlap) => {
    good += here;
    pro += overlap;
    distinct++;
    last = score;
    visit(good / ranking.good, Math.min(1, pro), score);
  });
  if (distinct < 2) throw new UserError(`AU-PRO: every score is ${last}, so nothing was told apart`);
}

/** Trapezoids under points whose x grows, up to `limit`, the last one cut there. */
function areaTo(limit: number): { add(x: number, y: number): void; area(): number } {
  let lastX = 0, lastY = 0, area = 0;
  return {
    add(x, y) {
      if (lastX < limit) {
        const end = Math.min(x, limit);
        const height = x > end ? lastY + (y - lastY) * (end - lastX) / (x - lastX) : y;
        area += (end - lastX) * (lastY + height) / 2;
      }
      lastX = x;
      lastY = y;
    },
    area: () => area,
  };
}

function checkLimit(limit: number): void {
  if (!(limit > 0 && limit <= 1)) throw new RangeError(`an FPR limit lies in (0, 1], not ${limit}`);
}

/**
 * AU-PRO, exact: every distinct score is a threshold, linear in between, up to `limit`, divided by it.
 * @param limit largest false positive rate; 0.3 in the papers
 * @throws {UserError} without a region, without a good pixel, or where all scores are equal
 */
export function auPro(ranking: RegionRanking, limit = 0.3): number {
  checkLimit(limit);
  const curve = areaTo(limit);
  descend(ranking, (fpr, pro) => curve.add(fpr, pro));
  return curve.area() / limit;
}

/**
 * AU-PRO in the form of MVTec 3D-AD's utility, which the official AnomalyDiffusion evaluation calls with 100 thresholds:
 * those are scores of good pixels at equally spaced ranks; the overlap counts scores *above* the threshold, and the false
 * positive rate is taken from the rank, so that tied scores misstate it.
 * @throws {UserError} as {@linkcode auPro}
 */
export function auProByRank(ranking: RegionRanking, limit = 0.3, thresholds = 100): number {
  checkLimit(limit);
  check(ranking);
  const { good } = ranking, step = (good - 1) / (thresholds - 1), curve = areaTo(limit);
  const rankOf = (i: number) => (i === thresholds - 1 ? good - 1 : Math.floor(i * step)); // 0 is the lowest score
  let next = thresholds - 1, seen = 0, above = 0, distinct = 0, last = 0;
  ranking.descend((score, here, overlap) => {
    seen += here;
    for (; next >= 0 && rankOf(next) >= good - seen; next--) curve.add(1 - (rankOf(next) + 1) / good, above);
    above = Math.min(1, above + overlap);
    distinct++;
    last = score;
  });
  if (distinct < 2) throw new UserError(`AU-PRO: every score is ${last}, so nothing was told apart`);
  curve.add(1, 1);
  return curve.area() / limit;
}

/**
 * The PRO curve, thinned to steps of 1/resolution.
 * @returns [false positive rate, mean overlap], from (0, 0) to (1, 1)
 * @throws {UserError} as {@linkcode auPro}
 */
export function proCurve(ranking: RegionRanking, resolution = 200): Points {
  const points = decimator(resolution);
  descend(ranking, (fpr, pro) => points.add(fpr, pro));
  return points.finish();
}
