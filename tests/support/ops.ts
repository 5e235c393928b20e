/**
 * Runs an op on the GPU, forward and backward, and holds both against float64 references.
 */
import assert from "node:assert/strict";
import { type Gpu, Gpu as Device } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { plan } from "../../src/graph/plan.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, Variable } from "../../src/graph/variable.ts";
import { assertClose, type NDArray, normals } from "./arrays.ts";

/** One device for a test file. Fails, never skips, where there is no adapter. */
export const gpu: Gpu = await Device.open();

/** An op under test. */
export interface OpCase {
  readonly name: string;
  /** Inputs of the graph, in f32 values. */
  readonly inputs: readonly NDArray[];
  /** Storage of each input, default f32. u32 inputs have no gradient. */
  readonly dtypes?: readonly ("f32" | "f16" | "u32")[];
  /** Builds the graph. */
  readonly build: (...inputs: Tensor[]) => Tensor;
  /** Expected output. */
  readonly forward: (...inputs: NDArray[]) => NDArray;
  /** Expected gradients of the inputs in `wrt`, for the gradient dy at the output. */
  readonly backward?: (dy: NDArray, ...inputs: NDArray[]) => readonly NDArray[];
  /** Which inputs get a gradient; default all that are not u32. */
  readonly wrt?: readonly number[];
  /** Largest |error| ∕ max(1, max |expected|), default 2e-5. */
  readonly tolerance?: number;
  readonly backwardTolerance?: number;
}

async function run(outputs: Record<string, Tensor>): Promise<Record<string, Float32Array>> {
  using program = compile(gpu, outputs);
  return await program.run();
}

/**
 * Compares forward and gradients with the references; with and without subgroups, where kernels differ, bit by bit; and once more
 * with what other kinds of adapters (cards, or others) do, where that differs.
 */
export async function checkOp(test: OpCase): Promise<void> {
  const variables = test.inputs.map((array, i) => {
    const dtype = test.dtypes?.[i] ?? "f32";
    const data = dtype === "u32" ? Uint32Array.from(array.data) : Float32Array.from(array.data);
    return new Variable(`input ${i}`, array.shape, data, dtype);
  });
  // What f16 storage keeps is what the reference is given.
  const inputs = test.inputs.map((array, i) =>
    test.dtypes?.[i] === "f16" ? { ...array, data: Float64Array.from(new Float16Array(array.data)) } : array
  );
  const y = test.build(...variables.map((v) => v.tensor));
  const outputs: Record<string, Tensor> = { y };
  const wrt = test.wrt ?? variables.flatMap((v, i) => (v.dtype === "u32" ? [] : [i]));
  const dy = normals(y.shape, `${test.name}/dy`);
  if (test.backward) {
    const seed = constant(Float32Array.from(dy.data), y.shape);
    gradient(y, wrt.map((i) => variables[i].tensor), seed).forEach((grad, k) => outputs[`d${wrt[k]}`] = grad);
  }
  const ways = plan(Object.values(outputs)).launches.map(({ alternatives }) => alternatives), { card } = gpu;
  const results = await run(outputs), all = [{ results, how: "" }];
  if (ways.some((alternatives) => alternatives?.card)) {
    gpu.card = !card;
    try {
      all.push({ results: await run(outputs), how: gpu.card ? " as on a card" : " as on no card" });
    } finally {
      gpu.card = card;
    }
  }
  if (gpu.subgroups && !card && ways.some((alternatives) => alternatives?.subgroups)) {
    gpu.subgroups = false;
    try {
      for (const [name, values] of Object.entries(await run(outputs))) {
        assert.deepEqual(values, results[name], `${test.name}: ${name} has other bytes without subgroups`);
      }
    } finally {
      gpu.subgroups = true;
    }
  }
  for (const variable of variables) variable[Symbol.dispose]();
  const expected = test.forward(...inputs);
  const gradients = test.backward?.(dy, ...inputs) ?? [];
  for (const { results, how } of all) {
    const name = test.name + how;
    assertClose({ shape: y.shape, data: results.y }, expected, test.tolerance ?? 2e-5, `${name} forward`);
    gradients.forEach((grad, k) => {
      const tolerance = test.backwardTolerance ?? 2 * (test.tolerance ?? 2e-5);
      assertClose({ shape: grad.shape, data: results[`d${wrt[k]}`] }, grad, tolerance, `${name} gradient ${wrt[k]}`);
    });
  }
}

/** Registers a test per case. */
export function testOps(cases: readonly OpCase[]): void {
  for (const test of cases) {
    Deno.test({ name: test.name, fn: () => checkOp(test), sanitizeResources: false, sanitizeOps: false });
  }
}
