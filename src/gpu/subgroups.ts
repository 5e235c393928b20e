/**
 * Asks the device, as the standard promises little of it: whether its compiler takes subgroup functions without a directive
 * (Naga 29 refuses the one that browsers ask for), and whether the invocations 8·i … 8·i + 7 of a workgroup are a subgroup.
 */
export async function hasSubgroups(device: GPUDevice): Promise<boolean> {
  const size = 4 * 64,
    code = `
@group(0) @binding(0) var<storage, read_write> c: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32) {
  c[i] = select(~0u, subgroupBroadcast(i, 5u) + 64u * subgroupShuffle(i, 7u - i % 8u), size == 8u);
}`;
  device.pushErrorScope("validation");
  const buffer = device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  try {
    const module = device.createShaderModule({ label: "subgroups", code });
    const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
    const layout = pipeline.getBindGroupLayout(0);
    const group = device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] });
    const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    if (await device.popErrorScope()) return false;
    await staging.mapAsync(GPUMapMode.READ);
    return new Uint32Array(staging.getMappedRange()).every((value, i) => {
      const start = i - i % 8;
      return value === start + 5 + 64 * (start + 7 - i % 8);
    });
  } finally {
    buffer.destroy();
    staging.destroy();
  }
}
