/** The transcribed tables against themselves: printed averages are the means of the printed columns, as far as they are. */
import assert from "node:assert/strict";
import { publishedMethods, publishedTable } from "../../src/baselines/published.ts";

const categories = publishedTable(10).categories.filter((name) => name !== "average");

/** Columns whose printed average is not the mean of what is printed, with the mean. */
const MISPRINTS = new Map([["5 DevNet pixel AUROC", 88.4], ["12 CFA pixel F1-max", 62.7]]);

Deno.test("every printed average follows from its column, over all categories or without bottle", () => {
  assert.equal(categories.length, 15);
  for (const number of [1, 4, 5, 10, 11, 12]) {
    const table = publishedTable(number), half = number === 1 || number === 4 ? 0.0051 : 0.051;
    // Table 5 cuts digits off where the others round.
    const tolerance = number === 5 ? 2 * half : half;
    for (const method of table.methods) {
      for (const metric of table.metrics) {
        const column = `${number} ${method} ${metric}`;
        const printed = table.figure(method, metric)!;
        const values = table.categories.filter((name) => name !== "average")
          .map((name) => [name, table.figure(method, metric, name)] as const);
        if (values.some(([, value]) => value === undefined)) {
          assert.equal(column, "4 SDGAN accuracy");
          continue;
        }
        const mean = (of: typeof values) => of.reduce((sum, [, value]) => sum + value!, 0) / of.length;
        const means = [mean(values), mean(values.filter(([name]) => name !== "bottle"))];
        const expected = MISPRINTS.get(column);
        if (expected !== undefined) assert.ok(Math.abs(means[0] - expected) < 0.06, column);
        else assert.ok(means.some((m) => Math.abs(m - printed) < tolerance), `${column}: ${means} ${printed}`);
      }
    }
  }
});

Deno.test("tables 2 and 3 leave out Crop&Paste and PRO; what is not printed is undefined", () => {
  assert.deepEqual(publishedTable(2).methods, ["DRAEM", "PRN", "DFMGAN", "AnomalyDiffusion"]);
  assert.deepEqual(publishedTable(2).metrics, ["pixel AUROC", "pixel AP", "pixel F1-max"]);
  assert.equal(publishedTable(3).figure("DRAEM", "image F1-max", "transistor"), 71.4);
  assert.equal(publishedTable(4).figure("DFMGAN", "accuracy", "toothbrush"), undefined);
  assert.equal(publishedTable(6).figure("SAE", "pixel AP"), 51.2);
  assert.equal(publishedTable(7).figure("10 %", "pixel AP", "bottle"), undefined);
  assert.throws(() => publishedTable(13), /1 to 12/);
});

Deno.test("every method of a table by category is described; no GAN is said to be built here", () => {
  for (const number of [1, 4, 5, 9, 10, 11, 12]) {
    for (const name of publishedTable(number).methods) assert.ok(publishedMethods[name], name);
  }
  for (const { kind, baseline } of Object.values(publishedMethods)) assert.ok(kind !== "gan" || !baseline);
});
