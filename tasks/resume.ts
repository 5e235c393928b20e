/**
 * Opening a run: a new folder gets the config, a resumed one gives it back. A resumed run keeps every setting that decides
 * what comes out; only those that say how much may differ.
 */
import { UserError } from "../src/errors.ts";
import type { AnyCommand } from "./command.ts";
import { EXIT, UsageError } from "./errors.ts";
import { complete, type Flags, kebab, readConfig, toConfig, type Values } from "./flags.ts";
import { type Checkpoint, RunFolder } from "./run_folder.ts";

/** Flags of every command that works in a run folder. */
export function RUN_FLAGS(command: string): Flags {
  const out = {
    type: "string",
    value: "folder",
    description: "Run folder for everything that is written.",
    unsaved: true,
  } as const;
  return {
    out: command === "demo" ? { ...out, default: "runs/demo" } : { ...out, required: true },
    resume: {
      type: "boolean",
      description: "Go on with the run in --out where it stopped; its saved settings hold.",
      default: false,
      transient: true,
    },
    resumeFromCheckpoint: {
      type: "string",
      value: "latest or step",
      description: "As --resume, from the newest checkpoint or from that of a step.",
      transient: true,
    },
    overwrite: {
      type: "boolean",
      description: "Replace the run in --out; it is kept until the new one has made something.",
      default: false,
      transient: true,
    },
  };
}

/** A run that may begin. */
export interface OpenedRun {
  readonly folder: RunFolder;
  readonly options: Values;
  readonly checkpoint: Checkpoint | undefined;
  /** What to add to the command to go on with this run. */
  readonly resumeFlags: string;
  /**
   * Gives the folder back. A run that failed before it wrote anything leaves no trace, one that was stopped its settings; the
   * run that either was to replace comes back.
   * @param code how it ended
   * @returns whether the run is there, to go on with
   */
  close(code: number): Promise<boolean>;
}

/**
 * Opens the run folder named by `--out` for a command, new or resumed.
 * @param values what config file and command line gave
 * @param judge refuses options that contradict each other
 * @param check what must hold before anything is written (an adapter, for one)
 * @throws UsageError for missing or contradicting flags, UserError where the folder cannot take this run
 */
export async function openRun(
  command: AnyCommand,
  values: Values,
  version: string,
  judge: (options: Values) => void,
  check: () => Promise<void>,
): Promise<OpenedRun> {
  const flags = command.flags as Flags;
  const from = resumePoint(values);
  if (from !== undefined && values.overwrite) throw new UsageError("--resume and --overwrite exclude each other");
  const out = String(values.out ?? flags.out.default ?? "");
  // Usage is judged before anything is touched; a resumed run may leave to its saved config what is required.
  if (from === undefined || !out || !await exists(out)) judge(complete(flags, values));
  await check();
  const isNew = !await exists(out);
  const folder = await RunFolder.open(out);
  let fresh = false;
  const close = async (code: number) => {
    let bare = false;
    try {
      if (fresh && await folder.settle(code === EXIT.ok)) return false;
      bare = code !== EXIT.ok && code !== EXIT.interrupted && fresh && await holdsOnlyConfig(folder);
      if (bare) await Deno.remove(folder.file("config.json")).catch(() => {});
      return !bare;
    } finally {
      await folder.close();
      if (bare && isNew) await Deno.remove(folder.path).catch(() => {});
    }
  };
  try {
    if (await folder.settle() && from !== undefined) {
      throw new UserError(
        `${out} holds the run before again: the one that was to replace it was killed before it had made anything`,
        "start that one with --overwrite again, or go on with the run before by another --resume",
      );
    }
    let saved = await folder.config();
    if (saved && saved.command === undefined) saved = undefined;
    if (saved && from === undefined) {
      if (!values.overwrite) {
        throw new UserError(
          `${out} already holds a run of ${saved.command}`,
          "add --resume to go on with it or --overwrite to replace it, or choose another --out",
        );
      }
      saved = undefined;
    } else if (!saved && (await folder.names()).length > 0) {
      throw new UserError(`${out} is not empty and holds no run`, "choose a new or empty folder for --out");
    }
    const base = saved ? readConfig(flags, command.name, saved, folder.file("config.json")) : {};
    if (saved) refuseChanges(flags, base, values);
    const options = complete(flags, base, values);
    judge(options);
    const checkpoint = saved && from !== undefined ? await findCheckpoint(folder, from) : undefined;
    const config = toConfig(flags, command.name, version, options);
    fresh = !saved;
    if (fresh && values.overwrite && (await folder.names()).length > 0) await folder.setAside();
    if (JSON.stringify(config) !== JSON.stringify(saved)) await folder.saveConfig(config);
    return { folder, options, checkpoint, resumeFlags: `--out ${shellWord(out)} --resume`, close };
  } catch (error) {
    await close(EXIT.error);
    throw error;
  }
}

/** `"latest"`, a step, or undefined where the run is not to be resumed. */
function resumePoint(values: Values): "latest" | number | undefined {
  const given = values.resumeFromCheckpoint;
  if (given === undefined) return values.resume ? "latest" : undefined;
  if (given === "latest") return "latest";
  const step = /(\d+)(\.ckpt)?$/.exec(String(given));
  if (!step) throw new UsageError(`--resume-from-checkpoint is latest or a step, not "${given}"`);
  return Number(step[1]);
}

async function findCheckpoint(folder: RunFolder, from: "latest" | number): Promise<Checkpoint | undefined> {
  return from === "latest" ? await folder.latestCheckpoint() : await folder.checkpoint(from);
}

function refuseChanges(flags: Flags, saved: Values, given: Values): void {
  for (const [key, value] of Object.entries(given)) {
    const flag = flags[key];
    if (flag.transient || flag.unsaved || flag.changeable || same(saved[key], value)) continue;
    throw new UsageError(
      `--${kebab(key)} ${value} differs from the run's own ${saved[key] === undefined ? "setting" : saved[key]}`,
      "leave the flag out to go on with the run, or start another one with another --out",
    );
  }
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch {
    return false;
  }
}

async function holdsOnlyConfig(folder: RunFolder): Promise<boolean> {
  return (await folder.names()).every((name) => name === "config.json");
}

function shellWord(word: string): string {
  return /^[\w./:@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
