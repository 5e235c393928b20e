/**
 * What is worth knowing of a graphics card that this program has not run on yet, in one go: whether results are right there, and
 * where the time goes before and after `tune`. Each step has a limit, so that one that hangs costs no more than that.
 *
 *     deno run -A bench/card.ts --out FOLDER [--only doctor,small,tests]
 *
 * Writes FOLDER/card.txt (every step's own words), the table that `tune` made, and the bench's results. With
 * ANOMALYDIFFUSION_GOLDENS naming the full model's reference files, `large` compares with them. `--deno-flags` go to every
 * Deno that is started, as --cached-only where there is no network.
 *
 * @module
 */

import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CACHE } from "../tasks/tuning.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** A step: its name, the most seconds it may take, and what is run. */
type Step = readonly [name: string, seconds: number, ...command: string[]];

const run = (line: string) => ["run", "-A", "tasks/main.ts", ...line.split(" ")];
const profile = (line: string) => run(`plan --measure --profile${line && ` ${line}`}`);

/** Sizes of jobs whose kernels are timed: the small model's and the full one's. */
const SMALL = ["", "--train", "--train --tune --batch 24"],
  LARGE = ["", "--train"].map((job) => `--model large ${job}`.trim());

/** The steps, what matters most first. */
function stepsFor(out: string): Step[] {
  const profiles = (when: string, jobs: readonly string[], seconds: number): Step[] =>
    jobs.map((job) => [when, seconds, ...profile(job)]);
  return [
    ["doctor", 30, ...run("doctor")],
    ...profiles("small", SMALL, 30),
    ...profiles("large-plan", LARGE, 45),
    [
      "tests",
      180,
      "test",
      "-A",
      "--no-check",
      "--quiet",
      "--parallel",
      "tests/ops",
      "tests/gpu",
      "tests/graph",
      "tests/models",
    ],
    ["demo", 120, ...run(`demo --out ${join(out, "demo")}`)],
    ["tune", 180, ...run("tune --verbose")],
    ...profiles("small-tuned", SMALL, 30),
    ["bench", 120, ...[
      "run",
      "-A",
      "--v8-flags=--expose-gc",
      "bench/main.ts",
      "--rivals",
      "none",
      "--out",
      join(out, "bench"),
    ]],
    ["large", 240, "test", "-A", "--no-check", "tests/models/large_test.ts"],
  ];
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: { out: { type: "string" }, only: { type: "string" }, "deno-flags": { type: "string", default: "" } },
  });
  if (!values.out) throw new Error("--out FOLDER says where the results go");
  const out = resolve(values.out), text = join(out, "card.txt"), only = values.only?.split(",");
  const steps = stepsFor(out), names = new Set(steps.map(([name]) => name));
  for (const name of only ?? []) {
    if (!names.has(name)) throw new Error(`--only knows ${[...names].join(", ")}, not ${name}`);
  }
  const extra = values["deno-flags"].split(" ").filter(Boolean);
  await mkdir(out, { recursive: true });
  await writeFile(text, `${new Date().toISOString()}, Deno ${Deno.version.deno}\n`);
  let bad = 0;
  for (const [name, seconds, verb, ...args] of steps) {
    if (only ? !only.includes(name) : name === "large" && !Deno.env.get("ANOMALYDIFFUSION_GOLDENS")) continue;
    const start = performance.now(), limit = AbortSignal.timeout(1000 * seconds);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [verb, ...extra, ...args],
      cwd: ROOT,
      env: { [CACHE]: out, NO_COLOR: "1", ANOMALYDIFFUSION_LARGE: name === "large" ? "1" : "0" },
      signal: limit,
    }).output();
    const took = ((performance.now() - start) / 1000).toFixed(1),
      end = limit.aborted ? "stopped at its limit" : `exit ${code}`;
    const words = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("\n");
    await appendFile(text, `\n=== ${name}: ${args.join(" ")}\n${words}\n=== ${name}: ${took} s, ${end}\n`);
    console.log(`${name}: ${took} s, ${end}`);
    if (code !== 0) bad++;
  }
  console.log(text);
  return bad ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main());
