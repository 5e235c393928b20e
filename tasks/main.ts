/**
 * The program: `anomalydiffusion <command> [flags]`. Finds the command, reads flags and config file, opens the run folder,
 * and turns what happens into lines and an exit code (0 done, 1 error, 2 wrong usage, 130 Ctrl-C).
 */
import { requireAdapter, selectBackend } from "./adapter.ts";
import type { AnyCommand, Context } from "./command.ts";
import { commands } from "./commands/mod.ts";
import { restDevice } from "./device.ts";
import { EXIT, Interrupted, reportError, UsageError } from "./errors.ts";
import { complete, type Flags, nearest, parseFlags, readConfig, refuseIdle, type Values } from "./flags.ts";
import { commandHelp, overview } from "./help.ts";
import { Progress, type ProgressOptions } from "./progress.ts";
import { type OpenedRun, openRun, RUN_FLAGS } from "./resume.ts";
import type { RunFolder } from "./run_folder.ts";
import { VERSION } from "./version.ts";

/** A second signal within this time is the echo of the first. */
const REPEAT_MS = 500;

/** Flags of every command. */
const COMMON: Flags = {
  config: {
    type: "string",
    value: "file",
    description: "JSON file with the same names and values as the flags; flags on the command line win.",
    transient: true,
  },
  help: { type: "boolean", description: "Show this page.", default: false, transient: true },
};

/** How the user calls a command here: through the bootstrap script, a deno task, or the binary. */
export function invocation(command: string): string {
  const wrapper = Deno.env.get("ANOMALYDIFFUSION_INVOKED_AS");
  if (wrapper) return `${wrapper} ${command}`;
  return Deno.build.standalone ? `anomalydiffusion ${command}` : `deno task ${command}`;
}

/** A command with the flags that every command, or every one with a run folder, has. */
function withCommonFlags(command: AnyCommand): AnyCommand {
  const flags: Flags = { ...command.flags, ...(command.runFolder ? RUN_FLAGS(command.name) : {}), ...COMMON };
  return { ...command, flags };
}

/**
 * Runs the program.
 * @param argv the words of the command line
 * @param table the commands; a test gives its own
 * @returns the exit code; errors are printed, never thrown
 */
export async function main(argv: readonly string[], table: readonly AnyCommand[] = commands): Promise<number> {
  try {
    const all = table.map(withCommonFlags);
    const [first, ...rest] = joinWords(argv, all);
    if (first === "--version" || first === "-V") {
      console.log(`anomalydiffusion ${VERSION} (Deno ${Deno.version.deno})`);
      return EXIT.ok;
    }
    const name = first === "help" ? rest[0] : first;
    if (name === undefined || name === "--help" || name === "-h") {
      (argv.length ? console.log : console.error)(overview(all, invocation));
      return argv.length ? EXIT.ok : EXIT.usage;
    }
    const command = all.find((c) => c.name === name);
    if (!command) {
      const guess = nearest(name, all.map((c) => c.name));
      throw new UsageError(`unknown command ${name}`, guess ? `did you mean ${guess}?` : "--help lists the commands");
    }
    if (first === "help" || rest.includes("--help") || rest.includes("-h")) {
      console.log(commandHelp(command, invocation(command.name)));
      return EXIT.ok;
    }
    return await runCommand(command, parseFlags(command.flags, rest));
  } catch (error) {
    return reportError(error);
  }
}

/** `inspect train` is the command `inspect-train`. */
function joinWords(argv: readonly string[], table: readonly AnyCommand[]): string[] {
  if (argv[0] === "help") return ["help", ...joinWords(argv.slice(1), table)];
  const name = `${argv[0]}-${argv[1]}`;
  return table.some((command) => command.name === name) ? [name, ...argv.slice(2)] : [...argv];
}

async function runCommand(command: AnyCommand, given: Values): Promise<number> {
  const config = await configValues(command, given.config), values = { ...config, ...given };
  const judge = (options: Values) => {
    refuseIdle(command.flags, options, given, config);
    command.judge?.(options);
  };
  selectBackend();
  if (!command.runFolder) {
    const options = complete(command.flags, values);
    judge(options);
    if (command.gpu) await requireAdapter();
    return await execute(command, options, undefined);
  }
  const run = await openRun(command, values, VERSION, judge, async () => {
    if (command.gpu) await requireAdapter();
  });
  let code: number = EXIT.error, remains = false;
  try {
    code = await execute(command, run.options, run);
  } finally {
    remains = await run.close(code);
  }
  if (code === EXIT.interrupted) {
    const goOn = `stopped; to go on: ${invocation(command.name)} ${run.resumeFlags}`;
    console.error(remains ? goOn : "stopped before anything was made: the run before is back");
  }
  return code;
}

async function configValues(command: AnyCommand, file: unknown): Promise<Values> {
  if (typeof file !== "string") return {};
  const text = await Deno.readTextFile(file);
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${file} is not JSON: ${(error as Error).message}`);
  }
  return readConfig(command.flags, command.name, config, file);
}

async function execute(command: AnyCommand, options: Values, run: OpenedRun | undefined): Promise<number> {
  const abort = new AbortController();
  let current: Progress | undefined;
  const log = (line: string) => current ? current.log(line) : console.error(line);
  let interruptedAt = Infinity;
  const onSignal = () => {
    // One Ctrl-C may arrive twice: from the terminal, and passed on by `deno task`.
    if (performance.now() - interruptedAt > REPEAT_MS) Deno.exit(EXIT.interrupted);
    if (abort.signal.aborted) return;
    interruptedAt = performance.now();
    abort.abort(new Interrupted());
    log("stopping after this step; Ctrl-C again stops at once");
  };
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);
  const context: Context = {
    signal: abort.signal,
    checkpoint: run?.checkpoint,
    log,
    print: (line) => console.log(line),
    progress: (progressOptions: ProgressOptions) => {
      current?.finish();
      return current = new Progress(progressOptions);
    },
    get runFolder(): RunFolder {
      if (!run) throw new Error(`${command.name} has no run folder`);
      return run.folder;
    },
  };
  try {
    await command.run(options, context);
    current?.finish();
    return EXIT.ok;
  } catch (error) {
    current?.finish();
    if (abort.signal.aborted && (error instanceof Interrupted || error === abort.signal.reason)) {
      if (!run) console.error("stopped");
      return EXIT.interrupted;
    }
    return reportError(error);
  } finally {
    for (const signal of signals) Deno.removeSignalListener(signal, onSignal);
    await restDevice();
  }
}

if (import.meta.main) {
  // deno task changes to the repository; relative paths are meant from where the user stands.
  const caller = Deno.env.get("ANOMALYDIFFUSION_CWD");
  if (caller) Deno.chdir(caller);
  Deno.exit(await main(Deno.args));
}
