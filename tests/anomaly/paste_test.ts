/** Pasting a defect back: exact bytes outside, windows inside the image, figures of change. */
import assert from "node:assert/strict";
import { pairFigures } from "../../src/anomaly/figures.ts";
import { composite, featherMask } from "../../src/anomaly/paste.ts";
import { crop, maskWindow, putBack, wholeWindow } from "../../src/anomaly/windows.ts";
import type { Image, Mask } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";

function noise(width: number, height: number, seed: number): Image {
  const random = new Random(seed, "test");
  const data = Uint8ClampedArray.from({ length: 3 * width * height }, () => random.integer(0, 256));
  return { width, height, channels: 3, data };
}

function rectangle(width: number, height: number, [x, y, w, h]: readonly number[]): Mask {
  const data = Uint8Array.from({ length: width * height }, (_, i) => {
    const px = i % width, py = Math.floor(i / width);
    return px >= x && px < x + w && py >= y && py < y + h ? 1 : 0;
  });
  return { width, height, channels: 1, data };
}

Deno.test("featherMask() is 1 on the mask, falls outwards and is 0 beyond the feather", () => {
  const mask = rectangle(20, 12, [8, 4, 4, 4]), opacity = featherMask(mask, 2);
  const at = (x: number, y: number) => opacity[y * 20 + x];
  assert.equal(at(9, 5), 1);
  assert.ok(at(12, 5) < 1 && at(12, 5) > at(13, 5) && at(13, 5) > 0);
  assert.equal(at(14, 5), 0);
  assert.equal(at(0, 0), 0);
  assert.ok(featherMask(rectangle(4, 4, [0, 0, 0, 0]), 3).every((v) => v === 0));
});

Deno.test("composite() leaves every byte of the source where the opacity is 0", () => {
  const source = noise(20, 12, 1), generated = noise(20, 12, 2), mask = rectangle(20, 12, [8, 4, 4, 4]);
  const opacity = featherMask(mask, 2), result = composite(source, generated, noise(20, 12, 3), opacity);
  opacity.forEach((alpha, i) => {
    for (let c = 0; c < 3; c++) {
      if (alpha === 0) assert.equal(result.data[3 * i + c], source.data[3 * i + c]);
    }
  });
  const figures = pairFigures(source, result, mask, opacity);
  assert.equal(figures.changeOutside, 0);
  assert.ok(figures.changeInside > 0.1 && figures.changedShare > 0.8);
});

Deno.test("composite() without a defect gives the source back, whatever the autoencoder lost", () => {
  const source = noise(16, 16, 4), blurred = noise(16, 16, 5);
  const opacity = new Float32Array(256).fill(1);
  assert.deepEqual(composite(source, blurred, blurred, opacity).data, source.data);
  assert.deepEqual(composite(source, blurred, undefined, opacity).data, blurred.data);
});

Deno.test("maskWindow() is square, holds the mask with room, and stays inside", () => {
  for (const box of [[0, 0, 3, 3], [197, 96, 3, 4], [90, 40, 30, 10], [100, 50, 1, 1]]) {
    const window = maskWindow(rectangle(200, 100, box), 64);
    assert.equal(window.width, window.height);
    assert.ok(window.x >= 0 && window.y >= 0 && window.x + window.width <= 200 && window.y + window.height <= 100);
    assert.ok(window.x <= box[0] && window.y <= box[1]);
    assert.ok(window.x + window.width >= box[0] + box[2] && window.y + window.height >= box[1] + box[3]);
  }
  assert.deepEqual(maskWindow(rectangle(50, 40, [0, 0, 0, 0]), 16), wholeWindow({ width: 50, height: 40 }));
});

Deno.test("crop() and putBack() are inverse", () => {
  const image = noise(30, 20, 6), window = { x: 7, y: 3, width: 11, height: 9 };
  assert.deepEqual(putBack(image, crop(image, window), window).data, image.data);
  const other = noise(11, 9, 7), changed = putBack(image, other, window);
  assert.deepEqual(crop(changed, window).data, other.data);
  assert.equal(changed.data[0], image.data[0]);
});
