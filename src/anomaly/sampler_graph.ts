/**
 * The graphs of sampling: one blended step (paper, Eq. 1 and 7) by DDIM or DPM-Solver++(2M), and what is made once per batch
 * before the first one, the keys and values of the text. They need neither weights nor a device until they are compiled.
 */

import { assign } from "../graph/ops/optimise.ts";
import { add, mul, sub } from "../graph/ops/pointwise.ts";
import { dilate, reweightingMap } from "../graph/ops/reweighting.ts";
import { concat, slice } from "../graph/ops/shape.ts";
import type { SamplerKind } from "../diffusion/sampling.ts";
import type { Tensor } from "../graph/tensor.ts";
import { filled, input, Variable } from "../graph/variable.ts";
import { insertLearned, textTower } from "../models/text_tower.ts";
import { type Context, contextKeys, type Reweighting, transformers, unet } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import { downsamplingFactor, type ModelConfig, type UnetConfig } from "../weights/config.ts";
import { maskTokens, type SpatialConfig } from "./embedding.ts";
import { paperWeights } from "./paper_weights.ts";
import type { GuideFrom } from "./surface.ts";

/**
 * What happens to the learned tokens' attention: nothing, re-weighting as the official code does it or by the paper's Eq. 7 (what
 * of it, and why: docs/parity.md, "Re-weighting by the paper's text"), or replacement by the mask (Prompt-to-Prompt, the baseline
 * of the paper's Table 9).
 */
export type ReweightingForm = "off" | "official" | "paper" | "replace";

/** Tensors of one blended step. */
export interface BlendedStep {
  /** x_t as the step before left it [B, h, w, C]. */
  readonly x: Tensor;
  /** Latent of the normal image [B, h, w, C]. */
  readonly z0: Tensor;
  /** 1 where the anomaly shall appear [B, h, w, 1]. */
  readonly mask: Tensor;
  /** Fresh noise for the background at time t. */
  readonly backgroundNoise: Tensor;
  /**
   * DDIM: fresh noise for the step. DPM-Solver++(2M): x̂₀ of the step before, anything finite in the first.
   */
  readonly carried: Tensor;
  /**
   * [7]: √ᾱ_t, √(1 − ᾱ_t), the step's coefficients of x, of ε (DPM-Solver++: of x̂₀) and of what is carried, the guidance
   * scale, 1/√ᾱ_t.
   */
  readonly coefficients: Tensor;
  /** Sinusoid of t, [B, modelChannels], or [2B, …] with guidance. */
  readonly timeEmbedding: Tensor;
  /** Context of B images; with guidance of 2B, the unconditional ones last. */
  readonly context: Context;
  /** Text of as many images for what lies outside the mask; the same as inside where left out. */
  readonly outside?: Context;
  readonly guided: boolean;
  readonly sampler?: SamplerKind;
  readonly reweighting?:
    & {
      /** 1 on the learned columns [B, L]. */
      readonly columns: Tensor;
    }
    & ({
      readonly form: "official";
      /** Half-width of the mask's dilation at this time, u32 [1]. */
      readonly halfWidth: Tensor;
    } | {
      readonly form: "paper";
      /** x̂₀ of the step before [B, h, w, C]; in the first, which has none, z0: a map of ones. */
      readonly clean: Tensor;
    } | {
      readonly form: "replace";
      /** How many columns are learned. */
      readonly learned: number;
    });
}

/** The weights of a step's attention and what they multiply; `mask` is where this step draws. */
function weighting({ x, z0, reweighting }: BlendedStep, mask: Tensor): Pick<Reweighting, "map" | "mode"> | undefined {
  switch (reweighting?.form) {
    case "official": // compares the latent before blending with the clean background
      return { map: reweightingMap(x, z0, mask, { form: "official" }), mode: "logits" };
    case "paper":
      return { map: paperWeights(reweighting.clean, z0, mask), mode: "probabilities" };
    case "replace":
      return { map: mask, mode: { share: 1 / reweighting.learned } };
  }
}

/** One step: blend with the noised background, predict ε, go on to x_{t−1}; the x̂₀ to carry on where the next step asks for it. */
export function blendedStep(
  config: UnetConfig,
  p: Parameters,
  s: BlendedStep,
): { readonly next: Tensor; readonly clean?: Tensor } {
  const scalar = (i: number) => slice(s.coefficients, 0, i, i + 1);
  const { x, z0, reweighting } = s;
  const mask = reweighting?.form === "official" ? dilate(s.mask, reweighting.halfWidth) : s.mask;
  const background = add(mul(z0, scalar(0)), mul(s.backgroundNoise, scalar(1)));
  const blended = add(background, mul(sub(x, background), mask)); // x·M + y_t·(1 − M)
  const weights = weighting(s, mask);
  const twice = (t: Tensor, other: Tensor = t) => (s.guided ? concat([t, other], 0) : t);
  const eps = unet(
    config,
    p,
    twice(blended),
    s.timeEmbedding,
    s.context,
    weights && {
      map: twice(weights.map, filled(weights.map.shape, 1)),
      columns: twice(reweighting!.columns, filled(reweighting!.columns.shape, 0)),
      mode: weights.mode,
    },
    s.outside && { mask: twice(s.mask), context: s.outside },
  );
  const batch = x.shape[0];
  const conditional = s.guided ? slice(eps, 0, 0, batch) : eps;
  const guidedEps = s.guided ? guide(conditional, slice(eps, 0, batch, 2 * batch), scalar(5)) : conditional;
  const clean = keepsClean(s.sampler, reweighting?.form)
    ? mul(sub(blended, mul(guidedEps, scalar(1))), scalar(6)) // x̂₀ = (x − √(1−ᾱ)·ε)/√ᾱ
    : undefined;
  const predicted = s.sampler === "dpm++2m" ? clean! : guidedEps;
  const next = add(add(mul(blended, scalar(2)), mul(predicted, scalar(3))), mul(s.carried, scalar(4)));
  return { next, clean };
}

/** Whether a step's x̂₀ is asked for in the next one. */
function keepsClean(sampler?: SamplerKind, reweighting?: ReweightingForm): boolean {
  return sampler === "dpm++2m" || reweighting === "paper";
}

/** ε_u + g·(ε_c − ε_u) (Ho & Salimans 2022). */
function guide(conditional: Tensor, unconditional: Tensor, scale: Tensor): Tensor {
  return add(unconditional, mul(sub(conditional, unconditional), scale));
}

/** Sizes of a sampler. */
export interface SamplerSizes {
  /** Images at once. */
  readonly batch: number;
  /** Guidance scale; 1 for none. */
  readonly guidance: number;
  readonly reweighting: ReweightingForm;
  /** Learned tokens k of an embedding. */
  readonly tokens: number;
  /** The spatial encoder, where the embedding has one. */
  readonly spatial?: SpatialConfig;
  /** DDIM where left out. */
  readonly sampler?: SamplerKind;
  /** What guidance leads away from; the empty prompt where left out. */
  readonly guideFrom?: GuideFrom;
  /** Whether the defect's text counts in the mask only, and the surface's outside. */
  readonly regions?: boolean;
}

/** Storage of the spatial encoder's matrices when images are made: 356 M numbers in f16, as the base model's; few in f32. */
export function samplingDtype({ kind }: SpatialConfig): "f16" | "f32" {
  return kind === "official" ? "f16" : "f32";
}

/** Images of the U-Net's batch: unguided, it runs on B images, else on 2B. */
export function rows(batch: number, guidance: number): number {
  return guidance === 1 ? batch : 2 * batch;
}

/** What stays on the device over the steps of a batch. */
export interface SamplerState {
  readonly x: Variable;
  readonly z0: Variable;
  readonly mask: Variable;
  readonly columns: Variable;
  /** x̂₀ of the step before, for DPM-Solver++(2M) and for the paper's re-weighting. */
  readonly clean?: Variable;
  /** Keys and values of every cross-attention. */
  readonly keys: StoredKeys;
  /** Of what lies outside the mask, with a text of its own. */
  readonly outside?: StoredKeys;
}

/** Keys and values on the device, by cross-attention. */
type StoredKeys = ReadonlyMap<string, { readonly k: Variable; readonly v: Variable }>;

/** Zeros for a batch. */
export function samplerState(config: ModelConfig, sizes: SamplerSizes): SamplerState {
  const { batch, guidance, sampler, reweighting, regions } = sizes;
  const side = config.resolution / downsamplingFactor(config.autoencoder), channels = config.autoencoder.embedDim;
  const length = config.text.maxLength, all = rows(batch, guidance);
  const storedKeys = (where: string): StoredKeys =>
    new Map(
      transformers(config.unet).map(({ name, width }) => [name, {
        k: Variable.zeros(`${name}.${where}k`, [all, length, width]),
        v: Variable.zeros(`${name}.${where}v`, [all, length, width]),
      }]),
    );
  return {
    x: Variable.zeros("x", [batch, side, side, channels]),
    z0: Variable.zeros("z0", [batch, side, side, channels]),
    mask: Variable.zeros("mask", [batch, side, side, 1]),
    columns: Variable.zeros("columns", [batch, length]),
    clean: keepsClean(sampler, reweighting) ? Variable.zeros("clean", [batch, side, side, channels]) : undefined,
    keys: storedKeys(""),
    outside: regions ? storedKeys("outside.") : undefined,
  };
}

/** All variables of a state. */
export function stateVariables({ x, z0, mask, columns, clean, keys, outside }: SamplerState): Variable[] {
  const stored = [...keys.values(), ...outside?.values() ?? []].flatMap(({ k, v }) => [k, v]);
  return [x, z0, mask, columns, ...clean ? [clean] : [], ...stored];
}

/** Gives a state's buffers back. */
export function disposeState(state: SamplerState): void {
  for (const variable of stateVariables(state)) variable[Symbol.dispose]();
}

/**
 * The text tower and every cross-attention's keys and values: once per batch, they do not change over the steps.
 * @param spatial parameters of the spatial encoder, where there is one
 */
export function prepareEffects(
  config: ModelConfig,
  parameters: Parameters,
  spatial: Parameters | undefined,
  state: SamplerState,
  sizes: SamplerSizes,
): Tensor[] {
  const { batch, guidance, tokens } = sizes, { maxLength: length, width } = config.text, side = config.resolution;
  const es = sizes.spatial && maskTokens(sizes.spatial, spatial!, input("mask", [batch, side, side, 1])).tokens;
  const words = input("words", [batch, length, width]), rowsOf = input("rows", [batch, length], "u32");
  const told = (name: string) => {
    const ea = input(name, [batch, tokens, width]);
    return insertLearned(words, es ? concat([ea, es], 1) : ea, rowsOf);
  };
  const conditional = told("tokens"), guided = guidance !== 1;
  // The same prompt with the whole surface in the defect's place.
  const surface = sizes.regions || (guided && sizes.guideFrom === "surface") ? told("surface") : undefined;
  const empty = guided && sizes.guideFrom !== "surface" ? input("empty", [batch, length, width]) : undefined;
  const texts = [conditional, surface, empty].filter((text) => text !== undefined);
  const all = textTower(config.text, parameters, texts.length > 1 ? concat(texts, 0) : texts[0]);
  const contextOf = (wanted: readonly Tensor[]) => {
    if (wanted.length === texts.length && wanted.every((text, i) => text === texts[i])) return all;
    const at = (text: Tensor) => texts.indexOf(text) * batch;
    return concat(wanted.map((text) => slice(all, 0, at(text), at(text) + batch)), 0);
  };
  const effects: Tensor[] = [];
  const keep = (wanted: readonly Tensor[], stored: StoredKeys) => {
    for (const [name, { k, v }] of contextKeys(config.unet, parameters, contextOf(wanted))) {
      const { k: keys, v: values } = stored.get(name)!;
      effects.push(assign(keys, k), assign(values, v));
    }
  };
  const from = empty ?? surface!;
  keep(guided ? [conditional, from] : [conditional], state.keys);
  if (state.outside) keep(guided ? [surface!, from] : [surface!], state.outside);
  return effects;
}

const onDevice = (keys: StoredKeys): Context =>
  new Map([...keys].map(([name, { k, v }]) => [name, { k: k.tensor, v: v.tensor }]));

/** One step of the whole batch: x becomes x_{t−1}. */
export function stepEffects(
  config: ModelConfig,
  parameters: Parameters,
  { x, z0, mask, columns, clean, keys, outside }: SamplerState,
  { batch, guidance, reweighting, tokens, spatial, sampler }: SamplerSizes,
): Tensor[] {
  const step = blendedStep(config.unet, parameters, {
    x: x.tensor,
    z0: z0.tensor,
    mask: mask.tensor,
    backgroundNoise: input("backgroundNoise", x.shape),
    carried: sampler === "dpm++2m" ? clean!.tensor : input("stepNoise", x.shape),
    coefficients: input("coefficients", [7]),
    timeEmbedding: input("time", [rows(batch, guidance), config.unet.modelChannels]),
    context: onDevice(keys),
    outside: outside && onDevice(outside),
    guided: guidance !== 1,
    sampler,
    reweighting: reweighting === "off"
      ? undefined
      : reweighting === "replace"
      ? { form: reweighting, columns: columns.tensor, learned: tokens + (spatial?.tokens ?? 0) }
      : reweighting === "paper"
      ? { form: reweighting, columns: columns.tensor, clean: clean!.tensor }
      : { form: reweighting, columns: columns.tensor, halfWidth: input("halfWidth", [1], "u32") },
  });
  return [assign(x, step.next), ...clean ? [assign(clean, step.clean!)] : []];
}
