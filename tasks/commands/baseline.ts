/** `baseline`: the methods that the paper compares with, on the same data, into the layout and manifest of `generate`. */
import { MODEL_FREE, type ModelFreeName } from "../../src/baselines/mod.ts";
import { requireAdapter } from "../adapter.ts";
import { defineCommand } from "../command.ts";
import { openBase } from "../device.ts";
import { makeBaseline } from "../jobs/baseline.ts";
import { type InversionName, INVERSIONS, makeInversionBaseline } from "../jobs/baseline_inversion.ts";
import { openKinds, tellLearned } from "../jobs/dataset.ts";
import * as shared from "./shared.ts";

/** Flags of methods that lay a texture over the image, of those that learn, and of those without a model. */
const TEXTURED = { goesWith: { method: ["draem", "prn"] } } as const;
const LEARNED = { goesWith: { method: INVERSIONS } } as const;
/** What is learned, and therefore not asked for where an earlier run did. */
const LEARNING = { goesWith: { ...LEARNED.goesWith, trainRun: [false] } } as const;
const UNLEARNED = { goesWith: { method: MODEL_FREE } } as const;

/** Whether a method runs without a model. */
function isModelFree(method: ModelFreeName | InversionName): method is ModelFreeName {
  return (MODEL_FREE as readonly string[]).includes(method);
}

export default defineCommand({
  name: "baseline",
  summary: "Makes image-mask pairs by the methods that the paper compares with, for fair comparison.",
  details:
    "crop-paste cuts real defects out and lays them elsewhere; cutpaste and cutpaste-scar move a piece of the normal " +
    "image; draem and prn fill noise shapes with a texture, prn also recolours and stretches real defects. These need " +
    "no graphics adapter. textual-inversion and blended-diffusion learn tokens without a spatial embedding, the " +
    "second with the masked loss, and draw with them by blended diffusion; prompt-to-prompt is textual-inversion with " +
    "the tokens' attention replaced by the mask; no-spatial is blended-diffusion with attention re-weighting. For " +
    "one seed every method and generate draw into the same normal images.",
  runFolder: true,
  gpu: false,
  flags: {
    method: {
      type: "string",
      description: "Which method.",
      choices: [...MODEL_FREE, ...INVERSIONS],
      required: true,
    },
    data: shared.data,
    part: shared.part,
    defect: shared.defect,
    officialSplit: shared.officialSplit,
    allPairs: shared.allPairs,
    seed: shared.seed,
    count: {
      type: "integer",
      unit: "pairs",
      description: "Pairs for each kind of defect.",
      default: 100,
      min: 1,
      changeable: true,
    },
    onPart: {
      ...UNLEARNED,
      type: "boolean",
      description: "Keep anomalies on the part where it lies before a plain background (methods without a model).",
      otherwise: "as published: only crop-paste and prn do",
    },
    textures: {
      ...TEXTURED,
      type: "string",
      value: "folder",
      description: "Pictures for draem and prn to take textures from, for example the Describable Textures Dataset.",
      otherwise: "procedural surfaces",
    },
    minOpacity: {
      ...TEXTURED,
      type: "number",
      description: "Least opacity of a texture over the image, draem and prn.",
      otherwise: "0.2 for draem, 0.15 for prn",
      min: 0,
      max: 1,
    },
    maxOpacity: {
      ...TEXTURED,
      type: "number",
      description: "Greatest opacity of a texture over the image, draem and prn.",
      otherwise: "1",
      min: 0,
      max: 1,
    },
    model: { ...shared.model, ...LEARNED },
    trainRun: {
      ...LEARNED,
      type: "string",
      value: "folder",
      description: "Run folder of an earlier baseline with learned tokens, to draw with them instead of learning anew.",
      otherwise: "the tokens are learned first, in the run folder",
    },
    masks: {
      ...LEARNED,
      type: "string",
      value: "folder",
      description: "Masks to draw learned defects into: the run folder of generate-masks, or <part>/<defect>/*.png.",
      otherwise: "the real training masks, cropped, moved and rotated",
    },
    numVectors: { ...shared.numVectors(8), ...LEARNING },
    // Tokens are learned once: pairs were made with them.
    maxTrainSteps: { ...shared.maxTrainSteps(800), ...LEARNING, description: "How long to train.", changeable: false },
    trainBatchSize: { ...shared.trainBatchSize(4), ...LEARNING },
    augmentedCopies: { ...shared.augmentedCopies, ...LEARNING },
    learningRate: { ...shared.learningRate(0.02, "Step size for the learned tokens."), ...LEARNING },
    initializerToken: {
      ...LEARNING,
      type: "string",
      value: "word",
      description: "Word of the model's vocabulary from which the tokens start.",
      default: "defect",
    },
    checkpointingSteps: { ...shared.checkpointingSteps, ...LEARNING },
    batchSize: { ...shared.batchSize, ...LEARNED },
    steps: { ...shared.steps(50), ...LEARNED },
    sampler: { ...shared.sampler, ...LEARNED },
    eta: { ...shared.eta, goesWith: { ...LEARNED.goesWith, ...shared.eta.goesWith } },
    guidanceScale: { ...shared.guidanceScale(2), ...LEARNED },
    // Decides in how many parts a training batch runs, and with it the last digits.
    memory: { ...shared.memory, ...LEARNED, changeable: false },
  },
  examples: [
    "--method cutpaste --data photos --count 500 --out runs/cutpaste",
    "--method draem --data mvtec --part wood --textures dtd/images --out runs/draem",
    "--method textual-inversion --data photos --out runs/inversion",
  ],
  async run(options, context) {
    const kinds = openKinds(options, context), { method } = options;
    tellLearned(kinds, options, context, "--all-pairs");
    if (isModelFree(method)) return await makeBaseline(kinds, { ...options, method }, context);
    await requireAdapter();
    await makeInversionBaseline(await openBase(options.model), kinds, { ...options, method }, context);
  },
});
