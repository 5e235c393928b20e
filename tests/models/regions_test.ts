/** A U-Net with two texts: pixels inside a mask attend to one, those outside to the other. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { mul } from "../../src/graph/ops/pointwise.ts";
import { mean } from "../../src/graph/ops/reduce.ts";
import { reshape } from "../../src/graph/ops/shape.ts";
import { input } from "../../src/graph/variable.ts";
import { timestepEmbedding, unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { Random } from "../../src/random/philox.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { assertClose, relativeL2 } from "../support/close.ts";
import { gpu } from "../support/ops.ts";
import { tinyModelConfig } from "../support/tiny_model.ts";

const config = tinyModelConfig().unet, side = 8, shape = [1, side, side, 4], text = [1, 24, config.contextDim];
const x = input("x", shape), time = input("time", [1, config.modelChannels]), mask = input("mask", [1, side, side, 1]);
const inside = input("inside", text), outside = input("outside", text);
const draw = (name: string, size: number, scale = 1) => new Random(1, name).normals(size).map((v) => scale * v);
/** The two texts; of loud ones more can be seen, of others the gradient is a slope. */
const texts = (scale: number) => ["defect", "surface"].map((name) => draw(name, 24 * config.contextDim, scale));
const feed = { x: draw("x", side * side * 4), time: timestepEmbedding([400], config.modelChannels) };
const masks = { none: () => 0, all: () => 1, left: (i: number) => i % side < 3 ? 1 : 0 };
const maskOf = (name: keyof typeof masks) => Float32Array.from({ length: side * side }, (_, i) => masks[name](i));

Deno.test({
  name: "two texts: with an empty mask the outer counts alone, with a full one the inner, equal ones are one",
  sanitizeResources: false,
  async fn() {
    using parameters = new Parameters(new FormulaWeights("regions"), torchLayouts);
    using both = compile(gpu, { y: unet(config, parameters, x, time, inside, undefined, { mask, context: outside }) });
    using one = compile(gpu, { y: unet(config, parameters, x, time, inside) });
    const two = async (a: Float32Array, b: Float32Array, name: keyof typeof masks) =>
      (await both.run({ ...feed, mask: maskOf(name), inside: a, outside: b })).y;
    const single = async (words: Float32Array) => (await one.run({ ...feed, inside: words })).y;
    const [defect, surface] = texts(30), ofDefect = await single(defect), ofSurface = await single(surface);
    assert.ok(relativeL2(ofDefect, ofSurface) > 0.01, "the text changes nothing");
    assertClose(await two(defect, surface, "all"), ofDefect, 1e-5, "a full mask");
    assertClose(await two(defect, surface, "none"), ofSurface, 1e-5, "an empty mask");
    assertClose(await two(defect, defect, "left"), ofDefect, 1e-5, "one text");
    const mixed = await two(defect, surface, "left");
    assert.ok(relativeL2(mixed, ofDefect) > 1e-3 && relativeL2(mixed, ofSurface) > 1e-3, "the mask changes nothing");
  },
});

Deno.test({
  name: "two texts: each has its gradient, and none where no pixel attends to it",
  sanitizeResources: false,
  async fn() {
    using parameters = new Parameters(new FormulaWeights("regions"), torchLayouts);
    const y = unet(config, parameters, x, time, inside, undefined, { mask, context: outside });
    const loss = reshape(mean(mul(y, y)), [1]), [a, b] = gradient(loss, [inside, outside]);
    using program = compile(gpu, { loss, a, b });
    const [defect, surface] = texts(3);
    const run = (name: keyof typeof masks, own: Float32Array = defect, other: Float32Array = surface) =>
      program.run({ ...feed, mask: maskOf(name), inside: own, outside: other });
    const size = (v: Float32Array) => Math.hypot(...v);
    const [left, all, none] = [await run("left"), await run("all"), await run("none")];
    assert.ok(size(left.a) > 0 && size(left.b) > 0);
    assert.ok(size(all.b) === 0 && size(all.a) > 0, "the outer text under a full mask");
    assert.ok(size(none.a) === 0 && size(none.b) > 0, "the inner text under an empty mask");
    // Along its own gradient each text moves the loss by what the gradient says.
    for (const [name, words] of [["a", defect], ["b", surface]] as const) {
      const g = left[name], norm = size(g), h = 0.1;
      const moved = (by: number) => words.map((v, i) => v + by * g[i] / norm);
      const at = async (by: number) =>
        (await (name === "a" ? run("left", moved(by)) : run("left", defect, moved(by)))).loss[0];
      const slope = (await at(h) - await at(-h)) / (2 * h);
      assert.ok(Math.abs(slope / norm - 1) < 0.01, `${name}: ${slope} for ${norm}`);
    }
  },
});
