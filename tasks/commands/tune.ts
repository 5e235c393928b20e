/** `tune`: which variants of the kernels are the fastest on this adapter, for the products of a model. */
import { planGeneration, planTraining } from "../../src/anomaly/budget.ts";
import type { Plan } from "../../src/graph/plan.ts";
import { allowed, OWN_CHOICE, tunableClasses, tuneClass } from "../../src/graph/tuner.ts";
import { lightSpatialConfig } from "../../src/models/spatial_encoder.ts";
import type { ModelConfig } from "../../src/weights/config.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { UserError } from "../../src/errors.ts";
import { smallModelFolder } from "../assets.ts";
import { defineCommand } from "../command.ts";
import { openGpu } from "../device.ts";
import { UsageError } from "../errors.ts";
import { adapterKey, CACHE, saveChoices, tablePath } from "../tuning.ts";
import * as shared from "./shared.ts";

/** Sizes of a model; weights are not read. */
function configOf(model: string | undefined): ModelConfig {
  if (model === "large") return largeModelConfig();
  using folder = openModelFolder(model ?? smallModelFolder());
  return folder.config;
}

/** Tokens of an embedding and of the spatial encoder, as train has them. */
const TOKENS = 8, SPATIAL_TOKENS = 4;

/** Plans of the programs that a job runs where at most `binding` bytes can be bound. */
function plansOf(config: ModelConfig, batch: number, training: boolean, binding: number): Plan[] {
  const plans: Plan[] = [], seen = (plan: Plan) => void plans.push(plan);
  const sizes = { batch, tokens: TOKENS, spatial: lightSpatialConfig(SPATIAL_TOKENS, config.text.width) };
  if (training) planTraining(config, { ...sizes, area: true, kinds: 1 }, Infinity, seen, binding);
  else planGeneration(config, { ...sizes, guidance: 3, reweighting: "official" }, Infinity, seen, binding);
  return plans;
}

export default defineCommand({
  name: "tune",
  summary: "Measures which kernels are the fastest on this adapter, for the other commands to use.",
  details:
    "Takes the matrix products and convolutions of a model's generation and training, runs each variant of their kernels " +
    "with made-up numbers and writes the fastest into a table in the cache folder, which every command reads. Only " +
    "variants whose results are the same bytes are taken: results do not depend on the table. With --precision f16, which " +
    "is for generate's, variants in f16 are taken too. Do not use the machine " +
    `meanwhile. ${CACHE} names another folder for the table.`,
  runFolder: false,
  gpu: true,
  flags: {
    model: { ...shared.model, description: "Model folder (its weights are not read), or `large`." },
    job: {
      type: "list",
      value: "job",
      description: "What to measure for: generate, train.",
      default: ["generate", "train"],
    },
    batch: { type: "list", value: "count", description: "Images at once, 1 to 256.", default: ["4"] },
    precision: {
      ...shared.precision,
      description: "f16: measure for commands that are given --precision f16; kept beside what is for f32.",
    },
    only: { type: "string", value: "text", description: "Only classes of products whose names contain this." },
    verbose: { type: "boolean", description: "Print the time of every variant.", default: false },
    dryRun: { type: "boolean", description: "Measure and print, and leave the table as it is.", default: false },
  },
  examples: ["", "--model models/large --job generate --batch 1,8"],
  async run(options, context) {
    const odd = options.job.find((job) => job !== "generate" && job !== "train");
    if (odd !== undefined) throw new UsageError(`--job knows generate and train, not ${odd}`);
    const batches = options.batch.map((word) => {
      const batch = Number(word);
      if (Number.isInteger(batch) && batch >= 1 && batch <= 256) return batch;
      throw new UsageError(`--batch takes whole numbers from 1 to 256, not ${word}`);
    });
    const path = tablePath();
    if (!path && !options.dryRun) {
      throw new UserError("the system names no folder for caches", `set ${CACHE} to the folder for the table`);
    }
    const config = configOf(options.model), gpu = await openGpu();
    gpu.precision = options.precision;
    const binding = gpu.device.limits.maxStorageBufferBindingSize;
    const plans = options.job.flatMap((job) =>
      batches.flatMap((batch) => plansOf(config, batch, job === "train", binding))
    );
    const classes = tunableClasses(plans).filter(({ key }) => key.includes(options.only ?? ""));
    if (!classes.length) throw new UserError("no product of the model is of that class", "leave out --only");
    context.print(`${adapterKey(gpu.info)}: ${classes.length} classes of ${config.name}`);
    if (!gpu.hasTimestamps) context.log("this adapter has no timestamp queries: times are those of the host");
    let before = 0, after = 0;
    const refused = new Set<string>();
    using progress = context.progress({ label: "measuring", unit: "shape", total: classes.length });
    for (const [i, one] of classes.entries()) {
      context.signal.throwIfAborted(); // what was measured so far is in the table
      const { key, choice, variants } = await tuneClass(gpu, one);
      const time = (name: string) => variants.find((variant) => variant.name === name)?.milliseconds ?? 0;
      before += time(OWN_CHOICE);
      after += time(choice);
      const text = choice === OWN_CHOICE ? "as it is" : `${choice}, ${times(time(OWN_CHOICE), time(choice))}`;
      progress.log(`${key}: ${text}`);
      for (const { name, result, milliseconds } of variants) {
        if (!allowed(result)) refused.add(`${name} (${result})`);
        if (!options.verbose) continue;
        const shown = !allowed(result) ? result : milliseconds ? `${milliseconds.toFixed(3)} ms` : "slow";
        context.print(`  ${name.padEnd(16)}${shown}`);
      }
      if (!options.dryRun) saveChoices(path!, gpu.info, new Map([[key, choice]]));
      progress.update(i + 1);
    }
    progress.finish();
    if (refused.size) context.print(`not taken, other bytes: ${[...refused].sort().join(", ")}`);
    context.print(`these products in one run of each program: ${times(before, after)}`);
    if (!options.dryRun) context.print(path!);
  },
});

function times(before: number, after: number): string {
  return `${before.toPrecision(3)} → ${after.toPrecision(3)} ms`;
}
