/**
 * What a run was begun with, kept in its folder: a base model, training pairs, embeddings. Settings are in its config; these lie
 * elsewhere, where anybody may replace them, and a run that went on with others would be neither's.
 */

import { createHash } from "node:crypto";
import type { LabelledSample } from "../../src/anomaly/training_set.ts";
import { UserError } from "../../src/errors.ts";
import type { Context } from "../command.ts";
import { ORIGIN } from "../run_folder.ts";
import { readJson } from "./files.ts";

/** SHA-256 of one thing, or of several by name. */
type Hashes = string | Readonly<Record<string, string>>;

const byName = (hashes: Hashes): Readonly<Record<string, string>> =>
  typeof hashes === "string" ? { "": hashes } : hashes;

/** Opened by {@linkcode Origin.open}; what a folder does not say, as one from before there was such a file, is accepted. */
export class Origin {
  readonly #runFolder: Context["runFolder"];
  readonly #before: Readonly<Record<string, Hashes>>;
  readonly #now: Record<string, Hashes> = {};

  private constructor(runFolder: Context["runFolder"], before: Readonly<Record<string, Hashes>>) {
    this.#runFolder = runFolder;
    this.#before = before;
  }

  /** Reads what the run folder says. */
  static async open({ runFolder }: Pick<Context, "runFolder">): Promise<Origin> {
    return new Origin(runFolder, await readJson<Record<string, Hashes>>(runFolder.file(ORIGIN)) ?? {});
  }

  /**
   * Notes what the run works with now.
   * @param what in words: `base model`, `training pairs`
   * @throws UserError where it began with something else
   */
  note(what: string, hashes: Hashes): void {
    this.#now[what] = hashes;
    const before = this.#before[what];
    if (before === undefined) return;
    const old = byName(before), own = byName(hashes);
    for (const name of [...new Set([...Object.keys(old), ...Object.keys(own)])].sort()) {
      if (old[name] === own[name]) continue;
      const those = name ? `${what} of ${name}` : what, other = what.endsWith("s") ? "other" : "another";
      const how = own[name] === undefined
        ? `with ${those}, which are gone`
        : old[name] === undefined
        ? `without ${those}`
        : `with ${other} ${those}`;
      throw new UserError(
        `${this.#runFolder.path} began ${how}`,
        "put back what it began with, or begin anew with --overwrite or another --out",
      );
    }
  }

  /** Writes what was noted, before the first thing that follows from it. */
  async keep(): Promise<void> {
    const text = `${JSON.stringify({ ...this.#before, ...this.#now }, null, 2)}\n`;
    if (text !== await this.#runFolder.readText(ORIGIN)) await this.#runFolder.write(ORIGIN, text);
  }
}

/**
 * SHA-256 of each kind's training pairs, as they are learned from.
 * @param masks of their masks alone
 */
export function pairHashes(samples: readonly LabelledSample[], masks = false): Record<string, string> {
  return Object.fromEntries([...Map.groupBy(samples, ({ key }) => key)].map(([key, own]) => {
    const hash = createHash("sha256");
    for (const { image, mask } of own) {
      for (const { width, height, data } of masks ? [mask] : [image, mask]) {
        hash.update(`${width} × ${height}\n`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      }
    }
    return [key, hash.digest("hex")];
  }));
}
