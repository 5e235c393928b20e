/** The results as one HTML file without anything outside it. */

import { escape } from "../../src/report/html.ts";
import { STYLE } from "../../src/report/style.ts";
import { advantage, type BenchResults, gradientRatio, ms, processorLine, productLines, tableOf } from "./results.ts";
import { rivals } from "./rivals.ts";

/** Bars of one case, ours first, as long as their times. */
function bars(results: BenchResults): string {
  const shown = results.cases.filter((result) => rivals.some((rival) => advantage(result, rival) !== undefined));
  return shown.map((result) => {
    const times = [["ours", result.ours.median] as const].concat(rivals.flatMap((rival) => {
      const theirs = result.rivals[rival];
      return theirs && "median" in theirs ? [[rival, theirs.median] as const] : [];
    }) as []);
    const most = Math.max(...times.map(([, time]) => time)), left = 96, full = 330;
    const rows = times.map(([name, time], i) =>
      `<text x="0" y="${18 * i + 13}">${name}</text>` +
      `<rect x="${left}" y="${18 * i + 3}" width="${Math.max(1, full * time / most).toFixed(1)}" height="12" ` +
      `fill="${i ? "var(--raw)" : "var(--accent)"}"/>` +
      `<text x="${(left + 6 + full * time / most).toFixed(1)}" y="${18 * i + 13}">${ms(time)} ms</text>`
    ).join("");
    return `<figure><figcaption>${escape(result.name)}</figcaption>` +
      `<svg class="chart" viewBox="0 0 500 ${18 * times.length + 6}" role="img" aria-label="${escape(result.name)}">` +
      `${rows}</svg></figure>`;
  }).join("\n");
}

/** The page. */
export function benchPage(results: BenchResults): string {
  const { machine, limits, date } = results, { head, rows } = tableOf(results), ratio = gradientRatio(results.cases);
  const highlights = [
    [`${limits.matmul.gflops.toFixed(1)} GFLOP/s`, "best matrix product of the run"],
    [`${limits.copy.gbps.toFixed(1)} GB/s`, "best copy"],
    ...ratio ? [[`${ratio.toFixed(2)} ×`, "U-Net with gradient against forward"]] : [],
  ];
  const failures = results.cases.flatMap(({ name, rivals: theirs }) =>
    Object.entries(theirs).flatMap(([rival, time]) => "failed" in time ? [`${name}, ${rival}: ${time.failed}`] : [])
  );
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bench, ${escape(machine.adapter)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Bench</h1>
<p class="summary">${escape(machine.adapter)}, Deno ${escape(machine.deno)}, ${
    escape(machine.system)
  }, ${machine.processors}
processors, ${escape(date.slice(0, 16).replace("T", " "))}${
    results.quick ? ", quick" : ""
  }. All sides in one process, in
turns; medians; each side's output was compared with ours before it was timed.</p>
<dl class="highlights">${
    highlights.map(([value, what]) => `<div><dt>${what}</dt><dd>${value}</dd></div>`).join("")
  }</dl>
<section><h2>Times</h2>
<div class="scroll"><table><thead><tr>${
    head.map((text, i) => `<th${i ? ' class="number"' : ""}>${escape(text)}</th>`).join("")
  }
</tr></thead><tbody>${
    rows.map((row) =>
      `<tr>${row.map((text, i) => `<td${i ? ' class="number"' : ""}>${escape(text)}</td>`).join("")}</tr>`
    ).join("\n")
  }</tbody></table></div>
<p class="note">The limit is the best matrix product of this run, for norms the best copy. ort is onnxruntime-web.</p>
${
    [productLines(results), processorLine(results)].map((lines) =>
      lines.length ? `<p class="note">${lines.slice(1).map(escape).join("<br>\n")}</p>` : ""
    ).join("")
  }
${failures.map((text) => `<p class="note">Failed: ${escape(text)}</p>`).join("")}
</section>
<section><h2>Side by side</h2><div class="charts">${bars(results)}</div></section>
${
    results.host.length === 0 ? "" : `<section><h2>Host and memory</h2><div class="scroll"><table><thead><tr><th></th>
<th class="number">steps</th><th class="number">ms a step</th><th class="number">JavaScript, at most</th>
<th class="number">growth device, MiB</th><th class="number">heap</th><th class="number">process</th></tr></thead><tbody>${
      results.host.map(({ name, steps, step, host, growth }) =>
        `<tr><td>${escape(name)}</td>${
          [
            steps,
            ms(step),
            `${(100 * host / step).toFixed(1)} %`,
            mib(growth.device),
            mib(growth.heap),
            mib(growth.process),
          ]
            .map((text) => `<td class="number">${text}</td>`).join("")
        }</tr>`
      ).join("")
    }</tbody></table></div></section>`
  }
</body>
</html>
`;
}
