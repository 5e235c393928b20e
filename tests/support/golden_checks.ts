/**
 * Checks of whole models against what the reference PyTorch code computed on formula weights: forwards to 1e-4, gradients to
 * 1e-3 and a cosine of 0.9999, five-step samples to 1e-3 (relative L2), with packed f16 weights to 5e-3. They take their
 * sizes from the golden file, so the small preset and the full model go the same way.
 */
import assert from "node:assert/strict";
import { disposeState, prepareEffects, samplerState, stepEffects } from "../../src/anomaly/sampler_graph.ts";
import { ddimSteps } from "../../src/diffusion/ddim.ts";
import { dilationRadius } from "../../src/diffusion/reweighting.ts";
import { createSchedule } from "../../src/diffusion/schedule.ts";
import { compile, type Feed } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { maskedMse } from "../../src/graph/ops/losses.ts";
import { broadcastTo } from "../../src/graph/ops/pointwise.ts";
import { dilate, reweightingMap } from "../../src/graph/ops/reweighting.ts";
import { concat, reshape } from "../../src/graph/ops/shape.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { input, Variable } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import { insertionRows, insertLearned, learnedColumns, textTower, TOKEN_TABLE } from "../../src/models/text_tower.ts";
import { timestepEmbedding, unet } from "../../src/models/unet.ts";
import { Parameters } from "../../src/nn/parameters.ts";
import type { ModelConfig, TextConfig } from "../../src/weights/config.ts";
import { largeModelConfig } from "../../src/weights/large.ts";
import { torchLayouts } from "../../src/weights/rules.ts";
import { assertClose, cosine, relativeL2 } from "./close.ts";
import type { Golden } from "./goldens.ts";
import { autoencoderConfig, channelsFirst, channelsLast, textConfig, unetConfig } from "./ldm_config.ts";
import { gpu } from "./ops.ts";

/** How the frozen weights are stored, and how close the results must be. */
export class Precision {
  /** @param report told every relative L2 difference */
  constructor(
    readonly dtype: "f32" | "f16",
    readonly tolerances: Readonly<Record<"forward" | "gradient" | "sample", number>>,
    readonly report?: (name: string, distance: number) => void,
  ) {}

  /** Fails unless the relative L2 difference is within the tolerance. */
  close(kind: "forward" | "gradient" | "sample", actual: Float32Array, expected: Float32Array, name: string): void {
    this.report?.(name, relativeL2(actual, expected));
    assertClose(actual, expected, this.tolerances[kind], name);
    if (kind === "gradient") {
      assert.ok(cosine(actual, expected) >= 0.9999, `${name}: cosine ${cosine(actual, expected)}`);
    }
  }
}

/** f32 weights: what rounding in another order leaves. */
export const SINGLE = { forward: 1e-4, gradient: 1e-3, sample: 1e-3 };

/** Weights rounded to 11 bits, computed with in f32. */
export const HALF = { forward: 5e-3, gradient: 5e-3, sample: 5e-3 };

/** Such weights, and activations rounded as they are, for products in f16. */
export const HALF_ARITHMETIC = { forward: 5e-3, gradient: 1e-2, sample: 5e-3 };

/** A check with f32 weights unless it is told otherwise. */
const at =
  (check: (golden: Golden, precision: Precision) => Promise<void>) =>
  (golden: Golden, precision = new Precision("f32", SINGLE)) => check(golden, precision);

/** Ids of "a photo of a *" in bert-base-uncased, padded to 77. */
const IDS = [101, 1037, 6302, 1997, 1037, 1008, 102, ...Array(70).fill(0)];

async function checkAutoencoder(golden: Golden, precision: Precision): Promise<void> {
  const config = autoencoderConfig(golden), side = config.side, latent = golden.tensor("moments").shape[2];
  using parameters = new Parameters(golden.weights, torchLayouts, precision.dtype);
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
    precision.close("forward", channelsFirst(result[name], expected.shape), expected.data, name);
  }
}

async function checkTextTower(golden: Golden, precision: Precision): Promise<void> {
  const config = textConfig(golden), { width, maxLength } = config;
  const words = wordsOf(golden, config, 1), column = columnOf(golden);
  const count = Number(/\[1,(\d+),/.exec(golden.metadata.embedding)![1]);
  assert.deepEqual([...golden.tensor("ids").data], IDS);
  using parameters = new Parameters(golden.weights, torchLayouts, precision.dtype);
  const sequence = input("words", [1, maxLength, width]);
  using learned = new Variable("learned", [1, count, width], golden.noise("embedding", [1, count, width], 0.05));
  using program = compile(gpu, {
    context: textTower(
      config,
      parameters,
      insertLearned(sequence, learned.tensor, input("rows", [1, maxLength], "u32")),
    ),
    context_plain: textTower(config, parameters, sequence),
  });
  const result = await program.run({ words, rows: insertionRows([column], maxLength, count) });
  for (const name of ["context", "context_plain"] as const) {
    precision.close("forward", result[name], golden.tensor(name).data, name);
  }
}

/** 1 where a golden's latent mask [B, 1, h, w] is. */
const latentMaskOf = (golden: Golden) => golden.tensor("latent_mask");

async function checkUnet(golden: Golden, precision: Precision): Promise<void> {
  const { side, ...config } = unetConfig(golden);
  const timesteps = Array.from(golden.tensor("timesteps").data), batch = timesteps.length;
  const shape = [batch, config.inChannels, side, side], length = 77, hw = [batch, side, side];
  const [from, to] = golden.metadata.position.split(",").map(Number), t = Number(golden.metadata.weight_map_t);
  using parameters = new Parameters(golden.weights, torchLayouts, precision.dtype);
  const latent = (name: string) => input(name, [...hw, config.inChannels]);
  const x = latent("x"), context = input("context", [batch, length, config.contextDim]);
  const time = input("time", [batch, config.modelChannels]);
  const mask = dilate(input("mask", [...hw, 1]), input("halfWidth", [1], "u32"));
  const map = reweightingMap(x, latent("z0"), mask, { form: "official" });
  const reweighting = { map, columns: input("columns", [batch, length]), mode: "logits" as const };
  using program = compile(gpu, {
    eps: unet(config, parameters, x, time, context),
    dilated_mask: mask,
    weight_map: map,
    eps_reweighted: unet(config, parameters, x, time, context, reweighting),
  });
  const result = await program.run({
    x: channelsLast(golden.noise("x", shape), shape),
    z0: channelsLast(golden.noise("x0", shape, 0.8), shape),
    context: golden.noise("context", [batch, length, config.contextDim]),
    time: timestepEmbedding(timesteps, config.modelChannels),
    mask: latentMaskOf(golden).data,
    halfWidth: Uint32Array.of(dilationRadius(t, Number(golden.metadata.ddim_steps))),
    columns: learnedColumns(Array(batch).fill(from), length, to - from, true),
  });
  for (const name of ["eps", "dilated_mask", "weight_map", "eps_reweighted"] as const) {
    const expected = golden.tensor(name);
    const actual = expected.shape.length === 4 ? channelsFirst(result[name], expected.shape) : result[name];
    precision.close("forward", actual, expected.data, name);
  }
}

/** Word embeddings of the prompt, `batch` times: [batch, maxLength, width]. */
function wordsOf(golden: Golden, { vocabSize, width, maxLength }: TextConfig, batch: number): Float32Array {
  const table = golden.weights.get(TOKEN_TABLE, [vocabSize, width]);
  const words = new Float32Array(batch * maxLength * width);
  for (let i = 0; i < batch * maxLength; i++) {
    const id = IDS[i % maxLength];
    words.set(table.subarray(id * width, (id + 1) * width), i * width);
  }
  return words;
}

/** Where the learned vectors stand. */
const columnOf = (golden: Golden) => Number(golden.metadata.column);

/** Context of one or more sequences with learned vectors at the golden's column. */
function contextOf(golden: Golden, parameters: Parameters, learned: Tensor): { context: Tensor; feed: Feed } {
  const config = textConfig(golden), { width, maxLength } = config, [batch, count] = learned.shape;
  const words = wordsOf(golden, config, batch);
  const sequence = insertLearned(
    input("words", [batch, maxLength, width]),
    learned,
    input("rows", [batch, maxLength], "u32"),
  );
  return {
    context: textTower(config, parameters, sequence),
    feed: { words, rows: insertionRows(Array(batch).fill(columnOf(golden)), maxLength, count) },
  };
}

async function checkTraining(golden: Golden, precision: Precision): Promise<void> {
  const { side, ...config } = unetConfig(golden);
  const timesteps = Array.from(golden.tensor("timesteps").data), batch = timesteps.length, width = config.contextDim;
  const shape = [batch, config.inChannels, side, side], hwc = [batch, side, side, config.inChannels];
  const { alphasCumprod } = createSchedule();
  const z0 = golden.noise("z0", shape, 0.9), eps = golden.noise("eps", shape), each = z0.length / batch;
  const x = z0.map((z, i) => {
    const a = alphasCumprod[timesteps[Math.floor(i / each)]];
    return Math.sqrt(a) * z + Math.sqrt(1 - a) * eps[i];
  });
  using parameters = new Parameters(golden.weights, torchLayouts, precision.dtype);
  const [own] = golden.tensor("grad_e_a").shape, place = golden.tensor("grad_e_s").shape;
  using ea = new Variable("e_a", [own, width], golden.noise("e_a", [own, width], 0.05));
  using es = new Variable("e_s", place, golden.noise("e_s", place, 0.05));
  const shared = broadcastTo(reshape(ea.tensor, [1, own, width]), [batch, own, width]);
  const { context, feed } = contextOf(golden, parameters, concat([shared, es.tensor], 1));
  const predicted = unet(config, parameters, input("x", hwc), input("time", [batch, config.modelChannels]), context);
  const loss = maskedMse(predicted, input("eps", hwc), input("mask", [batch, side, side, 1]));
  const [grad_e_a, grad_e_s] = gradient(loss, [ea.tensor, es.tensor]);
  using program = compile(gpu, { loss, grad_e_a, grad_e_s });
  const result = await program.run({
    ...feed,
    x: channelsLast(x, shape),
    eps: channelsLast(eps, shape),
    time: timestepEmbedding(timesteps, config.modelChannels),
    mask: latentMaskOf(golden).data,
  });
  precision.close("forward", result.loss, golden.tensor("loss").data, "loss");
  for (const name of ["grad_e_a", "grad_e_s"] as const) {
    precision.close("gradient", result[name], golden.tensor(name).data, name);
  }
}

async function checkSampling(golden: Golden, precision: Precision): Promise<void> {
  const network = unetConfig(golden), { side } = network, steps = Number(golden.metadata.ddim_steps);
  const autoencoder = autoencoderConfig(golden), text = textConfig(golden), { width, maxLength } = text;
  const config: ModelConfig = {
    ...largeModelConfig(),
    ...{ resolution: autoencoder.side, autoencoder, unet: network, text },
  };
  const shape = [1, network.inChannels, side, side], [from, to] = golden.metadata.position.split(",").map(Number);
  const noise = (name: string, scale?: number) => channelsLast(golden.noise(name, shape, scale), shape);
  using parameters = new Parameters(golden.weights, torchLayouts, precision.dtype);
  for (const form of ["off", "official"] as const) {
    // The graphs that `generate` runs: keys and values of the text once, then the steps.
    const sizes = { batch: 1, guidance: 1, reweighting: form, tokens: to - from } as const;
    const state = samplerState(config, sizes);
    try {
      using prepare = compile(gpu, {}, prepareEffects(config, parameters, undefined, state, sizes));
      using step = compile(gpu, {}, stepEffects(config, parameters, state, sizes));
      prepare.step({
        tokens: golden.noise("embedding", [1, to - from, width], 0.05),
        words: wordsOf(golden, text, 1),
        rows: insertionRows([from], maxLength, to - from),
      });
      state.x.write(noise("x_T"));
      state.z0.write(noise("x0", 0.8));
      state.mask.write(latentMaskOf(golden).data);
      state.columns.write(learnedColumns([from], maxLength, to - from, true));
      for (
        const { index, t, aBar, sigma, xCoef, epsCoef } of ddimSteps(
          createSchedule(),
          steps,
          Number(golden.metadata.eta),
        )
      ) {
        step.step({
          backgroundNoise: noise(`q_noise${index}`),
          stepNoise: noise(`ddim_noise${index}`),
          coefficients: Float32Array.of(
            ...[Math.sqrt(aBar), Math.sqrt(1 - aBar), xCoef, epsCoef, sigma, 1, 1 / Math.sqrt(aBar)],
          ),
          time: timestepEmbedding([t], network.modelChannels),
          halfWidth: Uint32Array.of(dilationRadius(t, steps)),
        });
      }
      const name = form === "off" ? "final_blend" : "final_blend_aar", expected = golden.tensor(name);
      precision.close("sample", channelsFirst(await state.x.read(), expected.shape), expected.data, name);
    } finally {
      disposeState(state);
    }
  }
}

/** What can be checked: the part of a golden file's name, in words, and the check itself. */
export const goldenChecks: readonly {
  readonly part: string;
  readonly name: string;
  check(golden: Golden, precision?: Precision): Promise<void>;
}[] = [
  { part: "vae", name: "autoencoder", check: at(checkAutoencoder) },
  { part: "text", name: "text tower", check: at(checkTextTower) },
  { part: "unet", name: "U-Net", check: at(checkUnet) },
  { part: "train", name: "masked loss and its gradients", check: at(checkTraining) },
  { part: "sample", name: "five blended steps", check: at(checkSampling) },
];
