/** Making image–mask pairs in a run folder: MVTec layout, and a manifest from which each can be made again. */

import type { BaseModel } from "../../src/anomaly/base_model.ts";
import type { AnomalyEmbedding } from "../../src/anomaly/embedding.ts";
import type { PairRefusal } from "../../src/anomaly/gate.ts";
import { type GeneratedPair, PairGenerator, type PairJob, type PairSettings } from "../../src/anomaly/generate.ts";
import { type Tint, tintOf, TintRange } from "../../src/anomaly/tint.ts";
import { resizeMask } from "../../src/data/augment.ts";
import { encodeImage, type Image, type ImageFormat, loadImage, loadMask, type Mask } from "../../src/data/image.ts";
import { listImages, loadPair } from "../../src/data/mvtec.ts";
import { UserError } from "../../src/errors.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { defectDescriptor, DUPLICATE, type LabelledImage, seedVariety } from "../../src/inspection/metrics/pairs.ts";
import { EarlierPairs } from "../../src/inspection/metrics/earlier_pairs.ts";
import { Random } from "../../src/random/philox.ts";
import type { Context } from "../command.ts";
import { plural } from "../progress.ts";
import { type JsonLines, readJsonLines } from "../run_folder.ts";
import { type Kind, nameIn } from "./dataset.ts";
import { existsFile, readJson } from "./files.ts";
import { maskGround, placedMask } from "./masks.ts";
import { summarisePairs } from "./pair_summary.ts";

/** One line of `manifest.jsonl`. */
export interface ManifestRecord {
  readonly part: string;
  readonly defect: string;
  readonly index: number;
  /** Files of the pair, in the run folder. */
  readonly image: string;
  readonly mask: string;
  /** Normal image it was drawn into, in the data set. */
  readonly source: string;
  /** Mask it was drawn with: a file in the masks' folder, or `placed` from a real one. */
  readonly maskSource: string;
  /** The pair's control: the same source, mask and random numbers, the part's own surface drawn instead of the defect. */
  readonly control?: string;
  readonly seed: number;
  /** The try that made the image, 0 the first; with the seed and the index it names the random numbers. */
  readonly attempt: number;
  readonly accepted: boolean;
  /** Why tries were refused, in their order. */
  readonly refused: readonly PairRefusal[];
  /** What was judged, and `nearestEarlier`: the distance to the most similar pair of a smaller index. */
  readonly figures: Record<string, number>;
  /** Pixels around the mask over which the defect fades. */
  readonly feather: number;
  /** SHA-256 of base model and of the embeddings, and the adapter. */
  readonly model: string;
  readonly embeddings: string;
  readonly adapter: string;
  /** All that decides what the image looks like; how many were made at once does not. */
  readonly settings: Omit<PairSettings, "batch"> & {
    readonly distinct?: boolean;
    readonly colourCheck?: boolean;
    readonly officialBn?: boolean;
  };
}

/** Name of the manifest. */
export const MANIFEST = "manifest.jsonl";

/** What pairs to make. */
export interface PairRun {
  readonly data: string;
  /** Folder of masks `<part>/<defect>/*.png`; undefined to place real ones. */
  readonly masks?: string;
  /** Take masks that mark nothing too; such a pair shows no defect. */
  readonly emptyMasks?: boolean;
  /** What was chosen for the official spatial encoder's batch norms, for the manifest; `embedding` has it already. */
  readonly officialBn?: boolean;
  readonly count: number;
  /** PNG where left out. */
  readonly format?: ImageFormat;
  readonly settings: PairSettings;
  /** Refuse pairs that look like one of a smaller index. */
  readonly distinct?: boolean;
  /** Refuse pairs of a colour that no training pair has. */
  readonly colourCheck?: boolean;
  readonly base: BaseModel;
  readonly embedding: AnomalyEmbedding;
  /** SHA-256 of the embedding file. */
  readonly embeddingHash: string;
  /** Make a control of each pair. */
  readonly controls?: boolean;
  /** Images of each kind that tell how much the seed alone changes; none where left out. */
  readonly seedProbes?: number;
}

/** Index of the first image that only tells what the seed changes: beyond any that is kept. */
const FIRST_PROBE = 2 ** 30;

/** Makes `count` pairs of each kind; those in the manifest stay. */
export async function makePairs(kinds: readonly Kind[], run: PairRun, context: Context): Promise<void> {
  const { base, settings, count, distinct = false, colourCheck = false } = run, { runFolder, signal } = context;
  const { batch: _, ...recorded } = { ...settings, distinct, colourCheck, officialBn: run.officialBn };
  const { format = "png" } = run, ending = format === "png" ? "png" : "jpg";
  const pools = new Map(run.masks ? kinds.map((kind) => [kind, masksOf(run.masks!, kind)]) : []);
  const before = await readJsonLines<ManifestRecord>(runFolder.file(MANIFEST));
  if (before.some((r) => r.embeddings !== run.embeddingHash || r.model !== base.sha256)) {
    throw new UserError(
      `${runFolder.path} holds pairs of other embeddings`,
      "choose another --out for the new ones, or --overwrite",
    );
  }
  // Whatever shape an image has, generate-masks makes squares of its model's side, which may be another model.
  const origin = run.masks && await readJson<{ command?: string }>(`${run.masks}/config.json`);
  const sampled = origin && origin.command === "generate-masks";
  const finished = new Map(before.map((r) => [`${r.part}+${r.defect} ${r.index}`, r]));
  let manifest: JsonLines<ManifestRecord> | undefined; // opened once there is something to write
  const start = before.length, total = count * kinds.length;
  const progress = context.progress({ label: "pairs", total, unit: "pair", start });
  using generator = new PairGenerator(base, run.embedding, settings);
  const adapter = adapterName(base.gpu);
  let done = start;
  const origins = new Map<PairJob, { kind: Kind; source: string; maskSource: string }>();

  const similar = new Similar(), tints = new Map<string, TintRange>();
  async function* jobs(): AsyncGenerator<PairJob> {
    for (const kind of kinds) {
      const pool = pools.get(kind);
      const ground = pool ? undefined : await maskGround(kind, base.side);
      if (colourCheck) tints.set(kind.key, await tintRange(kind));
      for (let index = 0; index < count; index++) {
        signal.throwIfAborted();
        const there = finished.get(`${kind.key} ${index}`);
        if (there) {
          if (distinct && there.accepted) await similar.read(there, runFolder.path);
          continue;
        }
        const path = new Random(settings.seed, `source/${kind.key}`, index).pick(kind.part.good);
        const source = await loadImage(path);
        const maskPath = pool?.[index % pool.length];
        const drawn = maskPath
          ? await readMask(maskPath, run.emptyMasks)
          : placedMask(ground!, settings.seed, kind.key, index);
        if (maskPath && !isSquare(drawn, sampled ? drawn.width : base.side)) {
          requireShape(maskPath, drawn, path, source);
        }
        const job = { index, key: kind.key, source, mask: fit(drawn, source) };
        const maskSource = maskPath ? nameIn(run.masks!, maskPath) : "placed";
        origins.set(job, { kind, source: nameIn(run.data, path), maskSource });
        yield job;
      }
    }
  }

  const next = () => signal.throwIfAborted(),
    judge = (pair: GeneratedPair) => {
      const range = tints.get(pair.job.key);
      if (range && !range.holds(tintOf(pair.image, pair.job.mask))) return "off-colour";
      return distinct ? similar.judge(pair) : undefined;
    };
  for await (const pair of generator.generate(jobs(), { next, judge })) {
    const { job, image, attempt, accepted, refused, feather } = pair, nearestEarlier = similar.distance(pair);
    const figures = { ...pair.figures, ...(nearestEarlier === undefined ? {} : { nearestEarlier }) };
    const { kind, source, maskSource } = origins.get(job)!;
    origins.delete(job);
    const { part, defect } = kind, stem = String(job.index).padStart(4, "0");
    const record: ManifestRecord = {
      part: part.name,
      defect: defect.name,
      index: job.index,
      image: `${part.name}/test/${defect.name}/${stem}.${ending}`,
      mask: `${part.name}/ground_truth/${defect.name}/${stem}_mask.${ending}`,
      source,
      maskSource,
      ...(run.controls ? { control: `${part.name}/train/good/${defect.name}-${stem}.${ending}` } : {}),
      seed: settings.seed,
      attempt,
      accepted,
      refused,
      feather: Math.ceil(1000 * feather) / 1000,
      figures: Object.fromEntries(Object.entries(figures).map(([k, v]) => [k, Number(v.toFixed(5))])),
      model: base.sha256,
      embeddings: run.embeddingHash,
      adapter,
      settings: recorded,
    };
    // The pair first: a line in the manifest says that both files are whole.
    await runFolder.write(record.image, await encodeImage(image, format));
    await runFolder.write(record.mask, await encodeImage(job.mask, format));
    manifest ??= await runFolder.jsonl<ManifestRecord>(MANIFEST);
    manifest.append(record);
    progress.update(++done, `change ${(100 * figures.changeInside).toFixed(0)} %`);
  }
  manifest?.close();
  // In one order, whatever order they were finished in: an interrupted run leaves the same bytes as one that was not.
  const records = (await readJsonLines<ManifestRecord>(runFolder.file(MANIFEST))).sort((a, b) =>
    a.part.localeCompare(b.part) || a.defect.localeCompare(b.defect) || a.index - b.index
  );
  await runFolder.write(MANIFEST, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  progress.finish();
  const rejected = records.filter(({ accepted }) => !accepted).length; // those of earlier calls too
  if (rejected) {
    const [were, them] = rejected === 1 ? ["was", "it"] : ["were", "them"];
    const tries = settings.maxAttempts === 1 ? "the only try" : `all of ${settings.maxAttempts} tries`;
    context.log(
      `${plural(rejected, "pair")} ${were} refused in ${tries}; the manifest marks ${them} "accepted": false`,
    );
  }
  const missing = await missingControls(records, context);
  if (missing.length) {
    using progress = context.progress({ label: "controls", total: missing.length, unit: "image" });
    let done = 0;
    for await (const _ of makeControls(generator, run.data, missing, context)) progress.update(++done);
    progress.finish();
  }
  const varieties = await varietyBySeed(generator, kinds, run, records, context);
  await summarisePairs({ kinds, data: run.data, records, seedVariety: varieties }, context);
}

/** Colours of a kind's training pairs. */
async function tintRange({ defect }: Kind): Promise<TintRange> {
  const tints: Tint[] = [];
  for (const pair of defect.train) {
    const { image, mask } = await loadPair(pair), tint = tintOf(image, mask);
    if (tint) tints.push(tint);
  }
  return new TintRange(tints);
}

/** Accepted pairs by kind, to tell whether another looks like one of them. */
class Similar {
  readonly #kinds = new Map<string, EarlierPairs>();
  /** By image: what was found when it was judged. */
  readonly #distances = new WeakMap<Image, number>();

  #of(key: string): EarlierPairs {
    if (!this.#kinds.has(key)) this.#kinds.set(key, new EarlierPairs());
    return this.#kinds.get(key)!;
  }

  /** Takes a pair of an earlier call. */
  async read({ part, defect, index, image, mask }: ManifestRecord, folder: string): Promise<void> {
    const pair: LabelledImage = {
      image: await loadImage(`${folder}/${image}`),
      mask: await loadMask(`${folder}/${mask}`),
    };
    this.#of(`${part}+${defect}`).add(index, defectDescriptor(pair));
  }

  /** Refuses what looks like an earlier pair; takes what does not. */
  judge({ job: { key, index, mask }, image }: GeneratedPair): PairRefusal | undefined {
    const descriptor = defectDescriptor({ image, mask }), earlier = this.#of(key);
    const distance = earlier.nearest(index, descriptor);
    if (distance !== undefined) this.#distances.set(image, distance);
    if (distance !== undefined && distance < DUPLICATE) return "near-duplicate";
    earlier.add(index, descriptor);
  }

  /** Distance to the nearest earlier pair; undefined for one that was not judged or is the first. */
  distance({ image }: GeneratedPair): number | undefined {
    return this.#distances.get(image);
  }
}

/** A record of a pair that has a control: one that was accepted, in a run with `--controls`. */
export type ControlledRecord = ManifestRecord & { readonly control: string };

/** Those of the records whose pair has a control. */
export function controlledRecords(records: readonly ManifestRecord[]): ControlledRecord[] {
  return records.filter((record): record is ControlledRecord => record.accepted && record.control !== undefined);
}

/** Those of the records whose control is not in the run folder yet. */
export async function missingControls(
  records: readonly ManifestRecord[],
  { runFolder }: Pick<Context, "runFolder">,
): Promise<ControlledRecord[]> {
  const missing: ControlledRecord[] = [];
  for (const record of controlledRecords(records)) {
    if (!await existsFile(runFolder.file(record.control))) missing.push(record);
  }
  return missing;
}

/**
 * Makes the controls of pairs whose masks are in the run folder.
 * @param data folder that the records' sources are named in
 * @returns the records, each once its control is written
 */
export async function* makeControls(
  generator: PairGenerator,
  data: string,
  records: readonly ControlledRecord[],
  { runFolder, signal }: Pick<Context, "runFolder" | "signal">,
): AsyncGenerator<ControlledRecord> {
  const origins = new Map<PairJob, ControlledRecord>();
  async function* jobs(): AsyncGenerator<PairJob> {
    for (const record of records) {
      const { part, defect, index, attempt } = record;
      const source = await loadImage(`${data}/${record.source}`), mask = await loadMask(runFolder.file(record.mask));
      const job = { index, attempt, key: `${part}+${defect}`, source, mask, control: true };
      origins.set(job, record);
      yield job;
    }
  }
  for await (const { job, image } of generator.generate(jobs(), { next: () => signal.throwIfAborted() })) {
    const record = origins.get(job)!, { control } = record;
    origins.delete(job);
    await runFolder.write(control, await encodeImage(image, control.endsWith(".png") ? "png" : "jpeg"));
    yield record;
  }
}

/** For each kind: how much images differ that have the source and the mask of its first pair, but other random numbers. */
async function varietyBySeed(
  generator: PairGenerator,
  kinds: readonly Kind[],
  { data, seedProbes = 0 }: PairRun,
  records: readonly ManifestRecord[],
  context: Context,
): Promise<Map<string, number>> {
  const { runFolder, signal } = context;
  const images = new Map<string, Image[]>(), masks = new Map<string, Mask>(), result = new Map<string, number>();
  if (seedProbes === 0) return result;
  async function* jobs(): AsyncGenerator<PairJob> {
    for (const { key, part, defect } of kinds) {
      const record = records.find((r) => r.part === part.name && r.defect === defect.name && r.index === 0);
      if (!record) continue;
      const source = await loadImage(`${data}/${record.source}`), mask = await loadMask(runFolder.file(record.mask));
      if (!mask.data.includes(1)) continue;
      images.set(key, [await loadImage(runFolder.file(record.image))]);
      masks.set(key, mask);
      for (let k = 0; k < seedProbes; k++) yield { index: FIRST_PROBE + k, attempt: 0, key, source, mask };
    }
  }
  using progress = context.progress({ label: "seeds", total: seedProbes * kinds.length, unit: "image" });
  let done = 0;
  for await (const { job, image } of generator.generate(jobs(), { next: () => signal.throwIfAborted() })) {
    images.get(job.key)!.push(image);
    progress.update(++done);
    // A kind's pictures are let go when its last one is there.
    const all = images.get(job.key)!;
    if (all.length <= seedProbes) continue;
    result.set(job.key, seedVariety(all, masks.get(job.key)!));
    images.delete(job.key);
  }
  progress.finish();
  return result;
}

/** Masks of a kind in a folder of `generate-masks`. */
export function masksOf(folder: string, { part, defect }: Kind): string[] {
  const path = `${folder}/${part.name}/${defect.name}`;
  try {
    const found = listImages(path);
    if (found.length) return found;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  throw new UserError(`${path} holds no masks`, "give the run folder of generate-masks, or leave --masks out");
}

/** An adapter as the manifest names it, with its arithmetic where that is not f32. */
export function adapterName({ info, precision }: Gpu): string {
  const name = [info.vendor, info.device, info.description].filter(Boolean).join(" ");
  return precision === "f16" ? `${name}, f16 arithmetic` : name;
}

/**
 * A mask that marks something.
 * @param empty take one that marks nothing too
 */
export async function readMask(path: string, empty = false): Promise<Mask> {
  const mask = await loadMask(path);
  if (!empty && !mask.data.includes(1)) {
    throw new UserError(`${path}: the mask is empty`, "remove it, or paint the defect white");
  }
  return mask;
}

/** In pixels. */
type Size = Readonly<Record<"width" | "height", number>>;

const isSquare = ({ width, height }: Size, side: number) => width === side && height === side;

/**
 * Refuses a mask that the image's size would distort: it has the image's size, or its shape within the rounding of whole pixels.
 * @param path of the mask
 * @param imagePath of the image
 * @throws UserError for another shape
 */
function requireShape(path: string, mask: Size, imagePath: string, image: Size): void {
  const off = Math.abs(mask.width * image.height - mask.height * image.width);
  if (off <= Math.max(image.width, image.height)) return; // one pixel of the mask's shorter side
  throw new UserError(
    `${path}: the mask has ${mask.width}×${mask.height} pixels, the image ${imagePath} ${image.width}×${image.height}`,
    "stretched, it would label another shape: give masks of the images' size, or those of generate-masks",
  );
}

/** A mask at an image's size. */
export function fit(mask: Mask, { width, height }: Size): Mask {
  return mask.width === width && mask.height === height ? mask : resizeMask(mask, width, height);
}
