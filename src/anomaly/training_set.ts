/**
 * From a few image–mask pairs to what inversion trains on: augmented copies whose latents are made once and kept, since the
 * autoencoder is frozen and costs more than a training step.
 */

import { augment, prepareSample, type Sample } from "../data/augment.ts";
import { toTensor } from "../data/image.ts";
import { latentMask, type LatentMaskMode } from "../diffusion/blend.ts";
import { Random } from "../random/philox.ts";
import type { BaseModel } from "./base_model.ts";
import type { InversionItem } from "./inversion.ts";

/** A training pair with the key whose embedding it trains. */
export interface LabelledSample extends Sample {
  /** `object+defect`. */
  readonly key: string;
}

/** How training pairs become items. */
export interface TrainingSetOptions {
  readonly seed: number;
  /** Augmented copies of each pair; the first is the pair itself. */
  readonly copies: number;
  /** `paper`: crop, translate, rotate, flip, the anomaly kept inside; `off`: the pairs as they are. */
  readonly augmentation: "paper" | "off";
  /** How a pixel mask becomes a latent mask. */
  readonly latentMask: LatentMaskMode;
}

/** Views of the pairs at the model's resolution; copy c of pair i depends on (seed, i, c) only. */
function views(samples: readonly LabelledSample[], side: number, { seed, copies, augmentation }: TrainingSetOptions) {
  return samples.flatMap((sample, i) => {
    const plain = prepareSample(sample, side);
    const first = { key: sample.key, image: toTensor(plain.image), mask: Float32Array.from(plain.mask.data) };
    if (augmentation === "off") return [first];
    const large = prepareSample(sample, 2 * side); // room for crops
    return [
      first,
      ...Array.from({ length: copies - 1 }, (_, c) => ({
        key: sample.key,
        ...augment(large, new Random(seed, `augment/${i}`, c), { resolution: side }),
      })),
    ];
  });
}

/** Items whose picture is the defect and whose loss counts inside the mask. */
export async function defectItems(
  base: BaseModel,
  samples: readonly LabelledSample[],
  options: TrainingSetOptions,
  onItem?: () => void,
): Promise<InversionItem[]> {
  const all = views(samples, base.side, options);
  const moments = await base.encode(all.map((view) => view.image), onItem);
  return all.map(({ key, mask }, i) => ({
    key,
    moments: moments[i],
    latentMask: latentMask(mask, [1, base.side, base.side], [base.latentSide, base.latentSide], options.latentMask),
    mask,
  }));
}

/** Items whose picture is the mask itself, white on black, and whose loss counts everywhere. */
export async function maskItems(
  base: BaseModel,
  samples: readonly LabelledSample[],
  options: TrainingSetOptions,
  onItem?: () => void,
): Promise<InversionItem[]> {
  const all = views(samples, base.side, options);
  const pictures = all.map(({ mask }) =>
    Float32Array.from({ length: 3 * mask.length }, (_, i) => 2 * mask[Math.floor(i / 3)] - 1)
  );
  const moments = await base.encode(pictures, onItem);
  const everywhere = new Float32Array(base.latentSide ** 2).fill(1);
  return all.map(({ key }, i) => ({ key, moments: moments[i], latentMask: everywhere }));
}
