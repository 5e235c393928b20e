/**
 * The `report` command: a page of every kind of run and of several, which stands alone; in a browser, where one is found, it
 * is not blank, fits a phone and works although everything but itself is forbidden.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { decodeImage, loadMask, savePng } from "../../src/data/image.ts";
import { type ComparisonTable, gather } from "../../src/report/tables.ts";
import { nameAndFolder } from "../../tasks/jobs/report.ts";
import { figuresTable, parseCsv } from "../../tasks/jobs/report_inspection.ts";
import { csv } from "../../tasks/jobs/inspection_results.ts";
import { exists, Workshop } from "../end_to_end/program.ts";

const shop = new Workshop();
const SIZE = "--base-width 4 --resolution 32 --train-batch-size 2 --max-train-steps 12";
await shop.good("baseline --method crop-paste --data @data --part plate --count 9 --out @crop");
await shop.good("baseline --method draem --data @data --part plate --count 3 --out @draem");
await shop.good(`inspect train --pairs @crop --data @data ${SIZE} --out @unet`);
await shop.good("inspect test --train-run @unet --data @data --out @unet-test");
await shop.good(`inspect train --pairs @crop --data @data ${SIZE} --seed 1 --out @unet-1`);
await shop.good("inspect test --train-run @unet-1 --data @data --out @unet-1-test");

const test = (name: string, fn: () => Promise<void>, ignore = false) =>
  Deno.test({ name, fn, ignore, sanitizeResources: false, sanitizeOps: false });

/** Makes a page, checks that it stands alone and returns it. */
async function page(words: string, out: string): Promise<string> {
  const { out: printed } = await shop.good(`report ${words.replaceAll("=@", `=${shop.path}/`)} --out @${out}`);
  assert.equal(printed.trim(), shop.file(out, "index.html"));
  const html = Deno.readTextFileSync(shop.file(out, "index.html"));
  assert.match(html, /^<!doctype html>/);
  assert.doesNotMatch(html, /<script|<link(?! rel="icon" href="data:,")|(src|href)="(?!data:|#)|url\(|@import|https?:/);
  assert.doesNotMatch(html, />(NaN|undefined|null|\[object)/);
  const titles = [...html.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, title]) => title.replace(/<.*?>/g, ""));
  assert.equal(new Set(titles).size > 1, true, titles.join());
  return html;
}

const pictures = (html: string) => [...html.matchAll(/<img /g)].length;

test("pairs: contact sheets with source, mask, result and change; figures, the faintest and the strongest", async () => {
  const html = await page("@crop --pairs 2", "page-crop");
  // Two kinds: two training pairs, two and twice three generated ones of four pictures each.
  assert.equal(pictures(html), 2 * (2 * 2 + 4 * (2 + 2 * 3)));
  for (const words of ["dent <span>on plate", "2 of 9 new pairs", "Faintest of the others", "mask changed"]) {
    assert.ok(html.includes(words), words);
  }
  // A data set that went elsewhere is asked for, and the page is made of what is left.
  Deno.renameSync(shop.file("data"), shop.file("moved"));
  const poor = await page("@crop --pairs 2", "page-poor");
  assert.equal(pictures(poor), 2 * 2 * (2 + 2 * 3)); // masks and results
  assert.match(poor, /The data set is not where the run found it \(--data\)/);
  assert.equal(pictures(await page("@crop --pairs 2 --data @moved", "page-moved")), pictures(html));
  Deno.renameSync(shop.file("moved"), shop.file("data"));
});

test("a training and a test: curves, figures, worst and best cases", async () => {
  const training = await page("@unet", "page-train");
  assert.match(training, /aria-label="loss: loss from [\d.]+ to [\d.]+ over 12 steps"/);
  const html = await page("unet=@unet-test", "page-test");
  for (const title of ["Precision and recall, pixels", "ROC, pixels", "PRO", "ROC, images"]) {
    assert.match(html, new RegExp(`aria-label="${title}".*?<path class="series s0" d="M[\\d. L]+"`));
  }
  for (const words of ["Found worst", "Normal images with the highest scores", "pixel AUROC", "last step"]) {
    assert.ok(html.includes(words), words);
  }
  // Eight defects, of which six are shown as worst and two more as best, in three pictures; one normal image in two.
  assert.equal(pictures(html), 3 * 8 + 2);
});

test("several runs: seeds of one name in one row, methods side by side on the same images", async () => {
  const html = await page("unet=@unet-test unet=@unet-1-test", "page-seeds");
  assert.match(html, /<td>unet<\/td><td class="number">2<\/td><td class="number">[\d.]+ ± [\d.]+<\/td>/);
  assert.equal([...html.matchAll(/<path class="series s0"/g)].length, 2 * 5 + 2 * 5);
  const methods = await page("@crop @draem --pairs 1", "page-methods");
  assert.ok(methods.includes(`<th scope="col">source</th><th scope="col">crop</th><th scope="col">draem</th>`));
  assert.ok(methods.includes('<a href="#run-2">draem (baseline)</a>') && methods.includes('id="run-2"'));
  assert.ok(methods.includes("dent, side by side") && methods.includes("Generated pairs"));
});

/** A run folder of `reproduce` with a table of so many parts. */
function paperRun(name: string, parts: readonly string[]): void {
  const metrics = ["pixel AUROC", "pixel AP", "pixel F1-max", "PRO"];
  const figures = (value: number) => Object.fromEntries(metrics.map((metric) => [metric, value]));
  const seeds = [60, 64].map((value) => Object.fromEntries(parts.map((part) => [part, figures(value)])));
  const table: ComparisonTable = {
    ...{ name: "table2", title: "Tables 2 and 10: Localisation", metrics, digits: 1, parts, seeds: [0, 1] },
    footing: { curation: "none" },
    rows: [
      { name: "AnomalyDiffusion", published: { average: figures(81.4), wood: figures(84.6) }, measured: gather(seeds) },
      { name: "DFMGAN", published: { average: figures(62.7) }, measured: {}, note: "printed figures only: a GAN" },
      { name: "a-name-of-one-word_that_is_far_too_long_for_a_phone", published: {}, measured: gather(seeds) },
      { name: "AnomalyDiffusion, tuned", published: {}, measured: gather(seeds), note: "beyond the paper: <tuned>" },
    ],
  };
  Deno.mkdirSync(shop.file(name));
  Deno.writeTextFileSync(shop.file(`${name}/config.json`), '{"command":"reproduce"}');
  Deno.writeTextFileSync(shop.file(`${name}/table2.json`), JSON.stringify(table));
}

test("tables of reproduce: rows carry their marks, notes stand below, parts are there and folded where many", async () => {
  paperRun("paper", ["metal", "wood"]);
  const html = await page("@paper", "page-paper");
  assert.match(html, /<td>DFMGAN \[1\]<\/td><td class="number">62.7<\/td><td class="number">–<\/td>/);
  assert.ok(html.includes("<td>AnomalyDiffusion, tuned [2]</td>"));
  assert.ok(html.includes("[1] printed figures only: a GAN<br>[2] beyond the paper: &#60;tuned&#62;</p>"));
  assert.match(html, /<section>\n<h2>Tables 2 and 10, by part<\/h2>/);
  assert.match(html, /<td>AnomalyDiffusion: wood<\/td><td class="number">62.0 ± 2.8 <small>\(paper 84.6\)</);
  paperRun("long", Array.from({ length: 9 }, (_, i) => `part-${i}`));
  assert.match(await page("@long", "page-long"), /<details><summary><h2>Tables 2 and 10, by part<\/h2><\/summary>/);
});

test("what cannot be reported is one line", async () => {
  const refused = async (words: string, message: RegExp) => {
    const { code, err } = await shop.run(`report ${words} --out @refused`);
    assert.ok(code === 1 || code === 2);
    assert.match(err, message);
    assert.ok(err.trimEnd().split("\n").filter((line) => !line.startsWith("reading:")).length <= 2, err);
    assert.equal(exists(shop.file("refused")), false);
  };
  await refused("@nowhere", /nowhere holds no run/);
  await refused("@data", /data holds no run/);
  await refused("", /^error: missing <run …>$/m);
  Deno.mkdirSync(shop.file("empty"));
  Deno.writeTextFileSync(shop.file("empty/config.json"), '{"command":"train"}');
  await refused("@empty", /empty: this run of train left nothing to show/);
  Deno.writeTextFileSync(shop.file("empty/config.json"), "{");
  await refused("@empty", /config\.json is not JSON/);
});

test("names and folders, CSV and its reader, a table of one and of several runs", async () => {
  assert.deepEqual(nameAndFolder("ours=runs/a"), { name: "ours", folder: "runs/a" });
  assert.deepEqual(nameAndFolder("runs/a=b/"), { name: "a=b", folder: "runs/a=b/" });
  const lines = [["image", "ap"], ['a,"b".png', 0.5], ["c", undefined]];
  assert.deepEqual(parseCsv(csv(lines)), [{ image: 'a,"b".png', ap: "0.5" }, { image: "c", ap: "" }]);
  const runs = [0.5, 0.7].map((pixelAp) => ({ name: "a", metrics: { pixelAp } }));
  assert.deepEqual(figuresTable(runs.slice(0, 1)), { columns: ["method", "pixel AP"], rows: [["a", "50.0"]] });
  assert.deepEqual(figuresTable(runs).rows, [["a", 2, "60.0 ± 14.1"]]);
  // A large picture is made smaller, and is then a JPEG file.
  const large = { width: 900, height: 600, channels: 3 as const, data: new Uint8ClampedArray(1_620_000).fill(90) };
  Deno.mkdirSync(shop.file("big/x/train/good"), { recursive: true });
  savePng(shop.file("big/x/train/good/0.png"), large);
  const record = JSON.parse(Deno.readTextFileSync(shop.file("crop/manifest.jsonl")).split("\n")[0]);
  Deno.mkdirSync(shop.file("one"));
  savePng(shop.file("one/i.png"), { ...large, data: large.data.map((v, i) => i < 300 ? 200 : v) });
  const mask = await loadMask(shop.file("crop", record.mask));
  savePng(shop.file("one/m.png"), mask);
  const line = { ...record, image: "i.png", mask: "m.png", source: "x/train/good/0.png", part: "x" };
  Deno.writeTextFileSync(shop.file("one/manifest.jsonl"), `${JSON.stringify(line)}\n`);
  Deno.writeTextFileSync(shop.file("one/config.json"), JSON.stringify({ command: "generate", data: "none" }));
  const html = await page("@one", "page-large");
  const [, data] = /data:image\/jpeg;base64,([^"]+)" alt="dent on x, pair 1: result" width="384" height="256"/.exec(
    html,
  )!;
  const shown = await decodeImage(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), "shown");
  assert.ok(Math.abs(shown.data[3 * 384 * 100 + 300] - 90) < 4);
});

/** A browser: what CHROMIUM names, or `chromium` on the PATH. */
function browser(): string | undefined {
  const given = Deno.env.get("CHROMIUM");
  if (given) return given;
  const folders = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  return folders.map((folder) => join(folder, "chromium")).find(exists);
}

const BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"];

/** Whether it starts here at all; one that was named by hand has to. */
async function starts(browser: string): Promise<boolean> {
  if (Deno.env.has("CHROMIUM")) return true;
  const profile = Deno.makeTempDirSync();
  try {
    const args = [...BROWSER, `--user-data-dir=${profile}`, "--dump-dom", "about:blank"];
    const options = { args, signal: AbortSignal.timeout(60_000) } as const;
    return (await new Deno.Command(browser, { ...options, stderr: "null" }).output()).success;
  } finally {
    Deno.removeSync(profile, { recursive: true });
  }
}

const found = browser(), chromium = found && await starts(found) ? found : undefined;

/** Runs the browser without a window on an address; returns what it prints. */
async function browse(url: string, ...flags: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(chromium!, {
    args: [...BROWSER, "--disable-background-networking", `--user-data-dir=${shop.file("profile")}`, ...flags, url],
    signal: AbortSignal.timeout(90_000),
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** A phone's width: narrower than the browser's window can be, so that the page lies in a frame; and a desktop's. */
const PHONE = 360, DESK = 1200;

/**
 * The frame; its script writes the page's width, what it needs, what ends right of it and cannot be scrolled to, where the
 * first column of figures of each table ends, and the headings of tables that scroll.
 */
const frame = (width: number) =>
  `<!doctype html><link rel="icon" href="data:,"><style>body { margin: 0 } iframe { border: 0 }</style>
<iframe src="/" width="${width}" height="1600"></iframe><output></output>
<script>onload = () => {
  const { documentElement: root, body } = document.querySelector("iframe").contentDocument;
  const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const isCut = (e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(e.parentElement);
  const tables = [...body.querySelectorAll(".figures")];
  document.querySelector("output").textContent = JSON.stringify({
    width: root.clientWidth,
    needs: root.scrollWidth,
    height: root.scrollHeight,
    cut: [...body.querySelectorAll("*")].filter(isCut).map((e) => e.tagName + "." + e.getAttribute("class")),
    figures: tables.map((e) => e.querySelector("td.number").getBoundingClientRect().right),
    scrolled: tables.filter(({ parentElement: e }) => e.scrollWidth > e.clientWidth)
      .map((e) => e.closest("section").querySelector("h2").textContent),
  });
};</script>`;

test(
  chromium
    ? "in a browser that allows nothing from outside, the page is not blank, and fits a phone"
    : found
    ? `in a browser: ${found} does not start here, set CHROMIUM`
    : "in a browser: no chromium found, set CHROMIUM",
  async () => {
    paperRun("tables", ["metal", "wood"]);
    await page("@crop unet=@unet-test @tables", "page-shown");
    const html = Deno.readFileSync(shop.file("page-shown/index.html")), asked: string[] = [];
    const policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
    await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, ({ url }) => {
      const { pathname } = new URL(url), headers = { "content-type": "text/html" };
      asked.push(pathname);
      if (pathname === "/phone") return new Response(frame(PHONE), { headers });
      if (pathname === "/desk") return new Response(frame(DESK), { headers });
      return new Response(html, { headers: { ...headers, "content-security-policy": policy } });
    });
    const origin = `http://127.0.0.1:${(server.addr as Deno.NetAddr).port}`;
    for (const [path, window, width] of [["/", 1200, 1200], ["/phone", 500, PHONE]] as const) {
      const file = shop.file(`shot-${width}.png`);
      await browse(`${origin}${path}`, `--window-size=${window},1600`, `--screenshot=${file}`);
      const { width: wide, height, data } = await decodeImage(Deno.readFileSync(file), file);
      assert.equal(wide, window);
      const background = data.subarray(0, 3), colours = new Set<number>();
      let drawn = 0;
      for (let i = 0; i < data.length; i += 3) {
        if ((i / 3) % window >= width) continue; // beside the frame
        colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
        if (background.some((v, c) => Math.abs(v - data[i + c]) > 24)) drawn++;
      }
      assert.ok(colours.size > 500, `${colours.size} colours`); // a page of words alone has fewer
      const share = drawn / (width * height);
      assert.ok(share > 0.03 && share < 0.9, `${share} of the page is drawn on`);
    }
    const measure = async (path: string) =>
      JSON.parse(/<output>(.*?)<\/output>/.exec(await browse(`${origin}${path}`, "--dump-dom"))![1]);
    const { height, figures, scrolled, ...sideways } = await measure("/phone");
    assert.deepEqual(sideways, { width: PHONE, needs: PHONE, cut: [] });
    assert.ok(height > 1600, `a page ${height} high`);
    // What scrolls says so by its first figures, which are in sight beside the names.
    assert.ok(scrolled.includes("Tables 2 and 10: Localisation"), `scrolled: ${scrolled}`);
    assert.ok(figures.every((right: number) => right > 0 && right <= PHONE), `first figures end at ${figures}`);
    const desk = await measure("/desk");
    assert.deepEqual([desk.needs, desk.cut, desk.scrolled], [DESK, [], []]);
    assert.deepEqual([...new Set(asked)].sort(), ["/", "/desk", "/phone"]);
  },
  !chromium,
);
