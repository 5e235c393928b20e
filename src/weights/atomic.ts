/**
 * Files that appear whole or not at all: written beside their place under a temporary name, flushed, then renamed
 * (POSIX `rename` replaces in one step). A killed process leaves the old file as it was.
 */

import { UserError } from "../errors.ts";

/** Writes every byte, however many calls that takes. */
export function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

/**
 * Creates or replaces a file atomically.
 * @param path where the file shall appear; its folder must exist
 * @param write writes the content to the open file
 * @throws {UserError} if the folder is missing or the disk is full; the old file, if any, is untouched
 */
export function replaceFile(path: string, write: (file: Deno.FsFile) => void): void {
  const replacement = new Replacement(path);
  try {
    write(replacement.file);
    replacement.commit();
  } catch (error) {
    replacement.fail(error);
  }
}

/** As {@linkcode replaceFile}, of pieces that come one after the other: only one of them need be in memory. */
export async function replaceFileByParts(path: string, parts: AsyncIterable<Uint8Array>): Promise<void> {
  const replacement = new Replacement(path);
  try {
    for await (const bytes of parts) writeAll(replacement.file, bytes);
    replacement.commit();
  } catch (error) {
    replacement.fail(error);
  }
}

/** A file on its way to its name. */
class Replacement {
  readonly #path: string;
  readonly #temporary: string;
  #file: Deno.FsFile | undefined;

  constructor(path: string) {
    this.#path = path;
    this.#temporary = `${path}.${Deno.pid}.tmp`;
  }

  get file(): Deno.FsFile {
    return this.#file ??= Deno.openSync(this.#temporary, { write: true, create: true, truncate: true });
  }

  commit(): void {
    this.file.syncDataSync();
    this.#close();
    Deno.renameSync(this.#temporary, this.#path);
  }

  #close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  fail(error: unknown): never {
    this.#close();
    try {
      Deno.removeSync(this.#temporary);
    } catch { /* it was never created */ }
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${this.#path}: its folder does not exist`);
    if (error instanceof Error && "code" in error && error.code === "ENOSPC") {
      throw new UserError(
        `${this.#path}: the disk is full`,
        "free some space and run the command again; a run in --out goes on with --resume",
      );
    }
    throw error;
  }
}
