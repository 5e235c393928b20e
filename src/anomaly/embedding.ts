/**
 * What training makes: an embedding e_a of k tokens for each kind of defect, and one spatial encoder shared by all
 * (paper, "Spatial Anomaly Embedding"). Kept as safetensors: `embeddings.<key>` [k, D], `spatial_encoder.*`.
 */

import { UserError } from "../errors.ts";
import type { Tensor } from "../graph/tensor.ts";
import {
  type OfficialSpatialConfig,
  officialSpatialEncoder,
  type SpatialTokens,
} from "../models/official_spatial_encoder.ts";
import { type LightSpatialConfig, lightSpatialEncoder } from "../models/spatial_encoder.ts";
import type { Parameters, Stored } from "../nn/parameters.ts";
import { encodeSafetensors, Safetensors, type TensorToWrite } from "../weights/safetensors.ts";
import type { View } from "./windows.ts";

/** Sizes of a spatial encoder. */
export type SpatialConfig = LightSpatialConfig | OfficialSpatialConfig;

/** Tokens of a mask [B, H, W, 1] by either encoder; `training` decides what the official one's batch norms do. */
export function maskTokens(config: SpatialConfig, p: Parameters, mask: Tensor, training = false): SpatialTokens {
  if (config.kind === "light") return { tokens: lightSpatialEncoder(config, p, mask), effects: [] };
  return officialSpatialEncoder(config, p, mask, training ? "batch" : config.generation);
}

/** Learned embeddings of one training run. */
export interface AnomalyEmbedding {
  /** What was learned: `object+defect`, in the order of the table. */
  readonly keys: readonly string[];
  /** Tokens k of each embedding. */
  readonly tokens: number;
  /** Width D of a token. */
  readonly width: number;
  /** e_a of every key, [keys · k, D]. */
  readonly table: Float32Array;
  /** The spatial encoder; undefined for embeddings without one (masks). */
  readonly spatial?: {
    readonly config: SpatialConfig;
    readonly parameters: ReadonlyMap<string, Stored>;
    /** The same on a device, where they are there already: a training that goes on lends its own. */
    readonly resident?: Parameters;
  };
  /** SHA-256 of the base model it belongs to. */
  readonly model: string;
  /** What the model saw of the pictures; the whole of them where left out. */
  readonly view?: View;
  /** Whether a defect's tokens counted in its mask only and its surface's outside; then they must in generation. */
  readonly regions?: boolean;
}

/** The embedding with an official spatial encoder that normalises by the batch's or the running statistics from now on. */
export function withStatistics(embedding: AnomalyEmbedding, batch: boolean | undefined): AnomalyEmbedding {
  const { spatial } = embedding;
  if (batch === undefined || spatial?.config.kind !== "official") return embedding;
  const config = { ...spatial.config, generation: batch ? "batch" as const : "running" as const };
  return { ...embedding, spatial: { ...spatial, config } };
}

/** What a sampler's sizes take from an embedding. */
export function samplingSizes({ tokens, spatial, regions }: AnomalyEmbedding) {
  return { tokens, spatial: spatial?.config, regions };
}

const PREFIX = "embeddings.";

/** An embedding whose spatial encoder may be read tensor by tensor while it is written: the official one has 1.4 GB. */
export type EmbeddingToWrite = Omit<AnomalyEmbedding, "spatial"> & {
  readonly spatial?: {
    readonly config: SpatialConfig;
    readonly parameters: ReadonlyMap<string, Pick<TensorToWrite, "shape" | "data">>;
  };
};

/** Tensors and metadata of an embedding file. */
export function embeddingTensors(
  { keys, tokens, width, table, spatial, model, view, regions }: EmbeddingToWrite,
): [tensors: Record<string, TensorToWrite>, metadata: Record<string, string>] {
  const tensors: Record<string, TensorToWrite> = {};
  keys.forEach((key, i) => {
    const data = table.slice(i * tokens * width, (i + 1) * tokens * width);
    tensors[`${PREFIX}${key}`] = { dtype: "F32", shape: [tokens, width], data };
  });
  for (const [name, { shape, data }] of spatial?.parameters ?? []) tensors[name] = { dtype: "F32", shape, data };
  return [tensors, {
    format: "anomalydiffusion-embedding",
    model,
    ...(spatial ? { spatial: JSON.stringify(spatial.config) } : {}),
    ...(view ? { view: JSON.stringify(view) } : {}),
    ...(regions ? { regions: "true" } : {}),
  }];
}

/** Bytes of an embedding file. */
export function encodeEmbedding(embedding: AnomalyEmbedding): Uint8Array<ArrayBuffer> {
  return encodeSafetensors(...embeddingTensors(embedding));
}

/**
 * Reads an embedding file.
 * @throws UserError where it is no such file
 */
export function decodeEmbedding(bytes: Uint8Array, label: string): AnomalyEmbedding {
  const file = Safetensors.parse(bytes, label);
  const names = file.names().filter((name) => name.startsWith(PREFIX));
  if (file.metadata.format !== "anomalydiffusion-embedding" || names.length === 0) {
    throw new UserError(`${label} holds no learned embeddings`, "give the folder that train or train-masks wrote");
  }
  const [tokens, width] = file.info(names[0]).shape;
  const table = new Float32Array(names.length * tokens * width);
  names.forEach((name, i) => {
    const { shape } = file.info(name);
    if (shape[0] !== tokens || shape[1] !== width) {
      throw new UserError(`${label}: ${name} is [${shape}], the first embedding [${tokens}, ${width}]`);
    }
    table.set(file.float32(name), i * tokens * width);
  });
  const parameters = new Map<string, Stored>(
    file.names().filter((name) => !name.startsWith(PREFIX)).map((
      name,
    ) => [name, { shape: file.info(name).shape, data: file.float32(name) }]),
  );
  const spatial = file.metadata.spatial ? { config: JSON.parse(file.metadata.spatial), parameters } : undefined;
  const keys = names.map((name) => name.slice(PREFIX.length)), { model } = file.metadata;
  const view = file.metadata.view ? JSON.parse(file.metadata.view) : undefined;
  return { keys, tokens, width, table, spatial, model, view, ...(file.metadata.regions ? { regions: true } : {}) };
}

/**
 * Rows of the table that belong to a key.
 * @throws UserError naming the keys there are
 */
export function tokensOf({ keys, tokens, width, table }: AnomalyEmbedding, key: string): Float32Array {
  const i = keys.indexOf(key);
  if (i < 0) throw new UserError(`nothing was learned for ${key}`, `there is: ${keys.join(", ")}`);
  return table.subarray(i * tokens * width, (i + 1) * tokens * width);
}
