/** `inspect export`: a trained inspection network as an ONNX file. */
import { exportOnnx } from "../../src/inspection/onnx/export.ts";
import { OPSET } from "../../src/inspection/onnx/writer.ts";
import { UserError } from "../../src/errors.ts";
import { defineCommand } from "../command.ts";
import { existsFile } from "../jobs/files.ts";
import { readInspector } from "../jobs/inspection.ts";
import { writeAtomic } from "../run_folder.ts";

export default defineCommand({
  name: "inspect-export",
  summary: "Writes a trained inspection network as an ONNX file.",
  details:
    `Opset ${OPSET}. Input "image": float32 [batch, 3, S, S], RGB from 0 to 255; normalisation is inside. Outputs ` +
    'of the localisation U-Net: "map" [batch, S, S], the probability of a defect at each pixel, and "score" [batch]; of ' +
    'the classifier: "probabilities" [batch, classes]. The labels are in the file\'s metadata.',
  runFolder: false,
  gpu: false,
  flags: {
    trainRun: { type: "string", value: "folder", description: "Run folder of inspect train.", required: true },
    output: { type: "string", value: "file", description: "ONNX file to write.", required: true },
    overwrite: { type: "boolean", description: "Replace the file in --output.", default: false, transient: true },
  },
  examples: ["--train-run runs/inspector --output inspector.onnx"],
  async run({ trainRun, output, overwrite }, context) {
    if (!overwrite && await existsFile(output)) {
      throw new UserError(`${output} is there already`, "add --overwrite to replace it, or choose another --output");
    }
    const inspector = await readInspector(trainRun), bytes = exportOnnx(inspector);
    await writeAtomic(output, bytes);
    const { config, side, labels } = inspector.info;
    context.log(
      `opset ${OPSET}, input image [batch, 3, ${side}, ${side}] (RGB, 0 to 255), outputs ${
        config.kind === "localisation" ? "map and score" : `probabilities of ${labels.join(", ")}`
      }`,
    );
    context.print(output);
  },
});
