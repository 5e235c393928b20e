/** The one device and the open base models of this process: a command that runs others (`demo`) shares them. */

import { Gpu, type Precision } from "../src/gpu/device.ts";
import { IN_F16 } from "../src/graph/plan.ts";
import { BaseModel } from "../src/anomaly/base_model.ts";
import { selectBackend } from "./adapter.ts";
import { smallModelFolder } from "./assets.ts";
import { loadChoices } from "./tuning.ts";

let gpu: Promise<Gpu> | undefined;
const models = new Map<string, BaseModel>();

/** The device, opened on first use, with the choices of kernels that were measured on it. */
export function openGpu(): Promise<Gpu> {
  selectBackend();
  return gpu ??= Gpu.open().then((gpu) => {
    gpu.choices = loadChoices(gpu.info, (line) => console.error(`warning: ${line}`));
    return gpu;
  });
}

/**
 * Chooses the arithmetic of the programs that a command makes from now on.
 * @param log is told where nothing was measured that f16 could be used for
 * @throws UserError where the adapter does not compute in f16
 */
export function usePrecision(gpu: Gpu, precision: Precision, log: (line: string) => void): void {
  gpu.precision = precision;
  if (precision === "f16" && !gpu.choices.keys().some((key) => key.endsWith(IN_F16))) {
    log("nothing was measured in f16 on this adapter: all is computed in f32; tune --precision f16 measures");
  }
}

/** A base model, opened on first use; the embedded small one where no folder is given. */
export async function openBase(folder: string | undefined): Promise<BaseModel> {
  const path = folder ?? smallModelFolder();
  let base = models.get(path);
  if (!base) {
    base = new BaseModel(await openGpu(), path);
    models.set(path, base);
  }
  return base;
}

/** A base model of one's own, in f32, whose weights may be trained; dispose of it in the end. */
export async function openTrainableBase(folder: string | undefined): Promise<BaseModel> {
  return new BaseModel(await openGpu(), folder ?? smallModelFolder(), "f32");
}

/**
 * Ends a command's use of the device: the arithmetic is f32 again, and the models' weights stay for the next command, while
 * all other memory is given back.
 */
export async function restDevice(): Promise<void> {
  for (const base of models.values()) base.rest();
  const open = await gpu?.catch(() => undefined);
  if (!open) return;
  open.precision = "f32";
  open.trim();
}
