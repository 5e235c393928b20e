/** PatchCore against plain definitions: neighbourhoods, coreset, distances and the image's weight, and a detector that works. */
import assert from "node:assert/strict";
import { greedyCoreset, MemoryBank, projected, type Vectors } from "../../../src/inspection/patchcore/bank.ts";
import { PatchCore } from "../../../src/inspection/patchcore/detector.ts";
import type { FeatureSample, FeatureSource } from "../../../src/inspection/patchcore/features.ts";
import { type FeatureMap, patchGrid, scoreMap } from "../../../src/inspection/patchcore/patches.ts";
import { Random } from "../../../src/random/philox.ts";

const random = new Random(11, "patchcore test");

function vectors(count: number, size: number): Vectors {
  return { count, size, data: Float32Array.from(random.normals(count * size)) };
}

const row = ({ size, data }: Vectors, i: number) => data.subarray(i * size, (i + 1) * size);

const distance = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.sqrt(Array.from(a).reduce((sum, v, k) => sum + (v - b[k]) ** 2, 0));

const close = (a: number, b: number, tolerance = 1e-6) =>
  assert.ok(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)), `${a}, not ${b}`);

Deno.test("the coreset takes the farthest vector each time", async () => {
  for (const [count, size] of [[1, 3], [40, 2], [60, 37], [33, 130]]) {
    const all = vectors(count, size), chosen = await greedyCoreset(all, 15, 3);
    assert.equal(chosen.length, Math.min(15, count));
    for (let n = 1; n < chosen.length; n++) {
      const known = chosen.slice(0, n);
      const far = (i: number) => Math.min(...known.map((j) => distance(row(all, i), row(all, j))));
      const most = Math.max(...Array.from({ length: count }, (_, i) => far(i)));
      close(far(chosen[n]), most);
    }
  }
});

Deno.test("the coreset stops where all others repeat what it has, and where its listener throws", async () => {
  const twice = { count: 6, size: 2, data: Float32Array.of(0, 0, 5, 5, 0, 0, 5, 5, 0, 0, 5, 5) };
  const chosen = await greedyCoreset(twice, 6, 1);
  assert.deepEqual(chosen.map((i) => row(twice, i)[0]).sort(), [0, 5]);
  const stop = new AbortController(), seen: number[] = [];
  const listen = async (chosen: number) => {
    seen.push(chosen);
    if (chosen === 2) setTimeout(() => stop.abort(new Error("stopped")));
    await new Promise((resolve) => setTimeout(resolve, 1));
    stop.signal.throwIfAborted();
  };
  await assert.rejects(greedyCoreset(vectors(40, 2), 15, 3, listen), /stopped/);
  assert.deepEqual(seen, [1, 2]);
});

Deno.test("the random projection keeps distances roughly, and leaves short vectors as they are", () => {
  const all = vectors(12, 500), small = projected(all, 4);
  assert.equal(small.size, 128);
  for (let i = 1; i < 12; i++) {
    const ratio = distance(row(small, 0), row(small, i)) / distance(row(all, 0), row(all, i));
    assert.ok(ratio > 0.75 && ratio < 1.25, `${ratio}`);
  }
  assert.equal(projected(small, 4), small);
});

Deno.test("distances are those of the nearest; the score is the largest, weighted by Eq. 7", () => {
  for (const [known, size] of [[1, 5], [7, 40], [50, 64]]) {
    const bank = vectors(known, size), patches = vectors(23, size);
    const { distances, score } = new MemoryBank(bank).compare(patches);
    const to = (i: number) => Array.from({ length: known }, (_, j) => distance(row(patches, i), row(bank, j)));
    distances.forEach((d, i) => close(d, Math.min(...to(i))));
    const worst = distances.indexOf(Math.max(...distances)), own = to(worst), nearest = own.indexOf(Math.min(...own));
    const near = Array.from({ length: known }, (_, j) => j)
      .sort((a, b) => distance(row(bank, nearest), row(bank, a)) - distance(row(bank, nearest), row(bank, b))).slice(
        0,
        9,
      );
    const exponents = near.reduce((sum, j) => sum + Math.exp(own[j]), 0);
    const expected = near.length < 2 ? own[nearest] : (1 - Math.exp(own[nearest]) / exponents) * own[nearest];
    close(score, expected, 1e-5);
  }
});

Deno.test("a bank tells how far its patches are from each other", () => {
  const line = { count: 5, size: 1, data: Float32Array.of(0, 1, 3, 7, 15) };
  assert.equal(new MemoryBank(line).typicalDistance(), 2); // 1, 1, 2, 4, 8
});

Deno.test("features that are no numbers are refused, and so is a bank of nothing", () => {
  const bad = { count: 1, size: 2, data: Float32Array.of(1, NaN) }, bank = new MemoryBank(vectors(2, 2));
  assert.throws(() => new MemoryBank(bad), /a feature of a normal image is NaN/);
  assert.throws(() => bank.compare(bad), /a feature is NaN/);
  assert.throws(() => new MemoryBank({ count: 0, size: 2, data: new Float32Array(0) }), /no normal patches/);
});

Deno.test("neighbourhoods: the mean of 3 × 3 features, at the border of those inside", () => {
  const [height, width, channels] = [4, 5, 2], data = Float32Array.from(random.normals(height * width * channels));
  const { data: local } = patchGrid([{ height, width, channels, data }]);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        const around: number[] = [];
        for (let v = y - 1; v <= y + 1; v++) {
          for (let u = x - 1; u <= x + 1; u++) {
            if (v >= 0 && u >= 0 && v < height && u < width) around.push(data[(v * width + u) * channels + c]);
          }
        }
        close(local[(y * width + x) * channels + c], around.reduce((a, b) => a + b) / around.length);
      }
    }
  }
});

Deno.test("a score map: even scores stay, a point spreads without loss, the place is right", () => {
  const grid = { height: 8, width: 8, channels: 1, data: new Float32Array(64) };
  scoreMap(new Float32Array(64).fill(3), grid, 56).forEach((v) => close(v, 3, 1e-5));
  const point = new Float32Array(64);
  point[8 * 2 + 5] = 1;
  const map = scoreMap(point, grid, 56), at = map.indexOf(Math.max(...map));
  assert.deepEqual([Math.floor(at / 56 / 7), Math.floor(at % 56 / 7)], [2, 5]);
  close(map.reduce((a, b) => a + b), 49, 1e-4);
});

Deno.test("a detector marks what no normal image has", async () => {
  const side = 32, cells = 8;
  // Features: mean brightness of a cell, and how much it varies.
  const source: FeatureSource = {
    name: "brightness",
    async *extract(samples) {
      for (const [index, { pixels }] of samples.entries()) {
        await Promise.resolve();
        const data = new Float32Array(2 * cells ** 2), step = side / cells;
        for (let i = 0; i < side ** 2; i++) {
          const cell = Math.floor(Math.floor(i / side) / step) * cells + Math.floor(i % side / step);
          data[2 * cell] += pixels[3 * i] / step ** 2;
          data[2 * cell + 1] += Math.abs(pixels[3 * i] - 100) / step ** 2;
        }
        const layer: FeatureMap = { height: cells, width: cells, channels: 2, data };
        yield { index, layers: [layer] };
      }
    },
  };
  const image = (index: number, defect = false): FeatureSample => {
    const noise = new Random(2, "picture", index), pixels = new Uint8ClampedArray(3 * side ** 2);
    for (let i = 0; i < side ** 2; i++) {
      const inside = defect && Math.floor(i / side) >= 20 && i % side >= 20;
      pixels.fill((inside ? 160 : 100) + 10 * noise.normals(1)[0], 3 * i, 3 * i + 3);
    }
    return { path: `${index}`, pixels };
  };
  const seen: number[] = [];
  const detector = await PatchCore.train(source, Array.from({ length: 5 }, (_, i) => image(i)), {
    share: 0.25,
    most: 60,
    seed: 1,
    onImage: (done) => seen.push(done),
  });
  assert.deepEqual(seen, [1, 2, 3, 4, 5]);
  assert.deepEqual([detector.seen, detector.bank.patches.count], [320, 60]);
  const found = [];
  for await (const { map, score } of detector.detect([image(9), image(10, true)], side)) found.push({ map, score });
  assert.ok(found[1].score > 0.9 && found[0].score < 0.7, `${found.map(({ score }) => score)}`);
  const inside = found[1].map[28 * side + 28], outside = found[1].map[4 * side + 4];
  assert.ok(inside > 0.9 && outside < 0.6, `${inside} ${outside}`);
  await assert.rejects(
    PatchCore.train(source, [], { share: 1, most: 1, seed: 0 }),
    /normal images, and there are none/,
  );
});
