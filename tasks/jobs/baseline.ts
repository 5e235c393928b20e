/**
 * Making the pairs of a baseline without a model in a run folder: the layout and the manifest of `generate`, and for one
 * seed the same normal images, so that methods can be compared picture by picture.
 */

import { pairFigures } from "../../src/anomaly/figures.ts";
import type { Made, RealPair } from "../../src/baselines/method.ts";
import { modelFree, type ModelFreeName } from "../../src/baselines/mod.ts";
import { pictureTextures, proceduralTextures, type TextureSource } from "../../src/baselines/textures.ts";
import { isImageName, loadImage, toPng, unreadPictures } from "../../src/data/image.ts";
import { loadPair } from "../../src/data/mvtec.ts";
import { UserError } from "../../src/errors.ts";
import { Random } from "../../src/random/philox.ts";
import type { Context } from "../command.ts";
import { type JsonLines, readJsonLines } from "../run_folder.ts";
import { type Kind, nameIn } from "./dataset.ts";
import { regionOf, summarisePairs } from "./pair_summary.ts";
import { MANIFEST, type ManifestRecord } from "./pairs.ts";

/** One line of a baseline's manifest: `generate`'s, without what only a model has. */
export interface BaselineRecord extends
  Pick<
    ManifestRecord,
    | "part"
    | "defect"
    | "index"
    | "image"
    | "mask"
    | "source"
    | "maskSource"
    | "seed"
    | "attempt"
    | "accepted"
    | "figures"
  > {
  readonly method: ModelFreeName;
  /** Whether anomalies were kept on the part, and the range of β where the method has one. */
  readonly settings: { readonly onPart: boolean; readonly opacity?: readonly number[] };
  /** What was drawn for this picture: texture, β, form. */
  readonly details: Record<string, string | number>;
}

/** What to make. */
export interface BaselineRun {
  readonly method: ModelFreeName;
  readonly data: string;
  readonly count: number;
  readonly seed: number;
  /** The method's own where left out. */
  readonly onPart?: boolean;
  readonly minOpacity?: number;
  readonly maxOpacity?: number;
  /** Folder of textures, searched with all folders in it; procedural ones where left out. */
  readonly textures?: string;
}

/** Tries for a mask that marks something. */
const TRIES = 20;

/** Makes `count` pairs of each kind; those in the manifest stay. */
export async function makeBaseline(kinds: readonly Kind[], run: BaselineRun, context: Context): Promise<void> {
  const { method, seed, count } = run, { runFolder, signal } = context, baseline = modelFree[method];
  const onPart = run.onPart ?? baseline.onPart, opacity = opacityOf(run);
  const textures = baseline.textures && run.textures ? folderTextures(run.textures, context) : proceduralTextures;
  const before = await readJsonLines<BaselineRecord>(runFolder.file(MANIFEST));
  const finished = new Set(before.map((r) => `${r.part}+${r.defect} ${r.index}`));
  let manifest: JsonLines<BaselineRecord> | undefined; // opened once there is something to write
  const start = before.length;
  const progress = context.progress({ label: "pairs", total: count * kinds.length, unit: "pair", start });
  let done = start;
  for (const kind of kinds) {
    const { key, part, defect } = kind;
    const missing = Array.from({ length: count }, (_, i) => i).filter((i) => !finished.has(`${key} ${i}`));
    if (missing.length === 0) continue;
    const pairs: RealPair[] = [];
    for (const pair of defect.train) pairs.push({ name: nameIn(run.data, pair.mask), ...await loadPair(pair) });
    const region = onPart ? await regionOf(kind) : undefined;
    for (const index of missing) {
      signal.throwIfAborted();
      const path = new Random(seed, `source/${key}`, index).pick(part.good); // the choice of `generate`
      const source = await loadImage(path);
      let made: Made | undefined, attempt = 0;
      for (; attempt < TRIES && !made?.mask.data.includes(1); attempt++) {
        const random = new Random(seed, `baseline/${method}/${key}/${attempt}`, index);
        made = await baseline.make({ source, part: region?.(source), pairs, textures, opacity }, random);
      }
      if (!made?.mask.data.includes(1)) {
        throw new UserError(
          `${key}: ${method} marked no pixel of ${path} in ${TRIES} tries`,
          "the defects are too small for this image; give larger images, or --no-on-part",
        );
      }
      const figures = pairFigures(source, made.image, made.mask, Float32Array.from(made.mask.data));
      const stem = String(index).padStart(4, "0");
      const record: BaselineRecord = {
        part: part.name,
        defect: defect.name,
        index,
        image: `${part.name}/test/${defect.name}/${stem}.png`,
        mask: `${part.name}/ground_truth/${defect.name}/${stem}_mask.png`,
        source: nameIn(run.data, path),
        maskSource: made.maskSource,
        seed,
        attempt: attempt - 1,
        accepted: true,
        figures: Object.fromEntries(Object.entries(figures).map(([k, v]) => [k, Number(v.toFixed(5))])),
        method,
        settings: { onPart, ...(baseline.opacity ? { opacity } : {}) },
        details: made.details,
      };
      // The pair first: a line in the manifest says that both files are whole.
      await runFolder.write(record.image, toPng(made.image));
      await runFolder.write(record.mask, toPng(made.mask));
      manifest ??= await runFolder.jsonl<BaselineRecord>(MANIFEST);
      manifest.append(record);
      progress.update(++done);
    }
  }
  manifest?.close();
  // In one order, whatever the order of several calls: more kinds may have been added to an earlier run.
  const records = (await readJsonLines<BaselineRecord>(runFolder.file(MANIFEST))).sort((a, b) =>
    a.part.localeCompare(b.part) || a.defect.localeCompare(b.defect) || a.index - b.index
  );
  await runFolder.write(MANIFEST, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  progress.finish();
  await summarisePairs({ kinds, data: run.data, records }, context);
}

/** The range of β: the method's own, unless the user gave another. */
function opacityOf({ method, minOpacity, maxOpacity }: BaselineRun): readonly [number, number] {
  const own = modelFree[method].opacity ?? [1, 1];
  const range = [
    minOpacity ?? Math.min(own[0], maxOpacity ?? 1),
    maxOpacity ?? Math.max(own[1], minOpacity ?? 0),
  ] as const;
  if (range[0] > range[1]) {
    throw new UserError(`--min-opacity ${range[0]} is above --max-opacity ${range[1]}`, "give the smaller one first");
  }
  return range;
}

/** Textures of a folder and of the folders in it, sorted by path. */
function folderTextures(folder: string, { log }: Pick<Context, "log">): TextureSource {
  const paths: string[] = [], others: string[] = [];
  const visit = (path: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(path)) {
      if (name.startsWith(".")) continue;
      if (isDirectory) visit(`${path}/${name}`);
      else if (isImageName(name)) paths.push(`${path}/${name}`);
      else others.push(name);
    }
  };
  try {
    visit(folder);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
    throw new UserError(`${folder}: no such folder of textures`, "leave --textures out for procedural ones");
  }
  const unread = unreadPictures(folder, others);
  if (unread) log(unread);
  if (paths.length === 0) {
    throw new UserError(`${folder} holds no images`, "give a folder of textures, or leave --textures out");
  }
  return pictureTextures(paths.sort(), (path) => nameIn(folder, path));
}
