/**
 * A table of the paper with measured figures beside the printed ones, as Markdown for people, CSV for other programs and
 * JSON with everything. Figures of parts are averaged without weights, as the paper does; the spread is over seeds.
 */

import { spread } from "../inspection/metrics/pairs.ts";
import type { Table } from "./sections.ts";

/** Name of the row over all parts. */
export const AVERAGE = "average";

/** A figure over seeds. */
export interface Measured {
  readonly mean: number;
  /** Sample standard deviation over seeds; undefined with one seed. */
  readonly std?: number;
  /** The figure of each seed, in the order of the table's seeds; undefined where it has no meaning there. */
  readonly values: readonly (number | undefined)[];
}

/** Figures of one method or variant. */
export interface ComparisonRow {
  readonly name: string;
  /** Printed figures by part (or `average`), then metric. */
  readonly published: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Measured ones in the same unit. */
  readonly measured: Readonly<Record<string, Readonly<Record<string, Measured>>>>;
  /** Why something is not measured, or where the printed figures are from. */
  readonly note?: string;
}

/** A table ready to be written. */
export interface ComparisonTable {
  /** As the command names it: `table2`. */
  readonly name: string;
  readonly title: string;
  readonly metrics: readonly string[];
  /** Digits after the point. */
  readonly digits: number;
  readonly parts: readonly string[];
  readonly seeds: readonly number[];
  /** What the figures rest on, by a word: the paper's footing, data, seeds, settings. */
  readonly footing: Readonly<Record<string, string>>;
  readonly rows: readonly ComparisonRow[];
}

/**
 * Gathers one method's figures of every seed and part.
 * @param seeds for each seed the figures by part, then metric; all seeds have the same parts
 * @returns by part and for `average`, then metric; what no seed has is left out
 * @example
 * ```ts
 * import { gather } from "./tables.ts";
 * const { average } = gather([{ wood: { AP: 60 }, metal: { AP: 70 } }, { wood: { AP: 64 }, metal: { AP: 70 } }]);
 * if (average.AP.mean !== 66 || average.AP.values.join() !== "65,67") throw new Error(JSON.stringify(average));
 * ```
 */
export function gather(
  seeds: readonly Readonly<Record<string, Readonly<Record<string, number>>>>[],
): Record<string, Record<string, Measured>> {
  const parts = [...new Set(seeds.flatMap((one) => Object.keys(one)))];
  const metrics = [...new Set(seeds.flatMap((one) => Object.values(one).flatMap((figures) => Object.keys(figures))))];
  const result: Record<string, Record<string, Measured>> = {};
  const put = (part: string, metric: string, values: (number | undefined)[]) => {
    const known = values.filter((value) => value !== undefined);
    if (known.length === 0) return;
    const { mean, std, count } = spread(known);
    (result[part] ??= {})[metric] = { mean, ...(count > 1 ? { std } : {}), values };
  };
  for (const metric of metrics) {
    for (const part of parts) put(part, metric, seeds.map((one) => one[part]?.[metric]));
    put(
      AVERAGE,
      metric,
      seeds.map((one) => {
        // A part without this figure (one kind of defect cannot be classified) is left out, as in the paper's Table 4.
        const values = Object.values(one).map((figures) => figures[metric]).filter((value) => value !== undefined);
        return values.length ? spread(values).mean : undefined;
      }),
    );
  }
  return result;
}

/** `66.0 ± 1.4`; a dash where nothing was measured. */
function shown(measured: Measured | undefined, digits: number): string {
  if (!measured) return "–";
  const { mean, std } = measured;
  return std === undefined ? mean.toFixed(digits) : `${mean.toFixed(digits)} ± ${std.toFixed(digits)}`;
}

/** A printed figure as it was printed. */
const printed = (value: number | undefined) => value === undefined ? "–" : String(value);

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const line = (cells: readonly string[]) => `| ${cells.map(cell).join(" | ")} |\n`;
const rule = (columns: number) => `|${" --- |".repeat(columns)}\n`;

/** A table of words and numbers. */
export function markdownTable({ columns, rows }: Table): string {
  return line(columns) + rule(columns.length) + rows.map((row) => line(row.map(String))).join("");
}

/** The averages beside the paper's, a row for each method; a mark behind a name, `[1]`, stands for the note of that number. */
export function averages({ metrics, digits, rows }: ComparisonTable): { table: Table; notes: string[] } {
  const notes = [...new Set(rows.flatMap(({ note }) => note || []))];
  const columns = ["method", ...metrics.flatMap((metric) => [`${metric}, paper`, `${metric}, here`])];
  const lines = rows.map(({ name, published, measured, note }) => [
    note ? `${name} [${notes.indexOf(note) + 1}]` : name,
    ...metrics.flatMap((metric) => [
      printed(published[AVERAGE]?.[metric]),
      shown(measured[AVERAGE]?.[metric], digits),
    ]),
  ]);
  return { table: { columns, rows: lines }, notes: notes.map((note, i) => `[${i + 1}] ${note}`) };
}

/** What was measured of every part; without rows where there is one part, which the averages are of. */
export function byPart({ metrics, digits, rows, parts }: ComparisonTable): Table {
  const detailed = parts.length > 1 ? rows.filter(({ measured }) => parts.some((part) => measured[part])) : [];
  const lines = detailed.flatMap(({ name, measured, published }) =>
    parts.map((part) => [
      name,
      part,
      ...metrics.map((metric) => {
        const paper = published[part]?.[metric];
        return `${shown(measured[part]?.[metric], digits)}${paper === undefined ? "" : ` (paper ${paper})`}`;
      }),
    ])
  );
  return { columns: ["method", "part", ...metrics], rows: lines };
}

/** The table for people: averages beside the paper's, then every part, then the footing. */
export function toMarkdown(table: ComparisonTable): string {
  const { table: means, notes } = averages(table), parts = byPart(table);
  let text = `# ${table.title}\n\n${markdownTable(means)}`;
  if (notes.length) text += `\n${notes.join("  \n")}\n`;
  if (parts.rows.length) text += `\n## By part\n\n${markdownTable(parts)}`;
  return `${text}\n## Footing\n\n${
    Object.entries(table.footing).map(([word, fact]) => `- **${word}**: ${fact}\n`).join("")
  }`;
}

/** A field of a CSV file (RFC 4180). */
function field(value: string | number | undefined): string {
  const text = value === undefined ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** One line for each method, part and metric; empty fields where there is no figure. */
export function toCsv(table: ComparisonTable): string {
  const lines: (string | number | undefined)[][] = [
    ["table", "method", "part", "metric", "paper", "mean", "std", ...table.seeds.map((seed) => `seed ${seed}`), "note"],
  ];
  for (const { name, published, measured, note } of table.rows) {
    for (const part of [AVERAGE, ...table.parts]) {
      for (const metric of table.metrics) {
        const paper = published[part]?.[metric], here = measured[part]?.[metric];
        if (paper === undefined && !here) continue;
        const values = table.seeds.map((_, i) => here?.values[i]);
        lines.push([table.name, name, part, metric, paper, here?.mean, here?.std, ...values, note]);
      }
    }
  }
  return lines.map((fields) => `${fields.map(field).join(",")}\n`).join("");
}

/** Everything, for programs. */
export function toJson(table: ComparisonTable): string {
  return `${JSON.stringify(table, null, 2)}\n`;
}
