/** `reproduce`: the paper's tables, measured on a data set beside what the paper prints. */
import { basename } from "node:path";
import { UserError } from "../../src/errors.ts";
import { partsFolder } from "../assets.ts";
import { defineCommand } from "../command.ts";
import { openBase } from "../device.ts";
import { UsageError } from "../errors.ts";
import { existsFile } from "../jobs/files.ts";
import { requireSide } from "../jobs/inspection_training.ts";
import { reproduce } from "../jobs/reproduce.ts";
import { inspectionRecipe } from "../jobs/reproduce_stages.ts";
import { TABLE_NAMES, tableSpecs } from "../jobs/reproduce_tables.ts";
import * as shared from "./shared.ts";

/** Seeds of a list of words. */
function readSeeds(words: readonly string[]): number[] {
  const seeds = words.map((word) => {
    const seed = Number(word);
    if (/^\d+$/.test(word) && Number.isSafeInteger(seed)) return seed;
    throw new UsageError(`--seeds holds "${word}", which is no whole number from 0 on`, "for example --seeds 0,1,2");
  });
  const twice = seeds.find((seed, i) => seeds.indexOf(seed) !== i);
  if (twice !== undefined) throw new UsageError(`--seeds names ${twice} twice`);
  return seeds;
}

export default defineCommand({
  name: "reproduce",
  summary: "One or several of the paper's tables on your data, beside the paper's own figures.",
  details: "table1 quality and diversity (needs --inception, --lpips), table2 (and 10) localisation, table3 (11) " +
    "detection, table4 classification, table5 (12) against detectors, table6 ablation, table7 share of anomalies, " +
    "table8 numbers of tokens, table9 Prompt-to-Prompt. Tables in one run share what they have in common. Writes each " +
    "as Markdown, CSV and JSON, with its footing; --resume goes on, also with more tables or seeds. The defaults are " +
    "for the small model and the parts that ship; docs/reproduce.md tells the paper's sizes.",
  runFolder: true,
  gpu: true,
  flags: {
    table: {
      type: "list",
      value: "table",
      description: "Which tables.",
      choices: TABLE_NAMES,
      required: true,
      positional: true,
      changeable: true,
    },
    data: { ...shared.data, required: false, otherwise: "the parts that ship with the program" },
    part: shared.part,
    model: shared.model,
    seeds: {
      type: "list",
      value: "number",
      description: "Seeds; everything is trained and drawn anew for each.",
      default: ["0", "1", "2"],
      changeable: true,
    },
    count: {
      type: "integer",
      unit: "pairs",
      description: "Pairs for each kind of defect, the same for every method.",
      default: 16,
      min: 1,
    },
    masks: {
      type: "string",
      description: "Masks of learned methods: the real training masks placed anew, or sampled from mask embeddings.",
      choices: ["real", "embeddings"],
      default: "real",
    },
    trainSteps: {
      type: "integer",
      unit: "steps",
      description: "How long the embeddings and the spatial encoder are trained.",
      default: 540,
      min: 1,
    },
    maskTrainSteps: {
      goesWith: { masks: ["embeddings"] },
      type: "integer",
      unit: "steps",
      description: "With --masks embeddings: how long the mask embeddings are trained.",
      default: 120,
      min: 1,
    },
    trainBatchSize: shared.trainBatchSize(4),
    augmentedCopies: { ...shared.augmentedCopies, default: 8 },
    batchSize: shared.batchSize,
    steps: shared.steps(8),
    sampler: { ...shared.sampler, default: "dpm++2m" },
    guidanceScale: shared.guidanceScale(2),
    inspectRecipe: {
      type: "string",
      description:
        "How the inspection networks are made and trained: narrow for a processor, or official as the paper's " +
        "code (inspect-train --recipe).",
      choices: ["narrow", "official"],
      default: "narrow",
    },
    inspectSteps: {
      type: "integer",
      unit: "steps",
      description: "How long each inspection network is trained.",
      otherwise: "the recipe's",
      min: 1,
    },
    inspectWidth: {
      type: "integer",
      unit: "channels",
      description: "Channels of its first level.",
      otherwise: "the recipe's",
      min: 4,
      max: 128,
    },
    inspectResolution: {
      type: "integer",
      unit: "pixels",
      description: "Side at which it reads images, a multiple of 32.",
      otherwise: "the recipe's",
      min: 32,
      max: 1024,
    },
    inspectBatchSize: {
      type: "integer",
      unit: "images",
      description: "Images in one of its training steps.",
      otherwise: "the recipe's",
      min: 1,
      max: 256,
    },
    inspectLearningRate: {
      type: "number",
      description: "Step size of its optimiser.",
      otherwise: "the recipe's",
      min: 0,
      max: 1,
    },
    selection: {
      type: "string",
      description: "Keep its last weights, or those that do best on the test set, as the official code does.",
      choices: ["last", "test-best"],
      default: "last",
    },
    classifierWeights: {
      type: "string",
      value: "file",
      description:
        "Weights that table4's classifiers start from: torchvision's ResNet-34 as safetensors, with --inspect-recipe " +
        "official.",
      otherwise: "random ones",
    },
    backbone: {
      type: "string",
      value: "file",
      description: "ONNX network whose features table5's PatchCore compares (docs/metrics.md).",
      otherwise: "the base model's encoder",
    },
    controls: {
      type: "boolean",
      description:
        "A further row in table2 and table3, beyond the paper: inspection networks that learn from controls too.",
      default: false,
    },
    tune: {
      type: "boolean",
      description:
        "A further row in table2 and table3, beyond the paper: the U-Net's weights are trained along (train --tune).",
      default: false,
    },
    tuneSteps: {
      goesWith: { tune: [true] },
      type: "integer",
      unit: "steps",
      description: "With --tune: how long that takes.",
      default: 240,
      min: 1,
    },
    inception: {
      type: "string",
      value: "file",
      description: "Inception v3 as ONNX, for table1's IS (docs/metrics.md).",
    },
    lpips: {
      type: "string",
      value: "file",
      description: "LPIPS of VGG as ONNX, for table1's IC-LPIPS (docs/metrics.md).",
    },
  },
  examples: [
    "table2 table6 --out runs/tables",
    "table10 --data mvtec --part wood --seeds 0 --model models/large --out runs/wood-tables",
    "table1 --inception inception.onnx --lpips lpips-vgg.onnx --count 100 --out runs/table1",
  ],
  judge({ table, seeds, inception, lpips }) {
    readSeeds(seeds);
    if (!inception && !lpips && tableSpecs(table).some(({ measure }) => measure === "generation")) {
      throw new UsageError(
        "table1 needs --inception and --lpips, two networks as ONNX files",
        "docs/metrics.md tells how to export them; either one alone gives its column",
      );
    }
  },
  async run(options, context) {
    const { table, data, part, seeds, inception, lpips, ...budget } = options;
    const tables = tableSpecs(table, budget), numbers = readSeeds(seeds);
    if (tables.some(({ measure }) => measure === "generation")) {
      if (!inception) context.log("no --inception: the column IS stays empty");
      if (!lpips) context.log("no --lpips: the column IC-LPIPS stays empty");
    }
    // Looked at much later otherwise, when hours are spent.
    for (const { measure } of tables) {
      if (measure !== "generation") requireSide("--inspect-resolution", inspectionRecipe(budget, measure), measure);
    }
    for (const file of [inception, lpips, budget.classifierWeights, budget.backbone]) {
      if (file !== undefined && !await existsFile(file)) throw new UserError(`${file}: no such file`);
    }
    const base = await openBase(budget.model), { device, description } = base.gpu.info;
    const texts = await reproduce({
      tables,
      data: data ?? partsFolder(),
      dataName: data === undefined ? "the parts that ship" : basename(data),
      part,
      seeds: numbers,
      budget,
      networks: { inception, lpips },
      machine: {
        "base model": `${base.config.name}, SHA-256 ${base.sha256.slice(0, 16)}`,
        adapter: description || device,
      },
    }, context);
    texts.forEach((text) => context.print(text));
    for (const { name } of tables) context.log(context.runFolder.file(`${name}.md`));
  },
});
