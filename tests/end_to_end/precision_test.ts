/** `--precision f16` from the command line to the kernels: what it changes, what it needs, what is written of it. */
import assert from "node:assert/strict";
import { f16Key, IN_F16 } from "../../src/graph/plan.ts";
import { selectBackend } from "../../tasks/adapter.ts";
import { openGpu } from "../../tasks/device.ts";
import type { ManifestRecord } from "../../tasks/jobs/pairs.ts";
import { Workshop } from "./program.ts";

selectBackend();
const shop = new Workshop(), gpu = await openGpu();

/** Kernels in f16 that were asked for since it was last set to 0. */
let inF16 = 0;
const { pipeline } = gpu;
gpu.pipeline = (kernel, defines) => {
  if (defines.F16) inF16++;
  return pipeline.call(gpu, kernel, defines);
};

/** A table that has measured every class in f16, and found this variant the fastest. */
class Measured extends Map<string, string> {
  constructor() {
    super([[f16Key("some class"), "8x4 shared f16"]]);
  }

  override get(key: string): string | undefined {
    return key.endsWith(IN_F16) ? "8x4 shared f16" : undefined;
  }
}

const GENERATE =
  "generate --data @data --model @model --train-run @run --part plate --defect dent --steps 2 --count 2 " +
  "--no-quality-gate --seed-probes 0";

const images = (folder: string) => shop.contents(folder, (path) => path.endsWith(".png"));
const manifest = (folder: string) =>
  Deno.readTextFileSync(shop.file(folder, "manifest.jsonl")).trim().split("\n").map((line) =>
    JSON.parse(line) as ManifestRecord
  );

Deno.test({
  name: "pairs in f16: only where it was measured, written down, and made again the same",
  ignore: !gpu.hasF16,
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    gpu.choices = new Map();
    await shop.good(
      "train --data @data --model @model --part plate --defect dent --max-train-steps 2 --train-batch-size 2 " +
        "--augmented-copies 1 --out @run",
    );
    await shop.good(`${GENERATE} --out @plain`);
    assert.equal(Object.keys(images("plain")).length, 4, "images and masks");
    assert.ok(manifest("plain").every(({ adapter }) => !adapter.includes("f16")));

    const unmeasured = await shop.good(`${GENERATE} --precision f16 --out @unmeasured`);
    assert.match(unmeasured.err, /nothing was measured in f16 on this adapter: all is computed in f32/);
    assert.deepEqual(images("unmeasured"), images("plain"));
    assert.equal(inF16, 0);

    gpu.choices = new Measured();
    await shop.good(`${GENERATE} --out @again`);
    assert.deepEqual(images("again"), images("plain"), "without the flag a table changes nothing");
    assert.equal(inF16, 0);

    const half = await shop.good(`${GENERATE} --precision f16 --out @half`);
    assert.doesNotMatch(half.err, /nothing was measured/);
    assert.ok(inF16 > 50, `${inF16} launches in f16`);
    assert.equal(gpu.precision, "f32", "the next command does not inherit it");
    assert.ok(manifest("half").every(({ adapter }) => adapter.endsWith(", f16 arithmetic")));
    assert.equal(JSON.parse(Deno.readTextFileSync(shop.file("half/config.json"))).precision, "f16");

    inF16 = 0;
    const { out } = await shop.good("regenerate --pairs @half --out @half-again");
    assert.match(out, /2 of 2 images are the same bytes/);
    assert.ok(inF16 > 50, "regenerate computes as the run did");
    gpu.choices = new Map();
  },
});

Deno.test({
  name: "an adapter without f16 refuses the flag in one line",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const { hasF16 } = gpu;
    Object.assign(gpu, { hasF16: false });
    try {
      const { code, err } = await shop.run("tune --precision f16 --only ragged --dry-run");
      assert.equal(code, 1);
      assert.match(err, /does not compute in f16 \(WebGPU's shader-f16\)/);
      assert.match((await shop.run("tune --precision half")).err, /--precision is one of f32, f16, not "half"/);
    } finally {
      Object.assign(gpu, { hasF16 });
    }
  },
});
