/**
 * The style sheet of the report pages: light and dark by the reader's system, one column on a phone. A wide table scrolls
 * under its first column; the shade at its right edge says so, and is covered by what scrolls along at the end.
 */
export const STYLE = `
:root {
  --paper: #f7f5f1; --card: #ffffff; --ink: #1d1c1a; --soft: #6a665f; --line: #e2ddd4; --accent: #b4532a; --raw: #dcb9a6; --shade: #0002;
  --s1: #2a6fb4; --s2: #35824a; --s3: #8a4fb0; --s4: #94740f; --s5: #5b6470;
  --gap: clamp(.5rem, 1.4vw, .9rem);
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #151517; --card: #1f1f22; --ink: #ecebe8; --soft: #a09c95; --line: #34343a; --accent: #f0935f; --raw: #6b4a3a; --shade: #fff3;
    --s1: #6fb1f0; --s2: #7fce91; --s3: #c79be8; --s4: #e3c35a; --s5: #a6afbb; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: clamp(1rem, 4vw, 3rem); max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
h1 { margin: 0; font-size: clamp(1.7rem, 5vw, 2.6rem); line-height: 1.15; letter-spacing: -.02em; text-wrap: balance; }
h2 { margin: 0 0 .9rem; font-size: 1.35rem; line-height: 1.25; letter-spacing: -.01em; }
h2::first-letter { text-transform: uppercase; }
h2 span { color: var(--soft); font-weight: 400; }
h3 { margin: 0 0 .5rem; font-size: .875rem; font-weight: 600; color: var(--soft); }
.summary { max-width: 46rem; margin: .8rem 0 0; font-size: 1.075rem; color: var(--soft); }
section { margin-top: clamp(2.2rem, 5vw, 3.4rem); }
.note { max-width: 46rem; margin: -.4rem 0 1rem; color: var(--soft); font-size: .875rem; }
img { display: block; width: 100%; height: auto; border-radius: 4px; background: var(--line); }
.mask { image-rendering: pixelated; }
.highlights { display: flex; flex-wrap: wrap; gap: 1.1rem 2.6rem; margin: 1.7rem 0 0; }
.highlights div { display: flex; flex-direction: column-reverse; }
.highlights dt { color: var(--soft); font-size: .875rem; }
.highlights dd { margin: 0; font-size: 1.75rem; line-height: 1.15; font-weight: 650; letter-spacing: -.02em; }
.inputs { display: flex; flex-wrap: wrap; gap: 1.4rem 2.6rem; margin-bottom: 1.6rem; }
.strip { display: flex; flex-wrap: wrap; gap: var(--gap); }
.example { display: grid; gap: 3px; }
.strip img { width: clamp(3.6rem, 16vw, 5.5rem); }
.strip.masks { display: grid; grid-template-rows: auto auto; grid-auto-flow: column; gap: 3px var(--gap); overflow-x: auto; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16.5rem), 1fr)); gap: calc(1.4 * var(--gap)); }
figure { margin: 0; }
.pairs figure {
  display: grid; grid-template: auto 1fr / 3.4fr 1fr; gap: .4rem .5rem; padding: .6rem; border: 1px solid var(--line);
  border-radius: 10px; background: var(--card);
}
.side { grid-row: span 2; display: grid; gap: .15rem; align-content: start; }
.side span { display: block; color: var(--soft); font-size: .6875rem; line-height: 1.35; text-align: center; }
.pairs figcaption { grid-column: 1; color: var(--soft); font-size: .8125rem; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.4rem; }
.charts figure { padding: .9rem 1rem .5rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.charts figcaption { font-weight: 600; }
.chart { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font: 12px system-ui, "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); }
.chart .axis { stroke: var(--soft); }
.chart path { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.chart .raw { stroke: var(--raw); stroke-width: 1; opacity: .8; }
.chart .mean { stroke: var(--accent); stroke-width: 2.5; }
.chart .end { fill: var(--accent); }
.chart .series, .legend path { fill: none; stroke: var(--accent); stroke-width: 2.2; }
.chart .s1, .legend .s1 { stroke: var(--s1); stroke-dasharray: 9 4; }
.chart .s2, .legend .s2 { stroke: var(--s2); stroke-dasharray: 3 3; }
.chart .s3, .legend .s3 { stroke: var(--s3); stroke-dasharray: 12 3 3 3; }
.chart .s4, .legend .s4 { stroke: var(--s4); stroke-dasharray: 6 6; }
.chart .s5, .legend .s5 { stroke: var(--s5); }
.chart .chance { stroke: var(--line); stroke-width: 1.5; stroke-dasharray: 4 4; }
.charts.curves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: 0 0 1rem; padding: 0; list-style: none; font-size: .9375rem; }
.legend li { display: flex; align-items: center; gap: .5rem; }
.legend svg { width: 1.75rem; height: .5rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: calc(1.2 * var(--gap)); }
.sheets { display: grid; gap: 1.4rem; }
.sheets img { width: auto; max-width: 100%; }
.gallery figcaption, .sheets figcaption { margin-top: .2rem; color: var(--soft); font-size: .75rem; overflow-wrap: anywhere; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: calc(1.4 * var(--gap)); margin-bottom: 1.4rem; }
.cases figure { padding: .6rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.cases figcaption { color: var(--soft); font-size: .8125rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.triple { display: grid; grid-template-columns: repeat(3, 1fr); gap: .4rem; }
.triple span { display: block; color: var(--soft); font-size: .6875rem; line-height: 1.6; text-align: center; }
.pairs + h3, .cases + h3 { margin-top: 1.6rem; }
.contents { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: 1.4rem 0 0; padding: 0; list-style: none; }
.contents a { color: var(--accent); }
.run { margin-top: clamp(3rem, 7vw, 4.6rem); padding-top: 1.4rem; border-top: 2px solid var(--line); }
.run > h2 { margin-bottom: .3rem; font-size: 1.75rem; }
.run > .note { margin: 0; }
.scroll {
  overflow-x: auto;
  background:
    linear-gradient(to left, var(--paper) 40%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll;
}
.footnotes { max-width: 46rem; margin: .8rem 0 0; color: var(--soft); font-size: .875rem; }
table { border-collapse: separate; border-spacing: 0; min-width: 60%; font-size: .9375rem; }
th, td { padding: .45rem 1.4rem .45rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .875rem; line-height: 1.35; white-space: normal; vertical-align: bottom; }
.figures td { vertical-align: baseline; }
.figures td:first-child { min-width: 7rem; white-space: normal; overflow-wrap: break-word; }
.figures :is(th, td):first-child { position: sticky; left: 0; background: var(--paper); }
@media (max-width: 40rem) {
  .figures { font-size: .875rem; }
  .figures th { font-size: .8125rem; }
  .figures :is(th, td) { padding: .4rem .7rem .4rem 0; }
  .figures td:first-child { max-width: 9rem; }
}
.versus { min-width: 0; }
.versus td { padding: .25rem .5rem .25rem 0; border: 0; }
.versus img { width: clamp(6rem, 24vw, 9.5rem); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.number small { display: block; color: var(--soft); font-size: .8125rem; }
summary { cursor: pointer; list-style-position: outside; }
summary h2 { display: inline; }
summary + .note, summary + .scroll { margin-top: .9rem; }
.settings { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 0 2.2rem; margin: .8rem 0 0; }
.settings div {
  display: flex; justify-content: space-between; gap: 1rem; padding: .3rem 0; border-bottom: 1px solid var(--line);
  font-size: .875rem;
}
.settings dt { color: var(--soft); }
.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .8125rem; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
`;
