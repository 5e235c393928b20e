/** `demo`: the whole job on the embedded small model and few-shot parts, ending in a folder and a page to look at. */
import { UserError } from "../../src/errors.ts";
import { partsFolder } from "../assets.ts";
import { type Context, defineCommand } from "../command.ts";
import { openBase } from "../device.ts";
import { STAGES, writeDemoPage } from "../jobs/demo_page.ts";
import { openKinds } from "../jobs/dataset.ts";
import { type CommandStage, doneWith, runStage } from "../jobs/stage.ts";
import { VERSION } from "../version.ts";
import generate from "./generate.ts";
import generateMasks from "./generate_masks.ts";
import * as shared from "./shared.ts";
import train, { TUNED } from "./train.ts";
import trainMasks from "./train_masks.ts";

/** Augmented views of each training pair: enough for a few hundred steps. */
const COPIES = 12;

/** How long embeddings are trained alone, in which batches, and how long where the U-Net is trained along. */
const STEPS = 240, BATCH = 4, TUNED_STEPS = 70;

/** Shown where no part is named: of its two defects one is plain to see and one is faint. */
const PART = "metal";

/** What masks may cost in a demo: tries before a real one is placed instead. */
const MASK_ATTEMPTS = 2;

/** Least mean change inside the mask: below it nothing was drawn. */
const MIN_CHANGE = 0.03;

/** A stage, which is done when it made so much: a resumed demo goes on after it unless more is asked for. */
interface Stage extends CommandStage {
  /** Steps or pairs. */
  readonly amount: number;
  /** Folders of the stages that use its result: made anew where it is. */
  readonly users?: readonly string[];
}

/** Runs a stage from where it was left. */
async function stage({ amount, users = [], ...stage }: Stage, context: Context): Promise<void> {
  const done = `${amount}\n`;
  if (await doneWith(stage, context) === done) return;
  for (const user of users) await removeFolder(context.runFolder.file(user));
  await runStage(stage, context, done);
}

async function removeFolder(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

export default defineCommand({
  name: "demo",
  summary: "The whole job on what ships with the program: train, masks, pairs, and an HTML page.",
  details:
    "Learns the two defects of one embedded part from its few training pairs, makes masks and pairs, and writes " +
    "index.html, a page without links to look at. About four minutes on two CPU cores with the software adapter.",
  runFolder: true,
  gpu: true,
  flags: {
    part: {
      type: "string",
      value: "name",
      description: "Which of the embedded parts; doctor lists them.",
      otherwise: PART,
      goesWith: { all: [false] },
    },
    all: { type: "boolean", description: "Every embedded part.", default: false },
    model: shared.model,
    seed: shared.seed,
    count: {
      type: "integer",
      unit: "pairs",
      description: "Pairs for each kind of defect.",
      default: 8,
      min: 1,
      max: 1000,
      changeable: true,
    },
    tune: {
      type: "boolean",
      description: "Train the U-Net's weights along with the embeddings and the encoder.",
      default: true,
    },
    maxTrainSteps: shared.maxTrainStepsOr(`${TUNED_STEPS}, with --no-tune ${STEPS}`, "How long to train them."),
    maskTrainSteps: shared.maxTrainSteps(80, "How long to train the mask embeddings."),
    trainBatchSize: shared.trainBatchSizeOr(`${BATCH}, where the U-Net is trained along ${TUNED.batch}`),
    batchSize: shared.batchSize,
    sampler: { ...shared.sampler, default: "dpm++sde" },
    steps: shared.steps(16),
    guidanceScale: shared.guidanceScale(2),
    reweighting: {
      type: "string",
      description:
        "Adaptive attention re-weighting: none, as the official code, or by the paper's equation 7 (docs/parity.md). With " +
        "the small model the official code's brings colours that no training pair has.",
      choices: ["off", "official", "paper"],
      default: "off",
    },
  },
  examples: ["", "--all", "--part wood --count 24 --out runs/wood-demo"],
  async run(options, context) {
    const data = partsFolder(), everything = openKinds({ data });
    const names = [...new Set(everything.map(({ part }) => part.name))];
    const part = options.all ? names : [options.part ?? (names.includes(PART) ? PART : names[0])];
    if (!names.includes(part[0])) {
      throw new UserError(`there is no embedded part ${part[0]}`, `there is ${names.join(", ")}`);
    }
    const kinds = everything.filter((kind) => part.includes(kind.part.name));
    const folder = (name: string) => context.runFolder.file(name);
    const { model, seed, count, batchSize, steps, sampler, reweighting, tune } = options;
    const { maxTrainSteps = tune ? TUNED_STEPS : STEPS, trainBatchSize } = options;
    const common = { data, part, model, seed };
    const trained = { ...common, validationSteps: 0, augmentedCopies: COPIES };
    const sampled = { ...common, count, batchSize, steps, sampler };
    const stages: Stage[] = [
      {
        command: train,
        folder: STAGES.train,
        amount: maxTrainSteps,
        given: { ...trained, tune, maxTrainSteps, trainBatchSize: trainBatchSize ?? (tune ? TUNED.batch : BATCH) },
        users: [STAGES.pairs],
      },
      {
        command: trainMasks,
        folder: STAGES.trainMasks,
        amount: options.maskTrainSteps,
        given: { ...trained, maxTrainSteps: options.maskTrainSteps, trainBatchSize: trainBatchSize ?? BATCH },
        users: [STAGES.masks, STAGES.pairs],
      },
      {
        command: generateMasks,
        folder: STAGES.masks,
        amount: count,
        given: {
          ...sampled,
          maxAttempts: MASK_ATTEMPTS,
          masksRun: folder(STAGES.trainMasks),
        }, // pair i keeps mask i however many there are
      },
      {
        command: generate,
        folder: STAGES.pairs,
        amount: count,
        given: {
          ...sampled,
          trainRun: folder(STAGES.train),
          masks: folder(STAGES.masks),
          guidanceScale: options.guidanceScale,
          reweighting,
          minChange: MIN_CHANGE,
        },
      },
    ];
    for (const one of stages) await stage(one, context);
    const base = await openBase(model);
    const { maskTrainSteps, guidanceScale } = options;
    const settings = {
      part: part.join(", "),
      ...{ seed, tune, maxTrainSteps, maskTrainSteps, count, sampler, steps, guidanceScale, reweighting },
    };
    const footer = `anomalydiffusion ${VERSION}`;
    await context.runFolder.write(
      "index.html",
      await writeDemoPage(context.runFolder.path, data, kinds, base, settings, footer),
    );
    context.print(`${context.runFolder.file("index.html")}`);
  },
});
