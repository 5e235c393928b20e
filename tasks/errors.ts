/**
 * From any thrown value to the one line that a person reads, and to the exit code that a script reads.
 * `ANOMALYDIFFUSION_DEBUG=1` adds the stack.
 */
import { UserError } from "../src/errors.ts";

/** Exit codes of the program. */
export const EXIT = { ok: 0, error: 1, usage: 2, interrupted: 130 } as const;

/** A mistake on the command line or in a config file: exit code 2. */
export class UsageError extends UserError {
  override readonly name = "UsageError";
}

/** The reason carried by the abort signal after Ctrl-C; `signal.throwIfAborted()` throws it once a step is saved. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  constructor() {
    super("interrupted");
  }
}

/** What a failed system call means, by its error code. */
const SYSTEM: Record<string, (path: string) => [message: string, hint: string]> = {
  ENOSPC: (
    path,
  ) => [`the disk is full${at(path)}`, "free some space, then add --resume: nothing written so far is lost"],
  EDQUOT: (path) => [`the disk quota is used up${at(path)}`, "free some space, then add --resume"],
  ENOENT: (path) => [`no such file or folder${at(path)}`, "check the path"],
  EACCES: (path) => [`permission denied${at(path)}`, "choose a folder that you may read and write"],
  EPERM: (path) => [`operation not permitted${at(path)}`, "choose a folder that you may read and write"],
  EROFS: (path) => [`the file system is read-only${at(path)}`, "choose another --out"],
  EEXIST: (path) => [`a file is there already${at(path)}`, "choose another path"],
  ENOTDIR: (path) => [`a file stands where a folder is needed${at(path)}`, "choose another path"],
  EISDIR: (path) => [`a folder stands where a file is needed${at(path)}`, "choose another path"],
  EMFILE: () => ["too many open files", "raise the limit (ulimit -n 4096) and add --resume"],
  EIO: (path) => [`the disk reported a read or write error${at(path)}`, "check the disk, then add --resume"],
};

function at(path: string): string {
  return path ? `: ${path}` : "";
}

/** The path that Deno appends to a system error's message (`…: readfile '/a/b'`), or "". */
function pathOf(message: string): string {
  return /'([^']+)'\s*$/.exec(message)?.[1] ?? "";
}

/**
 * One line (two with a hint) for any thrown value, and the exit code that goes with it.
 * @param error whatever was thrown
 * @returns `lines` without a stack; `code` is one of `EXIT`
 * @example
 * ```ts
 * import { describeError } from "./errors.ts";
 * import { UserError } from "../src/errors.ts";
 * const { lines, code } = describeError(new UserError("no adapter", "install a driver"));
 * if (code !== 1 || lines.join("|") !== "error: no adapter|  hint: install a driver") throw new Error(lines.join());
 * ```
 */
export function describeError(error: unknown): { lines: string[]; code: number } {
  if (error instanceof Interrupted) return { lines: ["interrupted"], code: EXIT.interrupted };
  if (error instanceof UserError) {
    const lines = [`error: ${oneLine(error.message)}`];
    if (error.hint) lines.push(`  hint: ${oneLine(error.hint)}`);
    return { lines, code: error instanceof UsageError ? EXIT.usage : EXIT.error };
  }
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code in SYSTEM) {
    const [line, hint] = SYSTEM[code](pathOf(message));
    return { lines: [`error: ${line}`, `  hint: ${hint}`], code: EXIT.error };
  }
  // Deno keeps programs without --allow-all out of the system's own folders, whatever their owner may do.
  const kept = error instanceof Deno.errors.NotCapable
    ? /^Requires all access to "(.+?)"/.exec(message)?.[1]
    : undefined;
  if (kept) {
    return {
      lines: [
        `error: ${oneLine(kept)} is in a system folder, which Deno does not open to this program`,
        "  hint: choose a path outside /dev, /proc and /sys; a RAM disk can be mounted elsewhere",
      ],
      code: EXIT.error,
    };
  }
  if (isDeviceLost(error)) {
    return {
      lines: [
        `error: the graphics device was lost (${oneLine(message)})`,
        "  hint: add --resume to continue from the last checkpoint; if it happens again, lower the batch size",
      ],
      code: EXIT.error,
    };
  }
  const kind = error instanceof Error ? error.name : "Error";
  return {
    lines: [`error: ${kind === "Error" ? "" : `${kind}: `}${oneLine(message)}`, `  hint: ${FAULT_HINT}`],
    code: EXIT.error,
  };
}

const FAULT_HINT = "this is a fault of the program; ANOMALYDIFFUSION_DEBUG=1 shows where";

/** Whether an error says that the GPU went away (driver reset, watchdog, unplugged). */
function isDeviceLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return /DeviceLost/i.test(error.name) || /\bdevice\b.{0,20}\blost\b|\blost\b.{0,12}\bdevice\b/i.test(error.message);
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, "; ");
}

/** Prints an error to stderr, with its stack when `ANOMALYDIFFUSION_DEBUG` is set; returns the exit code. */
export function reportError(error: unknown): number {
  const { lines, code } = describeError(error);
  for (const line of lines) console.error(line);
  if (Deno.env.get("ANOMALYDIFFUSION_DEBUG")) {
    for (let cause = error; cause instanceof Error; cause = cause.cause) console.error(cause.stack);
  }
  return code;
}
