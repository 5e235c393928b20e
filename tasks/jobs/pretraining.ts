/**
 * The two stages of `pretrain` as jobs in a run folder: training with checkpoints, losses and sheets, and latents that are
 * made once and kept in a file that grows, so that an interruption costs nothing.
 */
import type { Gpu } from "../../src/gpu/device.ts";
import type { Parameters, Stored } from "../../src/nn/parameters.ts";
import { encodeImages } from "../../src/pretraining/autoencoder.ts";
import type { CurvePoint } from "../../src/pretraining/export.ts";
import type { Damage, TrainingImages } from "../../src/pretraining/images.ts";
import type { Room } from "../../src/pretraining/room.ts";
import type { Trainer } from "../../src/pretraining/trainer.ts";
import { downsamplingFactor, type ModelConfig } from "../../src/weights/config.ts";
import { encodeSafetensors, Safetensors, type TensorToWrite } from "../../src/weights/safetensors.ts";
import { writeAll } from "../../src/weights/atomic.ts";
import type { WeightSource } from "../../src/weights/source.ts";
import type { Context } from "../command.ts";
import type { Checkpoint, JsonLines } from "../run_folder.ts";

/** Steps over which a line of loss.jsonl is averaged. */
const LOSS_WINDOW = 10;

/** The trained autoencoder in the run folder, between the stages. */
export const AUTOENCODER_FILE = "autoencoder.safetensors";

/** Which network a checkpoint or a loss belongs to. */
export type Stage = "autoencoder" | "unet";

/** What is kept beside a checkpoint's bytes. */
interface Meta {
  readonly stage: Stage;
  /** Steps of the autoencoder before the U-Net's first; 0 in the first stage. */
  readonly before: number;
  /** Seconds that this stage has taken over all runs. */
  readonly seconds: number;
}

/** What a checkpoint says about itself. */
export function metaOf(checkpoint: Checkpoint | undefined): Meta | undefined {
  return checkpoint?.meta as unknown as Meta | undefined;
}

/** Opens loss.jsonl without the lines that lie after the checkpoint. */
export function openLosses({ runFolder, checkpoint }: Context): Promise<JsonLines<CurvePoint>> {
  const meta = metaOf(checkpoint);
  return runFolder.jsonl<CurvePoint>("loss.jsonl", (point) => {
    if (!meta) return false;
    if (point.stage !== meta.stage) return meta.stage === "unet";
    return point.step <= checkpoint!.step - meta.before;
  });
}

/** How a stage is run. */
export interface StageOptions {
  readonly stage: Stage;
  readonly label: string;
  readonly steps: number;
  readonly before: number;
  readonly losses: JsonLines<CurvePoint>;
  readonly checkpointingSteps: number;
  readonly checkpointsTotalLimit: number;
  readonly validationSteps: number;
  readonly validate: (step: number) => Promise<void>;
}

/** The next multiple of `every` after `step`; never for 0. */
const next = (step: number, every: number) => every ? (Math.floor(step / every) + 1) * every : Infinity;

/** Trains a stage to its end, from the run's checkpoint where that belongs to it. */
export async function runStage(trainer: Trainer, options: StageOptions, context: Context): Promise<void> {
  const { stage, label, steps, before, losses, checkpointingSteps, checkpointsTotalLimit, validationSteps } = options;
  const { runFolder, checkpoint, signal } = context, meta = metaOf(checkpoint);
  let spent = 0, saved = -1;
  if (checkpoint && meta?.stage === stage) {
    trainer.load(checkpoint.bytes, `the checkpoint of step ${checkpoint.step}`);
    spent = meta.seconds;
    saved = trainer.steps;
  }
  const start = performance.now(), seconds = () => spent + (performance.now() - start) / 1000;
  const save = async () => {
    if (saved === trainer.steps) return;
    saved = trainer.steps;
    const facts: Meta = { stage, before, seconds: seconds() };
    await runFolder.saveCheckpoint(before + saved, await trainer.save(), { ...facts }, checkpointsTotalLimit);
  };
  using progress = context.progress({ label, total: steps, unit: "step", start: trainer.steps });
  let note = "";
  while (trainer.steps < steps) {
    const step = trainer.steps;
    const until = Math.min(next(step, LOSS_WINDOW), next(step, checkpointingSteps), next(step, validationSteps), steps);
    await trainer.advance(until, signal, (done) => progress.update(done, note));
    if (signal.aborted) {
      await save();
      signal.throwIfAborted();
    }
    if (until % LOSS_WINDOW === 0 || until === steps) {
      const loss = await trainer.takeLoss();
      losses.append({ stage, step: until, seconds: Math.round(seconds()), loss });
      progress.update(until, note = `loss ${loss.toFixed(4)}`);
    }
    if (until % checkpointingSteps === 0 || until === steps) await save();
    if ((validationSteps && until % validationSteps === 0) || (validationSteps && until === steps)) {
      await options.validate(until);
    }
  }
}

/** What is kept of all pictures. */
export interface KeptLatents {
  readonly latents: Float16Array<ArrayBuffer>;
  readonly captions: string[];
  /** Where it was asked for. */
  readonly damage: Damage[] | undefined;
}

/**
 * Latents and captions of all pictures, made where the run folder does not hold them yet.
 * @param withDamage keeps where their damage is, too
 */
export async function keptLatents(
  gpu: Gpu,
  config: ModelConfig,
  autoencoder: Parameters,
  images: TrainingImages,
  name: string,
  withDamage: boolean,
  room: Room,
  context: Context,
): Promise<KeptLatents> {
  const { runFolder, signal } = context, side = config.resolution / downsamplingFactor(config.autoencoder);
  const each = side * side * config.autoencoder.embedDim, path = runFolder.file(`${name}.f16`);
  using file = Deno.openSync(path, { read: true, write: true, create: true });
  const lines = await runFolder.jsonl<string>(`${name}.captions.jsonl`);
  const spots = withDamage ? await runFolder.jsonl<Damage>(`${name}.damage.jsonl`) : undefined;
  const counts = [
    Math.floor(file.statSync().size / (2 * each)),
    lines.records.length,
    spots?.records.length ?? Infinity,
  ];
  const done = Math.min(...counts, images.count), damage = spots?.records.slice(0, done);
  const latents = new Float16Array(images.count * each), captions = lines.records.slice(0, done);
  lines.close();
  spots?.close();
  using kept = await runFolder.jsonl<string>(`${name}.captions.jsonl`, (_, i) => i < done);
  using keptSpots = withDamage ? await runFolder.jsonl<Damage>(`${name}.damage.jsonl`, (_, i) => i < done) : undefined;
  file.truncateSync(2 * each * done);
  const bytes = new Uint8Array(latents.buffer);
  for (let at = 0; at < 2 * each * done;) at += file.readSync(bytes.subarray(at, 2 * each * done)) ?? Infinity;
  if (done === images.count) return { latents, captions, damage };
  using progress = context.progress({ label: "encoding", total: images.count, unit: "image", start: done });
  let at = done;
  for await (const part of encodeImages(gpu, config.autoencoder, autoencoder, images, done, images.count, room)) {
    latents.set(part, at * each);
    for (const end = at + part.length / each; at < end; at++) {
      captions.push(images.caption(at));
      kept.append(captions[at]);
      if (!damage) continue;
      damage.push(images.damage!(at));
      keptSpots!.append(damage[at]);
    }
    writeAll(file, new Uint8Array(part.buffer));
    progress.update(at);
    signal.throwIfAborted();
  }
  return { latents, captions, damage };
}

/** Writes parameters in PyTorch's layout. */
export async function keepParameters(stored: ReadonlyMap<string, Stored>, name: string, { runFolder }: Context) {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [name, { shape, data }] of stored) tensors[name] = { dtype: "F32", shape, data };
  await runFolder.write(name, encodeSafetensors(tensors));
}

/** What {@linkcode keepParameters} wrote. */
export function keptParameters(name: string, { runFolder }: Context): WeightSource {
  const file = Safetensors.parse(Deno.readFileSync(runFolder.file(name)), name);
  return { has: (tensor) => file.has(tensor), get: (tensor) => file.float32(tensor) };
}
