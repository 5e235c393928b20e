/** `serve`: a local page on which masks are painted and defects appear in them. */
import { join } from "node:path";
import { planGeneration } from "../../src/anomaly/budget.ts";
import { samplingSizes } from "../../src/anomaly/embedding.ts";
import { guideFromOf } from "../../src/anomaly/surface.ts";
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import { dataOf, learnedKinds, wasGiven } from "../jobs/dataset.ts";
import { readJson, readProduct } from "../jobs/files.ts";
import { fitGenerationTo, jobBudget } from "../jobs/memory.ts";
import { servePage } from "../jobs/page_server.ts";
import { Studio } from "../jobs/studio.ts";
import { EMBEDDINGS, openTrainedBase, readEmbedding, usualGuidance, usualReweighting } from "../jobs/training.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "serve",
  summary: "A page on this machine: choose a part, paint a mask, choose a defect, see it appear, keep the pair.",
  details:
    "Opens http://127.0.0.1:<port>/ for a browser on this machine; nothing else can reach it, and it loads nothing from " +
    "elsewhere. Pictures are drawn one at a time. Kept pairs lie in --out in MVTec layout with the manifest of generate, as " +
    "inspect-train, export, evaluate and report read it. Ctrl-C ends it; --resume keeps more pairs in the same folder.",
  runFolder: true,
  gpu: true,
  flags: {
    trainRun: {
      type: "string",
      value: "folder",
      description: "Run folder of train: the defects that can be drawn.",
      required: true,
    },
    data: { ...shared.data, required: false, otherwise: "where the training found it" },
    masks: {
      type: "string",
      value: "folder",
      description: "Run folder of generate-masks, for masks to begin with.",
    },
    model: { ...shared.model, otherwise: "as in the training" },
    part: shared.part,
    defect: shared.defect,
    port: {
      type: "integer",
      description: "Port of the page; 0 for any that is free.",
      default: 8000,
      min: 0,
      max: 65535,
      changeable: true,
    },
    seed: { ...shared.seed, description: "Seed that the page begins with.", changeable: true },
    steps: { ...shared.steps(20), description: "Sampling steps that the page begins with.", changeable: true },
    guidanceScale: { ...shared.guidanceScale(2), changeable: true },
    sampler: { ...shared.sampler, default: "dpm++2m" },
    memory: shared.memory,
  },
  examples: [
    "--train-run runs/photos --out runs/painted",
    "--train-run runs/demo/train --data fixtures/parts --out runs/painted",
  ],
  async run({ trainRun, masks, part, defect, port, seed, steps, guidanceScale, sampler, ...given }, context) {
    const config = await readJson<Record<string, unknown>>(join(trainRun, "config.json")) ?? {};
    const data = dataOf(config, given.data), trained = typeof config.model === "string" ? config.model : undefined;
    if (data === undefined) {
      await readProduct(join(trainRun, EMBEDDINGS), "train"); // a folder without a training is told as such
      throw new UserError("the training's data set is not where it was", "give its folder with --data");
    }
    using opened = await openTrainedBase(trainRun, given.model ?? trained, context);
    const { base } = opened, reweighting = usualReweighting(opened.tuned);
    const { path, embedding, sha256 } = await readEmbedding(trainRun, "train", base);
    const kinds = learnedKinds(
      { data, part, defect, allPairs: await wasGiven(trainRun, "all-pairs") },
      path,
      embedding.keys,
      context,
    );
    // One picture at a time: it fits, or it is told before anyone has painted a mask.
    const guideFrom = guideFromOf(embedding, kinds.map(({ key }) => key));
    const sizes = {
      ...{ batch: 1, guidance: guidanceScale, guideFrom, sampler, reweighting },
      ...samplingSizes(embedding),
    };
    const budget = await jobBudget(given.memory, base.gpu, () => planGeneration(base.config, sizes));
    fitGenerationTo(budget, base.config, sizes, base.gpu.device, context);
    const studio = new Studio({
      base,
      embedding,
      embeddingHash: sha256,
      kinds,
      data,
      masks,
      runFolder: context.runFolder,
      settings: {
        sampler,
        guideFrom,
        ...usualGuidance(opened.tuned),
        eta: 1,
        reweighting,
        latentMask: "maxPool",
        pasteBack: true,
        feather: 3,
        window: embedding.view?.window ?? "whole",
        zoom: embedding.view?.zoom ?? 1,
        keepDetail: true,
        minChange: 0,
        maxAttempts: 1,
      },
    });
    await using server = await servePage(
      studio,
      { trainRun, defaults: { seed, steps, guidance: guidanceScale } },
      port,
    );
    context.print(server.url);
    context.log("open this address in a browser on this machine; Ctrl-C ends the page");
    await new Promise<void>((resolve) => {
      if (context.signal.aborted) resolve();
      context.signal.addEventListener("abort", () => resolve(), { once: true });
    });
  },
});
