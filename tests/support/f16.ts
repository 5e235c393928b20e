/** Programs in f16 arithmetic, whatever was measured on this adapter. */
import { f16Key, IN_F16 } from "../../src/graph/plan.ts";
import { gpu } from "./ops.ts";

/** A table that names one variant for every class where f16 is allowed, and none elsewhere. */
export class AlwaysInF16 extends Map<string, string> {
  constructor(readonly variant: string) {
    super();
  }

  override get(key: string): string | undefined {
    return key === f16Key(key.slice(0, -IN_F16.length)) ? this.variant : undefined;
  }
}

/**
 * Runs with f16 allowed on the tests' device, and a table that names this variant everywhere.
 * @param card whether as on a graphics card
 */
export async function inF16<T>(variant: string, use: () => Promise<T>, card = gpu.card): Promise<T> {
  const before = gpu.card;
  gpu.card = card;
  gpu.precision = "f16";
  gpu.choices = new AlwaysInF16(variant);
  try {
    return await use();
  } finally {
    gpu.precision = "f32";
    gpu.choices = new Map();
    gpu.card = before;
  }
}
