/**
 * A trained inspection network as an ONNX file, so that a line can use it without this program. Input `image`: float32
 * [batch, 3, S, S], RGB from 0 to 255; the division by 255 is inside. Outputs of the localisation U-Net: `map`
 * [batch, S, S], the defect's probability of each pixel, and `score` [batch], the map's largest 21×21 mean; of the classifier:
 * `probabilities` [batch, classes], in the order of the metadata's `labels`.
 */

import type { Inspector } from "../training/model_file.ts";
import { describeNetwork } from "../models/network.ts";
import { OnnxLayers } from "./layers.ts";
import { OnnxWriter } from "./writer.ts";

/** Side of the window whose mean the image's score is the largest of, as in the official evaluation. */
const SCORE_WINDOW = 21;

/** The bytes of the ONNX model (opset 17); the same network gives the same bytes. */
export function exportOnnx({ info, weights }: Inspector): Uint8Array<ArrayBuffer> {
  const { config, side, labels, parts, selection, step } = info, model = new OnnxWriter();
  const bytes = model.input("image", ["batch", 3, side, side]);
  const image = model.node("Mul", [bytes, model.floats("one_255th", [1], Float32Array.of(1 / 255))]);
  const logits = describeNetwork(config, new OnnxLayers(model, weights), { name: image, channels: 3 }).name;
  if (config.kind === "localisation") {
    const shares = model.node("Softmax", [logits], { axis: 1 }); // [B, 2, S, S]
    const defect = model.node("Gather", [shares, model.integers("defect", [1])], { axis: 1 }); // [B, 1, S, S]
    model.output(model.node("Squeeze", [defect, model.integers("channel", [1])], {}, "map"), ["batch", side, side]);
    const half = (SCORE_WINDOW - 1) / 2;
    const smooth = model.node("AveragePool", [defect], {
      kernel_shape: [SCORE_WINDOW, SCORE_WINDOW],
      pads: [half, half, half, half],
      count_include_pad: 1,
    });
    const most = model.node("GlobalMaxPool", [smooth]);
    model.output(model.node("Reshape", [most, model.integers("flat", [-1])], {}, "score"), ["batch"]);
  } else {
    const shares = model.node("Softmax", [logits], { axis: 1 }, "probabilities");
    model.output(shares, ["batch", config.classes]);
  }
  return model.build(config.kind, {
    labels: JSON.stringify(labels),
    parts: JSON.stringify(parts),
    input: "RGB, 0 to 255, channels first",
    selection,
    step: String(step),
  });
}
