/** The program from outside: exit codes, one line for each mistake, resume after Ctrl-C and after a kill. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { PERMISSIONS } from "../../tasks/compile.ts";

const MAIN = fileURLToPath(new URL("../../tasks/main.ts", import.meta.url));
const COUNTING = fileURLToPath(new URL("./counting_program.ts", import.meta.url));

interface Result {
  code: number;
  out: string;
  err: string;
}

function command(program: string, args: string[], env: Record<string, string> = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, "--no-check", program, ...args],
    stdout: "piped",
    stderr: "piped",
    env: { ...env, NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "", ANOMALYDIFFUSION_DEBUG: "" },
  });
}

async function run(program: string, args: string[], env?: Record<string, string>): Promise<Result> {
  const { code, stdout, stderr } = await command(program, args, env).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

async function temporary(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "main-" });
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Every file of a folder with its bytes as text. */
function contents(folder: string): Record<string, string> {
  const files: Record<string, string> = {};
  const visit = (sub: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(join(folder, sub))) {
      const path = join(sub, name);
      if (isDirectory) visit(path);
      else files[path] = new TextDecoder("latin1").decode(Deno.readFileSync(join(folder, path)));
    }
  };
  visit("");
  return files;
}

/** Starts a slow count and does something to it once it has printed a line. */
async function interrupt(out: string, signal: Deno.Signal, lines: number, ...more: string[]): Promise<Result> {
  const child = command(COUNTING, ["count", "--word", "w", "--out", out, "--delay", "20", ...more]).spawn();
  let text = "";
  const decoder = new TextDecoder();
  const err = new Response(child.stderr).text();
  let sent = false;
  for await (const chunk of child.stdout) {
    text += decoder.decode(chunk);
    if (!sent && text.split("\n").length > lines) {
      child.kill(signal);
      sent = true;
    }
  }
  return { code: (await child.status).code, out: text, err: await err };
}

Deno.test("help and version print to stdout and exit with 0; no command exits with 2", async () => {
  const version = await run(MAIN, ["--version"]);
  assert.match(version.out, /^anomalydiffusion \d+\.\d+\.\d+ \(Deno \d/);
  assert.equal(version.code, 0);
  const help = await run(MAIN, ["--help"]);
  assert.equal(help.code, 0);
  for (const name of ["demo", "doctor", "pretrain", "train", "train-masks", "generate-masks", "generate"]) {
    assert.match(help.out, new RegExp(`^  ${name} `, "m"));
  }
  const page = await run(MAIN, ["help", "generate"]);
  assert.match(page.out, /--guidance-scale <number>[^]*default 3\)/);
  const nothing = await run(MAIN, []);
  assert.equal(nothing.code, 2);
  assert.equal(nothing.out, "");
});

Deno.test("mistakes on the command line are one line with a hint and exit with 2", async () => {
  const unknown = await run(MAIN, ["generat"]);
  assert.deepEqual(unknown, {
    code: 2,
    out: "",
    err: "error: unknown command generat\n  hint: did you mean generate?\n",
  });
  const flag = await run(MAIN, ["train", "--sed", "3"]);
  assert.deepEqual(flag, { code: 2, out: "", err: "error: unknown flag --sed\n  hint: did you mean --seed?\n" });
  const missing = await run(MAIN, ["train"]);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /^error: missing --data <folder> and --out <folder>\n/);
});

Deno.test({
  name: "a machine without a Vulkan driver gets one clear line and no run folder",
  ignore: Deno.build.os !== "linux", // other systems bring their driver along
  fn: () =>
    temporary(async (folder) => {
      const out = join(folder, "run");
      const env = { VK_DRIVER_FILES: "/no/such/driver.json", VK_ICD_FILENAMES: "/no/such/driver.json" };
      const { code, err } = await run(MAIN, ["train", "--data", folder, "--out", out], env);
      assert.equal(code, 1);
      assert.match(
        err,
        /^error: no graphics adapter: .*\n +hint: .*apt-get install libvulkan1 mesa-vulkan-drivers.*\n$/,
      );
      assert.deepEqual([...Deno.readDirSync(folder)], []);
      const doctor = await run(MAIN, ["doctor"], env);
      assert.equal(doctor.code, 1);
      assert.match(doctor.out, /^Adapter +none$/m);
    }),
});

Deno.test("a run saves its config; a second one in the same folder is refused, resumed or replaced", () =>
  temporary(async (folder) => {
    const out = join(folder, "run"), args = ["count", "--out", out];
    const first = await run(COUNTING, [...args, "--word", "w", "--to", "7", "--factor", "2"]);
    assert.equal(first.code, 0, first.err);
    assert.match(first.err, /counting: 7 numbers in/);
    const config = JSON.parse(await Deno.readTextFile(join(out, "config.json")));
    assert.deepEqual([config.command, config.to, config.factor, config.word], ["count", 7, 2, "w"]);
    assert.equal("out" in config || "delay" in config, false);

    const again = await run(COUNTING, [...args, "--word", "w"]);
    assert.equal(again.code, 1);
    assert.match(again.err, /^error: .* already holds a run of count\n +hint: add --resume .*--overwrite/);

    const other = await run(COUNTING, [...args, "--resume", "--factor", "3"]);
    assert.equal(other.code, 2);
    assert.match(other.err, /--factor 3 differs from the run's own 2/);

    const further = await run(COUNTING, [...args, "--resume", "--to", "12"]);
    assert.equal(further.code, 0, further.err);
    assert.equal(await Deno.readTextFile(join(out, "result.txt")), "w 156\n");
    assert.equal(JSON.parse(await Deno.readTextFile(join(out, "config.json"))).to, 12);

    const fromStep = await run(COUNTING, [...args, "--resume_from_checkpoint", "5"]);
    assert.equal(fromStep.out.split("\n")[0], "6");

    const replaced = await run(COUNTING, [...args, "--overwrite", "--word", "v", "--to", "3"]);
    assert.equal(replaced.code, 0, replaced.err);
    assert.deepEqual(Object.keys(contents(out)).sort(), ["config.json", "result.txt", "sums.jsonl"]);
  }));

Deno.test("--overwrite keeps the run before until the new one has made something, whatever becomes of it", () =>
  temporary(async (folder) => {
    const out = join(folder, "run"), args = ["count", "--word", "w", "--out", out];
    assert.equal((await run(COUNTING, args)).code, 0);
    const before = contents(out), over = [...args, "--factor", "2", "--overwrite"];
    for (const fail of [["--fail", "user"], ["--fail", "fault"], ["--fail-at", "4"]]) {
      const { code, err } = await run(COUNTING, [...over, ...fail]);
      assert.equal(code, 1, err);
      assert.deepEqual(contents(out), before, fail.join(" "));
    }
    const stopped = await interrupt(out, "SIGINT", 1, "--early", "--overwrite");
    assert.equal(stopped.code, 130);
    assert.match(stopped.err, /^stopped before anything was made: the run before is back$/m);
    assert.deepEqual(contents(out), before);

    const killed = await interrupt(out, "SIGKILL", 2, "--factor", "2", "--overwrite");
    assert.notEqual(killed.code, 0);
    assert.equal("checkpoints/00000005.ckpt" in contents(out), false, "killed too late for this test");
    const told = await run(COUNTING, ["count", "--out", out, "--resume"]);
    assert.match(told.err, /^error: .*run holds the run before again: .* killed before .*\n +hint: .*--overwrite/);
    assert.equal(told.code, 1);
    assert.deepEqual(contents(out), before);

    const failed = await run(COUNTING, [...over, "--fail-at", "8"]); // a checkpoint is there
    assert.equal(failed.code, 1);
    const rest = await run(COUNTING, ["count", "--out", out, "--resume"]);
    assert.equal(rest.code, 0, rest.err);
    assert.equal(rest.out.split("\n")[0], "6");
    assert.equal(await Deno.readTextFile(join(out, "result.txt")), "w 420\n");
    assert.equal(Object.keys(contents(out)).some((name) => name.startsWith(".replaced")), false);
  }));

Deno.test("a config file does what its flags do", () =>
  temporary(async (folder) => {
    const file = join(folder, "c.json"), a = join(folder, "a"), b = join(folder, "b");
    await Deno.writeTextFile(file, JSON.stringify({ word: "w", to: 9, factor: 0.5, out: b }));
    assert.equal((await run(COUNTING, ["count", "--word", "w", "--to", "9", "--factor", "0.5", "--out", a])).code, 0);
    assert.equal((await run(COUNTING, ["count", "--config", file])).code, 0);
    assert.deepEqual(contents(a), contents(b));
    await Deno.writeTextFile(file, "{ not json");
    const broken = await run(COUNTING, ["count", "--config", file]);
    assert.deepEqual([broken.code, broken.err.split("\n").length], [2, 2]);
    assert.match(broken.err, /c\.json is not JSON/);
    const missing = await run(COUNTING, ["count", "--config", join(folder, "none.json")]);
    assert.equal(missing.code, 1);
    assert.match(missing.err, /no such file or folder: .*none\.json/);
  }));

Deno.test("Ctrl-C saves, exits with 130 and says how to go on; the resumed run gives the same bytes", () =>
  temporary(async (folder) => {
    const whole = join(folder, "whole"), parts = join(folder, "parts");
    assert.equal((await run(COUNTING, ["count", "--word", "w", "--out", whole])).code, 0);
    const stopped = await interrupt(parts, "SIGINT", 7);
    assert.equal(stopped.code, 130, stopped.err);
    assert.match(stopped.err, new RegExp(`stopped; to go on: .* --out ${parts} --resume`));
    const rest = await run(COUNTING, ["count", "--out", parts, "--resume"]);
    assert.equal(rest.code, 0, rest.err);
    assert.ok(Number(rest.out.split("\n")[0]) > 7, "it went on where it stopped");
    assert.deepEqual(contents(parts), contents(whole));
  }));

Deno.test("a run that is stopped before it wrote anything keeps its settings and goes on with --resume", () =>
  temporary(async (folder) => {
    const out = join(folder, "early");
    const early = await interrupt(out, "SIGINT", 1, "--early");
    assert.equal(early.code, 130, early.err);
    assert.match(early.err, new RegExp(`stopped; to go on: .* --out ${out} --resume`));
    assert.deepEqual(Object.keys(contents(out)), ["config.json"]);
    const rest = await run(COUNTING, ["count", "--out", out, "--resume"]);
    assert.equal(rest.code, 0, rest.err);
  }));

Deno.test("a run killed at once, early and late resumes to the same bytes", () =>
  temporary(async (folder) => {
    const whole = join(folder, "whole");
    assert.equal((await run(COUNTING, ["count", "--word", "w", "--out", whole])).code, 0);
    for (const lines of [0, 3, 13]) {
      const out = join(folder, `killed-${lines}`);
      const killed = await interrupt(out, "SIGKILL", lines);
      assert.notEqual(killed.code, 0);
      const rest = await run(COUNTING, ["count", "--word", "w", "--out", out, "--resume"]);
      assert.equal(rest.code, 0, rest.err);
      assert.deepEqual(contents(out), contents(whole));
    }
  }));

Deno.test("a run that fails before it wrote anything leaves nothing; faults show no stack unless asked", () =>
  temporary(async (folder) => {
    const out = join(folder, "run"), args = ["count", "--word", "w", "--out", out, "--fail"];
    const user = await run(COUNTING, [...args, "user"]);
    assert.deepEqual(user, { code: 1, out: "", err: "error: this cannot be counted\n  hint: count something else\n" });
    assert.deepEqual([...Deno.readDirSync(folder)], []);
    const fault = await run(COUNTING, [...args, "fault"]);
    assert.equal(fault.code, 1);
    assert.match(fault.err, /^error: TypeError: a bug\n +hint: .*ANOMALYDIFFUSION_DEBUG=1/);
    assert.doesNotMatch(fault.err, /^\s+at /m);
  }));

Deno.test("a folder that holds something else, or is busy, is left alone", () =>
  temporary(async (folder) => {
    await Deno.writeTextFile(join(folder, "mine.txt"), "precious");
    for (const extra of [[], ["--resume"], ["--overwrite"]]) {
      const { code, err } = await run(COUNTING, ["count", "--word", "w", "--out", folder, ...extra]);
      assert.equal(code, 1);
      assert.match(err, /is not empty and holds no run/);
    }
    assert.deepEqual(contents(folder), { "mine.txt": "precious" });
  }));
