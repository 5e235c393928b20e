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
  const temporary = `${path}.${Deno.pid}.tmp`;
  try {
    const file = Deno.openSync(temporary, { write: true, create: true, truncate: true });
    try {
      write(file);
      file.syncDataSync();
    } finally {
      file.close();
    }
    Deno.renameSync(temporary, path);
  } catch (error) {
    try {
      Deno.removeSync(temporary);
    } catch { /* it was never created */ }
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: its folder does not exist`);
    if (error instanceof Error && "code" in error && error.code === "ENOSPC") {
      throw new UserError(`${path}: the disk is full`, "free some space and run the command again");
    }
    throw error;
  }
}
