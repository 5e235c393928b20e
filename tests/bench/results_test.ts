import assert from "node:assert/strict";
import { channelsFirst, distance, median } from "../../bench/lib/arrays.ts";
import { measure } from "../../bench/lib/measure.ts";
import { benchPage } from "../../bench/lib/page.ts";
import {
  advantage,
  type BenchResults,
  type CaseResult,
  compareResults,
  gradientRatio,
  parseResults,
  report,
  shareOfLimit,
  verdict,
} from "../../bench/lib/results.ts";

const timing = (...runs: number[]) => ({ median: median(runs), best: Math.min(...runs), runs });

const result = (name: string, ms: number, more: Partial<CaseResult> = {}): CaseResult => ({
  ...{ name, group: "ops", flops: 2e6, repeats: 1, ours: timing(ms), rivals: {}, off: {} },
  ...more,
});

const results = (cases: readonly CaseResult[]): BenchResults => ({
  format: "anomalydiffusion-bench",
  version: 1,
  date: "2026-01-02T03:04:05.000Z",
  program: "0",
  quick: false,
  machine: {
    adapter: "a <card>",
    vendor: "v",
    software: false,
    deno: "2",
    system: "Linux x64",
    processors: 2,
  },
  limits: { matmul: { gflops: 4, what: "m" }, copy: { gbps: 2, what: "c" } },
  cases,
  host: [{
    name: "training",
    steps: 500,
    step: 10,
    host: 0.4,
    growth: { device: 0, heap: 2 ** 20, process: 0 },
  }],
});

Deno.test("bench: medians, axis order and distances", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.deepEqual([...channelsFirst(Float32Array.of(1, 2, 3, 4, 5, 6), 2)], [1, 3, 5, 2, 4, 6]);
  assert.equal(distance(Float32Array.of(3, 4), Float32Array.of(3, 4)), 0);
  assert.ok(Math.abs(distance(Float32Array.of(3, 5), Float32Array.of(3, 4)) - 0.2) < 1e-6);
  assert.equal(distance(Float32Array.of(NaN), Float32Array.of(1)), Infinity);
  assert.equal(distance(Float32Array.of(1), Float32Array.of(1, 2)), Infinity);
});

Deno.test("bench: a comparison is by name, and above 1 is slower", () => {
  const then = results([result("a", 2), result("gone", 1)]), now = results([result("new", 1), result("a", 3)]);
  assert.deepEqual(compareResults(then, now), [{ name: "a", then: 2, now: 3, ratio: 1.5, by: "clock" }]);
  const { lines, slower } = verdict(compareResults(then, now), 1.4);
  assert.deepEqual([lines, slower], [["1.50 ×  2.00 → 3.00 ms  a  SLOWER"], true]);
  assert.equal(verdict(compareResults(then, now), 1.6).slower, false);
  assert.throws(() => compareResults(then, results([result("new", 1)])), /no case in common/);
  assert.deepEqual(parseResults(JSON.stringify(then), "file"), then);
  assert.throws(() => parseResults("{}", "file.json"), /file.json is no bench result/);
});

Deno.test("bench: on a software adapter processor times are compared, where the case's work is this process's", () => {
  const software = (clock: number, processor: number) => {
    const all = results([result("a", clock, { ours: { ...timing(clock), processor } })]);
    return { ...all, machine: { ...all.machine, software: true } };
  };
  const compared = (a: BenchResults, b: BenchResults) => compareResults(a, b).map(({ ratio, by }) => [ratio, by]);
  assert.deepEqual(compared(software(2, 3), software(5, 3.3)), [[3.3 / 3, "processor time"]]);
  assert.deepEqual(compared(software(2, 0.1), software(5, 0.1)), [[2.5, "clock"]]);
  assert.deepEqual(compared(results([result("a", 2)]), software(5, 3)), [[2.5, "clock"]]);
});

Deno.test("bench: shares of the limits and ratios to others", () => {
  const { limits } = results([]);
  // 2 MFLOP in 1 ms are 2 GFLOP/s, half of the best; 1 MB in 1 ms is 1 GB/s, half of the best.
  assert.equal(shareOfLimit(result("a", 1), limits), 0.5);
  assert.equal(shareOfLimit(result("a", 1, { bytes: 1e6 }), limits), 0.5);
  assert.equal(shareOfLimit(result("a", 1, { flops: 0 }), limits), undefined);
  const other = result("a", 2, { rivals: { "ort-wasm": timing(5), "ort-webgpu": { failed: "no adapter" } } });
  assert.equal(advantage(other, "ort-wasm"), 2.5);
  assert.equal(advantage(other, "ort-webgpu"), undefined);
  assert.equal(
    gradientRatio([result("U-Net forward, 8", 2), result("U-Net forward + gradient to the context, 8", 5)]),
    2.5,
  );
});

Deno.test("bench: table and page show every case, escaped, with nothing from outside", () => {
  const all = results([
    result("one & only", 2, {
      product: 2,
      rivals: { "ort-wasm": timing(5), "ort-webgpu": { failed: "no <adapter>" } },
    }),
  ]);
  const lines = report(all).join("\n"), page = benchPage(all);
  assert.match(lines, /one & only +2\.00 +1\.0 +25 % +failed +5\.00 +2\.50/);
  // 2 MFLOP in 2 ms are 1 GFLOP/s.
  assert.match(lines, /best product's rate in the same rounds, medians:\none & only: 50 % of 2\.0 GFLOP\/s/);
  assert.match(lines, /500 steps of 10\.0 ms, JavaScript at most 4\.0 %; growth device 0\.0 MiB, heap 1\.0 MiB/);
  assert.ok(
    page.includes("one &#38; only: 50 % of 2.0 GFLOP/s") && page.includes("no &#60;adapter&#62;") &&
      page.includes("a &#60;card&#62;"),
  );
  assert.ok(!/https?:|src=|<script|@import|url\(/.test(page));
});

Deno.test("bench: sides take turns, a side with another output or an error is not timed, all are closed", async () => {
  const order: string[] = [], probed: number[] = [];
  const open = (name: string, values: number[]) => ({
    run: () => (order.push(name), Promise.resolve(Float32Array.from(values))),
    release: () => Promise.resolve(void order.push(`${name} closed`)),
  });
  const measured = await measure(
    {
      ...{ name: "case", group: "ops", flops: 8, repeats: 2 },
      ours: {
        run: () => (order.push("ours"), Promise.resolve(Float32Array.of(1, 2))),
        dispose: () => void order.push("ours closed"),
      },
      rival: (which) => Promise.resolve(which === "ort-wasm" ? open("wasm", [1, 2.0001]) : open("gpu", [1, 3])),
    },
    ["ort-webgpu", "ort-wasm"],
    3,
    { run: () => (order.push("product"), probed.push(probed.length + 1), Promise.resolve(probed.length)) },
  );
  const turns = Array(3).fill(["ours", "product", "wasm"]).flat();
  assert.deepEqual(order, ["ours", "gpu", "wasm", ...turns, "wasm closed", "gpu closed", "ours closed"]);
  assert.deepEqual(probed, [1, 2, 3], "after each of our runs, and nobody else's");
  assert.equal(measured.product, 2);
  assert.equal(measured.flops, 4);
  assert.equal(measured.ours.runs.length, 3);
  assert.match((measured.rivals["ort-webgpu"] as { failed: string }).failed, /differs by 4\.5e-1/);
  assert.ok(measured.off["ort-wasm"]! < 1e-4 && "median" in measured.rivals["ort-wasm"]!);
});
