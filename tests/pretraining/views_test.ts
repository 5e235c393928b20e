/** Views of normal images: what they show of an image, and what they depend on. */
import assert from "node:assert/strict";
import { type Image, savePng } from "../../src/data/image.ts";
import { folderImages } from "../../src/pretraining/images.ts";
import { normalView } from "../../src/pretraining/views.ts";
import { Random } from "../../src/random/philox.ts";

/** An image whose red tells the column and whose green the row. */
function gradient(width: number, height: number): Image {
  const data = new Uint8ClampedArray(3 * width * height);
  for (let i = 0; i < width * height; i++) data.set([i % width, Math.floor(i / width), 0], 3 * i);
  return { width, height, channels: 3, data };
}

/** First and last column and row that a view of {@linkcode gradient} shows, nearly. */
function seen(view: Uint8Array, side: number) {
  const at = (x: number, y: number, c: number) => view[3 * (y * side + x) + c], end = side - 1;
  return { columns: [at(0, 0, 0), at(end, 0, 0)], rows: [at(0, 0, 1), at(0, end, 1)] };
}

Deno.test("views: 85 of 100 are squares from side / zoom to the model's side, anywhere in the image, the rest is whole; all mirrored or not", () => {
  const image = gradient(200, 120), side = 64;
  const views = Array.from({ length: 400 }, (_, i) => seen(normalView(image, new Random(2, "view", i), side, 2), side));
  const extent = ([a, b]: number[]) => Math.abs(b - a) + 1;
  const whole = views.filter(({ columns }) => extent(columns) > 150), squares = views.filter((v) => !whole.includes(v));
  assert.ok(Math.abs(whole.length - 60) < 25, `${whole.length} whole`);
  for (const { columns, rows } of whole) assert.ok(extent(columns) > 195 && extent(rows) > 115);
  for (const { columns, rows } of squares) {
    assert.ok(extent(columns) >= 32 * 0.85 - 3 && extent(columns) <= 64 + 2, `${extent(columns)}`);
    assert.ok(Math.abs(extent(rows) - extent(columns)) <= 2, "not a square");
  }
  const small = squares.filter(({ columns }) => extent(columns) < 40).length; // log-uniform: log(40 / 27) of log(64 / 27)
  assert.ok(Math.abs(small / squares.length - 0.45) < 0.1, `${small} of ${squares.length}`);
  const from = squares.map(({ columns }) => Math.min(...columns)), below = squares.map(({ rows }) => Math.max(...rows));
  assert.ok(
    Math.min(...from) < 8 && Math.max(...from) > 155 && Math.max(...below) > 112,
    "part of the image is never seen",
  );
  for (const key of ["columns", "rows"] as const) {
    const mirrored = views.filter((view) => view[key][1] < view[key][0]).length;
    assert.ok(Math.abs(mirrored - 200) < 50, `${mirrored} of 400 mirrored along ${key}`);
  }
});

Deno.test("views: an image smaller than a square is taken as far as it goes", () => {
  const view = normalView(gradient(20, 10), new Random(1, "view", 0), 32, 1);
  assert.equal(view.length, 3 * 32 * 32);
});

Deno.test("views of a folder: each image in turn, by seed and number alone", async () => {
  const root = await Deno.makeTempDir({ prefix: "views-" });
  try {
    for (const [part, value] of [["gear", 40], ["nut", 90]] as const) {
      await Deno.mkdir(`${root}/${part}/train/good`, { recursive: true });
      const image = gradient(50, 40);
      image.data.forEach((v, i) => image.data[i] = i % 3 === 2 ? value : v);
      savePng(`${root}/${part}/train/good/0.png`, image);
    }
    const few = await folderImages(root, 32, { seed: 4, count: 5, zoom: 2 });
    const more = await folderImages(root, 32, { seed: 4, count: 9, zoom: 2 });
    const other = await folderImages(root, 32, { seed: 5, count: 5, zoom: 2 });
    assert.equal(few.count, 5);
    for (let i = 0; i < 5; i++) {
      assert.equal(few.caption(i), i % 2 ? "a photo of a nut" : "a photo of a gear");
      assert.equal(few.pixels(i)[3 * 500 + 2], i % 2 ? 90 : 40);
      assert.deepEqual(few.pixels(i), more.pixels(i));
      assert.notDeepEqual(few.pixels(i), other.pixels(i));
    }
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
