/**
 * The folder of one run: its config, a lock, and files that are never seen half-written. A process killed at any moment
 * leaves a folder that `--resume` continues: whole files are written beside their place, flushed and renamed; lines are
 * appended one write at a time and a torn last one is dropped; checkpoints appear whole or not at all.
 */
import { dirname, join, resolve } from "node:path";
import { UserError } from "../src/errors.ts";
import { replaceFile, replaceFileByParts, writeAll } from "../src/weights/atomic.ts";

const LOCK = ".lock";
const CONFIG = "config.json";
const CHECKPOINTS = "checkpoints";
/** What the run was begun with (`jobs/origin.ts`). */
export const ORIGIN = "origin.json";
/** Where a run waits that is being replaced. Its config is the last to come and the first to go back, which tells cut moves. */
const REPLACED = ".replaced";
/** How `replaceFile` ends its temporary names; leftovers of a killed process are removed when the folder is opened. */
const TEMPORARY = /\.\d+\.tmp$/;

/** A saved state: a step, what was saved with it, and its bytes. */
export interface Checkpoint {
  /** Steps (or images) done when it was saved. */
  readonly step: number;
  /** Whatever `saveCheckpoint` was given. */
  readonly meta: Record<string, unknown>;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Writes a file so that readers see the old bytes or the new ones, also after a crash or a power cut.
 * @throws UserError when the disk is full; the old file is then untouched
 */
export async function writeAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  replaceFile(path, (file) => writeAll(file, bytes));
  await syncFolder(dirname(path));
}

/** Flushes a folder's entries, so that a rename survives a power cut. */
async function syncFolder(path: string): Promise<void> {
  if (Deno.build.os === "windows") return; // NTFS journals renames, and folders cannot be opened there
  const folder = await Deno.open(path);
  try {
    await folder.sync();
  } finally {
    folder.close();
  }
}

/** A system error with the path in its message: Deno leaves it out of errors on open files. */
function named(error: unknown, path: string): unknown {
  if (error instanceof Error && "code" in error && !error.message.includes("'")) error.message += `: '${path}'`;
  return error;
}

/** Lines of JSON that grow while a run goes on: losses, a manifest. Made by `RunFolder.jsonl`. */
export class JsonLines<T> {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  /** The records that were there when the file was opened. */
  readonly records: readonly T[];

  constructor(path: string, file: Deno.FsFile, records: readonly T[]) {
    this.#path = path;
    this.#file = file;
    this.records = records;
  }

  /** Appends one record. Once it returns, the line survives the death of the process. */
  append(record: T): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(record)}\n`);
    try {
      writeAll(this.#file, bytes);
    } catch (error) {
      throw named(error, this.#path);
    }
  }

  /** Flushes what was appended to the disk, so that it also survives a power cut. */
  async sync(): Promise<void> {
    await this.#file.syncData();
  }

  close(): void {
    this.#file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The records of a JSONL file; a last line without its end, or torn in the middle, is left out. */
export async function readJsonLines<T>(path: string): Promise<T[]> {
  const text = await readIfThere(path);
  if (text === undefined) return [];
  const lines = text.split("\n");
  lines.pop(); // what follows the last newline: nothing, or a torn line
  return lines.map((line, i) => {
    try {
      return JSON.parse(line) as T;
    } catch {
      throw new UserError(`${path}: line ${i + 1} is not JSON`, "the file was changed by hand; restore or remove it");
    }
  });
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** One run's folder, locked for this process until it is closed. */
export class RunFolder {
  /** Absolute path. */
  readonly path: string;
  readonly #lock: Deno.FsFile;
  readonly #files: Disposable[] = [];
  #replacing = false;

  private constructor(path: string, lock: Deno.FsFile) {
    this.path = path;
    this.#lock = lock;
  }

  /**
   * Opens or creates a run folder and locks it. The lock is the operating system's: it goes with its process, so one that
   * a killed run left behind never stands in the way.
   * @throws UserError when another process works in the folder
   */
  static async open(path: string): Promise<RunFolder> {
    const absolute = resolve(path);
    await Deno.mkdir(absolute, { recursive: true });
    const lock = await takeLock(join(absolute, LOCK), path);
    const folder = new RunFolder(absolute, lock);
    try {
      await removeTemporary(absolute);
      return folder;
    } catch (error) {
      await folder.close();
      throw error;
    }
  }

  /** Absolute path of a file in the folder. */
  file(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  /** Writes a file in the folder whole or not at all; folders on the way are made. */
  async write(name: string, data: string | Uint8Array): Promise<void> {
    const path = this.file(name);
    await Deno.mkdir(dirname(path), { recursive: true });
    await writeAtomic(path, data);
    if (data.length > 0 && isProduct(name)) await this.#settleMade();
  }

  /** The text of a file in the folder, or undefined. */
  async readText(name: string): Promise<string | undefined> {
    return await readIfThere(this.file(name));
  }

  /** The config saved with the run, or undefined in a new folder. */
  async config(): Promise<Record<string, unknown> | undefined> {
    const text = await this.readText(CONFIG);
    try {
      return text === undefined ? undefined : JSON.parse(text);
    } catch {
      throw new UserError(`${this.file(CONFIG)} is not JSON`, "choose another --out, or remove the folder");
    }
  }

  /** Saves the run's config; it marks the folder as holding a run. */
  async saveConfig(config: Record<string, unknown>): Promise<void> {
    await this.write(CONFIG, `${JSON.stringify(config, null, 2)}\n`);
  }

  /**
   * Opens a JSONL file for appending. A torn last line is cut off first.
   * @param keep which of the records already there stay; the file is rewritten without the others. A resumed run drops
   *   those that lie after its checkpoint.
   */
  async jsonl<T>(name: string, keep: (record: T, index: number) => boolean = () => true): Promise<JsonLines<T>> {
    const path = this.file(name);
    const records = (await readJsonLines<T>(path)).filter(keep);
    const text = records.map((record) => `${JSON.stringify(record)}\n`).join("");
    if (text !== await readIfThere(path)) await this.write(name, text);
    const lines = new JsonLines(path, await Deno.open(path, { append: true }), records);
    this.#files.push(lines);
    return lines;
  }

  /**
   * Saves a state under its step; a process killed meanwhile leaves the earlier ones as they were.
   * @param step steps done, 0 or more
   * @param state its bytes, as one or in pieces; what they mean is the caller's
   * @param meta small facts, kept as JSON in the same file
   * @param limit how many of the newest to keep
   */
  async saveCheckpoint(
    step: number,
    state: Uint8Array | AsyncIterable<Uint8Array>,
    meta: Record<string, unknown> = {},
    limit = 2,
  ): Promise<void> {
    const head = new TextEncoder().encode(JSON.stringify(meta));
    const start = new Uint8Array(8 + head.length), view = new DataView(start.buffer);
    view.setUint32(0, MAGIC);
    view.setUint32(4, head.length, true);
    start.set(head, 8);
    const path = this.#checkpointPath(step);
    await Deno.mkdir(dirname(path), { recursive: true });
    await replaceFileByParts(
      path,
      (async function* () {
        yield start;
        if (state instanceof Uint8Array) yield state;
        else yield* state;
      })(),
    );
    await syncFolder(dirname(path));
    await this.#settleMade();
    const steps = await this.checkpointSteps();
    for (const old of steps.slice(0, Math.max(0, steps.length - limit))) {
      await Deno.remove(this.#checkpointPath(old));
    }
  }

  /** The steps of the saved checkpoints, ascending. */
  async checkpointSteps(): Promise<number[]> {
    const steps: number[] = [];
    try {
      for await (const { name } of Deno.readDir(this.file(CHECKPOINTS))) {
        const step = /^(\d+)\.ckpt$/.exec(name);
        if (step) steps.push(Number(step[1]));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return steps.sort((a, b) => a - b);
  }

  /** The newest checkpoint, or undefined. */
  async latestCheckpoint(): Promise<Checkpoint | undefined> {
    const step = (await this.checkpointSteps()).at(-1);
    return step === undefined ? undefined : await this.checkpoint(step);
  }

  /** The checkpoint of a step; a UserError names the steps there are when it is missing. */
  async checkpoint(step: number): Promise<Checkpoint> {
    const steps = await this.checkpointSteps();
    if (!steps.includes(step)) {
      throw new UserError(
        `${this.path}: no checkpoint of step ${step}`,
        steps.length ? `there are: ${steps.join(", ")}` : "there is none yet",
      );
    }
    const path = this.#checkpointPath(step), data = await Deno.readFile(path);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const end = data.length >= 8 && view.getUint32(0) === MAGIC ? 8 + view.getUint32(4, true) : Infinity;
    if (end > data.length) {
      throw new UserError(`${path} is not a checkpoint`, "remove it; --resume takes the one before");
    }
    const meta = JSON.parse(new TextDecoder().decode(data.subarray(8, end)));
    return { step, meta, bytes: data.subarray(end) };
  }

  #checkpointPath(step: number): string {
    return this.file(CHECKPOINTS, `${String(step).padStart(8, "0")}.ckpt`);
  }

  /** What lies in the folder, without its lock and the run that is being replaced. */
  async names(): Promise<string[]> {
    return (await namesIn(this.path)).filter((name) => name !== LOCK && name !== REPLACED);
  }

  /** Moves the run in the folder aside for a new one; it is kept until that has made something. */
  async setAside(): Promise<void> {
    const names = await this.names(), aside = this.file(REPLACED);
    await Deno.mkdir(aside);
    this.#replacing = true;
    for (const name of names) if (name !== CONFIG) await Deno.rename(this.file(name), join(aside, name));
    await Deno.rename(this.file(CONFIG), join(aside, CONFIG));
    await syncFolder(this.path);
  }

  /**
   * Decides between a run that was set aside, by this process or by one that was killed, and the new one.
   * @param finished whether the new one stays even if it has made nothing
   * @returns whether the earlier run was put back
   */
  async settle(finished = false): Promise<boolean> {
    const aside = this.file(REPLACED);
    if (!await isThere(aside)) return false;
    const whole = await isThere(join(aside, CONFIG));
    if (whole && (finished || await holdsProducts(this.path))) {
      await this.#removeReplaced();
      return false;
    }
    if (whole) {
      for (const file of this.#files.splice(0)) closeQuietly(file);
      for (const name of await this.names()) {
        if (name !== CONFIG) await Deno.remove(this.file(name), { recursive: true });
      }
      await Deno.rename(join(aside, CONFIG), this.file(CONFIG));
    }
    const rest = await namesIn(aside);
    for (const name of rest) await Deno.rename(join(aside, name), this.file(name));
    await Deno.remove(aside);
    this.#replacing = false;
    return whole || rest.length > 0;
  }

  /** With the first product: the run that was set aside gives its room back. */
  async #settleMade(): Promise<void> {
    if (!this.#replacing) return;
    this.#replacing = false;
    await this.#removeReplaced();
  }

  async #removeReplaced(): Promise<void> {
    const aside = this.file(REPLACED);
    for (const name of await namesIn(aside)) {
      if (name !== CONFIG) await Deno.remove(join(aside, name), { recursive: true });
    }
    await Deno.remove(aside, { recursive: true }); // the config last: without it the rest would be put back
  }

  /** Closes the files and gives the lock back. */
  async close(): Promise<void> {
    for (const file of this.#files.splice(0)) closeQuietly(file);
    const path = this.file(LOCK);
    if (Deno.build.os === "windows") {
      this.#lock.close();
      await Deno.remove(path).catch(() => {});
    } else {
      // Removed while still held: whoever waits for this very file sees that it is no longer the one in the folder.
      await Deno.remove(path).catch(() => {});
      this.#lock.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** "ADCK": the first bytes of a checkpoint. */
const MAGIC = 0x4144434b;

function closeQuietly(file: Disposable): void {
  try {
    file[Symbol.dispose]();
  } catch {
    // Already closed by its owner.
  }
}

/** Whether a file of this name, if it is not empty, is what a run was started for: losses alone are not. */
function isProduct(name: string): boolean {
  return ![CONFIG, LOCK, REPLACED, ORIGIN].includes(name) && !name.endsWith(".jsonl");
}

async function holdsProducts(folder: string): Promise<boolean> {
  for (const name of (await namesIn(folder)).filter(isProduct)) {
    const path = join(folder, name), { isDirectory, size } = await Deno.lstat(path);
    if (isDirectory ? await holdsProducts(path) : size > 0) return true;
  }
  return false;
}

async function namesIn(path: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(path)) names.push(name);
  return names;
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function takeLock(path: string, shown: string): Promise<Deno.FsFile> {
  while (true) {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    if (!await file.tryLock(true)) {
      file.close();
      const holder = await Deno.readTextFile(path).catch(() => ""); // unreadable while locked on Windows
      throw new UserError(
        `another run is working in ${shown}${holder.trim() ? ` (process ${holder.trim()})` : ""}`,
        "wait for it or stop it, or choose another --out",
      );
    }
    const [own, there] = await Promise.all([file.stat(), Deno.stat(path).catch(() => undefined)]);
    if (there?.ino === own.ino) {
      await file.truncate();
      await file.write(new TextEncoder().encode(`${Deno.pid}\n`));
      return file;
    }
    file.close(); // the run before removed it between our open and our lock
  }
}

async function removeTemporary(folder: string): Promise<void> {
  for await (const { name, isFile, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (isDirectory) await removeTemporary(path);
    else if (isFile && TEMPORARY.test(name)) await Deno.remove(path);
  }
}
