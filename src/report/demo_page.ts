/** The page of a demo run: what it learned from, what it made, how the training went. */
import type { Curve } from "./chart.ts";
import { htmlPage, type Page } from "./page.ts";
import {
  type DefectSection,
  defectSection,
  settingsSection,
  type Table,
  tableSection,
  trainingSection,
} from "./sections.ts";

/** Everything on the page. */
export interface DemoPage extends Omit<Page, "body"> {
  readonly sections: readonly DefectSection[];
  /** Training curves, each in its own chart. */
  readonly curves: readonly Curve[];
  /** Figures of the result, one row for each kind of defect. */
  readonly figures?: Table;
  /** What its columns mean. */
  readonly figuresNote?: string;
  readonly settings: Readonly<Record<string, unknown>>;
}

/**
 * The page as one HTML document.
 * @throws Error if a picture is not a PNG file
 * @example
 * ```ts
 * import { demoPage } from "./demo_page.ts";
 * const html = demoPage({ title: "Wood", summary: "", highlights: [], sections: [], curves: [], settings: {}, footer: "" });
 * if (!html.startsWith("<!doctype html>") || html.includes("<script")) throw new Error("not a page that stands alone");
 * ```
 */
export function demoPage({ sections, curves, figures, figuresNote, settings, ...page }: DemoPage): string {
  const body = [
    ...sections.map(defectSection),
    trainingSection(curves),
    figures ? tableSection("Figures", figures, figuresNote) : "",
    settingsSection(settings),
  ];
  return htmlPage({ ...page, body });
}
