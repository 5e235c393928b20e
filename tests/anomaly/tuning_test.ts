/** Embeddings and the U-Net learned together: what changes, what is drawn, and that it goes on bit for bit. */
import assert from "node:assert/strict";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import { planTraining } from "../../src/anomaly/budget.ts";
import { Inversion, type InversionItem, type InversionSettings } from "../../src/anomaly/inversion.ts";
import { isUnet } from "../../src/anomaly/inversion_graph.ts";
import { Sampler } from "../../src/anomaly/sampler.ts";
import { tokensOf } from "../../src/anomaly/embedding.ts";
import { surfaceTokens } from "../../src/anomaly/surface.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { Random } from "../../src/random/philox.ts";
import { assertClose, relativeL2 } from "../support/close.ts";
import { writeTinyModel } from "../support/tiny_model.ts";

const gpu = await Gpu.open(), folder = Deno.makeTempDirSync({ prefix: "tuning-" });
writeTinyModel(folder);
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, fn, sanitizeResources: false });

/** Pictures of two defects and their surface: each a value of its own, the defects on their left half. */
function items(base: BaseModel): InversionItem[] {
  const { latentSide: side, latentChannels: channels } = base, cells = side * side;
  return [["a+b", 1.5], ["a+c", -1.5], ["a+good", 0]].map(([key, value]) => {
    const left = (cell: number) => key !== "a+good" && cell % side < side / 2;
    const moments = Float32Array.from({ length: cells * 2 * channels }, (_, i) => {
      const cell = Math.floor(i / (2 * channels));
      return i % (2 * channels) >= channels ? -20 : left(cell) ? Number(value) : 0;
    });
    const latentMask = Float32Array.from({ length: cells }, (_, cell) => key === "a+good" || left(cell) ? 1 : 0);
    return { key: String(key), moments, latentMask };
  });
}

const settings: InversionSettings = {
  ...{ tokens: 2, spatialTokens: 0, batch: 6, steps: 60, seed: 1, learningRate: 0.01, encoderLearningRate: 0 },
  ...{ initializerToken: "defect", area: true, templates: ["a photo of a *"] },
  tune: { learningRate: 3e-3, emphasis: 5 },
};

const open = () => new BaseModel(gpu, folder, "f32");
const weights = async (base: BaseModel, chosen: (name: string) => boolean) =>
  new Map([...await base.parameters.store(chosen)].map(([name, { data }]) => [name, data.slice()]));

test("tuning: the loss falls further than by embeddings alone; the U-Net changes, the text tower stays", async () => {
  const ends: number[] = [];
  for (const tune of [settings.tune, { ...settings.tune!, learningRate: 0 }]) {
    using base = open();
    using inversion = new Inversion(base, items(base), { ...settings, tune });
    const unet = await weights(base, isUnet), text = await weights(base, (name) => !isUnet(name));
    await inversion.advance(50);
    ends.push(await inversion.advance(60));
    const after = await weights(base, isUnet),
      changed = [...after].filter(([name, v]) => unet.get(name)!.some((w, i) => w !== v[i]));
    assert.equal(changed.length, tune!.learningRate ? unet.size : 0, `${changed.length} of ${unet.size} changed`);
    assert.deepEqual(await weights(base, (name) => !isUnet(name)), text);
    assert.equal((await inversion.embedding()).regions, true);
  }
  assert.ok(ends[0] < 0.8 * ends[1], `tuned ${ends[0]}, embeddings alone ${ends[1]}`);
});

test("tuning: saved and loaded it goes on bit for bit, and in parts it learns the same", async () => {
  const table = async (own: Partial<InversionSettings>, stop?: number) => {
    using base = open();
    using inversion = new Inversion(base, items(base), { ...settings, steps: 6, ...own });
    if (stop === undefined) await inversion.advance(6);
    else {
      await inversion.advance(stop);
      const saved = await inversion.save();
      using other = open();
      using second = new Inversion(other, items(other), { ...settings, steps: 6, ...own });
      second.load(saved, "saved");
      await second.advance(6);
      return [(await second.embedding()).table, ...(await weights(other, isUnet)).values()];
    }
    return [(await inversion.embedding()).table, ...(await weights(base, isUnet)).values()];
  };
  const whole = await table({});
  assert.deepEqual(await table({}, 3), whole);
  // Adam divides by the gradient's size: where that is next to nothing, its sign is rounding's. Most must agree.
  const parts = await table({ parts: 2 });
  assert.ok(relativeL2(parts[0], whole[0]) < 1e-3, `embeddings ${relativeL2(parts[0], whole[0])}`);
});

test("tuning takes what is planned, and each of its programs is within 10 % of its lower bound", async () => {
  using own = await Gpu.open();
  using base = new BaseModel(own, folder, "f32");
  await base.encode(Array.from({ length: 4 }, () => new Float32Array(3 * base.side ** 2)));
  using inversion = new Inversion(base, items(base), settings);
  await inversion.advance(2);
  const { phases, devicePeak, hostPeak } = planTraining(base.config, {
    ...{ batch: 6, tokens: 2, area: true, kinds: 3, tune: true },
  });
  const staging = phases.reduce((sum, { device }) => sum + device.staging, 0);
  const share = own.peakBytes / (devicePeak - staging);
  assert.ok(share > 0.95 && share <= 1, `${own.peakBytes} of ${devicePeak} bytes, ${staging} of them not counted`);
  for (const { name, device: { activations }, lowerBound } of phases) {
    assert.ok(activations >= lowerBound && activations <= 1.1 * lowerBound, `${name}: ${activations}, ${lowerBound}`);
  }
  const saved = (await inversion.save()).length; // the checkpoint from which a run goes on is read whole
  assert.ok(hostPeak >= saved, `${hostPeak} bytes on the host, a checkpoint has ${saved}`);
});

test("a third of each batch are surfaces, one of two, and one of three pictures where there is one a batch", () => {
  using base = open();
  for (const [batch, expected] of [[6, 2], [2, 1], [1, 1 / 3]]) {
    using inversion = new Inversion(base, items(base), { ...settings, batch, steps: 60 });
    const drawn = Array.from({ length: 60 }, (_, step) => inversion.drawn(step)).flat().map(({ key }) => key);
    const surfaces = drawn.filter((key) => key === "a+good").length / 60;
    assert.ok(Math.abs(surfaces - expected) < (batch === 1 ? 0.15 : 1e-9), `${surfaces} of ${batch}`);
    assert.ok(drawn.includes("a+b") && drawn.includes("a+c"));
  }
  return Promise.resolve();
});

test("tuning: each picture of a batch has a noise level of its own part, surfaces any of them", () => {
  using base = open();
  const batch = 5, { timesteps } = base.schedule; // 5 divides 1000
  using inversion = new Inversion(base, items(base), { ...settings, batch, steps: 60, timesteps: "uniform" });
  const parts = Array.from(
    { length: 60 },
    (_, step) => inversion.drawn(step).map(({ timestep }) => Math.floor(timestep / timesteps * batch)),
  );
  for (const part of parts) assert.deepEqual(part.toSorted(), [0, 1, 2, 3, 4]);
  // In turn, the last two would share neighbouring parts in each step.
  const neighbours = parts.filter((part) => [1, batch - 1].includes((part[4] - part[3] + batch) % batch)).length;
  assert.ok(neighbours > 15 && neighbours < 45, `${neighbours} of 60 steps, 30 expected`);
  return Promise.resolve();
});

test("tuning: without a surface it is refused", () => {
  using base = open();
  const own = items(base).filter(({ key }) => key !== "a+good");
  assert.throws(() => new Inversion(base, own, settings), /surface/);
  return Promise.resolve();
});

test("two texts in sampling: the surface's own tokens inside draw what one text of the surface draws", async () => {
  using base = open();
  const { width } = base.config.text, keys = ["a+b", "a+good"];
  const table = new Random(2, "table").normals(keys.length * 2 * width).map((v) => 20 * v);
  const one = { keys, tokens: 2, width, table, model: base.sha256 }, two = { ...one, regions: true };
  const { latentSide: side } = base,
    latentMask = Float32Array.from({ length: side ** 2 }, (_, i) => i % side < 3 ? 1 : 0);
  const background = new Random(2, "background").normals(base.latentSize);
  const draw = async (embedding: typeof one, tokens: Float32Array, guidance = 1) => {
    using sampler = new Sampler(base, embedding, {
      ...{ batch: 1, steps: 3, eta: 0, guidance, reweighting: "off", seed: 3, guideFrom: "surface" },
    });
    const job = {
      stream: "pair/a+b",
      index: 0,
      attempt: 0,
      prompt: base.prompt("a photo of a *"),
      latentMask,
      background,
    };
    return (await sampler.sample([{ ...job, tokens, surface: surfaceTokens(embedding, "a+b") }]))[0];
  };
  const defect = tokensOf(one, "a+b"), surface = tokensOf(one, "a+good");
  assertClose(await draw(two, surface), await draw(one, surface), 1e-5, "the surface");
  assertClose(await draw(two, surface, 3), await draw(one, surface), 1e-4, "the surface, guided away from itself");
  const drawn = await draw(two, defect); // outside all is pasted back: the other text there reaches inside by the convolutions
  assert.ok(relativeL2(drawn, await draw(one, defect)) > 1e-5, "the text outside changes nothing");
  assert.ok(relativeL2(drawn, await draw(two, surface)) > 1e-3, "the text inside changes nothing");
});
