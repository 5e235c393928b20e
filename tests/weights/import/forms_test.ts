/** Names and shapes of the full-size model, and what is said about a checkpoint that does not fit. */
import assert from "node:assert/strict";
import { describeMatch, matchTensors, requireMatch } from "../../../src/weights/convert.ts";
import type { Weights } from "../../../src/weights/import/checkpoint.ts";
import { diffusersPlace } from "../../../src/weights/import/diffusers.ts";
import { expectedTensors } from "../../../src/weights/import/expected.ts";
import { largeModelConfig } from "../../../src/weights/large.ts";

const expected = expectedTensors(largeModelConfig());
const UNET = "model.diffusion_model", VAE = "first_stage_model", TEXT = "cond_stage_model.transformer";

/** Weights with these shapes and no values. */
function shapesOnly(shapes: ReadonlyMap<string, readonly number[]>): Weights {
  return {
    label: "m.ckpt",
    files: [],
    names: () => [...shapes.keys()],
    has: (name) => shapes.has(name),
    info: (name) => ({ shape: shapes.get(name)!, dtype: "float32" }),
    float32: () => assert.fail("values are not read to compare shapes"),
    [Symbol.dispose]: () => {},
  };
}

Deno.test("LDM text2img-large: tensors and parameters of each network as the reference code has them", () => {
  const totals = [UNET, VAE, TEXT].map((prefix) => {
    const part = [...expected].filter(([name]) => name.startsWith(`${prefix}.`));
    return [part.length, part.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0)];
  });
  assert.deepEqual(totals, [[686, 872_300_484], [248, 83_653_863], [420, 542_895_360]]);
});

Deno.test("diffusers' names: one for each tensor, no two alike, and the known ones", () => {
  const places = [...expected.keys()].map((name) => diffusersPlace(largeModelConfig(), name));
  const all = new Set(places.map(({ component, names }) => `${component}/${names[0]}`));
  assert.equal(all.size, expected.size);
  const known: Record<string, string[]> = {
    [`${UNET}.time_embed.2.weight`]: ["time_embedding.linear_2.weight"],
    [`${UNET}.input_blocks.0.0.bias`]: ["conv_in.bias"],
    [`${UNET}.input_blocks.4.0.skip_connection.weight`]: ["down_blocks.1.resnets.0.conv_shortcut.weight"],
    [`${UNET}.input_blocks.5.0.emb_layers.1.bias`]: ["down_blocks.1.resnets.1.time_emb_proj.bias"],
    [`${UNET}.input_blocks.6.0.op.weight`]: ["down_blocks.1.downsamplers.0.conv.weight"],
    [`${UNET}.input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight`]: [
      "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k.weight",
    ],
    [`${UNET}.middle_block.2.out_layers.3.weight`]: ["mid_block.resnets.1.conv2.weight"],
    [`${UNET}.middle_block.1.proj_in.weight`]: ["mid_block.attentions.0.proj_in.weight"],
    [`${UNET}.output_blocks.2.1.conv.weight`]: ["up_blocks.0.upsamplers.0.conv.weight"],
    [`${UNET}.output_blocks.11.0.in_layers.0.weight`]: ["up_blocks.3.resnets.2.norm1.weight"],
    [`${UNET}.out.2.bias`]: ["conv_out.bias"],
    [`${VAE}.encoder.down.1.block.0.nin_shortcut.weight`]: ["encoder.down_blocks.1.resnets.0.conv_shortcut.weight"],
    [`${VAE}.decoder.up.3.upsample.conv.bias`]: ["decoder.up_blocks.0.upsamplers.0.conv.bias"],
    [`${VAE}.decoder.mid.attn_1.proj_out.weight`]: [
      "decoder.mid_block.attentions.0.proj_attn.weight",
      "decoder.mid_block.attentions.0.to_out.0.weight",
    ],
    [`${VAE}.encoder.mid.block_2.norm1.bias`]: ["encoder.mid_block.resnets.1.norm1.bias"],
    [`${VAE}.quant_conv.weight`]: ["quant_conv.weight"],
    [`${TEXT}.attn_layers.layers.63.1.net.2.weight`]: ["model.layers.31.fc2.weight", "layers.31.fc2.weight"],
    [`${TEXT}.attn_layers.layers.2.1.to_q.weight`]: [
      "model.layers.1.self_attn.q_proj.weight",
      "layers.1.self_attn.q_proj.weight",
    ],
    [`${TEXT}.norm.weight`]: ["model.layer_norm.weight", "layer_norm.weight"],
    [`${TEXT}.pos_emb.emb.weight`]: ["model.embed_positions.weight", "embed_positions.weight"],
  };
  for (const [name, names] of Object.entries(known)) {
    assert.deepEqual(diffusersPlace(largeModelConfig(), name).names, names);
  }
});

Deno.test("a checkpoint's other tensors are known, and what it lacks is counted and named", () => {
  const besides = [
    ...["betas", "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"],
    ...["posterior_mean_coef1", `${TEXT}.to_logits.weight`, `${VAE}.loss.logvar`, "model_ema.decay"],
  ];
  const shapes = new Map<string, readonly number[]>([...expected, ...besides.map((name) => [name, [1000]] as const)]);
  shapes.set("extra.weight", [2]);
  const whole = matchTensors(shapesOnly(shapes), expected);
  requireMatch("m.ckpt", whole);
  assert.deepEqual([whole.found.size, whole.ignored, whole.unexpected], [expected.size, besides, ["extra.weight"]]);

  const out = `${UNET}.out.2.weight`;
  shapes.set(out, [320, 4, 3, 3]);
  shapes.delete(`${TEXT}.norm.bias`);
  const broken = matchTensors(shapesOnly(shapes), expected);
  assert.deepEqual(describeMatch(broken), [
    `missing: ${TEXT}.norm.bias`,
    `other shape: ${out} is [320, 4, 3, 3], expected [4, 320, 3, 3]`,
    "unexpected: extra.weight",
  ]);
  assert.throws(
    () => requireMatch("m.ckpt", broken),
    /^UserError: m\.ckpt: of 1354 tensors 1 missing, 1 of another shape: missing: /,
  );
});

Deno.test("moving averages are found under their names without dots", () => {
  const names = [...expected].map(([name, shape]) =>
    [name.startsWith(UNET) ? `model_ema.${name.slice(6).replaceAll(".", "")}` : name, shape] as const
  );
  const match = matchTensors(shapesOnly(new Map([...expected, ...names])), expected, true);
  assert.equal(match.found.get(`${UNET}.out.0.bias`), "model_ema.diffusion_modelout0bias");
  assert.deepEqual([match.missing.length, match.unexpected.length], [0, 0]);
});
