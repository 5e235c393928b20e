/** Small questions to the file system. */

import { UserError } from "../../src/errors.ts";

/** Whether a file is there. */
export async function existsFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Bytes of a file that an earlier command should have written. */
export async function readProduct(path: string, made: string): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
    throw new UserError(`${path} is missing`, `give the run folder of a finished ${made}`);
  }
}

/**
 * What a JSON file holds; undefined where there is none.
 * @throws UserError where it is not JSON
 */
export async function readJson<T>(path: string): Promise<T | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${path} is not JSON`, "the file was changed by hand; make the run again");
  }
}
