/** A program with one command that counts, checkpoints and fails on request; `main_test.ts` runs, stops and kills it. */
import { defineCommand } from "../../tasks/command.ts";
import { UserError } from "../../src/errors.ts";
import { main } from "../../tasks/main.ts";

const count = defineCommand({
  name: "count",
  summary: "Counts.",
  runFolder: true,
  gpu: false,
  flags: {
    to: { type: "integer", description: "Where to stop.", default: 20, min: 1, changeable: true },
    factor: { type: "number", description: "What to multiply by.", default: 1 },
    word: { type: "string", description: "A word.", required: true },
    delay: { type: "integer", description: "Pause.", unit: "ms", default: 0, transient: true },
    early: {
      type: "boolean",
      description: "Wait for Ctrl-C before anything is written.",
      default: false,
      transient: true,
    },
    failAt: { type: "integer", description: "Number that cannot be counted.", transient: true },
    fail: { type: "string", description: "How to fail.", choices: ["user", "fault"], transient: true },
  },
  examples: [],
  async run(options, context) {
    if (options.fail === "user") throw new UserError("this cannot be counted", "count something else");
    if (options.fail === "fault") throw new TypeError("a bug");
    if (options.early) context.print("early");
    while (options.early) {
      context.signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const start = context.checkpoint?.step ?? 0;
    let sum = context.checkpoint ? new Float64Array(context.checkpoint.bytes.slice().buffer)[0] : 0;
    const lines = await context.runFolder.jsonl<{ step: number; sum: number }>("sums.jsonl", (r) => r.step <= start);
    using progress = context.progress({ label: "counting", total: options.to, unit: "number", start });
    for (let step = start + 1; step <= options.to; step++) {
      if (step === options.failAt) throw new UserError(`${step} cannot be counted`);
      sum += step * options.factor;
      lines.append({ step, sum });
      context.print(`${step}`);
      if (step % 5 === 0 || context.signal.aborted) {
        await context.runFolder.saveCheckpoint(step, new Uint8Array(Float64Array.of(sum).buffer));
      }
      context.signal.throwIfAborted();
      progress.update(step);
      await new Promise((resolve) => setTimeout(resolve, options.delay));
    }
    await context.runFolder.write("result.txt", `${options.word} ${sum}\n`);
  },
});

if (import.meta.main) Deno.exit(await main(Deno.args, [count]));
