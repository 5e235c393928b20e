/** A trained base model as a model folder: config.json, model.safetensors (F16, latent diffusion's names), vocab.txt. */

import { join } from "node:path";
import { toHalf } from "../gpu/half.ts";
import { AUTOENCODER_PREFIX } from "../models/autoencoder.ts";
import type { Stored } from "../nn/parameters.ts";
import { replaceFile, writeAll } from "../weights/atomic.ts";
import { checkModelConfig, type ModelConfig } from "../weights/config.ts";

import { type TensorToWrite, writeSafetensors } from "../weights/safetensors.ts";

/** One point of a training curve. */
export interface CurvePoint {
  readonly stage: string;
  readonly step: number;
  readonly seconds: number;
  readonly loss: number;
}

/** A parameter, or how to read it. */
export type StoredOrRead = Pick<Stored, "shape"> & { readonly data: Float32Array | (() => Float32Array) };

/** What goes into a model folder. */
export interface TrainedModel {
  readonly config: ModelConfig;
  readonly vocab: readonly string[];
  /** Parameters of all networks in PyTorch's layouts; their values may be read when they are written. */
  readonly parameters: readonly ReadonlyMap<string, StoredOrRead>[];
  readonly curves: readonly CurvePoint[];
}

/**
 * Writes a model folder, each file whole or not at all. The same model gives the same bytes.
 * @throws UserError where the configuration is not valid or the disk is full
 */
export function exportModel(folder: string, { config, vocab, parameters, curves }: TrainedModel): void {
  const all = new Map(parameters.flatMap((part) => [...part]));
  // A duplicate word would shift the ids of a reader that keeps words once.
  if (new Set(vocab).size !== vocab.length) throw new Error("the vocabulary names a word twice");
  const tensors: Record<string, TensorToWrite> = {};
  for (const name of [...all.keys()].sort()) {
    const { shape, data } = all.get(name)!;
    tensors[name] = { dtype: "F16", shape, data: () => toHalf(typeof data === "function" ? data() : data) };
  }
  const text = (name: string, content: string) =>
    replaceFile(join(folder, name), (file) => writeAll(file, new TextEncoder().encode(content)));
  Deno.mkdirSync(folder, { recursive: true });
  const settings = checkModelConfig(config, join(folder, "config.json"));
  writeSafetensors(join(folder, "model.safetensors"), tensors);
  text("vocab.txt", vocab.map((word) => `${word}\n`).join(""));
  text(
    "curves.csv",
    [
      "stage,step,seconds,loss",
      ...curves.map((p) => [p.stage, p.step, Math.round(p.seconds), p.loss.toFixed(5)].join()),
    ]
      .map((line) => `${line}\n`).join(""),
  );
  text("config.json", `${JSON.stringify(settings, null, 2)}\n`);
}

/** Those of the parameters that belong to the autoencoder. */
export function isAutoencoder(name: string): boolean {
  return name.startsWith(`${AUTOENCODER_PREFIX}.`);
}
