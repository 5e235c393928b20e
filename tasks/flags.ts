/**
 * The table of flags of a command and what follows from it: parsing, the config file that equals the flags, and the type
 * of the options that a command's `run` receives. Names may be written `--max-train-steps` or `--max_train_steps`.
 */
import { parseArgs } from "node:util";
import { UsageError } from "./errors.ts";

/** What a flag holds. A list is given once with commas or several times. */
export type FlagType = "string" | "integer" | "number" | "boolean" | "list";

/** One row of a command's table. */
export interface Flag {
  readonly type: FlagType;
  /** What it does, one or two sentences. */
  readonly description: string;
  /** The word for its value in the help: `folder`, `file`, `name`. */
  readonly value?: string;
  /** What the number counts: `pixels`, `steps`. */
  readonly unit?: string;
  readonly default?: string | number | boolean | readonly string[];
  /** What happens without it, where no fixed default exists: `the model's own`. */
  readonly otherwise?: string;
  readonly choices?: readonly string[];
  readonly min?: number;
  readonly max?: number;
  readonly required?: boolean;
  /**
   * Values of other flags that one of its choices brings, or a function that draws them for a new run; a config file and
   * flags that are given themselves win.
   */
  readonly implies?: Readonly<Record<string, Values | (() => Values)>>;
  /**
   * Values of other flags beside which alone it has an effect; given beside others it is refused. Of a flag that is no boolean,
   * `true` is any value and `false` none.
   */
  readonly goesWith?: Readonly<Record<string, readonly (string | boolean)[]>>;
  /** Values of other flags that leave nothing for it to do, where `goesWith` cannot name the others; given beside them it is refused. */
  readonly idleBeside?: Readonly<Record<string, readonly (string | number)[]>>;
  /** May differ from the saved run when it is resumed: it changes how much is done, never what. */
  readonly changeable?: boolean;
  /** Belongs to this call only: neither in a config file nor saved with the run. */
  readonly transient?: boolean;
  /** May stand in a config file, but is not saved with the run: where the run lies, for one. */
  readonly unsaved?: boolean;
  /** Words without a flag in front are its values: `reproduce table2`. One list in a table of flags at most. */
  readonly positional?: boolean;
}

/** Flags by option name in camelCase; on the command line `maxTrainSteps` is `--max-train-steps`. */
export type Flags = Readonly<Record<string, Flag>>;

type ValueOf<F extends Flag> = F["choices"] extends readonly (infer C)[] ? (F["type"] extends "list" ? C[] : C)
  : F["type"] extends "string" ? string
  : F["type"] extends "integer" | "number" ? number
  : F["type"] extends "boolean" ? boolean
  : string[];

/** The options of a table: required flags and those with a default are present, the others may be undefined. */
export type OptionsOf<F extends Flags> = {
  -readonly [K in keyof F]: F[K] extends { required: true } | { default: unknown } ? ValueOf<F[K]>
    : ValueOf<F[K]> | undefined;
};

/** Values by option name, as they come from one source (command line, config file, saved run). */
export type Values = Record<string, unknown>;

/** `maxTrainSteps` → `max-train-steps`. */
export function kebab(name: string): string {
  return name.replace(/_/g, "-").replace(/(?<=[a-z0-9])[A-Z]/g, (c) => `-${c}`).toLowerCase();
}

/**
 * The entry that a mistyped word most likely meant, or undefined when none is near (Levenshtein 1966).
 * @example
 * ```ts
 * import { nearest } from "./flags.ts";
 * if (nearest("guidance-scal", ["seed", "guidance-scale"]) !== "guidance-scale") throw new Error("no suggestion");
 * ```
 */
export function nearest(word: string, entries: Iterable<string>): string | undefined {
  let best: string | undefined, bestScore = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const entry of entries) {
    const score = entry.startsWith(word) && word.length >= 3 ? entry.length / 1000 : distance(word, entry);
    if (score < bestScore) [best, bestScore] = [entry, score];
  }
  return best;
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

/** Flags of other programs that users try, the flag that there is instead here, and why. */
const FOREIGN: Readonly<Record<string, readonly [flag: string, hint: string]>> = {
  resolution: ["model", "the model decides it: the one in --model works at the resolution in its config.json"],
  "pretrained-model-name-or-path": ["model", "it is --model here, a folder"],
  "output-dir": ["out", "it is --out here"],
  "num-inference-steps": ["steps", "it is --steps here"],
};

function unknown(what: string, word: string, known: string[], where: string): UsageError {
  const bare = (name: string) => kebab(name.replace(/^--/, ""));
  const [instead, hint] = FOREIGN[bare(word)] ?? [], foreign = known.some((name) => bare(name) === instead);
  const guess = nearest(word, known);
  return new UsageError(
    `unknown ${what} ${word}${where}`,
    foreign ? hint : guess ? `did you mean ${guess}?` : "--help lists what there is",
  );
}

/**
 * Reads the command line of one command.
 * @param flags the command's table
 * @param argv the words after the command's name
 * @returns only what was given, by option name, with values of the declared types
 * @throws UsageError for an unknown flag, a missing or ill-typed value, or a stray word
 */
export function parseFlags(flags: Flags, argv: readonly string[]): Values {
  const names = new Map(Object.keys(flags).map((key) => [kebab(key), key]));
  const words = argv.map((word) =>
    word.startsWith("--") ? word.replace(/^--[^=]+/, (name) => name.replace(/_/g, "-")) : word
  );
  const { tokens } = parseArgs({
    args: words,
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      [...names].map(([name, key]) => [name, {
        type: flags[key].type === "boolean" ? "boolean" : "string",
        ...(name === "help" ? { short: "h" } : {}),
      }]),
    ),
  });
  const values: Values = {}, bare = Object.keys(flags).find((key) => flags[key].positional);
  for (const token of tokens) {
    if (token.kind === "positional" && bare) {
      values[bare] = [...(values[bare] as string[] ?? []), ...convert(flags[bare], bare, token.value) as string[]];
      continue;
    }
    if (token.kind === "positional") {
      throw new UsageError(`unexpected word "${token.value}"`, "every value needs its flag in front; see --help");
    }
    if (token.kind !== "option") continue;
    const negated = token.name.startsWith("no-") && flags[names.get(token.name.slice(3)) ?? ""]?.type === "boolean";
    const key = names.get(negated ? token.name.slice(3) : token.name);
    if (key === undefined) {
      throw unknown("flag", token.rawName, [...names.keys()].map((name) => `--${name}`), "");
    }
    const flag = flags[key], shown = `--${kebab(key)}`;
    if (negated) values[key] = false;
    else if (flag.type === "boolean") {
      values[key] = token.value === undefined ? true : convert(flag, shown, token.value);
    } else if (token.value === undefined) {
      throw new UsageError(`${shown} needs ${article(valueName(flag))}`);
    } else if (flag.type === "list") {
      values[key] = [...(values[key] as string[] ?? []), ...convert(flag, shown, token.value) as string[]];
    } else values[key] = convert(flag, shown, token.value);
  }
  return values;
}

/**
 * Reads the object of a config file: the same names and values as the flags, in any of the usual spellings.
 * @param flags the command's table
 * @param command its name; a config saved by another command is refused
 * @param config the parsed JSON
 * @param file its path, for the messages
 * @returns values by option name
 * @throws UsageError for anything that the flags would refuse, unknown keys included
 */
export function readConfig(flags: Flags, command: string, config: unknown, file: string): Values {
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new UsageError(`${file}: a config file holds one JSON object of flags`);
  }
  const names = new Map(Object.keys(flags).filter((k) => !flags[k].transient).map((key) => [kebab(key), key]));
  const values: Values = {};
  for (const [given, value] of Object.entries(config)) {
    if (given === "version") continue;
    if (given === "command") {
      if (value !== command) throw new UsageError(`${file}: this config belongs to the command "${value}"`);
      continue;
    }
    const key = names.get(kebab(given));
    if (key === undefined) throw unknown("key", given, [...names.keys()], ` in ${file}`);
    if (value !== null) values[key] = convert(flags[key], `${given} in ${file}`, value);
  }
  return values;
}

/** A value from a word or from JSON as the flag's type, checked against its choices and range. */
function convert(flag: Flag, shown: string, value: unknown): unknown {
  switch (flag.type) {
    case "boolean": {
      const text = String(value);
      if (text === "true" || text === "false") return text === "true";
      throw new UsageError(`${shown} is true or false, not "${text}"`);
    }
    case "integer":
    case "number": {
      const text = typeof value === "string" ? value.trim() : value;
      const number = text === "" || (typeof text !== "string" && typeof text !== "number") ? NaN : Number(text);
      if (!Number.isFinite(number) || (flag.type === "integer" && !Number.isSafeInteger(number))) {
        throw new UsageError(`${shown} is ${article(flag.type)}, not "${value}"`);
      }
      const { min = -Infinity, max = Infinity } = flag;
      if (number < min || number > max) throw new UsageError(`${shown} is ${rangeText(flag)}, not ${number}`);
      return number;
    }
    case "list": {
      const items = (Array.isArray(value) ? value : String(value).split(",")).map((v) => String(v).trim());
      if (items.some((item) => item === "")) throw new UsageError(`${shown} has an empty entry`);
      for (const item of items) choose(flag, shown, item);
      return items;
    }
    default:
      if (typeof value !== "string") throw new UsageError(`${shown} is a text, not ${JSON.stringify(value)}`);
      if (value === "") throw new UsageError(`${shown} is empty`);
      return choose(flag, shown, value);
  }
}

function choose(flag: Flag, shown: string, value: string): string {
  if (!flag.choices || flag.choices.includes(value)) return value;
  const guess = nearest(value, flag.choices);
  throw new UsageError(
    `${shown} is one of ${flag.choices.join(", ")}, not "${value}"`,
    guess && `did you mean ${guess}?`,
  );
}

/** `1 or more`, `0 to 1`. */
export function rangeText({ min, max }: Flag): string {
  if (min !== undefined && max !== undefined) return `${min} to ${max}`;
  return min !== undefined ? `${min} or more` : `${max} or less`;
}

/** The word for a flag's value: `folder`, `integer`, `off|official|paper`. */
export function valueName(flag: Flag): string {
  return flag.choices?.join("|") ?? flag.value ?? (flag.type === "string" ? "text" : flag.type);
}

/** A flag whose values are bare words: `<table …>`. */
export function wordName(flag: Flag): string {
  return `<${flag.value ?? valueName(flag)} …>`;
}

function article(noun: string): string {
  return `${/^[aeio]/.test(noun) ? "an" : "a"} ${noun}`;
}

/**
 * Puts the sources together: defaults < what a choice implies < config file < flags.
 * @throws UsageError where a required flag is in none of them
 */
export function complete<F extends Flags>(flags: F, ...sources: Values[]): OptionsOf<F> {
  const given: Values = Object.assign({}, ...sources), options = { ...unasked(flags, given), ...given };
  const missing = Object.keys(flags).filter((key) => flags[key].required && options[key] === undefined);
  if (missing.length) {
    const shown = missing.map((key) =>
      flags[key].positional ? wordName(flags[key]) : `--${kebab(key)} <${valueName(flags[key])}>`
    ).join(" and ");
    throw new UsageError(`missing ${shown}`, "--help shows every flag");
  }
  return options as OptionsOf<F>;
}

/** Defaults, and over them what the choices among these values imply. */
function unasked(flags: Flags, values: Values): Values {
  const options: Values = {};
  for (const [key, flag] of Object.entries(flags)) {
    if (flag.default !== undefined) options[key] = Array.isArray(flag.default) ? [...flag.default] : flag.default;
  }
  for (const [key, { implies }] of Object.entries(flags)) {
    const implied = implies?.[String(values[key])];
    Object.assign(options, typeof implied === "function" ? implied() : implied);
  }
  return options;
}

/**
 * Refuses what was asked for and has no effect beside the other options.
 * @param options of the run, complete
 * @param given on the command line
 * @param config values of a config file; that of a run names every flag, so that those which say nothing new may stand in it
 * @throws UsageError for the first such flag
 */
export function refuseIdle(flags: Flags, options: Values, given: Values, config: Values = {}): void {
  const usual = unasked(flags, options);
  for (const key of Object.keys({ ...config, ...given })) {
    if (!(key in given) && config[key] === usual[key]) continue;
    for (const [other, values] of Object.entries(flags[key].goesWith ?? {})) {
      const present = typeof values[0] === "boolean" && flags[other].type !== "boolean";
      const value = present ? options[other] !== undefined : options[other];
      if (value === undefined || values.includes(value as string | boolean)) continue; // undefined: the run decides
      if (value === false && options[key] === false) continue; // off, as what it belongs to
      throw new UsageError(
        `--${kebab(key)} goes ${values[0] === false ? "without" : "with"} ${withValues(other, values)}`,
        `${
          value === false ? `without --${kebab(other)}` : `with ${withValues(other, [value])}`
        } it has no effect: leave it out`,
      );
    }
    for (const [other, values] of Object.entries(flags[key].idleBeside ?? {})) {
      const value = options[other] as string | number;
      if (!values.includes(value)) continue;
      throw new UsageError(`--${kebab(key)} has no effect with ${withValues(other, [value])}`, "leave it out");
    }
  }
}

/** `--sampler ddim`, `--method draem or prn`, `--tune`. */
function withValues(key: string, values: readonly unknown[]): string {
  const name = `--${kebab(key)}`, words = values.map(String), last = words.pop();
  if (typeof values[0] === "boolean") return name;
  return `${name} ${words.length ? `${words.join(", ")} or ${last}` : last}`;
}

/** The object saved with a run: flag names as keys, in the table's order. */
export function toConfig(flags: Flags, command: string, version: string, options: Values): Record<string, unknown> {
  const config: Record<string, unknown> = { command, version };
  for (const key of Object.keys(flags)) {
    if (!flags[key].transient && !flags[key].unsaved && options[key] !== undefined) config[kebab(key)] = options[key];
  }
  return config;
}
