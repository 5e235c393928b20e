/**
 * Finds the number of steps at which few-step sampling stays within the seed spread of 200-step DDIM on the small model, and
 * writes `few-steps-<date>.json` and `.md`.
 *
 *     deno run -A bench/few_steps.ts --train-run runs/demo/train [--pairs runs/demo/pairs] [--count 8] [--seeds 5] [--out bench/results]
 *
 * All but sampler, steps and seeds is as in the run of `generate` that `--pairs` names: windows, guidance and what it guides from,
 * re-weighting. Without it, they are as `generate` chooses them for the training. Every pair counts as it comes: no gate, one try.
 *
 * @module
 */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { AnomalyEmbedding } from "../src/anomaly/embedding.ts";
import { type GeneratedPair, PairGenerator, type PairJob, type PairSettings } from "../src/anomaly/generate.ts";
import { guideFromOf } from "../src/anomaly/surface.ts";
import { resizeMask } from "../src/data/augment.ts";
import { loadImage } from "../src/data/image.ts";
import { Random } from "../src/random/philox.ts";
import { partsFolder } from "../tasks/assets.ts";
import generate from "../tasks/commands/generate.ts";
import { openBase, openGpu } from "../tasks/device.ts";
import { openKinds } from "../tasks/jobs/dataset.ts";
import { maskGround, placedMask } from "../tasks/jobs/masks.ts";
import { recordedSettings } from "../tasks/jobs/regeneration.ts";
import { modelOf, readEmbedding } from "../tasks/jobs/training.ts";
import { benchEmbedding, pairSettings } from "./lib/cases_jobs.ts";
import {
  deviation,
  type FewSteps,
  fewStepsTable,
  figuresOf,
  pictureDistance,
  type Row,
  seedDistances,
  type Way,
} from "./lib/few_steps.ts";

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      "train-run": { type: "string" },
      pairs: { type: "string" },
      data: { type: "string" },
      count: { type: "string", default: "8" },
      seeds: { type: "string", default: "5" },
      reference: { type: "string", default: "200" },
      ddim: { type: "string", default: "20,50,100" },
      dpm: { type: "string", default: "6,8,10,12,16,20,30" },
      sde: { type: "string", default: "8,12,16,20,30" },
      guidance: { type: "string" },
      batch: { type: "string", default: "4" },
      out: { type: "string", default: fileURLToPath(new URL("results", import.meta.url)) },
    },
  });
  const [count, seeds, reference, batch] = [values.count, values.seeds, values.reference, values.batch].map(Number);
  if (!(seeds >= 2)) throw new Error("a spread needs --seeds 2 or more");
  const trainRun = values["train-run"],
    base = await openBase(trainRun && modelOf(trainRun, undefined)),
    gpu = await openGpu();
  const kinds = openKinds({ data: values.data ?? partsFolder() });
  // Without a training run only the machinery is tried: an untrained embedding draws nothing of sense.
  let embedding: AnomalyEmbedding, chosen = kinds;
  if (trainRun) {
    ({ embedding } = await readEmbedding(trainRun, "train", base));
    chosen = kinds.filter(({ key }) => embedding.keys.includes(key));
  } else {
    chosen = kinds.slice(0, 1);
    embedding = { ...benchEmbedding(base), keys: chosen.map(({ key }) => key) };
  }
  const { window, zoom } = { ...pairSettings, ...embedding.view };
  const recorded = values.pairs &&
    (await recordedSettings(values.pairs, undefined, generate.flags)).records[0].settings;
  const guideFrom = guideFromOf(embedding, chosen.map(({ key }) => key));
  const like = {
    ...pairSettings,
    guideFrom,
    window,
    zoom,
    ...recorded || {},
    minChange: 0,
    minChangedShare: 0,
    maxAttempts: 1,
  };
  const { sampler: _sampler, steps: _steps, eta: _eta, seed: _seed, batch: _batch, ...same }: Partial<PairSettings> =
    like;
  const guidance = values.guidance === undefined ? like.guidance : Number(values.guidance);
  const jobs: PairJob[] = [];
  for (const kind of chosen) {
    const ground = await maskGround(kind, base.side);
    for (let index = 0; index < count; index++) {
      const source = await loadImage(new Random(0, `source/${kind.key}`, index).pick(kind.part.good));
      const mask = resizeMask(placedMask(ground, 0, kind.key, index), source.width, source.height);
      jobs.push({ index, key: kind.key, source, mask });
    }
  }
  const sample = async (way: Way, seed: number): Promise<{ pairs: GeneratedPair[]; seconds: number }> => {
    const start = performance.now();
    using generator = new PairGenerator(base, embedding, { ...like, ...way, guidance, batch, seed });
    const made = await Array.fromAsync(generator.generate(jobs));
    const seconds = (performance.now() - start) / 1000 / jobs.length;
    console.log(`${way.sampler} η=${way.eta} ${way.steps} steps, seed ${seed}: ${seconds.toFixed(1)} s a pair`);
    return { pairs: jobs.map((job) => made.find((pair) => pair.job === job)!), seconds };
  };
  const list = (text: string) => text.split(",").filter(Boolean).map(Number);
  const referenceWay: Way = { sampler: "ddim", steps: reference, eta: 1 };
  const references: { pairs: GeneratedPair[]; seconds: number }[] = [];
  for (let seed = 0; seed < seeds; seed++) references.push(await sample(referenceWay, seed));
  // A seed that the reference did not have: with one of its own a way would start from that one's noise.
  const own = seeds, ode = await sample({ ...referenceWay, eta: 0 }, own);
  const drawn = references.map(({ pairs }) => pairs), bySeed = drawn.map(figuresOf), distances = seedDistances(drawn);
  const ways: Way[] = [
    { ...referenceWay, eta: 0 },
    ...list(values.ddim).flatMap((steps) => [0, 1].map((eta): Way => ({ sampler: "ddim", steps, eta }))),
    ...list(values.dpm).map((steps): Way => ({ sampler: "dpm++2m", steps, eta: 0 })),
    ...list(values.sde).map((steps): Way => ({ sampler: "dpm++sde", steps, eta: 1 })),
  ];
  const rows: Row[] = [];
  for (const [i, way] of ways.entries()) {
    const { pairs, seconds } = i === 0 ? ode : await sample(way, own), figures = figuresOf(pairs);
    const toReference = drawn.reduce((sum, other) => sum + pictureDistance(pairs, other), 0) / seeds;
    rows.push({
      way,
      seconds,
      ...figures,
      off: {
        changeInside: deviation(figures.changeInside, bySeed.map(({ changeInside }) => changeInside)),
        changedShare: deviation(figures.changedShare, bySeed.map(({ changedShare }) => changedShare)),
        distance: deviation(toReference, distances),
      },
      toReference,
      toOde: pictureDistance(pairs, ode.pairs),
    });
  }
  const result: FewSteps = {
    format: "anomalydiffusion-few-steps",
    date: new Date().toISOString(),
    adapter: gpu.info.description || gpu.info.device,
    model: base.config.name,
    pairs: jobs.length,
    seeds,
    guidance,
    settings: { ...same, guidance },
    reference: referenceWay,
    references: bySeed,
    seedDistances: distances,
    rows,
  };
  const table = fewStepsTable(result), file = join(values.out, `few-steps-${result.date.slice(0, 10)}`);
  await mkdir(values.out, { recursive: true });
  await writeFile(`${file}.json`, `${JSON.stringify(result, null, 1)}\n`);
  await writeFile(`${file}.md`, table);
  console.log(`\n${table}\n${file}.json and .md`);
}
