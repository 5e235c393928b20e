/**
 * Views of normal images: squares of them, enlarged as `--window mask` enlarges what surrounds a defect, and whole images, both
 * mirrored at random. A base model that has seen a part in such views fills a window of it with the part's own surface.
 */

import { crop } from "../anomaly/windows.ts";
import { resize } from "../data/resize.ts";
import type { Image } from "../data/image.ts";
import type { Random } from "../random/philox.ts";

/** Share of views that show the whole image. */
const WHOLE = 0.15;
/** The smallest square beside the one that the zoom asks for: training views vary that much. */
const LEAST = 0.85;

/**
 * A view of a normal image.
 * @param image of any size
 * @param side of the view in pixels, the model's resolution
 * @param zoom how much a square is enlarged at most, as in `View` of the anomaly floor; 1 takes squares of the model's side. Larger
 * defects have larger windows, so that squares of all sizes up to the model's side are shown, each size ratio as often
 * @returns RGB bytes [side, side, 3]
 * @example
 * ```ts
 * import { Random } from "../random/philox.ts";
 * import { normalView } from "./views.ts";
 * const image = { width: 90, height: 60, channels: 3 as const, data: new Uint8ClampedArray(90 * 60 * 3).fill(7) };
 * const view = normalView(image, new Random(0, "example", 0), 32, 2);
 * if (view.length !== 32 * 32 * 3 || view.some((v) => v !== 7)) throw new Error("not a view of the image");
 * ```
 */
export function normalView(image: Image, random: Random, side: number, zoom: number): Uint8Array {
  const { width, height } = image, mirrorX = random.chance(0.5), mirrorY = random.chance(0.5);
  const whole = random.chance(WHOLE), most = Math.min(width, height), least = Math.min(most, LEAST * side / zoom);
  const square = Math.max(1, Math.round(least * (Math.max(least, Math.min(side, most)) / least) ** random.uniform()));
  const [w, h] = whole ? [width, height] : [square, square];
  const window = { x: random.integer(0, width - w + 1), y: random.integer(0, height - h + 1), width: w, height: h };
  const { data } = resize(crop(image, window), side, side, "bicubic"), view = new Uint8Array(data.length);
  for (let i = 0; i < side * side; i++) {
    const x = i % side, y = Math.floor(i / side);
    const from = 3 * ((mirrorY ? side - 1 - y : y) * side + (mirrorX ? side - 1 - x : x));
    view.set(data.subarray(from, from + 3), 3 * i);
  }
  return view;
}
