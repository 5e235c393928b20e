/**
 * Time and memory of the exact detection figures over many pixels: maps of 256 × 256 with continuous scores like a
 * softmax's, 4 % of the pixels defective in every other map, fed one by one.
 *
 *     deno run -A bench/metrics.ts [millions of pixels, 10]
 *
 * Each map is made, fed and dropped; its making is not counted. Seconds are processor time over all threads, which other work
 * on the machine disturbs less. Memory is what the scores take, and what the process holds.
 *
 * @module
 */

import process from "node:process";
import { auroc, averagePrecision, f1Max, f1Max21 } from "../src/inspection/metrics/ranking.ts";
import { auPro, auProByRank } from "../src/inspection/metrics/regions.ts";
import { LocalisationScores } from "../src/inspection/metrics/localisation.ts";

const SIDE = 256, maps = Math.ceil(Number(Deno.args[0] ?? 10) * 1e6 / SIDE / SIDE);

/** Uniform in [0, 1), from a count: fast, and every run the same. */
let state = 1;
function uniform(): number {
  state = Math.imul(state ^ state >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0;
  return ((state ^ state >>> 13) >>> 0) / 2 ** 32;
}

/** Processor time since the program began, in seconds. */
function seconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

const all = new LocalisationScores();
const scores = new Float32Array(SIDE * SIDE), mask = new Uint8Array(SIDE * SIDE);
let feeding = 0;
for (let index = 0; index < maps; index++) {
  mask.fill(0);
  for (let region = 0; index % 2 && region < 3; region++) {
    const x0 = Math.floor(uniform() * 220), y0 = Math.floor(uniform() * 220);
    for (let y = y0; y < y0 + 30; y++) mask.fill(1, y * SIDE + x0, y * SIDE + x0 + 30);
  }
  for (let i = 0; i < scores.length; i++) {
    const logit = 3 * (uniform() + uniform() + uniform() + uniform() - 2) + (mask[i] ? 1 : -4);
    scores[i] = 1 / (1 + Math.exp(-logit));
  }
  const start = seconds();
  all.add({ width: SIDE, height: SIDE, scores, mask });
  feeding += seconds() - start;
}
console.log(`${maps} maps, ${all.pixelCount} pixels`);
console.log(`${"feed".padEnd(16)}${feeding.toFixed(2)} s`);
const figures = {
  "AUROC (sorts)": () => auroc(all.pixels()),
  AP: () => averagePrecision(all.pixels()),
  "F1-max": () => f1Max(all.pixels()).f1,
  "F1-max (21)": () => f1Max21(all.pixels()),
  "AU-PRO 0.3": () => auPro(all.regions()),
  "AU-PRO (100)": () => auProByRank(all.regions()),
};
for (const [name, figure] of Object.entries(figures)) {
  const start = seconds(), value = figure();
  console.log(`${name.padEnd(16)}${(seconds() - start).toFixed(2)} s   ${value.toFixed(6)}`);
}
const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const { rss } = Deno.memoryUsage();
console.log(
  `scores take ${mib(all.bytes)} + 8 MiB (maps and masks would be ${mib(5 * all.pixelCount)}); process ${mib(rss)}`,
);
