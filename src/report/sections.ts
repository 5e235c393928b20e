/** The sections that report pages are made of, each as HTML: generated pairs, masks, cases, charts, tables, settings. */
import { type Curve, type CurveAxes, curveChart, lineChart, type Series, SERIES_STYLES } from "./chart.ts";
import { escape, figure, picture } from "./html.ts";
import { highlightList, type Page } from "./page.ts";

/** Bytes of a PNG or JPEG file. */
export type Picture = Uint8Array;

/** A training example. */
export interface ExamplePair {
  readonly image: Picture;
  readonly mask: Picture;
}

/** A generated pair beside what it was made from. */
export interface GeneratedPair {
  /** The normal image; left out where it is not at hand. */
  readonly source?: Picture;
  readonly mask: Picture;
  /** The normal image with the defect drawn in. */
  readonly result: Picture;
  /** Where result and source differ (`differencePicture`). */
  readonly difference?: Picture;
  /** A few words under the pair: `"#3, change 12 %"`. */
  readonly caption?: string;
}

/** One kind of defect of one part. */
export interface DefectSection {
  readonly part: string;
  readonly defect: string;
  readonly training: readonly ExamplePair[];
  /** Masks sampled for this kind. */
  readonly masks: readonly Picture[];
  readonly pairs: readonly GeneratedPair[];
  /** How many there are in all, where not all are shown. */
  readonly total?: number;
  /** Groups that deserve a look: `["Faintest", pairs]`. */
  readonly extremes?: readonly (readonly [title: string, pairs: readonly GeneratedPair[]])[];
}

/** Generated pairs of one kind, with the examples and masks that they come from. */
export function defectSection({ part, defect, training, masks, pairs, total, extremes = [] }: DefectSection): string {
  const name = `${defect} on ${part}`;
  const examples = training.map(({ image, mask }, i) =>
    `<div class="example">${picture(image, `training image ${i + 1} of ${name}`)}` +
    `${picture(mask, `its mask`, "mask")}</div>`
  );
  const shapes = masks.map((mask, i) => picture(mask, `mask ${i + 1} made for ${name}`, "mask"));
  const inputs = [
    examples.length
      ? `<div><h3>Learned from ${count(training.length, "pair")}</h3><div class="strip">${
        examples.join("")
      }</div></div>`
      : "",
    shapes.length ? `<div><h3>Masks it made</h3><div class="strip masks">${shapes.join("")}</div></div>` : "",
  ].join("");
  const cards = (list: readonly GeneratedPair[], what: string) =>
    `<div class="pairs">${list.map((pair, i) => pairCard(pair, `${name}, ${what} ${i + 1}`)).join("")}</div>`;
  const heading = total !== undefined && total > pairs.length
    ? `${pairs.length} of ${count(total, "new pair")}`
    : count(pairs.length, "new pair");
  return `<section>
<h2>${escape(words(defect))} <span>on ${escape(words(part))}</span></h2>
${inputs ? `<div class="inputs">\n${inputs}\n</div>` : ""}
${pairs.length ? `<h3>${heading}</h3>\n${cards(pairs, "pair")}` : ""}
${extremes.map(([title, list]) => `<h3>${escape(title)}</h3>\n${cards(list, title.toLowerCase())}`).join("\n")}
</section>`;
}

/** One pair: the result large, what it was made from beside it. */
function pairCard({ source, mask, result, difference, caption }: GeneratedPair, name: string): string {
  const side = [["source", source, ""], ["mask", mask, "mask"], ["change", difference, ""]] as const;
  const small = side.map(([label, png, style]) =>
    png ? `<div>${picture(png, `${name}: ${label}`, style)}<span>${label}</span></div>` : ""
  );
  return `<figure><div class="result">${picture(result, `${name}: result`)}</div><div class="side">${
    small.join("")
  }</div>` +
    `${caption ? `<figcaption>${escape(caption)}</figcaption>` : ""}</figure>`;
}

/** An image that was inspected. */
export interface Case {
  readonly image: Picture;
  /** The image with the true defect's edge drawn on it; left out for a normal image. */
  readonly truth?: Picture;
  /** The score map; left out of a classifier, which has none. */
  readonly map?: Picture;
  readonly caption: string;
}

/** Groups of inspected images: worst, best, false alarms. */
export function casesSection(
  title: string,
  note: string,
  groups: readonly (readonly [title: string, cases: readonly Case[]])[],
): string {
  const shown = groups.filter(([, cases]) => cases.length);
  if (!shown.length) return "";
  const card = ({ image, truth, map, caption }: Case, name: string) => {
    const pictures = [["image", image], ["truth", truth], ["scores", map]] as const;
    const cells = pictures.map(([label, png]) =>
      png ? `<div>${picture(png, `${name}: ${label}`)}<span>${label}</span></div>` : ""
    );
    return `<figure><div class="triple">${cells.join("")}</div><figcaption>${escape(caption)}</figcaption></figure>`;
  };
  return `<section>
<h2>${escape(title)}</h2>
<p class="note">${escape(note)}</p>
${
    shown.map(([name, cases]) =>
      `<h3>${escape(name)}</h3>\n<div class="cases">${
        cases.map((one, i) => card(one, `${name} ${i + 1}`)).join("")
      }</div>`
    ).join("\n")
  }
</section>`;
}

/** Pictures of one kind in a row that wraps, with a word under each. */
export function picturesSection(
  title: string,
  note: string,
  pictures: readonly (readonly [caption: string, file: Picture])[],
  style: "mask" | "wide" | "" = "",
): string {
  if (!pictures.length) return "";
  const figures = pictures.map(([caption, file]) =>
    `<figure>${picture(file, caption, style)}<figcaption>${escape(caption)}</figcaption></figure>`
  );
  return `<section>
<h2>${escape(title)}</h2>
${note ? `<p class="note">${escape(note)}</p>` : ""}
<div class="${style === "wide" ? "sheets" : "gallery"}">${figures.join("")}</div>
</section>`;
}

/** Training curves, each in its own chart. */
export function trainingSection(curves: readonly Curve[]): string {
  if (!curves.length) return "";
  const charts = curves.map((curve) =>
    `<figure><figcaption>${escape(curve.name)}</figcaption>${lineChart(curve, ["step", "loss"])}</figure>`
  );
  return `<section>
<h2>How the training went</h2>
<p class="note">Faint: the loss of each step, which depends mostly on the noise drawn. Strong: its running mean.</p>
<div class="charts">${charts.join("")}</div>
</section>`;
}

/** One chart of several curves. */
export interface CurveChart {
  readonly title: string;
  readonly axes: CurveAxes;
  readonly series: readonly Series[];
}

/** Charts of curves side by side with one legend. */
export function curvesSection(title: string, note: string, charts: readonly CurveChart[]): string {
  const shown = charts.filter(({ series }) => series.some(({ points }) => points.length));
  if (!shown.length) return "";
  const names = [...new Set(shown.flatMap(({ series }) => series.map(({ name }) => name)))];
  const styled = shown.map(({ title, axes, series }) =>
    `<figure><figcaption>${escape(title)}</figcaption>${
      curveChart(title, series.map((one) => ({ ...one, style: names.indexOf(one.name) })), axes)
    }</figure>`
  );
  const legend = names.length > 1
    ? `<ul class="legend">${
      names.map((name, i) =>
        `<li><svg viewBox="0 0 28 8" aria-hidden="true"><path class="series s${i % SERIES_STYLES}" d="M1 4H27"/></svg>${
          escape(name)
        }</li>`
      ).join("")
    }</ul>`
    : "";
  return `<section>
<h2>${escape(title)}</h2>
<p class="note">${escape(note)}</p>
${legend}
<div class="charts curves">${styled.join("")}</div>
</section>`;
}

/** A table: a heading for each column, one row for each thing. */
export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

/** What stands around a table. */
export interface TableOptions {
  /** Lines below it, which marks in its cells stand for. */
  readonly footnotes?: readonly string[];
  /** Behind a heading that opens it: a long table of details. */
  readonly folded?: boolean;
}

/** A table under a heading; it scrolls sideways on a phone. */
export function tableSection(
  title: string,
  { columns, rows }: Table,
  note = "",
  { footnotes = [], folded = false }: TableOptions = {},
): string {
  if (!rows.length) return "";
  // What the paper prints goes below the figure that it stands behind: beside it, the columns would be too wide.
  const text = (value: string | number) => figure(value).replace(/\(paper .*\)$/, "<small>$&</small>");
  const cell = (value: string | number, i: number) => `<td${isNumber(i) ? ' class="number"' : ""}>${text(value)}</td>`;
  const isNumber = (i: number) =>
    i > 0 && rows.every((row) => typeof row[i] === "number" || NUMBER_LIKE.test(String(row[i])));
  const head = columns.map((name, i) => `<th scope="col"${isNumber(i) ? ' class="number"' : ""}>${escape(name)}</th>`);
  const heading = `<h2>${escape(title)}</h2>`;
  const body = `${note ? `<p class="note">${escape(note)}</p>` : ""}
<div class="scroll"><table class="figures"><thead><tr>${head.join("")}</tr></thead>
<tbody>${rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`).join("\n")}</tbody></table></div>
${footnotes.length ? `<p class="footnotes">${footnotes.map(escape).join("<br>")}</p>` : ""}`;
  return folded
    ? `<section><details><summary>${heading}</summary>\n${body}\n</details></section>`
    : `<section>\n${heading}\n${body}\n</section>`;
}

/** Figures with a unit or a spread or the paper's behind them, and dashes. */
const NUMBER_LIKE = /^(–|[-−]?\d[\d.,]*( ?%)?( ± [\d.]+( ?%)?)?( of \d+)?)( \(paper [-−]?[\d.]+\))?$/;

/** Settings as a list of names and values. */
export function settingsSection(values: Readonly<Record<string, unknown>>, title = "Settings", open = true): string {
  const rows = Object.entries(values).filter(([, value]) => value !== undefined).map(([name, value]) =>
    `<div><dt>${escape(name)}</dt><dd>${
      escape(typeof value === "string" ? value : Array.isArray(value) ? value.join(", ") : JSON.stringify(value) ?? "")
    }</dd></div>`
  );
  if (!rows.length) return "";
  return `<section><details${open ? " open" : ""}><summary><h2>${escape(title)}</h2></summary><dl class="settings">${
    rows.join("")
  }</dl></details></section>`;
}

/** Links to the chapters of a page, by their anchors. */
export function contents(entries: readonly (readonly [anchor: string, name: string])[]): string {
  const links = entries.map(([anchor, name]) => `<li><a href="#${anchor}">${escape(name)}</a></li>`);
  return `<nav><ul class="contents">${links.join("")}</ul></nav>`;
}

/** A run of its own on a page of several. */
export function chapter(
  anchor: string,
  name: string,
  about: string,
  highlights: Page["highlights"],
  body: readonly string[],
): string {
  return `<section class="run" id="${anchor}">
<h2>${escape(name)}</h2>
<p class="note">${escape(about)}</p>
${highlightList(highlights)}
${body.filter(Boolean).join("\n")}
</section>`;
}

/** Pictures in columns, one row for each thing; it scrolls sideways where there are many. */
export function versusSection(
  title: string,
  columns: readonly string[],
  rows: readonly (readonly (Picture | undefined)[])[],
): string {
  const cell = (file: Picture | undefined, column: string, row: number) =>
    `<td>${file ? picture(file, `${column}, image ${row + 1}`) : ""}</td>`;
  return `<section>
<h2>${escape(title)}</h2>
<div class="scroll"><table class="versus"><thead><tr>${
    columns.map((name) => `<th scope="col">${escape(name)}</th>`).join("")
  }</tr></thead>
<tbody>${
    rows.map((row, r) => `<tr>${row.map((file, c) => cell(file, columns[c], r)).join("")}</tr>`).join("\n")
  }</tbody></table></div>
</section>`;
}

/** `brushed_metal` and `brushed-metal` as words. */
export function words(name: string): string {
  return name.replace(/[_-]+/g, " ");
}

/** `1 pair`, `2 pairs`. */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}
