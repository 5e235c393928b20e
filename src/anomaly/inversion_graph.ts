/**
 * The graph of one step of masked textual inversion (paper, Eq. 5–6): from words, learned vectors and a noised latent to the
 * loss inside the mask, and from its gradient to Adam's update. Needs neither weights nor a device until it is compiled.
 */

import { gradient } from "../graph/gradient.ts";
import { embedding } from "../graph/ops/gather.ts";
import { maskedMse } from "../graph/ops/losses.ts";
import { adam, adamW, assign, clipByGlobalNorm } from "../graph/ops/optimise.ts";
import { add, affine } from "../graph/ops/pointwise.ts";
import { concat, slice } from "../graph/ops/shape.ts";
import type { Step } from "../graph/recompute.ts";
import type { Tensor } from "../graph/tensor.ts";
import { input, Variable } from "../graph/variable.ts";
import { isRunningStatistic } from "../models/official_spatial_encoder.ts";
import { insertLearned, textTower } from "../models/text_tower.ts";
import { unet, UNET_PREFIX } from "../models/unet.ts";
import type { Parameters } from "../nn/parameters.ts";
import { downsamplingFactor, type ModelConfig } from "../weights/config.ts";
import { maskTokens, type SpatialConfig } from "./embedding.ts";

/** Largest norm of the U-Net's gradients together, where it is tuned. */
const UNET_GRADIENT_LIMIT = 1;

/** Whether a parameter is the U-Net's. */
export const isUnet = (name: string): boolean => name.startsWith(`${UNET_PREFIX}.`);

/** Sizes of a step. */
export interface InversionSizes {
  /** Pictures in one step. */
  readonly batch: number;
  /** Parts of the batch that run one after the other, their gradients added up; divides the batch, 1 where left out. */
  readonly parts?: number;
  /** Tokens k of each embedding. */
  readonly tokens: number;
  /** The spatial encoder, where there is one. */
  readonly spatial?: SpatialConfig;
  /** Divide each picture's loss by its mask's area. */
  readonly area: boolean;
  /** AdamW instead of Adam. */
  readonly decoupledDecay?: boolean;
  /**
   * Train the U-Net's weights along. Then a defect's tokens count in its mask only and its surface's outside, as
   * `AnomalyEmbedding.regions` says.
   */
  readonly tune?: boolean;
}

/** A step of training that is not yet on a device. */
export interface InversionGraph {
  readonly loss: Tensor;
  /** What is learned: the embeddings first, then the encoder's weights, then the U-Net's where it is tuned. */
  readonly trained: readonly Variable[];
  /** Adam's m and v of each. */
  readonly moments: readonly Variable[];
  /** Gradients of the parts so far; none where the batch is one part. */
  readonly sums: readonly Variable[];
  /** Gradients and updates, or with several parts the sums, with these scopes computed again (see `gradient`). */
  step(recompute: ReadonlySet<string>): Step;
  /** With several parts: the updates from the sums, which become zero again. */
  update(): Step;
}

/**
 * Describes a step.
 * @param networks the base model, frozen or with a U-Net to tune in f32, and the trained encoder
 * @param table embeddings e_a of every key [keys · k, D]
 * @param lossSum [1]; each step adds its loss
 * @param inputs `ids` [B, k] u32, `mask` [B, side, side, 1], `words` [B, L, D], `rows` [B, L] u32, `time` [B, modelChannels],
 * `x` and `eps` [B, h, w, C], `latentMask` [B, h, w, 1], `embeddingHyper` and `encoderHyper` [8]; with `tune` also `outsideIds`
 * [B, k] u32, `region` [B, h, w, 1] of 0 and 1, and `unetHyper` [8]
 */
export function inversionGraph(
  config: ModelConfig,
  networks: { readonly base: Parameters; readonly encoder: Parameters },
  table: Variable,
  lossSum: Variable,
  { batch: pictures, parts = 1, tokens, spatial, area, decoupledDecay = false, tune = false }: InversionSizes,
): InversionGraph {
  const batch = pictures / parts;
  if (!Number.isInteger(batch)) throw new Error(`a batch of ${pictures} has no ${parts} equal parts`);
  const { maxLength, width } = config.text, side = config.resolution;
  const latentSide = side / downsamplingFactor(config.autoencoder);
  const latent = [batch, latentSide, latentSide, config.autoencoder.embedDim];
  const es = spatial && maskTokens(spatial, networks.encoder, input("mask", [batch, side, side, 1]), true);
  const blank = input("words", [batch, maxLength, width]), rows = input("rows", [batch, maxLength], "u32");
  const told = (ids: string) => {
    const ea = embedding(table.tensor, input(ids, [batch, tokens], "u32")); // [B, k, D]
    return insertLearned(blank, es ? concat([ea, es.tokens], 1) : ea, rows); // k + n learned columns
  };
  const words = tune ? concat([told("ids"), told("outsideIds")], 0) : told("ids");
  const context = textTower(config.text, networks.base, words); // [B, L, D], tuned [2B, L, D]
  const region = tune &&
    { mask: input("region", [batch, latentSide, latentSide, 1]), context: slice(context, 0, batch, 2 * batch) };
  const time = input("time", [batch, config.unet.modelChannels]);
  const predicted = unet(
    config.unet,
    networks.base,
    input("x", latent),
    time,
    tune ? slice(context, 0, 0, batch) : context,
    undefined,
    region || undefined,
  );
  const loss = maskedMse(predicted, input("eps", latent), input("latentMask", [batch, latentSide, latentSide, 1]), {
    area,
  });

  const encoder = [...networks.encoder.variables.values()].filter(({ name }) => !isRunningStatistic(name));
  const tuned = tune ? [...networks.base.variables.values()].filter(({ name }) => isUnet(name)) : [];
  const trained = [table, ...encoder, ...tuned], fromUnet = 1 + encoder.length;
  const moments = trained.flatMap(({ name, shape }) =>
    ["m", "v"].map((part) => Variable.zeros(`${name}.${part}`, shape))
  );
  const rates = [input("embeddingHyper", [8]), input("encoderHyper", [8])];
  const unetRate = input("unetHyper", [8]);
  const sums = parts > 1 ? trained.map(({ name, shape }) => Variable.zeros(`${name}.sum`, shape)) : [];
  const updates = (gradients: readonly Tensor[]) => {
    const ofUnet = gradients.slice(fromUnet);
    const clipped = ofUnet.length ? clipByGlobalNorm(ofUnet, UNET_GRADIENT_LIMIT) : [];
    return trained.map((parameter, i) =>
      (decoupledDecay && i < fromUnet ? adamW : adam)({
        parameter,
        gradient: i < fromUnet ? gradients[i] : clipped[i - fromUnet],
        m: moments[2 * i],
        v: moments[2 * i + 1],
        hyper: i < fromUnet ? rates[i ? 1 : 0] : unetRate,
      })
    );
  };
  const share = (t: Tensor) => (parts > 1 ? affine(t, 1 / parts) : t);
  const step = (recompute: ReadonlySet<string>): Step => {
    const gradients = gradient(loss, trained.map((v) => v.tensor), { recompute });
    const learned = sums.length
      ? sums.map((sum, i) => assign(sum, add(sum.tensor, share(gradients[i]))))
      : updates(gradients);
    return { effects: [...learned, ...es?.effects ?? [], assign(lossSum, add(lossSum.tensor, share(loss)))] };
  };
  const update = (): Step => {
    const learned = updates(sums.map((sum) => sum.tensor));
    return { effects: [...learned, ...sums.map((sum) => assign(sum, affine(sum.tensor, 0)))] };
  };
  return { loss, trained, moments, sums, step, update };
}
