/** Crops that the autoencoder is trained on: where they lie, and that weights are turned as pixels are. */
import assert from "node:assert/strict";
import { type Crop, cropPixels, cropWeights, drawCrop } from "../../src/pretraining/crops.ts";
import { Random } from "../../src/random/philox.ts";

const SIDE = 128, SIZE = 64, CELL = 8;
const draw = (i: number, cells?: number[], share = 1): Crop =>
  drawCrop(new Random(1, "crops", i), SIDE, SIZE, cells && { share, cells, cell: CELL });

Deno.test("a crop anywhere takes five numbers, one that is sought three more and whether it is sought", () => {
  for (const [cells, numbers] of [[undefined, 5], [[], 6], [[17], 9]] as const) {
    const random = new Random(1, "numbers"), other = new Random(1, "numbers");
    drawCrop(random, SIDE, SIZE, cells && { share: 1, cells, cell: CELL });
    for (let k = 0; k < numbers; k++) other.word();
    assert.equal(random.word(), other.word());
  }
});

Deno.test("crops around damage hold the cell, near their middle where the edge allows it; of whole pictures they lie anywhere", () => {
  for (const cell of [0, 15, 16 * 7 + 9, 16 * 15 + 3]) {
    const y = CELL * Math.floor(cell / 16), x = CELL * (cell % 16), tops = new Set<number>();
    for (let i = 0; i < 300; i++) {
      const { top, left, size } = draw(i, [cell]);
      assert.equal(size, SIZE);
      for (const [begin, at] of [[top, y], [left, x]]) {
        assert.ok(begin >= 0 && begin <= SIDE - SIZE && at >= begin && at + CELL <= begin + SIZE, `${begin} for ${at}`);
        const inside = at - begin, free = begin > 0 && begin < SIDE - SIZE;
        if (free) assert.ok(inside >= SIZE / 4 - CELL && inside <= 3 * SIZE / 4, `${at} lies at ${inside}`);
      }
      tops.add(top);
    }
    if (cell === 16 * 7 + 9) assert.equal(tops.size, SIZE / 2 + CELL); // every one of them
  }
  const corner = (crop: Crop) => [crop.top, crop.left];
  for (let i = 0; i < 20; i++) assert.deepEqual(corner(draw(i, [])), corner(draw(i)));
  const moved = Array.from({ length: 400 }, (_, i) => i)
    .filter((i) => corner(draw(i, [130], 0.3)).join() !== corner(draw(i)).join());
  assert.ok(Math.abs(moved.length - 120) < 35, `${moved.length} of 400 around damage`);
});

Deno.test("weights are turned as pixels are, in all eight ways", () => {
  // Bright where damaged.
  const random = new Random(2, "picture"), half = SIDE / 2, bright = new Uint8Array(3 * SIDE * SIDE);
  const squares = Uint16Array.from(Array.from({ length: half * half }, (_, i) => i).filter(() => random.chance(0.2)));
  for (const square of squares) {
    for (const [dy, dx] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const at = (2 * Math.floor(square / half) + dy) * SIDE + 2 * (square % half) + dx;
      bright.fill(255, 3 * at, 3 * at + 3);
    }
  }
  const ways = new Set<string>(), pixels = new Float32Array(3 * SIZE * SIZE), weights = new Float32Array(SIZE * SIZE);
  for (let i = 0; i < 40; i++) {
    const crop = draw(i);
    cropPixels(bright, SIDE, crop, pixels);
    cropWeights(squares, SIDE, crop, 5, weights);
    weights.forEach((weight, k) => assert.equal(weight, pixels[3 * k] > 0 ? 6 : 1));
    ways.add([crop.mirror, crop.flip, crop.turn].join());
  }
  assert.equal(ways.size, 8);
  // What turning means, on numbered pixels.
  const numbered = Uint8Array.from({ length: 3 * 16 }, (_, i) => Math.floor(i / 3)), out = new Float32Array(12);
  const turned = (crop: Partial<Crop>) => {
    cropPixels(numbered, 4, { top: 1, left: 2, size: 2, mirror: false, flip: false, turn: false, ...crop }, out);
    return [0, 3, 6, 9].map((i) => Math.round((out[i] + 1) * 127.5));
  };
  assert.deepEqual(turned({}), [6, 7, 10, 11]);
  assert.deepEqual(turned({ mirror: true }), [7, 6, 11, 10]);
  assert.deepEqual(turned({ flip: true }), [10, 11, 6, 7]);
  assert.deepEqual(turned({ turn: true }), [6, 10, 7, 11]);
  assert.deepEqual(turned({ mirror: true, turn: true }), [7, 11, 6, 10]);
});
