/** Loops and conditions whose outcome follows from the uniforms alone: Mesa 22.3 keeps a shader for each of their dispatches. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { Gpu } from "../../src/gpu/device.ts";
import { compile } from "../../src/graph/compile.ts";
import { add, conv2d, linear } from "../../src/graph/ops/mod.ts";
import type { DType, Tensor } from "../../src/graph/tensor.ts";
import { Variable } from "../../src/graph/variable.ts";

const FOLDER = new URL("../../shaders/", import.meta.url);

/** Whether an expression holds more than uniforms and numbers, and if not, whether uniforms are in it. */
function foreseen(expression: string): "no" | "constant" | "uniform" {
  const rest = expression.replace(/\b(min|max|u32|i32|f32)\(/g, "(").replace(/\{\{.*?\}\}/g, "0").replace(
    /\b\d[\w.]*/g,
    "",
  );
  if (/[A-Za-z_]/.test(rest.replace(/\bs\.\w+/g, ""))) return "no";
  return rest.includes("s.") ? "uniform" : "constant";
}

/** Lines of a shader that begin a loop or a branch that the uniforms decide. */
function decidedByUniforms(source: string): string[] {
  return source.split("\n").filter((line) => {
    for (const [, name, start, condition] of line.matchAll(/\bfor \(var (\w+) = ([^;]+); ([^;]+);/g)) {
      const end = condition.replaceAll(new RegExp(`\\b${name}\\b`, "g"), "0");
      if (foreseen(start) === "uniform" || foreseen(start) === "constant" && foreseen(end) !== "constant") return true;
    }
    return [...line.matchAll(/\bif \((.+?)\) \{/g)].some(([, condition]) => foreseen(condition) === "uniform");
  });
}

Deno.test("no loop of a kernel runs from a number to a uniform, and no branch asks uniforms only", () => {
  assert.equal(decidedByUniforms("for (var k = 0u; k < steps; k++) {\nif (s.n == min(s.m, 3u)) {").length, 2);
  assert.equal(decidedByUniforms("for (var h = 32u; h > 0u; h /= 2u) {\nfor (var k = zero; k < s.n; k++) {").length, 0);
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(".wgsl"));
  assert(files.length > 15);
  for (const name of files) {
    const lines = decidedByUniforms(readFileSync(new URL(name, FOLDER), "utf8"));
    assert.deepEqual(lines, [], `${name}: start at \`zero\` as the other kernels do (ARCHITECTURE.md, Kernels)`);
  }
});

Deno.test({
  name: "the process does not grow by kernels that run again and again",
  sanitizeResources: false,
  async fn() {
    // Mesa 22.3 kept 640 and 730 KiB a run of these two, before their loops began as they do now.
    using gpu = await Gpu.open();
    const variables: Variable[] = [];
    const variable = (shape: readonly number[], dtype: DType = "f32") => {
      variables.push(new Variable(`[${shape}]`, shape, () => new Float32Array(shape.reduce((a, b) => a * b)), dtype));
      return variables[variables.length - 1].tensor;
    };
    const image = [1, 32, 32, 32], x = variable(image);
    const layer = (y: Tensor) => add(add(y, variable([32])), variable(image));
    using program = compile(gpu, {
      linear: layer(linear(x, variable([32, 32], "f16"))),
      conv: layer(conv2d(x, variable([3, 3, 32, 32], "f16"), { padding: [1, 1, 1, 1] })),
    });
    const run = async (steps: number) => {
      for (let step = 0; step < steps; step++) program.step();
      await gpu.settle();
      return process.memoryUsage.rss() / 2 ** 20;
    };
    // What grows by each run does so in both hundreds; a driver may take its own memory in the first.
    const sizes = [await run(50), await run(100), await run(100)];
    const growth = Math.min(sizes[1] - sizes[0], sizes[2] - sizes[1]);
    for (const variable of variables) variable[Symbol.dispose]();
    assert(growth < 32, `${growth.toFixed(0)} MiB more by 100 runs: ${sizes.map((n) => n.toFixed(0)).join(", ")}`);
  },
});
