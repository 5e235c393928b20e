/** The baselines without a model: what they change, where, how much, and that a stream decides everything. */
import assert from "node:assert/strict";
import type { Ground } from "../../src/baselines/method.ts";
import { MODEL_FREE, modelFree } from "../../src/baselines/mod.ts";
import { proceduralTextures } from "../../src/baselines/textures.ts";
import type { Image, Mask } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";
import { tinyMask, tinyNormal, tinyPair } from "../support/tiny_data.ts";

const source = tinyNormal("weave", 0);
const real = { name: "hole/000", ...tinyPair("weave", "hole", 0) };

function ground(name: keyof typeof modelFree, changes: Partial<Ground> = {}): Ground {
  return {
    source,
    pairs: [real],
    textures: proceduralTextures,
    opacity: modelFree[name].opacity ?? [1, 1],
    ...changes,
  };
}

const share = ({ data }: Mask) => data.reduce((sum, on) => sum + on, 0) / data.length;

/** Pixels that differ between two images. */
function changed(a: Image, b: Image): Uint8Array {
  return Uint8Array.from(
    { length: a.width * a.height },
    (_, i) => [0, 1, 2].some((c) => a.data[3 * i + c] !== b.data[3 * i + c]) ? 1 : 0,
  );
}

for (const name of MODEL_FREE) {
  Deno.test(`${name}: changes the masked pixels alone, and most of them; equal streams give equal pairs`, async () => {
    const before = source.data.slice();
    let inside = 0, all = 0;
    for (let index = 0; index < 12; index++) {
      const made = await modelFree[name].make(ground(name), new Random(1, "test", index));
      assert.ok(share(made.mask) > 0, `picture ${index} has an empty mask`);
      changed(source, made.image).forEach((differs, i) => {
        assert.ok(!differs || made.mask.data[i], `picture ${index}: pixel ${i} changed outside the mask`);
        inside += differs;
      });
      all += made.mask.data.reduce((sum, on) => sum + on, 0);
      const again = await modelFree[name].make(ground(name), new Random(1, "test", index));
      assert.deepEqual(again, made);
      const other = await modelFree[name].make(ground(name), new Random(2, "test", index));
      assert.notDeepEqual(other.image.data, made.image.data);
    }
    assert.ok(inside > 0.9 * all, `${inside} of ${all} masked pixels changed`);
    assert.deepEqual(source.data, before, "the source was written to");
  });

  Deno.test(`${name}: most of each anomaly stays on the part where it is asked to`, async () => {
    const part: Mask = {
      ...source,
      channels: 1,
      data: tinyMask("weave", "hole", 0).data.map((_, i) => i % 50 < 30 ? 1 : 0),
    };
    for (let index = 0; index < 12; index++) {
      const { mask } = await modelFree[name].make(ground(name, { part }), new Random(3, "part", index));
      const on = mask.data.reduce((sum, v, i) => sum + (v & part.data[i]), 0) / mask.data.reduce((a, b) => a + b, 0);
      assert.ok(on > 0.59, `picture ${index}: ${on} on the part`);
    }
  });
}

Deno.test("crop-paste brings the defect's own colour, at the size of the real one", async () => {
  const size = share(real.mask);
  for (let index = 0; index < 12; index++) {
    const { image, mask, maskSource } = await modelFree["crop-paste"].make(
      ground("crop-paste"),
      new Random(4, "", index),
    );
    assert.equal(maskSource, "hole/000");
    mask.data.forEach((on, i) => assert.ok(!on || image.data[3 * i] === 10, `pixel ${i} is ${image.data[3 * i]}`));
    // Scale 0.75 … 1.3, and at least 60 % inside the picture; a small disc's area is rough.
    assert.ok(share(mask) > 0.25 * size && share(mask) < 2 * size, `${share(mask)} for ${size}`);
  }
});

Deno.test("crop-paste: a defect from a picture of twice the size comes out at half of it", async () => {
  const large: Image = { width: 100, height: 88, channels: 3, data: new Uint8ClampedArray(3 * 8800).fill(255) };
  const mask: Mask = { width: 100, height: 88, channels: 1, data: new Uint8Array(8800) };
  for (let y = 30; y < 54; y++) mask.data.fill(1, y * 100 + 40, y * 100 + 64); // 24 × 24
  const pairs = [{ name: "large", image: large, mask }];
  let sum = 0;
  for (let index = 0; index < 20; index++) {
    const made = await modelFree["crop-paste"].make(ground("crop-paste", { pairs }), new Random(5, "", index));
    sum += made.mask.data.reduce((a, b) => a + b, 0) / 20;
  }
  assert.ok(sum > 12 * 12 * 0.6 && sum < 12 * 12 * 1.3, `mean area ${sum}`); // 144 × E[scale²], a part cut off
});

Deno.test("cutpaste: one rectangle of 2 to 15 % of the picture; the scar is smaller", async () => {
  for (let index = 0; index < 30; index++) {
    const { mask } = await modelFree.cutpaste.make(ground("cutpaste"), new Random(6, "", index));
    const rows = new Set<number>(), columns = new Set<number>();
    mask.data.forEach((on, i) => on && (rows.add(Math.floor(i / mask.width)), columns.add(i % mask.width)));
    assert.equal(rows.size * columns.size, mask.data.reduce((a, b) => a + b, 0), "not a rectangle");
    assert.ok(share(mask) > 0.6 * 0.015 && share(mask) < 0.165, `${share(mask)}`);
    const scar = await modelFree["cutpaste-scar"].make(ground("cutpaste-scar"), new Random(6, "", index));
    assert.ok(share(scar.mask) < 0.01, `${share(scar.mask)}`); // 16 · 25 of 256²
  }
});

Deno.test("draem: the opacity weighs texture against source", async () => {
  const difference = async (beta: number) => {
    const made = await modelFree.draem.make(ground("draem", { opacity: [beta, beta] }), new Random(7, "", 0));
    assert.equal(made.details.opacity, beta);
    return { mask: made.mask, change: made.image.data.reduce((sum, v, k) => sum + Math.abs(v - source.data[k]), 0) };
  };
  const full = await difference(1), half = await difference(0.5), none = await difference(0);
  assert.deepEqual(half.mask, full.mask);
  assert.equal(none.change, 0);
  assert.ok(Math.abs(half.change / full.change - 0.5) < 0.02, `${half.change} of ${full.change}`);
});

Deno.test("prn: makes both forms, and names what it took", async () => {
  const forms = new Set<unknown>(), textures = new Set<unknown>();
  for (let index = 0; index < 24; index++) {
    const { details, maskSource } = await modelFree.prn.make(ground("prn"), new Random(8, "", index));
    forms.add(details.form);
    textures.add(details.texture);
    assert.equal(maskSource, details.form === "extended" ? "hole/000" : "perlin");
  }
  assert.deepEqual([...forms].sort(), ["extended", "simulated"]);
  assert.ok(textures.has("own") && [...textures].some((name) => String(name).startsWith("procedural ")));
});
