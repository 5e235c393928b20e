/**
 * Progress on stderr: what is being done, how far it is, how fast, and how long it will take. On a terminal one line is
 * redrawn; elsewhere (a log file, CI) a plain line appears about every ten seconds.
 */

/** Seconds between plain lines where stderr is no terminal. */
const QUIET_INTERVAL = 10;
/** Seconds between redraws on a terminal. */
const DRAW_INTERVAL = 0.1;
/** Weight of the older rate after `TIME_CONSTANT` seconds is 1/e: long enough to be steady, short enough to follow. */
const TIME_CONSTANT = 15;

/** Where lines go and what the time is; a test gives its own. */
export interface ProgressSink {
  /** Whether one line may be redrawn. */
  readonly terminal: boolean;
  /** Terminal width in columns. */
  columns(): number;
  write(text: string): void;
  /** Seconds from any origin. */
  now(): number;
}

/** The process's stderr. */
export function stderrSink(): ProgressSink {
  const encoder = new TextEncoder();
  return {
    terminal: Deno.stderr.isTerminal() && Deno.env.get("TERM") !== "dumb",
    columns: () => {
      try {
        return Deno.consoleSize().columns;
      } catch {
        return 80; // no console behind the terminal (some remote shells)
      }
    },
    write: (text) => {
      try {
        Deno.stderr.writeSync(encoder.encode(text));
      } catch {
        // A closed stderr must not end a run of hours.
      }
    },
    now: () => performance.now() / 1000,
  };
}

/** A running count with a smoothed rate. */
export interface ProgressOptions {
  /** What is being done: `"training"`, `"generating crack"`. */
  label: string;
  /** How many units there are in all. */
  total: number;
  /** One unit in the singular: `"step"`, `"image"`. */
  unit: string;
  /** Units that an earlier run already did; they do not count for the rate. */
  start?: number;
}

/** Draws one job's progress; `context.progress(options)` makes it. */
export class Progress {
  readonly #options: ProgressOptions;
  readonly #sink: ProgressSink;
  readonly #started: number;
  #done: number;
  #note = "";
  #rate: number | undefined;
  #rateAt: number;
  #rateDone: number;
  #drawnAt = -Infinity;
  #drawn = false;
  #finished = false;

  constructor(options: ProgressOptions, sink: ProgressSink = stderrSink()) {
    this.#options = options;
    this.#sink = sink;
    this.#done = this.#rateDone = options.start ?? 0;
    this.#started = this.#rateAt = sink.now();
    if (!sink.terminal) this.#drawnAt = this.#started; // the first plain line comes after one interval
  }

  /** Units per second, smoothed; undefined before the first unit. */
  get rate(): number | undefined {
    return this.#rate;
  }

  /** Seconds left at the smoothed rate; undefined before the first unit. */
  get secondsLeft(): number | undefined {
    return this.#rate ? Math.max(0, this.#options.total - this.#done) / this.#rate : undefined;
  }

  /**
   * Says how many units are done.
   * @param done units finished in all, earlier runs' included
   * @param note a short figure for the end of the line: `"loss 0.123"`
   */
  update(done: number, note = this.#note): void {
    this.#note = note;
    this.#done = done;
    const now = this.#sink.now(), elapsed = now - this.#rateAt;
    if (done > this.#rateDone && elapsed > 0) {
      const rate = (done - this.#rateDone) / elapsed;
      const keep = Math.exp(-elapsed / TIME_CONSTANT);
      this.#rate = this.#rate === undefined ? rate : keep * this.#rate + (1 - keep) * rate;
      this.#rateAt = now;
      this.#rateDone = done;
    }
    if (now - this.#drawnAt >= (this.#sink.terminal ? DRAW_INTERVAL : QUIET_INTERVAL)) this.#draw(now);
  }

  /** Prints a line above the progress line. */
  log(line: string): void {
    if (this.#drawn && this.#sink.terminal) this.#sink.write("\r\x1b[2K");
    this.#sink.write(`${line}\n`);
    this.#drawnAt = this.#sink.terminal ? -Infinity : this.#drawnAt;
  }

  /** Ends the line with what was done and how long it took. May be called more than once. */
  finish(note = this.#note): void {
    if (this.#finished) return;
    this.#finished = true;
    const { label, total, unit, start = 0 } = this.#options;
    const seconds = this.#sink.now() - this.#started;
    const count = this.#done >= total ? plural(this.#done, unit) : `${this.#done} of ${plural(total, unit)}`;
    const rate = this.#done > start && seconds > 0 ? `, ${formatRate((this.#done - start) / seconds, unit)}` : "";
    if (this.#drawn && this.#sink.terminal) this.#sink.write("\r\x1b[2K");
    this.#sink.write(`${label}: ${count} in ${formatDuration(seconds)}${rate}${note ? `, ${note}` : ""}\n`);
  }

  [Symbol.dispose](): void {
    this.finish();
  }

  #draw(now: number): void {
    this.#drawnAt = now;
    this.#drawn = true;
    const line = this.line();
    if (!this.#sink.terminal) return this.#sink.write(`${line}\n`);
    this.#sink.write(`\r\x1b[2K${line.slice(0, Math.max(10, this.#sink.columns() - 1))}`);
  }

  /** The line as it would be drawn now. */
  line(): string {
    const { label, total, unit } = this.#options;
    const percent = total > 0 ? Math.floor(100 * Math.min(1, this.#done / total)) : 100;
    const parts = [`${label}: ${this.#done}/${total} ${percent}%`];
    if (this.#rate) parts.push(formatRate(this.#rate, unit), `${formatDuration(this.secondsLeft!)} left`);
    if (this.#note) parts.push(this.#note);
    return parts.join("  ");
  }
}

/** Several of a unit: `steps`, `patches`. */
function several(unit: string): string {
  return /(s|x|ch|sh)$/.test(unit) ? `${unit}es` : `${unit}s`;
}

/** `12 steps`, `1 image`. */
export function plural(count: number, unit: string): string {
  return `${count} ${count === 1 ? unit : several(unit)}`;
}

/** `3.2 steps/s`, or `4.1 s/step` where one takes longer than a second. */
export function formatRate(perSecond: number, unit: string): string {
  return perSecond >= 1 ? `${figure(perSecond)} ${several(unit)}/s` : `${figure(1 / perSecond)} s/${unit}`;
}

/** Three significant figures at most, no exponent. */
function figure(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/**
 * Seconds as a person says them: `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 4 h`.
 * @example
 * ```ts
 * import { formatDuration } from "./progress.ts";
 * if (formatDuration(185) !== "3 min 05 s") throw new Error(formatDuration(185));
 * ```
 */
export function formatDuration(seconds: number): string {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
