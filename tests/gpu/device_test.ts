/** What the device does between programs: uploads. */
import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/device.ts";
import { hasSubgroups } from "../../src/gpu/subgroups.ts";

Deno.test({
  name: "large uploads do not wait for the next run, where WebGPU would keep each of them twice",
  sanitizeResources: false,
  async fn() {
    using gpu = await Gpu.open();
    const { queue } = gpu.device, submit = queue.submit.bind(queue), values = new Float32Array(4 * 2 ** 20);
    let submits = 0;
    queue.submit = (commands) => {
      submits++;
      submit(commands);
    };
    const buffers = Array.from({ length: 12 }, (_, i) => {
      const buffer = gpu.acquire(values.byteLength, `weights ${i}`);
      gpu.write(buffer, values.fill(i));
      return buffer;
    });
    assert.equal(submits, 3); // 12 × 16 MiB
    const read = await gpu.read(buffers.map((buffer) => ({ buffer, bytes: 4 })));
    assert.deepEqual(read.map((bytes) => new Float32Array(bytes)[0]), buffers.map((_, i) => i));
    for (const buffer of buffers) gpu.release(buffer);
  },
});

Deno.test({
  name: "subgroups are asked of the device: one that was opened without them has none, and no error is left behind",
  sanitizeResources: false,
  async fn() {
    const adapter = await navigator.gpu.requestAdapter(), device = await adapter!.requestDevice();
    const errors: string[] = [];
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      errors.push((event as GPUUncapturedErrorEvent).error.message);
    });
    assert.equal(await hasSubgroups(device), false);
    device.destroy();
    assert.deepEqual(errors, []);
    using gpu = await Gpu.open();
    if (gpu.info.description.includes("llvmpipe")) assert.equal(gpu.subgroups, true);
  },
});
