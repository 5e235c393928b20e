/** Whole jobs on the small model that ships: a training step, a generated image, a fresh program's first image. */

import process from "node:process";
import { fileURLToPath } from "node:url";
import { BaseModel } from "../../src/anomaly/base_model.ts";
import type { AnomalyEmbedding } from "../../src/anomaly/embedding.ts";
import { PairGenerator, type PairJob, type PairSettings } from "../../src/anomaly/generate.ts";
import { Inversion } from "../../src/anomaly/inversion.ts";
import { promptTemplates } from "../../src/data/prompts.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { Random } from "../../src/random/philox.ts";
import type { CaseEntry } from "./cases.ts";

/** Folder of the small model. */
export const SMALL_MODEL = fileURLToPath(new URL("../../fixtures/small-ldm", import.meta.url));

/** A training with the defaults of `train` on made-up latents and masks: what it costs does not depend on them. */
export function benchInversion(base: BaseModel, steps: number, batch = 4): Inversion {
  const random = new Random(1, "bench/training"), { side, latentSide } = base;
  const square = (n: number) =>
    Float32Array.from({ length: n * n }, (_, i) => (i % n < n / 2 && i < n * n / 2 ? 1 : 0));
  const items = Array.from({ length: 4 }, () => ({
    key: "bench+defect",
    moments: random.normals(2 * base.latentSize).map((v) => 0.1 * v),
    latentMask: square(latentSide),
    mask: square(side),
  }));
  return new Inversion(base, items, {
    tokens: 8,
    spatialTokens: 4,
    batch,
    steps,
    seed: 1,
    learningRate: 0.005,
    encoderLearningRate: 0.001,
    initializerToken: "defect",
    area: true,
    templates: promptTemplates,
  });
}

/** An embedding that was never trained: what generation costs does not depend on it. */
export function benchEmbedding(base: BaseModel, tokens = 8): AnomalyEmbedding {
  const { width } = base.config.text;
  return {
    keys: ["bench+defect"],
    tokens,
    width,
    table: new Random(1, "bench/embedding").normals(tokens * width).map((v) => 0.05 * v),
    model: base.sha256,
  };
}

/** A grey picture with a square mask. */
export function benchPair(side: number, index: number): PairJob {
  const source = {
    width: side,
    height: side,
    channels: 3 as const,
    data: new Uint8ClampedArray(3 * side * side).fill(128),
  };
  const mask = { width: side, height: side, channels: 1 as const, data: new Uint8Array(side * side) };
  for (let y = side >> 2; y < side >> 1; y++) mask.data.fill(1, y * side + (side >> 2), y * side + (side >> 1));
  return { index, key: "bench+defect", source, mask };
}

/** The defaults of `generate`. */
export const pairSettings: PairSettings = {
  batch: 4,
  steps: 50,
  eta: 1,
  guidance: 2,
  reweighting: "official",
  seed: 1,
  feather: 3,
  window: "whole",
  zoom: 1,
  keepDetail: true,
  minChange: 0,
  maxAttempts: 1,
  latentMask: "maxPool",
};

/** Runs `bench/first_image.ts` in a new process. */
async function firstImage(): Promise<void> {
  const script = fileURLToPath(new URL("../first_image.ts", import.meta.url));
  const { success, stderr } = await new Deno.Command(process.execPath, { args: ["run", "-A", script], stderr: "piped" })
    .output();
  if (!success) throw new Error(`the first image failed: ${new TextDecoder().decode(stderr)}`);
}

/** All jobs. */
export function jobCases(gpu: Gpu, quick: boolean): CaseEntry[] {
  const trained = quick ? 2 : 8, images = quick ? 1 : 4, steps = quick ? 4 : 50;
  return [
    {
      name: "training step, small model, batch 4",
      // deno-lint-ignore require-await
      async open() {
        const base = new BaseModel(gpu, SMALL_MODEL), inversion = benchInversion(base, 1e6);
        return {
          name: this.name,
          group: "jobs",
          flops: inversion.report.flops * trained,
          repeats: trained,
          ours: {
            run: async () => void await inversion.advance(inversion.steps + trained),
            dispose() {
              inversion[Symbol.dispose]();
              base[Symbol.dispose]();
            },
          },
        };
      },
    },
    {
      name: `generated image, small model, ${steps} DDIM steps with guidance, batch ${images}`,
      // deno-lint-ignore require-await
      async open() {
        const base = new BaseModel(gpu, SMALL_MODEL);
        const generator = new PairGenerator(base, benchEmbedding(base), { ...pairSettings, batch: images, steps });
        const jobs = Array.from({ length: images }, (_, i) => benchPair(base.side, i));
        return {
          name: this.name,
          group: "jobs",
          flops: generator.report.flops * steps,
          repeats: images,
          ours: {
            run: async () => void await Array.fromAsync(generator.generate(jobs)),
            dispose() {
              generator[Symbol.dispose]();
              base[Symbol.dispose]();
            },
          },
        };
      },
    },
    {
      name: "first image of a new process, small model, 20 steps",
      // deno-lint-ignore require-await
      async open() {
        return {
          name: this.name,
          group: "jobs",
          flops: 0,
          repeats: 1,
          ours: { run: firstImage, dispose() {} },
        };
      },
    },
  ];
}
