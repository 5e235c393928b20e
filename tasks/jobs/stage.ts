/** Running one command inside another, in a run folder of its own. */

import { join } from "node:path";
import type { AnyCommand, Context } from "../command.ts";
import { restDevice } from "../device.ts";
import { complete, type Values } from "../flags.ts";
import { RunFolder } from "../run_folder.ts";

/** A command with its folder and the flags that differ from their defaults. */
export interface CommandStage {
  readonly command: AnyCommand;
  /** Below the outer run folder, with forward slashes. */
  readonly folder: string;
  readonly given: Values;
}

/** File in a stage's folder that says that it is done. */
const DONE = "done";

/** What a stage said that lies in this folder and is done; undefined where there is none. */
export async function readDone(folder: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(join(folder, DONE));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** What the stage said when it was done; undefined where it is not. */
export async function doneWith({ folder }: CommandStage, { runFolder }: Context): Promise<string | undefined> {
  return await runFolder.readText(`${folder}/${DONE}`);
}

/**
 * Runs a stage from where it was left, and marks it as done.
 * @param done what to say then
 * @param print where the command's own prints go
 */
export async function runStage(
  { command, folder, given }: CommandStage,
  context: Context,
  done: string,
  print: Context["print"] = context.print,
): Promise<void> {
  await using runFolder = await RunFolder.open(context.runFolder.file(folder));
  const checkpoint = await runFolder.latestCheckpoint(), { signal, log, progress } = context;
  try {
    await command.run(complete(command.flags, given), { signal, log, progress, print, runFolder, checkpoint });
  } finally {
    await restDevice();
  }
  await runFolder.write(DONE, done);
}
