/** The table of commands, in the order of the overview. */
import type { AnyCommand } from "../command.ts";
import adapt from "./adapt.ts";
import baseline from "./baseline.ts";
import demo from "./demo.ts";
import doctor from "./doctor.ts";
import evaluate from "./evaluate.ts";
import exportCommand from "./export.ts";
import generate from "./generate.ts";
import generateMasks from "./generate_masks.ts";
import importCommand from "./import.ts";
import inspectExport from "./inspect_export.ts";
import inspectPatchcore from "./inspect_patchcore.ts";
import inspectTest from "./inspect_test.ts";
import inspectTrain from "./inspect_train.ts";
import planCommand from "./plan.ts";
import pretrain from "./pretrain.ts";
import regenerate from "./regenerate.ts";
import report from "./report.ts";
import reproduce from "./reproduce.ts";
import serve from "./serve.ts";
import train from "./train.ts";
import trainMasks from "./train_masks.ts";
import tune from "./tune.ts";

export const commands: readonly AnyCommand[] = [
  demo,
  doctor,
  adapt,
  train,
  trainMasks,
  generateMasks,
  generate,
  regenerate,
  baseline,
  evaluate,
  exportCommand,
  inspectTrain,
  inspectTest,
  inspectPatchcore,
  inspectExport,
  serve,
  report,
  reproduce,
  importCommand,
  pretrain,
  planCommand,
  tune,
];
