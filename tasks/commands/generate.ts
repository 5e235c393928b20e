/** `generate`: image-mask pairs by blended latent diffusion with adaptive attention re-weighting (paper section 3.3). */
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "generate",
  summary: "Makes image-mask pairs in MVTec layout, with a manifest that makes each one again.",
  details:
    "Each defect is drawn into a normal image inside a mask; pixels away from the mask stay as they were. Images " +
    "of any size come out at their own size. manifest.jsonl records seed, source, mask and settings of each pair; " +
    "pair i depends on the seed and i alone.",
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
      description: "Masks to draw defects into: the run folder of generate-masks, or <part>/<defect>/*.png.",
      otherwise: "the real training masks, cropped, moved and rotated",
    },
    model: shared.model,
    part: shared.part,
    defect: shared.defect,
    officialSplit: shared.officialSplit,
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
    steps: shared.steps(50),
    eta: shared.eta,
    guidanceScale: shared.guidanceScale(3),
    reweighting: {
      type: "string",
      description: "Adaptive attention re-weighting: none, as the official code, or as the paper's equation 7.",
      choices: ["off", "official", "paper"],
      default: "official",
    },
    latentMask: {
      type: "string",
      description: "How the mask is brought to the latent grid; max-pool keeps defects a few pixels wide.",
      choices: ["max-pool", "official", "area"],
      default: "max-pool",
    },
    feather: {
      type: "integer",
      unit: "pixels",
      description: "Width of the soft edge over which the background is pasted back.",
      default: 3,
      min: 0,
      max: 64,
    },
    minChange: {
      type: "number",
      description:
        "Reject pairs whose mean change inside the mask (0 to 1) is smaller: nothing was drawn. 0 keeps all.",
      default: 0,
      min: 0,
      max: 1,
    },
  },
  examples: [
    "--data photos --train-run runs/photos --count 1000 --out runs/pairs",
    "--data photos --train-run runs/photos --masks runs/masks --guidance-scale 4 --out runs/pairs",
  ],
  run() {
    return Promise.reject(new UserError("generate is not part of this version"));
  },
});
