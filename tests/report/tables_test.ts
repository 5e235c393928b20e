/** The writer of comparison tables: averages, spread, marks, and three forms that say the same. */
import assert from "node:assert/strict";
import {
  AVERAGE,
  averages,
  byPart,
  type ComparisonTable,
  gather,
  toCsv,
  toJson,
  toMarkdown,
} from "../../src/report/tables.ts";

const table: ComparisonTable = {
  name: "table2",
  title: "Localisation",
  metrics: ["pixel AP", "PRO"],
  digits: 1,
  parts: ["metal", "wood"],
  seeds: [0, 1],
  footing: { paper: "filtered by hand", here: "all pairs" },
  rows: [
    {
      name: 'A "new" one',
      published: { average: { "pixel AP": 48.4 }, wood: { "pixel AP": 45.7 } },
      measured: gather([
        { metal: { "pixel AP": 60, PRO: 90 }, wood: { "pixel AP": 50 } },
        { metal: { "pixel AP": 64, PRO: 80 }, wood: { "pixel AP": 50 } },
      ]),
    },
    { name: "B|C", published: { average: { PRO: 76.3 } }, measured: {}, note: "a GAN, printed only" },
  ],
};

Deno.test("averages are over parts first, then over seeds, with the sample deviation", () => {
  const { average, metal, wood } = gather([
    { metal: { AP: 10 }, wood: { AP: 30 } },
    { metal: { AP: 20 }, wood: { AP: 30 } },
    { metal: { AP: 30 }, wood: { AP: 30 } },
  ]);
  assert.deepEqual(average.AP.values, [20, 25, 30]);
  assert.deepEqual([average.AP.mean, average.AP.std], [25, 5]);
  assert.deepEqual([metal.AP.std, wood.AP.std], [10, 0]);
});

Deno.test("a figure that a part or a seed does not have is left out, not counted as 0", () => {
  const { average, wood } = gather([{ metal: { AP: 10 }, wood: {} }, { metal: { AP: 20 }, wood: { AP: 40 } }]);
  assert.deepEqual(average.AP.values, [10, 30]);
  assert.deepEqual(wood.AP, { mean: 40, values: [undefined, 40] });
  assert.deepEqual(gather([]), {});
});

Deno.test("Markdown: the paper's figure stands beside the measured one; rows that are only printed are marked", () => {
  const text = toMarkdown(table);
  assert.match(text, /^# Localisation\n/);
  assert.ok(text.includes("| method | pixel AP, paper | pixel AP, here | PRO, paper | PRO, here |"), text);
  assert.ok(text.includes('| A "new" one | 48.4 | 56.0 ± 1.4 | – | 85.0 ± 7.1 |'), text);
  assert.ok(text.includes("| B\\|C [1] | – | – | 76.3 | – |"), text);
  assert.ok(text.includes("[1] a GAN, printed only"));
  assert.ok(text.includes('| A "new" one | wood | 50.0 ± 0.0 (paper 45.7) | – |'), text);
  assert.ok(!/\| B\\\|C \| metal/.test(text), "what was not measured has no parts");
  assert.ok(text.includes("- **paper**: filtered by hand\n- **here**: all pairs\n"));
});

Deno.test("equal notes share a mark, and one part has no table of parts", () => {
  const rows = ["x", undefined, "y", "x"].map((note, i) => ({ ...table.rows[1], name: `r${i}`, note }));
  const { table: means, notes } = averages({ ...table, rows });
  assert.deepEqual(means.rows.map(([name]) => name), ["r0 [1]", "r1", "r2 [2]", "r3 [1]"]);
  assert.deepEqual(notes, ["[1] x", "[2] y"]);
  assert.equal(byPart(table).rows.length, 2);
  assert.deepEqual(byPart({ ...table, parts: ["metal"] }).rows, []);
});

Deno.test("Markdown: with one seed there is no spread", () => {
  const one = { ...table, seeds: [0], rows: [{ ...table.rows[0], measured: gather([{ wood: { "pixel AP": 50 } }]) }] };
  assert.ok(toMarkdown(one).includes("| 48.4 | 50.0 | – | – |"));
});

Deno.test("CSV: one line a figure, every seed's value, fields quoted where they must be", () => {
  const lines = toCsv(table).trimEnd().split("\n");
  assert.equal(lines[0], "table,method,part,metric,paper,mean,std,seed 0,seed 1,note");
  assert.equal(lines.length, 1 + 5 + 1); // average, metal and wood of A without PRO on wood; one figure of B|C
  assert.ok(lines.includes('table2,"A ""new"" one",wood,pixel AP,45.7,50,0,50,50,'), lines.join("\n"));
  assert.equal(lines.at(-1), 'table2,B|C,average,PRO,76.3,,,,,"a GAN, printed only"');
});

Deno.test("JSON holds the table and reads back", () => {
  const { rows, seeds } = JSON.parse(toJson(table));
  assert.deepEqual(seeds, [0, 1]);
  assert.deepEqual(rows[0].measured[AVERAGE]["pixel AP"].values, [55, 57]);
});
