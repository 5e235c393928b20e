/**
 * DRAEM's simulated anomalies (Zavrtanik, Kristan, Skočaj, "DRÆM – A discriminatively trained reconstruction embedding for
 * surface anomaly detection", ICCV 2021): thresholded Perlin noise, filled with an augmented texture at an opacity β.
 */

import { augmentTexture } from "./colour.ts";
import { type Method, rounded } from "./method.ts";
import { blend } from "./patch.ts";
import { perlinMask } from "./perlin.ts";

/** Range of β in the official code, where the source keeps 0 to 80 %; the paper writes 0.1 to 1. */
export const DRAEM_OPACITY = [0.2, 1] as const;

/** DRAEM. */
export const draem: Method = async ({ source, part, textures, opacity }, random) => {
  const { width, height } = source;
  const { image, name } = await textures(random);
  const texture = augmentTexture(image, random, width, height);
  const mask = perlinMask(random, width, height, part), beta = random.uniform(...opacity);
  return {
    image: blend(source, texture, mask, beta),
    mask,
    maskSource: "perlin",
    details: { texture: name, opacity: rounded(beta) },
  };
};
