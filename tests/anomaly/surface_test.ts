/** Guidance away from the part's own surface: the keys, what is learned from normal images, and what a step does. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { PairGenerator, type PairSettings } from "../../src/anomaly/generate.ts";
import { Sampler, type SamplerSettings } from "../../src/anomaly/sampler.ts";
import { guideFromOf, surfaceKey, surfaceOf, surfaceTokens } from "../../src/anomaly/surface.ts";
import { type NormalImage, surfaceItems } from "../../src/anomaly/training_set.ts";
import type { Image } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { Random } from "../../src/random/philox.ts";
import { assertClose, relativeL2 } from "../support/close.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

Deno.test("surfaceOf() finds the surface of a defect's part, also where names hold a plus", () => {
  const keys = ["wood+burn", "wood+good", "wood+fine+good", "wood+fine+hole"];
  assert.equal(surfaceKey("wood"), "wood+good");
  assert.equal(surfaceOf(keys, "wood+burn"), "wood+good");
  assert.equal(surfaceOf(keys, "wood+fine+hole"), "wood+fine+good");
  assert.equal(surfaceOf(keys, "wooden+burn"), undefined);
  assert.equal(guideFromOf({ keys }, ["wood+burn", "wood+fine+hole"]), "surface");
  assert.equal(guideFromOf({ keys }, ["wood+burn", "metal+rust"]), "empty");
  const embedding = { keys: ["a+b", "a+good"], tokens: 1, width: 2, table: Float32Array.of(1, 2, 3, 4), model: "m" };
  assert.deepEqual(surfaceTokens(embedding, "a+b"), Float32Array.of(3, 4));
  assert.throws(() => surfaceTokens({ ...embedding, keys: ["a+b", "c+good"] }, "a+b"), UserError);
});

/** Enough of a base model for views: what would be encoded is handed back. */
const fake = {
  side: 32,
  latentSide: 8,
  encode: (images: readonly Float32Array[]) => Promise.resolve([...images]),
} as unknown as BaseModel;

/** A picture whose colours tell where a pixel lies: red across, green down. */
function ramp(width: number, height: number): Image {
  const data = new Uint8ClampedArray(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    data[3 * i] = 255 * (i % width) / (width - 1);
    data[3 * i + 1] = 255 * Math.floor(i / width) / (height - 1);
  }
  return { width, height, channels: 3, data };
}

Deno.test("views of a surface: windows anywhere in a normal image, of the size that defects are seen in", async () => {
  const image = ramp(128, 96),
    images = Array.from({ length: 24 }, (): NormalImage => ({ key: "a+good", load: () => image }));
  const mask = new Float32Array(32 * 32).fill(1), masks = new Map([["a+good", [mask]]]);
  const options = { seed: 3, view: { window: "mask", zoom: 2 } as const };
  const items = await surfaceItems(fake, images, masks, options);
  const extents: number[] = [],
    centres = items.map(({ key, moments, latentMask, mask: own }) => {
      assert.deepEqual([key, own, latentMask.length, latentMask.every((v) => v === 1)], ["a+good", mask, 64, true]);
      const [x, y] = [0, 1].map((c) => moments.filter((_, i) => i % 3 === c));
      // A window of 16 to 32 pixels, 15 % more or less, turned: of 128 columns and 96 rows.
      const extent = (v: Float32Array, size: number) => (Math.max(...v) - Math.min(...v)) / 2 * (size - 1);
      assert.ok(extent(x, 128) > 8 && extent(x, 128) < 50, `${extent(x, 128)} columns`);
      assert.ok(extent(y, 96) > 8 && extent(y, 96) < 50, `${extent(y, 96)} rows`);
      extents.push(extent(x, 128));
      return x.reduce((sum, v) => sum + v, 0) / x.length;
    });
  assert.ok(Math.min(...extents) < 22 && Math.max(...extents) > 28, `all of one size: ${extents}`);
  assert.ok(Math.min(...centres) < -0.5 && Math.max(...centres) > 0.5, `all in one place: ${centres}`);
  assert.deepEqual(await surfaceItems(fake, images, masks, options), items);
  assert.deepEqual(await surfaceItems(fake, images.slice(0, 5), masks, options), items.slice(0, 5));
  const [whole] = await surfaceItems(fake, images.slice(0, 1), new Map(), { seed: 3 });
  const columns = whole.moments.filter((_, i) => i % 3 === 0);
  assert.ok(Math.max(...columns) - Math.min(...columns) > 1 && whole.mask === undefined);
});

Deno.test({
  name: "guidance away from the surface: ε = ε_s + g·(ε_d − ε_s), and nothing where the defect is the surface",
  sanitizeResources: false,
  async fn() {
    const folder = Deno.makeTempDirSync(), gpu = await Gpu.open();
    try {
      writeTinyModel(folder);
      using base = new BaseModel(gpu, folder, "f32");
      const { width } = base.config.text, table = new Random(1, "tokens").normals(4 * width).map((v) => 3 * v);
      const embedding = { keys: ["a+b", "a+good"], tokens: 2, width, table, model: base.sha256 };
      const defect = table.subarray(0, 2 * width), surface = table.subarray(2 * width);
      const job = { stream: "pair/a+b", index: 3, attempt: 0, prompt: base.prompt("a photo of a *") };
      // One step of DDIM without noise: the latent is a straight line in ε, and so in the scale.
      const sample = async (own: Partial<SamplerSettings>, tokens: Float32Array, away?: Float32Array) => {
        using sampler = new Sampler(base, embedding, {
          ...{ batch: 1, steps: 1, eta: 0, guidance: 1, reweighting: "off", seed: 3 },
          ...own,
        });
        return (await sampler.sample([{ ...job, tokens, surface: away }]))[0];
      };
      const towards = await sample({}, defect), from = await sample({}, surface);
      const guided = await sample({ guidance: 30, guideFrom: "surface" }, defect, surface);
      const step = towards.map((v, i) => v - from[i]), steps = guided.map((v, i) => (v - from[i]) / 30);
      assert.ok(Math.hypot(...step) > 1e-4, `the tokens change nothing: ${Math.hypot(...step)}`);
      assert.ok(relativeL2(steps, step) < 0.01, `not the difference: ${relativeL2(steps, step)}`);
      assertClose(await sample({ guidance: 30, guideFrom: "surface" }, defect, defect), towards, 1e-5, "no difference");
      const below = (t: number) => sample({ guidance: 30, guideFrom: "surface", guidanceBelow: t }, defect, surface);
      assertClose(await below(1), towards, 1e-5, "no guidance at the one step's level");
      assert.deepEqual(await below(1000), guided);

      // The generator takes the surface of the job's own part.
      const data = new Uint8Array(base.side ** 2).fill(1, 0, 200);
      const mask = { width: base.side, height: base.side, channels: 1 as const, data };
      const pair = { index: 0, key: "a+b", source: ramp(base.side, base.side), mask };
      const settings: PairSettings = {
        ...{
          batch: 1,
          steps: 2,
          eta: 1,
          guidance: 3,
          reweighting: "off",
          seed: 1,
          feather: 0,
          window: "whole",
          zoom: 1,
        },
        ...{ keepDetail: false, minChange: 0, maxAttempts: 1, latentMask: "maxPool" },
      };
      const draw = async (own: Partial<PairSettings>, learned = embedding) => {
        using generator = new PairGenerator(base, learned, { ...settings, ...own });
        for await (const { image } of generator.generate([pair])) return image.data;
      };
      const same = Float32Array.from([...defect, ...defect]);
      assert.deepEqual(
        await draw({ guideFrom: "surface" }, { ...embedding, table: same }),
        await draw({ guidance: 1 }),
      );
      assert.notDeepEqual(await draw({ guideFrom: "surface" }), await draw({ guideFrom: "empty" }));
      assert.deepEqual(await draw({ guideFrom: "empty" }), await draw({}));
      await assert.rejects(
        draw({ guideFrom: "surface" }, { ...embedding, keys: ["a+b", "c+good"] }),
        /no surface was learned for a\+b/,
      );
    } finally {
      gpu[Symbol.dispose]();
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
