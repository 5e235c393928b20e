/**
 * The frame of every report page: one HTML text with everything inside, pictures as data URIs and charts as SVG, without
 * script and without a link to elsewhere, so that it opens offline and can be mailed.
 */
import { escape } from "./html.ts";
import { STYLE } from "./style.ts";

/** What a page is made of. */
export interface Page {
  readonly title: string;
  /** A sentence or two under the title. */
  readonly summary: string;
  /** Three to five figures in large type: `["32", "new pairs"]`. */
  readonly highlights: readonly (readonly [value: string, label: string])[];
  /** Sections as HTML, made by `sections.ts`. */
  readonly body: readonly string[];
  /** A closing line: program, version, adapter. */
  readonly footer: string;
}

/**
 * The page as one HTML document.
 * @example
 * ```ts
 * import { htmlPage } from "./page.ts";
 * const html = htmlPage({ title: "Wood & oak", summary: "", highlights: [["2", "pairs"]], body: [], footer: "" });
 * if (!html.includes("<h1>Wood &#38; oak</h1>") || html.includes("<script")) throw new Error(html);
 * ```
 */
export function htmlPage({ title, summary, highlights, body, footer }: Page): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(title)}</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escape(title)}</h1>
<p class="summary">${escape(summary)}</p>
${highlightList(highlights)}
</header>
<main>
${body.filter(Boolean).join("\n")}
</main>
<footer>${escape(footer)}</footer>
</body>
</html>
`;
}

/** Figures in large type; nothing where there are none. */
export function highlightList(entries: Page["highlights"]): string {
  if (!entries.length) return "";
  const items = entries.map(([value, label]) => `<div><dt>${escape(label)}</dt><dd>${escape(value)}</dd></div>`);
  return `<dl class="highlights">${items.join("")}</dl>`;
}
