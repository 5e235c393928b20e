/**
 * The embedding of a part's whole surface, learned from its normal images beside those of its defects, and what guidance leads
 * away from. The loss of a defect's embedding is mostly texture, so that what it learns is mostly the surface around the
 * defect; guided away from the empty prompt, pictures become more of the surface and less of the defect. The difference from
 * the surface's own embedding is the defect alone. Negative prompts (Ho & Salimans 2022 with another condition in the place of
 * the empty one), learned.
 */

import { UserError } from "../errors.ts";
import { type AnomalyEmbedding, tokensOf } from "./embedding.ts";

/** Name beside a part under which its surface is learned; MVTec AD's folder of normal images, so no defect's. */
export const SURFACE = "good";

/** What guidance leads away from: the prediction for the empty prompt, or for the whole surface. */
export type GuideFrom = "empty" | "surface";

/** Key of a part's surface in a table of embeddings. */
export const surfaceKey = (part: string): string => `${part}+${SURFACE}`;

/** Whether a key is a surface's. */
export const isSurface = (key: string): boolean => key.endsWith(`+${SURFACE}`);

/** Key of the surface that belongs to a defect's key, `part+defect`; undefined where none was learned. */
export function surfaceOf(keys: readonly string[], defectKey: string): string | undefined {
  const ending = `+${SURFACE}`;
  return keys.filter((key) => key.endsWith(ending) && defectKey.startsWith(key.slice(0, 1 - ending.length)))
    .sort((a, b) => b.length - a.length)[0];
}

/** `surface` where the surfaces of all these defects were learned. */
export function guideFromOf({ keys }: Pick<AnomalyEmbedding, "keys">, defectKeys: readonly string[]): GuideFrom {
  return defectKeys.every((key) => surfaceOf(keys, key) !== undefined) ? "surface" : "empty";
}

/**
 * Tokens of the surface that belongs to a defect.
 * @throws UserError where none was learned
 */
export function surfaceTokens(embedding: AnomalyEmbedding, defectKey: string): Float32Array {
  const key = surfaceOf(embedding.keys, defectKey);
  if (key === undefined) {
    throw new UserError(
      `no surface was learned for ${defectKey}`,
      "train without --no-surface, or give --guide-from empty",
    );
  }
  return tokensOf(embedding, key);
}
