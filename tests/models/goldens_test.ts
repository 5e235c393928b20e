/**
 * Whole models of the preset `small` against the reference PyTorch code, whatever the file's salt. The full model goes
 * through the same checks in `large_test.ts`.
 */
import assert from "node:assert/strict";
import { inF16 } from "../support/f16.ts";
import { goldenChecks, HALF, HALF_ARITHMETIC, Precision } from "../support/golden_checks.ts";
import { goldens } from "../support/goldens.ts";
import { gpu } from "../support/ops.ts";

/** Prints the differences where they are asked for. */
const report = Deno.env.get("ANOMALYDIFFUSION_DEBUG")
  ? (name: string, distance: number) => console.log(`${name}: ${distance.toExponential(2)}`)
  : undefined;

for (const { part, name, check } of goldenChecks) {
  const files = goldens(part, "small");
  Deno.test(`there is a small-*-${part} file`, () => assert.ok(files.length > 0));
  for (const golden of files) {
    const options = { sanitizeResources: false, sanitizeOps: false };
    Deno.test({ name: `${name}: ${golden.file}`, fn: () => check(golden), ...options });
    const half = new Precision("f16", HALF, report);
    Deno.test({ name: `${name}, packed f16 weights: ${golden.file}`, fn: () => check(golden, half), ...options });
    if (!["text", "unet", "train", "sample"].includes(part)) continue;
    const arithmetic = new Precision("f16", HALF_ARITHMETIC, report);
    Deno.test({
      name: `${name}, f16 arithmetic: ${golden.file}`,
      ignore: !gpu.hasF16,
      fn: () => inF16("8x4 shared f16", () => check(golden, arithmetic)),
      ...options,
    });
  }
}
