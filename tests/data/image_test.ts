import assert from "node:assert/strict";
import { join } from "node:path";
import { Image as Encoder } from "imagescript";
import {
  binaryMask,
  decodeImage,
  decodeMask,
  fromTensor,
  type Image,
  isImageName,
  loadImage,
  readImageSize,
  savePng,
  sizeOfImage,
  toPng,
  toTensor,
} from "../../src/data/image.ts";
import { encodePng } from "../../src/data/png.ts";
import { u } from "../../src/weights/formula.ts";

/** A smooth picture with some noise, so that every PNG filter has its turn. */
function picture(width: number, height: number): Image {
  const noise = u("image", "noise", [height, width, 3]);
  const data = Uint8ClampedArray.from(noise, (value, i) => (i * 7 % 256) * 0.7 + 20 * value);
  return { width, height, channels: 3, data };
}

/** A bitmap file: header, optional palette, rows from the bottom unless `height` is negative. */
function bmp(width: number, height: number, bits: number, palette: number[], rows: number[]): Uint8Array {
  const start = 54 + palette.length, bytes = new Uint8Array(start + rows.length), view = new DataView(bytes.buffer);
  bytes.set([0x42, 0x4d]);
  view.setUint32(10, start, true);
  view.setUint32(14, 40, true);
  view.setInt32(18, width, true);
  view.setInt32(22, height, true);
  view.setUint16(26, 1, true);
  view.setUint16(28, bits, true);
  bytes.set(palette, 54);
  bytes.set(rows, start);
  return bytes;
}

const one = (bytes: Uint8Array) => decodeImage(bytes, "x").then((image) => [...image.data]);

Deno.test("image: PNG comes back exactly and the same pixels give the same bytes", async () => {
  for (const [width, height] of [[1, 1], [5, 3], [64, 40]]) {
    const image = picture(width, height), png = toPng(image);
    assert.deepEqual(await decodeImage(png, "x"), image);
    assert.deepEqual(toPng(picture(width, height)), png);
    assert.deepEqual(sizeOfImage(png, "x"), { width, height });
  }
});

Deno.test("image: grey is repeated, transparency lies over black", async () => {
  assert.deepEqual(await one(encodePng({ width: 2, height: 1, channels: 1, data: [7, 200] })), [
    7,
    7,
    7,
    200,
    200,
    200,
  ]);
  const rgba = encodePng({ width: 3, height: 1, channels: 4, data: [255, 10, 0, 255, 200, 100, 50, 51, 9, 9, 9, 0] });
  assert.deepEqual(await one(rgba), [255, 10, 0, 40, 20, 10, 0, 0, 0]);
  await assert.rejects(
    async () => await one(encodePng({ width: 2, height: 1, channels: 1, data: [7] })),
    /need 2 values/,
  );
});

Deno.test("image: JPEG is read, its size found without decoding", async () => {
  const encoder = new Encoder(20, 12);
  encoder.fill(0x336699ff);
  const bytes = await encoder.encodeJPEG(95), image = await decodeImage(bytes, "x");
  assert.deepEqual(sizeOfImage(bytes, "x"), { width: 20, height: 12 });
  assert.equal(image.data.length, 20 * 12 * 3);
  assert.ok(image.data.every((value, i) => Math.abs(value - [0x33, 0x66, 0x99][i % 3]) <= 3));
});

/** A JPEG with an Exif segment that notes an orientation, in either byte order. */
function oriented(jpeg: Uint8Array, orientation: number, little: boolean): Uint8Array {
  const segment = new Uint8Array(36), view = new DataView(segment.buffer);
  segment.set([0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, ...(little ? [0x49, 0x49] : [0x4d, 0x4d])]);
  view.setUint16(12, 42, little);
  view.setUint32(14, 8, little); // first directory
  view.setUint16(18, 1, little); // entries
  view.setUint16(20, 0x0112, little);
  view.setUint16(22, 3, little);
  view.setUint32(24, 1, little);
  view.setUint16(28, orientation, little);
  return Uint8Array.from([...jpeg.subarray(0, 2), ...segment, ...jpeg.subarray(2)]);
}

Deno.test("image: a photograph is turned as its camera noted", async () => {
  // Stored: red at the start of the first row, green at its end; the rest is black.
  const encoder = new Encoder(48, 32);
  encoder.fill((x, y) => y > 16 ? 0x000000ff : x <= 16 ? 0xff0000ff : x > 32 ? 0x00ff00ff : 0x000000ff);
  const jpeg = await encoder.encodeJPEG(95);
  // Where the first row's start and end lie (Exif 2.3, table 6): top or bottom, left or right.
  const places = ["TL TR", "TR TL", "BR BL", "BL BR", "TL BL", "TR BR", "BR TR", "BL TL"];
  for (const [i, place] of places.entries()) {
    for (const little of [true, false]) {
      const bytes = oriented(jpeg, i + 1, little), { width, height, data } = await decodeImage(bytes, "x");
      assert.deepEqual([width, height], i < 4 ? [48, 32] : [32, 48]);
      assert.deepEqual(sizeOfImage(bytes, "x"), { width, height });
      const corner = (name: string) => {
        const x = name[1] === "L" ? 8 : width - 8, y = name[0] === "T" ? 8 : height - 8;
        return [...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3)].map((v) => Math.round(v / 255));
      };
      const [start, end] = place.split(" ");
      assert.deepEqual([corner(start), corner(end)], [[1, 0, 0], [0, 1, 0]], `orientation ${i + 1}`);
    }
  }
  assert.deepEqual(sizeOfImage(oriented(jpeg, 9, true), "x"), { width: 48, height: 32 }, "no such orientation");
});

Deno.test("image: bitmaps of 1, 4, 8, 24 and 32 bits, from below and from above", async () => {
  const palette = [0, 0, 0, 0, 3, 2, 1, 0]; // blue first
  assert.deepEqual(await one(bmp(2, 1, 1, palette, [0x40, 0, 0, 0])), [0, 0, 0, 1, 2, 3]);
  assert.deepEqual(await one(bmp(2, 1, 4, palette, [0x10, 0, 0, 0])), [1, 2, 3, 0, 0, 0]);
  assert.deepEqual(await one(bmp(1, 1, 8, palette, [1, 0, 0, 0])), [1, 2, 3]);
  const rows = [3, 2, 1, 0, 6, 5, 4, 0];
  assert.deepEqual(await one(bmp(1, 2, 24, [], rows)), [4, 5, 6, 1, 2, 3]);
  assert.deepEqual(await one(bmp(1, -2, 24, [], rows)), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(await one(bmp(1, -1, 32, [], [3, 2, 1, 0])), [1, 2, 3]);
  await assert.rejects(one(bmp(4, 4, 24, [], rows)), /x: the file is truncated/);
});

Deno.test("image: masks become 0 and 1 at half brightness; label maps at anything above 0", async () => {
  const mask = async (
    data: number[],
  ) => [...(await decodeMask(encodePng({ width: data.length, height: 1, channels: 1, data }), "x")).data];
  assert.deepEqual(await mask([0, 127, 128, 255]), [0, 0, 1, 1]);
  assert.deepEqual(await mask([0, 1, 3, 0]), [0, 1, 1, 0]);
  assert.deepEqual(await mask([0, 0]), [0, 0]);
  const green: Image = { width: 1, height: 1, channels: 3, data: Uint8ClampedArray.of(0, 255, 0) };
  assert.deepEqual([...binaryMask(green).data], [1]);
  const white = await decodeImage(toPng({ width: 2, height: 1, channels: 1, data: Uint8Array.of(1, 0) }), "x");
  assert.deepEqual([...white.data], [255, 255, 255, 0, 0, 0]);
});

Deno.test("image: files that are missing, empty, foreign or broken are named in one line", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const path = join(folder, "part.png"),
      refused = async (content: Uint8Array, message: RegExp) => {
        Deno.writeFileSync(path, content);
        await assert.rejects(loadImage(path), (error: Error) => {
          assert.match(error.message, message);
          return error.name === "UserError" && error.message.includes("part.png") && !error.message.includes("\n");
        });
      };
    await assert.rejects(loadImage(join(folder, "none.png")), /none\.png: no such file/);
    const png = toPng(picture(16, 16));
    await refused(new Uint8Array(0), /the file is empty/);
    await refused(new TextEncoder().encode("hello"), /not a PNG, JPEG or BMP image/);
    await refused(png.subarray(0, 20), /the image is broken/);
    await refused(png.subarray(0, 200), /the image is broken/);
    await refused(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0), /the image is broken/);
    const flat = png.slice();
    flat.fill(0, 16, 20);
    await refused(flat, /the image has no pixels/);
    savePng(path, picture(9, 4));
    assert.deepEqual(readImageSize(path), { width: 9, height: 4 });
    assert.equal([...Deno.readDirSync(folder)].length, 1);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("image: bytes ↔ [−1, 1]", () => {
  const image = picture(8, 5), tensor = toTensor(image);
  assert.ok(tensor.every((value) => value >= -1 && value <= 1));
  assert.deepEqual(fromTensor(tensor, 8, 5), image);
  assert.deepEqual([...fromTensor([-1, 1, 0, -3, 3, 0.001], 2, 1).data], [0, 255, 128, 0, 255, 128]);
  assert.throws(() => fromTensor([0], 1, 1), /1×1×3 values expected, found 1/);
});

Deno.test("image: names", () => {
  assert.ok(isImageName("000.PNG") && isImageName("a.jpeg") && isImageName("b.BMP"));
  assert.ok(!isImageName("a.txt") && !isImageName("png"));
});
