/**
 * A folder as Hugging Face's diffusers lays out latent diffusion (`CompVis/ldm-text2im-large-256`): `unet/`, `vqvae/` or
 * `vae/`, `bert/`, `tokenizer/`, `scheduler/`. Its names and settings are translated to latent diffusion's own (the reverse
 * of diffusers' `convert_original_stable_diffusion` scripts).
 */

import { join } from "node:path";
import { UserError } from "../../errors.ts";
import { AUTOENCODER_PREFIX } from "../../models/autoencoder.ts";
import { TEXT_PREFIX } from "../../models/text_tower.ts";
import { UNET_PREFIX } from "../../models/unet.ts";
import { checkModelConfig, type ModelConfig } from "../config.ts";
import { openWeights, type Weights } from "./checkpoint.ts";
import { largeModelConfig } from "../large.ts";

/** The folder's parts that hold weights. */
export type Component = "unet" | "vae" | "text";

/** Where diffusers keeps a tensor: its component, and its names in older and newer versions. */
export interface Place {
  readonly component: Component;
  readonly names: readonly string[];
}

const RESNET: Record<string, string> = {
  "in_layers.0": "norm1",
  "in_layers.2": "conv1",
  "emb_layers.1": "time_emb_proj",
  "out_layers.0": "norm2",
  "out_layers.3": "conv2",
  skip_connection: "conv_shortcut",
};

function unetName(name: string, blocks: number): string {
  const [, start, rest] = /^(time_embed\.\d|(?:input|output)_blocks\.\d+|middle_block|out)\.(.*)$/.exec(name) ?? [];
  const inside = (path: string, part: string) => {
    for (const [ldm, here] of Object.entries(RESNET)) {
      if (part.startsWith(`${ldm}.`)) part = here + part.slice(ldm.length);
    }
    return `${path}.${part}`;
  };
  const [kind, index] = [start?.replace(/\.\d+$/, ""), Number(/\d+$/.exec(start ?? "")?.[0])];
  if (kind === "time_embed") return `time_embedding.linear_${index ? 2 : 1}.${rest}`;
  if (kind === "out") return rest.startsWith("0.") ? `conv_norm_out.${rest.slice(2)}` : `conv_out.${rest.slice(2)}`;
  const [, sub, part] = /^(\d)\.(.*)$/.exec(rest)!;
  if (kind === "middle_block") {
    return inside(`mid_block.${sub === "1" ? "attentions.0" : `resnets.${Number(sub) / 2}`}`, part);
  }
  if (kind === "input_blocks" && index === 0) return `conv_in.${part}`;
  const down = kind === "input_blocks", at = down ? index - 1 : index;
  const block = `${down ? "down" : "up"}_blocks.${Math.floor(at / (blocks + 1))}`, layer = at % (blocks + 1);
  if (part.startsWith("op.")) return `${block}.downsamplers.0.conv.${part.slice(3)}`;
  if (part.startsWith("conv.")) return `${block}.upsamplers.0.${part}`;
  return sub === "0" ? inside(`${block}.resnets.${layer}`, part) : `${block}.attentions.${layer}.${part}`;
}

/** Old and new names of the middle attention's layers. */
const ATTENTION: Record<string, readonly string[]> = {
  norm: ["group_norm"],
  q: ["query", "to_q"],
  k: ["key", "to_k"],
  v: ["value", "to_v"],
  proj_out: ["proj_attn", "to_out.0"],
};

function vaeNames(name: string, levels: number): string[] {
  const attention = /^(encoder|decoder)\.mid\.attn_1\.(\w+)\.(.*)$/.exec(name);
  if (attention) {
    const [, side, layer, end] = attention;
    return ATTENTION[layer].map((here) => `${side}.mid_block.attentions.0.${here}.${end}`);
  }
  return [
    name
      .replace(/\.down\.(\d+)\.block\.(\d+)\./, ".down_blocks.$1.resnets.$2.")
      .replace(/\.down\.(\d+)\.downsample\./, ".down_blocks.$1.downsamplers.0.")
      .replace(/\.up\.(\d+)\.block\.(\d+)\./, (_, i, j) => `.up_blocks.${levels - 1 - i}.resnets.${j}.`)
      .replace(/\.up\.(\d+)\.upsample\./, (_, i) => `.up_blocks.${levels - 1 - i}.upsamplers.0.`)
      .replace(/\.mid\.block_(\d)\./, (_, i) => `.mid_block.resnets.${i - 1}.`)
      .replace(/\.nin_shortcut\./, ".conv_shortcut.")
      .replace(/\.norm_out\./, ".conv_norm_out."),
  ];
}

function textName(name: string): string {
  const layer = /^attn_layers\.layers\.(\d+)\.(.*)$/.exec(name);
  if (!layer) {
    return name.replace(/^token_emb\./, "embed_tokens.").replace(/^pos_emb\.emb\./, "embed_positions.")
      .replace(/^norm\./, "layer_norm.");
  }
  const index = Number(layer[1]), attention = index % 2 === 0;
  const part = layer[2]
    .replace(/^0\./, attention ? "self_attn_layer_norm." : "final_layer_norm.")
    .replace(/^1\.to_out\./, "self_attn.out_proj.").replace(/^1\.to_([qkv])\./, "self_attn.$1_proj.")
    .replace(/^1\.net\.0\.0\./, "fc1.").replace(/^1\.net\.2\./, "fc2.");
  return `layers.${Math.floor(index / 2)}.${part}`;
}

/**
 * Where diffusers keeps one of latent diffusion's tensors.
 * @example
 * ```ts
 * import { diffusersPlace } from "./diffusers.ts";
 * import { largeModelConfig } from "../large.ts";
 * const { names } = diffusersPlace(largeModelConfig(), "model.diffusion_model.output_blocks.8.2.conv.bias");
 * if (names[0] !== "up_blocks.2.upsamplers.0.conv.bias") throw new Error(names[0]);
 * ```
 */
export function diffusersPlace({ unet, autoencoder }: ModelConfig, name: string): Place {
  if (name.startsWith(`${UNET_PREFIX}.`)) {
    return { component: "unet", names: [unetName(name.slice(UNET_PREFIX.length + 1), unet.numResBlocks)] };
  }
  if (name.startsWith(`${AUTOENCODER_PREFIX}.`)) {
    const names = vaeNames(name.slice(AUTOENCODER_PREFIX.length + 1), autoencoder.channelMult.length);
    return { component: "vae", names };
  }
  const inner = textName(name.slice(TEXT_PREFIX.length + 1));
  return { component: "text", names: [`model.${inner}`, inner] };
}

const FOLDERS: Record<Component, readonly string[]> = {
  unet: ["unet"],
  vae: ["vqvae", "vae"],
  text: ["bert", "text_encoder"],
};

function exists(path: string): boolean {
  try {
    return Boolean(Deno.statSync(path));
  } catch {
    return false;
  }
}

/** Whether a folder is laid out as diffusers does. */
export function isDiffusersFolder(path: string): boolean {
  return exists(join(path, "unet")) && FOLDERS.vae.some((name) => exists(join(path, name)));
}

function componentFolder(path: string, component: Component): string {
  const found = FOLDERS[component].find((name) => exists(join(path, name)));
  if (!found) {
    throw new UserError(`${path}: no folder ${FOLDERS[component].join(" or ")}`, "download the whole folder again");
  }
  return join(path, found);
}

/** The weights of a component: parts by their index first, safetensors before pickles, whole names before variants. */
function openComponent(folder: string): Weights {
  const names = [...Deno.readDirSync(folder)].map((entry) => entry.name).sort((a, b) =>
    a.split(".").length - b.split(".").length || (a < b ? -1 : 1)
  );
  for (const end of [/\.safetensors\.index\.json$/, /\.safetensors$/, /\.bin\.index\.json$/, /\.(bin|pt|ckpt)$/]) {
    const found = names.find((name) => end.test(name));
    if (found) return openWeights(join(folder, found));
  }
  throw new UserError(`${folder}: no *.safetensors and no *.bin file`, "download the whole folder again");
}

type Json = Record<string, unknown>;

function readJson(path: string): Json {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
  try {
    const json = JSON.parse(text);
    if (typeof json === "object" && json !== null) return json;
  } catch { /* said below */ }
  throw new UserError(`${path}: not a JSON object`, "download the folder again");
}

/** The folder's settings as a configuration; what they leave out is as in LDM text2img-large. */
export function diffusersConfig(path: string): ModelConfig {
  const read = (folder: string, file = "config.json") => [readJson(join(folder, file)), join(folder, file)] as const;
  const [u, unetFile] = read(componentFolder(path, "unet")), [v, vaeFile] = read(componentFolder(path, "vae"));
  const [t] = read(componentFolder(path, "text")),
    [s, schedule] = read(join(path, "scheduler"), "scheduler_config.json");
  const widths = (json: Json, label: string, otherwise: number[]): number[] => {
    const list = json.block_out_channels ?? otherwise;
    if (Array.isArray(list) && list.length && list.every((n) => Number.isInteger(n) && n > 0)) return list;
    throw new UserError(`${label}: block_out_channels is no list of widths`);
  };
  const levels = widths(
    u,
    unetFile,
    largeModelConfig().unet.channelMult.map((mult) => mult * largeModelConfig().unet.modelChannels),
  );
  const vaeLevels = widths(
    v,
    vaeFile,
    largeModelConfig().autoencoder.channelMult.map((mult) => mult * largeModelConfig().autoencoder.channels),
  );
  const blocks = u.down_block_types ?? ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "Down"];
  if (!Array.isArray(blocks)) throw new UserError(`${unetFile}: down_block_types is no list`);
  if (typeof (u.attention_head_dim ?? 8) !== "number") {
    throw new UserError(`${unetFile}: attention_head_dim differs by level, which this program's U-Net has not`);
  }
  if ((s.beta_schedule ?? "scaled_linear") !== "scaled_linear") {
    throw new UserError(`${schedule}: beta_schedule ${s.beta_schedule}; only scaled_linear is known`);
  }
  const factor = 2 ** (vaeLevels.length - 1), latent = u.sample_size ?? largeModelConfig().resolution / factor;
  const config = {
    ...largeModelConfig(),
    name: String(u._name_or_path ?? "").split("/").at(-1) || largeModelConfig().name,
    resolution: Number(latent) * factor,
    scaleFactor: v.scaling_factor ?? largeModelConfig().scaleFactor,
    autoencoder: {
      ...largeModelConfig().autoencoder,
      inChannels: v.in_channels ?? 3,
      outChannels: v.out_channels ?? 3,
      channels: vaeLevels[0],
      channelMult: vaeLevels.map((width) => width / vaeLevels[0]),
      numResBlocks: v.layers_per_block ?? 2,
      zChannels: v.latent_channels ?? 4,
      embedDim: v.latent_channels ?? 4,
      midAttention: v.mid_block_add_attention ?? true,
      numGroups: v.norm_num_groups ?? 32,
    },
    unet: {
      inChannels: u.in_channels ?? 4,
      outChannels: u.out_channels ?? 4,
      modelChannels: levels[0],
      channelMult: levels.map((width) => width / levels[0]),
      numResBlocks: u.layers_per_block ?? 2,
      attentionLevels: blocks.map((block) => String(block).includes("CrossAttn")),
      numHeads: u.num_attention_heads ?? u.attention_head_dim ?? 8,
      contextDim: u.cross_attention_dim ?? 1280,
      numGroups: u.norm_num_groups ?? 32,
    },
    text: {
      vocabSize: t.vocab_size ?? 30522,
      width: t.d_model ?? 1280,
      depth: t.encoder_layers ?? 32,
      heads: t.encoder_attention_heads ?? 8,
      headDim: t.head_dim ?? 64,
      maxLength: t.max_position_embeddings ?? 77,
    },
    schedule: {
      timesteps: s.num_train_timesteps ?? 1000,
      betaStart: s.beta_start ?? 0.00085,
      betaEnd: s.beta_end ?? 0.012,
    },
  };
  return checkModelConfig(config, path);
}

/** A diffusers folder under latent diffusion's names. Only tensors that `config` has by another name are renamed. */
export function openDiffusers(path: string, config: ModelConfig, expected: Iterable<string>): Weights {
  const parts: Partial<Record<Component, Weights>> = {};
  const close = () => Object.values(parts).forEach((part) => part[Symbol.dispose]());
  try {
    for (const component of ["unet", "vae", "text"] as const) {
      parts[component] = openComponent(componentFolder(path, component));
    }
    const where = new Map<string, readonly [Weights, string]>(), used = new Set<string>();
    for (const name of expected) {
      const { component, names } = diffusersPlace(config, name), part = parts[component]!;
      const found = names.find((here) => part.has(here));
      if (found === undefined) continue;
      where.set(name, [part, found]);
      used.add(`${component}/${found}`);
    }
    for (const [component, part] of Object.entries(parts)) {
      for (const name of part.names()) {
        if (!used.has(`${component}/${name}`)) where.set(`${component}/${name}`, [part, name]);
      }
    }
    const at = (name: string) => where.get(name)!;
    return {
      label: path,
      files: Object.values(parts).flatMap((part) => part.files),
      names: () => [...where.keys()],
      has: (name) => where.has(name),
      info: (name) => at(name)[0].info(at(name)[1]),
      float32: (name) => at(name)[0].float32(at(name)[1]),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
