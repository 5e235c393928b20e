/**
 * A reader for uncompressed Windows bitmaps (BITMAPINFOHEADER and later): 1, 4 and 8 bits with a palette, 24 and 32 bits.
 * That is what frame grabbers write; run-length coded files are refused.
 */

/** RGBA pixels from the top left. */
export interface Bitmap {
  width: number;
  height: number;
  data: Uint8Array;
}

/** Whether the bytes begin like a bitmap. */
export function isBmp(bytes: Uint8Array): boolean {
  return bytes.length > 2 && bytes[0] === 0x42 && bytes[1] === 0x4d;
}

/** Width and height from the header; a negative stored height means rows from the top. */
export function bmpSize(bytes: Uint8Array): { width: number; height: number; topDown: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const height = view.getInt32(22, true);
  return { width: view.getInt32(18, true), height: Math.abs(height), topDown: height < 0 };
}

/** Decodes a bitmap. Throws an Error with the reason where it cannot. */
export function decodeBmp(bytes: Uint8Array): Bitmap {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 54) throw new Error("the file is truncated");
  const { width, height, topDown } = bmpSize(bytes);
  const start = view.getUint32(10, true), headerSize = view.getUint32(14, true);
  const bits = view.getUint16(28, true), compression = view.getUint32(30, true);
  if (![1, 4, 8, 24, 32].includes(bits) || !(compression === 0 || (compression === 3 && bits === 32))) {
    throw new Error(`bitmaps of ${bits} bits with compression ${compression} are not read`);
  }
  const stride = Math.ceil(width * bits / 32) * 4;
  if (width < 1 || height < 1 || start + stride * height > bytes.length) throw new Error("the file is truncated");
  // Channel order of 32-bit pixels: blue first, unless the header's masks say red first. Alpha only where a mask names it.
  const redFirst = compression === 3 && view.getUint32(54, true) === 0xff;
  const hasAlpha = compression === 3 && headerSize >= 56 && view.getUint32(66, true) === 0xff000000;
  const data = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    const row = start + (topDown ? y : height - 1 - y) * stride;
    for (let x = 0; x < width; x++) {
      let at: number;
      if (bits >= 24) at = row + x * (bits >> 3);
      else {
        const bit = x * bits, index = bytes[row + (bit >> 3)] >> (8 - bits - (bit & 7)) & ((1 << bits) - 1);
        at = 14 + headerSize + index * 4;
      }
      const to = (y * width + x) * 4;
      data[to] = bytes[at + (redFirst ? 0 : 2)];
      data[to + 1] = bytes[at + 1];
      data[to + 2] = bytes[at + (redFirst ? 2 : 0)];
      data[to + 3] = hasAlpha ? bytes[at + 3] : 255;
    }
  }
  return { width, height, data };
}
