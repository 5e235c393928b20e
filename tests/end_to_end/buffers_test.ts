/**
 * What is on the device after each command: buffers are counted as the driver sees them, from `createBuffer` to `destroy`, uniforms
 * and staging included. The weights of the models that were used stay for the next command; everything else must be gone.
 */
import assert from "node:assert/strict";
import { openBase, openGpu } from "../../tasks/device.ts";
import { selectBackend } from "../../tasks/adapter.ts";
import { Workshop } from "./program.ts";

selectBackend();
const shop = new Workshop(), gpu = await openGpu(), live = new Set<GPUBuffer>();
let most = 0;
{
  const { device } = gpu, create = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = create(descriptor), destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      live.delete(buffer);
      destroy();
    };
    live.add(buffer);
    most = Math.max(most, live.size);
    return buffer;
  };
}

const DATA = "--data @data --model @model", STEPS = "--max-train-steps 3 --train-batch-size 2 --augmented-copies 1";
const NETWORK = "--base-width 4 --resolution 32 --train-batch-size 2 --max-train-steps 2";

/** In an order in which each finds what it needs. */
const COMMANDS = [
  `train ${DATA} ${STEPS} --validation-steps 2 --num-validation-images 1 --out @run`,
  `train-masks ${DATA} ${STEPS} --out @mask-run`,
  `generate-masks ${DATA} --masks-run @mask-run --steps 2 --count 2 --out @masks`,
  `generate ${DATA} --train-run @run --masks @masks --steps 2 --count 2 --no-quality-gate --out @pairs`,
  `generate ${DATA} --train-run @run --masks @masks --steps 2 --count 2 --sampler dpm++2m --window whole --out @whole`,
  "regenerate --pairs @pairs --out @again",
  `baseline --method textual-inversion ${DATA} ${STEPS} --count 1 --steps 2 --out @inversion`,
  `baseline --method crop-paste --data @data --count 1 --out @crop`,
  `inspect-train --pairs @pairs --data @data --network localisation --recipe narrow ${NETWORK} --out @unet`,
  `inspect-test --train-run @unet --data @data --out @unet-test`,
  `inspect-patchcore --data @data --model @model --resolution 32 --coreset 50 --out @bank`,
  "pretrain --model @model --procedural-images 4 --autoencoder-steps 1 --autoencoder-batch-size 1 --max-train-steps 2 " +
  "--train-batch-size 1 --checkpointing-steps 2 --validation-steps 2 --out @pretrained",
  "plan --train --measure",
  "tune --only ragged --dry-run",
  "generate --data @nowhere --train-run @run --out @failed",
];

for (const line of COMMANDS) {
  Deno.test({
    name: `nothing but weights stays on the device after ${line.replace(/@\S+/g, (path) => path.slice(1))}`,
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      const { code, err } = await shop.run(line);
      assert.equal(code, line.includes("@nowhere") ? 1 : 0, err);
      const base = await openBase(shop.file("model"));
      const weights = new Set([...base.parameters.variables.values()].flatMap(({ placed }) => placed?.buffer ?? []));
      const left = [...live].filter((buffer) => !weights.has(buffer)).map(({ label, size }) => `${label}: ${size}`);
      assert.deepEqual(left, []);
      assert.equal(gpu.allocatedBytes, [...weights].reduce((sum, { size }) => sum + size, 0));
    },
  });
}

Deno.test("the count sees buffers: the commands had many more at once than stay", () => {
  assert.ok(live.size > 20 && most > live.size + 100, `${live.size} stay, ${most} at once`);
});
