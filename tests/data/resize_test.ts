import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type Filter, resize, resizeTensor, type TensorMode } from "../../src/data/resize.ts";
import { u } from "../../src/weights/formula.ts";

/** SHA-256 (first 16 digits) of what Pillow 13.0.0 made of a 53×37 RGB image of formula noise. */
const pillow: [Filter, number, number, string][] = [
  ["nearest", 16, 16, "1877a99b6f319b6c"],
  ["nearest", 100, 71, "bbd7904cd46b3b17"],
  ["nearest", 53, 20, "8285284b83c11abe"],
  ["nearest", 30, 37, "0c986f92bd0e94be"],
  ["nearest", 1, 1, "2d657b035f937ce2"],
  ["box", 16, 16, "55f6c33af996361d"],
  ["box", 100, 71, "bbd7904cd46b3b17"],
  ["box", 53, 20, "f24dfbeda189d6d4"],
  ["box", 30, 37, "2126d939353a24ac"],
  ["box", 1, 1, "25d420b0ac693f16"],
  ["bilinear", 16, 16, "a398a0d6e6a9d685"],
  ["bilinear", 100, 71, "d5f44e34fb4615cf"],
  ["bilinear", 53, 20, "c00bbfd567f8c592"],
  ["bilinear", 30, 37, "f9d12f216ef90a10"],
  ["bilinear", 1, 1, "4150adec90d7f45c"],
  ["bicubic", 16, 16, "fae2791a6505d42f"],
  ["bicubic", 100, 71, "54401bef2aec2c22"],
  ["bicubic", 53, 20, "928cd14b6711abb5"],
  ["bicubic", 30, 37, "e1db3f97bf57e148"],
  ["bicubic", 1, 1, "4150adec90d7f45c"],
];

Deno.test("resize: Pillow's bytes, bit for bit, in every filter", () => {
  const data = Uint8Array.from(u("pil", "image", [37, 53, 3]), (value) => Math.floor((value + 1) * 128));
  for (const [filter, width, height, digest] of pillow) {
    const out = resize({ width: 53, height: 37, channels: 3, data }, width, height, filter);
    assert.equal(out.data.length, width * height * 3);
    assert.equal(
      createHash("sha256").update(out.data).digest("hex").slice(0, 16),
      digest,
      `${filter} ${width}×${height}`,
    );
  }
});

Deno.test("resize: keeps the array's type and leaves its argument alone", () => {
  const clamped = { width: 2, height: 1, channels: 1, data: Uint8ClampedArray.of(0, 255) };
  assert.ok(resize(clamped, 4, 1, "bicubic").data instanceof Uint8ClampedArray);
  const same = resize(clamped, 2, 1, "bicubic");
  same.data[0] = 9;
  assert.equal(clamped.data[0], 0);
  const plain = { ...clamped, data: Uint8Array.of(0, 255) };
  assert.ok(!(resize(plain, 4, 1, "bilinear").data instanceof Uint8ClampedArray));
});

/** `torch.nn.functional.interpolate` of formula noise [2, 10, 12, 3]: Σ out[i]·cos(i), and four elements. */
const torch: [TensorMode, [number, number], number, number[]][] = [
  ["nearest", [4, 5], 7.126843681794772, [
    0.48674827814102173,
    -0.03492682799696922,
    0.15059606730937958,
    0.7064939737319946,
  ]],
  ["nearest", [17, 24], -1.6252859122632404, [
    0.48674827814102173,
    0.3661053478717804,
    0.15059606730937958,
    -0.8606245517730713,
  ]],
  ["nearest", [10, 3], 1.7429254793393003, [
    0.48674827814102173,
    -0.4703713059425354,
    0.15059606730937958,
    0.6834893226623535,
  ]],
  ["bilinear", [4, 5], 0.858953722553173, [
    0.458254337310791,
    -0.12963101267814636,
    0.13882789015769958,
    0.005981013644486666,
  ]],
  ["bilinear", [17, 24], 0.7148118571728439, [
    0.48674827814102173,
    0.228829488158226,
    0.15059606730937958,
    -0.8606245517730713,
  ]],
  ["bilinear", [10, 3], -2.8968037959270783, [
    -0.27269038558006287,
    0.31059926748275757,
    -0.25998109579086304,
    -0.22037747502326965,
  ]],
  ["area", [4, 5], 0.301742081059287, [
    0.12717507779598236,
    0.013828405179083347,
    0.0004229247570037842,
    -0.13836799561977386,
  ]],
  ["area", [17, 24], -0.07375664543793048, [
    0.48674827814102173,
    0.3661053478717804,
    0.15059606730937958,
    -0.8606245517730713,
  ]],
  ["area", [10, 3], -1.474066979991475, [
    0.2289152592420578,
    -0.03804109990596771,
    -0.06104916334152222,
    -0.15447254478931427,
  ]],
];

Deno.test("resize: PyTorch's interpolate without antialiasing", () => {
  const data = u("torch", "image", [2, 10, 12, 3]);
  for (const [mode, size, sum, samples] of torch) {
    const out = resizeTensor(data, { count: 2, height: 10, width: 12, channels: 3 }, size, mode);
    assert.equal(out.length, 2 * size[0] * size[1] * 3);
    const found = out.reduce((total, value, i) => total + value * Math.cos(i), 0);
    assert.ok(Math.abs(found - sum) < 1e-5, `${mode} ${size}: ${found}`);
    [0, 7, Math.floor(out.length / 2) + 1, out.length - 1].forEach((at, i) => {
      assert.ok(Math.abs(out[at] - samples[i]) < 1e-6, `${mode} ${size} [${at}]: ${out[at]}`);
    });
  }
});

Deno.test("resize: 8× bilinear without antialiasing is the mean of the central 2×2 of each cell", () => {
  const data = u("torch", "mask", [64, 64]);
  const out = resizeTensor(data, { height: 64, width: 64 }, [8, 8], "bilinear");
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) {
      const at = (y * 8 + 3) * 64 + x * 8 + 3;
      assert.ok(Math.abs(out[y * 8 + x] - (data[at] + data[at + 1] + data[at + 64] + data[at + 65]) / 4) < 1e-6);
    }
  }
});
