/**
 * Where DRAEM's and PRN's textures come from: a folder of pictures (the papers take the Describable Textures Dataset), or
 * the project's procedural surfaces, which need no download.
 */

import { type Image, loadImage } from "../data/image.ts";
import { SIZE } from "../data/procedural/noise.ts";
import { quantise } from "../data/procedural/sample.ts";
import { MATERIALS, surface } from "../data/procedural/surfaces.ts";
import type { Random } from "../random/philox.ts";

/** A texture and its name for the manifest. */
export interface Texture {
  readonly image: Image;
  readonly name: string;
}

/** Gives a texture; the stream decides which. */
export type TextureSource = (random: Random) => Promise<Texture>;

/** Materials that fill a picture from edge to edge. */
const FLAT = MATERIALS.filter((name) => !["washer", "capsule", "board", "bottle"].includes(name));

/** A procedural surface of 128×128 pixels in any hue. */
export const proceduralTextures: TextureSource = (random) => {
  const material = random.pick(FLAT);
  const data = Uint8ClampedArray.from(quantise(surface(random, material).rgb));
  return Promise.resolve({
    image: { width: SIZE, height: SIZE, channels: 3, data },
    name: `procedural ${material}`,
  });
};

/**
 * One of the pictures of a folder.
 * @param paths image files, in an order that does not change between runs
 * @param nameOf the name of a path in the manifest
 */
export function pictureTextures(paths: readonly string[], nameOf: (path: string) => string): TextureSource {
  if (paths.length === 0) throw new RangeError("no textures");
  return async (random) => {
    const path = random.pick(paths);
    return { image: await loadImage(path), name: nameOf(path) };
  };
}
