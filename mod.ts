/**
 * AnomalyDiffusion for Deno, as a library: learn a factory defect from a few image–mask pairs, generate labelled defect
 * images (Hu et al., AAAI 2024), and the small differentiable WebGPU engine underneath.
 *
 * The engine describes, differentiates, plans and replays. Here it fits a line by Adam on the GPU:
 *
 * ```ts
 * import { compile, Gpu, gradient, input, ops, Variable } from "./mod.ts";
 *
 * using gpu = await Gpu.open();
 * const line = Variable.zeros("line", [2, 1]), m = Variable.zeros("m", [2, 1]), v = Variable.zeros("v", [2, 1]);
 * const x = input("x", [4, 2]), y = input("y", [4, 1]);
 * const loss = ops.mse(ops.linear(x, line.tensor), y);
 * const [slope] = gradient(loss, [line.tensor]);
 * const update = ops.adam({ parameter: line, gradient: slope, m, v, hyper: input("hyper", [8]) });
 * using program = compile(gpu, { loss, slope }, [update]);
 *
 * const points = { x: Float32Array.of(0, 1, 1, 1, 2, 1, 3, 1), y: Float32Array.of(1, 3, 5, 7) }; // y = 2x + 1
 * const first = await program.run({ ...points, hyper: ops.adamHyper(1, { learningRate: 0.1 }) });
 * if (first.loss[0] !== 21 || first.slope.join() !== "-17,-8") throw new Error("not the analytic gradient");
 * for (let step = 2; step <= 300; step++) {
 *   program.step({ ...points, hyper: ops.adamHyper(step, { learningRate: 0.1 }) });
 * }
 * const [steepness, offset] = await line.read();
 * if (Math.abs(steepness - 2) + Math.abs(offset - 1) > 0.02) throw new Error(`${steepness} · x + ${offset}`);
 * ```
 *
 * The method on top of it: a frozen base model, an inversion that learns every defect of a data set, a generator.
 *
 * ```ts ignore
 * import {
 *   BaseModel, defectItems, encodeEmbedding, Gpu, Inversion, loadImage, loadMask, loadPair, PairGenerator, promptTemplates,
 *   savePng, scanDataset,
 * } from "./mod.ts";
 *
 * using gpu = await Gpu.open();
 * using base = new BaseModel(gpu, "models/small-ldm");
 * const [wood] = scanDataset("photos", { part: "wood" }), samples = [];
 * for (const { name, train } of wood.defects) {
 *   for (const pair of train) samples.push({ key: `wood+${name}`, ...await loadPair(pair) });
 * }
 * const view = { window: "mask", zoom: 2 } as const; // windows around the defects, enlarged where they are small
 * const options = { seed: 0, copies: 24, augmentation: "paper", latentMask: "maxPool", view } as const;
 * const items = await defectItems(base, samples, options);
 * using inversion = new Inversion(base, items, {
 *   tokens: 8, spatialTokens: 4, batch: 4, steps: 800, seed: 0, learningRate: 0.005, encoderLearningRate: 0.001,
 *   initializerToken: "defect", area: true, view, templates: promptTemplates,
 * });
 * while (inversion.steps < 800) console.log(await inversion.advance(inversion.steps + 50));
 * const embedding = await inversion.embedding();
 * Deno.writeFileSync("embeddings.safetensors", encodeEmbedding(embedding));
 *
 * using generator = new PairGenerator(base, embedding, {
 *   batch: 4, steps: 50, eta: 1, guidance: 3, reweighting: "official", seed: 0, feather: 3, ...view,
 *   keepDetail: true, minChange: 0.01, maxAttempts: 3, latentMask: "maxPool",
 * });
 * const source = await loadImage(wood.good[0]), mask = await loadMask("my-mask.png");
 * for await (const { image } of generator.generate([{ index: 0, key: "wood+scratch", source, mask }])) {
 *   savePng("scratch.png", image);
 * }
 * ```
 *
 * On Linux set `DENO_WEBGPU_BACKEND=vulkan`, or Deno may choose OpenGL. Files are read and written only where a path is given.
 *
 * @module
 */

export { UserError } from "./src/errors.ts";
export { Random } from "./src/random/philox.ts";

export {
  type Access,
  Gpu,
  type GpuOptions,
  type Kernel,
  type Pipeline,
  type Precision,
  type Suspect,
} from "./src/gpu/device.ts";
export type { KernelTime, Scalar } from "./src/gpu/program.ts";
export type { Defines } from "./src/gpu/template.ts";
export { compile, type Compiled, type Feed, type Outputs } from "./src/graph/compile.ts";
export { gradient, type GradientOptions } from "./src/graph/gradient.ts";
export type { PlanReport } from "./src/graph/plan.ts";
export type { Scratch } from "./src/graph/scratch.ts";
export type { DType, Shape, Spec, Tensor } from "./src/graph/tensor.ts";
export { constant, filled, input, readVariables, type Source, Variable } from "./src/graph/variable.ts";
/** The ops of graphs: `ops.conv2d`, `ops.attention`, `ops.adam`, … */
export * as ops from "./src/graph/ops/mod.ts";

export type { Sample } from "./src/data/augment.ts";
export { type Image, loadImage, loadMask, type Mask, savePng } from "./src/data/image.ts";
export { type Defect, loadPair, type Pair, type Part, scanDataset, type ScanOptions } from "./src/data/mvtec.ts";
export { plainPrompt, promptTemplates } from "./src/data/prompts.ts";
export type { Tokenizer } from "./src/data/tokenizer.ts";
export type { LatentMaskMode } from "./src/diffusion/blend.ts";
export type { Schedule } from "./src/diffusion/schedule.ts";
export { type SamplerKind, samplerKinds } from "./src/diffusion/sampling.ts";
export type { TimestepSampling } from "./src/diffusion/timesteps.ts";
export type { OfficialSpatialConfig, Statistics } from "./src/models/official_spatial_encoder.ts";
export type { LightSpatialConfig } from "./src/models/spatial_encoder.ts";
export type { Parameters, ParameterSource, Stored } from "./src/nn/parameters.ts";
export type { AutoencoderConfig, ModelConfig, ScheduleConfig, TextConfig, UnetConfig } from "./src/weights/config.ts";

export { BaseModel, type Prompt } from "./src/anomaly/base_model.ts";
export {
  type AnomalyEmbedding,
  decodeEmbedding,
  encodeEmbedding,
  type SpatialConfig,
  tokensOf,
} from "./src/anomaly/embedding.ts";
export type { PairFigures } from "./src/anomaly/figures.ts";
export { type GateLimits, type PairRefusal, pairRefusal } from "./src/anomaly/gate.ts";
export {
  type GeneratedPair,
  MaskGenerator,
  PairGenerator,
  type PairJob,
  type PairSettings,
  type SampledMask,
} from "./src/anomaly/generate.ts";
export {
  Inversion,
  type InversionItem,
  type InversionSettings,
  type SpatialInit,
  type TuneSettings,
} from "./src/anomaly/inversion.ts";
export { limitsOf, type MaskLimits, partRegion, placeMask, refusal } from "./src/anomaly/masks.ts";
export type { ReweightingForm, SamplerSettings } from "./src/anomaly/sampler.ts";
export {
  type Augmentation,
  defectItems,
  type LabelledSample,
  maskItems,
  type NormalImage,
  surfaceItems,
  type TrainingSetOptions,
} from "./src/anomaly/training_set.ts";
export { type GuideFrom, guideFromOf, surfaceKey, surfaceTokens } from "./src/anomaly/surface.ts";
export { type Tint, tintOf, TintRange } from "./src/anomaly/tint.ts";
export type { View } from "./src/anomaly/windows.ts";

export {
  type DetectionCurves,
  detectionFigures,
  type DetectionResult,
  Evaluation,
  type FigureName,
  type ImageResult,
  type ImageTruth,
} from "./src/inspection/metrics/evaluation.ts";
export {
  type ClusterResult,
  type ClusterRule,
  clusterRules,
  inceptionScore,
  intraClusterLpips,
  kernelInceptionDistance,
  type KidRule,
  kidRules,
  type MeanAndSpread,
} from "./src/inspection/metrics/generation.ts";
export { imageScore } from "./src/inspection/metrics/image_score.ts";
export { LocalisationScores, type ScoredMap } from "./src/inspection/metrics/localisation.ts";
export {
  type ChangeFigures,
  changeFigures,
  type Duplicates,
  type LabelledImage,
  type Memorising,
  memorising,
  nearDuplicates,
  type Nearest,
  seedVariety,
  type Spread,
  spread,
} from "./src/inspection/metrics/pairs.ts";
export {
  auroc,
  averagePrecision,
  type BestF1,
  f1Max,
  f1Max21,
  type Points,
  precisionRecallCurve,
  rank,
  type Ranking,
  rocCurve,
  type Visit,
} from "./src/inspection/metrics/ranking.ts";
export { auPro, auProByRank, proCurve, type RegionRanking } from "./src/inspection/metrics/regions.ts";
