/**
 * Generated pairs in the layouts that training tools read: which files go where (`export_plan.ts`), copied into a run folder,
 * with the annotations that are made of their masks.
 */

import { basename } from "node:path";
import { loadImage, loadMask, readImageSize, toPng } from "../../src/data/image.ts";
import { requireSize } from "../../src/data/mvtec.ts";
import { CocoInstances, type CocoSegmentation } from "../../src/export/coco.ts";
import { YOLO_LARGEST, yoloData, yoloLabels } from "../../src/export/yolo.ts";
import { UserError } from "../../src/errors.ts";
import type { Context } from "../command.ts";
import {
  type ExportFormat,
  type ExportItem,
  type ExportPlan,
  exportPlan,
  type ExportSelection,
} from "./export_plan.ts";
import { existsFile } from "./files.ts";

/** What to export. */
export interface ExportRun extends ExportSelection {
  readonly segmentation: CocoSegmentation;
}

/** Images of a part of the data set, and the regions in them. */
interface Counts {
  images: number;
  regions: number;
}

/** Writes the layout; files that are already there stay, as they are whole. */
export async function exportPairs(run: ExportRun, context: Context): Promise<void> {
  const { runFolder, signal } = context, plan = exportPlan(run);
  plan.notes.forEach((note) => context.log(note));
  for (const { image, mask } of plan.items) {
    if (mask) requireSize(mask, readImageSize(mask), readImageSize(image));
  }
  await refuseOthers(plan, runFolder.path);
  using progress = context.progress({ label: "images", total: plan.items.length, unit: "image" });
  const annotations = annotationsOf(run, plan, context);
  for (const [i, item] of plan.items.entries()) {
    signal.throwIfAborted();
    if (!await existsFile(runFolder.file(item.file))) {
      await runFolder.write(item.file, await imageBytes(item, run.format));
    }
    await annotations.add(item);
    progress.update(i + 1);
  }
  await annotations.finish();
  progress.finish();
  const { train, val } = annotations.counts,
    said = (name: string, { images, regions }: Counts) =>
      `${name} ${images} images${regions ? ` with ${regions} defects` : ""}`;
  context.print(
    `${runFolder.path}: ${run.format}, ${said("train", train)}, ${
      said(run.format === "anomalib" ? "test" : "val", val)
    }`,
  );
}

/** An image's bytes: as they are, except where a layout takes PNG only. */
async function imageBytes({ image }: ExportItem, format: ExportFormat): Promise<Uint8Array> {
  const bytes = await Deno.readFile(image), isPng = bytes[0] === 0x89 && bytes[1] === 0x50;
  return format === "anomalib" && !isPng ? toPng(await loadImage(image)) : bytes;
}

/** Refuses a folder that holds images of an earlier export which this one does not have. */
async function refuseOthers({ items }: ExportPlan, folder: string): Promise<void> {
  const known = new Set(items.flatMap(({ file, maskFile }) => maskFile ? [file, maskFile] : [file]));
  const visit = async (sub: string) => {
    for await (const { name, isDirectory } of Deno.readDir(`${folder}/${sub}`)) {
      const path = sub ? `${sub}/${name}` : name;
      // The run that an overwriting one keeps until it has made something lies in a hidden folder.
      if (isDirectory) {
        if (!name.startsWith(".")) await visit(path);
      } else if (/\.(png|jpe?g|bmp)$/i.test(name) && !known.has(path)) {
        throw new UserError(
          `${folder} holds ${path}, which is none of these pairs any more`,
          "the pairs were changed since: add --overwrite to export them anew",
        );
      }
    }
  };
  await visit("");
}

/** Writes what a layout has besides images, and counts. */
interface Annotations {
  readonly counts: { readonly train: Counts; readonly val: Counts };
  add(item: ExportItem): Promise<void>;
  finish(): Promise<void>;
}

function annotationsOf({ format, segmentation }: ExportRun, plan: ExportPlan, { runFolder }: Context): Annotations {
  const counts = { train: { images: 0, regions: 0 }, val: { images: 0, regions: 0 } };
  const count = ({ split }: ExportItem, regions: number) => {
    counts[split].images++;
    counts[split].regions += regions;
  };
  if (format === "anomalib") {
    return {
      counts,
      async add(item) {
        count(item, item.mask ? 1 : 0);
        if (!item.mask || await existsFile(runFolder.file(item.maskFile!))) return;
        await runFolder.write(item.maskFile!, toPng(await filledMask(item.mask)));
      },
      finish: async () => {},
    };
  }
  if (format === "coco") {
    const categories = plan.classes.map(({ name, part }, i) => ({ id: i + 1, name, supercategory: part }));
    const files = {
      train: new CocoInstances(categories, segmentation),
      val: new CocoInstances(categories, segmentation),
    };
    return {
      counts,
      async add(item) {
        const mask = item.mask ? await filledMask(item.mask) : undefined, size = mask ?? readImageSize(item.image);
        count(item, files[item.split].add(basename(item.file), size, item.class + 1, mask));
      },
      async finish() {
        for (const [split, file] of Object.entries(files)) {
          await runFolder.write(`annotations/instances_${split}.json`, file.toJson("anomalydiffusion export"));
        }
      },
    };
  }
  return {
    counts,
    async add(item) {
      const mask = item.mask ? await filledMask(item.mask) : undefined;
      if (mask && Math.max(mask.width, mask.height) > YOLO_LARGEST) {
        throw new UserError(
          `${item.image}: sides of more than ${YOLO_LARGEST} pixels are too long for YOLO's six digits`,
          "export as coco, or cut the images into smaller ones",
        );
      }
      const lines = mask ? yoloLabels(mask, item.class) : [], stem = item.file.replace(/\.[^.]*$/, "");
      await runFolder.write(`${stem.replace(/^images/, "labels")}.txt`, lines.map((line) => `${line}\n`).join(""));
      count(item, lines.length);
    },
    finish: () => runFolder.write("data.yaml", yoloData(plan.classes.map(({ name }) => name), counts.val.images > 0)),
  };
}

/** A mask that marks something. */
async function filledMask(path: string) {
  const mask = await loadMask(path);
  if (!mask.data.includes(1)) {
    throw new UserError(`${path}: the mask is empty`, "remove the pair, or paint the defect white");
  }
  return mask;
}
