/** A device that is lost in the midst of a training. The device of this file is gone afterwards: nothing may follow. */
import assert from "node:assert/strict";
import { openGpu } from "../../tasks/device.ts";
import { assertRefused, exists, Workshop } from "./program.ts";

const shop = new Workshop();
const LINE = "train --model @model --data @data --part plate --max-train-steps 16 --train-batch-size 1 " +
  "--augmented-copies 1 --validation-steps 0 --checkpointing-steps 2 --checkpoints-total-limit 8";

Deno.test({
  name: "train: a lost device is one line, and what was saved is what an undisturbed run saves",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await shop.good(`${LINE} --out @whole`);
    const { device } = await openGpu();
    const watch = setInterval(() => {
      if (!exists(shop.file("lost/checkpoints/00000004.ckpt"))) return;
      device.destroy();
      clearInterval(watch);
    }, 1);
    try {
      const result = await shop.run(`${LINE} --out @lost`);
      assertRefused(result, /the GPU was lost/);
      assert.match(result.err, /hint: what was finished is saved; .*--resume/);
    } finally {
      clearInterval(watch);
    }
    // From these bytes --resume goes on: kill_test.ts holds it to that.
    const whole = shop.contents("whole"), kept = shop.contents("lost"), names = Object.keys(kept).sort();
    const saved = names.filter((name) => name.endsWith(".ckpt"));
    assert.ok(saved.length >= 2 && saved.length < 8, `${names}`);
    assert.deepEqual(names, [...saved, "config.json", "loss.jsonl", "origin.json"]);
    for (const name of [...saved, "config.json", "origin.json"]) {
      assert.ok(kept[name] === whole[name], `${name} differs`);
    }
    const losses = kept["loss.jsonl"].trimEnd().split("\n");
    assert.deepEqual(losses, whole["loss.jsonl"].split("\n").slice(0, losses.length));
    assert.ok(losses.length >= saved.length, `${losses.length} lines`);
  },
});
