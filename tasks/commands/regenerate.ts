/** `regenerate`: pairs of a manifest made again, and held against those that are there. */
import { planGeneration } from "../../src/anomaly/budget.ts";
import { samplingSizes } from "../../src/anomaly/embedding.ts";
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import { usePrecision } from "../device.ts";
import { wasGiven } from "../jobs/dataset.ts";
import { fitGenerationTo, jobBudget } from "../jobs/memory.ts";
import { recordedSettings, remakePairs } from "../jobs/regeneration.ts";
import { openTrainedBase, readEmbedding } from "../jobs/training.ts";
import generate from "./generate.ts";
import * as shared from "./shared.ts";

/** A place that the run's own settings name; files may have been moved since. */
function place(description: string) {
  return { type: "string", value: "folder", description, otherwise: "as in the run's settings" } as const;
}

export default defineCommand({
  name: "regenerate",
  summary: "Makes pairs of a manifest again, byte for byte, and says whether they are the same.",
  details:
    "Reads manifest.jsonl and config.json of a run of generate, makes the images that are asked for, with the controls of " +
    "a run with --controls, from their source, mask, seed and settings, and compares their bytes with the run's. Exits " +
    "with 1 where one differs.",
  runFolder: true,
  gpu: true,
  flags: {
    pairs: {
      type: "string",
      value: "folder",
      description: "Run folder of generate.",
      required: true,
    },
    image: {
      type: "list",
      value: "file",
      description: "Only these images, named as in the manifest: bolt/test/crack/0003.png.",
      otherwise: "every one",
    },
    data: place("The data set that the run took its normal images from."),
    trainRun: place("Run folder of train."),
    masks: place("Folder of the masks that the defects were drawn into."),
    model: place("Model folder."),
    batchSize: shared.batchSize,
    memory: shared.memory,
  },
  examples: [
    "--pairs runs/pairs --image bolt/test/crack/0003.png --out runs/again",
    "--pairs runs/pairs --data /mnt/photos --out runs/again",
  ],
  async run({ pairs, image, batchSize, memory, ...given }, context) {
    const { records, config } = await recordedSettings(pairs, image, generate.flags);
    const places = { ...config, ...Object.fromEntries(Object.entries(given).filter(([, path]) => path !== undefined)) };
    const { data, trainRun, masks, model, officialSplit, allPairs } = places;
    if (data === undefined || trainRun === undefined) {
      throw new UserError(
        `${pairs} holds no config.json of generate`,
        "give --data and --train-run, and --masks and --model where the run had them",
      );
    }
    using opened = await openTrainedBase(trainRun, model, context);
    const { base } = opened;
    usePrecision(base.gpu, config.precision ?? "f32", context.log);
    const { embedding, sha256 } = await readEmbedding(trainRun, "train", base);
    const sizesOf = ({ guidance, guideFrom, sampler, reweighting }: typeof records[number]["settings"]) => ({
      ...{ batch: batchSize, guidance, guideFrom, sampler, reweighting },
      ...samplingSizes(embedding),
    });
    const budget = await jobBudget(
      memory,
      base.gpu,
      () => planGeneration(base.config, sizesOf(records[0].settings)),
    );
    await remakePairs(records, {
      pairs,
      data,
      masks,
      officialSplit,
      allPairs: allPairs ?? await wasGiven(trainRun, "all-pairs"),
      base,
      embedding,
      embeddingHash: sha256,
      // The most that the budget holds, for each group of pairs with the same settings.
      batch: (settings) => fitGenerationTo(budget, base.config, sizesOf(settings), base.gpu.device, context),
    }, context);
  },
});
