/** The one device and the open base models of this process: a command that runs others (`demo`) shares them. */

import { Gpu } from "../src/gpu/device.ts";
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

/** Ends a command's use of the device: the models' weights stay for the next command, all other memory is given back. */
export async function restDevice(): Promise<void> {
  for (const base of models.values()) base.rest();
  (await gpu?.catch(() => undefined))?.trim();
}
