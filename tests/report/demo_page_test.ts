/** The demo page stands alone, shows every picture it was given, and its charts and heat maps tell the truth. */
import assert from "node:assert/strict";
import type { Image, Mask } from "../../src/data/image.ts";
import { toPng } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";
import { lineChart, runningMean, ticks } from "../../src/report/chart.ts";
import { type DemoPage, demoPage } from "../../src/report/demo_page.ts";
import { differencePicture, meanChange, outlinePicture } from "../../src/report/pictures.ts";

function image(value: (i: number) => number, width = 5, height = 3): Image {
  return {
    width,
    height,
    channels: 3,
    data: Uint8ClampedArray.from({ length: width * height * 3 }, (_, i) => value(i)),
  };
}

function png(value: number): Uint8Array {
  return toPng(image(() => value));
}

const page: DemoPage = {
  title: `Wood & "more"`,
  summary: "a < b",
  highlights: [["2", "new pairs"]],
  sections: [{
    part: "wood",
    defect: "deep_crack",
    training: [{ image: png(1), mask: png(2) }],
    masks: [png(3)],
    pairs: [4, 8].map((n) => ({
      source: png(n),
      mask: png(n + 1),
      result: png(n + 2),
      difference: png(n + 3),
      caption: `#${n}`,
    })),
  }],
  curves: [{ name: "Embeddings", points: [[1, 0.5], [2, 0.4], [3, NaN], [4, 0.2]] }],
  figures: { columns: ["defect", "change"], rows: [["crack", 0.12345]] },
  settings: { seed: 0, part: "<wood>" },
  footer: "end",
};

Deno.test("demoPage() holds every picture inside and asks nothing of the network", () => {
  const html = demoPage(page);
  const pictures = [...html.matchAll(/src="data:image\/png;base64,([A-Za-z0-9+/=]+)"/g)].map(([, data]) =>
    Uint8Array.from(atob(data), (c) => c.charCodeAt(0))
  );
  const given = [1, 2, 3, 6, 4, 5, 7, 10, 8, 9, 11].map(png);
  assert.deepEqual(pictures, given);
  assert.equal([...html.matchAll(/<img [^>]*alt="[^"]+" width="5" height="3"/g)].length, given.length);
  assert.doesNotMatch(html, /<script|(src|href)="(?!data:)|url\(|@import|https?:/);
});

Deno.test("demoPage() escapes what users name", () => {
  const html = demoPage(page);
  assert.match(html, /<title>Wood &#38; &#34;more&#34;<\/title>/);
  assert.ok(html.includes("a &#60; b") && html.includes("&#60;wood&#62;") && !html.includes("<wood>"));
  assert.ok(html.includes("deep crack") && html.includes("0.123"));
});

Deno.test("demoPage() carries a picture larger than one slice of base64 whole", () => {
  const random = new Random(1, "noise");
  const large = toPng(image(() => random.integer(0, 256), 160, 160));
  assert.ok(large.length > 25_000);
  const html = demoPage({ ...page, sections: [{ ...page.sections[0], training: [], masks: [large], pairs: [] }] });
  const [, data] = /base64,([^"]+)"/.exec(html)!;
  assert.deepEqual(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), new Uint8Array(large));
});

Deno.test("demoPage() refuses what is no picture", () => {
  const sections = [{ ...page.sections[0], masks: [new Uint8Array(40)] }];
  assert.throws(
    () => demoPage({ ...page, sections }),
    /mask 1 made for deep_crack on wood: the picture is not a PNG or JPEG file/,
  );
});

Deno.test("charts have round ticks, skip what is not finite, and do without points", () => {
  assert.deepEqual(ticks(0, 0.23, 4), [0, 0.1, 0.2]);
  assert.deepEqual(ticks(0, 20000, 5), [0, 5000, 10000, 15000, 20000]);
  assert.deepEqual(ticks(3, 3, 4), [3]);
  assert.deepEqual(runningMean([2, 4, 6, 0], 2), [2, 3, 5, 3]);
  const svg = lineChart(page.curves[0], ["step", "loss"]);
  assert.doesNotMatch(svg, /NaN|undefined|Infinity/);
  assert.match(svg, /aria-label="Embeddings: loss from 0\.500 to 0\.200 over 4 steps"/);
  assert.match(lineChart({ name: "Masks", points: [] }, ["step", "loss"]), /Masks: nothing recorded/);
  assert.doesNotMatch(lineChart({ name: "one", points: [[1, 0]] }, ["step", "loss"]), /NaN|Infinity/);
});

Deno.test("differencePicture() is dark where nothing changed and brightest where all did; meanChange() splits by mask", () => {
  const before = image(() => 100), after = image((i) => i < 3 ? 255 : 100);
  const data = differencePicture(before, after).data;
  assert.deepEqual([...data.subarray(0, 6)], [252, 250, 190, 10, 10, 28]);
  const mask: Mask = {
    width: 5,
    height: 3,
    channels: 1,
    data: Uint8Array.from({ length: 15 }, (_, i) => i < 2 ? 1 : 0),
  };
  const change = meanChange(before, after, mask);
  assert.ok(Math.abs(change.inside - 155 / 255 / 2) < 1e-12);
  assert.equal(change.outside, 0);
  assert.throws(() => differencePicture(before, image(() => 0, 4, 3)), /5×3 and 4×3/);
});

Deno.test("outlinePicture() draws around the mask and never on it", () => {
  const mask: Mask = { width: 5, height: 3, channels: 1, data: new Uint8Array(15) };
  mask.data[7] = 1; // x 2, y 1
  const data = outlinePicture(image(() => 9), mask, [1, 2, 3]).data;
  const drawn = Array.from({ length: 15 }, (_, i) => i).filter((i) => data[3 * i] === 1);
  assert.deepEqual(drawn, [2, 6, 8, 12]);
});
