import assert from "node:assert/strict";
import { fnv1a } from "../../src/random/philox.ts";
import { FormulaWeights, noise, u } from "../../src/weights/formula.ts";

Deno.test("formula: the known answers, to the last bit", () => {
  assert.equal(fnv1a("alpha/x"), 0x2b68ad5c);
  assert.deepEqual([...u("alpha", "x", [3])], [-0.07512232661247253, 0.6480016708374023, 0.38511165976524353]);
  assert.deepEqual([...noise("alpha", "x", [3])], [-0.13011568784713745, 1.122371792793274, 0.6670329570770264]);
  const kernel = new FormulaWeights("alpha").get("model.diffusion_model.input_blocks.0.0.weight", [32, 4, 3, 3]);
  assert.equal(kernel.length, 32 * 4 * 9);
  assert.deepEqual([...kernel.subarray(0, 3)], [-0.17542707920074463, 0.061959292739629745, -0.02585945837199688]);
});

Deno.test("formula: each kind of tensor has its scale and offset", () => {
  const weights = new FormulaWeights("alpha"),
    range = (values: Float32Array) => [Math.min(...values), Math.max(...values)];
  const inside = (name: string, shape: number[], low: number, high: number) => {
    const [least, most] = range(weights.get(name, shape)), span = high - low;
    assert.ok(least >= low && most <= high, `${name}: ${least} … ${most}`);
    assert.ok(most - least > 0.95 * span, `${name} fills only ${most - least} of ${span}`);
  };
  inside("a.bias", [4096], -0.1, 0.1000001);
  inside("a.weight", [4096], 0.8, 1.2);
  inside("bn.running_mean", [4096], -0.1, 0.1000001);
  inside("bn.running_var", [4096], 0.8, 1.2);
  inside("bn.prelu", [64, 48], -0.25, 0.25);
});

Deno.test("formula: salt and name both matter, and the shape's leading part does not", () => {
  assert.notDeepEqual(u("alpha", "x", [8]), u("beta", "x", [8]));
  assert.notDeepEqual(u("alpha", "x", [8]), u("alpha", "y", [8]));
  assert.deepEqual(u("alpha", "x", [2, 4]), u("alpha", "x", [3, 3]).subarray(0, 8));
});
