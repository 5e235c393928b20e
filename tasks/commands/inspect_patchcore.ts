/** `inspect patchcore`: the unsupervised detector beside the trained networks, on the same test images. */
import { FeatureNetwork } from "../../src/inspection/metrics/features.ts";
import { networkParameters } from "../../src/inspection/models/init.ts";
import { PatchCore } from "../../src/inspection/patchcore/detector.ts";
import {
  encoderFeatures,
  type FeatureSource,
  networkFeatures,
  OnnxFeatures,
} from "../../src/inspection/patchcore/features.ts";
import { withPrefix } from "../../src/inspection/training/model_file.ts";
import { refuseOverlap } from "../../src/inspection/training/samples.ts";
import { isSoftware } from "../../src/gpu/device.ts";
import { defineCommand } from "../command.ts";
import { openBase, openGpu } from "../device.ts";
import { UsageError } from "../errors.ts";
import { openKinds } from "../jobs/dataset.ts";
import { normalImages, readInspector, tellLeak, testImages } from "../jobs/inspection.ts";
import { LocalisationResults, printFigures, writeMetrics } from "../jobs/inspection_results.ts";
import * as shared from "./shared.ts";

/** Side of the images where no flag and no trained network gives it. */
const SIDE = 256, SIDE_SOFTWARE = 128;

/** Patches that are chosen between two looks for Ctrl-C. */
const LISTEN_EVERY = 32;

export default defineCommand({
  name: "inspect-patchcore",
  summary: "PatchCore, a detector that learns from normal images only, on the real test images.",
  details:
    "Remembers patches of each part's normal images and scores what is far from them (Roth et al., CVPR 2022), " +
    "on the same test images and with the same files as inspect-test, so that unsupervised and supervised inspection " +
    "stand side by side in a report. Features: of the base model's encoder; with --train-run, of a network of " +
    "inspect-train; with --backbone, of an ONNX network (docs/metrics.md), which the published figures use.",
  runFolder: true,
  gpu: true,
  flags: {
    data: shared.data,
    part: shared.part,
    defect: shared.defect,
    model: shared.model,
    trainRun: {
      type: "string",
      value: "folder",
      description: "Take the features of this run folder's network (inspect-train).",
      otherwise: "the base model's encoder",
    },
    backbone: {
      type: "string",
      value: "file",
      description: "Take the features of this ONNX network: input [1, 3, H, W] of 0 … 255, outputs [1, C, h, w].",
      otherwise: "the base model's encoder",
    },
    backboneOutputs: {
      type: "list",
      value: "name",
      description: "Outputs of the ONNX network that are used.",
      default: ["layer2", "layer3"],
    },
    seed: shared.seed,
    resolution: {
      type: "integer",
      unit: "pixels",
      description: "Side at which images are read and maps are compared.",
      otherwise: `the trained network's, else ${SIDE}, or ${SIDE_SOFTWARE} on a software adapter`,
      min: 16,
      max: 1024,
    },
    coreset: {
      type: "number",
      unit: "per cent",
      description: "Share of the normal patches that is remembered.",
      default: 10,
      min: 0.01,
      max: 100,
    },
    maxPatches: {
      type: "integer",
      unit: "patches",
      description: "Never remember more of one part than this.",
      default: 8192,
      min: 1,
    },
    groundTruth: shared.groundTruth,
    batchSize: shared.batchSize,
    saveMaps: shared.saveMaps,
  },
  examples: [
    "--data photos --part bolt --out runs/patchcore",
    "--data photos --backbone wide-resnet50.onnx --out runs/patchcore",
  ],
  judge({ trainRun, backbone }) {
    if (trainRun && backbone) {
      throw new UsageError("--train-run and --backbone both name the network of the features", "give one of them");
    }
  },
  async run(options, context) {
    const { trainRun, backbone, batchSize, seed } = options;
    const inspector = trainRun === undefined ? undefined : await readInspector(trainRun);
    if (inspector) tellLeak(inspector.info, context);
    const gpu = await openGpu();
    const side = options.resolution ?? inspector?.info.side ?? (isSoftware(gpu.info) ? SIDE_SOFTWARE : SIDE);
    const kinds = openKinds(options, context), parts = [...new Set(kinds.map(({ part }) => part.name))];
    // Freed in the end; the base model is shared and stays.
    using owned = new DisposableStack();
    await using networks = new AsyncDisposableStack();
    const open = async (): Promise<FeatureSource> => {
      if (backbone !== undefined) {
        const outputs = options.backboneOutputs;
        return new OnnxFeatures(networks.use(await FeatureNetwork.open(backbone, { outputs, size: side })), side);
      }
      if (inspector) {
        const { info: { config }, weights } = inspector;
        const parameters = owned.use(networkParameters(0, withPrefix(config, weights)));
        return owned.use(networkFeatures(gpu, config, parameters, side, batchSize));
      }
      return owned.use(encoderFeatures(await openBase(options.model), side, batchSize));
    };
    const source = await open();
    const results = new LocalisationResults(side, options.saveMaps, context);
    const banks: Record<string, { normalImages: number; patches: number; remembered: number }> = {};
    let tested = 0;
    for (const name of parts) {
      const own = kinds.filter(({ part }) => part.name === name);
      const normal = await normalImages(own, side, context);
      const samples = await testImages(own, parts, side, context, options.groundTruth === "official");
      refuseOverlap([...normal.map(({ hash }) => hash), ...inspector?.info.trainedOn ?? []], samples);
      context.signal.throwIfAborted();
      using reading = context.progress({ label: `${name}: features`, total: normal.length, unit: "image" });
      let choosing: ReturnType<typeof context.progress> | undefined;
      const detector = await PatchCore.train(source, normal, {
        share: options.coreset / 100,
        most: options.maxPatches,
        seed,
        onImage: (done) => {
          context.signal.throwIfAborted();
          reading.update(done);
          if (done === normal.length) reading.finish();
        },
        onPatch: async (chosen, wanted) => {
          choosing ??= context.progress({ label: `${name}: coreset`, total: wanted, unit: "patch" });
          choosing.update(chosen);
          if (chosen % LISTEN_EVERY) return;
          await new Promise((resolve) => setTimeout(resolve)); // lets Ctrl-C in
          context.signal.throwIfAborted();
        },
      });
      choosing?.finish();
      banks[name] = { normalImages: normal.length, patches: detector.seen, remembered: detector.bank.patches.count };
      using progress = context.progress({ label: `${name}: testing`, total: samples.length, unit: "image" });
      for await (const { index, map, score } of detector.detect(samples, side)) {
        context.signal.throwIfAborted();
        await results.add(tested++, samples[index], map, score);
        progress.update(index + 1);
      }
      progress.finish();
    }
    const figures = { ...await results.finish(), groundTruth: options.groundTruth };
    const facts = { network: "patchcore", features: source.name, side, coreset: options.coreset, banks };
    await writeMetrics({ ...facts, ...figures }, context);
    printFigures(figures, context);
  },
});
