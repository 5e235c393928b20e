/** Gathers what the demo's stages wrote into its page. */

import { join } from "node:path";
import type { BaseModel } from "../../src/anomaly/base_model.ts";
import { demoPage } from "../../src/report/demo_page.ts";
import { readJsonLines } from "../run_folder.ts";
import { DEMO_PAIRS, type Kind } from "./dataset.ts";
import { reportPairs } from "./report_pairs.ts";
import type { LossRecord } from "./training.ts";

/** Folders of the demo's stages in its run folder. */
export const STAGES = { train: "train", trainMasks: "train-masks", masks: "masks", pairs: DEMO_PAIRS } as const;

/** What the demo's two trainings learn. */
export const LEARNED = [
  ["embeddings and spatial encoder", STAGES.train],
  ["mask embeddings", STAGES.trainMasks],
] as const;

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
  const folders = { folder: join(folder, STAGES.pairs), data, masks: join(folder, STAGES.masks) };
  const { records, sections, table, note } = await reportPairs(folders, SHOWN);
  const curves = [];
  for (const [name, stage] of LEARNED) {
    const losses = await readJsonLines<LossRecord>(join(folder, stage, "loss.jsonl"));
    curves.push({ name, points: losses.map(({ step, loss }) => [step, loss] as const) });
  }
  const learned = kinds.reduce((n, kind) => n + kind.defect.train.length, 0);
  const changes = records.map(({ figures }) => figures.changeInside);
  const outside = Math.max(0, ...records.map(({ figures }) => figures.changeOutside));
  return demoPage({
    title: "Defects from a handful of examples",
    summary:
      `Learned from ${learned} image–mask pairs; everything else on this page was generated. Pixels away from a ` +
      `mask are the source image's own bytes.`,
    highlights: [
      [String(learned), "training pairs"],
      [String(records.length), "new labelled pairs"],
      [`${(100 * changes.reduce((a, b) => a + b, 0) / changes.length).toFixed(0)} %`, "mean change inside the mask"],
      [`${(100 * outside).toFixed(0)} %`, "largest change outside"],
    ],
    sections,
    curves,
    figures: table,
    figuresNote: note,
    settings: { ...settings, model: base.config.name, adapter: base.gpu.info.description || base.gpu.info.device },
    footer,
  });
}
