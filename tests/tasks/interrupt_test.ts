/** Ctrl-C in phases that keep nothing yet, or keep what they have made: they end at the next picture. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { BaseModel } from "../../src/anomaly/base_model.ts";
import { defectItems, type LabelledSample, maskItems } from "../../src/anomaly/training_set.ts";
import { folderImages } from "../../src/pretraining/images.ts";
import type { Context } from "../../tasks/command.ts";
import { openKinds } from "../../tasks/jobs/dataset.ts";
import { makeMasks } from "../../tasks/jobs/masks.ts";
import { encodeSurfaces, encodeViews } from "../../tasks/jobs/training.ts";
import { RunFolder } from "../../tasks/run_folder.ts";
import { tinyPair, writeTinyData } from "../support/tiny_data.ts";

/** A context whose user presses Ctrl-C once so many pictures are counted. */
function stoppedAfter(pictures: number, runFolder?: RunFolder) {
  const abort = new AbortController(), counts: number[] = [];
  const progress = {
    update(done: number) {
      counts.push(done);
      if (done === pictures) abort.abort(new Error("Ctrl-C"));
    },
    finish() {},
  };
  const context = { signal: abort.signal, runFolder, progress: () => progress, log() {} } as unknown as Context;
  return { context, counts };
}

/** Enough of a base model for views: pictures are handed back one by one. */
const base = {
  side: 32,
  latentSide: 8,
  encode(images: readonly Float32Array[], onItem?: () => void) {
    images.forEach(() => onItem?.());
    return Promise.resolve([...images]);
  },
} as unknown as BaseModel;

const samples: LabelledSample[] = [0, 1].map((i) => ({ key: "plate+dent", ...tinyPair("plate", "dent", i) }));
const flags = { seed: 0, augmentation: "paper", augmentedCopies: 6 } as const;

/** Runs a test beside the tiny data. */
async function withData(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "interrupt-" });
  try {
    writeTinyData(join(folder, "data"));
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

for (const [name, make] of [["views", defectItems], ["masks", maskItems]] as const) {
  Deno.test(`encoding ${name} ends at the next one`, async () => {
    const { context, counts } = stoppedAfter(3);
    await assert.rejects(encodeViews(make, base, samples, flags, "view", context), /^Error: Ctrl-C$/);
    assert.deepEqual(counts, [1, 2, 3]);
    const whole = stoppedAfter(Infinity);
    assert.equal((await encodeViews(make, base, samples, flags, "view", whole.context)).length, 12);
  });
}

Deno.test("encoding surfaces ends at the next one, and before the images of a run that was stopped are read", () =>
  withData(async (folder) => {
    const kinds = openKinds({ data: join(folder, "data"), part: ["plate"] });
    const items = await encodeViews(defectItems, base, samples, flags, "view", stoppedAfter(Infinity).context);
    for (const [pictures, seen] of [[2, [1, 2]], [Infinity, Array.from({ length: 12 }, (_, i) => i + 1)]] as const) {
      const { context, counts } = stoppedAfter(pictures), made = encodeSurfaces(base, kinds, items, flags, context);
      if (pictures === 2) await assert.rejects(made, /^Error: Ctrl-C$/);
      else assert.equal((await made).length, 12);
      assert.deepEqual(counts, seen);
    }
    const { context, counts } = stoppedAfter(1);
    context.progress({ label: "before", total: 1, unit: "view" }).update(1);
    await assert.rejects(encodeSurfaces(base, kinds, items, flags, context), /^Error: Ctrl-C$/);
    assert.deepEqual(counts, [1]);
  }));

Deno.test("placing real masks ends at the next one; those that were made stay, and a later call makes the rest", () =>
  withData(async (folder) => {
    await using runFolder = await RunFolder.open(join(folder, "masks"));
    const kinds = openKinds({ data: join(folder, "data"), part: ["plate"], defect: ["dent"] });
    const run = { count: 9, seed: 0, limits: {}, onPart: true, maxAttempts: 1, side: 32, format: "png" } as const;
    const made = () => [...Deno.readDirSync(join(folder, "masks/plate/dent"))].map(({ name }) => name).sort();
    await assert.rejects(makeMasks(kinds, run, stoppedAfter(4, runFolder).context), /^Error: Ctrl-C$/);
    assert.deepEqual(made(), ["000.png", "001.png", "002.png", "003.png"]);
    await makeMasks(kinds, run, stoppedAfter(Infinity, runFolder).context);
    assert.equal(made().length, 9);
  }));

Deno.test("reading a folder of normal images ends at the next one", () =>
  withData(async (folder) => {
    const abort = new AbortController();
    let read = 0;
    const images = folderImages(join(folder, "data"), 32, { seed: 0, count: 20, zoom: 2 }, undefined, () => {
      if (++read === 3) abort.abort(new Error("Ctrl-C"));
      abort.signal.throwIfAborted();
    });
    await assert.rejects(images, /^Error: Ctrl-C$/);
    assert.equal(read, 3);
  }));
