/** Pictures made for looking at: where two images differ, and where a mask's edge runs over an image. */
import { Image as Encoder } from "imagescript";
import { type Image, type Mask, toPng } from "../data/image.ts";
import { resize } from "../data/resize.ts";

/** Dark blue over magenta to pale yellow: even steps for the eye, also in grey and for most colour-blind readers. */
const HEAT = [[10, 10, 28], [70, 18, 105], [150, 40, 110], [222, 83, 70], [250, 160, 60], [252, 250, 190]];

/** Quality of photographs on a page: no difference to the eye at their size, a tenth of a PNG file. */
const JPEG_QUALITY = 88;

/** An image within `side` × `side` pixels; smaller ones stay as they are. */
export function shrink(image: Image, side: number): Image {
  const scale = side / Math.max(image.width, image.height);
  if (scale >= 1) return image;
  const fit = (size: number) => Math.max(1, Math.round(scale * size));
  return resize(image, fit(image.width), fit(image.height), "box");
}

/**
 * A photograph for a page: as it is where it fits into `side` × `side` pixels, else smaller and as JPEG.
 * @returns bytes of a PNG or JPEG file
 */
export async function photo(image: Image, side: number): Promise<Uint8Array> {
  const small = shrink(image, side);
  if (small === image) return toPng(image);
  const encoder = new Encoder(small.width, small.height);
  for (let i = 0, j = 0; i < encoder.bitmap.length; i += 4, j += 3) {
    for (let c = 0; c < 3; c++) encoder.bitmap[i + c] = small.data[j + c];
    encoder.bitmap[i + 3] = 255;
  }
  return await encoder.encodeJPEG(JPEG_QUALITY);
}

/** Colour of a heat map at `share` (0 … 1) of full brightness. */
function heat(share: number, into: Uint8ClampedArray, at: number): void {
  const place = Math.min(1, Math.max(0, share)) * (HEAT.length - 1), low = Math.min(HEAT.length - 2, Math.floor(place));
  for (let c = 0; c < 3; c++) into[at + c] = HEAT[low][c] + (place - low) * (HEAT[low + 1][c] - HEAT[low][c]);
}

/**
 * A grey score map in the colours of a heat map.
 * @param full the grey (0 … 255) that is drawn at full brightness
 */
export function heatPicture({ width, height, data: grey }: Image, full = 255): Image {
  const data = new Uint8ClampedArray(grey.length);
  for (let i = 0; i < grey.length; i += 3) heat(grey[i] / full, data, i);
  return { width, height, channels: 3, data };
}

/**
 * How much each pixel changed, as a heat map.
 * @param before [H, W, 3]
 * @param after the same size
 * @param full the change (largest channel, 0 … 255) that is drawn at full brightness
 * @throws Error if the sizes differ
 */
export function differencePicture(before: Image, after: Image, full = 96): Image {
  if (before.width !== after.width || before.height !== after.height) {
    throw new Error(`difference of ${before.width}×${before.height} and ${after.width}×${after.height}`);
  }
  const data = new Uint8ClampedArray(before.data.length);
  for (let i = 0; i < data.length; i += 3) {
    let change = 0;
    for (let c = 0; c < 3; c++) change = Math.max(change, Math.abs(before.data[i + c] - after.data[i + c]));
    heat(change / full, data, i);
  }
  return { width: before.width, height: before.height, channels: 3, data };
}

/**
 * The image with the mask's outer edge drawn on it; pixels inside the mask stay as they are.
 * @param image [H, W, 3]
 * @param mask the same size, 0 or 1
 * @param colour RGB of the line
 */
export function outlinePicture(
  image: Image,
  mask: Mask,
  colour: readonly [number, number, number] = [255, 64, 64],
): Image {
  const { width, height } = image, data = new Uint8ClampedArray(image.data);
  if (mask.width !== width || mask.height !== height) {
    throw new Error(`mask of ${mask.width}×${mask.height} on an image of ${width}×${height}`);
  }
  const inside = (x: number, y: number) => x >= 0 && y >= 0 && x < width && y < height && mask.data[y * width + x] > 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (inside(x, y) || !(inside(x - 1, y) || inside(x + 1, y) || inside(x, y - 1) || inside(x, y + 1))) continue;
      data.set(colour, 3 * (y * width + x));
    }
  }
  return { width, height, channels: 3, data };
}

/** Mean absolute change (0 … 1) over the pixels inside the mask and over those outside. */
export function meanChange(before: Image, after: Image, mask: Mask): { inside: number; outside: number } {
  const sum = [0, 0], count = [0, 0];
  for (let i = 0; i < mask.data.length; i++) {
    const side = mask.data[i] > 0 ? 0 : 1;
    for (let c = 0; c < 3; c++) sum[side] += Math.abs(before.data[3 * i + c] - after.data[3 * i + c]) / 255 / 3;
    count[side]++;
  }
  return { inside: count[0] ? sum[0] / count[0] : 0, outside: count[1] ? sum[1] / count[1] : 0 };
}
