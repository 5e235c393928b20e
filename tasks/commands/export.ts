/** `export`: generated pairs in the layout of a training tool. */
import { defineCommand } from "../command.ts";
import { pairsOfRun } from "../jobs/dataset.ts";
import { exportPairs } from "../jobs/export.ts";
import { EXPORT_FORMATS } from "../jobs/export_plan.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "export",
  summary: "Writes generated pairs in a layout that training tools read: anomalib, COCO, YOLO-seg.",
  details:
    "anomalib: MVTec's folders, with normal images to learn from and every pair to test on. coco: images and an instances " +
    "file for train and val; each region of a mask is an annotation with its exact area and box. yolo-seg: images and labels " +
    "for train and val, and data.yaml. A category is a part and a defect, wood+ring. Pairs that the quality gate refused are " +
    "left out. Pairs drawn into one normal image are never split between train and val. docs/export.md tells how to give the " +
    "folders to the tools.",
  runFolder: true,
  gpu: false,
  flags: {
    pairs: {
      type: "string",
      value: "folder",
      description: "Generated pairs: the run folder of generate, baseline or demo.",
      required: true,
    },
    format: { type: "string", description: "Which layout.", choices: EXPORT_FORMATS, required: true },
    data: {
      ...shared.data,
      description:
        "The data set, for normal images: anomalib needs them, in the other layouts they carry no annotation.",
      required: false,
      otherwise: "where the pairs' run found it",
    },
    part: shared.part,
    defect: shared.defect,
    valShare: {
      type: "number",
      description:
        "Share of the pairs that validate; for anomalib, of the normal images that test where the data set has " +
        "none for that.",
      default: 0.2,
      min: 0,
      max: 0.9,
    },
    normals: {
      type: "integer",
      unit: "images",
      description: "Normal images of each part, at most.",
      otherwise: "all for anomalib, none for the others",
      min: 0,
    },
    controls: {
      type: "boolean",
      description:
        "Take the pairs' controls along (generate --controls), as normal images in the split of their pairs: with anomalib in " +
        "test/good, where a detector shows whether it finds the defect or what drawing left. Never in train/good: " +
        "outside its mask a control has its pair's pixels.",
      default: false,
    },
    segmentation: {
      type: "string",
      description:
        "coco: how regions are written. A polygon joins holes to its outline by slits of no width; rle does not.",
      choices: ["polygon", "rle"],
      default: "polygon",
    },
    seed: { ...shared.seed, description: "Number from which the split follows." },
  },
  examples: [
    "--pairs runs/pairs --format anomalib --out exports/anomalib",
    "--pairs runs/pairs --format coco --segmentation rle --val-share 0.1 --out exports/coco",
    "--pairs runs/pairs --format yolo-seg --normals 50 --out exports/yolo",
  ],
  async run(options, context) {
    const { pairs, data } = await pairsOfRun(options.pairs, options.data);
    const normals = options.normals ?? (options.format === "anomalib" ? undefined : 0);
    await exportPairs({ ...options, pairs, data, normals }, context);
  },
});
