/**
 * COCO's instances file: https://cocodataset.org/#format-data. One annotation for each 8-connected region of a mask, with
 * its exact area in pixels and its exact box.
 */

import type { Mask } from "../data/image.ts";
import { polygonOf, traceRegions } from "./contours.ts";
import { compactRle, runLengths } from "./rle.ts";

/** How an annotation tells its region. */
export type CocoSegmentation = "polygon" | "rle";

/** A kind of defect. */
export interface CocoCategory {
  /** From 1 on. */
  readonly id: number;
  readonly name: string;
  readonly supercategory: string;
}

/** What an instances file holds of one region. */
export interface CocoAnnotation {
  readonly id: number;
  readonly image_id: number;
  readonly category_id: number;
  /** One polygon along the edges of pixels, holes joined to it by slits; or run lengths as pycocotools' string. */
  readonly segmentation: readonly (readonly number[])[] | { readonly size: readonly number[]; readonly counts: string };
  readonly area: number;
  /** x, y, width, height. */
  readonly bbox: readonly number[];
  readonly iscrowd: 0;
}

/** Gathers the images of one part of a data set. */
export class CocoInstances {
  readonly #categories: readonly CocoCategory[];
  readonly #segmentation: CocoSegmentation;
  readonly #images: { id: number; file_name: string; width: number; height: number }[] = [];
  readonly #annotations: CocoAnnotation[] = [];

  constructor(categories: readonly CocoCategory[], segmentation: CocoSegmentation) {
    this.#categories = categories;
    this.#segmentation = segmentation;
  }

  /**
   * Adds an image.
   * @param file its name below the folder of images
   * @param category id of the kind of its regions
   * @param mask where they are; undefined for a normal image
   * @returns how many regions it has
   */
  add(file: string, { width, height }: { width: number; height: number }, category: number, mask?: Mask): number {
    const id = this.#images.length + 1, regions = mask ? traceRegions(mask) : [];
    this.#images.push({ id, file_name: file, width, height });
    for (const region of regions) {
      this.#annotations.push({
        id: this.#annotations.length + 1,
        image_id: id,
        category_id: category,
        segmentation: this.#segmentation === "polygon"
          ? [polygonOf(region)]
          : { size: [height, width], counts: compactRle(runLengths(region, width, height)) },
        area: region.area,
        bbox: region.box,
        iscrowd: 0,
      });
    }
    return regions.length;
  }

  /** The file's text. */
  toJson(description: string): string {
    return `${
      JSON.stringify({
        info: { description, version: "1.0" },
        licenses: [],
        categories: this.#categories,
        images: this.#images,
        annotations: this.#annotations,
      })
    }\n`;
  }
}
