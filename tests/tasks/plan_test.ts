/** `plan` from outside: figures without a GPU and without weights, a clear line where the budget or the size is wrong. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { type JobPlan, planTraining } from "../../src/anomaly/budget.ts";
import { VALIDATION } from "../../tasks/jobs/validation.ts";
import { Gpu } from "../../src/gpu/device.ts";
import { availableMemory } from "../../src/gpu/available_memory.ts";
import { PERMISSIONS } from "../../tasks/compile.ts";
import { kernelTable, profilesOf } from "../../tasks/jobs/kernel_times.ts";
import { fitGenerationTo, fitTrainingTo, gib, jobBudget, memoryBudget, memoryBytes } from "../../tasks/jobs/memory.ts";
import { lightSpatialConfig } from "../../src/models/spatial_encoder.ts";
import { tinyModelConfig } from "../support/tiny_model.ts";

const MAIN = fileURLToPath(new URL("../../tasks/main.ts", import.meta.url));

async function plan(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, "--no-check", MAIN, "plan", ...args],
    // No driver: no adapter.
    env: { NO_COLOR: "1", VK_DRIVER_FILES: "/nowhere/none.json", ANOMALYDIFFUSION_CWD: "" },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("the large model's training, without a GPU", async () => {
  const { code, out, err } = await plan("--model", "large", "--train", "--memory", "8GiB", "--tflops", "10");
  assert.equal(code, 0, err);
  assert.match(out, /U-Net 872\.3 M, text tower 542\.9 M/);
  assert.match(out, /training step .* GFLOP in \d+ launches/);
  assert.match(out, /peak +[34]\.\d\d GiB, within 8GiB/);
  assert.match(out, /planned \d\.\d % above/);
  assert.match(out, /Time +0\.\d+ s for one step, at 10\.0 TFLOP\/s/);
});

Deno.test("JSON holds every figure, and a tighter budget recomputes", async () => {
  const { code, out, err } = await plan("--train", "--batch", "4", "--memory", "50MiB", "--json");
  assert.equal(code, 0, err);
  const job = JSON.parse(out), training = job.phases[1];
  assert.deepEqual(Object.keys(training.device), ["weights", "activations", "optimiser", "latents", "staging"]);
  const values = Object.values(training.device) as number[];
  assert.equal(values.reduce((a, b) => a + b, 0), training.total);
  assert.ok(training.recomputed > 0 && job.devicePeak <= 50 * 2 ** 20 && job.devicePeak >= training.total);
  assert.ok(training.device.activations >= training.lowerBound);
  assert.deepEqual(Object.keys(job.host), ["words", "weight", "trained", "pictures"]);
  const host = Object.values(job.host) as number[];
  assert.ok(host.every((bytes) => bytes > 0) && host.reduce((a, b) => a + b, 0) === job.hostPeak);
});

Deno.test("the autoencoder as the adapter binds it: several images, one, one in bands", async () => {
  const phases = async (...args: string[]) => {
    const { out } = await plan("--size", "512", "--json", ...args); // exits with 1 where the sampling step is not bound
    return JSON.parse(out).phases.filter(({ pictures }: { pictures: unknown }) => pictures);
  };
  const [encode, decode] = await phases();
  assert.deepEqual([encode.pictures, decode.pictures], Array(2).fill({ batch: 4, banded: false }));
  const fewer = await phases("--binding", "32MiB"), [, banded] = await phases("--binding", "4MiB");
  assert.deepEqual(fewer[1].pictures, { batch: 2, banded: false });
  assert.deepEqual(banded.pictures, { batch: 1, banded: true });
  assert.ok(banded.largestValue <= 4 * 2 ** 20 && banded.device.activations < decode.device.activations);
  // The same work for a picture, but for the rows around each band and their statistics.
  const work = banded.flops / (decode.flops / 4);
  assert.ok(work > 1 && work < 1.05, `${work}`);
  assert.match(
    (await plan("--size", "512", "--binding", "4MiB")).out,
    /decode images .* launches, one image in bands\n/,
  );
  assert.match((await plan("--binding", "wide")).err, /--binding is an amount/);
});

Deno.test("what does not fit, and what makes no sense, is one line", async () => {
  for (
    const [args, code, line] of [
      [["--memory", "1MiB"], 1, /this needs \d+ MiB of device memory, 1 MiB were given/],
      [["--memory", "much"], 2, /--memory is an amount such as 8GiB or 6000MB, not "much"/],
      [["--size", "100"], 2, /--size 100 does not fit the model\n.*multiple of \d+/],
      [["--train", "--binding", "1MiB"], 1, /training step: this needs \d+ MiB in one buffer, the adapter binds 1 MiB/],
      [["--profile"], 2, /--profile goes with --measure\n.*without --measure it has no effect/],
      [["--model", "nowhere"], 1, /config\.json was not found/],
    ] as const
  ) {
    const result = await plan(...args);
    assert.equal(result.code, code, result.err);
    assert.match(result.err.trim(), line);
    assert.ok(!result.err.includes("    at "), result.err);
  }
});

Deno.test("--measure takes the speed of this machine's adapter for the time of a step", async () => {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, "--no-check", MAIN, "plan", "--train", "--measure", "--json"],
    env: { NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "" },
  }).output();
  const { seconds, flopsPerSecond, phases } = JSON.parse(new TextDecoder().decode(stdout));
  assert.equal(code, 0);
  assert.ok(flopsPerSecond > 1e9, `${flopsPerSecond}`);
  const step = phases.find(({ name }: { name: string }) => name === "training step").flops / flopsPerSecond;
  assert.ok(Math.abs(seconds.step / step - 1) < 1e-9);
});

Deno.test("--profile prints the kernels on which the programs of the job spend their time", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, "--no-check", MAIN, ..."plan --batch 1 --size 32 --measure --profile".split(" ")],
    env: { NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "" },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert.equal(code, 0, err);
  using gpu = await Gpu.open();
  if (!gpu.hasTimestamps) return assert.match(err, /no timestamp queries/);
  const names = ["encode images", "text and keys", "sampling step", "decode images"];
  assert.deepEqual(
    [...out.matchAll(/^Kernels of (.*): \d+\.\d\d ms in \d+ launches, /gm)].map(([, name]) => name),
    names,
  );
  assert.match(out, /^ {2}gemm convolution f16 .* +\d+ × +\d+\.\d\d ms +\d+\.\d % +\d+\.\d GFLOP\/s$/m);
  const shares = out.slice(out.indexOf("Kernels of sampling")).split("\n\n")[0].matchAll(/ ([\d.]+) %/g);
  assert.ok(Math.abs([...shares].reduce((sum, [, share]) => sum + Number(share), 0) - 100) < 1);
});

Deno.test("kernels of a program: the slowest first, the others together; an adapter without a clock is told", async () => {
  const row = (i: number) => ({ label: `kernel ${i}`, launches: 2, milliseconds: 1 << (10 - i), gflops: i ? 0 : 3.25 });
  const lines = kernelTable("a step", Array.from({ length: 10 }, (_, i) => row(i)));
  assert.match(lines[1], /^Kernels of a step: 2046\.00 ms in 20 launches, /);
  assert.match(lines[2], /^ {2}kernel 0 +2 × +1024\.00 ms +50\.0 % +3\.3 GFLOP\/s$/);
  assert.match(lines[3], /^ {2}kernel 1 +2 × +512\.00 ms +25\.0 %$/);
  assert.match(lines.at(-1)!, /^ {2}2 others +4 × +6\.00 ms +0\.3 %$/);
  const told: string[] = [], context = { log: (line: string) => void told.push(line), signal: AbortSignal.abort() };
  assert.equal(await profilesOf({ hasTimestamps: false } as Gpu, new Map(), context), undefined);
  assert.match(told.join(), /^this adapter has no timestamp queries: /);
});

Deno.test("amounts of memory", () => {
  assert.equal(memoryBytes("8GiB"), 8 * 2 ** 30);
  assert.equal(memoryBytes("1.5 gb"), 1.5e9);
  assert.equal(memoryBytes("512m"), 512 * 2 ** 20);
  for (const bad of ["", "8", "0GiB", "-1GiB", "8 GiB more"]) assert.throws(() => memoryBytes(bad), /--memory is/);
  assert.equal(gib(1.5 * 2 ** 30), "1.50 GiB");
  assert.equal(gib(3 * 2 ** 20), "3 MiB");
});

Deno.test("an adapter of unknown memory has no budget; a software one the system's; a given one is taken", () => {
  const hardware = { description: "NVIDIA H200", isFallbackAdapter: false } as GPUAdapterInfo;
  const software = { description: "llvmpipe (LLVM 15)", isFallbackAdapter: false } as GPUAdapterInfo;
  assert.equal(memoryBudget(undefined, hardware), Infinity);
  const free = memoryBudget(undefined, software);
  assert.ok(free > 2 ** 20 && free < Deno.systemMemoryInfo().total);
  assert.equal(memoryBudget("2GiB", software), 2 ** 31);
});

Deno.test("a card is asked for what a job takes: nothing changes where it has that, else what it has is the budget", async () => {
  const job = (gigabytes: number) => () => ({ devicePeak: gigabytes * 2 ** 30 } as JobPlan);
  const card = (held = 0) => ({ info: { description: "NVIDIA H200" } as GPUAdapterInfo, allocatedBytes: held });
  const asked: number[] = [];
  const having = (gigabytes: number) => (bytes: number) => {
    asked.push(bytes);
    return Promise.resolve(Math.min(bytes, gigabytes * 2 ** 30));
  };
  assert.equal(await jobBudget(undefined, card(), job(8), having(24)), Infinity);
  assert.ok(asked[0] > 8 * 2 ** 30 && asked[0] < 9 * 2 ** 30, "with what drivers take");
  const budget = await jobBudget(undefined, card(), job(8), having(6));
  assert.ok(budget > 5 * 2 ** 30 && budget < 6 * 2 ** 30, `${budget}`);
  // What this program holds is there already.
  assert.equal(await jobBudget(undefined, card(5 * 2 ** 30), job(8), having(4)), Infinity);
  assert.ok(await jobBudget(undefined, card(5 * 2 ** 30), job(8), having(2)) < 7 * 2 ** 30);
  asked.length = 0;
  assert.equal(await jobBudget(undefined, card(), job(0.1), having(0)), Infinity);
  assert.equal(await jobBudget("2GiB", card(), job(8), having(24)), 2 ** 31);
  assert.deepEqual(asked, []);
});

Deno.test("the memory of an adapter is found by asking for it", async () => {
  assert.equal(await availableMemory(300 * 2 ** 20), 300 * 2 ** 20);
});

Deno.test("train and generate say in one line what they do to stay within the memory", () => {
  const config = tinyModelConfig(), spatial = lightSpatialConfig(2, 32), lines: string[] = [];
  const context = { log: (line: string) => lines.push(line) };
  const device = { limits: { maxStorageBufferBindingSize: 2 ** 27 } };
  const training = { batch: 8, tokens: 2, area: true, kinds: 1, spatial };
  assert.deepEqual(fitTrainingTo(Infinity, false, config, training, device, context), { pictures: 0 });
  const shown = { ...training, batch: 1, validation: VALIDATION };
  assert.deepEqual(fitTrainingTo(Infinity, false, config, shown, device, context), { pictures: 4 });
  const tight = planTraining(config, { ...shown, validation: { ...VALIDATION, batch: 1 } }, 1).devicePeak;
  assert.equal(fitTrainingTo(tight, true, config, shown, device, context).pictures, 1);
  assert.match(lines.pop()!, /^to stay within .*validation pictures are made one by one/);
  const tighter = planTraining(config, { ...shown, validation: undefined }, 1).devicePeak;
  assert.equal(fitTrainingTo(tighter, true, config, shown, device, context).pictures, 0);
  assert.match(lines.pop()!, /^to stay within .*no validation pictures/);
  assert.equal(fitTrainingTo(1e9, true, config, training, device, context).parts, 1);
  assert.deepEqual(lines, []);
  // Less than the whole batch takes with everything computed again, enough for its halves.
  const least = (parts: number) => planTraining(config, { ...training, parts }, 1).devicePeak;
  const halves = (least(1) + least(2)) / 2;
  assert.equal(fitTrainingTo(halves, true, config, training, device, context).parts, 2);
  assert.match(lines.pop()!, /^to stay within 6 MiB: batches of 8 run in 2 parts, \d+ blocks are computed again/);
  assert.equal(fitTrainingTo(halves, false, config, training, device, context).parts, 2);
  assert.match(lines.pop()!, /in 2 parts.*--memory 6MiB gives the same last digits again/);
  fitTrainingTo(1e5, false, config, training, device, context);
  assert.match(lines.shift()!, /MiB are needed where 0 MiB are free; it is tried/);
  assert.throws(() => fitTrainingTo(1e5, true, config, training, device, context), /one image at a time needs/);
  lines.length = 0;
  const sampling = { batch: 8, tokens: 2, guidance: 3, reweighting: "official", spatial } as const;
  assert.equal(fitGenerationTo(Infinity, config, sampling, device, context), 8);
  assert.deepEqual(lines, []);
  const small = { limits: { maxStorageBufferBindingSize: 2 ** 18 } };
  assert.ok(fitGenerationTo(Infinity, config, sampling, small, context) < 8);
  assert.match(lines.pop()!, /this adapter's bindings: batches of \d images instead of 8; the images do not change/);
});
