/**
 * A PNG writer (ISO/IEC 15948) for greyscale, RGB and RGBA of 8 bits. The same pixels give the same bytes: no time stamp,
 * and each colour row's filter is chosen by the least sum of absolute differences (the standard's recommended heuristic).
 */

import { crc32, deflateSync } from "node:zlib";

const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const colourTypes = { 1: 0, 3: 2, 4: 6 } as const;

/** Pixels, row by row from the top left, `channels` values each. */
export interface Pixels {
  width: number;
  height: number;
  channels: 1 | 3 | 4;
  data: ArrayLike<number>;
}

/** Length, type, content, checksum. */
function chunk(type: string, content: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + content.length), view = new DataView(out.buffer);
  view.setUint32(0, content.length);
  out.set(new TextEncoder().encode(type), 4);
  out.set(content, 8);
  view.setUint32(8 + content.length, crc32(out.subarray(4, 8 + content.length)));
  return out;
}

/** The predictor of Alan Paeth: whichever of left, up and upper left is nearest to left + up − upper left. */
function paeth(a: number, b: number, c: number): number {
  const p = a + b - c, pa = Math.abs(p - a), pb = Math.abs(p - b), pc = Math.abs(p - c);
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/** One row under each of the five filters; returns the best with its filter byte in front. */
function filterRow(row: Uint8Array, above: Uint8Array, step: number): Uint8Array {
  let best = new Uint8Array(0), least = Infinity;
  for (let filter = 0; filter < 5; filter++) {
    const out = new Uint8Array(row.length + 1);
    out[0] = filter;
    let sum = 0;
    for (let i = 0; i < row.length; i++) {
      const a = i < step ? 0 : row[i - step], b = above[i], c = i < step ? 0 : above[i - step];
      const guess = filter === 0
        ? 0
        : filter === 1
        ? a
        : filter === 2
        ? b
        : filter === 3
        ? (a + b) >> 1
        : paeth(a, b, c);
      const value = out[i + 1] = row[i] - guess;
      const byte = value & 255;
      sum += byte < 128 ? byte : 256 - byte;
    }
    if (sum < least) [best, least] = [out, sum];
  }
  return best;
}

/**
 * Encodes pixels as PNG.
 * @example
 * ```ts
 * import { encodePng } from "./png.ts";
 * const png = encodePng({ width: 1, height: 1, channels: 1, data: [255] });
 * if (png[1] !== 0x50) throw new Error("not a PNG");
 * ```
 */
export function encodePng({ width, height, channels, data }: Pixels): Uint8Array<ArrayBuffer> {
  const stride = width * channels;
  if (data.length !== stride * height || data.length === 0) {
    throw new RangeError(`${width}×${height}×${channels} pixels need ${stride * height} values, found ${data.length}`);
  }
  const bytes = new Uint8Array(data), filtered = new Uint8Array((stride + 1) * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y++) {
    const row = bytes.subarray(y * stride, (y + 1) * stride);
    // Greyscale is written for masks only, whose flat areas compress best as they are (filter byte 0).
    if (channels === 1) filtered.set(row, y * (stride + 1) + 1);
    else filtered.set(filterRow(row, above, channels), y * (stride + 1));
    above = row;
  }
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, colourTypes[channels], 0, 0, 0], 8);
  const parts = [
    signature,
    chunk("IHDR", header),
    chunk("IDAT", new Uint8Array(deflateSync(filtered))),
    chunk("IEND", new Uint8Array(0)),
  ];
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}
