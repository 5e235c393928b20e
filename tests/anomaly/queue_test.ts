/** The device's queue: the host goes on to the next step while the device works on this one, and no submit is without end. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { planGeneration, planTraining } from "../../src/anomaly/budget.ts";
import { Inversion } from "../../src/anomaly/inversion.ts";
import { Sampler } from "../../src/anomaly/sampler.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { FLOPS_PER_SUBMIT, type Launch, Program } from "../../src/gpu/program.ts";
import { officialSpatialConfig } from "../../src/models/official_spatial_encoder.ts";
import { Random } from "../../src/random/philox.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

const gpu = await Gpu.open(), folder = Deno.makeTempDirSync();
writeTinyModel(folder);
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

/** What the host asks of the device during `run`, in order: `submit`, and `wait` for whatever it waits for. */
async function asked(run: () => Promise<unknown>): Promise<string[]> {
  const { queue } = gpu.device, submit = queue.submit, { read, settle } = gpu, order: string[] = [];
  queue.submit = (commands) => (order.push("submit"), submit.call(queue, commands));
  Object.assign(gpu, {
    read: (...args: Parameters<typeof read>) => (order.push("wait"), read.apply(gpu, args)),
    settle: () => (order.push("wait"), settle.call(gpu)),
  });
  try {
    await run();
  } finally {
    queue.submit = submit;
    Object.assign(gpu, { read, settle });
  }
  return order;
}

test("training waits once for all the steps of a call, with the loss: step n + 1 is encoded while step n runs", async () => {
  using base = new BaseModel(gpu, folder);
  const random = new Random(1, "tests/queue");
  using inversion = new Inversion(
    base,
    [{
      key: "part+a",
      moments: random.normals(512),
      latentMask: new Float32Array(64).fill(1),
      mask: new Float32Array(1024).fill(1),
    }],
    {
      ...{ tokens: 2, spatialTokens: 2, batch: 2, steps: 100, seed: 1, learningRate: 0.01, encoderLearningRate: 0.001 },
      ...{ initializerToken: "defect", area: true, templates: promptTemplates },
    },
  );
  const order = await asked(() => inversion.advance(7));
  assert.deepEqual(order, [...Array(7).fill("submit"), "wait", "submit"], "the last submit is the loss's copy");
});

test("sampling waits once, for the latents", async () => {
  using base = new BaseModel(gpu, folder);
  const width = base.config.text.width, tokens = new Random(1, "tests/queue").normals(width);
  using sampler = new Sampler(
    base,
    { keys: ["part+a"], tokens: 1, width, table: tokens, model: base.sha256 },
    { batch: 2, steps: 9, eta: 1, guidance: 3, reweighting: "official", seed: 1 },
  );
  const order = await asked(() =>
    sampler.sample([{ stream: "s", index: 0, attempt: 0, prompt: base.prompt("a photo of *"), tokens }])
  );
  // Text and keys, nine steps, the copy of the latents.
  assert.deepEqual(order, [...Array(10).fill("submit"), "wait", "submit"]);
});

test("a replay is cut into submits by its FLOPs, so that no watchdog ends it; its result stays what it is", async () => {
  const kernel = {
    name: "increment",
    source: "@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n" +
      "@compute @workgroup_size(1) fn main() { y[0] = y[0] + 1.0; }",
    bindings: ["read_write" as const],
  };
  const buffer = gpu.acquire(4, "y");
  const launch = (flops: number): Launch => ({
    ...{ label: "increment", kernel, defines: {}, uniforms: [], workgroups: [1, 1, 1], flops },
    buffers: [{ buffer, offset: 0, size: 256 }],
  });
  for (const [flops, submits] of [[0, 1], [0.5, 4], [0.6, 7], [1.5, 7]]) {
    gpu.write(buffer, new Float32Array(1));
    using program = new Program(gpu, Array(7).fill(launch(flops * FLOPS_PER_SUBMIT)));
    const order = await asked(() => Promise.resolve(program.replay()));
    assert.deepEqual(order, Array(submits).fill("submit"), `${flops}`);
    const [bytes] = await gpu.read([{ buffer, bytes: 4 }]);
    assert.equal(new Float32Array(bytes)[0], 7);
  }
  gpu.release(buffer);
});

test("no launch of the large model alone is more than a submit's share, at batch 8", () => {
  const config = largeModelConfig(), spatial = officialSpatialConfig(4, 1280);
  const sizes = { batch: 8, tokens: 8, spatial };
  let launches = 0, most = 0;
  const seen = (plan: { launches: readonly { flops: number }[] }) => {
    for (const { flops } of plan.launches) {
      launches++;
      most = Math.max(most, flops);
    }
  };
  planTraining(config, { ...sizes, area: true, kinds: 1 }, Infinity, seen);
  planGeneration(config, { ...sizes, guidance: 3, reweighting: "official" }, Infinity, seen);
  assert.ok(launches > 1000 && most > 1e9 && most < FLOPS_PER_SUBMIT, `${most} of ${launches} launches`);
});

test("text tower and spatial encoder take a whole batch in the launches of one picture", () => {
  const config = largeModelConfig(), spatial = officialSpatialConfig(4, 1280);
  const [one, eight] = [1, 8].map((batch) => {
    const sizes = { batch, tokens: 8, spatial, guidance: 1, reweighting: "official" } as const;
    return planGeneration(config, sizes).phases.find(({ name }) => name === "text and keys")!;
  });
  assert.ok(one.launches > 100);
  assert.equal(eight.launches, one.launches);
  assert.ok(Math.abs(eight.flops / one.flops - 8) < 0.01, `${eight.flops / one.flops}`);
});
