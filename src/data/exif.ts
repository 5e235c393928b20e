/**
 * The orientation that a camera noted in a JPEG (CIPA DC-008, "Exif", tag 0x0112): pixels are stored as the sensor read
 * them, and viewers turn them. Masks are painted on what a viewer shows, so images are read that way too.
 */

/** Orientation as TIFF numbers it: 1 upright, 3 upside down, 6 and 8 a quarter turn; even numbers below 6 are mirrored. */
export type Orientation = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;

/** Whether width and height change places. */
export function isTurned(orientation: Orientation): boolean {
  return orientation >= 5;
}

/** Orientation of a JPEG; 1 where none is noted, or what is noted cannot be read. */
export function jpegOrientation(bytes: Uint8Array): Orientation {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  try {
    for (let at = 2; view.getUint8(at) === 0xff;) {
      const marker = view.getUint8(at + 1), length = view.getUint16(at + 2);
      if (marker === 0xda) break; // start of scan
      if (marker === 0xe1 && view.getUint32(at + 4) === 0x45786966) return tiffOrientation(view, at + 10); // "Exif"
      at += 2 + length;
    }
  } catch {
    // Cut off: the decoder says so.
  }
  return 1;
}

/** Orientation in the first directory of a TIFF that begins at `start`. */
function tiffOrientation(view: DataView, start: number): Orientation {
  const little = view.getUint16(start) === 0x4949; // "II"
  const first = start + view.getUint32(start + 4, little), entries = view.getUint16(first, little);
  for (let i = 0; i < entries; i++) {
    const entry = first + 2 + 12 * i;
    if (view.getUint16(entry, little) !== 0x0112) continue;
    const value = view.getUint16(entry + 8, little);
    return (value >= 1 && value <= 8 ? value : 1) as Orientation;
  }
  return 1;
}

/**
 * The pixels as a viewer shows them.
 * @param data [height, width, channels]
 * @returns [height, width, channels], or [width, height, channels] where the image is turned
 */
export function upright(
  data: ArrayLike<number>,
  width: number,
  height: number,
  channels: number,
  orientation: Orientation,
): ArrayLike<number> {
  if (orientation === 1) return data;
  const turned = isTurned(orientation), [w, h] = turned ? [height, width] : [width, height];
  // Whether the stored rows and columns run backwards, once they have changed places.
  const fromRight = [2, 3, 7, 8].includes(orientation), fromBelow = [3, 4, 6, 7].includes(orientation);
  const result = new Uint8ClampedArray(data.length);
  for (let y = 0, to = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const [column, row] = turned ? [y, x] : [x, y];
      const from = (fromBelow ? height - 1 - row : row) * width + (fromRight ? width - 1 - column : column);
      for (let c = 0; c < channels; c++) result[to++] = data[from * channels + c];
    }
  }
  return result;
}
