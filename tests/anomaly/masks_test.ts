/** Judging and placing masks. */
import assert from "node:assert/strict";
import {
  limitsOf,
  maskOfPicture,
  measureMask,
  partRegion,
  placeMask,
  refusal,
  shareInside,
} from "../../src/anomaly/masks.ts";
import type { Image, Mask } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";

function mask(rows: readonly string[]): Mask {
  const data = Uint8Array.from(rows.join(""), (c) => (c === "#" ? 1 : 0));
  return { width: rows[0].length, height: rows.length, channels: 1, data };
}

function disc(side: number, x: number, y: number, radius: number): Mask {
  const data = Uint8Array.from(
    { length: side * side },
    (_, i) => Math.hypot(i % side - x, Math.floor(i / side) - y) <= radius ? 1 : 0,
  );
  return { width: side, height: side, channels: 1, data };
}

Deno.test("measureMask() counts area, 8-connected pieces and the border", () => {
  const figures = measureMask(mask(["#...", ".#..", "....", "..##"]));
  assert.deepEqual(figures, { area: 4 / 16, components: 2, border: 0.5 });
  assert.deepEqual(measureMask(mask(["...", "...", "..."])), { area: 0, components: 0, border: 0 });
});

Deno.test("refusal() names the first reason", () => {
  const limits = limitsOf([disc(32, 16, 16, 4)]);
  assert.equal(refusal(disc(32, 16, 16, 4), limits), undefined);
  assert.equal(refusal(disc(32, 90, 90, 4), limits), "empty");
  assert.equal(refusal(disc(32, 16, 16, 1), limits), "too small");
  assert.equal(refusal(disc(32, 16, 16, 9), limits), "too large");
  const left = { ...disc(32, 0, 0, 0), data: disc(32, 0, 0, 0).data.map((_, i) => (i % 32 === 0 ? 1 : 0)) };
  assert.equal(refusal(left, limits), "along the border");
  const spots = disc(32, 16, 16, 3);
  for (const [x, y] of [[2, 2], [29, 2], [2, 29]]) spots.data[y * 32 + x] = 1;
  assert.equal(refusal(spots, limits), "too many pieces");
  assert.equal(refusal(disc(32, 24, 16, 4), limits, disc(32, 8, 16, 7)), "off the part");
});

Deno.test("partRegion() finds a part before a plain ground, and takes a texture whole", () => {
  const side = 32, region = disc(side, 16, 16, 10);
  const part = (seed: number): Image => {
    const random = new Random(seed, "test");
    const data = Uint8ClampedArray.from(
      { length: 3 * side * side },
      (_, i) => (region.data[Math.floor(i / 3)] ? 180 : 30) + random.uniform(-4, 4),
    );
    return { width: side, height: side, channels: 3, data };
  };
  const found = partRegion([part(1), part(2), part(3)]);
  assert.ok(shareInside(found, region) > 0.97 && shareInside(region, found) > 0.97);
  const texture = (seed: number): Image => {
    const random = new Random(seed, "test");
    const data = Uint8ClampedArray.from({ length: 3 * side * side }, () => random.uniform(0, 255));
    return { width: side, height: side, channels: 3, data };
  };
  assert.ok(partRegion([texture(1), texture(2)]).data.every((v) => v === 1));
});

Deno.test("placeMask() keeps the shape's size within its scales, and its centre on the part", () => {
  const real = disc(64, 20, 20, 6), part = disc(64, 40, 32, 14), area = measureMask(real).area;
  const seen = new Set<string>();
  for (let index = 0; index < 40; index++) {
    const placed = placeMask(real, new Random(3, "place", index), part);
    const share = measureMask(placed).area;
    assert.ok(share > 0.4 * area && share < 1.9 * area, `area ${share} of ${area}`);
    assert.ok(shareInside(placed, disc(64, 40, 32, 14 + 9)) > 0.99);
    seen.add(placed.data.join(""));
  }
  assert.ok(seen.size > 35, "masks repeat");
});

Deno.test("maskOfPicture() compares the channel mean with the threshold", () => {
  const picture = Float32Array.of(1, 1, 1, -1, -1, -1, 0.5, 0.5, 0.2, 0, 0, 0);
  assert.deepEqual([...maskOfPicture(picture, 2, 0).data], [1, 0, 1, 0]);
  assert.deepEqual([...maskOfPicture(picture, 2, 0.8).data], [1, 0, 0, 0]);
});
