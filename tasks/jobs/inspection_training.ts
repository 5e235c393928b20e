/**
 * The training of an inspection network in its run folder: progress, `loss.jsonl`, checkpoints from which it goes on bit for
 * bit, optionally the weights that do best on the test set, and the network at the end.
 */

import type { Parameters } from "../../src/nn/parameters.ts";
import { UserError } from "../../src/errors.ts";
import { type NetworkKind, sideMultiple } from "../../src/inspection/models/network.ts";
import type { Learner } from "../../src/inspection/training/learner.ts";
import { encodeInspector, type InspectorInfo } from "../../src/inspection/training/model_file.ts";
import { type InspectionRecipe, recipeNetwork } from "../../src/inspection/training/recipe.ts";
import type { Context } from "../command.ts";
import { INSPECTOR } from "./inspection.ts";

/** Weights that have done best so far, in a run that selects on the test set. */
const BEST = "best.safetensors";

/** Steps over which a line of loss.jsonl is averaged. */
const LOSS_WINDOW = 10;

/**
 * Refuses a side of images that the recipe's network cannot read.
 * @param flag by which the user gives it
 */
export function requireSide(flag: string, recipe: InspectionRecipe, network: NetworkKind): void {
  const multiple = Math.max(32, sideMultiple(recipeNetwork(recipe, network, 2)));
  if (recipe.side % multiple === 0) return;
  throw new UserError(
    `${flag} ${recipe.side} is no multiple of ${multiple}`,
    "the networks halve the side five times",
  );
}

/** How a training is kept. */
export interface InspectionRun {
  readonly steps: number;
  readonly checkpointingSteps: number;
  readonly checkpointsTotalLimit: number;
  /** Everything about the network but its step. */
  readonly info: Omit<InspectorInfo, "step">;
  /** Figure on the test set, every so many steps; left out where the last weights are kept. */
  readonly select?: { readonly every: number; figure(): Promise<number> };
}

/** The best figure so far and its step. */
interface Best {
  readonly figure: number;
  readonly step: number;
}

const next = (step: number, every: number) => (Math.floor(step / every) + 1) * every;

/** Trains to the end, or from the context's checkpoint on, and writes the network. */
export async function trainInspector(
  learner: Learner,
  parameters: Parameters,
  { steps, checkpointingSteps, checkpointsTotalLimit, info, select }: InspectionRun,
  context: Context,
): Promise<void> {
  const { runFolder, checkpoint, signal } = context;
  let best: Best | undefined;
  if (checkpoint) {
    learner.load(checkpoint.bytes, `the checkpoint of step ${checkpoint.step}`);
    best = checkpoint.meta.best as Best | undefined;
  }
  const start = learner.steps;
  using losses = await runFolder.jsonl<{ step: number; loss: number }>("loss.jsonl", ({ step }) => step <= start);
  let saved = checkpoint ? start : -1;
  const save = async () => {
    if (saved === learner.steps) return;
    saved = learner.steps;
    await losses.sync();
    await runFolder.saveCheckpoint(saved, await learner.save(), best ? { best } : {}, checkpointsTotalLimit);
  };
  using progress = context.progress({ label: "training", total: steps, unit: "step", start });
  let note = "";
  while (learner.steps < steps) {
    const from = learner.steps;
    const until = Math.min(
      next(from, LOSS_WINDOW),
      next(from, checkpointingSteps),
      select ? next(from, select.every) : Infinity,
      steps,
    );
    await learner.advance(until, signal, (done) => progress.update(done, note));
    if (signal.aborted) {
      await save();
      signal.throwIfAborted();
    }
    if (until % LOSS_WINDOW === 0 || until === steps) {
      const loss = await learner.takeLoss();
      losses.append({ step: until, loss });
      progress.update(until, note = `loss ${loss.toFixed(4)}`);
    }
    if (select && (until % select.every === 0 || until === steps)) {
      const figure = await select.figure();
      if (!best || figure > best.figure) {
        best = { figure, step: until };
        await runFolder.write(BEST, encodeInspector({ ...info, step: until }, await parameters.store()));
      }
    }
    if (until % checkpointingSteps === 0 || until === steps) await save();
  }
  progress.finish();
  if (select) {
    await runFolder.write(INSPECTOR, await Deno.readFile(runFolder.file(BEST)));
    context.log(`kept step ${best!.step}, chosen on the test set: figures on that set are too good`);
  } else await runFolder.write(INSPECTOR, encodeInspector({ ...info, step: steps }, await parameters.store()));
}
