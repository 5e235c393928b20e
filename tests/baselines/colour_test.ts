/** Colour changes against values worked out by hand, and Perlin noise against what defines it. */
import assert from "node:assert/strict";
import {
  augmentTexture,
  autocontrast,
  brightness,
  contrast,
  equalize,
  hue,
  saturation,
  turn,
} from "../../src/baselines/colour.ts";
import { perlinMask, perlinNoise } from "../../src/baselines/perlin.ts";
import { shuffleTiles } from "../../src/baselines/prn.ts";
import type { Image } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";

function picture(width: number, ...data: number[]): Image {
  return { width, height: data.length / 3 / width, channels: 3, data: Uint8ClampedArray.from(data) };
}

Deno.test("hue: a third of a turn takes red to green to blue; grey stays", () => {
  const red = picture(2, 200, 20, 20, 90, 90, 90);
  assert.deepEqual([...hue(red, 1 / 3).data], [20, 200, 20, 90, 90, 90]);
  assert.deepEqual([...hue(red, -1 / 3).data], [20, 20, 200, 90, 90, 90]);
  assert.deepEqual([...hue(red, 1 / 6).data].slice(0, 3), [200, 200, 20]);
  assert.deepEqual([...hue(red, 0).data], [...red.data]);
});

Deno.test("brightness clips; contrast 0 gives the mean luma; saturation 0 each pixel's own", () => {
  const two = picture(2, 100, 0, 0, 0, 0, 200);
  assert.deepEqual([...brightness(two, 2, 10).data], [210, 10, 10, 10, 10, 255]);
  const mean = Math.round((29.9 + 22.8) / 2);
  assert.deepEqual([...contrast(two, 0).data], Array(6).fill(mean));
  assert.deepEqual([...saturation(two, 0).data], [30, 30, 30, 23, 23, 23]);
});

Deno.test("autocontrast and equalize reach from 0 to 255 in each channel; a flat channel stays in range", () => {
  const ramp = picture(4, 50, 7, 10, 60, 7, 20, 70, 7, 30, 150, 7, 250);
  const stretched = autocontrast(ramp).data, flat = equalize(ramp).data;
  assert.deepEqual([stretched[0], stretched[9], stretched[1]], [0, 255, 7]);
  assert.deepEqual([flat[0], flat[3], flat[6], flat[9]], [0, 85, 170, 255]);
});

Deno.test("turn: half a turn reverses the pixels", () => {
  const row = picture(3, 1, 1, 1, 2, 2, 2, 3, 3, 3);
  assert.deepEqual([...turn(row, Math.PI).data], [3, 3, 3, 2, 2, 2, 1, 1, 1]);
});

Deno.test("a texture is brought to the size asked for and changed", () => {
  const texture = picture(2, 10, 200, 30, 40, 50, 160, 70, 80, 90, 200, 110, 120);
  const made = Array.from({ length: 10 }, (_, i) => augmentTexture(texture, new Random(1, "texture", i), 9, 7));
  for (const { width, height, data } of made) assert.deepEqual([width, height, data.length], [9, 7, 189]);
  assert.ok(new Set(made.map(({ data }) => data.join())).size > 5);
});

Deno.test("Perlin noise is 0 on its lattice, within ±1, and of the wavelength asked for", () => {
  const side = 64, noise = perlinNoise(new Random(2, "noise"), side, side, 8, 8);
  for (let y = 0; y < side; y += 8) {
    for (let x = 0; x < side; x += 8) assert.ok(Math.abs(noise[y * side + x]) < 1e-6);
  }
  assert.ok(noise.some((v) => v > 0.4) && noise.some((v) => v < -0.4));
  assert.ok(noise.every((v) => Math.abs(v) <= 1.0001));
  const roughness = (cells: number) => {
    const field = perlinNoise(new Random(2, "noise"), side, side, cells, cells);
    return field.reduce((sum, v, i) => sum + (i % side ? Math.abs(v - field[i - 1]) : 0), 0);
  };
  assert.ok(roughness(16) > 2 * roughness(2));
});

Deno.test("Perlin masks mark something, and nothing off the part", () => {
  const part = { width: 32, height: 24, channels: 1 as const, data: new Uint8Array(768).fill(1, 0, 200) };
  for (let i = 0; i < 20; i++) {
    const { data } = perlinMask(new Random(3, "mask", i), 32, 24, part);
    assert.ok(data.includes(1));
    assert.ok(!data.subarray(200).includes(1));
  }
  const none = { ...part, data: new Uint8Array(768) };
  assert.throws(() => perlinMask(new Random(3, "mask"), 32, 24, none), /no Perlin mask/);
});

Deno.test("shuffled tiles keep every pixel, at another place", () => {
  const image: Image = {
    width: 9, // one column more than four tiles fill
    height: 16,
    channels: 3,
    data: Uint8ClampedArray.from({ length: 9 * 16 * 3 }, (_, k) => Math.floor(k / 3)),
  };
  const { data } = shuffleTiles(image, new Random(4, "tiles"));
  assert.deepEqual([...data].sort((a, b) => a - b), [...image.data].sort((a, b) => a - b));
  assert.notDeepEqual(data, image.data);
  for (let y = 0; y < 16; y++) assert.equal(data[3 * (9 * y + 8)], 9 * y + 8);
});
