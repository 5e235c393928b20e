/**
 * Measures ours against onnxruntime-web's WebGPU and WebAssembly providers and against the adapter's own limits, in one
 * process and in turns. Prints a table; writes `<date>-<adapter>.json` and a page beside it.
 *
 *     deno task bench [--quick] [--filter words] [--groups ops,jobs] [--soak] [--compare FILE [--threshold 1.15]] [--out FOLDER]
 *
 * @module
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import os from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Gpu } from "../src/gpu/device.ts";
import { selectBackend } from "../tasks/adapter.ts";
import { loadChoices } from "../tasks/tuning.ts";
import { VERSION } from "../tasks/version.ts";
import { opCases } from "./lib/cases_ops.ts";
import { networkCases } from "./lib/cases_networks.ts";
import { jobCases } from "./lib/cases_jobs.ts";
import { hostFigures } from "./lib/host.ts";
import { betterLimits, measureLimits, openProbe } from "./lib/limits.ts";
import { measure } from "./lib/measure.ts";
import { benchPage } from "./lib/page.ts";
import {
  type BenchResults,
  type CaseResult,
  compareResults,
  ms,
  parseResults,
  report,
  verdict,
} from "./lib/results.ts";
import { type Rival, rivals } from "./lib/rivals.ts";

/** What is measured: single ops, networks, whole jobs; JavaScript's share and growth of memory. */
const GROUPS = ["ops", "networks", "jobs", "host"] as const;

const HELP = `deno task bench [flags]
  --quick            small networks, few runs: to see that everything works
  --filter WORDS     only cases whose name holds all of these words (repeat the flag)
  --groups LIST      ${GROUPS.join(",")} (default: all, without host where there is a --filter)
  --rivals LIST      ${rivals.join(",")} (default: all; none: ours alone)
  --width N          channels of the U-Net (default 128)
  --autoencoder N    channels of the autoencoder (default 32)
  --rounds N         runs of each side (default 7)
  --soak             500 steps of training and sampling: JavaScript's share, growth of memory
  --compare FILE     ratios to an earlier run; exit code 1 past --threshold
  --threshold RATIO  slower than this is a regression (default 1.15)
  --out FOLDER       where the results go (default bench/results; --quick: nowhere)
`;

/** File name of a run, with the part of it that was chosen: 2026-11-24-llvmpipe-llvm-15-0-6-256-bits-ops. */
function fileName({ date, machine }: BenchResults, chosen: readonly string[]): string {
  const words = [machine.adapter, ...chosen].join(" ").toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return `${date.slice(0, 10)}-${words.replace(/^-|-$/g, "")}`;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      quick: { type: "boolean", default: false },
      filter: { type: "string", multiple: true, default: [] },
      groups: { type: "string" },
      rivals: { type: "string" },
      width: { type: "string" },
      autoencoder: { type: "string" },
      rounds: { type: "string" },
      soak: { type: "boolean", default: false },
      compare: { type: "string" },
      threshold: { type: "string", default: "1.15" },
      out: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const { quick } = values, words = values.filter.flatMap((text) => text.split(/\s+/));
  const number = (text: string | undefined, otherwise: number) => {
    const value = text === undefined ? otherwise : Number(text);
    if (!(value > 0)) throw new Error(`${text} is not a number above 0`);
    return value;
  };
  const groups: readonly string[] = values.groups?.split(",") ?? GROUPS;
  for (const name of groups) {
    if (!(GROUPS as readonly string[]).includes(name)) {
      throw new Error(`--groups knows ${GROUPS.join(", ")}, not ${name}`);
    }
  }
  const against = values.rivals === undefined
    ? [...rivals]
    : values.rivals.split(",").filter((name) => name !== "none");
  for (const name of against) {
    if (!(rivals as readonly string[]).includes(name)) {
      throw new Error(`--rivals knows ${rivals.join(", ")}, not ${name}`);
    }
  }
  const threshold = number(values.threshold, 1.15);
  // deno task changes to the project's folder.
  const here = (path: string) => resolve(Deno.env.get("INIT_CWD") ?? ".", path);
  const earlier = values.compare && parseResults(await readFile(here(values.compare), "utf8"), values.compare);
  const wanted = ({ name }: { readonly name: string }) => words.every((word) => name.includes(word));

  selectBackend();
  using gpu = await Gpu.open();
  gpu.choices = loadChoices(gpu.info, (line) => console.error(`warning: ${line}`));
  console.log(`${gpu.info.description || gpu.info.device}: the adapter's limits …`);
  const alone = groups.every((name) => name === "host"); // nothing is compared with the limits then
  let limits = await measureLimits(gpu, quick || alone);
  const sizes = {
    width: number(values.width, quick ? 32 : 128),
    side: quick ? 16 : 32,
    autoencoderWidth: number(values.autoencoder, 32),
  };
  const rounds = number(values.rounds, quick ? 3 : 7);
  const cases: CaseResult[] = [];
  using probe = await openProbe(gpu, limits);
  for (
    const entry of [
      ...groups.includes("ops") ? opCases(gpu, () => limits, quick) : [],
      ...groups.includes("networks") ? networkCases(gpu, sizes) : [],
      ...groups.includes("jobs") ? jobCases(gpu, quick) : [],
    ].filter(wanted)
  ) {
    const opened = await entry.open();
    const result = await measure(opened, against as Rival[], rounds, opened.flops && !opened.bytes ? probe : undefined);
    cases.push(result);
    const others = against.map((name) => {
      const theirs = result.rivals[name as Rival];
      return theirs ? `, ${name} ${"failed" in theirs ? `failed: ${theirs.failed}` : `${ms(theirs.median)} ms`}` : "";
    });
    console.log(`${entry.name}: ${ms(result.ours.median)} ms${others.join("")}`);
    gpu.trim();
  }
  // Once more at the end: other work on the machine can only make a limit look lower.
  if (!alone) limits = betterLimits(limits, await measureLimits(gpu, quick));
  const soaked = values.soak ? 500 : quick ? 4 : 40;
  const hosted = values.groups === undefined ? values.soak || words.length === 0 : groups.includes("host");
  const host = hosted ? await hostFigures(gpu, soaked) : [];
  const results: BenchResults = {
    format: "anomalydiffusion-bench",
    version: 1,
    date: new Date().toISOString(),
    program: VERSION,
    quick,
    machine: {
      adapter: gpu.info.description || gpu.info.device,
      vendor: gpu.info.vendor,
      software: gpu.info.isFallbackAdapter,
      deno: Deno.version.deno,
      system: `${os.type()} ${os.arch()}`,
      processors: os.availableParallelism(),
    },
    limits,
    cases,
    host,
  };
  console.log();
  for (const line of report(results)) console.log(line);
  if (values.out !== undefined || !quick) {
    const folder = values.out ? here(values.out) : fileURLToPath(new URL("results", import.meta.url));
    await mkdir(folder, { recursive: true });
    const file = join(folder, fileName(results, [...values.groups ? groups : [], ...words]));
    await writeFile(`${file}.json`, `${JSON.stringify(results, null, 1)}\n`);
    await writeFile(`${file}.html`, benchPage(results));
    console.log(`\n${file}.json and .html`);
  }
  const wrong = cases.filter(({ off }) => Object.values(off).some((value) => value > 1e-3));
  for (const { name, off } of wrong) console.error(`${name}: outputs differ: ${JSON.stringify(off)}`);
  if (!earlier) return wrong.length ? 1 : 0;
  if (earlier.machine.adapter !== results.machine.adapter) {
    console.log(`\n${values.compare} is of another adapter: ${earlier.machine.adapter}`);
  }
  console.log(`\nagainst ${values.compare} (${earlier.date.slice(0, 10)}):`);
  const { lines, slower } = verdict(compareResults(earlier, results), threshold);
  for (const line of lines) console.log(line);
  return wrong.length || slower ? 1 : 0;
}

if (import.meta.main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    console.error(`error: ${(error as Error).message}`);
    if (Deno.env.get("ANOMALYDIFFUSION_DEBUG")) console.error(error);
    process.exitCode = 2;
  }
}
