/**
 * From a foreign checkpoint to a model folder: every tensor is looked up and its shape compared before anything is
 * written; then the values stream through, one tensor in memory at a time, into a folder that appears whole or not at all.
 */

import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { Tokenizer } from "../data/tokenizer.ts";
import { UserError } from "../errors.ts";
import { toHalf } from "../gpu/half.ts";
import { UNET_PREFIX } from "../models/unet.ts";
import { replaceFile, writeAll } from "./atomic.ts";
import type { ModelConfig } from "./config.ts";
import type { Weights } from "./import/checkpoint.ts";
import type { Shapes } from "./import/expected.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors.ts";

/** What a checkpoint has of what a configuration asks for. */
export interface Match {
  /** Name in the checkpoint of each tensor that was found in its shape. */
  readonly found: ReadonlyMap<string, string>;
  readonly missing: readonly string[];
  readonly misshapen: readonly { name: string; expected: readonly number[]; found: readonly number[] }[];
  /** Tensors of the checkpoint that no network here has. */
  readonly unexpected: readonly string[];
  /** Those of them that are known to be no part of the networks: schedules, losses, averages, the unused `to_logits`. */
  readonly ignored: readonly string[];
}

/** Tensors that latent diffusion's checkpoints have besides the networks. */
const IGNORED =
  /^(betas|alphas_cumprod(_prev)?|(sqrt|log)_\w*alphas_cumprod|sqrt_recipm?1?_alphas_cumprod|posterior_\w+|logvar|scale_factor|lvlb_weights|first_stage_model\.loss\..*|model_ema\..*|cond_stage_model\.transformer\.to_logits\..*|text\/to_logits\..*|.*\.position_ids)$/;

/** Name of a U-Net tensor's moving average (`LitEma` of latent diffusion drops the dots). */
function averagedName(name: string): string {
  return name.startsWith(`${UNET_PREFIX}.`) ? `model_ema.${name.slice("model.".length).replaceAll(".", "")}` : name;
}

/** Whether a checkpoint keeps moving averages of the U-Net besides its last weights. */
export function hasAverages(weights: Weights): boolean {
  return weights.names().some((name) => name.startsWith("model_ema.diffusion_model"));
}

/** Axes of one at the end say nothing: a 1×1 convolution is a matrix. */
function sameShape(a: readonly number[], b: readonly number[]): boolean {
  const trim = (shape: readonly number[]) => {
    let end = shape.length;
    while (end > 1 && shape[end - 1] === 1) end--;
    return shape.slice(0, end).join();
  };
  return trim(a) === trim(b);
}

/**
 * Compares a checkpoint with what is expected; reads no values.
 * @param averages take the U-Net's moving averages
 */
export function matchTensors(
  weights: Pick<Weights, "names" | "has" | "info">,
  expected: Shapes,
  averages = false,
): Match {
  const found = new Map<string, string>(), missing: string[] = [], used = new Set<string>();
  const misshapen: { name: string; expected: readonly number[]; found: readonly number[] }[] = [];
  for (const [name, shape] of expected) {
    const here = averages ? averagedName(name) : name;
    if (!weights.has(here)) {
      missing.push(here);
      continue;
    }
    used.add(here);
    const { shape: there } = weights.info(here);
    if (sameShape(shape, there)) found.set(name, here);
    else misshapen.push({ name: here, expected: shape, found: there });
  }
  const others = weights.names().filter((name) => !used.has(name));
  const ignored = others.filter((name) => IGNORED.test(name) || expected.has(name));
  const skipped = new Set(ignored);
  return { found, missing, misshapen, unexpected: others.filter((name) => !skipped.has(name)), ignored };
}

/** What a match lacks, a line for each tensor. */
export function describeMatch({ missing, misshapen, unexpected }: Match): string[] {
  return [
    ...missing.map((name) => `missing: ${name}`),
    ...misshapen.map(({ name, expected, found }) =>
      `other shape: ${name} is [${found.join(", ")}], expected [${expected.join(", ")}]`
    ),
    ...unexpected.map((name) => `unexpected: ${name}`),
  ];
}

/**
 * Refuses a checkpoint that is not whole.
 * @throws {UserError} in one line that counts what is wrong and names the first
 */
export function requireMatch(label: string, match: Match): void {
  const { missing, misshapen } = match, counts: string[] = [];
  if (missing.length) counts.push(`${missing.length} missing`);
  if (misshapen.length) counts.push(`${misshapen.length} of another shape`);
  if (!counts.length) return;
  const [first] = describeMatch({ ...match, unexpected: [] });
  throw new UserError(
    `${label}: of ${match.found.size + missing.length + misshapen.length} tensors ${counts.join(", ")}: ${first}`,
    match.found.size === 0
      ? "it is no latent-diffusion model; give the .ckpt, .safetensors or diffusers folder of one"
      : "if the model has other sizes than LDM text2img-large, give them with --model-config",
  );
}

/** Values of a tensor, each a number that the stored type can hold. */
export function checkedValues(weights: Weights, name: string, dtype: "f16" | "f32"): Float32Array {
  const values = weights.float32(name), most = dtype === "f16" ? 65504 : Infinity;
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const value = Math.abs(values[i]);
    if (!(value < Infinity)) {
      throw new UserError(
        `${weights.label}: tensor "${name}" holds ${Number.isNaN(values[i]) ? "NaN" : "infinity"} at element ${i}`,
        "the training that made it went wrong, or the file is damaged",
      );
    }
    if (value > largest) largest = value;
  }
  if (largest > most) {
    throw new UserError(
      `${weights.label}: tensor "${name}" holds ${largest}, beyond half precision`,
      "add --dtype f32",
    );
  }
  return values;
}

/** SHA-256 and size of a file. */
export async function fingerprint(
  path: string,
  next: (bytes: number) => void = () => {},
): Promise<{ file: string; bytes: number; sha256: string }> {
  const hash = createHash("sha256"), chunk = new Uint8Array(1 << 22);
  using file = await Deno.open(path);
  let bytes = 0;
  for (let count; (count = await file.read(chunk)) !== null; bytes += count) {
    hash.update(chunk.subarray(0, count));
    next(count);
  }
  return { file: basename(path), bytes, sha256: hash.digest("hex") };
}

/** Most bytes of one weight file: what is done between two looks at Ctrl-C, and small enough for any file system. */
const SHARD_BYTES = 2 ** 29;

/** Bytes that a tensor takes, and whether it is kept in halves: matrices and convolutions only. */
function storageOf(shape: readonly number[], dtype: "f16" | "f32"): { half: boolean; bytes: number } {
  const half = dtype === "f16" && shape.length > 1;
  return { half, bytes: shape.reduce((product, axis) => product * axis, half ? 2 : 4) };
}

/** Tensors by name, in parts of at most `SHARD_BYTES`. */
function shards(expected: Shapes, dtype: "f16" | "f32"): (readonly [name: string, shape: readonly number[]])[][] {
  const parts: (readonly [string, readonly number[]])[][] = [[]];
  let size = 0;
  for (const [name, shape] of [...expected].sort(([a], [b]) => a < b ? -1 : 1)) {
    const { bytes } = storageOf(shape, dtype);
    if (size > 0 && size + bytes > SHARD_BYTES) {
      parts.push([]);
      size = 0;
    }
    parts.at(-1)!.push([name, shape]);
    size += bytes;
  }
  return parts;
}

/** Gives an array's memory back now: the collector lets a gigabyte of such arrays pile up before it looks. */
function release({ buffer }: Float32Array | Uint16Array): void {
  (buffer as ArrayBuffer).transfer(0);
}

/** Hands arrays through and gives back the memory of the one before, which has been written by then. */
export function oneAtATime(): <A extends Float32Array | Uint16Array>(array: A) => A {
  let last: Float32Array | Uint16Array | undefined;
  return (array) => {
    if (last) release(last);
    last = array;
    return array;
  };
}

/** What goes into a model folder. */
export interface ImportedModel {
  readonly config: ModelConfig;
  readonly vocab: readonly string[];
  readonly weights: Weights;
  readonly expected: Shapes;
  readonly match: Match;
  /** Storage of matrices and convolutions; vectors are kept in f32. */
  readonly dtype: "f16" | "f32";
  /** Written as `origin.json`: sources, licence, choices. */
  readonly origin: Record<string, unknown>;
  /** Text of a licence that came with the model. */
  readonly licenceText?: string;
}

/** Files that a model folder is made of, so that only such a one is ever cleared away. */
const FILES = /^(config\.json|origin\.json|vocab\.txt|LICENSE|model(-\d{5}-of-\d{5})?\.safetensors)(\.\d+\.tmp)?$/;

/**
 * Fills a folder beside its place and renames it: after an error, or a stop, there is nothing at `out`.
 * @param known names of files that an interrupted call may have left
 * @throws {UserError} where `out` is there already
 */
export async function createFolder(out: string, known: RegExp, fill: (folder: string) => Promise<void>): Promise<void> {
  const partial = `${out.replace(/[/\\]+$/, "")}.partial`;
  const entries = (path: string) => {
    try {
      return [...Deno.readDirSync(path)].map((entry) => entry.name);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      if (error instanceof Deno.errors.NotADirectory) throw new UserError(`${path}: a file stands there`);
      throw error;
    }
  };
  const there = entries(out);
  if (there?.length) throw new UserError(`${out} is not empty`, "choose another --out");
  const left = entries(partial);
  if (left && !left.every((name) => known.test(name))) {
    throw new UserError(`${partial} is in the way`, "move it away, or choose another --out");
  }
  if (left) Deno.removeSync(partial, { recursive: true });
  Deno.mkdirSync(partial, { recursive: true });
  try {
    await fill(partial);
    if (there) Deno.removeSync(out);
    Deno.renameSync(partial, out);
  } catch (error) {
    Deno.removeSync(partial, { recursive: true });
    throw error;
  }
}

/** Writes a text file whole. */
export function writeText(path: string, text: string): void {
  replaceFile(path, (file) => writeAll(file, new TextEncoder().encode(text)));
}

/**
 * Writes the model folder.
 * @param onTensor called before each tensor with its number of elements
 * @param next awaited now and then; may throw to stop
 * @throws {UserError} where the vocabulary does not fit, a tensor holds NaN, or the disk is full; nothing is left behind
 */
export async function writeModelFolder(
  out: string,
  model: ImportedModel,
  onTensor: (elements: number) => void = () => {},
  next: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const { config, vocab, weights, expected, match, dtype } = model;
  requireMatch(weights.label, match);
  if (vocab.length !== config.text.vocabSize) {
    throw new UserError(`the vocabulary has ${vocab.length} word pieces, the model ${config.text.vocabSize}`);
  }
  new Tokenizer(vocab);
  const hold = oneAtATime();
  await createFolder(out, FILES, async (folder) => {
    const parts = shards(expected, dtype), count = String(parts.length).padStart(5, "0");
    for (const [i, part] of parts.entries()) {
      await next();
      const number = parts.length > 1 ? `-${String(i + 1).padStart(5, "0")}-of-${count}` : "";
      const tensors = part.map(([name, shape]): [string, TensorToWrite] => {
        const { half } = storageOf(shape, dtype);
        const data = () => {
          onTensor(shape.reduce((product, axis) => product * axis, 1));
          const values = checkedValues(weights, match.found.get(name)!, half ? "f16" : "f32");
          if (!half) return hold(values);
          const halves = hold(toHalf(values));
          release(values);
          return halves;
        };
        return [name, { dtype: half ? "F16" : "F32", shape, data }];
      });
      writeSafetensors(join(folder, `model${number}.safetensors`), Object.fromEntries(tensors));
    }
    writeText(join(folder, "vocab.txt"), vocab.map((piece) => `${piece}\n`).join(""));
    writeText(join(folder, "origin.json"), `${JSON.stringify(model.origin, null, 2)}\n`);
    if (model.licenceText) writeText(join(folder, "LICENSE"), model.licenceText);
    writeText(join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
  });
}
