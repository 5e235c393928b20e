/** The official code's products as run folders of this program, and back. */

import { join } from "node:path";
import { decodeEmbedding, embeddingTensors, type EmbeddingToWrite, tokensOf } from "../../src/anomaly/embedding.ts";
import { UserError } from "../../src/errors.ts";
import type { OfficialSpatialConfig } from "../../src/models/official_spatial_encoder.ts";
import { SPATIAL_PREFIX } from "../../src/models/spatial_encoder.ts";
import type { Stored } from "../../src/nn/parameters.ts";
import {
  checkedValues,
  createFolder,
  describeMatch,
  fingerprint,
  matchTensors,
  oneAtATime,
  requireMatch,
  writeText,
} from "../../src/weights/convert.ts";
import { writeOfficialEmbeddings, writeOfficialSpatial } from "../../src/weights/convert_official.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { expectedSpatialTensors } from "../../src/weights/import/expected.ts";
import {
  MASK_KEY,
  type OfficialEmbeddings,
  type OfficialSpatial,
  openOfficialSpatial,
  readOfficialEmbeddings,
} from "../../src/weights/import/official.ts";
import { writeSafetensors } from "../../src/weights/safetensors.ts";
import type { Context } from "../command.ts";
import { UsageError } from "../errors.ts";
import { existsFile, readProduct } from "./files.ts";
import { EMBEDDINGS } from "./training.ts";

/** Id of `*` in bert-base-uncased, whose vocabulary the official code uses. */
const BERT_PLACEHOLDER = 1008;

const RUN_FILES = /^(embeddings\.safetensors|origin\.json)(\.\d+\.tmp)?$/;
const OFFICIAL_FILES = /^((embeddings|spatial_encoder)\.pt(\.\d+\.tmp)?|[^/]+-[^/]+)$/;

interface ImportFlags {
  readonly from: readonly string[];
  readonly out: string;
  readonly model?: string;
  readonly spatialEncoder?: string;
  readonly officialBn: boolean;
  readonly key?: readonly string[];
}

/** Tables of all files as one: a file of masks knows its only key as `*`, and is told its name. */
function joined(tables: readonly OfficialEmbeddings[], files: readonly string[], keys: readonly string[] | undefined) {
  const all = new Map<string, Float32Array>(), names = [...keys ?? []], [{ tokens, width }] = tables;
  const masks = tables.some(({ table }) => table.has(MASK_KEY));
  tables.forEach((file, i) => {
    if (file.tokens !== tokens || file.width !== width) {
      throw new UserError(
        `${files[i]}: ${file.tokens} tokens of width ${file.width}, in ${files[0]} ${tokens} of ${width}`,
        "import them into folders of their own",
      );
    }
    for (const [key, values] of file.table) {
      const name = key === MASK_KEY ? names.shift() : key;
      if (!name) {
        throw new UsageError(
          `${files[i]} does not say which masks it learned`,
          "add --key <part>+<defect> for each file",
        );
      }
      if (all.has(name)) throw new UserError(`${files[i]}: "${name}" is there twice`);
      all.set(name, values);
    }
  });
  if (names.length) throw new UsageError(`--key ${names[0]}: no file of --from is left for it`);
  return { table: all, tokens, width, masks };
}

/** The spatial encoder that belongs to an `embeddings.pt`. */
async function openEncoder(path: string, generation: OfficialSpatialConfig["generation"]): Promise<OfficialSpatial> {
  if (await existsFile(path)) return openOfficialSpatial(path, generation);
  throw new UserError(`${path} is missing`, "give the file that was trained with the embeddings: --spatial-encoder");
}

/** `embeddings.pt`, with its spatial encoder unless it learned masks, as a run folder that `generate` reads. */
export async function importOfficial(flags: ImportFlags, context: Context): Promise<void> {
  if (!flags.model) throw new UsageError("learned embeddings need --model <folder>, the base model they belong to");
  using model = openModelFolder(flags.model);
  const { table, tokens, width, masks } = joined(flags.from.map(readOfficialEmbeddings), flags.from, flags.key);
  if (width !== model.config.text.width) {
    throw new UserError(
      `${flags.from[0]}: tokens of width ${width}, but ${flags.model} has words of ${model.config.text.width}`,
      "give the --model that they were trained on",
    );
  }
  const encoder = flags.spatialEncoder ?? join(flags.from[0], "..", "spatial_encoder.pt");
  const sources = [...flags.from];
  using official = masks ? undefined : await openEncoder(encoder, flags.officialBn ? "batch" : "running");
  let spatial: EmbeddingToWrite["spatial"];
  if (official) {
    const { config, weights } = official, expected = expectedSpatialTensors(config);
    const match = matchTensors(weights, expected);
    describeMatch(match).slice(0, 40).forEach(context.log);
    requireMatch(encoder, match);
    if (config.width !== width) {
      throw new UserError(`${encoder}: tokens of width ${config.width}, in ${flags.from[0]} of ${width}`);
    }
    // Read and checked when their turn comes to be written.
    const hold = oneAtATime();
    const parameters = [...expected].map(([name, shape]) =>
      [name, { shape, data: () => hold(checkedValues(weights, name, "f32")) }] as const
    );
    spatial = { config, parameters: new Map(parameters) };
    sources.push(encoder);
  }
  const values = new Float32Array(table.size * tokens * width);
  [...table.values()].forEach((row, i) => values.set(row, i * tokens * width));
  const tensors = embeddingTensors({
    keys: [...table.keys()],
    tokens,
    width,
    table: values,
    spatial,
    model: model.sha256,
  });
  const prints: Awaited<ReturnType<typeof fingerprint>>[] = [];
  for (const source of sources) prints.push(await fingerprint(source));
  await createFolder(flags.out, RUN_FILES, (folder) => {
    writeSafetensors(join(folder, EMBEDDINGS), ...tensors);
    writeText(join(folder, "origin.json"), `${JSON.stringify({ sources: prints }, null, 2)}\n`);
    return Promise.resolve();
  });
  context.log(
    `${table.size} embeddings of ${tokens} tokens` +
      (spatial
        ? `, spatial encoder of ${spatial.config.tokens}`
        : ", of masks: give the folder to generate-masks as --masks-run (the official threshold is 0.8)"),
  );
  context.print(flags.out);
}

interface ExportFlags {
  readonly from: string;
  readonly out: string;
  readonly model?: string;
}

/** A run folder of `train` or `train-masks` in the official code's form. */
export async function exportOfficial({ from, out, model }: ExportFlags, context: Context): Promise<void> {
  const path = join(from, EMBEDDINGS);
  const embedding = decodeEmbedding(await readProduct(path, "train"), path), { keys, width, spatial } = embedding;
  if (spatial?.config.kind === "light") {
    throw new UserError(
      `${path} has the light spatial encoder, which the official code does not know`,
      "train with --spatial-encoder official",
    );
  }
  if (embedding.regions) {
    throw new UserError(
      `${path} belongs to a U-Net that was tuned, which the official code does not know`,
      "train without --tune",
    );
  }
  let placeholder = BERT_PLACEHOLDER;
  if (model) {
    using folder = openModelFolder(model);
    placeholder = folder.vocab.indexOf("*");
    if (placeholder < 0) throw new UserError(`${model}: its vocabulary has no "*"`);
  }
  await createFolder(out, OFFICIAL_FILES, (folder) => {
    if (spatial) {
      const table = new Map(keys.map((key) => [key, tokensOf(embedding, key).slice()]));
      writeOfficialEmbeddings(join(folder, "embeddings.pt"), table, width, placeholder);
      const bare = [...spatial.parameters].map(([name, stored]): [string, Stored] => [
        name.slice(SPATIAL_PREFIX.length + 1),
        stored,
      ]);
      writeOfficialSpatial(join(folder, "spatial_encoder.pt"), new Map(bare));
      return Promise.resolve();
    }
    for (const key of keys) { // one folder each, named as the official code names them
      const place = join(folder, key.replace("+", "-"));
      Deno.mkdirSync(join(place, "checkpoints"), { recursive: true });
      const table = new Map([[MASK_KEY, tokensOf(embedding, key).slice()]]);
      writeOfficialEmbeddings(join(place, "checkpoints", "embeddings.pt"), table, width, placeholder);
    }
    return Promise.resolve();
  });
  context.print(out);
}
