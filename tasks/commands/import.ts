/** `import`: weights and learned embeddings of other programs become folders of this one, and embeddings go back. */
import { dirname, join } from "node:path";
import { UserError } from "../../src/errors.ts";
import { checkModelConfig, type ModelConfig } from "../../src/weights/config.ts";
import { describeMatch, fingerprint, hasAverages, matchTensors, writeModelFolder } from "../../src/weights/convert.ts";
import { openWeights, type Weights } from "../../src/weights/import/checkpoint.ts";
import { diffusersConfig, isDiffusersFolder, openDiffusers } from "../../src/weights/import/diffusers.ts";
import { expectedTensors, type Shapes } from "../../src/weights/import/expected.ts";
import { isOfficialEmbeddings } from "../../src/weights/import/official.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { type Context, defineCommand } from "../command.ts";
import { UsageError } from "../errors.ts";
import { exportOfficial, importOfficial } from "../jobs/official.ts";
import { EMBEDDINGS } from "../jobs/training.ts";

/** Lines of what is missing or unexpected that are shown; more say nothing new. */
const SHOWN = 40;

interface ModelFlags {
  readonly from: string[];
  readonly out: string;
  readonly vocab?: string;
  readonly modelConfig?: string;
  readonly dtype: "f16" | "f32";
  readonly ema: boolean;
  readonly name?: string;
  readonly licence?: string;
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** Text of the first of these files that exists. */
function firstText(paths: readonly string[]): string | undefined {
  for (const path of paths) {
    try {
      return Deno.readTextFileSync(path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
    }
  }
}

function readConfig(path: string): ModelConfig {
  let json: unknown;
  try {
    json = JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: no such file`);
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(`${path}: not valid JSON`);
  }
  return checkModelConfig(json, path);
}

function readVocab(folder: string, given: string | undefined): string[] {
  const text = firstText(given ? [given] : [join(folder, "tokenizer", "vocab.txt"), join(folder, "vocab.txt")]);
  if (text === undefined) {
    throw new UserError(
      given ? `${given}: no such file` : `${folder}: no vocab.txt`,
      "give the word pieces of the model's tokenizer with --vocab (bert-base-uncased's for LDM text2img-large)",
    );
  }
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/** What the publisher says: a flag, the front matter of a model card, or that nothing is said. */
function licenceOf(folder: string, given: string | undefined): { licence: string; licenceText?: string } {
  const licenceText = firstText(["LICENSE", "LICENSE.txt", "LICENSE.md"].map((name) => join(folder, name)));
  const card = /^---\n[^]*?^license:\s*(\S+)[^]*?^---$/m.exec(firstText([join(folder, "README.md")]) ?? "")?.[1];
  const stated = given ?? card ?? (licenceText ? "see LICENSE" : undefined);
  return { licence: stated ?? "not stated with the files; ask the publisher of the weights", licenceText };
}

async function importModel(flags: ModelFlags, context: Context): Promise<void> {
  const [from] = flags.from, diffusers = isFolder(from);
  if (diffusers && !isDiffusersFolder(from)) {
    throw new UserError(
      `${from}: neither a diffusers folder (unet/, vqvae/ or vae/, bert/) nor a run folder of train`,
      "give a checkpoint file, or the right folder",
    );
  }
  const folder = diffusers ? from : dirname(from);
  const given = flags.modelConfig
    ? readConfig(flags.modelConfig)
    : diffusers
    ? diffusersConfig(from)
    : largeModelConfig();
  const expected: Shapes = expectedTensors(given);
  using weights: Weights = diffusers ? openDiffusers(from, given, expected.keys()) : openWeights(from);
  const averages = hasAverages(weights);
  if (flags.ema && !averages) {
    throw new UserError(`${weights.label} keeps no moving averages (model_ema.*)`, "leave --ema out");
  }
  if (averages) {
    context.log(
      flags.ema
        ? "the U-Net's moving averages (model_ema.*) are taken"
        : "the U-Net's last weights are taken, as the official code does; --ema takes its moving averages",
    );
  }
  const match = matchTensors(weights, expected, flags.ema), lines = describeMatch(match);
  lines.slice(0, SHOWN).forEach(context.log);
  if (lines.length > SHOWN) context.log(`and ${lines.length - SHOWN} more`);
  const vocab = match.missing.length + match.misshapen.length ? [] : readVocab(folder, flags.vocab);
  const elements = [...expected.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const stop = async () => {
    await new Promise((resolve) => setTimeout(resolve)); // lets Ctrl-C in
    context.signal.throwIfAborted();
  };
  const sources: Awaited<ReturnType<typeof fingerprint>>[] = [];
  if (vocab.length) {
    const total = weights.files.reduce((sum, file) => sum + Deno.statSync(file).size, 0) / 2 ** 20;
    const reading = context.progress({ label: "fingerprint", total: Math.ceil(total), unit: "megabyte" });
    let read = 0;
    for (const file of weights.files) {
      sources.push(
        await fingerprint(file, (bytes) => {
          context.signal.throwIfAborted();
          reading.update(Math.floor((read += bytes) / 2 ** 20));
        }),
      );
    }
    reading.finish();
  }
  const { licence, licenceText } = licenceOf(folder, flags.licence);
  const origin = {
    sources,
    licence,
    weights: flags.ema ? "moving averages" : "last",
    dtype: flags.dtype,
    tensors: match.found.size,
    parameters: elements,
    ignored: match.ignored.length,
    unexpected: match.unexpected,
  };
  const config: ModelConfig = {
    ...given,
    name: flags.name ?? given.name,
    training: { importedFrom: sources.map(({ file, sha256 }) => ({ file, sha256 })), weights: origin.weights },
  };
  const writing = context.progress({ label: "writing", total: Math.ceil(elements / 1e6), unit: "million weight" });
  let written = 0;
  const onTensor = (count: number) => writing.update(Math.floor((written += count) / 1e6));
  const model = { config, vocab, weights, expected, match, dtype: flags.dtype, origin, licenceText };
  await writeModelFolder(flags.out, model, onTensor, stop);
  writing.finish();
  context.log(
    `${match.found.size} tensors, ${(elements / 1e6).toFixed(1)} M weights; ` +
      `${match.ignored.length} others known and left out, ${match.unexpected.length} unexpected`,
  );
  context.print(flags.out);
}

export default defineCommand({
  name: "import",
  summary: "Makes a model folder from a PyTorch checkpoint, safetensors or a diffusers folder.",
  details: "Nothing in a checkpoint is run. Every name and shape is checked before anything is written. The official " +
    "code's embeddings.pt and spatial_encoder.pt become a run folder for generate; --to official writes a run folder of " +
    "train back in their form.",
  runFolder: false,
  gpu: false,
  flags: {
    from: {
      type: "list",
      value: "path",
      description: "A .ckpt, .pt, .bin or .safetensors file, the .index.json of one in parts, a diffusers folder, an " +
        "embeddings.pt (several for masks), or a run folder of train.",
      required: true,
    },
    out: { type: "string", value: "folder", description: "Folder to make.", required: true },
    vocab: {
      type: "string",
      value: "file",
      description: "Word pieces of the tokenizer, one a line.",
      otherwise: "vocab.txt in tokenizer/ or beside the checkpoint",
    },
    modelConfig: {
      type: "string",
      value: "file",
      description: "config.json with the model's sizes.",
      otherwise: "the diffusers folder's own, else LDM text2img-large",
    },
    dtype: {
      type: "string",
      description: "Storage of matrices: half or single precision.",
      choices: ["f16", "f32"],
      default: "f16",
    },
    ema: { type: "boolean", description: "Take the U-Net's moving averages (model_ema.*).", default: false },
    name: { type: "string", value: "name", description: "Name of the model.", otherwise: "the checkpoint's own" },
    licence: {
      type: "string",
      value: "text",
      description: "Licence of the weights, kept with them.",
      otherwise: "what a model card or LICENSE beside them says",
    },
    model: {
      type: "string",
      value: "folder",
      description: "Model folder that learned embeddings belong to.",
      otherwise: "needed for embeddings only",
    },
    spatialEncoder: {
      type: "string",
      value: "file",
      description: "The spatial_encoder.pt that belongs to an embeddings.pt.",
      otherwise: "the one beside it",
    },
    officialBn: {
      type: "boolean",
      description: "Normalise by the batch's statistics when images are made too, as the official code does.",
      default: false,
    },
    key: {
      type: "list",
      value: "name",
      description: "What the files of --from learned masks of, each <part>+<defect>.",
      otherwise: "as the files say",
    },
    to: {
      type: "string",
      description: "Whose form to write: this program's, or the official code's.",
      choices: ["here", "official"],
      default: "here",
    },
  },
  examples: [
    "--from model.ckpt --vocab bert/vocab.txt --out models/large",
    "--from embeddings.pt --spatial-encoder spatial_encoder.pt --model models/large --out runs/official",
    "--from runs/photos --to official --out official",
  ],
  async run(options, context) {
    const [from, ...more] = options.from;
    if (options.to === "official") {
      if (more.length) throw new UsageError("--to official takes one run folder in --from");
      return await exportOfficial({ ...options, from }, context);
    }
    if (isFolder(from) && firstText([join(from, EMBEDDINGS)]) !== undefined) {
      throw new UsageError(
        `${from} is a run folder of this program`,
        "to write it for the official code: --to official",
      );
    }
    if (!isFolder(from) && isOfficialEmbeddings(from)) return await importOfficial(options, context);
    if (more.length) {
      throw new UsageError("a model is imported from one --from", "give the index or the folder of its parts");
    }
    await importModel(options, context);
  },
});
