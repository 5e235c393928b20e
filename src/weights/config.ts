/** `config.json` of a model folder: the sizes of its networks, checked when it is read. */

import { UserError } from "../errors.ts";

/** KL autoencoder of latent diffusion. The image side shrinks by patchSize · 2^(levels − 1). */
export interface AutoencoderConfig {
  /** Side of the pixel blocks that become channels before the first convolution; 1 for LDM's own. */
  patchSize: number;
  /** Channels of a picture. */
  inChannels: number;
  /** Channels of a decoded picture. */
  outChannels: number;
  /** Width of the finest level. */
  channels: number;
  /** Widths of the levels, in `channels`; each level halves the side. */
  channelMult: number[];
  /** Residual blocks a level. */
  numResBlocks: number;
  /** Channels that the encoder puts out, once for mean and once for log-variance. */
  zChannels: number;
  /** Channels of the latent. */
  embedDim: number;
  /** Whether the middle of encoder and decoder has a self-attention block. */
  midAttention: boolean;
  /** Groups of every group norm. */
  numGroups: number;
}

/** U-Net of latent diffusion with cross-attention. */
export interface UnetConfig {
  /** Channels of the latent. */
  inChannels: number;
  /** Channels of the predicted noise. */
  outChannels: number;
  /** Width of the finest level. */
  modelChannels: number;
  /** Widths of the levels, in `modelChannels`; each level halves the side. */
  channelMult: number[];
  /** Residual blocks a level. */
  numResBlocks: number;
  /** Whether each level has transformers, one entry per channelMult. */
  attentionLevels: boolean[];
  /** Heads of every attention. */
  numHeads: number;
  /** Width of the text. */
  contextDim: number;
  /** Groups of every group norm. */
  numGroups: number;
}

/** Transformer encoder over word pieces. */
export interface TextConfig {
  /** Word pieces. */
  vocabSize: number;
  /** Width of the residual stream. */
  width: number;
  /** Layers, each of attention and feed-forward. */
  depth: number;
  /** Heads of every attention. */
  heads: number;
  /** Width of a head. */
  headDim: number;
  /** Positions. */
  maxLength: number;
}

/** Sizes of the light spatial encoder. */
export interface LightSpatialConfig {
  /** Which encoder: the small one of this program. */
  readonly kind: "light";
  /** Widths of the stride-2 convolutions. */
  readonly channels: readonly number[];
  /** Number n of tokens. */
  readonly tokens: number;
  /** Width of a word embedding. */
  readonly width: number;
}

/** Diffusion schedule, linear in √β. */
export interface ScheduleConfig {
  /** Number of training timesteps T. */
  timesteps: number;
  /** β of the first timestep. */
  betaStart: number;
  /** β of the last one. */
  betaEnd: number;
}

/** The whole `config.json`. */
export interface ModelConfig {
  /** Which kind of folder this is. */
  format: "anomalydiffusion-model";
  /** Of the format. */
  version: 1;
  /** For a reader. */
  name: string;
  /** Image side in pixels that the model was trained on. */
  resolution: number;
  /** Factor on latents after encoding. */
  scaleFactor: number;
  /** KL autoencoder. */
  autoencoder: AutoencoderConfig;
  /** Noise predictor. */
  unet: UnetConfig;
  /** Text tower. */
  text: TextConfig;
  /** A light spatial encoder that learned with the networks, where the folder has one. */
  spatialEncoder?: LightSpatialConfig;
  /** Noise levels. */
  schedule: ScheduleConfig;
  /** How the model came to be; free form. */
  training?: unknown;
}

type Rule = "count" | "positive" | "text" | "flag" | "positives" | "flags" | { [key: string]: Rule };

const spatialRule: Rule = { kind: "text", channels: "positives", tokens: "count", width: "count" };

const rules: { [key: string]: Rule } = {
  name: "text",
  resolution: "count",
  scaleFactor: "positive",
  autoencoder: {
    patchSize: "count",
    inChannels: "count",
    outChannels: "count",
    channels: "count",
    channelMult: "positives",
    numResBlocks: "count",
    zChannels: "count",
    embedDim: "count",
    midAttention: "flag",
    numGroups: "count",
  },
  unet: {
    inChannels: "count",
    outChannels: "count",
    modelChannels: "count",
    channelMult: "positives",
    numResBlocks: "count",
    attentionLevels: "flags",
    numHeads: "count",
    contextDim: "count",
    numGroups: "count",
  },
  text: { vocabSize: "count", width: "count", depth: "count", heads: "count", headDim: "count", maxLength: "count" },
  schedule: { timesteps: "count", betaStart: "positive", betaEnd: "positive" },
};

const isPositive = (value: unknown) => typeof value === "number" && Number.isFinite(value) && value > 0;
const isFlag = (value: unknown) => typeof value === "boolean";
const isList = (value: unknown, of: (item: unknown) => boolean) =>
  Array.isArray(value) && value.length > 0 && value.every(of);

const kinds: Record<Extract<Rule, string>, [expected: string, test: (value: unknown) => boolean]> = {
  count: ["a whole number above 0", (value) => isPositive(value) && Number.isInteger(value)],
  positive: ["a number above 0", isPositive],
  text: ["a text", (value) => typeof value === "string"],
  flag: ["true or false", isFlag],
  positives: ["a list of numbers above 0", (value) => isList(value, isPositive)],
  flags: ["a list of true and false", (value) => isList(value, isFlag)],
};

/**
 * Checks a parsed `config.json`.
 * @param label its path, for error messages
 * @throws {UserError} naming the key, what was expected and what was found
 */
export function checkModelConfig(json: unknown, label: string): ModelConfig {
  const refuse = (key: string, expected: string, found: unknown): never => {
    throw new UserError(`${label}: ${key}: expected ${expected}, found ${JSON.stringify(found)}`);
  };
  const root = json as ModelConfig;
  if (typeof json !== "object" || json === null || root.format !== "anomalydiffusion-model") {
    throw new UserError(`${label}: not the configuration of a model folder (no "format": "anomalydiffusion-model")`);
  }
  if (root.version !== 1) refuse("version", "1", root.version);
  const walk = (value: unknown, rule: Rule, key: string): void => {
    if (typeof rule === "string") {
      const [expected, test] = kinds[rule];
      if (!test(value)) refuse(key, expected, value);
    } else {
      if (typeof value !== "object" || value === null) refuse(key, "an object", value);
      for (const [name, inner] of Object.entries(rule)) {
        walk((value as Record<string, unknown>)[name], inner, key ? `${key}.${name}` : name);
      }
    }
  };
  walk(root, rules, "");
  const { autoencoder, unet, text, resolution, spatialEncoder } = root;
  if (spatialEncoder !== undefined) {
    walk(spatialEncoder, spatialRule, "spatialEncoder");
    if (spatialEncoder.kind !== "light") refuse("spatialEncoder.kind", '"light"', spatialEncoder.kind);
    if (spatialEncoder.width !== text.width) {
      refuse("spatialEncoder.width", `text.width = ${text.width}`, spatialEncoder.width);
    }
  }
  if (unet.attentionLevels.length !== unet.channelMult.length) {
    refuse("unet.attentionLevels", `${unet.channelMult.length} entries, as in unet.channelMult`, unet.attentionLevels);
  }
  for (const mult of unet.channelMult) {
    const width = unet.modelChannels * mult;
    if (width % unet.numHeads !== 0 || width % unet.numGroups !== 0) {
      refuse("unet.channelMult", `widths divisible by numHeads and numGroups`, mult);
    }
  }
  if (unet.inChannels !== autoencoder.embedDim) {
    refuse("unet.inChannels", `autoencoder.embedDim = ${autoencoder.embedDim}`, unet.inChannels);
  }
  if (unet.contextDim !== text.width) refuse("unet.contextDim", `text.width = ${text.width}`, unet.contextDim);
  const factor = downsamplingFactor(autoencoder);
  if (resolution % factor !== 0) refuse("resolution", `a multiple of ${factor}`, resolution);
  return root;
}

/** Image pixels per latent pixel along one side. */
export function downsamplingFactor({ patchSize, channelMult }: AutoencoderConfig): number {
  return patchSize * 2 ** (channelMult.length - 1);
}
