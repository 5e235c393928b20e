/** Pictures on the way: for each kind a few sources, masks and results side by side, as one PNG. */

import type { BaseModel } from "../../src/anomaly/base_model.ts";
import type { AnomalyEmbedding } from "../../src/anomaly/embedding.ts";
import { PairGenerator, type PairJob } from "../../src/anomaly/generate.ts";
import { guideFromOf } from "../../src/anomaly/surface.ts";
import { loadImage, toPng } from "../../src/data/image.ts";
import { resize } from "../../src/data/resize.ts";
import { contactSheet, maskImage } from "../../src/report/sheet.ts";
import type { Kind } from "./dataset.ts";
import { maskGround, placedMask } from "./masks.ts";

/** Steps of a validation picture: enough to see whether a defect appears. */
const STEPS = 25;

/** How they are made: a plan counts them in. Decoded one by one, they need no more memory than a training step. */
export const VALIDATION = { batch: 4, guidance: 3, reweighting: "off", decodeBatch: 1 } as const;

/**
 * One row per picture: normal image, mask, result.
 * @param batch pictures at once
 */
export async function validationSheet(
  base: BaseModel,
  embedding: AnomalyEmbedding,
  kinds: readonly Kind[],
  { seed, numValidationImages }: { seed: number; numValidationImages: number },
  batch: number,
): Promise<Uint8Array> {
  const jobs: PairJob[] = [];
  for (const kind of kinds) {
    const ground = await maskGround(kind, base.side);
    for (let index = 0; index < numValidationImages; index++) {
      const source = await loadImage(kind.part.good[index % kind.part.good.length]);
      const mask = placedMask(ground, seed, kind.key, index);
      jobs.push({ index, key: kind.key, source: resize(source, base.side, base.side, "bicubic"), mask });
    }
  }
  using generator = new PairGenerator(base, embedding, {
    ...VALIDATION,
    guideFrom: guideFromOf(embedding, kinds.map(({ key }) => key)),
    batch: Math.min(batch, jobs.length),
    steps: STEPS,
    eta: 1,
    seed,
    feather: 3,
    ...(embedding.view ?? { window: "whole", zoom: 1 }),
    keepDetail: true,
    minChange: 0,
    maxAttempts: 1,
    latentMask: "maxPool",
  });
  const rows = new Map<PairJob, Parameters<typeof contactSheet>[0][number]>();
  for await (const { job, image } of generator.generate(jobs)) rows.set(job, [job.source, maskImage(job.mask), image]);
  return toPng(contactSheet(jobs.map((job) => rows.get(job)!)));
}
