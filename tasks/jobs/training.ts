/**
 * A training run in its folder: progress, `loss.jsonl`, checkpoints from which it goes on bit for bit, a stop on Ctrl-C
 * between steps, and the embeddings at the end.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { type AnomalyEmbedding, decodeEmbedding, encodeEmbedding } from "../../src/anomaly/embedding.ts";
import type { Inversion, InversionItem, InversionSettings } from "../../src/anomaly/inversion.ts";
import { isUnet } from "../../src/anomaly/inversion_graph.ts";
import {
  type Augmentation,
  type defectItems,
  type LabelledSample,
  maskItems,
  type NormalImage,
  surfaceItems,
  viewCount,
} from "../../src/anomaly/training_set.ts";
import { surfaceKey } from "../../src/anomaly/surface.ts";
import type { View } from "../../src/anomaly/windows.ts";
import { loadImage } from "../../src/data/image.ts";
import type { LatentMaskMode } from "../../src/diffusion/blend.ts";
import { UserError } from "../../src/errors.ts";
import { exportModel, type StoredOrRead } from "../../src/pretraining/export.ts";
import { bytesOf } from "../../src/graph/tensor.ts";
import { Random } from "../../src/random/philox.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import type { Context } from "../command.ts";
import { openBase, openGpu } from "../device.ts";
import type { Progress } from "../progress.ts";
import type { Kind } from "./dataset.ts";
import { readProduct } from "./files.ts";
import type { Origin } from "./origin.ts";

/** File that a finished training run leaves. */
export const EMBEDDINGS = "embeddings.safetensors";

/**
 * The embeddings of a finished run.
 * @param made the command that must have made them: `train`'s come with a spatial encoder, `train-masks`' without
 * @returns them, and the SHA-256 of their file
 * @throws UserError where they are missing, the other command's, or trained on another base model
 */
export async function readEmbedding(
  folder: string,
  made: "train" | "train-masks",
  base: BaseModel,
): Promise<{ path: string; embedding: AnomalyEmbedding; sha256: string }> {
  const path = join(folder, EMBEDDINGS), bytes = await readProduct(path, made);
  const embedding = decodeEmbedding(bytes, path);
  if (Boolean(embedding.spatial) !== (made === "train")) {
    throw new UserError(
      `${path} was written by ${made === "train" ? "train-masks" : "train"}`,
      `give the run folder of ${made}`,
    );
  }
  if (embedding.model !== base.sha256) {
    throw new UserError(
      `${path} was trained on another base model`,
      "give the --model of that training, go on with it by train --resume where it tunes, or train again on this one",
    );
  }
  return { path, embedding, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** Folder of the base model that a training leaves where it tuned the U-Net. */
const TUNED_MODEL = "model";

/**
 * The model folder that goes with a training: its own where it tuned the U-Net, else the given one.
 * @param given by the user; the model that ships where undefined
 */
export function modelOf(trainRun: string, given: string | undefined): string | undefined {
  const own = join(trainRun, TUNED_MODEL);
  return existsSync(join(own, "config.json")) ? own : given;
}

/** The base model of a training, and whether it tuned that; dispose of it in the end, which closes a training's own. */
export async function openTrainedBase(
  trainRun: string,
  given: string | undefined,
  { log }: Pick<Context, "log">,
): Promise<{ readonly base: BaseModel; readonly tuned: boolean } & Disposable> {
  const path = modelOf(trainRun, given);
  if (path === given) return { base: await openBase(given), tuned: false, [Symbol.dispose]() {} };
  if (given !== undefined) log(`the training tuned its U-Net: ${path} is taken, which came of ${given}`);
  const base = new BaseModel(await openGpu(), path!);
  return { base, tuned: true, [Symbol.dispose]: () => base[Symbol.dispose]() };
}

/** Weights that are read from the device at once, in bytes. */
const READ_BYTES = 2 ** 27;

/** The tuned U-Net's weights as they are kept, in halves; a part is read at a time. */
async function tunedWeights({ parameters }: BaseModel): Promise<Map<string, StoredOrRead>> {
  const groups: Set<string>[] = [];
  let bytes = Infinity;
  for (const [name, variable] of parameters.variables) {
    const own = name.replace(/\[\d+:\d+\]$/, ""); // the blocks of a matrix are read together
    if (!isUnet(name) || groups.at(-1)?.has(own)) continue;
    bytes += bytesOf(variable);
    if (bytes > READ_BYTES) {
      groups.push(new Set());
      bytes = bytesOf(variable);
    }
    groups.at(-1)!.add(own);
  }
  const weights = new Map<string, StoredOrRead>();
  for (const group of groups) {
    for (const [name, { shape, data }] of await parameters.store((name) => group.has(name))) {
      const halves = new Float16Array(data);
      weights.set(name, { shape, data: () => new Float32Array(halves) });
    }
  }
  return weights;
}

/**
 * Writes the base model with its U-Net as it was tuned into the run folder.
 * @returns SHA-256 of its weights
 */
async function writeTunedModel(base: BaseModel, { steps, batch }: InversionSettings, { runFolder }: Context) {
  using folder = openModelFolder(base.path);
  const { config } = base, tuned = await tunedWeights(base), path = runFolder.file(TUNED_MODEL);
  const others = folder.names().filter((name) => !isUnet(name)).map((name): [string, StoredOrRead] => [name, {
    shape: folder.info(name).shape,
    data: () => folder.tensor(name).data,
  }]);
  exportModel(path, {
    config: { ...config, training: { from: config.name, images: "training pairs and normal images", steps, batch } },
    vocab: folder.vocab,
    parameters: [new Map(others), tuned],
    curves: [],
  });
  using written = openModelFolder(path);
  return written.sha256;
}

/** One line of `loss.jsonl`: the mean loss of the steps since the line before. */
export interface LossRecord {
  readonly step: number;
  readonly loss: number;
}

/** Steps between two readings of the loss, which each cost a round trip to the device. */
const READ_EVERY = 10;

/** Flags that say how training pairs become latents. */
interface ViewFlags {
  readonly seed: number;
  readonly augmentation: Augmentation;
  readonly augmentedCopies: number;
  /** `maxPool` where left out. */
  readonly latentMask?: LatentMaskMode;
  /** Pictures of one training step, 4 where left out. */
  readonly batch?: number;
  /** What the model sees of a defect's picture; the whole where left out. */
  readonly view?: View;
}

/** The items with a loss that counts everywhere: plain textual inversion (the paper's ablation of its masked loss). */
export function unmasked(items: readonly InversionItem[]): InversionItem[] {
  return items.map((item) => ({ ...item, latentMask: new Float32Array(item.latentMask.length).fill(1) }));
}

/** What is done after each latent: it counts, and lets Ctrl-C in. Nothing is kept yet, so that a resumed run begins anew. */
function afterLatent(progress: Progress, { signal }: Context): () => void {
  let done = 0;
  return () => {
    signal.throwIfAborted();
    progress.update(++done);
  };
}

/** Makes the latents of all augmented views, with progress. `make` is `defectItems` or `maskItems`. */
export async function encodeViews(
  make: typeof defectItems,
  base: BaseModel,
  samples: readonly LabelledSample[],
  { seed, augmentation, augmentedCopies, latentMask = "maxPool", batch = 4, view }: ViewFlags,
  unit: string,
  context: Context,
): Promise<InversionItem[]> {
  const copies = augmentation === "off" ? 1 : augmentedCopies;
  const total = viewCount(make === maskItems, samples.length, { augmentation, copies, batch });
  const progress = context.progress({ label: "encoding", total, unit });
  const options = { seed, copies, augmentation, latentMask, batch, view };
  const items = await make(base, samples, options, afterLatent(progress, context));
  progress.finish();
  return items;
}

/** How many surfaces there are to learn beside these kinds. */
export function surfacesOf(kinds: readonly Kind[]): number {
  return new Set(kinds.map(({ part }) => part)).size;
}

/**
 * Items of the parts' surfaces, as many for each part as for one of its defects.
 * @param items of the defects
 * @param options `origin` notes the normal images that are taken, before they are encoded
 */
export async function encodeSurfaces(
  base: BaseModel,
  kinds: readonly Kind[],
  items: readonly InversionItem[],
  { seed, view, origin }: Pick<ViewFlags, "seed" | "view"> & { readonly origin?: Origin },
  context: Context,
): Promise<InversionItem[]> {
  const images: NormalImage[] = [], masks = new Map<string, Float32Array[]>();
  const taken: Record<string, Set<string>> = {};
  for (const [part, own] of Map.groupBy(kinds, (kind) => kind.part)) {
    const key = surfaceKey(part.name), counts = own.map((kind) => items.filter((item) => item.key === kind.key).length);
    const names = new Set(own.map((kind) => kind.key)), random = new Random(seed, `surfaces/${key}`);
    masks.set(key, items.filter((item) => item.mask && names.has(item.key)).map(({ mask }) => mask!));
    for (let i = 0; i < Math.max(...counts); i++) {
      const path = random.pick(part.good);
      (taken[part.name] ??= new Set()).add(path);
      images.push({
        key,
        load: () => {
          context.signal.throwIfAborted();
          return loadImage(path);
        },
      });
    }
  }
  if (origin) {
    const hashes: Record<string, string> = {};
    for (const [part, paths] of Object.entries(taken)) hashes[part] = await hashOf(paths, context);
    origin.note("normal images", hashes);
  }
  const progress = context.progress({ label: "surfaces", total: images.length, unit: "view" });
  const made = await surfaceItems(base, images, masks, { seed, view }, afterLatent(progress, context));
  progress.finish();
  return made;
}

/** SHA-256 over the bytes of files. */
async function hashOf(paths: Iterable<string>, { signal }: Pick<Context, "signal">): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) {
    signal.throwIfAborted();
    hash.update(await Deno.readFile(path));
  }
  return hash.digest("hex");
}

/** How a run is kept. */
export interface TrainingRun {
  readonly label: string;
  /** What it learns from, already compared with what it began with. */
  readonly origin: Origin;
  readonly checkpointingSteps: number;
  readonly checkpointsTotalLimit: number;
  /** Pictures on the way: every so many steps; 0 for none. */
  readonly validationSteps?: number;
  readonly validate?: (step: number) => Promise<void>;
  /** Stop when the smoothed loss has not fallen for this many steps; 0 never. */
  readonly patience?: number;
}

/**
 * Trains to the end (or from the context's checkpoint on) and writes the embeddings.
 * @param base where its U-Net is tuned
 */
export async function train(inversion: Inversion, run: TrainingRun, context: Context, base?: BaseModel): Promise<void> {
  const { runFolder, checkpoint, signal } = context, total = inversion.settings.steps;
  if (checkpoint) inversion.load(checkpoint.bytes, "checkpoint");
  const start = inversion.steps;
  const losses = await runFolder.jsonl<LossRecord>("loss.jsonl", (record) => record.step <= start);
  const stop = new StopRule(run.patience ?? 0);
  for (const record of losses.records) stop.add(record);
  await run.origin.keep();
  const progress = context.progress({ label: run.label, total, unit: "step", start });
  const saved = new Set<number>(checkpoint ? [start] : []);
  const save = async () => {
    if (saved.has(inversion.steps)) return;
    saved.add(inversion.steps);
    await losses.sync();
    await runFolder.saveCheckpoint(inversion.steps, inversion.saveParts(), {}, run.checkpointsTotalLimit);
  };
  progress.update(start);
  while (inversion.steps < total && !stop.reached) {
    if (signal.aborted) {
      await save();
      signal.throwIfAborted();
    }
    const from = inversion.steps;
    const next = (every: number) => (every > 0 ? (Math.floor(from / every) + 1) * every : Infinity);
    const until = Math.min(total, next(READ_EVERY), next(run.checkpointingSteps), next(run.validationSteps ?? 0));
    const record = { step: until, loss: await inversion.advance(until) };
    losses.append(record);
    stop.add(record);
    progress.update(until, `loss ${record.loss.toFixed(4)}`);
    // The pictures first: a run that goes on from the checkpoint makes those after it only.
    if (run.validate && run.validationSteps && until % run.validationSteps === 0) await run.validate(until);
    if (until % run.checkpointingSteps === 0) await save();
  }
  await save();
  const embedding = await inversion.embedding();
  const model = base ? await writeTunedModel(base, inversion.settings, context) : embedding.model;
  await runFolder.write(EMBEDDINGS, encodeEmbedding({ ...embedding, model }));
  progress.finish();
  losses.close();
  if (stop.reached) {
    context.log(`stopped at step ${inversion.steps}: the loss has not fallen for ${run.patience} steps`);
  }
}

/** Steps over which a loss is smoothed before it is judged. */
const SMOOTHING = 100;

/**
 * Stops when the loss, smoothed, has not reached a new low for `patience` steps. The first steps only fill the average: a
 * single lucky reading would be a low that nothing reaches again.
 */
export class StopRule {
  readonly #patience: number;
  #sum = 0;
  #weight = 0;
  #best = Infinity;
  #bestStep = 0;
  #step = 0;

  constructor(patience: number) {
    this.#patience = patience;
  }

  add({ step, loss }: LossRecord): void {
    const keep = Math.exp(-(step - this.#step) / SMOOTHING);
    this.#sum = keep * this.#sum + (1 - keep) * loss;
    this.#weight = keep * this.#weight + (1 - keep);
    this.#step = step;
    const smooth = this.#sum / this.#weight;
    if (step < SMOOTHING) this.#bestStep = step;
    else if (smooth < this.#best) {
      this.#best = smooth;
      this.#bestStep = step;
    }
  }

  get reached(): boolean {
    return this.#patience > 0 && this.#step - this.#bestStep >= this.#patience;
  }
}

/**
 * Attention re-weighting where none is asked for. Beside a tuned U-Net, whose defects have the examples' strength without, the
 * official form makes them too strong, and some of foreign colours.
 */
export function usualReweighting(tuned: boolean): "off" | "official" {
  return tuned ? "off" : "official";
}

/** Below which timestep guidance is used where nothing is asked for beside a tuned U-Net: above it, it brings foreign colours. */
const TUNED_GUIDANCE_BELOW = 600;

/** Settings of guidance where none are asked for. */
export function usualGuidance(tuned: boolean): { readonly guidanceBelow?: number } {
  return tuned ? { guidanceBelow: TUNED_GUIDANCE_BELOW } : {};
}
