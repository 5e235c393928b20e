/**
 * Operations on small awkward shapes, each with an ONNX graph that computes the same thing. The references are checked
 * against this table, and so is any other implementation that takes the same inputs and options.
 */
import type { OnnxCase } from "./onnx_case.ts";
import { resampleCases, shapeCases } from "./onnx_cases_images.ts";
import { attentionCases, gemmCases, normCases } from "./onnx_cases_layers.ts";
import { gaussianCases, lossCases, reweightingCases } from "./onnx_cases_losses.ts";
import { pointwiseCases } from "./onnx_cases_pointwise.ts";

export type { OnnxCase };

/** All cases; building the table runs nothing. */
export const onnxCases: readonly OnnxCase[] = [
  ...gemmCases(),
  ...normCases(),
  ...attentionCases(),
  ...pointwiseCases(),
  ...resampleCases(),
  ...shapeCases(),
  ...lossCases(),
  ...gaussianCases(),
  ...reweightingCases(),
];
