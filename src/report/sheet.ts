/** Contact sheets: rows of pictures as one image. */

import type { Image, Mask } from "../data/image.ts";

const GAP = 4;
const BACKGROUND = 24;

/** A mask as a picture, white on black. */
export function maskImage({ width, height, data }: Mask): Image {
  return {
    width,
    height,
    channels: 3,
    data: Uint8ClampedArray.from({ length: 3 * data.length }, (_, i) => 255 * data[Math.floor(i / 3)]),
  };
}

/** Rows of pictures, each at its own size, on a dark ground. */
export function contactSheet(rows: readonly (readonly Image[])[]): Image {
  const heights = rows.map((row) => Math.max(...row.map((image) => image.height)));
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => row[c]?.width ?? 0)));
  const sum = (sizes: number[]) => sizes.reduce((a, b) => a + b + GAP, GAP);
  const width = sum(widths), height = sum(heights);
  const data = new Uint8ClampedArray(3 * width * height).fill(BACKGROUND);
  rows.forEach((row, r) =>
    row.forEach((image, c) => {
      const left = sum(widths.slice(0, c)), top = sum(heights.slice(0, r));
      for (let y = 0; y < image.height; y++) {
        const from = image.data.subarray(3 * y * image.width, 3 * (y + 1) * image.width);
        data.set(from, 3 * ((top + y) * width + left));
      }
    })
  );
  return { width, height, channels: 3, data };
}
