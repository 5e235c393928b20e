/** Making masks in a run folder: sampled or placed, judged, refused ones replaced until the count is reached. */

import { MaskGenerator } from "../../src/anomaly/generate.ts";
import type { AnomalyEmbedding } from "../../src/anomaly/embedding.ts";
import type { BaseModel } from "../../src/anomaly/base_model.ts";
import { limitsOf, type MaskLimits, partRegion, placeMask, refusal } from "../../src/anomaly/masks.ts";
import type { SamplerSettings } from "../../src/anomaly/sampler.ts";
import { resizeMask } from "../../src/data/augment.ts";
import { encodeImage, type ImageFormat, loadImage, type Mask } from "../../src/data/image.ts";
import { loadPair } from "../../src/data/mvtec.ts";
import { resize } from "../../src/data/resize.ts";
import { UserError } from "../../src/errors.ts";
import { Random } from "../../src/random/philox.ts";
import type { Context } from "../command.ts";
import { plural } from "../progress.ts";
import { existsFile } from "./files.ts";
import { Origin } from "./origin.ts";
import type { Kind } from "./dataset.ts";

/** Normal images from which the part's region is found. */
const REGION_IMAGES = 8;

/** What is known of a kind's masks before any is made. */
export interface MaskGround {
  /** Real training masks at the working size. */
  readonly real: readonly Mask[];
  /** Where the part lies. */
  readonly part: Mask;
  readonly limits: MaskLimits;
  /** Those that a person gave, which hold for masks at their own place too. */
  readonly given?: Partial<MaskLimits>;
}

/** Limits that let every mask pass. */
const UNLIMITED: MaskLimits = { minArea: 0, maxArea: 1, maxComponents: Infinity, maxBorder: 1, minOnPart: 0 };

/** Real masks, part region and limits of a kind, at `side` × `side` pixels. */
export async function maskGround(
  { part, defect }: Kind,
  side: number,
  limits: Partial<MaskLimits> = {},
): Promise<MaskGround> {
  const real: Mask[] = [];
  for (const pair of defect.train) real.push(resizeMask((await loadPair(pair)).mask, side, side));
  const images = [];
  for (const path of part.good.slice(0, REGION_IMAGES)) {
    images.push(resize(await loadImage(path), side, side, "bicubic"));
  }
  const given = Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
  return { real, part: partRegion(images), limits: { ...limitsOf(real), ...given }, given };
}

/**
 * A real mask of the kind, placed anew; depends on (seed, key, index) only. Where none fits elsewhere, as of a defect that covers
 * most of the picture or lies beside the part, it is one at its own place.
 * @throws UserError where the limits that were given refuse that too
 */
export function placedMask({ real, part, limits, given }: MaskGround, seed: number, key: string, index: number): Mask {
  let mask = real[0];
  const marked = { ...limits, empty: false }; // a real one that was moved out of the picture is no mask
  for (let attempt = 0; attempt < 50; attempt++) {
    const random = new Random(seed, `place/${key}/${attempt}`, index);
    mask = placeMask(random.pick(real), random, part);
    if (!refusal(mask, marked, part)) return mask;
  }
  const still = real.filter((one) => !refusal(one, { ...UNLIMITED, ...given, empty: false }, part));
  if (still.length) return new Random(seed, `place/${key}`, index).pick(still);
  throw new UserError(
    `${key}: no real mask could be placed on the part within the limits`,
    "give wider limits with --min-area, --max-area and --max-border, or --no-on-part",
  );
}

/** Path of a mask in the run folder. */
export function maskFile({ part, defect }: Kind, index: number, format: ImageFormat): string {
  return `${part.name}/${defect.name}/${String(index).padStart(3, "0")}.${format === "png" ? "png" : "jpg"}`;
}

/** What masks to make. */
export interface MaskRun {
  readonly count: number;
  readonly seed: number;
  readonly limits: Partial<MaskLimits>;
  readonly onPart: boolean;
  /** Tries for one mask before a real one is placed instead. */
  readonly maxAttempts: number;
  /** How to sample; undefined to place real masks. */
  readonly sampling?: {
    readonly base: BaseModel;
    readonly embedding: AnomalyEmbedding;
    /** SHA-256 of their file. */
    readonly embeddingHash: string;
    readonly settings: SamplerSettings;
    readonly threshold: number;
  };
  readonly side: number;
  readonly format: ImageFormat;
}

/**
 * Makes `count` masks of each kind; those that are already there stay.
 * @throws UserError where they are of other embeddings
 */
export async function makeMasks(kinds: readonly Kind[], run: MaskRun, context: Context): Promise<void> {
  const { sampling, count, seed, side, format } = run, { runFolder, signal } = context;
  const origin = await Origin.open(context);
  if (sampling) origin.note("mask embeddings", sampling.embeddingHash);
  const progress = context.progress({ label: "masks", total: count * kinds.length, unit: "mask" });
  const refused = new Map<string, number>();
  let done = 0, replaced = 0;
  using generator = sampling &&
    new MaskGenerator(sampling.base, sampling.embedding, sampling.settings, sampling.threshold);
  for (const kind of kinds) {
    const ground = await maskGround(kind, side, run.limits);
    const part = run.onPart ? ground.part : undefined;
    const keep = async (index: number, mask: Mask) => {
      if (sampling) await origin.keep();
      await runFolder.write(maskFile(kind, index, format), await encodeImage(mask, format));
      progress.update(++done, [...refused].map(([why, n]) => `${n} ${why}`).join(", "));
    };
    let open: { index: number; attempt: number }[] = [];
    for (let index = 0; index < count; index++) {
      signal.throwIfAborted();
      if (await existsFile(runFolder.file(maskFile(kind, index, format)))) progress.update(++done);
      else if (generator) open.push({ index, attempt: 0 });
      else await keep(index, placedMask({ ...ground, part: part ?? everywhere(side) }, seed, kind.key, index));
    }
    while (generator && open.length) {
      signal.throwIfAborted();
      const batch = open.slice(0, sampling!.settings.batch), again: typeof open = [];
      for (const { index, attempt, mask } of await generator.sample(kind.key, batch)) {
        const why = refusal(mask, ground.limits, part);
        if (!why) await keep(index, mask);
        else {
          refused.set(why, (refused.get(why) ?? 0) + 1);
          if (attempt + 1 < run.maxAttempts) again.push({ index, attempt: attempt + 1 });
          else {
            replaced++;
            await keep(index, placedMask({ ...ground, part: part ?? everywhere(side) }, seed, kind.key, index));
          }
        }
      }
      open = [...open.slice(batch.length), ...again];
    }
  }
  progress.finish();
  if (replaced) {
    const were = `${run.maxAttempts} times and ${
      replaced === 1 ? "was placed from a real one" : "were placed from real ones"
    }`;
    context.log(`${plural(replaced, "mask")} failed ${were} instead`);
  }
}

function everywhere(side: number): Mask {
  return { width: side, height: side, channels: 1, data: new Uint8Array(side * side).fill(1) };
}
