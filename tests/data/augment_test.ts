import assert from "node:assert/strict";
import { augment, augmentOfficial, prepareSample, resizeMask, type Sample } from "../../src/data/augment.ts";
import type { Image, Mask } from "../../src/data/image.ts";
import { Random } from "../../src/random/philox.ts";

/** A square sample whose anomaly is white on black: a box, anywhere, of any shape. */
function sample(size: number, random: Random): Sample {
  const width = random.integer(1, size + 1), height = random.integer(1, size + 1);
  const left = random.integer(0, size - width + 1), top = random.integer(0, size - height + 1);
  const inside = (i: number) => {
    const x = i % size - left, y = Math.floor(i / size) - top;
    return x >= 0 && x < width && y >= 0 && y < height;
  };
  const mask: Mask = {
    width: size,
    height: size,
    channels: 1,
    data: Uint8Array.from({ length: size ** 2 }, (_, i) => inside(i) ? 1 : 0),
  };
  return { image: picture(mask), mask };
}

/** The mask as an RGB image. */
function picture({ width, height, data }: Mask): Image {
  return {
    width,
    height,
    channels: 3,
    data: Uint8ClampedArray.from({ length: data.length * 3 }, (_, i) => data[Math.floor(i / 3)] * 255),
  };
}

const share = (values: ArrayLike<number>) => Array.from(values).filter((value) => value > 0).length / values.length;

Deno.test("augment: the whole anomaly stays in the frame, whatever its place and shape", () => {
  for (let index = 0; index < 300; index++) {
    const random = new Random(1, "augment-test", index), one = sample(32, random);
    const view = augment(one, new Random(2, "augment", index), { resolution: 64, minCrop: 0.5 });
    // Without mirrored copies the area grows by (64/side)², side in [16, 32·√2]; a lost part would make it smaller.
    const area = share(view.mask) * 64 ** 2, source = share(one.mask.data) * 32 ** 2;
    const border = 4 * Math.sqrt(source) + 8;
    const extent = 32 * (Math.cos(Math.PI / 9) + Math.sin(Math.PI / 9)) + 1;
    assert.ok(area > 0 && area + 2 * border >= source * (64 / extent) ** 2, `${index}: ${area} of ${source}`);
  }
});

Deno.test("augment: every corner of the anomaly is mapped inside the frame", () => {
  // Four single pixels at the corners of a box: all four must be seen, as separate marks, in every view.
  for (let index = 0; index < 200; index++) {
    const random = new Random(3, "corners", index), size = 24;
    const [x0, y0] = [random.integer(0, 12), random.integer(0, 12)];
    const [x1, y1] = [random.integer(x0 + 6, size), random.integer(y0 + 6, size)];
    const data = new Uint8Array(size ** 2);
    for (const [x, y] of [[x0, y0], [x0, y1], [x1, y0], [x1, y1]]) data[y * size + x] = 1;
    const mask: Mask = { width: size, height: size, channels: 1, data };
    const resolution = 128,
      view = augment({ image: picture(mask), mask }, new Random(4, "augment", index), { resolution });
    // Count the marks as 4-connected components.
    const seen = view.mask.slice();
    let marks = 0;
    for (let start = 0; start < seen.length; start++) {
      if (!seen[start]) continue;
      marks++;
      const stack = [start];
      while (stack.length > 0) {
        const i = stack.pop()!;
        if (!seen[i]) continue;
        seen[i] = 0;
        const x = i % resolution;
        if (x > 0) stack.push(i - 1);
        if (x < resolution - 1) stack.push(i + 1);
        if (i >= resolution) stack.push(i - resolution);
        if (i < seen.length - resolution) stack.push(i + resolution);
      }
    }
    assert.ok(marks >= 4, `${index}: ${marks} of 4 pixels are left`);
  }
});

Deno.test("augment: image and mask are moved alike", () => {
  for (let index = 0; index < 50; index++) {
    const one = sample(40, new Random(5, "augment-test", index));
    const view = augment(one, new Random(6, "augment", index), { resolution: 40 });
    const agree = view.mask.filter((value, i) => (view.image[i * 3] > 0) === (value === 1)).length;
    assert.ok(agree / view.mask.length > 0.97, `${index}: ${agree / view.mask.length}`);
    assert.ok(view.image.every((value) => value >= -1 && value <= 1));
  }
});

Deno.test("augment: the stream decides; rotations go to both sides, flips and crops happen", () => {
  const one = sample(32, new Random(7, "augment-test", 4)), options = { resolution: 32 };
  const first = augment(one, new Random(8, "augment", 0), options);
  assert.deepEqual(augment(one, new Random(8, "augment", 0), options), first);
  const views = Array.from({ length: 8 }, (_, i) => augment(one, new Random(8, "augment", i), options).mask.join(""));
  assert.equal(new Set(views).size, 8);
});

Deno.test("augment: with everything switched off nothing changes", () => {
  const one = sample(32, new Random(9, "augment-test", 1));
  const still = { resolution: 32, probability: 0 };
  assert.deepEqual([...augment(one, new Random(1, "augment"), still).mask], [...one.mask.data]);
  const image = augment(one, new Random(1, "augment"), still).image;
  assert.ok(image.every((value, i) => Math.abs(value - (one.image.data[i] / 127.5 - 1)) < 1e-6));
  const mirror = augment(one, new Random(1, "augment"), {
    resolution: 32,
    rotation: 0,
    minCrop: 1,
    verticalFlip: false,
  });
  const plain = one.mask.data, flipped = plain.map((_, i) => plain[Math.floor(i / 32) * 32 + 31 - i % 32]);
  assert.ok([plain, flipped].some((expected) => expected.every((value, i) => value === mirror.mask[i])));
});

Deno.test("augment: a sample that is not square or marks nothing is refused", () => {
  const mask: Mask = { width: 4, height: 4, channels: 1, data: new Uint8Array(16) };
  assert.throws(
    () => augment({ image: picture(mask), mask }, new Random(1, "a"), { resolution: 4 }),
    /the mask is empty/,
  );
  const wide: Mask = { width: 8, height: 2, channels: 1, data: new Uint8Array(16).fill(1) };
  assert.throws(
    () => augment({ image: picture(wide), mask: wide }, new Random(1, "a"), { resolution: 4 }),
    /must be square/,
  );
});

Deno.test("augment: a mask made smaller keeps its area, and a thin line never vanishes", () => {
  const line: Mask = {
    width: 64,
    height: 64,
    channels: 1,
    data: Uint8Array.from({ length: 4096 }, (_, i) => i % 64 === 30 ? 1 : 0),
  };
  assert.equal(share(resizeMask(line, 16, 16).data), 1 / 16);
  const box: Mask = {
    width: 8,
    height: 8,
    channels: 1,
    data: Uint8Array.from({ length: 64 }, (_, i) => i % 8 < 4 ? 1 : 0),
  };
  assert.deepEqual([...resizeMask(box, 4, 1).data], [1, 1, 0, 0]);
  assert.equal(share(resizeMask({ ...box, data: new Uint8Array(64) }, 4, 4).data), 0);
  const prepared = prepareSample({
    image: picture({ ...line, width: 128, height: 32 }),
    mask: { ...line, width: 128, height: 32 },
  }, 32);
  assert.deepEqual([prepared.image.width, prepared.image.height, prepared.mask.data.length], [32, 32, 1024]);
});

Deno.test("augment: a speck between the samples is marked where it lands, and nothing for what lies outside the view", () => {
  const specks = (...at: number[]): Mask => {
    const data = new Uint8Array(128 * 128);
    for (const i of at) data[i] = 1;
    return { width: 128, height: 128, channels: 1, data };
  };
  const keep = specks(20 * 128 + 20), both = specks(20 * 128 + 20, 20 * 128 + 120), image = picture(keep);
  const view = (mask: Mask, index: number) =>
    augment({ image, mask }, new Random(12, "augment-test", index), {
      ...{ resolution: 8, rotation: 0, minCrop: 0.25, maxCrop: 0.25, horizontalFlip: false, verticalFlip: false },
      keep,
    }).mask;
  for (let index = 0; index < 100; index++) {
    assert.deepEqual(view(both, index), view(keep, index), `view ${index}`);
    assert.equal(view(keep, index).reduce((sum, v) => sum + v, 0), 1);
  }
});

Deno.test("augment: the official variant shares one crop, rotates one way, and leaves half of the batches alone", () => {
  let plain = 0;
  for (let index = 0; index < 200; index++) {
    const batch = [0, 1].map((i) => sample(32, new Random(10, "augment-test", 2 * index + i)));
    const views = augmentOfficial(batch, new Random(11, "augment", index), 16);
    assert.deepEqual(views, augmentOfficial(batch, new Random(11, "augment", index), 16));
    assert.deepEqual(views.map((view) => [view.image.length, view.mask.length]), [[768, 256], [768, 256]]);
    assert.ok(
      views.every(({ image, mask }) => image.every((v) => Math.abs(v) <= 1) && mask.every((v) => v >= 0 && v <= 1)),
    );
    // 2× bilinear without antialiasing is the mean of 2×2 pixels.
    const { data } = batch[0].mask;
    const untouched = views[0].mask.every((value, i) => {
      const at = Math.floor(i / 16) * 64 + i % 16 * 2;
      return Math.abs(value - (data[at] + data[at + 1] + data[at + 32] + data[at + 33]) / 4) < 1e-6;
    });
    if (untouched) plain++;
  }
  assert.ok(plain >= 75 && plain <= 130, `${plain} of 200 untouched`);
});
