/**
 * What a command is: a name, a table of flags and a `run` that receives typed options and a context. `main.ts` does the
 * rest: parsing, config file, run folder, resume, Ctrl-C, error lines and exit codes.
 */
import type { Flags, OptionsOf } from "./flags.ts";
import type { Progress, ProgressOptions } from "./progress.ts";
import type { Checkpoint, RunFolder } from "./run_folder.ts";

/** What `run` may use besides its options. */
export interface Context {
  /**
   * Aborted by the first Ctrl-C. Between steps: save a checkpoint, then `signal.throwIfAborted()`; the program prints how
   * to resume and exits with 130. A `run` that returns normally counts as finished.
   */
  readonly signal: AbortSignal;
  /** The run's folder (`--out`), locked for this process. Only for commands with `runFolder: true`. */
  readonly runFolder: RunFolder;
  /** The checkpoint to go on from, when `--resume` was given and one exists. */
  readonly checkpoint: Checkpoint | undefined;
  /** Starts a progress line; one at a time. Finish it (or let `using` do so) before the next. */
  progress(options: ProgressOptions): Progress;
  /** A line for the person, on stderr, above the progress line. */
  log(line: string): void;
  /** A line of the result, on stdout. */
  print(line: string): void;
}

/** A command of the program. */
export interface Command<F extends Flags> {
  /** As typed: `train-masks`. */
  readonly name: string;
  /** One line for the overview. */
  readonly summary: string;
  /** A few sentences for the command's help page. */
  readonly details?: string;
  readonly flags: F;
  /** Argument lists for the help page, without the command's name. */
  readonly examples: readonly string[];
  /** Whether it works in a run folder named by `--out`. */
  readonly runFolder: boolean;
  /** Whether it needs a graphics adapter; checked before anything is read or written. */
  readonly gpu: boolean;
  /**
   * Refuses options that contradict each other in a way that `goesWith` cannot say; asked before anything is written.
   * @throws UsageError
   */
  judge?(options: OptionsOf<F>): void;
  run(options: OptionsOf<F>, context: Context): Promise<void>;
}

/** A command whose options' type is not known, as the table of commands holds it. */
// deno-lint-ignore no-explicit-any
export type AnyCommand = Command<any>;

/** Declares a command; its options take their types from the table of flags. */
export function defineCommand<const F extends Flags>(command: Command<F>): Command<F> {
  return command;
}
