/**
 * `deno task test`: everything that must hold before a change is kept, step by step; every step runs, and those that
 * failed are named at the end. `deno task test lint types` runs only these.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { selectBackend } from "./adapter.ts";
import { PERMISSIONS } from "./compile.ts";
import { nearest } from "./flags.ts";
import { formatDuration } from "./progress.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const CODE = ["src", "tasks", "tests", "bench", "fixtures", "mod.ts"];

/** One step: its name and what it runs. */
interface Step {
  readonly name: string;
  run(): Promise<boolean>;
}

/** Runs Deno in the repository; the paths in `args` that do not exist are left out. */
async function deno(...args: string[]): Promise<boolean> {
  const { success } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT, stdin: "null" }).spawn().status;
  return success;
}

function present(...paths: string[]): string[] {
  return paths.filter((path) => {
    try {
      return Boolean(Deno.statSync(join(ROOT, path)));
    } catch {
      return false;
    }
  });
}

/** What a JUnit report says of the tests that failed: the test, its file and the first line of its error. */
export function failures(report: string): string[] {
  const plain = (text: string) =>
    text.replaceAll("&quot;", '"').replaceAll("&apos;", "'").replaceAll("&lt;", "<").replaceAll("&gt;", ">")
      .replaceAll("&amp;", "&");
  const found: string[] = [];
  for (const [, attributes, body] of report.matchAll(/<testcase ([^>]*[^/])>([^]*?)<\/testcase>/g)) {
    const failure = /<failure message="([^"]*)">([^]*?)<\/failure>/.exec(body);
    if (!failure) continue;
    const [name, file] = ["name", "classname"].map((key) =>
      new RegExp(`\\b${key}="([^"]*)"`).exec(attributes)?.[1] ?? ""
    );
    const text = failure[2].trim() || failure[1];
    found.push(plain(`${name} (${file}): ${text.split("\n").slice(0, 3).join(" | ")}`));
  }
  return found;
}

/** All tests. Those that fail are kept for the end of the run: a log that is cut from its top still names them. */
async function tests(): Promise<boolean> {
  const report = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const good = await deno("test", "-A", "--quiet", `--junit-path=${report}`, "tests");
    failed.push(...failures(await Deno.readTextFile(report)));
    return good;
  } finally {
    await Deno.remove(report);
  }
}

/** The failed tests of this run, a line each. */
const failed: string[] = [];

/** The demo, as small as it gets, from an empty folder to its page; then the same pairs once more, byte for byte. */
async function endToEnd(): Promise<boolean> {
  const folder = await Deno.makeTempDir({ prefix: "anomalydiffusion-" });
  const size = ["--count", "1", "--max-train-steps", "4", "--mask-train-steps", "2", "--steps", "3"];
  try {
    const runs = [join(folder, "a"), join(folder, "b")];
    for (const out of runs) {
      if (!await deno("run", ...PERMISSIONS, "tasks/main.ts", "demo", ...size, "--out", out)) return false;
    }
    const [a, b] = runs.map((out) => pictures(out));
    if (!a.size) {
      console.error("the demo wrote no picture");
      return false;
    }
    const different = [...a.keys()].filter((name) => a.get(name) !== b.get(name));
    for (const name of different) console.error(`${name} differs between two runs with one seed`);
    const page = await Deno.readTextFile(join(runs[0], "index.html"));
    if (/(src|href)="https?:/.test(page)) console.error("the page reaches for the network");
    return !different.length && a.size === b.size && page.includes("data:image/png;base64,");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Every PNG under a folder, by its path, as text of its bytes. */
function pictures(folder: string, sub = "", found = new Map<string, string>()): Map<string, string> {
  for (const { name, isDirectory } of Deno.readDirSync(join(folder, sub))) {
    const path = join(sub, name);
    if (isDirectory) pictures(folder, path, found);
    else if (name.endsWith(".png")) {
      found.set(path, new TextDecoder("latin1").decode(Deno.readFileSync(join(folder, path))));
    }
  }
  return found;
}

const STEPS: readonly Step[] = [
  { name: "format", run: () => deno("fmt", "--check", "--quiet") },
  { name: "lint", run: () => deno("lint", "--quiet") },
  { name: "types", run: () => deno("check", "--quiet", ...present(...CODE)) },
  // Every public name with a comment, and every type that it speaks of public too.
  { name: "docs", run: () => deno("doc", "--lint", "--quiet", "mod.ts") },
  { name: "examples", run: () => deno("test", "--doc", "-A", "--quiet", ...present("src", "tasks", "mod.ts")) },
  { name: "tests", run: tests },
  { name: "end-to-end", run: endToEnd },
];

/** Runs the named steps, or all of them; returns the exit code. */
async function verify(words: readonly string[]): Promise<number> {
  const names = STEPS.map(({ name }) => name);
  for (const word of words) {
    if (names.includes(word)) continue;
    const guess = nearest(word, names);
    console.error(`error: unknown step ${word}; ${guess ? `did you mean ${guess}?` : `there are ${names.join(", ")}`}`);
    return 2;
  }
  selectBackend();
  const results: string[] = [];
  let bad = 0;
  for (const step of STEPS) {
    if (words.length && !words.includes(step.name)) continue;
    console.log(`\n=== ${step.name}`);
    const start = performance.now();
    const good = await step.run().catch((error) => {
      console.error(error);
      return false;
    });
    if (!good) bad++;
    results.push(
      `${good ? "ok    " : "FAILED"}  ${step.name.padEnd(12)}${formatDuration((performance.now() - start) / 1000)}`,
    );
  }
  console.log(`\n${results.join("\n")}`);
  if (failed.length) console.error(`\nfailed tests:\n${failed.join("\n")}`);
  if (bad) console.error(`\n${bad} of ${results.length} steps failed`);
  return bad ? 1 : 0;
}

if (import.meta.main) Deno.exit(await verify(Deno.args));
