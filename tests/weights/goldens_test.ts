import assert from "node:assert/strict";
import { goldens } from "../support/goldens.ts";

Deno.test("goldens: the small model's files are found with their salt and configuration", () => {
  for (const part of ["unet", "text", "vae", "train", "sample"]) {
    const [golden] = goldens(part, "small");
    assert.ok(golden, `no small ${part}`);
    assert.ok(golden.salt.length > 0);
    assert.equal(golden.config("unet").model_channels, 32);
  }
  const [{ tensor }] = goldens("unet", "small");
  assert.deepEqual(tensor("eps").shape, [2, 4, 16, 16]);
  assert.ok(tensor("eps").data.every(Number.isFinite));
});
