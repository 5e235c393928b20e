/**
 * The page of a demo run: what it learned from, what it made, how the training went. One HTML text with everything inside:
 * pictures as data URIs, charts as SVG, no script and no link, so that it opens offline and can be mailed.
 */
import { type Curve, lineChart } from "./chart.ts";
import { escape, figure, picture } from "./html.ts";
import { STYLE } from "./style.ts";

/** A PNG file's bytes. */
export type Png = Uint8Array;

/** A training example. */
export interface ExamplePair {
  readonly image: Png;
  readonly mask: Png;
}

/** A generated pair beside what it was made from. */
export interface GeneratedPair {
  /** The normal image. */
  readonly source: Png;
  readonly mask: Png;
  /** The normal image with the defect drawn in. */
  readonly result: Png;
  /** Where result and source differ (`differencePicture`). */
  readonly difference: Png;
  /** A few words under the pair: `"#3, change 0.12"`. */
  readonly caption?: string;
}

/** One kind of defect of one part. */
export interface DefectSection {
  readonly part: string;
  readonly defect: string;
  readonly training: readonly ExamplePair[];
  /** Masks sampled for this kind. */
  readonly masks: readonly Png[];
  readonly pairs: readonly GeneratedPair[];
}

/** Everything on the page. */
export interface DemoPage {
  readonly title: string;
  /** A sentence or two under the title. */
  readonly summary: string;
  /** Three to five figures in large type: `["32", "new pairs"]`. */
  readonly highlights: readonly (readonly [value: string, label: string])[];
  readonly sections: readonly DefectSection[];
  /** Training curves, each in its own chart. */
  readonly curves: readonly Curve[];
  /** Figures of the result, one row for each kind of defect. */
  readonly figures?: { readonly columns: readonly string[]; readonly rows: readonly (readonly (string | number)[])[] };
  readonly settings: Readonly<Record<string, unknown>>;
  /** A closing line: program, version, adapter. */
  readonly footer: string;
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
export function demoPage(page: DemoPage): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(page.title)}</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escape(page.title)}</h1>
<p class="summary">${escape(page.summary)}</p>
${highlights(page.highlights)}
</header>
<main>
${page.sections.map(section).join("\n")}
${page.curves.length ? curves(page.curves) : ""}
${page.figures?.rows.length ? figures(page.figures) : ""}
${settings(page.settings)}
</main>
<footer>${escape(page.footer)}</footer>
</body>
</html>
`;
}

function highlights(entries: DemoPage["highlights"]): string {
  if (!entries.length) return "";
  const items = entries.map(([value, label]) => `<div><dt>${escape(label)}</dt><dd>${escape(value)}</dd></div>`);
  return `<dl class="highlights">${items.join("")}</dl>`;
}

function section({ part, defect, training, masks, pairs }: DefectSection): string {
  const name = `${defect} on ${part}`;
  const examples = training.map(({ image, mask }, i) =>
    `<div class="example">${picture(image, `training image ${i + 1} of ${name}`)}` +
    `${picture(mask, `its mask`, "mask")}</div>`
  );
  const shapes = masks.map((mask, i) => picture(mask, `mask ${i + 1} made for ${name}`, "mask"));
  return `<section>
<h2>${escape(words(defect))} <span>on ${escape(words(part))}</span></h2>
<div class="inputs">
<div><h3>Learned from ${count(training.length, "pair")}</h3><div class="strip">${examples.join("")}</div></div>
${shapes.length ? `<div><h3>Masks it made</h3><div class="strip masks">${shapes.join("")}</div></div>` : ""}
</div>
<h3>${count(pairs.length, "new pair")}</h3>
<div class="pairs">${pairs.map((pair, i) => card(pair, `${name}, pair ${i + 1}`)).join("")}</div>
</section>`;
}

function card({ source, mask, result, difference, caption }: GeneratedPair, name: string): string {
  const side = [["source", source, ""], ["mask", mask, "mask"], ["change", difference, ""]] as const;
  const small = side.map(([label, png, style]) =>
    `<div>${picture(png, `${name}: ${label}`, style)}<span>${label}</span></div>`
  );
  return `<figure><div class="result">${picture(result, `${name}: result`)}</div><div class="side">${
    small.join("")
  }</div>` +
    `${caption ? `<figcaption>${escape(caption)}</figcaption>` : ""}</figure>`;
}

function curves(entries: readonly Curve[]): string {
  const charts = entries.map((curve) =>
    `<figure><figcaption>${escape(curve.name)}</figcaption>${lineChart(curve, ["step", "loss"])}</figure>`
  );
  return `<section>
<h2>How the training went</h2>
<p class="note">Faint: the loss of each step, which depends mostly on the noise drawn. Strong: its running mean.</p>
<div class="charts">${charts.join("")}</div>
</section>`;
}

function figures({ columns, rows }: NonNullable<DemoPage["figures"]>): string {
  const cell = (value: string | number) =>
    `<td${typeof value === "number" ? ' class="number"' : ""}>${
      typeof value === "number" ? figure(value) : escape(value)
    }</td>`;
  const isNumber = (i: number) => rows.every((row) => typeof row[i] === "number");
  const head = columns.map((name, i) => `<th scope="col"${isNumber(i) ? ' class="number"' : ""}>${escape(name)}</th>`);
  return `<section>
<h2>Figures</h2>
<div class="scroll"><table><thead><tr>${head.join("")}</tr></thead>
<tbody>${rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`).join("\n")}</tbody></table></div>
</section>`;
}

function settings(values: DemoPage["settings"]): string {
  const rows = Object.entries(values).map(([name, value]) =>
    `<div><dt>${escape(name)}</dt><dd>${
      escape(typeof value === "string" ? value : JSON.stringify(value) ?? "")
    }</dd></div>`
  );
  if (!rows.length) return "";
  return `<section><details open><summary><h2>Settings</h2></summary><dl class="settings">${
    rows.join("")
  }</dl></details></section>`;
}

/** `brushed_metal` and `brushed-metal` as words. */
function words(name: string): string {
  return name.replace(/[_-]+/g, " ");
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
