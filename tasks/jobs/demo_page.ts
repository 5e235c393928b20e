/** Gathers what the demo's stages wrote into its page. */

import { join } from "node:path";
import { loadImage, loadMask, toPng } from "../../src/data/image.ts";
import type { BaseModel } from "../../src/anomaly/base_model.ts";
import { demoPage } from "../../src/report/demo_page.ts";
import type { GeneratedPair } from "../../src/report/sections.ts";
import { differencePicture } from "../../src/report/pictures.ts";
import { maskImage } from "../../src/report/sheet.ts";
import { readJsonLines } from "../run_folder.ts";
import type { Kind } from "./dataset.ts";
import { maskFile } from "./masks.ts";
import { MANIFEST, type ManifestRecord } from "./pairs.ts";
import type { LossRecord } from "./training.ts";

/** Folders of the demo's stages in its run folder. */
export const STAGES = { train: "train", trainMasks: "train-masks", masks: "masks", pairs: "pairs" } as const;

/** Pairs and masks of one kind that the page shows. */
const SHOWN = 12;

/** The page as HTML. */
export async function writeDemoPage(
  folder: string,
  data: string,
  kinds: readonly Kind[],
  base: BaseModel,
  settings: Record<string, unknown>,
  footer: string,
): Promise<string> {
  const records = await readJsonLines<ManifestRecord>(join(folder, STAGES.pairs, MANIFEST));
  const sections = [];
  for (const kind of kinds) {
    const mine = records.filter((r) => r.part === kind.part.name && r.defect === kind.defect.name);
    const training = [];
    for (const { image, mask } of kind.defect.train) {
      training.push({ image: toPng(await loadImage(image)), mask: toPng(maskImage(await loadMask(mask))) });
    }
    const masks = [];
    for (let i = 0; i < Math.min(SHOWN, mine.length); i++) {
      masks.push(toPng(maskImage(await loadMask(join(folder, STAGES.masks, maskFile(kind, i))))));
    }
    const pairs: GeneratedPair[] = [];
    for (const record of mine.slice(0, SHOWN)) {
      const source = await loadImage(join(data, record.source));
      const result = await loadImage(join(folder, STAGES.pairs, record.image));
      pairs.push({
        source: toPng(source),
        mask: toPng(maskImage(await loadMask(join(folder, STAGES.pairs, record.mask)))),
        result: toPng(result),
        difference: toPng(differencePicture(source, result)),
        caption: `#${record.index}, change ${(100 * record.figures.changeInside).toFixed(0)} %`,
      });
    }
    sections.push({ part: kind.part.name, defect: kind.defect.name, training, masks, pairs });
  }
  const curves = [];
  for (
    const [name, stage] of [["embeddings and spatial encoder", STAGES.train], ["mask embeddings", STAGES.trainMasks]]
  ) {
    const losses = await readJsonLines<LossRecord>(join(folder, stage, "loss.jsonl"));
    curves.push({ name, points: losses.map(({ step, loss }) => [step, loss] as const) });
  }
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const rows = kinds.map(({ part, defect, key }) => {
    const mine = records.filter((r) => `${r.part}+${r.defect}` === key).map((r) => r.figures);
    return [
      `${part.name}: ${defect.name}`,
      defect.train.length,
      mine.length,
      `${(100 * mean(mine.map((f) => f.changeInside))).toFixed(1)} %`,
      `${(100 * mean(mine.map((f) => f.changedShare))).toFixed(0)} %`,
      `${(100 * mean(mine.map((f) => f.changeOutside))).toFixed(2)} %`,
    ];
  });
  const learned = kinds.reduce((n, kind) => n + kind.defect.train.length, 0);
  return demoPage({
    title: "Defects from a handful of examples",
    summary:
      `Learned from ${learned} image–mask pairs; everything else on this page was generated. Pixels away from a ` +
      `mask are the source image's own bytes.`,
    highlights: [
      [String(learned), "training pairs"],
      [String(records.length), "new labelled pairs"],
      [`${(100 * mean(records.map((r) => r.figures.changeInside))).toFixed(0)} %`, "mean change inside the mask"],
      [`${(100 * Math.max(0, ...records.map((r) => r.figures.changeOutside))).toFixed(0)} %`, "largest change outside"],
    ],
    sections,
    curves,
    figures: {
      columns: ["defect", "training pairs", "new pairs", "change inside", "mask visibly changed", "change outside"],
      rows,
    },
    settings: { ...settings, model: base.config.name, adapter: base.gpu.info.description || base.gpu.info.device },
    footer,
  });
}
