/** Pairs that are drawn in windows, and the views that embeddings learn from in them. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { decodeEmbedding, encodeEmbedding } from "../../src/anomaly/embedding.ts";
import { PairGenerator, type PairJob, type PairSettings } from "../../src/anomaly/generate.ts";
import { joinFigures } from "../../src/anomaly/figures.ts";
import { defectItems, type TrainingSetOptions } from "../../src/anomaly/training_set.ts";
import type { Image, Mask } from "../../src/data/image.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { Random } from "../../src/random/philox.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

function picture(width: number, height: number, name: string): Image {
  const random = new Random(7, name);
  const data = Uint8ClampedArray.from({ length: 3 * width * height }, () => random.integer(0, 256));
  return { width, height, channels: 3, data };
}

function marked(width: number, height: number, ...boxes: readonly (readonly number[])[]): Mask {
  const data = new Uint8Array(width * height);
  for (const [x, y, w, h] of boxes) {
    for (let row = y; row < y + h; row++) data.fill(1, row * width + x, row * width + x + w);
  }
  return { width, height, channels: 1, data };
}

Deno.test({
  name: "windows: every place of a mask changes, nothing else does, and no image depends on those beside it",
  sanitizeResources: false,
  async fn() {
    const folder = Deno.makeTempDirSync(), gpu = await Gpu.open();
    try {
      writeTinyModel(folder);
      using base = new BaseModel(gpu, folder, "f32");
      const width = base.config.text.width, table = new Random(1, "tokens").normals(2 * width);
      const embedding = { keys: ["a+b"], tokens: 2, width, table, model: base.sha256 };
      const settings: PairSettings = {
        ...{
          batch: 1,
          steps: 3,
          eta: 1,
          guidance: 1,
          reweighting: "off",
          seed: 1,
          feather: 2,
          window: "mask",
          zoom: 2,
        },
        ...{ keepDetail: true, minChange: 0, maxAttempts: 1, latentMask: "maxPool" },
      };
      const side = base.side, size = 3 * side;
      const masks = [
        marked(size, size, [2, 2, 5, 5], [size - 9, size - 8, 6, 4], [size - 8, 3, 3, 3]), // three windows
        marked(size, size, [size / 2, 10, 4, 6]),
      ];
      const jobs = masks.map((mask, index): PairJob => ({
        index,
        key: "a+b",
        source: picture(size, size, `source ${index}`),
        mask,
      }));
      const make = async (own: Partial<PairSettings>, what: readonly PairJob[]) => {
        using generator = new PairGenerator(base, embedding, { ...settings, ...own });
        const made: Image[] = [];
        for await (const { job, image, figures } of generator.generate(what)) {
          made[job.index] = image;
          assert.equal(figures.changeOutside, 0);
          assert.ok(figures.changeInside > 0);
        }
        return made;
      };
      const pairs = await make({}, jobs), together = await make({ batch: 4 }, jobs);
      assert.deepEqual(together, pairs);
      assert.deepEqual((await make({ batch: 2 }, [jobs[1]]))[1], pairs[1]);
      assert.notDeepEqual(await make({ zoom: 1 }, jobs), pairs);
      for (const { index, source, mask } of jobs) {
        const differs = (x: number, y: number) =>
          [0, 1, 2].some((c) => {
            const i = 3 * (y * size + x) + c;
            return pairs[index].data[i] !== source.data[i];
          });
        const near = (x: number, y: number) => { // within the feather, 2 pixels at most
          for (let v = Math.max(0, y - 3); v <= Math.min(size - 1, y + 3); v++) {
            for (let u = Math.max(0, x - 3); u <= Math.min(size - 1, x + 3); u++) {
              if (mask.data[v * size + u]) return true;
            }
          }
          return false;
        };
        let changed = 0, inside = 0;
        for (let y = 0; y < size; y++) {
          for (let x = 0; x < size; x++) {
            if (mask.data[y * size + x]) {
              inside++;
              changed += differs(x, y) ? 1 : 0;
            } else if (!near(x, y)) assert.ok(!differs(x, y), `pixel ${x}, ${y} outside the mask changed`);
          }
        }
        assert.ok(changed > 0.9 * inside, `${changed} of ${inside} pixels changed`);
      }
    } finally {
      gpu[Symbol.dispose]();
      Deno.removeSync(folder, { recursive: true });
    }
  },
});

/** Enough of a base model for views: what would be encoded is handed back. */
const fake = {
  side: 32,
  latentSide: 8,
  encode: (images: readonly Float32Array[]) => Promise.resolve([...images]),
} as unknown as BaseModel;

Deno.test("windows: views hold their place enlarged as generation has it, in turn, as many as asked for", async () => {
  // Two places: 4 × 4 at the corner, 6 × 6 in the middle of a picture of 96.
  const mask = marked(96, 96, [2, 3, 4, 4], [50, 50, 6, 6]), image = picture(96, 96, "pair");
  const options: TrainingSetOptions = {
    ...{ seed: 3, copies: 9, augmentation: "paper", latentMask: "maxPool" },
    view: { window: "mask", zoom: 2 },
  };
  const items = await defectItems(fake, [{ key: "a+b", image, mask }], options);
  assert.equal(items.length, 9);
  items.forEach(({ mask: view, latentMask }, i) => {
    const pixels = view!.reduce((sum, v) => sum + v, 0), exact = i % 2 ? 36 * 4 : 16 * 4; // windows of 16, twice as large
    const [low, high] = i < 2 ? [1, 1] : [0.6, 1.6]; // the plain windows first, then 15 % more or less on either axis
    assert.ok(pixels >= low * exact && pixels <= high * exact, `view ${i} marks ${pixels} pixels of ${exact}`);
    assert.ok(latentMask.includes(1));
  });
  assert.deepEqual(await defectItems(fake, [{ key: "a+b", image, mask }], options), items);
  const [plain] = await defectItems(fake, [{ key: "a+b", image, mask }], { ...options, augmentation: "off" });
  assert.equal(plain.mask!.reduce((sum, v) => sum + v, 0) > 0, true);
});

Deno.test("windows: an embedding's file keeps what its pictures showed", () => {
  const own = { keys: ["a+b"], tokens: 1, width: 2, table: Float32Array.of(1, 2), model: "m" };
  const view = { window: "mask", zoom: 2.5 } as const;
  assert.deepEqual(decodeEmbedding(encodeEmbedding({ ...own, view }), "file").view, view);
  assert.equal(decodeEmbedding(encodeEmbedding(own), "file").view, undefined);
});

Deno.test("joinFigures() weighs each window by its pixels of the mask", () => {
  const part = (v: number) => ({ changeInside: v, changeOutside: 0, changedShare: v });
  assert.deepEqual(joinFigures([part(0.5), part(0.25)], [10, 30]), {
    changeInside: 0.3125,
    changeOutside: 0,
    changedShare: 0.3125,
  });
});
