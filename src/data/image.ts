/**
 * Images in and out: PNG, JPEG and BMP files ↔ RGB bytes ↔ the network's numbers in [−1, 1]; masks ↔ zeros and ones.
 * Decoding of PNG and JPEG is imagescript's, and encoding of JPEG.
 */

import { Image as Decoder } from "imagescript";
import { UserError } from "../errors.ts";
import { replaceFile, writeAll } from "../weights/atomic.ts";
import { bmpSize, decodeBmp, isBmp } from "./bmp.ts";
import { isTurned, jpegOrientation, upright } from "./exif.ts";
import { encodePng } from "./png.ts";

/** An RGB image, rows from the top left, channels last. */
export interface Image {
  /** In pixels. */
  width: number;
  /** In pixels. */
  height: number;
  /** RGB. */
  channels: 3;
  /** 0 … 255, [height, width, 3]. */
  data: Uint8ClampedArray;
}

/** A binary mask, rows from the top left. */
export interface Mask {
  /** In pixels. */
  width: number;
  /** In pixels. */
  height: number;
  /** One value a pixel. */
  channels: 1;
  /** 0 or 1, [height, width]. */
  data: Uint8Array;
}

/** File name endings that are read, lower case. */
export const imageExtensions: readonly string[] = [".png", ".jpg", ".jpeg", ".bmp"];

/** Whether a file name ends like an image's. */
export function isImageName(name: string): boolean {
  return imageExtensions.some((extension) => name.toLowerCase().endsWith(extension));
}

/** Endings of pictures that are not read. */
const UNREAD = /\.(tiff?|webp|gif|heic|heif|avif|jxl|jp2)$/i;

/**
 * What to say about the pictures of a folder that are not read; nothing where there are none.
 * @param names of all files, with folders or without
 */
export function unreadPictures(folder: string, names: readonly string[]): string | undefined {
  const counts = new Map<string, number>();
  for (const name of names) {
    const ending = UNREAD.exec(name)?.[0].toLowerCase();
    if (ending) counts.set(ending, (counts.get(ending) ?? 0) + 1);
  }
  if (counts.size === 0) return undefined;
  const kinds = [...counts].map(([ending, count]) => `${count} ${ending}`).sort().join(", ");
  return `warning: ${folder}: files are passed over that cannot be read: ${kinds}; convert them to PNG`;
}

/** The bytes of a file that must exist and not be empty. */
function readBytes(path: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: no such file`);
    throw error;
  }
  if (bytes.length === 0) throw new UserError(`${path}: the file is empty`);
  return bytes;
}

type Kind = "png" | "jpeg" | "bmp" | undefined;

/** What the first bytes say, whatever the file is called. */
function kindOf(bytes: Uint8Array): Kind {
  if (bytes[0] === 0x89 && bytes[1] === 0x50 && bytes[2] === 0x4e && bytes[3] === 0x47) return "png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return "jpeg";
  return isBmp(bytes) ? "bmp" : undefined;
}

const notAnImage = (label: string) => new UserError(`${label}: not a PNG, JPEG or BMP image`);
const broken = (label: string) =>
  new UserError(`${label}: the image is broken`, "open it in a viewer, or copy it again");

/**
 * Width and height from the header, without decoding; those of a photograph that was turned are the viewer's.
 * @throws {UserError} naming the file if it is no image or has no pixels
 */
export function sizeOfImage(bytes: Uint8Array, label: string): { width: number; height: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), kind = kindOf(bytes);
  let size: { width: number; height: number } | undefined;
  try {
    if (kind === "png") size = { width: view.getUint32(16), height: view.getUint32(20) };
    if (kind === "bmp") size = bmpSize(bytes);
    // JPEG: walk the segments to the start of frame (SOF0 … SOF15 without DHT, JPG and DAC).
    for (let at = 2; kind === "jpeg" && !size;) {
      const marker = view.getUint8(at + 1);
      if (marker === 0xff) at += 1;
      else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
        const [height, width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
        size = isTurned(jpegOrientation(bytes)) ? { width: height, height: width } : { width, height };
      } else at += 2 + view.getUint16(at + 2);
    }
  } catch {
    throw broken(label);
  }
  if (!size) throw notAnImage(label);
  if (size.width < 1 || size.height < 1) throw new UserError(`${label}: the image has no pixels`);
  return { width: size.width, height: size.height };
}

/** Width and height of an image file; only its first bytes are read where they suffice. */
export function readImageSize(path: string): { width: number; height: number } {
  try {
    using file = Deno.openSync(path);
    const head = new Uint8Array(65536), count = file.readSync(head) ?? 0;
    return sizeOfImage(head.subarray(0, count), path);
  } catch {
    return sizeOfImage(readBytes(path), path);
  }
}

/** RGBA of an encoded image. */
async function decodeRgba(
  bytes: Uint8Array,
  label: string,
): Promise<{ width: number; height: number; data: ArrayLike<number> }> {
  const { width, height } = sizeOfImage(bytes, label);
  try {
    if (isBmp(bytes)) return decodeBmp(bytes);
    const image = await Decoder.decode(bytes), { bitmap } = image;
    if (bitmap.length !== width * height * 4) throw new Error("pixels are missing");
    const orientation = kindOf(bytes) === "jpeg" ? jpegOrientation(bytes) : 1;
    return { width, height, data: upright(bitmap, image.width, image.height, 4, orientation) };
  } catch (error) {
    if (isBmp(bytes)) throw new UserError(`${label}: ${(error as Error).message}`);
    throw broken(label);
  }
}

/**
 * Decodes an image to RGB: grey is repeated in all three channels, transparency is laid over black, a photograph is turned
 * as its camera noted.
 * @param label the file's name, for error messages
 * @throws {UserError} if the bytes are not an image, are broken, or have no pixels
 */
export async function decodeImage(bytes: Uint8Array, label: string): Promise<Image> {
  const { width, height, data } = await decodeRgba(bytes, label);
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let i = 0, j = 0; j < data.length; i += 3, j += 4) {
    const alpha = data[j + 3] / 255;
    for (let c = 0; c < 3; c++) rgb[i + c] = data[j + c] * alpha;
  }
  return { width, height, channels: 3, data: rgb };
}

/**
 * Decodes a mask: 1 where the grey value is at least 128. A file whose values all stay below 128 is read as a label map,
 * where every value above 0 is defect.
 */
export async function decodeMask(bytes: Uint8Array, label: string): Promise<Mask> {
  return binaryMask(await decodeImage(bytes, label));
}

/** A mask from an image that shows one; see `decodeMask`. */
export function binaryMask({ width, height, data }: Image): Mask {
  const grey = Float32Array.from({ length: width * height }, (_, i) => {
    const [r, g, b] = data.subarray(i * 3, i * 3 + 3);
    return 0.299 * r + 0.587 * g + 0.114 * b; // ITU-R BT.601, as other tools turn colour to grey
  });
  const threshold = grey.some((value) => value >= 127.5) ? 127.5 : 0.01;
  return { width, height, channels: 1, data: Uint8Array.from(grey, (value) => value >= threshold ? 1 : 0) };
}

/** Reads an image file; see `decodeImage`. */
export async function loadImage(path: string): Promise<Image> {
  return await decodeImage(readBytes(path), path);
}

/** Reads a mask file; see `decodeMask`. */
export async function loadMask(path: string): Promise<Mask> {
  return await decodeMask(readBytes(path), path);
}

/** The PNG bytes of an image, or of a mask in black and white. */
export function toPng(image: Image | Mask): Uint8Array<ArrayBuffer> {
  if (image.channels === 3) return encodePng(image);
  return encodePng({ ...image, data: image.data.map((value) => value ? 255 : 0) });
}

/** How an image is kept: without loss, or as the official code keeps it. */
export type ImageFormat = "png" | "jpeg";

/** Quality of JPEG files: Pillow's default, which the official code leaves. */
const JPEG_QUALITY = 75;

/** The bytes of an image, or of a mask in black and white; the same image gives the same bytes. */
export async function encodeImage(image: Image | Mask, format: ImageFormat): Promise<Uint8Array<ArrayBuffer>> {
  if (format === "png") return toPng(image);
  const { width, height, channels, data } = image, pixels = new Decoder(width, height);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = channels === 3 ? data.subarray(3 * i, 3 * i + 3) : Array(3).fill(data[i] ? 255 : 0);
    pixels.bitmap.set([r, g, b, 255], 4 * i);
  }
  return new Uint8Array(await pixels.encodeJPEG(JPEG_QUALITY));
}

/**
 * Writes an image or mask as PNG, atomically.
 * @throws {UserError} if the folder is missing or the disk is full
 */
export function savePng(path: string, image: Image | Mask): void {
  replaceFile(path, (file) => writeAll(file, toPng(image)));
}

/** Bytes → [−1, 1] (v/127.5 − 1), [height, width, 3]. */
export function toTensor(image: Image): Float32Array {
  return Float32Array.from(image.data, (value) => value / 127.5 - 1);
}

/**
 * [−1, 1] → bytes, clamped and rounded.
 * @param tensor [height, width, 3]
 */
export function fromTensor(tensor: ArrayLike<number>, width: number, height: number): Image {
  if (tensor.length !== width * height * 3) {
    throw new RangeError(`${width}×${height}×3 values expected, found ${tensor.length}`);
  }
  const data = Uint8ClampedArray.from(tensor, (value) => (value + 1) * 127.5);
  return { width, height, channels: 3, data };
}
