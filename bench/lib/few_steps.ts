/** How few sampling steps give what 200 of DDIM give: figures by sampler and steps, against what another seed changes. */

import type { GeneratedPair } from "../../src/anomaly/generate.ts";
import type { SamplerKind } from "../../src/diffusion/sampling.ts";

/** One way to sample. */
export interface Way {
  readonly sampler: SamplerKind;
  readonly steps: number;
  readonly eta: number;
}

/** Means over all pairs of one way and seed. */
export interface WayFigures {
  /** Change inside the mask, 0 … 1, and the share of the mask that visibly changed. */
  readonly changeInside: number;
  readonly changedShare: number;
}

/** A way beside the reference. */
export interface Row extends WayFigures {
  readonly way: Way;
  readonly seconds: number;
  /**
   * How far a figure is from the reference's mean over seeds, in standard deviations over seeds; `distance`: the same of
   * `toReference`, whose mean and deviation are those of the seeds among each other.
   */
  readonly off: WayFigures & { readonly distance: number };
  /** Mean difference to the reference's pictures of all seeds inside the mask, 0 … 1. */
  readonly toReference: number;
  /** The same to the reference without noise, which solves the ODE, of the same seed. */
  readonly toOde: number;
}

/** Result of a run. */
export interface FewSteps {
  readonly format: "anomalydiffusion-few-steps";
  readonly date: string;
  readonly adapter: string;
  readonly model: string;
  readonly pairs: number;
  readonly seeds: number;
  readonly guidance: number;
  /** What all ways share. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly reference: Way;
  /** The reference by seed. */
  readonly references: readonly WayFigures[];
  /** By seed of the reference: mean difference inside the mask to the pictures of its other seeds. */
  readonly seedDistances: readonly number[];
  readonly rows: readonly Row[];
}

/** Largest deviation in a figure, in standard deviations over seeds, that counts as the seeds' own. */
export const WITHIN = 2;

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean figures of some pairs. */
export function figuresOf(pairs: readonly GeneratedPair[]): WayFigures {
  return {
    changeInside: mean(pairs.map(({ figures }) => figures.changeInside)),
    changedShare: mean(pairs.map(({ figures }) => figures.changedShare)),
  };
}

/** Mean absolute difference of a channel inside the masks, 0 … 1, between pictures of the same jobs in the same order. */
export function pictureDistance(a: readonly GeneratedPair[], b: readonly GeneratedPair[]): number {
  return mean(a.map(({ job: { mask }, image }, i) => {
    let sum = 0, count = 0;
    for (let p = 0; p < mask.data.length; p++) {
      if (!mask.data[p]) continue;
      for (let c = 0; c < 3; c++) sum += Math.abs(image.data[3 * p + c] - b[i].image.data[3 * p + c]);
      count += 3;
    }
    return count ? sum / count / 255 : 0;
  }));
}

/** How far a value is from several, in their standard deviations (n − 1). */
export function deviation(value: number, values: readonly number[]): number {
  const centre = mean(values);
  return (value - centre) / Math.sqrt(values.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (values.length - 1));
}

/** For each seed's pictures the mean of {@linkcode pictureDistance} to those of the other seeds. */
export function seedDistances(seeds: readonly (readonly GeneratedPair[])[]): number[] {
  return seeds.map((a) => mean(seeds.filter((b) => b !== a).map((b) => pictureDistance(a, b))));
}

/**
 * Whether a way that was drawn with a seed of its own passes for one more seed of the reference: both figures within the seeds'
 * spread, and pictures no further from the reference's than a seed's are from the others'.
 */
export function holds({ off }: Pick<Row, "off">): boolean {
  return Math.abs(off.changeInside) <= WITHIN && Math.abs(off.changedShare) <= WITHIN && off.distance <= WITHIN;
}

const name = ({ sampler, steps, eta }: Way) => `${sampler}${sampler === "ddim" ? ` η=${eta}` : ""}, ${steps} steps`;

/** The result as a Markdown table. */
export function fewStepsTable(result: FewSteps): string {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`, sigma = (value: number) => value.toFixed(1);
  const { references, seedDistances, reference, pairs, seeds } = result;
  return [
    `${pairs} pairs, guidance ${result.guidance}, ${result.model}, ${result.adapter}, ${
      result.date.slice(0, 10)
    }. The ` +
    `reference is ${name(reference)}, ${seeds} seeds: change inside ` +
    `${references.map(({ changeInside }) => percent(changeInside)).join(", ")}; visibly changed ` +
    `${
      references.map(({ changedShare }) => percent(changedShare)).join(", ")
    }; a seed's pictures differ from the others' by ` +
    `${
      seedDistances.map(percent).join(", ")
    } inside the mask. Every way is drawn with a seed that the reference did not ` +
    `have. In brackets: distance from the reference in standard deviations over its seeds; a way holds within ${WITHIN} of ` +
    `them in all three.`,
    "",
    "| way | change inside | visibly changed | to the reference | to its ODE | seconds a pair | holds |",
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ...result.rows.map((row) =>
      `| ${name(row.way)} | ${percent(row.changeInside)} (${sigma(row.off.changeInside)} σ) | ` +
      `${percent(row.changedShare)} (${sigma(row.off.changedShare)} σ) | ${percent(row.toReference)} (${
        sigma(row.off.distance)
      } σ) | ` +
      `${percent(row.toOde)} | ${row.seconds.toFixed(1)} | ${holds(row) ? "yes" : "no"} |`
    ),
    "",
  ].join("\n");
}
