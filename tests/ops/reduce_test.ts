/** Sums and means over every set of axes, and the sum that undoes a broadcast, against their float64 references. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { mean, sum, sumTo } from "../../src/graph/ops/reduce.ts";
import { constant, input } from "../../src/graph/variable.ts";
import { meanBackward, meanForward, sumBackward, sumForward } from "../reference/pointwise.ts";
import { assertClose, ndarray, normals, sumTo as sumToReference } from "../support/arrays.ts";
import { gpu, type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];
const shape = [3, 5, 2, 4];
for (const axes of [[], [0], [1], [3], [0, 1], [1, 2], [2, 3], [0, 3], [0, 2], [1, 3, 0], [0, 1, 2, 3]]) {
  for (const keep of [false, true]) {
    cases.push({
      name: `sum [${shape}] over [${axes}]${keep ? ", kept" : ""}`,
      inputs: [normals(shape, "x")],
      build: (x) => sum(x, axes, keep),
      forward: (x) => sumForward(x, axes, keep),
      backward: (dy, x) => [sumBackward(dy, x, axes)],
    });
  }
}
for (const [shape, axes] of [[[1], [0]], [[7, 131], [1]], [[7, 131], [0]], [[2, 33, 33, 6], [1, 2]]]) {
  cases.push({
    name: `mean [${shape}] over [${axes}]`,
    inputs: [normals(shape, "x")],
    build: (x) => mean(x, axes),
    forward: (x) => meanForward(x, axes),
    backward: (dy, x) => [meanBackward(dy, x, axes)],
  });
}
cases.push({
  name: "sum of everything is the default",
  inputs: [normals([3, 7, 5], "x")],
  build: (x) => sum(x),
  forward: (x) => sumForward(x),
  backward: (dy, x) => [sumBackward(dy, x)],
});
// Long runs are added in two passes, whose parts need not divide them (65,537 and 80,018 = 2 · 40,009).
for (
  const [shape, axes] of [[[65536], [0]], [[2, 50000], [1]], [[50000, 3], [0]], [[65537], [0]], [[65537, 2], [0]], [[
    2,
    80018,
    3,
  ], [1]]]
) {
  cases.push({
    name: `sum [${shape}] over [${axes}]`,
    inputs: [normals(shape, "x")],
    build: (x) => sum(x, axes),
    forward: (x) => sumForward(x, axes),
    backward: (dy, x) => [sumBackward(dy, x, axes)],
  });
}
// Equal terms, whose rounding errors are equal too: one running sum per invocation is off by 3.4e-6.
for (const [shape, axes] of [[[16384, 256], [0]], [[256, 16384], [1]]]) {
  const value = (i: number) => Math.fround(0.3 + 0.001 * (axes[0] ? Math.floor(i / shape[1]) : i % shape[1]));
  cases.push({
    name: `sum [${shape}] of equal terms over [${axes}]`,
    inputs: [ndarray(shape, Float64Array.from({ length: shape[0] * shape[1] }, (_, i) => value(i)))],
    build: (x) => sum(x, axes),
    forward: (x) => sumForward(x, axes),
    tolerance: 8e-7,
  });
}
for (
  const [from, to] of [[[2, 3, 5], [2, 3, 5]], [[2, 3, 5], [5]], [[2, 3, 5], [3, 1]], [[2, 3, 5], [1]], [[2, 3], []]]
) {
  cases.push({
    name: `sumTo [${from}] → [${to}]`,
    inputs: [normals(from, "x")],
    build: (x) => sumTo(x, to),
    forward: (x) => sumToReference(x, to),
  });
}

testOps(cases);

Deno.test("sums and means refuse axes that are not there, or there twice", () => {
  const x = input("x", [2, 3, 4]);
  for (const axes of [[7], [3], [-1], [0.5], [1, 1]]) {
    for (const op of [sum, mean]) assert.throws(() => op(x, axes), /sum: cannot run over the axes \[/);
  }
});

Deno.test({
  name: "more than 65,535 rows, and 4,200,000 columns",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const rows = 140_000, columns = 4_200_000;
    const values = new Float32Array(2 * columns);
    for (let i = 0; i < values.length; i++) values[i] = i % 1021;
    using program = compile(gpu, {
      rows: sum(constant(values.subarray(0, 3 * rows), [rows, 3]), [1]),
      columns: sum(constant(values, [2, columns]), [0]),
    });
    const result = await program.run();
    const at = (i: number) => i % 1021;
    for (const r of [0, 65_534, 65_535, 65_536, rows - 1]) {
      assert.equal(result.rows[r], at(3 * r) + at(3 * r + 1) + at(3 * r + 2), `row ${r}`);
    }
    for (const c of [0, 65_535, columns - 1]) assert.equal(result.columns[c], at(c) + at(columns + c), `column ${c}`);
  },
});

Deno.test({
  name: "the same bytes every time, and a long sum keeps f32's precision",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const x = normals([200_000], "x");
    for (let i = 0; i < x.data.length; i++) x.data[i] = Math.fround(x.data[i] + 100);
    using program = compile(gpu, { y: sum(input("x", [200_000])) });
    const feed = { x: Float32Array.from(x.data) };
    const first = (await program.run(feed)).y[0], again = (await program.run(feed)).y[0];
    assert.equal(first, again);
    assertClose({ shape: [], data: [first] }, ndarray([], [sumForward(x).data[0]]), 3e-7);
  },
});
