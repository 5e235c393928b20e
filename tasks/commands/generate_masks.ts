/** `generate-masks`: masks sampled from the mask embeddings, or made by moving the real ones, filtered and topped up. */
import { planGeneration } from "../../src/anomaly/budget.ts";
import { defineCommand } from "../command.ts";
import { openBase } from "../device.ts";
import { UsageError } from "../errors.ts";
import { learnedKinds, openKinds, wasGiven } from "../jobs/dataset.ts";
import { makeMasks } from "../jobs/masks.ts";
import { fitGenerationTo, jobBudget } from "../jobs/memory.ts";
import { readEmbedding } from "../jobs/training.ts";
import * as shared from "./shared.ts";

/** What only sampled masks have. */
const SAMPLED = { goesWith: { source: ["embeddings"] } } as const;

export default defineCommand({
  name: "generate-masks",
  summary: "Makes new masks, filtered, to the count asked for.",
  details: "Masks that are empty, too small or large, cut by the border or off the part are rejected and replaced by " +
    "others until the count is reached. PNG files, <part>/<defect>/000.png, white is defect.",
  runFolder: true,
  gpu: true,
  flags: {
    source: {
      type: "string",
      description: "Sample from the learned mask embeddings, or crop, move and rotate the real training masks.",
      choices: ["embeddings", "real"],
      default: "embeddings",
    },
    masksRun: {
      type: "string",
      value: "folder",
      description: "Run folder of train-masks; needed for --source embeddings.",
      ...SAMPLED,
    },
    data: shared.data,
    model: shared.model,
    part: shared.part,
    defect: shared.defect,
    parity: shared.parity(() => ({
      source: "embeddings",
      steps: 100,
      sampler: "ddim",
      eta: 1,
      guidanceScale: 5,
      threshold: 0.9,
      filter: "border",
      onPart: false,
      maxBorder: 1 / 3,
      maxAttempts: 1000,
      imageFormat: "jpeg",
      emptyMasks: true,
      count: 504,
      batchSize: 8,
      seed: shared.anySeed(),
    })),
    officialSplit: shared.officialSplit,
    allPairs: { ...shared.allPairs, default: undefined, otherwise: "as in the training" },
    imageFormat: shared.imageFormat,
    seed: shared.seed,
    count: {
      type: "integer",
      unit: "masks",
      description: "Masks for each kind of defect.",
      default: 100,
      min: 1,
      changeable: true,
    },
    batchSize: shared.batchSize,
    steps: { ...shared.steps(50), ...SAMPLED },
    sampler: { ...shared.sampler, ...SAMPLED },
    eta: { ...shared.eta, goesWith: { ...SAMPLED.goesWith, ...shared.eta.goesWith } },
    guidanceScale: { ...shared.guidanceScale(5), ...SAMPLED },
    threshold: {
      type: "number",
      description: "Brightness above which a pixel of a sampled mask is defect.",
      ...SAMPLED,
      default: 0.5,
      min: 0,
      max: 1,
    },
    filter: {
      type: "string",
      description: "Judge a mask by area, pieces and border, or as the official code by the border alone.",
      choices: ["full", "border"],
      default: "full",
    },
    minArea: {
      type: "number",
      description: "Smallest share of the picture that a mask may cover.",
      otherwise: "0.4 times the smallest real mask",
      min: 0,
      max: 1,
    },
    maxArea: {
      type: "number",
      description: "Largest share of the picture that a mask may cover.",
      otherwise: "twice the largest real mask",
      min: 0,
      max: 1,
    },
    maxBorder: {
      type: "number",
      description: "Largest share of one side of the picture that a mask may touch.",
      default: 0.33,
      min: 0,
      max: 1,
    },
    maxAttempts: {
      type: "integer",
      description: "Tries for a mask that is rejected, before a real one is moved and rotated in its place.",
      ...SAMPLED,
      default: 12,
      min: 1,
      max: 1000,
    },
    emptyMasks: { ...shared.emptyMasks, ...SAMPLED },
    onPart: {
      type: "boolean",
      description: "Reject masks that lie mostly beside the part, judged by the normal images.",
      default: true,
    },
    memory: shared.memory,
  },
  examples: [
    "--data photos --masks-run runs/photos-masks --count 500 --out runs/masks",
    "--data photos --source real --out runs/masks",
  ],
  judge({ source, masksRun }) {
    if (source === "embeddings" && !masksRun) {
      throw new UsageError("--source embeddings needs --masks-run", "or place the real masks with --source real");
    }
  },
  async run(options, context) {
    const base = await openBase(options.model);
    const { seed, count, minArea, maxArea, maxBorder, onPart, steps, sampler, eta, guidanceScale: guidance } = options;
    const { emptyMasks: empty } = options;
    const allPairs = options.allPairs ??
      (options.masksRun !== undefined && await wasGiven(options.masksRun, "all-pairs"));
    const selection = { ...options, allPairs };
    let kinds, sampling;
    if (options.source === "embeddings") {
      const { path, embedding, sha256 } = await readEmbedding(options.masksRun!, "train-masks", base);
      kinds = learnedKinds(selection, path, embedding.keys, context);
      const sizes = {
        batch: options.batchSize,
        guidance,
        sampler,
        reweighting: "off",
        tokens: embedding.tokens,
      } as const;
      const budget = await jobBudget(options.memory, base.gpu, () => planGeneration(base.config, sizes));
      const batch = fitGenerationTo(budget, base.config, sizes, base.gpu.device, context);
      sampling = {
        base,
        embedding,
        embeddingHash: sha256,
        settings: { batch, steps, sampler, eta, guidance, reweighting: "off" as const, seed },
        threshold: 2 * options.threshold - 1,
      };
    }
    await makeMasks(
      kinds ?? openKinds(selection, context),
      {
        count,
        seed,
        onPart,
        maxAttempts: options.maxAttempts,
        limits: options.filter === "full"
          ? { minArea, maxArea, maxBorder, empty }
          : { minArea: minArea ?? 0, maxArea: maxArea ?? 1, maxComponents: Infinity, maxBorder, empty },
        sampling,
        side: base.side,
        format: options.imageFormat,
      },
      context,
    );
  },
});
