/** `inspect test`: a trained inspection network on the real test images. */
import { UserError } from "../../src/errors.ts";
import { networkParameters } from "../../src/inspection/models/init.ts";
import { argmax, classifierFigures } from "../../src/inspection/training/evaluate.ts";
import { withPrefix } from "../../src/inspection/training/model_file.ts";
import { Predictor } from "../../src/inspection/training/predictor.ts";
import { refuseOverlap } from "../../src/inspection/training/samples.ts";
import { defineCommand } from "../command.ts";
import { openGpu } from "../device.ts";
import { UsageError } from "../errors.ts";
import { openKinds } from "../jobs/dataset.ts";
import { labelOf, readInspector, tellLeak, tellUntested, testImages } from "../jobs/inspection.ts";
import { csv, LocalisationResults, printFigures, SCORES, writeMetrics } from "../jobs/inspection_results.ts";
import * as shared from "./shared.ts";

export default defineCommand({
  name: "inspect-test",
  summary: "Tests a trained inspection network on the real test images.",
  details:
    "Localisation: AUROC, AP, F1-max and AU-PRO of pixels and images, of several parts the mean and each part's own. " +
    "Classification: accuracy and confusion. Tests on the pairs after the first third of each kind and on test/good; " +
    "images that were trained on are refused. Writes metrics.json, scores.csv, points of the curves (curves.json) and the " +
    "score maps of the best and worst cases.",
  runFolder: true,
  gpu: true,
  flags: {
    data: shared.data,
    trainRun: { type: "string", value: "folder", description: "Run folder of inspect train.", required: true },
    part: { ...shared.part, otherwise: "those that the network was trained on" },
    defect: shared.defect,
    parity: shared.parity({ groundTruth: "official" }),
    groundTruth: shared.groundTruth,
    batchSize: shared.batchSize,
    saveMaps: shared.saveMaps,
  },
  examples: ["--data photos --train-run runs/inspector --out runs/inspector-test"],
  async run(options, context) {
    const inspector = await readInspector(options.trainRun), { info } = inspector, { config, side, labels } = info;
    const { runFolder } = context, { parity, groundTruth, saveMaps } = options;
    if (config.kind === "classifier" && (saveMaps || (groundTruth !== "binary" && parity === "off"))) {
      throw new UsageError(
        `${saveMaps ? "--save-maps" : "--ground-truth"} is about score maps, which a classifier has not`,
        "leave it out, or give the run of a localisation network",
      );
    }
    const all = openKinds({ data: options.data, part: options.part ?? info.parts, defect: options.defect }, context);
    const known = (kind: typeof all[number]) => labels.includes(labelOf(kind.part.name, kind.defect.name, info.parts));
    const kinds = config.kind === "classifier" && !options.defect ? all.filter(known) : all;
    const strange = config.kind === "classifier" ? all.find((kind) => !known(kind)) : undefined;
    if (strange && (options.defect || kinds.length === 0)) {
      throw new UserError(`the classifier does not know ${strange.key}`, `it knows ${labels.join(", ")}`);
    }
    tellUntested(all, kinds, info, options, context);
    const samples = await testImages(kinds, info.parts, side, context, groundTruth === "official");
    refuseOverlap(info.trainedOn, samples);
    tellLeak(info, context);
    using parameters = networkParameters(0, withPrefix(config, inspector.weights));
    using predictor = new Predictor(await openGpu(), config, parameters, side, options.batchSize);
    const selection = info.selection === "last"
      ? "last step"
      : "test-best: chosen on a test set, as the official code does; figures on that set are too good";
    const form = config.kind === "localisation" ? { form: config.form ?? "draem" } : {};
    const facts = { network: config.kind, ...form, baseWidth: config.baseWidth, side, step: info.step, selection };
    let figures: object;
    const shown = config.kind === "classifier" ? samples.filter(({ kind }) => kind !== undefined) : samples;
    using progress = context.progress({ label: "testing", total: shown.length, unit: "image" });
    if (config.kind === "classifier") {
      const named: number[] = [];
      const rows: (string | number)[][] = [];
      for await (const { index, values } of predictor.predict(shown)) {
        context.signal.throwIfAborted();
        named[index] = argmax(values);
        rows.push([shown[index].path, shown[index].kind!, labels[named[index]], values[named[index]]]);
        progress.update(index + 1);
      }
      figures = { ...classifierFigures(shown.map(({ kind }) => labels.indexOf(kind!)), named, labels.length), labels };
      await runFolder.write(SCORES, csv([["image", "kind", "named", "probability"], ...rows]));
    } else {
      const results = new LocalisationResults(side, saveMaps, context);
      for await (const { index, values } of predictor.predict(shown)) {
        context.signal.throwIfAborted();
        await results.add(index, shown[index], values);
        progress.update(index + 1);
      }
      figures = { ...await results.finish(), groundTruth };
    }
    progress.finish();
    await writeMetrics({ ...facts, ...figures }, context);
    printFigures(figures, context);
    if (info.selection !== "last") context.log(selection);
  },
});
