/** Flags, config files and help pages all follow from one table. */
import assert from "node:assert/strict";
import { UsageError } from "../../tasks/errors.ts";
import {
  complete,
  type Flags,
  kebab,
  nearest,
  parseFlags,
  readConfig,
  refuseIdle,
  toConfig,
} from "../../tasks/flags.ts";
import { commandHelp } from "../../tasks/help.ts";
import { commands } from "../../tasks/commands/mod.ts";
import { defineCommand } from "../../tasks/command.ts";

const flags = {
  data: { type: "string", description: "d", required: true },
  maxTrainSteps: { type: "integer", description: "n", default: 800, min: 1, changeable: true },
  guidanceScale: { type: "number", description: "g", default: 3, min: 0, max: 30 },
  reweighting: { type: "string", description: "r", choices: ["off", "official", "paper"], default: "official" },
  part: { type: "list", description: "p" },
  onPart: { type: "boolean", description: "o", default: true },
  config: { type: "string", description: "c", transient: true },
} as const satisfies Flags;

function refused(run: () => unknown, message: RegExp, hint?: RegExp): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof UsageError, String(error));
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    if (hint) assert.match(error.hint ?? "", hint);
    return true;
  });
}

Deno.test("parseFlags() reads every type in every usual spelling", () => {
  const argv = "--data a/b --max-train-steps=20 --guidance_scale -0 --part wood,tile --part=grid --no-on-part".split(
    " ",
  );
  assert.deepEqual(parseFlags(flags, argv), {
    data: "a/b",
    maxTrainSteps: 20,
    guidanceScale: -0,
    part: ["wood", "tile", "grid"],
    onPart: false,
  });
  assert.deepEqual(parseFlags(flags, ["--on-part=false"]), { onPart: false });
  assert.deepEqual(parseFlags(flags, ["--data", "with_under=score"]), { data: "with_under=score" });
});

Deno.test("parseFlags() refuses what it does not know, with the nearest name", () => {
  refused(() => parseFlags(flags, ["--guidence-scale", "3"]), /unknown flag --guidence-scale/, /--guidance-scale\?/);
  const models = { ...flags, model: { type: "string", description: "m" } } as const;
  refused(() => parseFlags(models, ["--resolution", "512"]), /unknown flag --resolution/, /the model decides it/);
  refused(() => readConfig(models, "train", { resolution: 512 }, "c.json"), /unknown key/, /the model decides it/);
  refused(() => parseFlags(flags, ["--resolution", "512"]), /unknown flag --resolution/, /--help lists/);
  refused(() => parseFlags(flags, ["--no-data"]), /unknown flag --no-data/);
  refused(() => parseFlags(flags, ["-q"]), /unknown flag -q/);
  refused(() => parseFlags(flags, ["wood"]), /unexpected word "wood"/);
});

Deno.test("bare words are values of the list that takes them, checked as its own", () => {
  const table = { description: "t", type: "list", choices: ["one", "two"], positional: true } as const;
  const read = (line: string) => parseFlags({ ...flags, table }, line.split(" "));
  assert.deepEqual(read("one --data a two"), { table: ["one", "two"], data: "a" });
  assert.deepEqual(read("--table one two"), { table: ["one", "two"] });
  refused(() => read("one tow"), /table is one of one, two, not "tow"/, /did you mean two/);
});

Deno.test("parseFlags() refuses values of another type, outside the range or the choices", () => {
  refused(() => parseFlags(flags, ["--max-train-steps", "many"]), /--max-train-steps is an integer, not "many"/);
  refused(() => parseFlags(flags, ["--max-train-steps", "2.5"]), /is an integer/);
  refused(() => parseFlags(flags, ["--max-train-steps", "0"]), /is 1 or more, not 0/);
  refused(() => parseFlags(flags, ["--guidance-scale", "31"]), /is 0 to 30, not 31/);
  refused(() => parseFlags(flags, ["--guidance-scale="]), /is a number/);
  refused(() => parseFlags(flags, ["--reweighting", "oficial"]), /one of off, official, paper/, /official\?/);
  refused(() => parseFlags(flags, ["--data"]), /--data needs a text/);
  refused(() => parseFlags(flags, ["--part", "a,,b"]), /empty entry/);
  refused(() => parseFlags(flags, ["--on-part=maybe"]), /true or false/);
});

Deno.test("a config file equals the flags: what is saved reads back as what was given", () => {
  const given = parseFlags(flags, ["--data", "a", "--max-train-steps", "7", "--part", "wood", "--no-on-part"]);
  const options = complete(flags, given);
  const saved = JSON.parse(JSON.stringify(toConfig(flags, "train", "1.2.3", options)));
  assert.equal(saved["max-train-steps"], 7);
  assert.equal(saved.command, "train");
  assert.equal("config" in saved, false);
  assert.deepEqual(complete(flags, readConfig(flags, "train", saved, "c.json")), options);
  const spellings = { "data": "a", "max_train_steps": 7, maxTrainSteps: 7, part: ["wood"], "on-part": false };
  assert.deepEqual(complete(flags, readConfig(flags, "train", spellings, "c.json")), options);
});

Deno.test("flags win over the config file, the config file over defaults", () => {
  const config = readConfig(flags, "train", { data: "a", "guidance-scale": 5, reweighting: "off" }, "c.json");
  const options = complete(flags, config, parseFlags(flags, ["--guidance-scale", "2"]));
  assert.deepEqual([options.guidanceScale, options.reweighting, options.maxTrainSteps], [2, "off", 800]);
});

Deno.test("readConfig() refuses unknown keys, wrong types, another command and what is no object", () => {
  refused(
    () => readConfig(flags, "train", { "max-trian-steps": 3 }, "c.json"),
    /unknown key .* in c\.json/,
    /max-train-steps\?/,
  );
  refused(() => readConfig(flags, "train", { data: 3 }, "c.json"), /data in c\.json is a text, not 3/);
  refused(() => readConfig(flags, "train", { maxTrainSteps: true }, "c.json"), /is an integer, not "true"/);
  refused(() => readConfig(flags, "train", { command: "generate" }, "c.json"), /belongs to the command "generate"/);
  refused(() => readConfig(flags, "train", { config: "x" }, "c.json"), /unknown key config/);
  refused(() => readConfig(flags, "train", [1], "c.json"), /one JSON object/);
});

Deno.test("complete() names the required flags that are missing", () => {
  refused(() => complete(flags, {}), /missing --data <text>/);
  const run = { type: "list", value: "run", description: "r", required: true, positional: true } as const;
  refused(() => complete({ ...flags, run }, {}), /missing --data <text> and <run …>$/);
});

Deno.test("refuseIdle() refuses what was asked for in vain, and lets pass what a run's own config names anyway", () => {
  const table = {
    sampler: { type: "string", description: "s", choices: ["ddim", "dpm"], default: "ddim" },
    preset: { type: "string", description: "p", choices: ["none", "all"], implies: { all: { order: "listing" } } },
    network: { type: "string", description: "n", choices: ["a", "b", "c"] },
    tune: { type: "boolean", description: "t", default: false },
    eta: { type: "number", description: "e", default: 1, goesWith: { sampler: ["ddim"] } },
    order: { type: "string", description: "o", default: "sorted", goesWith: { network: ["a", "b"] } },
    rate: { type: "number", description: "r", goesWith: { tune: [true] } },
    levels: { type: "number", description: "l", goesWith: { tune: [false] } },
    views: { type: "integer", description: "v" },
    zoom: { type: "number", description: "z", goesWith: { views: [true] } },
    whole: { type: "boolean", description: "w", default: false, goesWith: { views: [false] } },
    gate: { type: "boolean", description: "g", default: true },
    colours: { type: "boolean", description: "c", default: true, goesWith: { gate: [true] } },
    below: { type: "integer", description: "b", idleBeside: { views: [1, 2] } },
  } as const satisfies Flags;
  const judge = (line: string, config = {}) => {
    const given = parseFlags(table, line.split(" ").filter(Boolean));
    refuseIdle(table, complete(table, config, given), given, config);
  };
  refused(
    () => judge("--sampler dpm --eta 1"),
    /^--eta goes with --sampler ddim$/,
    /^with --sampler dpm .*leave it out/,
  );
  refused(() => judge("--network c --order sorted"), /^--order goes with --network a or b$/);
  refused(() => judge("--rate 2"), /^--rate goes with --tune$/, /^without --tune/);
  refused(() => judge("--zoom 2"), /^--zoom goes with --views$/, /^without --views/);
  judge("--zoom 2 --views 5");
  refused(() => judge("--whole --views 5"), /^--whole goes without --views$/, /^with --views it/);
  judge("--whole");
  refused(() => judge("--no-gate --colours"), /^--colours goes with --gate$/, /^without --gate/);
  judge("--no-gate --no-colours"); // both are off
  refused(() => judge("--below 9 --views 2"), /^--below has no effect with --views 2$/, /^leave it out$/);
  for (const line of ["--below 9", "--below 9 --views 3", "--views 1"]) judge(line);
  refused(() => judge("--levels 2 --tune"), /^--levels goes without --tune$/, /^with --tune it/);
  for (
    const line of ["--eta 0", "--network b --order listing", "--order listing", "--tune --rate 2", "--levels 2", ""]
  ) judge(line);
  judge("--preset all --network c"); // implied, not given
  refused(() => judge("", { sampler: "dpm", eta: 0.5 }), /--eta goes with/);
  const saved = toConfig(table, "c", "1", complete(table, { sampler: "dpm", preset: "all", network: "c" }));
  judge("", readConfig(table, "c", saved, "c.json"));
  judge("--sampler ddim --eta 0", readConfig(table, "c", saved, "c.json"));
});

Deno.test("nearest() suggests only what is near", () => {
  assert.equal(nearest("sed", ["seed", "steps"]), "seed");
  assert.equal(nearest("elephant", ["seed", "steps"]), undefined);
  assert.equal(kebab("numSpatialVectors"), "num-spatial-vectors");
});

Deno.test("the help of a training's length says what another one means on --resume", () => {
  for (const name of ["train", "train-masks", "adapt", "pretrain", "inspect-train", "demo"]) {
    const help = commandHelp(commands.find((command) => command.name === name)!, name).replace(/\s+/g, " ");
    assert.match(
      help,
      /--max-train-steps (?:(?! --).)*A resumed run may be given another number: rates that fall then follow/,
      name,
    );
  }
});

Deno.test("every command's table is sound and its help shows every flag", () => {
  for (const command of commands) {
    const help = commandHelp(command, command.name);
    for (const [key, flag] of Object.entries(command.flags as Flags)) {
      const label = `${command.name} --${kebab(key)}`;
      assert.match(key, /^[a-z][A-Za-z0-9]*$/, label);
      assert.ok(help.includes(`--${kebab(key)}`), label);
      assert.ok(flag.description.endsWith("."), `${label}: a description is a sentence`);
      for (const [other, values] of Object.entries(flag.goesWith ?? {})) {
        const { choices } = (command.flags as Flags)[other];
        const known = typeof values[0] === "boolean" ? [true, false] : choices!;
        for (const value of values) assert.ok(known.includes(value as never), `${label} goes with --${other} ${value}`);
      }
      for (const [other, values] of Object.entries(flag.idleBeside ?? {})) {
        const { type, min = 0 } = (command.flags as Flags)[other];
        assert.ok(type === "integer" || type === "number", `${label} beside --${other}: goesWith can say it`);
        assert.ok(values.every((value) => Number(value) >= min), label);
      }
      if (flag.default === true) assert.ok(help.includes(`--no-${kebab(key)}`), label);
      if (flag.default !== undefined) {
        const saved = { [kebab(key)]: flag.default };
        if (!flag.transient) {
          assert.deepEqual(readConfig(command.flags, command.name, saved, "default"), { [key]: flag.default });
        }
      }
    }
    for (const line of help.split("\n")) assert.ok(line.length <= 100 || line.includes(" --out "), line);
    for (const example of command.examples) {
      parseFlags({ ...command.flags, out: { type: "string", description: "" } }, example.split(" ").filter(Boolean));
    }
  }
});

Deno.test("flags of the commands that have no effect beside others are refused", () => {
  const judge = (line: string) => {
    const [name, ...words] = line.split(" "), { flags } = commands.find((command) => command.name === name)!;
    const given = parseFlags(flags, words), needed = { data: "d", trainRun: "t" };
    refuseIdle(flags, complete(flags as Flags, needed, given), given);
  };
  const idle: Record<string, string> = {
    "demo --all --part wood": "--part goes without --all",
    "train --initializer random --initializer-token rust": "--initializer-token goes with --initializer word",
    "train-masks --initializer random --initializer-noise 0": "--initializer-noise goes with --initializer word",
    "train --spatial-encoder official --spatial-init model": "--spatial-init goes with --spatial-encoder light",
    "train --parity official --spatial-init random": "--spatial-init goes with --spatial-encoder light",
    "train --validation-steps 0 --num-validation-images 2":
      "--num-validation-images has no effect with --validation-steps 0",
    "generate --no-quality-gate --max-attempts 2": "--max-attempts goes with --quality-gate",
    "generate --no-quality-gate --min-change 0": "--min-change goes with --quality-gate",
    "generate --no-quality-gate --min-changed-share 0": "--min-changed-share goes with --quality-gate",
    "generate --no-quality-gate --colour-check": "--colour-check goes with --quality-gate",
    "generate --guidance-scale 1 --guide-from empty": "--guide-from has no effect with --guidance-scale 1",
    "generate --parity official --guidance-below 600": "--guidance-below has no effect with --guidance-scale 1",
    "generate-masks --source real --guidance-scale 3": "--guidance-scale goes with --source embeddings",
    "generate-masks --source real --steps 20": "--steps goes with --source embeddings",
    "generate-masks --source real --eta 1": "--eta goes with --source embeddings",
    "generate-masks --source real --masks-run m": "--masks-run goes with --source embeddings",
  };
  for (const [line, message] of Object.entries(idle)) {
    refused(() => judge(line), new RegExp(`^${message}$`), /leave it out$/);
  }
  for (
    const line of [
      "demo --part wood",
      "train --initializer-token rust --spatial-init random --num-validation-images 2",
      "train --parity official --initializer-token rust",
      "generate --no-quality-gate --no-colour-check",
      "generate --guidance-below 600 --guide-from empty --max-attempts 2 --min-change 0",
      "generate --parity official --guidance-scale 2 --guide-from surface",
      "generate-masks --source real --max-border 1 --batch-size 2",
      "generate-masks --masks-run m --steps 999",
    ]
  ) judge(line);
  refused(() => judge("generate --steps 1000"), /^--steps is 1 to 999, not 1000$/);
});

Deno.test("defineCommand() gives run the types of its table", () => {
  const command = defineCommand({
    name: "typed",
    summary: "s",
    runFolder: false,
    gpu: false,
    flags,
    examples: [],
    run(options) {
      const data: string = options.data;
      const part: string[] | undefined = options.part;
      const mode: "off" | "official" | "paper" = options.reweighting;
      const scale: number = options.guidanceScale;
      return Promise.resolve(void [data, part, mode, scale]);
    },
  });
  assert.equal(command.flags.data.required, true);
});
