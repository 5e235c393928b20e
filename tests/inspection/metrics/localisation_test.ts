/** The detection figures against definitions written out, on small maps with many ties; and what is refused. */
import assert from "node:assert/strict";
import { LocalisationScores, type ScoredMap } from "../../../src/inspection/metrics/localisation.ts";
import {
  atThresholds,
  auroc,
  averagePrecision,
  f1Max,
  f1Max21,
  officialThresholds,
  precisionRecallCurve,
  rank,
  rocCurve,
} from "../../../src/inspection/metrics/ranking.ts";
import { labelRegions } from "../../../src/data/regions.ts";
import { auPro, auProByRank, proCurve } from "../../../src/inspection/metrics/regions.ts";
import { imageScore } from "../../../src/inspection/metrics/image_score.ts";
import { ScoreMultiset } from "../../../src/inspection/metrics/score_multiset.ts";
import { UserError } from "../../../src/errors.ts";
import { Random } from "../../../src/random/philox.ts";

const close = (a: number, b: number, what: string, tolerance = 1e-12) =>
  assert.ok(Math.abs(a - b) <= tolerance, `${what}: ${a}, expected ${b}`);

/** Maps of different sizes; `levels` distinct scores (0: continuous), soft masks where `soft`. */
function randomMaps(seed: number, levels: number, soft: boolean): ScoredMap[] {
  const random = new Random(seed, "tests/maps");
  return Array.from({ length: 4 }, (_, index) => {
    const width = 6 + index, height = 9 - index, size = width * height;
    const mask = Array.from({ length: size }, () => {
      if (index === 0 || !random.chance(0.2)) return 0;
      return soft && random.chance(0.4) ? 0.5 : 1;
    });
    const scores = Float32Array.from(mask, (value) => {
      const score = 0.6 * random.uniform() + 0.4 * value * random.uniform();
      return levels ? Math.round(score * levels) / levels : score;
    });
    return { width, height, scores, mask };
  });
}

/** Components by repeated spreading of the smallest label: slow and obvious. */
function regionsByFlooding(mask: ArrayLike<number>, width: number, height: number): number[][] {
  const label = Array.from(mask, (value, i) => (value > 0 ? i : -1));
  for (let changed = true; changed;) {
    changed = false;
    for (let i = 0; i < label.length; i++) {
      for (let j = 0; j < label.length; j++) {
        const near = Math.abs(i % width - j % width) <= 1 &&
          Math.abs(Math.floor(i / width) - Math.floor(j / width)) <= 1;
        if (near && label[i] >= 0 && label[j] >= 0 && label[j] < label[i]) {
          label[i] = label[j];
          changed = true;
        }
      }
    }
  }
  assert.equal(label.length, width * height);
  return [...new Set(label)].filter((l) => l >= 0).map((l) => label.flatMap((other, i) => (other === l ? [i] : [])));
}

/** All figures from their definitions, threshold by threshold over flat arrays. */
function bruteForce(maps: ScoredMap[], limit: number) {
  const scores = maps.flatMap((map) => [...map.scores]), truth = maps.flatMap((map) => Array.from(map.mask));
  const positive = scores.filter((_, i) => truth[i] === 1), negative = scores.filter((_, i) => truth[i] !== 1);
  const good = scores.filter((_, i) => truth[i] === 0);
  const regions = maps.flatMap(({ mask, width, height, scores }) =>
    regionsByFlooding(mask, width, height).map((pixels) => pixels.map((i) => scores[i]))
  );
  let above = 0;
  for (const p of positive) for (const n of negative) above += p > n ? 1 : p === n ? 0.5 : 0;
  const atLeast = (values: number[], t: number) => values.filter((v) => v >= t).length;
  const over = (values: number[], t: number) => values.filter((v) => v > t).length;
  const thresholds = [...new Set(scores)].sort((a, b) => b - a);
  let ap = 0, recallBefore = 0, f1 = 0;
  for (const t of thresholds) {
    const tp = atLeast(positive, t), fp = atLeast(negative, t), recall = tp / positive.length;
    ap += (recall - recallBefore) * tp / (tp + fp);
    recallBefore = recall;
    f1 = Math.max(f1, 2 * tp / (tp + fp + positive.length));
  }
  const f21 = Math.max(...officialThresholds.map((t) => {
    const tp = over(positive, t), p = tp / (tp + over(negative, t) + 1e-8), r = tp / (positive.length + 1e-8);
    return 2 * p * r / (p + r + 1e-8);
  }));
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const exact = thresholds.map((t): [number, number] => [
    atLeast(good, t) / good.length,
    mean(regions.map((values) => atLeast(values, t) / values.length)),
  ]);
  const ascending = good.toSorted((a, b) => a - b), last = good.length - 1;
  const byRank = Array.from({ length: 100 }, (_, i) => 99 - i).map((i): [number, number] => {
    const rank = i === 99 ? last : Math.floor(i * (last / 99)), t = ascending[rank];
    return [1 - (rank + 1) / good.length, mean(regions.map((values) => over(values, t) / values.length))];
  });
  /** Area in small steps of linear interpolation between the two points around x. */
  const area = (points: [number, number][]) => {
    let sum = 0;
    for (let k = 1; k < points.length; k++) {
      const [x0, y0] = points[k - 1], [x1, y1] = points[k];
      if (x0 >= limit) break;
      const end = Math.min(x1, limit), y = x1 === x0 ? y1 : y0 + (y1 - y0) * (end - x0) / (x1 - x0);
      sum += (end - x0) * (y0 + y) / 2;
    }
    return sum / limit;
  };
  return {
    auroc: above / positive.length / negative.length,
    ap,
    f1,
    f21,
    auPro: area([[0, 0], ...exact]),
    byRank: area([...byRank, [1, 1]]),
  };
}

Deno.test("localisation: equals the definitions, with ties and soft masks", () => {
  for (const levels of [0, 2, 7]) {
    for (const soft of [false, true]) {
      for (const limit of [0.05, 0.3, 1]) {
        const maps = randomMaps(10 * levels + (soft ? 1 : 0), levels, soft),
          what = `${levels} levels, soft ${soft}, ${limit}`;
        const all = new LocalisationScores();
        for (const map of maps) all.add(map);
        const pixels = all.pixels(), regions = all.regions(), expected = bruteForce(maps, limit);
        close(auroc(pixels), expected.auroc, `AUROC, ${what}`);
        close(averagePrecision(pixels), expected.ap, `AP, ${what}`);
        close(f1Max(pixels).f1, expected.f1, `F1, ${what}`);
        close(f1Max21(pixels), expected.f21, `F1 of 21, ${what}`);
        close(auPro(regions, limit), expected.auPro, `AU-PRO, ${what}`);
        close(auProByRank(regions, limit), expected.byRank, `AU-PRO by rank, ${what}`);
      }
    }
  }
});

Deno.test("localisation: streamed maps rank as the flat list does, in any order of maps", () => {
  const random = new Random(3, "tests/stream"), maps: ScoredMap[] = [];
  for (let i = 0; i < 20; i++) {
    const mask = Array.from({ length: 1024 }, () => (i % 2 && random.chance(0.1) ? 1 : 0));
    const scores = Float32Array.from(mask, (m) => Math.exp(-9 * random.uniform()) * (m ? 1 : 0.8));
    maps.push({ width: 32, height: 32, scores, mask });
  }
  const forth = new LocalisationScores(), back = new LocalisationScores();
  for (const map of maps) forth.add(map);
  for (const map of maps.toReversed()) back.add(map);
  const list = rank(maps.flatMap((m) => [...m.scores]), maps.flatMap((m) => Array.from(m.mask)), "pixels");
  for (const figure of [auroc, averagePrecision, f1Max, f1Max21, rocCurve, precisionRecallCurve]) {
    assert.deepEqual(figure(forth.pixels()), figure(list), figure.name);
    assert.deepEqual(figure(back.pixels()), figure(list), figure.name);
  }
  close(auPro(forth.regions()), auPro(back.regions()), "AU-PRO in another order");
  assert.ok(forth.bytes < 20 * 1024 * 3, `${forth.bytes} bytes`);
});

Deno.test("localisation: figures may be read between maps", () => {
  const maps = randomMaps(5, 4, false), all = new LocalisationScores();
  all.add(maps[0]);
  all.add(maps[1]);
  auroc(all.pixels());
  all.add(maps[2]);
  all.add(maps[3]);
  close(auroc(all.pixels()), bruteForce(maps, 0.3).auroc, "AUROC");
  close(auPro(all.regions()), bruteForce(maps, 0.3).auPro, "AU-PRO");
});

Deno.test("score multiset: every float32 comes back in falling order with its count, over many merges", () => {
  const set = new ScoreMultiset(), values = new Float32Array(2_400_000);
  const special = [0, -0, 1, -1, 1e-45, -1e-45, 3.4028234663852886e38, -3.4028234663852886e38];
  for (let i = 0; i < values.length; i++) {
    const word = Math.imul(i ^ i >>> 9, 0x9e3779b1) >>> 0; // Fibonacci hashing: fast, and spread over all bits
    values[i] = i < 8 ? special[i] : i % 3 ? Math.fround(word / 2 ** 32) : (word % 1000) / 8 - 60;
  }
  for (let i = 0; i < values.length; i += 77_777) set.add(values.subarray(i, i + 77_777));
  const sorted = values.map((v) => v + 0).sort();
  let at = values.length, distinct = 0, wrong = 0;
  set.descend((score, count) => {
    distinct++;
    for (let k = 0; k < count; k++) if (sorted[--at] !== score) wrong++;
  });
  assert.equal(wrong, 0);
  assert.equal(at, 0);
  assert.equal(set.size, values.length);
  assert.equal(distinct, sorted.reduce((sum, v, i) => sum + (i && v === sorted[i - 1] ? 0 : 1), 0));
});

Deno.test("regions: 8-connected, also where two arms meet late and across rows only at corners", () => {
  const rows = (...lines: string[]) => Array.from(lines.join(""), (c) => (c === "#" ? 1 : 0));
  const count = (mask: number[], width: number) => labelRegions(mask, width, mask.length / width).sizes;
  assert.deepEqual(count(rows("#..", ".#.", "..#"), 3), [3]);
  assert.deepEqual(count(rows("..#", ".#.", "#.."), 3), [3]);
  assert.deepEqual(count(rows("#.#", "#.#", "###"), 3), [7]);
  assert.deepEqual(count(rows("#.#.#", ".....", "#.#.#"), 5), [1, 1, 1, 1, 1, 1]);
  // The end of a row and the beginning of the next do not touch.
  assert.deepEqual(count(rows("...#", "#...", "...#"), 4), [1, 1, 1]);
  for (let seed = 0; seed < 20; seed++) {
    const random = new Random(seed, "tests/regions"), mask = Array.from({ length: 110 }, () => +random.chance(0.45));
    const { labels, sizes } = labelRegions(mask, 11, 10), expected = regionsByFlooding(mask, 11, 10);
    assert.deepEqual(sizes, expected.map((pixels) => pixels.length));
    for (const [i, pixels] of expected.entries()) for (const p of pixels) assert.equal(labels[p], i + 1);
  }
});

Deno.test("image score: the largest pooled mean, with zeros around the map", () => {
  const random = new Random(2, "tests/pool"), width = 9, height = 7;
  const scores = Float32Array.from({ length: 63 }, () => random.uniform(-0.2, 1));
  for (const window of [1, 3, 5, 21]) {
    let best = -Infinity;
    const reach = (window - 1) / 2;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let v = y - reach; v <= y + reach; v++) {
          for (let u = x - reach; u <= x + reach; u++) {
            if (u >= 0 && v >= 0 && u < width && v < height) sum += scores[v * width + u];
          }
        }
        best = Math.max(best, sum / window / window);
      }
    }
    close(imageScore(scores, width, height, window), best, `window ${window}`, 1e-12);
  }
  assert.throws(() => imageScore(scores, 9, 6), RangeError);
});

Deno.test("curves: thinned, and they still begin and end where the whole ones do", () => {
  const random = new Random(9, "tests/curves"), labels = Array.from({ length: 20_000 }, () => random.chance(0.3));
  const ranking = rank(labels.map((label) => random.normal() + (label ? 1 : 0)), labels);
  const roc = rocCurve(ranking, 100), pr = precisionRecallCurve(ranking, 100);
  assert.deepEqual([roc[0], roc[roc.length - 1]], [[0, 0], [1, 1]]);
  assert.equal(pr[pr.length - 1][0], 1);
  close(pr[pr.length - 1][1], ranking.positives / 20_000, "precision when all is taken");
  assert.ok(roc.length > 50 && roc.length <= 201 && pr.length < 600, `${roc.length}, ${pr.length} points`);
  let area = 0;
  for (let i = 1; i < roc.length; i++) area += (roc[i][0] - roc[i - 1][0]) * (roc[i][1] + roc[i - 1][1]) / 2;
  close(area, auroc(ranking), "area under the thinned curve", 0.005);
  const all = new LocalisationScores();
  for (const map of randomMaps(5, 0, false)) all.add(map);
  const pro = proCurve(all.regions());
  assert.deepEqual(pro[0], [0, 0]);
  close(pro[pro.length - 1][0], 1, "FPR at the end");
  close(pro[pro.length - 1][1], 1, "overlap at the end");
});

Deno.test("thresholds: strict, and in the order they were asked for", () => {
  const [low, high] = atThresholds(rank([0.2, 0.5, 0.5, 0.9], [0, 1, 0, 1]), [0.2, 0.5]);
  close(low.precision, 2 / 3, "precision above 0.2", 1e-7);
  close(low.recall, 1, "recall above 0.2", 1e-7);
  close(high.precision, 1, "precision above 0.5", 1e-7);
  close(high.recall, 0.5, "recall above 0.5", 1e-7);
  const best = f1Max(rank([0.2, 0.5, 0.5, 0.9], [0, 1, 0, 1]));
  assert.deepEqual([best.threshold, best.recall], [0.5, 1]);
});

Deno.test("localisation: one class only, equal scores, NaN and misfits are one clear line each", () => {
  const refuses = (run: () => unknown, pattern: RegExp) =>
    assert.throws(run, (error: Error) => {
      assert.ok(error instanceof UserError, `${error}`);
      assert.match(error.message, pattern);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  for (const figure of [auroc, averagePrecision, f1Max, f1Max21, rocCurve, precisionRecallCurve]) {
    refuses(() => figure(rank([0.1, 0.2], [0, 0])), /images: none is defective/);
    refuses(() => figure(rank([0.1, 0.2], [1, 1])), /images: all are defective/);
    refuses(() => figure(rank([0.5, 0.5], [0, 1])), /every score is 0.5/);
  }
  refuses(() => rank([0.1, NaN], [0, 1]), /score 1 is NaN/);
  refuses(() => rank([0.1, Infinity], [0, 1]), /score 1 is Infinity/);
  refuses(() => imageScore(Float32Array.of(0, NaN, 0, 0), 2, 2), /pixel \(1, 0\) is NaN/);
  const map = (scores: number[], mask: number[]): ScoredMap => ({
    width: 2,
    height: 2,
    scores: Float32Array.from(scores),
    mask,
    name: "crack/003.png",
  });
  const of = (...maps: ScoredMap[]) => {
    const all = new LocalisationScores();
    for (const one of maps) all.add(one);
    return all;
  };
  refuses(() => of(map([0, 0, NaN, 0], [0, 0, 0, 1])), /crack\/003.png: the score of pixel \(0, 1\) is NaN/);
  refuses(() => of(map([0, 0, 0, 0], [0, 0, 0, 255])), /crack\/003.png: the mask has the value 255/);
  refuses(() => of(map([0, 0, 0], [0, 0, 0, 1])), /crack\/003.png: 2×2 pixels need 4/);
  for (const figure of [auPro, auProByRank, proCurve]) {
    refuses(() => figure(of(map([0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0])).regions()), /no mask has a defective region/);
    refuses(() => figure(of(map([0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1])).regions()), /every pixel is defective/);
    refuses(() => figure(of(map([0.3, 0.3, 0.3, 0.3], [1, 0, 0, 1])).regions()), /every score is/);
  }
});
