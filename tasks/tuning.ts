/**
 * Where choices between kernel variants are kept: a table that ships (`tuning.json` beside this file, of adapters on which
 * someone measured), and one in the user's cache folder, which `tune` writes and which wins. A table that cannot be used is
 * named in one line and ignored: the program only runs slower without it.
 */
import { dirname, isAbsolute, join } from "node:path";
import { gemmRevision } from "../src/graph/ops/gemm_launch.ts";
import { gemmVariants, variantName } from "../src/graph/ops/gemm_variants.ts";
import { OWN_CHOICE } from "../src/graph/tuner.ts";
import { replaceFile, writeAll } from "../src/weights/atomic.ts";
import shipped from "./tuning.json" with { type: "json" };

/** Names the cache folder where the system's own shall not be used. */
export const CACHE = "ANOMALYDIFFUSION_CACHE";

/** What was measured on one adapter. */
interface Measured {
  /** Kernels and compiler that were measured: {@linkcode kernelRevision}. */
  readonly kernels: string;
  /** Date of the last measurement. */
  readonly measured: string;
  /** Variant by class, or {@linkcode OWN_CHOICE}. */
  readonly choices: Readonly<Record<string, string>>;
}

/** A table of choices. */
export interface TuningTable {
  readonly format: 1;
  /** By {@linkcode adapterKey}. */
  readonly adapters: Readonly<Record<string, Measured>>;
}

/** Deno brings the shader compiler: with another minor version variants may compute other bytes, or at other speeds. */
export function kernelRevision(): string {
  return `${gemmRevision}, Deno ${Deno.version.deno.split(".").slice(0, 2).join(".")}`;
}

/** An adapter as WebGPU describes it: vendor, architecture, device, description. */
export function adapterKey({ vendor, architecture, device, description }: GPUAdapterInfo): string {
  return [vendor, architecture, device, description].map((word) => word.trim()).join(" / ");
}

/** The user's table, or undefined where the system names no place for caches. Relative names count from where the user is. */
export function tablePath(): string | undefined {
  const { env } = Deno, given = env.get(CACHE);
  if (given) return join(given, "tuning.json");
  const home = env.get("HOME"), xdg = env.get("XDG_CACHE_HOME");
  const base = Deno.build.os === "windows"
    ? env.get("LOCALAPPDATA")
    : xdg && isAbsolute(xdg)
    ? xdg
    : home && join(home, Deno.build.os === "darwin" ? "Library/Caches" : ".cache");
  return base && join(base, "anomalydiffusion", "tuning.json");
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Checks a table.
 * @returns what is wrong with it, or undefined
 */
export function tableProblem(table: unknown): string | undefined {
  if (!isRecord(table) || table.format !== 1 || !isRecord(table.adapters)) return "is not a table of kernel choices";
  const names = new Set([OWN_CHOICE, ...gemmVariants.map(variantName)]);
  for (const [adapter, entry] of Object.entries(table.adapters)) {
    if (!isRecord(entry) || typeof entry.kernels !== "string" || !isRecord(entry.choices)) {
      return `has no choices for ${adapter}`;
    }
    // What an older or newer program measured may have other names.
    if (entry.kernels !== kernelRevision()) continue;
    const odd = Object.values(entry.choices).find((name) => typeof name !== "string" || !names.has(name));
    if (odd !== undefined) return `names a kernel variant that does not exist: ${JSON.stringify(odd)}`;
  }
}

/** The user's table; undefined where there is none, or, after a word to `warn`, none that can be read. */
function readTable(path: string, warn: (line: string) => void): TuningTable | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    warn(`${path} cannot be read and is ignored (${(error as Error).name})`);
    return undefined;
  }
  let table: unknown, problem: string | undefined;
  try {
    problem = tableProblem(table = JSON.parse(text));
  } catch {
    problem = "is not JSON";
  }
  if (!problem) return table as TuningTable;
  warn(`${path} ${problem} and is ignored; tune writes it anew`);
  return undefined;
}

/**
 * The choices for an adapter: what ships, and over it what was measured here.
 * @param warn is told, in one line, of a table that cannot be used
 * @param path the user's table
 * @param ships the table that ships
 */
export function loadChoices(
  info: GPUAdapterInfo,
  warn: (line: string) => void,
  path: string | undefined = tablePath(),
  ships: TuningTable = shipped as TuningTable,
): ReadonlyMap<string, string> {
  const key = adapterKey(info), own = path === undefined ? undefined : readTable(path, warn);
  const current = (table: TuningTable | undefined) => {
    const entry = table?.adapters[key];
    return entry?.kernels === kernelRevision() ? entry.choices : undefined;
  };
  if (own?.adapters[key] && !current(own)) {
    warn(`${path} was measured with another version of the program and is ignored; tune measures again`);
  }
  return new Map(Object.entries({ ...current(ships), ...current(own) }));
}

/**
 * Adds choices to the user's table, which appears whole or stays as it was. Those of other adapters stay.
 * @throws where the folder cannot be written
 */
export function saveChoices(path: string, info: GPUAdapterInfo, choices: ReadonlyMap<string, string>): void {
  const table = readTable(path, () => {}), key = adapterKey(info), kernels = kernelRevision();
  const before = table?.adapters[key];
  const entry: Measured = {
    kernels,
    measured: new Date().toISOString().slice(0, 10),
    choices: Object.fromEntries(
      Object.entries({ ...(before?.kernels === kernels ? before.choices : {}), ...Object.fromEntries(choices) })
        .sort(([a], [b]) => a < b ? -1 : 1),
    ),
  };
  const changed: TuningTable = { format: 1, adapters: { ...table?.adapters, [key]: entry } };
  Deno.mkdirSync(dirname(path), { recursive: true });
  const text = JSON.stringify(changed, null, 2) + "\n";
  replaceFile(path, (file) => writeAll(file, new TextEncoder().encode(text)));
}
