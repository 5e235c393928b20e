/** The table of baselines that need no model, by the name that `baseline --method` takes. */

import { cropPaste } from "./crop_paste.ts";
import { cutPaste, cutPasteScar } from "./cut_paste.ts";
import { draem, DRAEM_OPACITY } from "./draem.ts";
import type { Method } from "./method.ts";
import { prn, PRN_OPACITY } from "./prn.ts";

/** A baseline with its published settings. */
export interface ModelFreeBaseline {
  /** As the paper's tables write it. */
  readonly title: string;
  readonly make: Method;
  /** Whether anomalies are kept on the part unless the user says otherwise. */
  readonly onPart: boolean;
  /** Range of β; undefined where nothing is blended. */
  readonly opacity?: readonly [number, number];
  /** Whether it draws textures. */
  readonly textures: boolean;
}

/** Names of the baselines without a model. */
export const MODEL_FREE = ["crop-paste", "cutpaste", "cutpaste-scar", "draem", "prn"] as const;
/** One of {@linkcode MODEL_FREE}. */
export type ModelFreeName = typeof MODEL_FREE[number];

/** The baselines without a model. */
export const modelFree: Readonly<Record<ModelFreeName, ModelFreeBaseline>> = {
  "crop-paste": { title: "Crop&Paste", make: cropPaste, onPart: true, textures: false },
  cutpaste: { title: "CutPaste", make: cutPaste, onPart: false, textures: false },
  "cutpaste-scar": { title: "CutPaste (scar)", make: cutPasteScar, onPart: false, textures: false },
  draem: { title: "DRAEM", make: draem, onPart: false, opacity: DRAEM_OPACITY, textures: true },
  prn: { title: "PRN (anomalies)", make: prn, onPart: true, opacity: PRN_OPACITY, textures: true },
};
