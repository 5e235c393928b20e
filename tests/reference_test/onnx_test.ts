/** The reference operations against onnxruntime-web, in float32: a second opinion that shares no line with ours. */
import assert from "node:assert/strict";
import { assertClose } from "../support/arrays.ts";
import { onnxCases } from "../support/onnx_cases.ts";
import { references } from "../reference/table.ts";

/** Float32 against float64: a few units in the last place, grown by sums of up to 150 terms. */
const TOLERANCE = 5e-6;

for (const op of new Set(onnxCases.map((item) => item.op))) {
  Deno.test(`onnx: ${op}`, async () => {
    for (const { label, inputs, options, expected } of onnxCases.filter((item) => item.op === op)) {
      assertClose(references[op].forward(inputs, options), await expected(), TOLERANCE, `${op} ${label}`);
    }
  });
}

Deno.test("onnx: a graph whose nodes do not fit its inputs is refused, not ignored", async () => {
  const { OnnxGraph } = await import("../support/onnx.ts");
  const { ndarray } = await import("../support/arrays.ts");
  const g = new OnnxGraph();
  await assert.rejects(g.run(g.node("MatMul", [g.input(ndarray([2, 3])), g.input(ndarray([2, 3]))])));
});
