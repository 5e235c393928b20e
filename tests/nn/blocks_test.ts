/** Weights larger than one binding: kept in blocks of their outputs, with the same results. */
import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { mul } from "../../src/graph/ops/pointwise.ts";
import { input } from "../../src/graph/variable.ts";
import { convLayer, linearLayer } from "../../src/nn/layers.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { Random } from "../../src/random/philox.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { assertClose } from "../support/close.ts";

const limits = { maxStorageBufferBindingSize: 128 * 2 ** 20, maxStorageBuffersPerShaderStage: 8 };

/** A matrix and two convolutions, forward and backward to the input. */
function graph(p: Parameters) {
  const x = input("x", [2, 5, 5, 12]);
  const y = linearLayer(p, "last", convLayer(p, "second", convLayer(p, "first", x, 22), 30, 1), 15);
  const [slope] = gradient(sum(mul(y, y)), [x]);
  return { y, slope };
}

for (const dtype of ["f32", "f16"] as const) {
  Deno.test({
    name: `weights in blocks, ${dtype}: an adapter that binds 12 kB at a time computes what one without limits does`,
    sanitizeResources: false,
    async fn() {
      const x = new Random(2, "x").normals(2 * 5 * 5 * 12);
      // Values and their gradients are within 12,000 bytes; the first kernel has 9,504.
      using gpu = await Gpu.open({ limits: { ...limits, maxStorageBufferBindingSize: 12_032 } });
      using whole = new Parameters(new FormulaWeights("blocks"), torchLayouts, dtype);
      using blocks = new Parameters(new FormulaWeights("blocks"), torchLayouts, dtype, 700);
      using one = compile(gpu, graph(whole)), many = compile(gpu, graph(blocks));
      assert.ok(blocks.variables.size > 3 * whole.variables.size, `${[...blocks.variables.keys()]}`);
      for (const { name, shape } of blocks.variables.values()) {
        const width = shape.at(-1)!, bytes = shape.reduce((a, b) => a * b, 1) * 4;
        assert.ok(bytes <= 1400 || width <= 2, `${name} [${shape}]`);
      }
      const expected = await one.run({ x }), actual = await many.run({ x });
      assert.deepEqual(actual.y, expected.y);
      assertClose(actual.slope, expected.slope, 1e-6, "gradient of the input");

      const stored = await blocks.store();
      assert.deepEqual(stored, await whole.store());
      whole.restore(
        new Map([...stored].map(([name, { shape, data }]) => [name, { shape, data: data.map((v) => -v) }])),
      );
      blocks.restore(await whole.store());
      assert.deepEqual(await blocks.store(), await whole.store());
    },
  });
}

Deno.test({
  name: "a matrix of 130 MiB on an adapter that binds 128 MiB and 8 buffers",
  sanitizeResources: false,
  async fn() {
    const inputs = 1024, outputs = 130 * 256;
    using gpu = await Gpu.open({ limits });
    assert.equal(gpu.device.limits.maxStorageBufferBindingSize, limits.maxStorageBufferBindingSize);
    assert.equal(gpu.device.limits.maxStorageBuffersPerShaderStage, 8);
    const cell = (o: number, i: number) => ((o * 31 + i * 7) % 17) - 8;
    const weights = {
      get: (_: string, [rows, columns]: readonly number[]) =>
        Float32Array.from({ length: rows * columns }, (_, k) => cell(Math.floor(k / columns), k % columns)),
    };
    using p = new Parameters(weights, torchLayouts);
    using program = compile(gpu, { y: linearLayer(p, "large", input("x", [1, inputs]), outputs, false) });
    assert.equal(p.variables.size, 2);
    const x = Float32Array.from({ length: inputs }, (_, i) => i % 3 - 1), { y } = await program.run({ x });
    // Whole numbers: exact in any order.
    for (const o of [0, 1, 16383, 32767, 32768, outputs - 1]) {
      assert.equal(y[o], x.reduce((total, v, i) => total + v * cell(o, i), 0), `output ${o}`);
    }
  },
});
