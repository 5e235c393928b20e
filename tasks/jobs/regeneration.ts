/** Making pairs of a manifest again: the same sources, masks, numbers and settings, and a comparison with what is there. */

import { join } from "node:path";
import type { BaseModel } from "../../src/anomaly/base_model.ts";
import { type AnomalyEmbedding, withStatistics } from "../../src/anomaly/embedding.ts";
import { PairGenerator, type PairJob } from "../../src/anomaly/generate.ts";
import { encodeImage, loadImage, type Mask } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import type { Context } from "../command.ts";
import { complete, type Flags, type OptionsOf, readConfig } from "../flags.ts";
import { type JsonLines, readJsonLines } from "../run_folder.ts";
import { openKinds } from "./dataset.ts";
import { existsFile, readJson } from "./files.ts";
import { type MaskGround, maskGround, placedMask } from "./masks.ts";
import {
  adapterName,
  controlledRecords,
  fit,
  makeControls,
  MANIFEST,
  type ManifestRecord,
  missingControls,
  readMask,
} from "./pairs.ts";

/** Settings of a group of pairs, without how many were made at once. */
type Recorded = ManifestRecord["settings"];

/**
 * What a run folder of `generate` says of its pairs.
 * @param images only these, by their names in the manifest; all where undefined
 * @param flags of `generate`
 * @returns records, and the run's settings; empty settings where it has no config.json of generate, as in a demo or in what a page kept
 */
export async function recordedSettings<F extends Flags>(
  folder: string,
  images: readonly string[] | undefined,
  flags: F,
): Promise<{ records: ManifestRecord[]; config: Partial<OptionsOf<F>> }> {
  const all = await readJsonLines<ManifestRecord>(join(folder, MANIFEST));
  if (all.length === 0 || all.some(({ settings, maskSource }) => !settings || !maskSource)) {
    throw new UserError(`${folder} holds no manifest of generate`, "give the run folder of generate");
  }
  const wanted = new Set(images), records = images ? all.filter(({ image }) => wanted.delete(image)) : all;
  if (images && wanted.size) {
    throw new UserError(
      `${join(folder, MANIFEST)} has no image ${[...wanted].join(", ")}`,
      `its images are named as ${all[0].image}`,
    );
  }
  const path = join(folder, "config.json"), saved = await readJson<Record<string, unknown>>(path);
  return {
    records,
    config: saved?.command === "generate" ? complete(flags, readConfig(flags, "generate", saved, path)) : {},
  };
}

/** What to make again, and of what. */
export interface Regeneration {
  /** Run folder of the pairs. */
  readonly pairs: string;
  readonly data: string;
  readonly masks?: string;
  readonly officialSplit?: boolean;
  readonly allPairs?: boolean;
  readonly base: BaseModel;
  readonly embedding: AnomalyEmbedding;
  /** SHA-256 of the embedding file. */
  readonly embeddingHash: string;
  /** How many to make at once. */
  readonly batch: (settings: Recorded) => number;
}

/**
 * Makes the pairs of the records again, and the controls of those that have one, and compares each image with the run's.
 * @throws UserError where model or embeddings are others, a source or a mask is gone, or an image differs
 */
export async function remakePairs(records: readonly ManifestRecord[], run: Regeneration, context: Context) {
  const { base, embedding, pairs } = run, { runFolder, signal } = context;
  if (records.some(({ model }) => model !== base.sha256)) {
    throw new UserError(`${pairs} was made with another base model`, "give its --model");
  }
  if (records.some(({ embeddings }) => embeddings !== run.embeddingHash)) {
    throw new UserError(`${pairs} was made with other embeddings`, "give the --train-run that it was made with");
  }
  const finished = new Set((await readJsonLines<ManifestRecord>(runFolder.file(MANIFEST))).map(({ image }) => image));
  const groups = Map.groupBy(records, ({ settings }) => JSON.stringify(settings));
  const controls = controlledRecords(records).length, missing = new Set(await missingControls(records, context));
  const start = finished.size + controls - missing.size, total = records.length + controls;
  const progress = context.progress({ label: "images", total, unit: "image", start });
  let done = start, manifest: JsonLines<ManifestRecord> | undefined;
  const masks = masksOf(run);
  for (const group of groups.values()) {
    const origins = new Map<PairJob, ManifestRecord>();
    const jobs = async function* (): AsyncGenerator<PairJob> {
      for (const record of group) {
        if (finished.has(record.image)) continue;
        const source = await loadImage(join(run.data, record.source));
        const mask = fit(await masks(record), source);
        const { index, attempt } = record,
          job = { index, attempt, key: `${record.part}+${record.defect}`, source, mask };
        origins.set(job, record);
        yield job;
      }
    };
    const settings = { ...group[0].settings, batch: run.batch(group[0].settings) };
    using generator = new PairGenerator(base, withStatistics(embedding, settings.officialBn), settings);
    for await (const { job, image } of generator.generate(jobs(), { next: () => signal.throwIfAborted() })) {
      const record = origins.get(job)!;
      origins.delete(job);
      const format = record.image.endsWith(".png") ? "png" : "jpeg";
      await runFolder.write(record.image, await encodeImage(image, format));
      await runFolder.write(record.mask, await encodeImage(job.mask, format));
      manifest ??= await runFolder.jsonl<ManifestRecord>(MANIFEST);
      manifest.append({ ...record, adapter: adapterName(base.gpu) });
      progress.update(++done);
    }
    // After the pairs, as `generate` does: with a batch's statistics (--official-bn) it matters what is made together.
    const wanted = controlledRecords(group).filter((record) => missing.has(record));
    for await (const _ of makeControls(generator, run.data, wanted, context)) progress.update(++done);
  }
  manifest?.close();
  // In the order of the first manifest, whatever order they were finished in.
  const rank = new Map(records.map(({ image }, i) => [image, i]));
  const made = await readJsonLines<ManifestRecord>(runFolder.file(MANIFEST));
  made.sort((a, b) => rank.get(a.image)! - rank.get(b.image)!);
  await runFolder.write(MANIFEST, made.map((record) => `${JSON.stringify(record)}\n`).join(""));
  progress.finish();
  await compare(records, run, context);
}

/** Reads the masks that pairs were drawn with, from their files or placed anew. */
function masksOf(
  { data, masks, officialSplit, allPairs, base }: Regeneration,
): (record: ManifestRecord) => Promise<Mask> {
  const grounds = new Map<string, Promise<MaskGround>>();
  return async ({ part, defect, index, seed, maskSource }) => {
    if (maskSource !== "placed") {
      if (!masks) throw new UserError(`the masks of ${part}+${defect} are not known`, "give their folder with --masks");
      return await readMask(join(masks, maskSource), true); // an empty one was let pass then
    }
    const key = `${part}+${defect}`;
    if (!grounds.has(key)) {
      const [kind] = openKinds({ data, part: [part], defect: [defect], officialSplit, allPairs });
      grounds.set(key, maskGround(kind, base.side));
    }
    return placedMask(await grounds.get(key)!, seed, key, index);
  };
}

/** What a comparison with the run's files found. */
interface Comparison {
  readonly total: number;
  /** Those of them that the run has. */
  readonly compared: number;
  readonly differing: readonly string[];
}

/** Compares files of the run with those made again, byte for byte; `names` in both folders. */
async function compareFiles(names: readonly string[], pairs: string, { runFolder }: Context): Promise<Comparison> {
  const differing: string[] = [];
  let compared = 0;
  for (const name of names) {
    if (!await existsFile(join(pairs, name))) continue;
    compared++;
    const first = await Deno.readFile(join(pairs, name)), again = await Deno.readFile(runFolder.file(name));
    if (first.length !== again.length || !first.every((byte, i) => byte === again[i])) differing.push(name);
  }
  return { total: names.length, compared, differing };
}

/** Says whether the images and controls made again are the run's own, byte for byte. */
async function compare(records: readonly ManifestRecord[], { pairs, base, embedding }: Regeneration, context: Context) {
  const images = await compareFiles(records.map(({ image }) => image), pairs, context);
  const controls = await compareFiles(controlledRecords(records).map(({ control }) => control), pairs, context);
  const differing = [...images.differing, ...controls.differing], compared = images.compared + controls.compared;
  if (differing.length === 0) {
    const gone = images.total + controls.total - compared;
    const rest = gone ? `; ${gone} ${gone === 1 ? "is" : "are"} not there to compare with` : "";
    const both = controls.total ? ` and ${controls.compared} of ${controls.total} controls` : "";
    context.print(`${images.compared} of ${images.total} images${both} are the same bytes as in ${pairs}${rest}`);
    return;
  }
  const named = `${differing.slice(0, 3).join(", ")}${differing.length > 3 ? ", …" : ""}`;
  const before = records.find(({ image, control }) => image === differing[0] || control === differing[0])!.adapter;
  const now = adapterName(base.gpu);
  const byBatch = records.some(({ settings: { officialBn } }) => {
    const config = withStatistics(embedding, officialBn).spatial?.config;
    return config?.kind === "official" && config.generation === "batch";
  });
  throw new UserError(
    `${differing.length} of ${compared} images differ from those in ${pairs}: ${named}`,
    byBatch
      ? "with the batch's statistics (--official-bn) an image depends on those made with it: make all again with the run's --batch-size"
      : before === now && base.gpu.precision === "f16"
      ? "in f16 images depend on --batch-size and on what tune --precision f16 found: make them with the same"
      : before === now
      ? "a source image or a mask was changed since, or the program or the driver is of another version"
      : `they were made on ${before}, these on ${now}: bytes are the same on the same adapter only`,
  );
}
