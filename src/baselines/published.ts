/**
 * The paper's figures, to stand beside measured ones: a look-up over `published_tables.ts`, what kind of method each row
 * is, and which of them the `baseline` command makes itself. GAN methods are not built here; their figures are printed ones.
 */

import { byCategory, byVariant } from "./published_tables.ts";

/** What the figures rest on, by the paper, its code and its authors' answers; other footings give lower figures. */
export const FOOTING = "MVTec AD; generated pairs filtered by hand; best epoch chosen on the test set";

/** Kinds of method in the tables. */
export type MethodKind = "gan" | "model-free" | "diffusion" | "detector";

/** A method of the tables. */
export interface PublishedMethod {
  readonly kind: MethodKind;
  readonly reference: string;
  /** Name under which `baseline --method` makes it; undefined where only the printed figures exist. */
  readonly baseline?: string;
}

/** All methods of the tables by the name used in them. */
export const publishedMethods: Readonly<Record<string, PublishedMethod>> = {
  DiffAug: { kind: "gan", reference: "Zhao et al., NeurIPS 2020" },
  CDC: { kind: "gan", reference: "Ojha et al., CVPR 2021" },
  SDGAN: { kind: "gan", reference: "Niu et al., IEEE T-ASE 2020" },
  "Defect-GAN": { kind: "gan", reference: "Zhang et al., WACV 2021" },
  DFMGAN: { kind: "gan", reference: "Duan et al., AAAI 2023" },
  "Crop&Paste": { kind: "model-free", reference: "Lin et al., ICME 2021", baseline: "crop-paste" },
  DRAEM: { kind: "model-free", reference: "Zavrtanik et al., ICCV 2021", baseline: "draem" },
  PRN: { kind: "model-free", reference: "Zhang et al., CVPR 2023", baseline: "prn" },
  "Textual Inversion + Prompt-to-Prompt": {
    kind: "diffusion",
    reference: "Gal et al., ICLR 2023; Hertz et al., ICLR 2023",
    baseline: "prompt-to-prompt",
  },
  AnomalyDiffusion: { kind: "diffusion", reference: "Hu et al., AAAI 2024" },
  KDAD: { kind: "detector", reference: "Salehi et al., CVPR 2021" },
  CFLOW: { kind: "detector", reference: "Gudovskiy et al., WACV 2022" },
  "DRAEM detector": { kind: "detector", reference: "Zavrtanik et al., ICCV 2021" },
  SSPCAB: { kind: "detector", reference: "Ristea et al., CVPR 2022" },
  CFA: { kind: "detector", reference: "Lee et al., IEEE Access 2022" },
  RD4AD: { kind: "detector", reference: "Deng and Li, CVPR 2022" },
  PatchCore: { kind: "detector", reference: "Roth et al., CVPR 2022" },
  DevNet: { kind: "detector", reference: "Pang et al., 2021" },
  DRA: { kind: "detector", reference: "Ding et al., CVPR 2022" },
  "PRN detector": { kind: "detector", reference: "Zhang et al., CVPR 2023" },
};

/** One of the paper's tables. */
export interface PublishedTable {
  readonly number: number;
  readonly title: string;
  /** Methods, or variants of this one (Tables 6 to 8), in the paper's order. */
  readonly methods: readonly string[];
  readonly metrics: readonly string[];
  /** Categories of MVTec AD in the paper's order; only `average` where no more is printed. */
  readonly categories: readonly string[];
  readonly note?: string;
  /** A figure in the paper's unit (per cent; IS and IC-LPIPS as they are); undefined where none is printed or legible. */
  figure(method: string, metric: string, category?: string): number | undefined;
}

const tables = new Map<number, PublishedTable>();

for (const { number, title, methods, metrics, rows, note } of byCategory) {
  const values = new Map(
    rows.trim().split("\n").map((line) => {
      const [category, ...figures] = line.trim().split(/\s+/);
      return [category, figures.map((text) => text === "-" ? undefined : Number(text))];
    }),
  );
  tables.set(number, {
    number,
    title,
    methods,
    metrics,
    categories: [...values.keys()],
    note,
    figure(method, metric, category = "average") {
      const m = methods.indexOf(method), k = metrics.indexOf(metric);
      return m < 0 || k < 0 ? undefined : values.get(category)?.[m * metrics.length + k];
    },
  });
}

for (const { number, title, metrics, variants } of byVariant) {
  tables.set(number, {
    number,
    title,
    methods: Object.keys(variants),
    metrics,
    categories: ["average"],
    figure: (method, metric, category = "average") =>
      category === "average" ? variants[method]?.[metrics.indexOf(metric)] : undefined,
  });
}

/** Tables 2 and 3 print part of what 10 and 11 do. */
for (const [number, whole, metrics] of [[2, 10, 3], [3, 11, 3]] as const) {
  const table = tables.get(whole)!;
  tables.set(number, {
    ...table,
    number,
    methods: table.methods.filter((name) => name !== "Crop&Paste"),
    metrics: table.metrics.slice(0, metrics),
  });
}

/**
 * One of the paper's tables, 1 to 12.
 * @throws {RangeError} if the paper has no such table
 * @example
 * ```ts
 * import { publishedTable } from "./published.ts";
 * const ap = publishedTable(2).figure("AnomalyDiffusion", "pixel AP");
 * if (ap !== 81.4) throw new Error(`${ap}`);
 * ```
 */
export function publishedTable(number: number): PublishedTable {
  const table = tables.get(number);
  if (!table) throw new RangeError(`the paper has no table ${number}; there are 1 to 12`);
  return table;
}

/**
 * Averages over MVTec AD of a rerun without curation, on one split and with one U-Net for all ("MAGIC", CVPR 2026 Findings,
 * arXiv 2507.02314, Tables 1 to 4; taken from texts that quote them): the bar for results that nobody filtered by hand.
 */
export const uncurated: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  AnomalyDiffusion: {
    "image AUROC": 98.47,
    "image AP": 99.4,
    "image F1-max": 97.25,
    "pixel AUROC": 98.39,
    "pixel AP": 74.02,
    "pixel F1-max": 70.14,
    PRO: 92.57,
    accuracy: 64.9,
    "KID ×10³": 104.01,
    "IC-LPIPS": 0.3,
  },
  MAGIC: {
    "image AUROC": 99.36,
    "image AP": 99.73,
    "image F1-max": 98.49,
    "pixel AUROC": 99.15,
    "pixel AP": 81.99,
    "pixel F1-max": 77.33,
    PRO: 96.22,
    accuracy: 78.06,
    "KID ×10³": 40.27,
    "IC-LPIPS": 0.3,
  },
};
