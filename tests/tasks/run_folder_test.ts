/** A run folder survives what happens to processes: kills in the middle of a write, second runs, torn lines. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { readJsonLines, RunFolder, writeAtomic } from "../../tasks/run_folder.ts";

const MODULE = new URL("../../tasks/run_folder.ts", import.meta.url).href;

async function temporary(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "run-folder-" });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function start(folder: string, code: string): Deno.ChildProcess {
  const program = `import { RunFolder } from ${JSON.stringify(MODULE)};
    const folder = await RunFolder.open(${JSON.stringify(folder)});\n${code}`;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-RWE", "--no-check", "--ext=ts", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  });
  const child = command.spawn();
  const writer = child.stdin.getWriter();
  writer.write(new TextEncoder().encode(program)).then(() => writer.close());
  return child;
}

/** Lets a child write until it has printed `count` times, kills it at once, and waits for its end. */
async function killAfter(child: Deno.ChildProcess, count: number): Promise<void> {
  let seen = 0, killed = false;
  for await (const chunk of child.stdout) {
    seen += chunk.length;
    if (seen < count || killed) continue; // what was in the pipe comes after the end
    child.kill("SIGKILL");
    killed = true;
  }
  await child.status;
}

Deno.test("a second run in the same folder is refused in one line; after the first ends it may start", () =>
  temporary(async (path) => {
    const first = await RunFolder.open(path);
    await assert.rejects(RunFolder.open(path), (error: UserError) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, new RegExp(`^another run is working in .*process ${Deno.pid}`));
      return true;
    });
    await first.close();
    await (await RunFolder.open(path)).close();
    assert.deepEqual([...Deno.readDirSync(path)], []);
  }));

Deno.test("what a run began with is no product: the run that it is to replace comes back", () =>
  temporary(async (path) => {
    for (const [name, back] of [["origin.json", true], ["embeddings.safetensors", false]] as const) {
      await using folder = await RunFolder.open(join(path, name));
      await folder.saveConfig({ command: "train" });
      await folder.write("old.png", "old");
      await folder.setAside();
      await folder.saveConfig({ command: "train" });
      await folder.write(name, "new");
      assert.equal(await folder.settle(), back);
      assert.deepEqual((await folder.names()).sort(), ["config.json", back ? "old.png" : name]);
    }
  }));

Deno.test("another process's lock is seen, and goes with it when it is killed", () =>
  temporary(async (path) => {
    const child = start(
      path,
      `Deno.stdout.writeSync(new Uint8Array([33])); await new Promise((r) => setTimeout(r, 6e4));`,
    );
    const reader = child.stdout.getReader();
    await reader.read();
    await assert.rejects(RunFolder.open(path), new RegExp(`process ${child.pid}`));
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    await using folder = await RunFolder.open(path);
    assert.equal((await Deno.readTextFile(folder.file(".lock"))).trim(), String(Deno.pid));
  }));

Deno.test("a process killed in the middle of writes never leaves half a file", () =>
  temporary(async (path) => {
    const size = 3_000_000;
    for (let round = 0; round < 3; round++) {
      const child = start(
        path,
        `for (let i = 1; ; i++) {
          await folder.write("state.bin", new Uint8Array(${size}).fill(i % 251));
          await folder.saveCheckpoint(i, new Uint8Array(${size}).fill(i % 251), { i });
          Deno.stdout.writeSync(new Uint8Array([46]));
        }`,
      );
      await killAfter(child, 3 + round);
      await using folder = await RunFolder.open(path);
      const state = await Deno.readFile(folder.file("state.bin"));
      assert.equal(state.length, size);
      assert.ok(state.every((byte) => byte === state[0]), "state.bin mixes two writes");
      const checkpoint = await folder.latestCheckpoint();
      assert.ok(checkpoint && checkpoint.step >= 2);
      assert.equal(checkpoint.meta.i, checkpoint.step);
      assert.equal(checkpoint.bytes.length, size);
      assert.ok(checkpoint.bytes.every((byte) => byte === checkpoint.step % 251), "the checkpoint mixes two writes");
      const left = [...Deno.readDirSync(path), ...Deno.readDirSync(join(path, "checkpoints"))].map((e) => e.name);
      assert.deepEqual(left.filter((name) => name.includes(".tmp")), []);
    }
  }));

Deno.test("lines appended before a kill are all there, and the next run goes on after them", () =>
  temporary(async (path) => {
    const child = start(
      path,
      `const lines = await folder.jsonl("loss.jsonl");
      for (let step = 0; ; step++) { lines.append({ step, text: "x".repeat(step % 97) }); Deno.stdout.writeSync(new Uint8Array([46])); }`,
    );
    await killAfter(child, 500);
    await Deno.writeTextFile(join(path, "loss.jsonl"), `{"step":99`, { append: true });
    await using folder = await RunFolder.open(path);
    const lines = await folder.jsonl<{ step: number }>("loss.jsonl");
    assert.ok(lines.records.length >= 500);
    assert.ok(lines.records.every(({ step }, i) => step === i));
    lines.append({ step: lines.records.length });
    const read = await readJsonLines<{ step: number }>(folder.file("loss.jsonl"));
    assert.equal(read.at(-1)!.step, lines.records.length);
    assert.equal(read.length, lines.records.length + 1);
  }));

Deno.test("jsonl() drops what lies after the checkpoint; a broken line in the middle is told", () =>
  temporary(async (path) => {
    await using folder = await RunFolder.open(path);
    await folder.write("a.jsonl", `{"step":1}\n{"step":2}\n{"step":3}\n`);
    using lines = await folder.jsonl<{ step: number }>("a.jsonl", ({ step }) => step <= 2);
    lines.append({ step: 30 });
    assert.equal(await folder.readText("a.jsonl"), `{"step":1}\n{"step":2}\n{"step":30}\n`);
    await folder.write("b.jsonl", `{"step":1}\nnot json\n{"step":3}\n`);
    await assert.rejects(folder.jsonl("b.jsonl"), /b\.jsonl: line 2 is not JSON/);
  }));

Deno.test("checkpoints: only the newest are kept, one is found by its step, others are named", () =>
  temporary(async (path) => {
    await using folder = await RunFolder.open(path);
    assert.equal(await folder.latestCheckpoint(), undefined);
    for (const step of [50, 100, 1000, 150]) await folder.saveCheckpoint(step, Uint8Array.of(step % 256), { step }, 3);
    assert.deepEqual(await folder.checkpointSteps(), [100, 150, 1000]);
    assert.deepEqual([...(await folder.checkpoint(150)).bytes], [150]);
    assert.equal((await folder.latestCheckpoint())!.step, 1000);
    await assert.rejects(folder.checkpoint(50), (error: UserError) => {
      assert.match(error.message, /no checkpoint of step 50/);
      assert.match(error.hint!, /100, 150, 1000/);
      return true;
    });
    await writeAtomic(folder.file("checkpoints", "00002000.ckpt"), "something else");
    await assert.rejects(folder.latestCheckpoint(), /is not a checkpoint/);
  }));

Deno.test({
  name: "a disk that fills up leaves the old file and one clear line",
  ignore: Deno.build.os !== "linux" || Deno.uid() !== 0, // a small disk can only be mounted by root
  async fn() {
    await temporary(async (path) => {
      const mounted = await new Deno.Command("mount", {
        args: ["-t", "tmpfs", "-o", "size=256k", "tmpfs", path],
        stdout: "null",
        stderr: "null",
      }).output();
      if (!mounted.success) return; // an unprivileged container; the mapping itself is tested with /dev/full
      try {
        await using folder = await RunFolder.open(path);
        await folder.write("state.bin", new Uint8Array(100_000).fill(1));
        const error = await folder.write("state.bin", new Uint8Array(200_000).fill(2)).catch((e) => e);
        assert.match(error.message, /state\.bin: the disk is full/);
        assert.match(error.hint, /^free some space .*--resume$/);
        assert.ok((await Deno.readFile(folder.file("state.bin"))).every((byte) => byte === 1));
        assert.deepEqual([...Deno.readDirSync(path)].map((e) => e.name).sort(), [".lock", "state.bin"]);
      } finally {
        await new Deno.Command("umount", { args: [path] }).output();
      }
    });
  },
});
