/** Initial weights, learning rates, captions and vocabulary of pretraining. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { fileURLToPath } from "node:url";
import { input } from "../../src/graph/variable.ts";
import { encode } from "../../src/models/autoencoder.ts";
import { captionOf, folderImages, mixedImages, proceduralImages, withWords } from "../../src/pretraining/images.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import { averageDecay, smallModelConfig, unetRate } from "../../src/pretraining/recipe.ts";
import { lossWeight } from "../../src/diffusion/schedule.ts";
import { rateAt } from "../../src/nn/learning_rate.ts";
import { captionedUnet } from "../../src/pretraining/unet.ts";
import { savePng } from "../../src/data/image.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { checkModelConfig } from "../../src/weights/config.ts";
import { tinyConfig, tinyImages } from "./tiny.ts";

/** Initial values of a tiny U-Net with its text tower. */
async function initial(seed: number) {
  const config = tinyConfig();
  using p = newParameters(seed);
  captionedUnet(config, p, input("x", [1, 8, 8, 4]), input("time", [1, 32]), input("ids", [1, 8], "u32"));
  return await p.store();
}

Deno.test("initial weights: bounds by fan-in, ones, zeros, tables", async () => {
  const stored = await initial(7), at = (name: string) => stored.get(`model.diffusion_model.${name}`)!;
  const largest = (values: Float32Array) => values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const bound = 1 / Math.sqrt(9 * 32), conv = at("input_blocks.1.0.in_layers.2.weight");
  assert.deepEqual(conv.shape, [32, 32, 3, 3]);
  assert.ok(largest(conv.data) <= bound && largest(conv.data) > 0.99 * bound);
  const bias = at("input_blocks.1.0.in_layers.2.bias").data;
  assert.ok(largest(bias) <= bound && largest(bias) > 0.8 * bound);
  assert.ok(at("input_blocks.1.0.in_layers.0.weight").data.every((v) => v === 1));
  assert.ok(at("input_blocks.1.0.in_layers.0.bias").data.every((v) => v === 0));
  for (const name of ["input_blocks.1.0.out_layers.3", "middle_block.1.proj_out", "out.2"]) {
    assert.ok(at(`${name}.weight`).data.every((v) => v === 0), name);
    assert.ok(at(`${name}.bias`).data.every((v) => v === 0), name);
  }
  const { data } = stored.get("cond_stage_model.transformer.token_emb.weight")!;
  const deviation = Math.sqrt(data.reduce((sum, v) => sum + v * v, 0) / data.length);
  assert.ok(Math.abs(deviation - 0.1) < 0.02, `deviation ${deviation}`);
  assert.deepEqual(await initial(7), stored);
  assert.notDeepEqual((await initial(8)).get("model.diffusion_model.time_embed.0.weight"), at("time_embed.0.weight"));
});

Deno.test("initial weights of the autoencoder: the scale of the input kept, branches of zeros, a narrow posterior", async () => {
  const { autoencoder } = tinyConfig();
  using p = newParameters(7);
  encode(autoencoder, p, input("image", [1, 32, 32, 3]));
  const stored = await p.store(), at = (name: string) => stored.get(`first_stage_model.${name}`)!.data;
  const deviation = (v: Float32Array) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0) / v.length);
  assert.ok(Math.abs(deviation(at("encoder.mid.block_1.conv1.weight")) * Math.sqrt(9 * 32) - 1) < 0.03);
  assert.ok(at("encoder.mid.block_1.conv1.bias").every((v) => v === 0));
  assert.ok(at("encoder.mid.block_1.conv2.weight").every((v) => v === 0));
  assert.ok(at("encoder.norm_out.weight").every((v) => v === 1));
  assert.deepEqual([...at("quant_conv.bias")], [0, 0, 0, 0, -4, -4, -4, -4]);
  const last = at("quant_conv.weight"), half = last.length / 2;
  const ratio = deviation(last.subarray(half)) / deviation(last.subarray(0, half));
  assert.ok(ratio > 0.03 && ratio < 0.08, `ratio ${ratio}`);
});

Deno.test("learning rate: up, flat, down to its rest", () => {
  const rate = (step: number) => rateAt(step, 1000, 2, unetRate);
  assert.equal(rate(0), 2 / 200);
  assert.equal(rate(199), 2);
  assert.equal(rate(700), 2);
  assert.ok(Math.abs(rate(850) - 2 * (0.01 + 0.99 / 2)) < 1e-12);
  assert.ok(Math.abs(rate(1000) - 0.02) < 1e-12);
});

Deno.test("loss weights and averaging", () => {
  const { alphasCumprod } = createSchedule();
  assert.equal(lossWeight(alphasCumprod[999]), 1);
  const early = alphasCumprod[0];
  assert.ok(Math.abs(lossWeight(early) - 5 * (1 - early) / early) < 1e-15);
  assert.equal(averageDecay(1, 0.999), 2 / 11);
  assert.equal(averageDecay(1e6, 0.999), 0.999);
});

Deno.test("the small model's sizes are valid ones", () => {
  assert.equal(checkModelConfig(smallModelConfig(100), "config").unet.modelChannels, 64);
});

Deno.test("captions come from the folders that say something", () => {
  assert.equal(captionOf([]), "a photo");
  assert.equal(captionOf(["Metal_Nut", "train", "good"]), "a photo of a metal nut");
});

Deno.test("new words go behind the ones that are there", () => {
  assert.deepEqual(withWords(["[PAD]", "a"], ["a b", "b c"]), ["[PAD]", "a", "b", "c"]);
});

Deno.test("a folder in MVTec layout gives its normal images", async () => {
  const root = await Deno.makeTempDir();
  try {
    for (const [folder, value] of [["nut/train/good", 10], ["nut/test/crack", 250], ["gear", 90]] as const) {
      await Deno.mkdir(`${root}/${folder}`, { recursive: true });
      savePng(`${root}/${folder}/0.png`, {
        width: 8,
        height: 6,
        channels: 3,
        data: new Uint8ClampedArray(8 * 6 * 3).fill(value),
      });
    }
    await Deno.writeTextFile(`${root}/gear/1.tif`, "");
    const lines: string[] = [], images = await folderImages(root, 32, undefined, (line) => void lines.push(line));
    assert.match(lines.join(), /^warning: .*: 1 \.tif; convert them to PNG$/);
    assert.equal(images.count, 2);
    assert.deepEqual([0, 1].map((i) => images.caption(i)), ["a photo of a gear", "a photo of a nut"]);
    // The vocabulary takes the words of both kinds: it has those of procedural pictures, the folder's are told.
    assert.deepEqual(images.newCaptions, ["a photo of a gear", "a photo of a nut"]);
    assert.deepEqual(mixedImages(images, proceduralImages(1, 3, 32)).newCaptions, images.newCaptions);
    assert.equal(images.pixels(0).length, 32 * 32 * 3);
    assert.deepEqual([0, 1].map((i) => images.pixels(i)[500]), [90, 10]);
    await assert.rejects(() => folderImages(`${root}/nut/test`, 32), /0 images|1 images/);
    await assert.rejects(() => folderImages(`${root}/nowhere`, 32), /no such folder/);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("procedural pictures depend on seed and number, at any side", () => {
  const a = proceduralImages(1, 10, 128), b = proceduralImages(1, 10, 64);
  assert.deepEqual(a.pixels(3), proceduralImages(1, 5, 128).pixels(3));
  assert.equal(b.pixels(3).length, 64 * 64 * 3);
  assert.equal(a.caption(3), b.caption(3));
  const mean = (values: Uint8Array) => values.reduce((sum, v) => sum + v, 0) / values.length;
  assert.ok(Math.abs(mean(a.pixels(3)) - mean(b.pixels(3))) < 1);
});

Deno.test("procedural pictures of several forms take turns, and say where their damage is", () => {
  const both = proceduralImages(1, 16, 128, { forms: ["whole", "close"] }), whole = proceduralImages(1, 8, 128);
  const close = proceduralImages(1, 8, 128, { forms: ["close"], cells: 8 });
  let damaged = 0;
  for (let i = 0; i < 8; i++) {
    for (const [k, one] of [whole, close].entries()) {
      assert.deepEqual(both.pixels(2 * i + k), one.pixels(i));
      assert.equal(both.caption(2 * i + k), one.caption(i));
      assert.deepEqual(both.damage(2 * i + k).words, one.damage(i).words);
    }
    // A cell of 8 is damaged where one of its four of 16 is.
    const four = new Set(both.damage(2 * i + 1).cells.map((cell) => 8 * (cell >> 5) + ((cell & 15) >> 1)));
    assert.deepEqual(close.damage(i).cells, [...four].sort((a, b) => a - b));
    // A cell is damaged where one of its squares of 2 × 2 pixels is, 8 in a row.
    const cellsOf = new Set([...close.damagedSquares(i)].map((at) => 8 * (at >> 9) + ((at & 63) >> 3)));
    assert.deepEqual([...cellsOf].sort((a, b) => a - b), close.damage(i).cells);
    assert.deepEqual(both.damagedSquares(2 * i + 1), close.damagedSquares(i));
    if (cellsOf.size) damaged++;
  }
  assert.ok(damaged > 0 && damaged < 8, `${damaged} of 8 damaged`);
});

Deno.test("a form that is named twice has two turns, and no picture of it comes twice", () => {
  const set = proceduralImages(1, 6, 128, { forms: ["close", "whole", "close"] });
  const close = proceduralImages(1, 4, 128, { forms: ["close"] }), whole = proceduralImages(1, 2, 128);
  const expected = [[close, 0], [whole, 0], [close, 1], [close, 2], [whole, 1], [close, 3]] as const;
  for (const [i, [one, at]] of expected.entries()) {
    assert.equal(set.caption(i), one.caption(at));
    assert.ok(Buffer.compare(set.pixels(i), one.pixels(at)) === 0, `picture ${i}`);
  }
});

Deno.test("normal images and procedural pictures in one set: each once, evenly mixed, normal ones without damage", () => {
  for (const [normalCount, drawnCount] of [[3, 7], [7, 3], [4, 4], [1, 2000]]) {
    const normal = { ...tinyImages(normalCount), caption: (i: number) => `own ${i}`, newCaptions: ["own"] };
    const pixels = (i: number) => Uint8Array.of(i >> 8, i);
    const damage = (i: number) => ({ cells: [i], words: [1] });
    const damagedSquares = (i: number) => Uint16Array.of(i, i + 1), caption = (i: number) => `drawn ${i}`;
    const set = mixedImages(normal, { count: drawnCount, side: 32, caption, pixels, damage, damagedSquares });
    assert.equal(set.count, normalCount + drawnCount);
    assert.deepEqual(set.newCaptions, ["own"]);
    const next = { own: 0, drawn: 0 };
    for (let i = 0; i < set.count; i++) {
      const [kind, at] = set.caption(i).split(" ") as ["own" | "drawn", string];
      assert.equal(Number(at), next[kind]++);
      const source = kind === "own" ? normal.pixels(+at) : pixels(+at);
      assert.ok(Buffer.compare(set.pixels(i), source) === 0, `picture ${i}`);
      assert.deepEqual(set.damage(i), kind === "own" ? { cells: [], words: [] } : damage(+at));
      assert.deepEqual(set.damagedSquares(i), kind === "own" ? new Uint16Array() : damagedSquares(+at));
      assert.ok(Math.abs(next.drawn - (i + 1) * drawnCount / set.count) < 1, `${next.drawn} drawn of ${i + 1}`);
    }
    assert.deepEqual(next, { own: normalCount, drawn: drawnCount });
  }
  const drawn = proceduralImages(1, 4, 64);
  assert.throws(() => mixedImages(tinyImages(), drawn), /32 and 64/);
});

Deno.test("the recipe's sizes are those of the model that ships", () => {
  const path = fileURLToPath(new URL("../../fixtures/small-ldm/config.json", import.meta.url));
  const { training: _, ...shipped } = JSON.parse(Deno.readTextFileSync(path));
  assert.deepEqual(smallModelConfig(shipped.text.vocabSize), shipped);
});
