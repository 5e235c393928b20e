/** Every error that a person can meet is one line and one exit code. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { UserError } from "../../src/errors.ts";
import { describeError, EXIT, Interrupted, UsageError } from "../../tasks/errors.ts";

function lines(error: unknown): string {
  const told = describeError(error);
  assert.ok(told.lines.every((line) => !line.includes("\n") && !/^\s+at /.test(line)), told.lines.join("|"));
  return told.lines.join("|");
}

Deno.test("describeError() tells user errors with their hint", () => {
  assert.equal(lines(new UserError("a", "do c")), "error: a|  hint: do c");
  assert.equal(describeError(new UserError("a")).code, EXIT.error);
  assert.equal(describeError(new UsageError("a")).code, EXIT.usage);
  assert.equal(describeError(new Interrupted()).code, EXIT.interrupted);
});

Deno.test("a file's name cannot start a line of its own, nor an error of another library", () => {
  // UserError replaces control characters, so what a file was named is seen to be strange
  assert.equal(lines(new UserError("a\nb\x1b[2J", "do c")), "error: a\ufffdb\ufffd[2J|  hint: do c");
  assert.match(lines(new Error("a\nb")), /^error: .*a; b\|/);
});

Deno.test("describeError() tells system errors by what they mean", async () => {
  const missing = await Deno.readTextFile("/no/such/file").catch((error) => error);
  assert.match(lines(missing), /^error: no such file or folder: \/no\/such\/file\|/);
  const folder = await Deno.readTextFile(".").catch((error) => error);
  assert.match(lines(folder), /folder stands where a file is needed/);
  const file = fileURLToPath(import.meta.url), taken = await Deno.mkdir(file, { recursive: true }).catch((e) => e);
  assert.equal(lines(taken), `error: a file is there already: ${file}|  hint: choose another path`);
});

Deno.test({
  name: "describeError() tells a full disk",
  ignore: Deno.build.os !== "linux", // /dev/full is Linux's own
  async fn() {
    const full = await Deno.writeTextFile("/dev/full", "x").catch((error) => error);
    assert.match(lines(full), /^error: the disk is full: \/dev\/full\|.*--resume/);
  },
});

Deno.test({
  name: "describeError() tells a folder that Deno keeps to the system",
  permissions: { read: true, write: true },
  ignore: Deno.build.os !== "linux",
  async fn() {
    const kept = await Deno.mkdir("/dev/shm/run").catch((error) => error);
    assert.match(lines(kept), /^error: \/dev\/shm\/run is in a system folder.*outside \/dev/);
    assert.match(lines(new Deno.errors.NotCapable("Requires net access")), /fault of the program/);
  },
});

Deno.test("describeError() tells a lost device, and says of anything else that it is the program's fault", () => {
  assert.match(lines(new Error("Parent device is lost")), /graphics device was lost.*--resume/);
  assert.match(lines(new TypeError("x is undefined")), /^error: TypeError: x is undefined\|.*fault of the program/);
  assert.match(lines("text"), /^error: text\|/);
});
