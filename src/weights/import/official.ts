/**
 * What the official code's training writes (`EmbeddingManager.save`, `SpatialEncoder.state_dict()` of
 * sjtuplayer/anomalydiffusion): `embeddings.pt`, a table of learned tokens by `object+defect` (or `*` for masks), and
 * `spatial_encoder.pt`. Token counts come from the files.
 */

import { UserError } from "../../errors.ts";
import { type OfficialSpatialConfig, officialSpatialConfig } from "../../models/official_spatial_encoder.ts";
import { SPATIAL_PREFIX } from "../../models/spatial_encoder.ts";
import { entriesOf, openTorch, openWeights, type Weights } from "./checkpoint.ts";
import { TorchTensor } from "./torch.ts";

/** The official code's key of a table that learned masks. */
export const MASK_KEY = "*";

/** Learned tokens by key, each [tokens, width]. */
export interface OfficialEmbeddings {
  readonly tokens: number;
  readonly width: number;
  readonly table: ReadonlyMap<string, Float32Array>;
}

/** Whether a file is a table of learned tokens; other files that PyTorch wrote are not, and nor is anything else. */
export function isOfficialEmbeddings(path: string): boolean {
  try {
    using file = openTorch(path);
    return entriesOf(file.value)?.has("string_to_param") ?? false;
  } catch (error) {
    if (error instanceof UserError) return false; // told by the reader that is tried next
    throw error;
  }
}

/**
 * Reads `embeddings.pt`.
 * @throws {UserError} where it holds no learned tokens, tokens of several shapes, or NaN
 */
export function readOfficialEmbeddings(path: string): OfficialEmbeddings {
  using file = openTorch(path);
  const parameters = entriesOf(entriesOf(file.value)?.get("string_to_param"));
  const table = new Map<string, Float32Array>();
  let shape: readonly number[] | undefined;
  for (const [key, tensor] of parameters ?? []) {
    if (typeof key !== "string" || !(tensor instanceof TorchTensor)) continue;
    if (tensor.shape.length !== 2 || tensor.shape.some((axis) => axis < 1)) {
      throw new UserError(`${path}: tensor "${key}" is [${tensor.shape.join(", ")}], not [tokens, width]`);
    }
    shape ??= tensor.shape;
    if (tensor.shape.join() !== shape.join()) {
      throw new UserError(`${path}: tensor "${key}" is [${tensor.shape.join(", ")}], others [${shape.join(", ")}]`);
    }
    const values = tensor.float32(file.source, key);
    if (!values.every(Number.isFinite)) throw new UserError(`${path}: tensor "${key}" holds NaN or infinity`);
    table.set(key, values);
  }
  if (!shape) throw new UserError(`${path}: no learned tokens`, "give the embeddings.pt of the official code");
  return { tokens: shape[0], width: shape[1], table };
}

/** An open spatial encoder with its sizes. Dispose of it (`using`) to close the file. */
export interface OfficialSpatial extends Disposable {
  readonly config: OfficialSpatialConfig;
  /** Its tensors under this program's names, `spatial_encoder.*`. */
  readonly weights: Weights;
}

/**
 * Opens `spatial_encoder.pt`; tokens, widths and side are taken from the tensors.
 * @throws {UserError} where a tensor that decides them is missing
 */
export function openOfficialSpatial(
  path: string,
  generation: OfficialSpatialConfig["generation"] = "running",
): OfficialSpatial {
  const inner = openWeights(path);
  try {
    const axis = (name: string, i: number): number => {
      const size = inner.has(name) ? inner.info(name).shape[i] : undefined;
      if (!size) throw new UserError(`${path}: no tensor "${name}", so not the official spatial encoder`);
      return size;
    };
    const count = (pattern: RegExp) => new Set(inner.names().flatMap((name) => pattern.exec(name)?.[1] ?? [])).size;
    const width = axis("styles.0.linear.weight", 0), side = 4 * 2 ** count(/^styles\.0\.convs\.(\d+)\.weight$/);
    const blocks = ["body.0", "body.3", "body.7", "body.21"].map((b) => axis(`${b}.res_layer.1.weight`, 0));
    const [first, second, third, fourth] = blocks;
    const config = {
      ...officialSpatialConfig(count(/^styles\.(\d+)\.linear\.weight$/), width, { side, generation }),
      channels: [axis("input_layer.0.weight", 0), first, second, third, fourth] as const,
    };
    if (side > 4096) throw new UserError(`${path}: heads for masks of ${side} pixels`);
    const bare = (name: string) => name.slice(SPATIAL_PREFIX.length + 1);
    const names = inner.names().filter((name) => !name.endsWith("num_batches_tracked"));
    const weights: Weights = {
      label: path,
      files: [path],
      names: () => names.map((name) => `${SPATIAL_PREFIX}.${name}`),
      has: (name) => inner.has(bare(name)),
      info: (name) => inner.info(bare(name)),
      float32: (name) => inner.float32(bare(name)),
      [Symbol.dispose]: () => inner[Symbol.dispose](),
    };
    return { config, weights, [Symbol.dispose]: () => inner[Symbol.dispose]() };
  } catch (error) {
    inner[Symbol.dispose]();
    throw error;
  }
}
