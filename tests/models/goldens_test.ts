/**
 * Whole models against what the reference PyTorch code computed on formula weights: forwards to 1e-4, gradients to 1e-3,
 * five-step samples to 1e-3 (relative L2). Every file of the preset `small` is used, whatever its salt.
 */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { input, Variable } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import { insertionRows, insertLearned, textTower, TOKEN_TABLE } from "../../src/models/text_tower.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { assertClose } from "../support/close.ts";
import { type Golden, goldens } from "../support/goldens.ts";
import { autoencoderConfig, channelsFirst, channelsLast, textConfig } from "../support/ldm_config.ts";
import { gpu } from "../support/ops.ts";

/** Ids of "a photo of a *" in bert-base-uncased, padded to 77. */
const IDS = [101, 1037, 6302, 1997, 1037, 1008, 102, ...Array(70).fill(0)];

/** Registers one test per golden file of a part. */
function each(part: string, name: string, check: (golden: Golden) => Promise<void>): void {
  const files = goldens(part, "small");
  Deno.test(`there is a small-*-${part} file`, () => assert.ok(files.length > 0));
  for (const golden of files) {
    Deno.test({
      name: `${name}: ${golden.file}`,
      fn: () => check(golden),
      sanitizeResources: false,
      sanitizeOps: false,
    });
  }
}

each("vae", "autoencoder", async (golden) => {
  const config = autoencoderConfig(golden), side = config.side, latent = golden.tensor("moments").shape[2];
  using parameters = new Parameters(golden.weights, torchLayouts);
  using program = compile(gpu, {
    moments: encode(config, parameters, input("image", [1, side, side, 3])),
    decoded: decode(config, parameters, input("z", [1, latent, latent, config.embedDim])),
  });
  const image = golden.u("image", [1, 3, side, side]), z = golden.noise("z", [1, config.embedDim, latent, latent]);
  const result = await program.run({
    image: channelsLast(image, [1, 3, side, side]),
    z: channelsLast(z, [1, config.embedDim, latent, latent]),
  });
  for (const name of ["moments", "decoded"] as const) {
    const expected = golden.tensor(name);
    assertClose(channelsFirst(result[name], expected.shape), expected.data, 1e-4, name);
  }
});

each("text", "text tower", async (golden) => {
  const config = textConfig(golden), { width, maxLength } = config;
  const table = golden.weights.get(TOKEN_TABLE, [config.vocabSize, width]);
  const words = new Float32Array(maxLength * width);
  IDS.forEach((id, i) => words.set(table.subarray(id * width, (id + 1) * width), i * width));
  using parameters = new Parameters(golden.weights, torchLayouts);
  const sequence = input("words", [1, maxLength, width]);
  using learned = new Variable("learned", [1, 12, width], golden.noise("embedding", [1, 12, width], 0.05));
  using program = compile(gpu, {
    context: textTower(
      config,
      parameters,
      insertLearned(sequence, learned.tensor, input("rows", [1, maxLength], "u32")),
    ),
    context_plain: textTower(config, parameters, sequence),
  });
  const result = await program.run({ words, rows: insertionRows([5], maxLength, 12) });
  for (const name of ["context", "context_plain"] as const) {
    assertClose(result[name], golden.tensor(name).data, 1e-4, name);
  }
});
