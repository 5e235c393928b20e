import assert from "node:assert/strict";
import { maskWindow, type Place, placesOf, wholeWindow } from "../../src/anomaly/windows.ts";
import type { Mask } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";

/** A mask with rectangles [x, y, width, height]. */
function marked(width: number, height: number, ...boxes: readonly (readonly number[])[]): Mask {
  const data = new Uint8Array(width * height);
  for (const [x, y, w, h] of boxes) {
    for (let row = y; row < y + h; row++) data.fill(1, row * width + x, row * width + x + w);
  }
  return { width, height, channels: 1, data };
}

const zoomed = { window: "mask", zoom: 2 } as const;

/** Every pixel of the mask is in exactly one place and inside its window, which lies in the image. */
function check(mask: Mask, places: readonly Place[]): void {
  const times = new Uint8Array(mask.data.length);
  for (const { window: { x, y, width, height }, mask: own } of places) {
    assert.ok(x >= 0 && y >= 0 && x + width <= mask.width && y + height <= mask.height);
    own.data.forEach((v, i) => {
      if (!v) return;
      times[i]++;
      const column = i % mask.width, row = Math.floor(i / mask.width);
      assert.ok(column >= x && column < x + width && row >= y && row < y + height, "a pixel outside its window");
    });
  }
  assert.deepEqual(times, mask.data.map((v) => (v ? 1 : 0)));
}

Deno.test("placesOf() gives places that are far apart a window each, and joins near ones", () => {
  const far = marked(128, 128, [4, 4, 10, 10], [110, 100, 8, 12]),
    near = marked(128, 128, [4, 4, 10, 10], [22, 9, 8, 12]);
  const apart = placesOf(far, 128, zoomed), together = placesOf(near, 128, zoomed);
  check(far, apart);
  check(near, together);
  assert.deepEqual(apart.map(({ window }) => window.width), [64, 64]);
  assert.deepEqual(together.map(({ window }) => window.width), [64]);
});

Deno.test("placesOf() enlarges no more than the zoom, and shows a quarter of a large place's extent around it", () => {
  const small = marked(400, 300, [200, 150, 3, 3]), large = marked(400, 300, [100, 80, 120, 30]);
  for (const [zoom, side] of [[1, 128], [2, 64], [4, 32]]) {
    assert.equal(placesOf(small, 128, { window: "mask", zoom })[0].window.width, side);
    assert.equal(placesOf(large, 128, { window: "mask", zoom })[0].window.width, 180);
  }
});

Deno.test("placesOf() shows the whole image for `whole`, for an empty mask, and for a place that no square holds", () => {
  const mask = marked(200, 60, [0, 10, 190, 20]), whole = wholeWindow(mask);
  assert.deepEqual(placesOf(mask, 128, zoomed), [{ window: whole, mask }]);
  assert.deepEqual(placesOf(mask, 128, { window: "whole", zoom: 2 }), [{ window: whole, mask }]);
  const empty = marked(50, 40);
  assert.deepEqual(placesOf(empty, 128, zoomed), [{ window: wholeWindow(empty), mask: empty }]);
});

Deno.test("placesOf() keeps every pixel and few windows, however a mask is scattered", () => {
  for (let seed = 0; seed < 30; seed++) {
    const random = new Random(seed, "specks"), count = random.integer(1, 60);
    const boxes = Array.from({ length: count }, () => [
      random.integer(0, 250),
      random.integer(0, 190),
      random.integer(1, 6),
      random.integer(1, 9),
    ]);
    const mask = marked(256, 200, ...boxes), places = placesOf(mask, 128, { window: "mask", zoom: 4 });
    check(mask, places);
    assert.ok(places.length <= 6, `${places.length} windows`);
  }
});

Deno.test("maskWindow() is one window for all of a mask", () => {
  const { x, y, width } = maskWindow(marked(128, 128, [4, 4, 10, 10], [50, 40, 8, 12]), 32);
  assert.ok(x <= 4 && y <= 4 && x + width >= 58 && y + width >= 52);
});
