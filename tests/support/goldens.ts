/**
 * The parity fixtures: what reference PyTorch modules computed on formula weights. Every file whose metadata fits is used,
 * whatever its salt. ANOMALYDIFFUSION_GOLDENS names one more folder (with the large model's files, or other salts).
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FormulaWeights, noise, u } from "../../src/weights/formula.ts";
import { Safetensors } from "../../src/weights/safetensors.ts";

/** One golden file, wholly read. */
export interface Golden {
  file: string;
  salt: string;
  metadata: Readonly<Record<string, string>>;
  weights: FormulaWeights;
  /** Formula inputs with this file's salt. */
  u(name: string, shape: readonly number[]): Float32Array;
  noise(name: string, shape: readonly number[], scale?: number): Float32Array;
  /** A stored tensor as float32. */
  tensor(name: string): { shape: readonly number[]; data: Float32Array };
  /** A configuration stored as JSON, e.g. `config("unet").model_channels`. */
  config(name: string): Record<string, unknown>;
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** Paths of all golden files by name; a file of the named folder replaces one of the same name that ships here. */
function files(): Map<string, string> {
  const shipped = fileURLToPath(new URL("../../fixtures/goldens", import.meta.url));
  const extra = Deno.env.get("ANOMALYDIFFUSION_GOLDENS");
  const found = new Map<string, string>();
  if (extra && !isFolder(extra)) throw new Error(`ANOMALYDIFFUSION_GOLDENS names ${extra}, which is no folder`);
  for (const folder of extra ? [shipped, extra] : [shipped]) {
    for (const { name } of Deno.readDirSync(folder)) {
      if (name.endsWith(".safetensors")) found.set(name, join(folder, name));
    }
  }
  return found;
}

/**
 * Registers a check for every golden file of a part, or one that is skipped and says that there is none.
 * @param name of the check
 */
export function forGoldens(name: string, part: string, preset: string, register: (golden: Golden) => void): void {
  const found = goldens(part, preset);
  found.forEach(register);
  if (found.length === 0) {
    Deno.test.ignore(`${name}: no ${preset}-*-${part} file; ANOMALYDIFFUSION_GOLDENS names the folder`, () => {});
  }
}

/**
 * All golden files of a part (`unet`, `text`, `vae`, `train`, `sample`, `spatial`, `segmenter`, …), of one preset where
 * given (`small`, `large`), sorted by name.
 */
export function goldens(part: string, preset?: string): Golden[] {
  const found: Golden[] = [];
  for (const [file, path] of [...files()].sort()) {
    const stored = Safetensors.parse(Deno.readFileSync(path), file);
    const { salt, part: its, preset: size } = stored.metadata;
    if (its !== part || (preset !== undefined && size !== preset)) continue;
    found.push({
      file,
      salt,
      metadata: stored.metadata,
      weights: new FormulaWeights(salt),
      u: (name, shape) => u(salt, name, shape),
      noise: (name, shape, scale) => noise(salt, name, shape, scale),
      tensor: (name) => ({ shape: stored.info(name).shape, data: stored.float32(name) }),
      config: (name) => JSON.parse(stored.metadata[name]),
    });
  }
  return found;
}
