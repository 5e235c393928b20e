/** `evaluate`: the figures of a run of generated pairs, with and without networks. */
import { UserError } from "../../src/errors.ts";
import { clusterRules, kidRules } from "../../src/inspection/metrics/generation.ts";
import { defineCommand } from "../command.ts";
import { pairsOfRun, wasGiven } from "../jobs/dataset.ts";
import { evaluatePairs, requireManifest } from "../jobs/evaluation.ts";
import * as shared from "./shared.ts";

/** Names of rules, as flags need them. */
const KID_RULES = Object.keys(kidRules) as (keyof typeof kidRules)[];
const CLUSTER_RULES = Object.keys(clusterRules) as (keyof typeof clusterRules)[];

export default defineCommand({
  name: "evaluate",
  summary: "Measures generated pairs: change inside and outside the masks, copies, variety; IS, KID, IC-LPIPS.",
  details:
    "For each kind of defect and over all: what changed inside and outside the masks, how much of a mask lies on the part, " +
    "distance to the nearest training defect, near-duplicates, and how much the seed alone changes where generate measured " +
    "it. With --inception and --lpips also IS, KID and IC-LPIPS under the rules of the papers (docs/metrics.md). Prints a " +
    "table and writes evaluation.json and evaluation.md. Pairs that the quality gate refused are left out.",
  runFolder: true,
  gpu: false,
  flags: {
    pairs: {
      type: "string",
      value: "folder",
      description: "Generated pairs: the run folder of generate, baseline or demo.",
      required: true,
    },
    data: { ...shared.data, required: false, otherwise: "where the pairs' run found it" },
    part: shared.part,
    defect: shared.defect,
    officialSplit: { ...shared.officialSplit, default: undefined, otherwise: "as in the pairs' run" },
    allPairs: { ...shared.allPairs, default: undefined, otherwise: "as in the pairs' run" },
    inception: {
      type: "string",
      value: "file",
      description: "Inception v3 as ONNX, for IS (output logits) and KID (output features).",
    },
    lpips: { type: "string", value: "file", description: "LPIPS as ONNX, for IC-LPIPS." },
    kidRule: {
      type: "string",
      description: "How KID draws its subsets; papers on few-shot anomalies use magic or o2mag.",
      choices: KID_RULES,
      default: "magic",
    },
    clusterRule: {
      type: "string",
      description: "How IC-LPIPS forms clusters, by the paper that does so.",
      choices: CLUSTER_RULES,
      default: "anomalydiffusion",
    },
    seed: { ...shared.seed, description: "Number from which subsets and splits follow." },
  },
  examples: [
    "--pairs runs/pairs --out runs/evaluation",
    "--pairs runs/pairs --inception inception.onnx --lpips lpips-vgg.onnx --out runs/evaluation",
  ],
  async run({ part, defect, seed, inception, lpips, kidRule, clusterRule, ...options }, context) {
    const { pairs, data, config } = await pairsOfRun(options.pairs, options.data);
    await requireManifest(pairs);
    if (data === undefined) {
      throw new UserError(
        "the pairs' data set is not where it was, and sources and training defects are in it",
        "give its folder with --data",
      );
    }
    await evaluatePairs({
      pairs,
      data,
      part,
      defect,
      officialSplit: options.officialSplit ?? config["official-split"] === true,
      allPairs: options.allPairs ?? await wasGiven(pairs, "all-pairs"),
      networks: { inception, lpips },
      kid: kidRule,
      cluster: clusterRule,
      seed,
    }, context);
  },
});
