/**
 * Whole models of the preset `small` against the reference PyTorch code, whatever the file's salt. The full model goes
 * through the same checks in `large_test.ts`.
 */
import assert from "node:assert/strict";
import { goldenChecks, HALF, Precision } from "../support/golden_checks.ts";
import { goldens } from "../support/goldens.ts";

for (const { part, name, check } of goldenChecks) {
  const files = goldens(part, "small");
  Deno.test(`there is a small-*-${part} file`, () => assert.ok(files.length > 0));
  for (const golden of files) {
    const options = { sanitizeResources: false, sanitizeOps: false };
    Deno.test({ name: `${name}: ${golden.file}`, fn: () => check(golden), ...options });
    const half = new Precision("f16", HALF);
    Deno.test({ name: `${name}, packed f16 weights: ${golden.file}`, fn: () => check(golden, half), ...options });
  }
}
