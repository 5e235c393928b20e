/** Weights by formula whose matrices are binary16 numbers: what we store packed, others store as the same float32 numbers. */

import { fromHalf, toHalf } from "../../src/gpu/half.ts";
import type { ParameterSource } from "../../src/nn/parameters.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";

/** A source of any name and shape. */
export function halfWeights(salt: string): ParameterSource {
  const formula = new FormulaWeights(salt);
  return {
    get(name, shape) {
      const values = formula.get(name, shape);
      return shape.length > 1 ? fromHalf(toHalf(values)) : values;
    },
  };
}
