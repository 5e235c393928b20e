/**
 * The program for tests: in this process (the device and its compiled kernels are shared by all calls of a test file), as a
 * child process, and in this process until it "dies": from its n-th change to the disk on nothing reaches the disk any more,
 * and a write in progress is torn, which is what SIGKILL leaves behind.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { main } from "../../tasks/main.ts";
import { writeTinyData } from "../support/tiny_data.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

/** What a call printed, and its exit code. */
export interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A folder for a test file with the tiny model and the tiny data; calls name everything in it by relative paths. */
export class Workshop {
  readonly path = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "end-to-end-" }));

  constructor() {
    writeTinyModel(this.file("model"));
    writeTinyData(this.file("data"));
    globalThis.addEventListener("unload", () => Deno.removeSync(this.path, { recursive: true }));
  }

  /** Absolute path of something in the folder. */
  file(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  /** The words of a command line, with `@name` for a path in the folder. */
  words(line: string): string[] {
    return line.trim().split(/\s+/).map((word) => word.startsWith("@") ? this.file(word.slice(1)) : word);
  }

  /** Runs the program in this process. */
  async run(line: string): Promise<Result> {
    let out = "", err = "";
    const { log, error } = console, write = Deno.stderr.writeSync;
    console.log = (...words) => out += `${words.join(" ")}\n`;
    console.error = (...words) => err += `${words.join(" ")}\n`;
    Deno.stderr.writeSync = (bytes) => (err += new TextDecoder().decode(bytes), bytes.length); // progress
    try {
      return { code: await main(this.words(line)), out, err };
    } finally {
      Object.assign(console, { log, error });
      Deno.stderr.writeSync = write;
    }
  }

  /** Runs the program in this process and fails unless it ends well. */
  async good(line: string): Promise<Result> {
    const result = await this.run(line);
    if (result.code !== 0) throw new Error(`exit code ${result.code} from: ${line}\n${result.err}`);
    return result;
  }

  /** Runs the program in this process until its n-th change to the disk. True where it died before its end. */
  async runUntilWrite(n: number, line: string): Promise<boolean> {
    const dead = mortal(n);
    try {
      await this.run(line);
      return dead();
    } finally {
      dead.revive();
    }
  }

  /** Starts the program as a process of its own. */
  spawn(line: string, env: Record<string, string> = {}): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", MAIN, ...this.words(line)],
      stdout: "piped",
      stderr: "piped",
      env: { ...env, NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "", ANOMALYDIFFUSION_DEBUG: "" },
    }).spawn();
  }

  /** Waits until a file is there, or until the process has ended. */
  async waitFor(name: string, child: Deno.ChildProcess): Promise<void> {
    let ended = false;
    child.status.then(() => ended = true);
    while (!ended && !exists(this.file(name))) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** Every file below a folder by its path, as text of its bytes; `only` chooses. */
  contents(folder: string, only: (path: string) => boolean = () => true): Record<string, string> {
    const files: Record<string, string> = {};
    const visit = (sub: string) => {
      for (const { name, isDirectory } of Deno.readDirSync(this.file(folder, sub))) {
        const path = sub ? `${sub}/${name}` : name;
        if (isDirectory) visit(path);
        else if (only(path)) files[path] = new TextDecoder("latin1").decode(Deno.readFileSync(this.file(folder, path)));
      }
    };
    visit("");
    return files;
  }

  /** What a run is for: its pictures, embeddings, losses and manifest; not its checkpoints and its lock. */
  products(folder: string): Record<string, string> {
    return this.contents(folder, (path) => !/(^|\/)(checkpoints\/|\.lock$)/.test(path));
  }
}

/** What a process of the program printed, once it has ended. */
export async function ended(child: Deno.ChildProcess): Promise<Result> {
  const { code, stdout, stderr } = await child.output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

/** Fails unless a result is one error line, with one hint at most, that blames no fault of the program. */
export function assertRefused({ code, out, err }: Result, message: RegExp): void {
  const lines = err.trimEnd().split("\n"), at = lines.findIndex((line) => line.startsWith("error: "));
  assert.ok(code === 1 || code === 2, `exit code ${code}\n${err}`);
  assert.equal(out, "");
  assert.match(lines[at] ?? "", message, err);
  const rest = lines.slice(at + 1);
  assert.ok(rest.length <= 1 && rest.every((line) => /^ {2}hint: \S/.test(line)), err);
  assert.ok(
    lines.slice(0, at).every((line) =>
      /^(encoding|learning rates?|learning from|masks|pairs|surfaces|training( masks)?)\b/.test(line)
    ),
    err,
  ); // progress
  assert.doesNotMatch(err, /fault of the program|^\s+at /m);
}

const MAIN = fileURLToPath(new URL("../../tasks/main.ts", import.meta.url));

/** Whether something is there. */
export function exists(path: string): boolean {
  try {
    return Boolean(Deno.lstatSync(path));
  } catch {
    return false;
  }
}

/** Functions of Deno that change the disk. */
const SYNC = ["renameSync", "removeSync", "mkdirSync"] as const;
const ASYNC = ["rename", "remove", "mkdir"] as const;

/** Lets the disk change n − 1 times; the n-th change is torn or does not happen, and none after it. */
function mortal(n: number): { (): boolean; revive(): void } {
  let left = n;
  const disk = Deno as unknown as Record<string, (...words: unknown[]) => unknown>;
  const file = Deno.FsFile.prototype as unknown as Record<string, (...words: unknown[]) => unknown>;
  const saved: [Record<string, unknown>, string, unknown][] = [];
  const replace = (
    on: Record<string, (...words: unknown[]) => unknown>,
    name: string,
    make: (own: (...words: unknown[]) => unknown) => (this: unknown, ...words: unknown[]) => unknown,
  ) => {
    saved.push([on, name, on[name]]);
    on[name] = make(on[name]);
  };
  const spend = () => {
    if (left > 0) left--;
    if (left === 0) throw new Error("the process is dead");
  };
  const isWriting = (options: unknown) => {
    const { write, append, create, truncate } = (options ?? {}) as Deno.OpenOptions;
    return Boolean(write || append || create || truncate);
  };
  for (const name of SYNC) replace(disk, name, (own) => (...words) => (spend(), own(...words)));
  // deno-lint-ignore require-await
  for (const name of ASYNC) replace(disk, name, (own) => async (...words) => (spend(), own(...words)));
  replace(disk, "openSync", (own) => (path, options) => {
    if (isWriting(options)) spend();
    return own(path, options);
  });
  // deno-lint-ignore require-await
  replace(disk, "open", (own) => async (path, options) => {
    if (isWriting(options)) spend();
    return own(path, options);
  });
  replace(file, "writeSync", (own) =>
    function (bytes) {
      const before = left;
      try {
        spend();
      } catch (error) {
        if (before > 0) own.call(this, (bytes as Uint8Array).subarray(0, (bytes as Uint8Array).length >> 1));
        throw error;
      }
      return own.call(this, bytes);
    });
  const dead = () => left === 0;
  return Object.assign(dead, { revive: () => saved.forEach(([on, name, own]) => on[name] = own) });
}
