/**
 * The one place that knows the files which ship with the program. Paths are relative to this module, so that the source
 * tree and the compiled binary (whose embedded files keep their places) find them in the same way. WGSL shaders are
 * imported as text by their modules and need no place here.
 */
import { fileURLToPath } from "node:url";

/** What ships, relative to the repository's root: `deno task compile` embeds exactly these. */
export const SHIPPED = {
  smallModel: [
    "fixtures/small-ldm/config.json",
    "fixtures/small-ldm/model.safetensors",
    "fixtures/small-ldm/vocab.txt",
  ],
  parts: ["fixtures/parts"],
  page: ["tasks/page"],
} as const;

/** Absolute path of a shipped file or folder, by its path in the repository. */
function shipped(path: string): string {
  return fileURLToPath(new URL(`../${path}`, import.meta.url));
}

/** Absolute path of the embedded small model's folder: `config.json`, `model.safetensors`, `vocab.txt`. */
export function smallModelFolder(): string {
  return shipped("fixtures/small-ldm");
}

/** Absolute path of the embedded few-shot data set, in MVTec layout: `<part>/train/good/000.png`, … */
export function partsFolder(): string {
  return shipped("fixtures/parts");
}

/** Absolute path of the folder of `serve`'s page: `index.html`, `page.js`, `page.css`. */
export function pageFolder(): string {
  return shipped("tasks/page");
}
