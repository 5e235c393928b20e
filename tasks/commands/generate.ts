/** `generate`: image-mask pairs by blended latent diffusion with adaptive attention re-weighting (paper section 3.3). */
import { planGeneration } from "../../src/anomaly/budget.ts";
import { samplingSizes, withStatistics } from "../../src/anomaly/embedding.ts";
import { guideFromOf } from "../../src/anomaly/surface.ts";
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import { usePrecision } from "../device.ts";
import { UsageError } from "../errors.ts";
import { learnedKinds, wasGiven } from "../jobs/dataset.ts";
import { fitGenerationTo, jobBudget } from "../jobs/memory.ts";
import { makePairs } from "../jobs/pairs.ts";
import { openTrainedBase, readEmbedding, usualGuidance, usualReweighting } from "../jobs/training.ts";
import * as shared from "./shared.ts";

/** Images that show what the seed changes, and from how many pairs on they are worth their time. */
const PROBES = 2, PROBES_FROM = 32;

/** What the quality gate asks of a pair: of 360 real defects on the parts' surfaces 5 have less (docs/metrics.md). */
const MIN_CHANGE = 0.01, MIN_CHANGED_SHARE = 0.1;

/** What guidance of scale 1 leaves without effect. */
const GUIDED = { idleBeside: { guidanceScale: [1] } } as const;

/** What only the quality gate asks. */
const GATED = { goesWith: { qualityGate: [true] } } as const;

export default defineCommand({
  name: "generate",
  summary: "Makes image-mask pairs in MVTec layout, with a manifest that makes each one again.",
  details:
    "Each defect is drawn into a normal image inside a mask; pixels away from the mask stay as they were. Images " +
    "of any size come out at their own size. manifest.jsonl records seed, source, mask and settings of each pair; " +
    "pair i depends on the seed and i alone. Pairs in which " +
    "nothing or too little changed, whose colour no training pair has, or that look like an earlier one, are tried again. summary.json and the last lines tell what changed inside and outside the " +
    "masks, how near pairs are to the training images and to each other, and how much the seed changes.",
  runFolder: true,
  gpu: true,
  flags: {
    data: shared.data,
    trainRun: {
      type: "string",
      value: "folder",
      description: "Run folder of train.",
      required: true,
    },
    masks: {
      type: "string",
      value: "folder",
      description:
        "Masks to draw defects into: the run folder of generate-masks, or <part>/<defect>/*.png of the images' shape.",
      otherwise: "the real training masks, cropped, moved and rotated",
    },
    emptyMasks: shared.emptyMasks,
    model: { ...shared.model, otherwise: "the training's own where it tuned one, else the small model that ships" },
    part: shared.part,
    defect: shared.defect,
    parity: shared.parity(() => ({
      steps: 200,
      sampler: "ddim",
      eta: 1,
      guidanceScale: 1,
      guideFrom: "empty",
      reweighting: "official",
      latentMask: "official",
      pasteBack: false,
      keepDetail: false,
      feather: 0,
      window: "whole",
      maxAttempts: 1,
      qualityGate: false,
      imageFormat: "jpeg",
      emptyMasks: true,
      officialBn: true,
      count: 504,
      batchSize: 8,
      officialSplit: true,
      seed: shared.anySeed(),
    })),
    officialSplit: shared.officialSplit,
    allPairs: { ...shared.allPairs, default: undefined, otherwise: "as in the training" },
    seed: shared.seed,
    count: {
      type: "integer",
      unit: "pairs",
      description: "Pairs for each kind of defect.",
      default: 100,
      min: 1,
      changeable: true,
    },
    batchSize: shared.batchSize,
    memory: shared.memory,
    precision: shared.precision,
    steps: shared.steps(50),
    sampler: shared.sampler,
    eta: shared.eta,
    guidanceScale: shared.guidanceScale(2),
    guideFrom: {
      type: "string",
      description:
        "What guidance leads away from: the empty prompt, or the part's own surface, so that only what makes the " +
        "defect grows.",
      choices: ["surface", "empty"],
      ...GUIDED,
      otherwise: "surface where the training learned it",
    },
    guidanceBelow: {
      type: "integer",
      value: "timestep",
      description:
        "Guide below this timestep only, of 1000. Guidance above brings foreign colours; shapes and strength come from below.",
      ...GUIDED,
      otherwise: "at every timestep; 600 where the training tuned the U-Net",
      min: 1,
      max: 1000,
    },
    reweighting: {
      type: "string",
      description:
        "Adaptive attention re-weighting: none, as the official code, or by the paper's equation 7, with what its " +
        "text leaves open as in docs/parity.md.",
      choices: ["off", "official", "paper"],
      otherwise: "official; off where the training tuned the U-Net, whose defects are strong enough without",
    },
    imageFormat: shared.imageFormat,
    latentMask: shared.latentMask,
    pasteBack: {
      type: "boolean",
      description: "Restore the background after the last step: in the latent, then pixel for pixel.",
      default: true,
    },
    feather: {
      type: "integer",
      unit: "pixels",
      description: "Width of the soft edge over which the background is pasted back.",
      default: 3,
      min: 0,
      max: 64,
    },
    officialBn: {
      type: "boolean",
      description:
        "Normalise by the batch's statistics in the official spatial encoder, as the official code does: an " +
        "image then depends on its batch.",
      otherwise: "as in the training or the import",
    },
    window: { ...shared.window, otherwise: "as in the training" },
    zoom: { ...shared.zoom, goesWith: { window: ["mask"] }, otherwise: "as in the training" },
    keepDetail: {
      type: "boolean",
      description: "Give back fine texture of the source, which the autoencoder blurs, where the defect is faint.",
      default: true,
    },
    qualityGate: {
      type: "boolean",
      description:
        "Refuse pairs in which nothing or too little of the mask changed, that have a colour which no training pair " +
        "has, or that look like an earlier one, and try again with other random numbers.",
      default: true,
    },
    colourCheck: {
      type: "boolean",
      description:
        "Quality gate: refuse a defect whose colour, against what surrounds it, no training pair comes near.",
      ...GATED,
      default: true,
    },
    maxAttempts: {
      type: "integer",
      description: "Tries for a pair that the gate refuses, before the best of them is kept and marked as refused.",
      ...GATED,
      default: 3,
      min: 1,
      max: 100,
    },
    controls: {
      type: "boolean",
      description:
        "Make a control of each pair, in <part>/train/good: the part's own surface drawn in place of the defect, a normal image " +
        "that shows what drawing itself leaves. inspect-train learns from them not to take that for a defect.",
      default: false,
    },
    seedProbes: {
      type: "integer",
      unit: "images",
      description:
        "Images of each kind that are made from its first pair's source and mask and not kept: they tell how " +
        "much the seed alone changes.",
      otherwise: `${PROBES} from ${PROBES_FROM} pairs on, none below`,
      min: 0,
      max: 16,
    },
    minChange: {
      type: "number",
      description: "Quality gate: least mean change inside the mask, 0 to 1. 0 asks for none.",
      ...GATED,
      default: MIN_CHANGE,
      min: 0,
      max: 1,
    },
    minChangedShare: {
      type: "number",
      description: "Quality gate: least share of the mask whose pixels visibly change (by 8 of 255). 0 asks for none.",
      ...GATED,
      default: MIN_CHANGED_SHARE,
      min: 0,
      max: 1,
    },
  },
  examples: [
    "--data photos --train-run runs/photos --count 1000 --out runs/pairs",
    "--data photos --train-run runs/photos --masks runs/masks --guidance-scale 4 --out runs/pairs",
  ],
  async run(options, context) {
    using opened = await openTrainedBase(options.trainRun, options.model, context);
    const { base } = opened, reweighting = options.reweighting ?? usualReweighting(opened.tuned);
    usePrecision(base.gpu, options.precision, context.log);
    const { path, embedding: read, sha256 } = await readEmbedding(options.trainRun, "train", base);
    const embedding = withStatistics(read, options.officialBn);
    const allPairs = options.allPairs ?? await wasGiven(options.trainRun, "all-pairs");
    const kinds = learnedKinds({ ...options, allPairs }, path, embedding.keys, context);
    const keys = kinds.map(({ key }) => key);
    const view = { window: options.window ?? embedding.view?.window ?? "whole", zoom: embedding.view?.zoom ?? 1 };
    if (options.zoom !== undefined && view.window === "whole") {
      throw new UsageError(
        "--zoom goes with --window mask",
        "the training learned from whole images: leave it out, or give --window mask too",
      );
    }
    if (options.controls && guideFromOf(embedding, keys) !== "surface") {
      throw new UserError(
        "--controls draws the parts' surfaces, and the training learned none",
        "train without --no-surface",
      );
    }
    const guideFrom = options.guideFrom ?? guideFromOf(embedding, keys);
    const { guidanceBelow: asked } = options;
    const guidanceBelow = asked === undefined ? usualGuidance(opened.tuned) : { guidanceBelow: asked };
    const sampling = {
      batch: options.batchSize,
      guidance: options.guidanceScale,
      guideFrom,
      sampler: options.sampler,
      reweighting,
      ...samplingSizes(embedding),
    };
    const budget = await jobBudget(options.memory, base.gpu, () => planGeneration(base.config, sampling));
    const batch = fitGenerationTo(budget, base.config, sampling, base.gpu.device, context);
    await makePairs(kinds, {
      data: options.data,
      masks: options.masks,
      emptyMasks: options.emptyMasks,
      officialBn: options.officialBn,
      count: options.count,
      format: options.imageFormat,
      base,
      embedding,
      embeddingHash: sha256,
      distinct: options.qualityGate,
      colourCheck: options.qualityGate && options.colourCheck,
      controls: options.controls,
      seedProbes: options.seedProbes ?? (options.count >= PROBES_FROM ? PROBES : 0),
      settings: {
        seed: options.seed,
        batch,
        steps: options.steps,
        sampler: options.sampler,
        eta: options.eta,
        guidance: options.guidanceScale,
        guideFrom,
        ...guidanceBelow,
        reweighting,
        latentMask: shared.latentMaskMode(options.latentMask),
        pasteBack: options.pasteBack,
        feather: options.feather,
        window: view.window,
        zoom: options.zoom ?? view.zoom,
        keepDetail: options.keepDetail,
        minChange: options.qualityGate ? options.minChange : 0,
        minChangedShare: options.qualityGate ? options.minChangedShare : 0,
        maxAttempts: options.qualityGate ? options.maxAttempts : 1,
      },
    }, context);
  },
});
