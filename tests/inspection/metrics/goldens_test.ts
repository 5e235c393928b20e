/** The detection figures against scikit-learn and MVTec's AU-PRO utility, as the golden files hold them. */
import assert from "node:assert/strict";
import { imageScore } from "../../../src/inspection/metrics/image_score.ts";
import { LocalisationScores } from "../../../src/inspection/metrics/localisation.ts";
import { auroc, averagePrecision, f1Max, rank } from "../../../src/inspection/metrics/ranking.ts";
import { auPro, auProByRank } from "../../../src/inspection/metrics/regions.ts";
import { goldens } from "../../support/goldens.ts";

for (const golden of goldens("metrics")) {
  for (const kind of ["continuous", "ties"]) {
    Deno.test(`metrics: ${golden.file}, ${kind} scores`, () => {
      const { shape: [count, height, width], data: scores } = golden.tensor(`scores_${kind}`);
      const { data: truth } = golden.tensor("gt"), size = width * height;
      const all = new LocalisationScores(), images: number[] = [], labels: boolean[] = [];
      for (let i = 0; i < count; i++) {
        const map = scores.slice(i * size, (i + 1) * size), mask = truth.subarray(i * size, (i + 1) * size);
        all.add({ width, height, scores: map, mask });
        images.push(imageScore(map, width, height));
        labels.push(mask.some((value) => value > 0));
      }
      const pixels = all.pixels(), image = rank(images, labels);
      const expected = golden.tensor(`expect_${kind}`).data;
      const found = [
        ["pixel AUROC", auroc(pixels), 1e-6],
        ["pixel AP", averagePrecision(pixels), 1e-6],
        ["pixel F1-max", f1Max(pixels).f1, 1e-6],
        ["AU-PRO by rank", auProByRank(all.regions()), 1e-6],
        ["image AUROC", auroc(image), 1e-6],
        ["image AP", averagePrecision(image), 1e-6],
        ["image F1-max", f1Max(image).f1, 1e-6],
      ] as const;
      for (const [i, [name, value, tolerance]] of found.entries()) {
        assert.ok(Math.abs(value - expected[i]) <= tolerance, `${name}: ${value}, expected ${expected[i]}`);
      }
      // The exact form differs by what lies between the hundred thresholds; ties misstate the other's rates.
      if (kind === "continuous") assert.ok(Math.abs(auPro(all.regions()) - expected[3]) < 0.005);
    });
  }
}

Deno.test("metrics: a golden file ships", () => assert.ok(goldens("metrics").length > 0));
