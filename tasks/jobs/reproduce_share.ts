/**
 * Data sets for the paper's Table 7, which varies the share of each defect's pairs that is learned from: folders in MVTec
 * layout, linked to the real files, in which the first third is that share. All shares are tested on the same last half.
 */

import { basename, extname } from "node:path";
import type { Pair } from "../../src/data/mvtec.ts";
import { UserError } from "../../src/errors.ts";
import type { RunFolder } from "../run_folder.ts";
import type { Kind } from "./dataset.ts";

/** How many of `count` pairs a share stands for: at least one, never one of the tested half. */
export function shareCount(count: number, share: number): number {
  return Math.max(1, Math.min(Math.floor(count / 2), Math.round(count * share / 100)));
}

/**
 * The order of pairs in which the first third, by the program's rule, is what is learned from: `wanted`, then copies of it as
 * far as there must be others.
 * @example
 * ```ts
 * import { learnedFirst } from "./reproduce_share.ts";
 * if (learnedFirst(["a", "b"]).join("") !== "ababab") throw new Error();
 * ```
 */
export function learnedFirst<T>(wanted: readonly T[]): T[] {
  return [...wanted, ...wanted, ...wanted];
}

/** The order in which all of `tested` lies behind the first third; `before` fills that up. */
export function testedLast<T>(tested: readonly T[], before: readonly T[]): T[] {
  const third = Math.max(1, Math.floor(tested.length / 2));
  return [...Array.from({ length: third }, (_, i) => before[i % before.length]), ...tested];
}

/** Written when a data set is whole. */
const DONE = "done";

/**
 * Makes the data sets of a share, unless they are there.
 * @returns folders to learn from and to test on
 * @throws UserError for a defect with fewer than two pairs
 */
export async function shareData(
  kinds: readonly Kind[],
  share: number,
  runFolder: RunFolder,
): Promise<{ train: string; test: string }> {
  const build = async (name: string, order: (pairs: readonly Pair[]) => Pair[]) => {
    if (await runFolder.readText(`${name}/${DONE}`) !== undefined) return runFolder.file(name);
    for (const part of new Set(kinds.map((kind) => kind.part))) {
      for (const [sub, files] of [["train/good", part.good], ["test/good", part.testGood]] as const) {
        for (const path of files) await put(runFolder, path, `${name}/${part.name}/${sub}/${basename(path)}`);
      }
    }
    for (const { part, defect, key } of kinds) {
      if (defect.pairs.length < 2) throw new UserError(`${key} has one pair`, "Table 7 needs at least two");
      for (const [i, { image, mask }] of order(defect.pairs).entries()) {
        const stem = String(i).padStart(4, "0");
        await put(runFolder, image, `${name}/${part.name}/test/${defect.name}/${stem}${extname(image)}`);
        await put(runFolder, mask, `${name}/${part.name}/ground_truth/${defect.name}/${stem}_mask${extname(mask)}`);
      }
    }
    await runFolder.write(`${name}/${DONE}`, `${share} %\n`);
    return runFolder.file(name);
  };
  return {
    train: await build(`data/share-${share}`, (pairs) => learnedFirst(pairs.slice(0, shareCount(pairs.length, share)))),
    test: await build("data/last-half", (pairs) => {
      const half = Math.floor(pairs.length / 2);
      return testedLast(pairs.slice(half), pairs.slice(0, half));
    }),
  };
}

/** Puts a file into the run folder: a second name for it where the system can, else a copy. */
async function put(runFolder: RunFolder, from: string, name: string): Promise<void> {
  const to = runFolder.file(name);
  await Deno.mkdir(to.slice(0, -basename(to).length), { recursive: true });
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return; // from before the run was killed
    await runFolder.write(name, await Deno.readFile(from)); // another disk, or no hard links
  }
}
