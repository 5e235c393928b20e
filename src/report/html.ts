/** Small pieces of HTML that the report pages share: escaping, and pictures as data URIs with their sizes. */

import { sizeOfImage } from "../data/image.ts";

/** A text as it may stand in HTML, in quotes too. */
export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/**
 * An `<img>` that carries its picture with it.
 * @param file bytes of a PNG or JPEG file
 * @param alt what it shows
 * @param className class attribute, or none
 * @throws Error if the bytes are neither
 */
export function picture(file: Uint8Array, alt: string, className = ""): string {
  const type = file[0] === 0x89 && file[1] === 0x50 ? "png" : file[0] === 0xff && file[1] === 0xd8 ? "jpeg" : undefined;
  if (!type || file.length < 24) throw new Error(`${alt}: the picture is not a PNG or JPEG file`);
  const { width, height } = sizeOfImage(file, alt);
  return `<img src="data:image/${type};base64,${base64(file)}" alt="${
    escape(alt)
  }" width="${width}" height="${height}"` +
    `${className ? ` class="${className}"` : ""} decoding="async">`;
}

function base64(bytes: Uint8Array): string {
  let text = "";
  // In slices: a call takes only so many arguments, and a multiple of three needs no padding in between.
  for (let i = 0; i < bytes.length; i += 24_576) text += btoa(String.fromCharCode(...bytes.subarray(i, i + 24_576)));
  return text;
}

/** A figure for a table: numbers short, everything else as it is. */
export function figure(value: string | number): string {
  if (typeof value === "string") return escape(value);
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 100
    ? value.toFixed(0)
    : size >= 10
    ? value.toFixed(1)
    : size >= 1
    ? value.toFixed(2)
    : value.toFixed(3);
}
