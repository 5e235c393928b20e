/** `report`: one HTML page of a run, or of several side by side. */
import { defineCommand } from "../command.ts";
import { writeReport } from "../jobs/report.ts";
import { VERSION } from "../version.ts";

export default defineCommand({
  name: "report",
  summary: "Writes an HTML page of a run, or of several side by side.",
  details:
    "Contact sheets, training curves, figures with their spread, PR, ROC and PRO curves, worst and best cases, settings: " +
    "whatever the runs hold. index.html stands alone: it opens offline and on a phone, and can be mailed. Of several " +
    "runs the figures come first, side by side; runs of one name (name=folder) count as seeds of one method.",
  runFolder: true,
  gpu: false,
  flags: {
    runs: {
      type: "list",
      value: "run",
      description:
        "Run folders of demo, train, generate, generate-masks, baseline, evaluate, inspect-train, inspect-test, " +
        "inspect-patchcore or reproduce; a name may stand in front: ours=runs/pairs.",
      required: true,
      positional: true,
    },
    data: {
      type: "string",
      value: "folder",
      description: "The data set, for sources and test images.",
      otherwise: "where each run found it",
    },
    pairs: {
      type: "integer",
      unit: "pairs",
      description: "Pairs of each kind of defect that are shown, besides the faintest and the strongest.",
      default: 6,
      min: 1,
      max: 1000,
    },
    title: { type: "string", value: "words", description: "Heading of the page.", otherwise: "the runs' names" },
  },
  examples: [
    "runs/demo --out runs/demo-page",
    "ours=runs/test-0 ours=runs/test-1 crop-paste=runs/test-2 --out runs/comparison",
  ],
  async run({ runs, data, pairs, title }, context) {
    const html = await writeReport({ runs, data, shown: pairs, title, footer: `anomalydiffusion ${VERSION}` }, context);
    await context.runFolder.write("index.html", html);
    context.print(context.runFolder.file("index.html"));
  },
});
