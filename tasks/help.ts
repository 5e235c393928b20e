/** The help texts, generated from the tables of commands and flags, so that they cannot disagree with the parser. */
import { type Flag, type Flags, kebab, rangeText, valueName, wordName } from "./flags.ts";
import type { AnyCommand } from "./command.ts";

const WIDTH = 100;

/** The overview: every command with its summary. */
export function overview(commands: readonly AnyCommand[], invocation: (command: string) => string): string {
  const width = Math.max(...commands.map(({ name }) => name.length)) + 4;
  return [
    "Learns a defect from a few image-mask pairs and makes thousands of labelled defect images.",
    "",
    `Usage: ${invocation("<command>")} [flags]`,
    "",
    "Commands:",
    ...commands.map(({ name, summary }) => entry(name, summary, width)),
    "",
    `${invocation("<command>")} --help explains a command. --version prints the version.`,
    "Exit codes: 0 done, 1 error, 2 wrong usage, 130 stopped by Ctrl-C (resumable).",
  ].join("\n");
}

/** The page of one command. */
export function commandHelp(command: AnyCommand, invocation: string): string {
  const flags = Object.entries(command.flags as Flags);
  const heads = flags.map(([key, flag]) => head(key, flag));
  const width = Math.min(36, Math.max(...heads.map((text) => text.length)) + 4);
  const required = flags.filter(([, flag]) => flag.required)
    .map(([key, flag]) => ` ${flag.positional ? wordName(flag) : head(key, flag)}`).join("");
  const lines = [command.summary, "", `Usage: ${invocation}${required} [flags]`, ""];
  if (command.details) lines.push(...wrap(command.details, WIDTH), "");
  lines.push("Flags:", ...flags.map(([key, flag], i) => entry(heads[i], describe(key, flag), width)));
  if (command.examples.length) lines.push("", "Examples:", ...command.examples.map((e) => `  ${invocation} ${e}`));
  return lines.join("\n");
}

function head(key: string, flag: Flag): string {
  const short = key === "help" ? "-h, " : "";
  return `${short}--${kebab(key)}${flag.type === "boolean" ? "" : ` <${flag.choices ? "choice" : valueName(flag)}>`}`;
}

/** Description, then choices, range, unit and default in one bracket. */
function describe(key: string, flag: Flag): string {
  const facts: string[] = [];
  if (flag.choices) facts.push(flag.choices.join(" | "));
  if (flag.min !== undefined || flag.max !== undefined) facts.push(rangeText(flag));
  if (flag.unit) facts.push(`in ${flag.unit}`);
  if (flag.type === "list") facts.push("several with commas");
  if (flag.required) facts.push("required");
  else if (flag.default === true) facts.push(`default true; --no-${kebab(key)} turns it off`);
  else if (flag.default !== undefined && flag.default !== false) facts.push(`default ${flag.default}`);
  else if (flag.otherwise) facts.push(`default: ${flag.otherwise}`);
  return facts.length ? `${flag.description} (${facts.join("; ")})` : flag.description;
}

function entry(left: string, right: string, width: number): string {
  const lines = wrap(right, WIDTH - width - 2), indent = " ".repeat(width + 2);
  const first = left.length + 2 > width ? `  ${left}\n${indent}` : `  ${left.padEnd(width)}`;
  return first + lines.join(`\n${indent}`);
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      if (line && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line ? `${line} ${word}` : word;
    }
    lines.push(line);
  }
  return lines;
}
