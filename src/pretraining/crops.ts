/**
 * Crops that the autoencoder is trained on: squares of pictures, mirrored and transposed at random, some of them around damage;
 * and what their pixels count in its loss. As in `fixtures/small-ldm/train.py`.
 */

import type { Random } from "../random/philox.ts";
import type { DamagedSquares } from "./images.ts";

/** A square of a picture, and how it is turned. */
export interface Crop {
  /** First row and column in the picture, in pixels. */
  readonly top: number;
  readonly left: number;
  /** Side in pixels. */
  readonly size: number;
  /** Columns in reverse. */
  readonly mirror: boolean;
  /** Rows in reverse. */
  readonly flip: boolean;
  /** Rows and columns exchanged, after both. */
  readonly turn: boolean;
}

/** Which crops are taken around damage. */
export interface Sought {
  /** Share of the crops, 0 to 1; it shrinks with pictures that have none. */
  readonly share: number;
  /** Damaged cells of the picture's latent, row by row. */
  readonly cells: readonly number[];
  /** Side of a cell in pixels. */
  readonly cell: number;
}

/**
 * A crop anywhere in a picture, or, by chance, around one of its damaged cells. The cell then lies in the crop, and no farther
 * from its middle than a quarter of its side where the picture's edge allows it.
 * @param side of the picture in pixels
 * @param size of the crop in pixels, a multiple of 4, `side` at most
 * @param sought without it no random number more is drawn than a crop anywhere needs
 */
export function drawCrop(random: Random, side: number, size: number, sought?: Sought): Crop {
  let top = random.integer(0, side - size + 1), left = random.integer(0, side - size + 1);
  if (sought && random.chance(sought.share) && sought.cells.length) {
    const { cell, cells } = sought, columns = side / cell, at = random.pick(cells);
    const around = (line: number) => {
      const middle = cell * line + random.integer(-size / 4, size / 4 + cell);
      return Math.max(0, Math.min(side - size, middle - size / 2));
    };
    top = around(Math.floor(at / columns));
    left = around(at % columns);
  }
  return { top, left, size, mirror: random.chance(0.5), flip: random.chance(0.5), turn: random.chance(0.5) };
}

/** Visits the crop's pixels, row by row: their number, and row and column of the picture that they show. */
function eachPixel(
  { top, left, size, mirror, flip, turn }: Crop,
  visit: (i: number, y: number, x: number) => void,
): void {
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const [a, b] = turn ? [column, row] : [row, column];
      visit(row * size + column, top + (flip ? size - 1 - a : a), left + (mirror ? size - 1 - b : b));
    }
  }
}

/**
 * Pixels of a crop in [−1, 1].
 * @param pixels RGB bytes of the picture [side, side, 3]
 * @param out [size, size, 3]
 */
export function cropPixels(pixels: Uint8Array, side: number, crop: Crop, out: Float32Array): void {
  eachPixel(crop, (i, y, x) => {
    for (let c = 0; c < 3; c++) out[3 * i + c] = pixels[3 * (y * side + x) + c] / 127.5 - 1;
  });
}

/**
 * What a crop's pixels count: 1, with damage in their square of 2 × 2 pixels 1 + `weight`.
 * @param side of the picture in pixels, even
 * @param out [size, size, 1]
 */
export function cropWeights(
  squares: DamagedSquares,
  side: number,
  crop: Crop,
  weight: number,
  out: Float32Array,
): void {
  const half = side / 2, damaged = new Uint8Array(half * half);
  for (const square of squares) damaged[square] = 1;
  eachPixel(crop, (i, y, x) => out[i] = 1 + weight * damaged[(y >> 1) * half + (x >> 1)]);
}
