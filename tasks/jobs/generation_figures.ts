/**
 * Figures of generated pictures by networks that the user gives, for `reproduce table1` and `evaluate`: Inception Score, KID
 * and IC-LPIPS of each kind of defect, and of each part as the paper's Table 1 has them.
 */

import { loadImage } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import { FeatureNetwork } from "../../src/inspection/metrics/features.ts";
import {
  clusterRules,
  inceptionScore,
  intraClusterLpips,
  kernelInceptionDistance,
  kidRules,
} from "../../src/inspection/metrics/generation.ts";
import { type GeneratedPair, scanGenerated } from "../../src/inspection/training/generated.ts";
import type { Context } from "../command.ts";
import type { Kind } from "./dataset.ts";

/** ONNX files of the networks (docs/metrics.md). */
export interface GenerationNetworks {
  readonly inception?: string;
  readonly lpips?: string;
}

/** Conventions, and what happens where a figure has no meaning. */
export interface GenerationOptions {
  readonly seed: number;
  /** Measure KID too, by this rule. */
  readonly kid?: keyof typeof kidRules;
  /** The rule of IC-LPIPS; `anomalydiffusion` where left out. */
  readonly cluster?: keyof typeof clusterRules;
  /** Takes which of its outputs the Inception network has: `logits` for IS, `features` for KID. */
  readonly opened?: (outputs: readonly string[]) => void;
  /** Takes why a figure is left out; without it the first such reason is thrown. */
  readonly skipped?: (why: string) => void;
}

/** Figures by those networks; what was not measured is left out. */
export interface NetworkFigures {
  /** Inception Score. */
  readonly is?: number;
  /** Kernel Inception Distance, as it is (papers print it × 1000). */
  readonly kid?: number;
  readonly icLpips?: number;
}

/** What was measured. */
export interface GenerationFigures {
  /** By the kind's key. */
  readonly kinds: Readonly<Record<string, NetworkFigures>>;
  /** By part: IS over all of its pictures, the others averaged over its kinds. */
  readonly parts: Readonly<Record<string, NetworkFigures>>;
}

/**
 * Measures the pairs of a folder; refused ones are left out.
 * @param kinds kinds of defect, whose real images KID compares with and IC-LPIPS forms clusters around
 */
export async function generationFigures(
  pairs: string,
  kinds: readonly Kind[],
  networks: GenerationNetworks,
  options: GenerationOptions,
  context: Context,
): Promise<GenerationFigures> {
  const parts = [...new Set(kinds.map(({ part }) => part.name))], generated = scanGenerated(pairs, { parts });
  const ofKind = ({ part, defect }: Kind) =>
    generated.filter((pair) => pair.part === part.name && pair.defect === defect.name);
  const result = {
    kinds: Object.fromEntries(kinds.map(({ key }) => [key, {} as Figures])),
    parts: Object.fromEntries(parts.map((part) => [part, {} as Figures])),
  };
  const count = kinds.reduce((sum, kind) => sum + ofKind(kind).length, 0);
  if (networks.inception) await inceptionFigures(kinds, ofKind, networks.inception, count, options, result, context);
  if (networks.lpips) await lpipsFigures(kinds, ofKind, networks.lpips, count, options, result, context);
  for (const part of parts) {
    for (const name of ["kid", "icLpips"] as const) {
      const own = kinds.filter((kind) => kind.part.name === part).flatMap(({ key }) => result.kinds[key][name] ?? []);
      if (own.length) result.parts[part][name] = own.reduce((sum, value) => sum + value, 0) / own.length;
    }
  }
  return result;
}

type Figures = { -readonly [name in keyof NetworkFigures]: NetworkFigures[name] };
type Results = { kinds: Record<string, Figures>; parts: Record<string, Figures> };
type OfKind = (kind: Kind) => GeneratedPair[];

/** A figure, or undefined where it has no meaning and the caller wants to know why. */
async function attempt<T>(what: string, { skipped }: GenerationOptions, figure: () => T | Promise<T>) {
  try {
    return await figure();
  } catch (error) {
    if (!skipped || !(error instanceof UserError)) throw error;
    skipped(`${what}: ${error.message}`);
  }
}

/** IS and KID: every image goes through the network once. */
async function inceptionFigures(
  kinds: readonly Kind[],
  ofKind: OfKind,
  file: string,
  count: number,
  options: GenerationOptions,
  result: Results,
  context: Context,
): Promise<void> {
  const { seed, kid } = options, outputs = kid ? ["logits", "features"] : ["logits"];
  await using network = await FeatureNetwork.open(file, { outputs, some: kid !== undefined });
  options.opened?.(network.outputs);
  const [scores, distances] = ["logits", "features"].map((name) => network.outputs.includes(name));
  const real = distances ? kinds.reduce((sum, { defect }) => sum + defect.pairs.length, 0) : 0;
  using progress = context.progress({ label: "Inception", total: count + real, unit: "image" });
  let done = 0;
  const run = async (path: string) => {
    context.signal.throwIfAborted();
    const features = await network.run(await loadImage(path));
    progress.update(++done);
    return features;
  };
  for (const part of Object.keys(result.parts)) {
    const all: Float32Array[] = [];
    for (const kind of kinds.filter((one) => one.part.name === part)) {
      const { key } = kind, logits: Float32Array[] = [], made: Float32Array[] = [], known: Float32Array[] = [];
      for (const { image } of ofKind(kind)) {
        const { logits: row, features } = await run(image);
        if (scores) logits.push(row);
        if (distances) made.push(features);
      }
      if (distances) { for (const { image } of kind.defect.pairs) known.push((await run(image)).features); }
      all.push(...logits);
      // In `reproduce` a part's score counts; a kind alone may have too few images for one.
      if (scores && kid) {
        result.kinds[key].is = await attempt(key, options, () => inceptionScore(logits, { seed }).mean);
      }
      if (distances) {
        const rule = kidRules[kid!];
        result.kinds[key].kid = await attempt(
          key,
          options,
          () => kernelInceptionDistance(known, made, { rule, seed }).mean,
        );
      }
    }
    if (scores) result.parts[part].is = await attempt(part, options, () => inceptionScore(all, { seed }).mean);
  }
  progress.finish();
}

/** IC-LPIPS. */
async function lpipsFigures(
  kinds: readonly Kind[],
  ofKind: OfKind,
  file: string,
  count: number,
  options: GenerationOptions,
  result: Results,
  context: Context,
): Promise<void> {
  await using network = await FeatureNetwork.open(file, { outputs: ["embedding"] });
  using progress = context.progress({ label: "IC-LPIPS", total: count, unit: "image" });
  const { seed, cluster = "anomalydiffusion" } = options, rule = clusterRules[cluster];
  let done = 0;
  const embed = async (path: string) => {
    context.signal.throwIfAborted();
    return (await network.run(await loadImage(path))).embedding;
  };
  for (const kind of kinds) {
    const mine = ofKind(kind).map(({ image }) => image), real = kind.defect.pairs.map(({ image }) => image);
    const found = await attempt(kind.key, options, () => intraClusterLpips(real, mine, embed, { rule, seed }));
    if (found) result.kinds[kind.key].icLpips = found.value;
    progress.update(done += mine.length);
  }
  progress.finish();
}
