/** Makes one image with the small model and ends: the bench measures how long a new process needs for it. */

import { BaseModel } from "../src/anomaly/base_model.ts";
import { PairGenerator } from "../src/anomaly/generate.ts";
import { Gpu } from "../src/gpu/device.ts";
import { selectBackend } from "../tasks/adapter.ts";
import { benchEmbedding, benchPair, pairSettings, SMALL_MODEL } from "./lib/cases_jobs.ts";

if (import.meta.main) {
  selectBackend();
  using gpu = await Gpu.open();
  using base = new BaseModel(gpu, SMALL_MODEL);
  using generator = new PairGenerator(base, benchEmbedding(base), { ...pairSettings, batch: 1, steps: 20 });
  const [{ figures }] = await Array.fromAsync(generator.generate([benchPair(base.side, 0)]));
  if (!Number.isFinite(figures.changeInside)) throw new Error("the image is not finite");
}
