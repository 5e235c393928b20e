/** The layout rules that a network's parameters need to come from and go back to PyTorch. */

import type { LayoutRules } from "../nn/parameters.ts";
import { convFromTorch, convToTorch, linearFromTorch, linearToTorch } from "./layout.ts";

/** PyTorch's layouts: OIHW convolutions, [out, in] linear weights. */
export const torchLayouts: LayoutRules = {
  fromTorch(layout, data, shape) {
    if (layout === "linear") return linearFromTorch(data, shape);
    return layout === "conv" ? convFromTorch(data, shape) : data;
  },
  toTorch(layout, data, shape) {
    if (layout === "linear") return linearToTorch(data, shape);
    return layout === "conv" ? convToTorch(data, shape) : data;
  },
};
