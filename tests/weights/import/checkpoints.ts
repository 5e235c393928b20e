/** A tiny latent-diffusion model in every form that `import` reads, made from formula weights. */
import { join } from "node:path";
import type { Stored } from "../../../src/nn/parameters.ts";
import type { ModelConfig } from "../../../src/weights/config.ts";
import { writeOfficialSpatial } from "../../../src/weights/convert_official.ts";
import { FormulaWeights } from "../../../src/weights/formula.ts";
import { diffusersPlace } from "../../../src/weights/import/diffusers.ts";
import { expectedTensors } from "../../../src/weights/import/expected.ts";
import { type TensorToWrite, writeSafetensors } from "../../../src/weights/safetensors.ts";
import { TINY_VOCAB, tinyModelConfig } from "../../support/tiny_model.ts";

/** Sizes of the tiny model, such as diffusers can describe: no pixel blocks, attention in the autoencoder's middle. */
export const CONFIG: ModelConfig = {
  ...tinyModelConfig(),
  resolution: 16,
  scaleFactor: 0.5,
  autoencoder: { ...tinyModelConfig().autoencoder, patchSize: 1, midAttention: true },
  unet: { ...tinyModelConfig().unet, attentionLevels: [true, false] },
  text: { ...tinyModelConfig().text, depth: 2 },
};

/** The folders that diffusers would write beside the weights. */
const SETTINGS: Record<string, unknown> = {
  "unet/config.json": {
    sample_size: 8,
    in_channels: 4,
    out_channels: 4,
    block_out_channels: [32, 64],
    layers_per_block: 1,
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    attention_head_dim: 2,
    cross_attention_dim: 32,
  },
  "vqvae/config.json": {
    block_out_channels: [32, 64],
    layers_per_block: 1,
    latent_channels: 4,
    scaling_factor: 0.5,
  },
  "bert/config.json": {
    vocab_size: TINY_VOCAB.length,
    d_model: 32,
    encoder_layers: 2,
    encoder_attention_heads: 2,
    head_dim: 16,
    max_position_embeddings: 24,
  },
  "scheduler/scheduler_config.json": { beta_schedule: "scaled_linear", beta_start: 0.00085, beta_end: 0.012 },
};

/** The tiny model's tensors under latent diffusion's names. */
export function tinyTensors(config = CONFIG): Map<string, Stored> {
  const weights = new FormulaWeights("import");
  return new Map(
    [...expectedTensors(config)].map(([name, shape]) => [name, { shape, data: weights.get(name, shape) }]),
  );
}

const text = (words: string) => new TextEncoder().encode(words);
const int = (value: number) => Uint8Array.of(0x4a, ...new Uint8Array(Int32Array.of(value).buffer)); // "J"

const string = (s: string) => [text("X"), new Uint8Array(Uint32Array.of(text(s).length).buffer), text(s)];
const stridesOf = (shape: readonly number[]) =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
const longs = (...values: number[]) => new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
const joined = (parts: readonly Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));

/** A tar archive of files. */
function tarBytes(files: Readonly<Record<string, Uint8Array>>): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const [name, data] of Object.entries(files)) {
    const header = new Uint8Array(512),
      octal = (n: number, digits: number) => text(n.toString(8).padStart(digits, "0"));
    header.set(text(name), 0);
    header.set(octal(0o644, 7), 100);
    header.set(octal(data.length, 11), 124);
    header.set(text("0"), 156);
    header.set(text("ustar\x0000"), 257);
    header.fill(32, 148, 156); // the sum is taken with blanks in its place
    header.set(octal(header.reduce((a, b) => a + b, 0), 6), 148);
    parts.push(header, data, new Uint8Array(-data.length & 511));
  }
  return joined([...parts, new Uint8Array(1024)]);
}

/** What `torch.save` wrote in its first year: a tar archive of storages, tensors, and a pickle that names tensors. */
export function torchTarBytes(tensors: ReadonlyMap<string, Stored>): Uint8Array<ArrayBuffer> {
  const count: Uint8Array[] = [int(tensors.size), text(".")], storages = [...count], views = [...count];
  const pickle: Uint8Array[] = [text("}"), ...string("state_dict"), text("}(")];
  let i = 0;
  for (const [name, { shape, data }] of tensors) {
    const storage = 2 * i, tensor = 2 * i++ + 1;
    storages.push(text("("), int(storage), ...string("cpu"), text("ctorch\nFloatStorage\nt."));
    storages.push(longs(data.length), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    views.push(text("("), int(tensor), int(storage), text("ctorch\nFloatTensor\nt."));
    views.push(longs(shape.length, ...shape, ...stridesOf(shape), 0));
    pickle.push(...string(name), int(tensor), text("Q"));
  }
  const system = text("}."), all = joined([...pickle, text("us.")]);
  return tarBytes({
    sys_info: system,
    pickle: all,
    tensors: joined(views),
    storages: joined([...storages, text("].")]),
  });
}

/** A float32 tensor as torch pickles it: `shape` from element `offset` of a storage on. */
function pickledTensor(key: string, elements: number, offset: number, shape: readonly number[]): Uint8Array[] {
  return [
    ...[text("ctorch._utils\n_rebuild_tensor_v2\n(("), ...string("storage"), text("ctorch\nFloatStorage\n")],
    ...[...string(key), ...string("cpu"), int(elements), text("NtQ"), int(offset), text("(")],
    ...[...shape.map(int), text("t("), ...stridesOf(shape).map(int), text("tI00\n}tR")],
  ];
}

/** A row of values somewhere in a large storage; with a shape, a tensor from there on of which only the row is not 0. */
export interface FarTensor {
  readonly name: string;
  readonly shape?: readonly number[];
  /** Elements of its storage. */
  readonly elements: number;
  /** First element of the row. */
  readonly offset: number;
  readonly values: Float32Array;
}

/**
 * Writes what `torch.save` writes of storages of any size, in zip64 where they need it, with holes for everything that is not
 * a value: it takes next to no room on the disk.
 */
export function writeSparseZip(path: string, tensors: readonly FarTensor[]): void {
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  const full = 0xffffffff, directory: Uint8Array[] = [];
  let end = 0;
  const put = (...parts: Uint8Array[]) => {
    const bytes = joined(parts);
    file.seekSync(end, Deno.SeekMode.Start);
    for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    end += bytes.length;
  };
  const shorts = (...values: number[]) => new Uint8Array(Uint16Array.from(values).buffer);
  const words = (...values: number[]) => new Uint8Array(Uint32Array.from(values).buffer);
  const entry = (name: string, size: number, at: number, content: Uint8Array) => {
    const header = end, bytes = text(`archive/${name}`), short = Math.min(size, full);
    const sizes = size >= full ? longs(size, size) : longs();
    const local = sizes.length ? [shorts(1, sizes.length), sizes] : [];
    const wide = joined(header >= full ? [sizes, longs(header)] : [sizes]);
    const extra = wide.length ? [shorts(1, wide.length), wide] : [];
    put(text("PK\x03\x04"), shorts(45, 0, 0, 0, 0), words(0, short, short), shorts(bytes.length, joined(local).length));
    put(bytes, ...local);
    const start = end;
    end += at;
    put(content);
    end = start + size;
    directory.push(text("PK\x01\x02"), shorts(45, 45, 0, 0, 0, 0), words(0, short, short));
    directory.push(
      shorts(bytes.length, joined(extra).length, 0, 0, 0),
      words(0, Math.min(header, full)),
      bytes,
      ...extra,
    );
  };
  const pickle: Uint8Array[] = [text("}"), ...string("state_dict"), text("}(")];
  tensors.forEach(({ name, shape, elements, offset, values }, i) => {
    pickle.push(...string(name), ...pickledTensor(String(i), elements, offset, shape ?? [values.length]));
  });
  const all = joined([...pickle, text("us.")]);
  entry("data.pkl", all.length, 0, all);
  tensors.forEach(({ elements, offset, values }, i) => {
    entry(`data/${i}`, 4 * elements, 4 * offset, new Uint8Array(values.slice().buffer));
  });
  entry("version", 2, 0, text("3\n"));
  const start = end, count = tensors.length + 2;
  put(...directory);
  const size = end - start, record = end;
  put(text("PK\x06\x06"), longs(44), shorts(45, 45), words(0, 0), longs(count, count, size, start));
  put(text("PK\x06\x07"), words(0), longs(record), words(1));
  put(text("PK\x05\x06"), shorts(0, 0, count, count), words(size, Math.min(start, full)), shorts(0));
}

/** What `torch.save` wrote before 1.6: a row of pickles, then the storages. */
export function streamBytes(tensors: ReadonlyMap<string, Stored>): Uint8Array<ArrayBuffer> {
  const magic = Uint8Array.of(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e);
  const parts: Uint8Array[] = [magic, Uint8Array.of(0x80, 2, 0x4d, 0xe9, 3, 0x2e), text("}.")];
  const keys: Uint8Array[] = [], data: Uint8Array[] = [];
  parts.push(text("}"), ...string("state_dict"), text("}("));
  let i = 0;
  for (const [name, { shape, data: values }] of tensors) {
    const key = String(i++);
    parts.push(...string(name), ...pickledTensor(key, values.length, 0, shape));
    keys.push(...string(key));
    data.push(new Uint8Array(BigInt64Array.of(BigInt(values.length)).buffer), new Uint8Array(values.buffer));
  }
  parts.push(text("us."), text("("), ...keys, text("l."), ...data);
  return joined(parts);
}

/** Writes a form of the tiny model and says what to give to `--from`. */
export type Writer = (folder: string, tensors: ReadonlyMap<string, Stored>) => string;

const toWrite = (tensors: Iterable<readonly [string, Stored]>): Record<string, TensorToWrite> =>
  Object.fromEntries([...tensors].map(([name, { shape, data }]) => [name, { dtype: "F32" as const, shape, data }]));

/**
 * The settings of a diffusers folder, and its tensors by component.
 * @param vae the autoencoder's folder
 * @param form of names that were changed since: 0 the first, 1 today's
 */
function diffusersParts(folder: string, tensors: ReadonlyMap<string, Stored>, vae: "vqvae" | "vae", form: 0 | 1) {
  for (const [name, json] of Object.entries(SETTINGS)) {
    const path = join(folder, "hub", name.replace("vqvae", vae));
    Deno.mkdirSync(join(path, ".."), { recursive: true });
    Deno.writeTextFileSync(path, JSON.stringify(json));
  }
  const parts = { unet: new Map<string, Stored>(), vae: new Map<string, Stored>(), text: new Map<string, Stored>() };
  for (const [name, { shape, data }] of tensors) {
    const { component, names } = diffusersPlace(CONFIG, name);
    // The middle attention is a linear layer there.
    parts[component].set(names[form] ?? names[0], { shape: name.includes("attn_1") ? shape.slice(0, 2) : shape, data });
  }
  return parts;
}

/** All forms by name. */
export const FORMS: Readonly<Record<string, Writer>> = {
  zip(folder, tensors) {
    writeOfficialSpatial(join(folder, "model.ckpt"), tensors);
    return "model.ckpt";
  },
  stream(folder, tensors) {
    Deno.writeFileSync(join(folder, "old.pt"), streamBytes(tensors));
    return "old.pt";
  },
  tar(folder, tensors) {
    Deno.writeFileSync(join(folder, "oldest.pt"), torchTarBytes(tensors));
    return "oldest.pt";
  },
  safetensors(folder, tensors) {
    writeSafetensors(join(folder, "model.safetensors"), toWrite(tensors));
    return "model.safetensors";
  },
  sharded(folder, tensors) {
    const all = [...tensors], half = all.length >> 1, names = ["a.safetensors", "b.safetensors"];
    [all.slice(0, half), all.slice(half)].forEach((part, i) => writeSafetensors(join(folder, names[i]), toWrite(part)));
    const weight_map = Object.fromEntries(all.map(([name], i) => [name, names[i < half ? 0 : 1]]));
    Deno.writeTextFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
    return "model.safetensors.index.json";
  },
  diffusers(folder, tensors) {
    const parts = diffusersParts(folder, tensors, "vqvae", 0);
    writeSafetensors(join(folder, "hub/unet/diffusion_pytorch_model.safetensors"), toWrite(parts.unet));
    writeOfficialSpatial(join(folder, "hub/vqvae/diffusion_pytorch_model.bin"), parts.vae);
    writeOfficialSpatial(join(folder, "hub/bert/pytorch_model.bin"), parts.text);
    return "hub";
  },
  "diffusers-new"(folder, tensors) {
    const parts = diffusersParts(folder, tensors, "vae", 1), all = [...parts.unet], half = all.length >> 1;
    const names = [1, 2].map((i) => `diffusion_pytorch_model-0000${i}-of-00002.safetensors`);
    [all.slice(0, half), all.slice(half)].forEach((part, i) =>
      writeSafetensors(join(folder, "hub/unet", names[i]), toWrite(part))
    );
    const weight_map = Object.fromEntries(all.map(([name], i) => [name, names[i < half ? 0 : 1]]));
    const index = join(folder, "hub/unet/diffusion_pytorch_model.safetensors.index.json");
    Deno.writeTextFileSync(index, JSON.stringify({ weight_map }));
    writeSafetensors(join(folder, "hub/vae/diffusion_pytorch_model.safetensors"), toWrite(parts.vae));
    writeSafetensors(join(folder, "hub/bert/model.safetensors"), toWrite(parts.text));
    return "hub";
  },
};

/** What every form needs beside it: the word pieces, and the sizes. */
export function writeBeside(folder: string): void {
  const vocab = TINY_VOCAB.map((piece) => `${piece}\n`).join("");
  Deno.writeTextFileSync(join(folder, "vocab.txt"), vocab);
  Deno.writeTextFileSync(join(folder, "sizes.json"), JSON.stringify(CONFIG));
}
