/** `pretrain` as a program: both stages, killed and resumed to the same bytes, its model folder as a start. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { input } from "../../src/graph/variable.ts";
import { decode, encode } from "../../src/models/autoencoder.ts";
import { exportModel } from "../../src/pretraining/export.ts";
import { folderImages, mixedImages, proceduralImages } from "../../src/pretraining/images.ts";
import { newParameters } from "../../src/pretraining/init.ts";
import { captionedUnet } from "../../src/pretraining/unet.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { PERMISSIONS } from "../../tasks/compile.ts";
import { writeTinyData } from "../support/tiny_data.ts";
import { tinyConfig, VOCAB } from "./tiny.ts";

const MAIN = fileURLToPath(new URL("../../tasks/main.ts", import.meta.url));
const SETTINGS = [
  ..."--procedural-images 10 --autoencoder-steps 4 --autoencoder-batch-size 1 --max-train-steps 6 --train-batch-size 2"
    .split(" "),
  ..."--checkpointing-steps 2 --validation-steps 6".split(" "),
];

function program(args: string[], command = "pretrain"): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, "--no-check", MAIN, command, ...args],
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "" },
  });
}

async function run(args: string[], command = "pretrain"): Promise<string> {
  const { code, stdout, stderr } = await program(args, command).output(), error = new TextDecoder().decode(stderr);
  assert.equal(code, 0, error);
  return new TextDecoder().decode(stdout) + error;
}

/** A model folder with random weights, to start from: its sizes make a run short. */
async function tinyModel(folder: string): Promise<void> {
  const config = tinyConfig(), { autoencoder } = config;
  using p = newParameters(1);
  encode(autoencoder, p, input("image", [1, 32, 32, 3]));
  decode(autoencoder, p, input("latent", [1, 8, 8, 4]));
  captionedUnet(config, p, input("x", [1, 8, 8, 4]), input("time", [1, 32]), input("ids", [1, 8], "u32"));
  exportModel(folder, { config, vocab: VOCAB, parameters: [await p.store()], curves: [] });
}

/** Waits for the first checkpoint at or after a step, then kills. */
async function killAfter(args: string[], out: string, step: number): Promise<void> {
  const child = program(args).spawn();
  const reading = Promise.all([child.stdout.cancel(), child.stderr.cancel()]);
  const there = () => {
    try {
      return [...Deno.readDirSync(`${out}/checkpoints`)].some(({ name }) =>
        parseInt(name) >= step && name.endsWith("ckpt")
      );
    } catch {
      return false;
    }
  };
  while (!there()) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill("SIGKILL");
  await Promise.all([child.status, reading]);
}

Deno.test({
  name: "pretrain: killed in either stage and resumed, it makes the same model; that model is a start for the next",
  fn: async () => {
    const root = await Deno.makeTempDir({ prefix: "pretrain-" });
    try {
      await tinyModel(`${root}/start`);
      const args = [...SETTINGS, "--model", `${root}/start`];
      const told = await run([...args, "--out", `${root}/whole`]);
      assert.match(told, /autoencoder: 0\.\d+ M parameters, .*GFLOP a step; \d+ MiB for activations/);
      await killAfter([...args, "--out", `${root}/killed`], `${root}/killed`, 2);
      await killAfter(["--out", `${root}/killed`, "--resume"], `${root}/killed`, 6);
      await run(["--out", `${root}/killed`, "--resume"]);
      for (const name of ["model.safetensors", "config.json", "vocab.txt"]) {
        assert.deepEqual(
          await Deno.readFile(`${root}/killed/model/${name}`),
          await Deno.readFile(`${root}/whole/model/${name}`),
        );
      }
      const { training } = JSON.parse(await Deno.readTextFile(`${root}/whole/model/config.json`));
      assert.deepEqual(Object.keys(training), "from images seed autoencoderSteps unetSteps unetBatch".split(" "));
      const losses = async (run: string) =>
        (await Deno.readTextFile(`${root}/${run}/loss.jsonl`)).trim().split("\n").map((line) => JSON.parse(line).loss);
      assert.equal((await losses("whole")).length, 2);
      assert.deepEqual(await losses("killed"), await losses("whole"));
      for (const sheet of ["autoencoder-000004.png", "unet-000006.png"]) {
        assert.ok((await Deno.stat(`${root}/whole/validation/${sheet}`)).size > 100);
      }
      // The U-Net alone leaves the autoencoder as it is.
      await run([...args, "--model", `${root}/whole/model`, "--stage", "unet", "--out", `${root}/next`]);
      using first = openModelFolder(`${root}/whole/model`);
      using second = openModelFolder(`${root}/next/model`);
      const same = (name: string) => assert.deepEqual(second.tensor(name), first.tensor(name), name);
      const changed = (name: string) => assert.notDeepEqual(second.tensor(name).data, first.tensor(name).data, name);
      same("first_stage_model.decoder.conv_in.weight");
      changed("model.diffusion_model.input_blocks.0.0.weight");
      changed("cond_stage_model.transformer.token_emb.weight");
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
  sanitizeResources: false,
  sanitizeOps: false,
});

Deno.test({
  name: "pretrain with terms for damage: killed and resumed, it makes the same model, whose record names them",
  fn: async () => {
    const root = await Deno.makeTempDir({ prefix: "pretrain-" });
    try {
      await tinyModel(`${root}/start`);
      const ofUnet = "--emphasis 5 --mean 20 --mean-damage 5 --timestep-sampling balanced";
      const ofBoth =
        `${ofUnet} --latent-noise 0.5 --damage-crops 0.5 --damage-weight 3 --procedural-form whole,windows`;
      const args = [...SETTINGS, ...ofBoth.split(" "), "--model", `${root}/start`];
      await run([...args, "--out", `${root}/whole`]);
      await killAfter([...args, "--out", `${root}/killed`], `${root}/killed`, 2);
      await killAfter(["--out", `${root}/killed`, "--resume"], `${root}/killed`, 6);
      await run(["--out", `${root}/killed`, "--resume"]);
      for (const name of ["model/model.safetensors", "latents-4.f16", "latents-4.damage.jsonl"]) {
        const [killed, whole] = await Promise.all(
          ["killed", "whole"].map((run) => Deno.readFile(`${root}/${run}/${name}`)),
        );
        assert.ok(killed.length === whole.length && killed.every((byte, i) => byte === whole[i]), `${name} differs`);
      }
      const { training } = JSON.parse(await Deno.readTextFile(`${root}/whole/model/config.json`));
      assert.deepEqual(training.autoencoderLoss, { latentNoise: 0.5, damageCrops: 0.5, damageWeight: 3 });
      assert.deepEqual(training.unetLoss, { emphasis: 5, mean: 20, meanDamage: 5, timestepSampling: "balanced" });
      // Its attention has maps of 4 x 4 cells only.
      const { code, stderr } = await program([...args, "--localise", "1", "--out", `${root}/localised`]).output();
      assert.equal(code, 1);
      assert.match(
        new TextDecoder().decode(stderr),
        /^error: no attention to the caption has a map of 64 cells or more$/m,
      );
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
  sanitizeResources: false,
  sanitizeOps: false,
});

Deno.test({
  name: "pretrain on normal images and procedural pictures together: killed and resumed, it makes the same model",
  fn: async () => {
    const root = await Deno.makeTempDir({ prefix: "pretrain-" });
    try {
      await tinyModel(`${root}/start`);
      writeTinyData(`${root}/data`);
      const mixture = "--seed 3 --views 8 --zoom 2 --procedural-form whole,close --emphasis 5 --mean-damage 5".split(
        " ",
      );
      const args = [...SETTINGS, ...mixture, "--data", `${root}/data`, "--model", `${root}/start`];
      await run([...args, "--out", `${root}/whole`]);
      await killAfter([...args, "--out", `${root}/killed`], `${root}/killed`, 2);
      await killAfter(["--out", `${root}/killed`, "--resume"], `${root}/killed`, 4); // before or among the latents
      await run(["--out", `${root}/killed`, "--resume"]);
      const kept = ["latents-4.f16", "latents-4.captions.jsonl", "latents-4.damage.jsonl"];
      for (const name of ["model/model.safetensors", "model/config.json", ...kept]) {
        const [killed, whole] = await Promise.all(
          ["killed", "whole"].map((run) => Deno.readFile(`${root}/${run}/${name}`)),
        );
        assert.ok(killed.length === whole.length && killed.every((byte, i) => byte === whole[i]), `${name} differs`);
      }
      const images = mixedImages(
        await folderImages(`${root}/data`, 32, { seed: 3, count: 8, zoom: 2 }),
        proceduralImages(3, 10, 32, { forms: ["whole", "close"], cells: 8 }),
      );
      const lines = async (name: string) =>
        (await Deno.readTextFile(`${root}/whole/${name}`)).trim().split("\n").map((line) => JSON.parse(line));
      const all = Array.from({ length: 18 }, (_, i) => i);
      assert.deepEqual(await lines(kept[1]), all.map(images.caption));
      assert.deepEqual(await lines(kept[2]), all.map(images.damage));
      assert.ok(all.some((i) => images.damage(i).cells.length > 0));
      const { training } = JSON.parse(await Deno.readTextFile(`${root}/whole/model/config.json`));
      assert.equal(training.images, "18 pictures: 10 procedural ones (whole, close), the rest views of the user's");
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
  sanitizeResources: false,
  sanitizeOps: false,
});

Deno.test("pretrain: normal images alone do not say where damage is", async () => {
  const flags = ["--emphasis 1", "--mean-damage 1", "--localise 1", "--procedural-form close"];
  for (const flag of [...flags, "--damage-crops 0.5", "--damage-weight 1"]) {
    const args = ["--data", "photos", ...flag.split(" "), "--out", "nowhere"];
    const { code, stderr } = await program(args).output(), told = new TextDecoder().decode(stderr);
    assert.equal(code, 2);
    assert.match(told, new RegExp(`^error: ${flag.split(" ")[0]} needs procedural pictures$`, "m"));
    assert.match(told, /give --procedural-images too/);
    const beside = await program([...args, "--procedural-images", "4"]).output();
    assert.match(new TextDecoder().decode(beside.stderr), /^error: photos: no such folder$/m);
  }
});

Deno.test("adapt: the U-Net learns a data set's normal images, the autoencoder stays, and the loss on them falls", async () => {
  const root = await Deno.makeTempDir({ prefix: "adapt-" });
  try {
    await tinyModel(`${root}/start`);
    await writeTinyData(`${root}/data`);
    const common = ["--data", `${root}/data`, "--model", `${root}/start`, "--train-batch-size", "4", "--views", "40"];
    const steps = [
      "--max-train-steps",
      "30",
      "--learning-rate",
      "3e-3",
      "--validation-steps",
      "0",
      "--checkpointing-steps",
      "20",
    ];
    const told = await run([...common, ...steps, "--out", `${root}/run`], "adapt");
    assert.match(told, /encoding: 40 images|40\/40/);
    const lines = (await Deno.readTextFile(`${root}/run/loss.jsonl`)).trim().split("\n");
    const losses = lines.map((line) => JSON.parse(line).loss as number),
      end = losses.slice(-2).reduce((a, b) => a + b) / 2;
    assert.ok(end < 0.8 * losses[0], `the loss went from ${losses[0]} to ${end}`);
    using first = openModelFolder(`${root}/start`);
    using second = openModelFolder(`${root}/run/model`);
    for (const name of first.names()) {
      const same = second.tensor(name).data.every((v, i) => v === first.tensor(name).data[i]);
      if (name.startsWith("first_stage_model.")) assert.ok(same, `${name} changed`);
    }
    const conv = "model.diffusion_model.input_blocks.0.0.weight";
    assert.notDeepEqual(second.tensor(conv).data, first.tensor(conv).data);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("pretrain: a budget that no step fits is one line", async () => {
  const root = await Deno.makeTempDir({ prefix: "pretrain-" });
  try {
    await tinyModel(`${root}/start`);
    const args = [...SETTINGS, "--model", `${root}/start`, "--memory", "1MiB", "--out", `${root}/run`];
    const { code, stderr } = await program(args).output(), told = new TextDecoder().decode(stderr);
    assert.equal(code, 1);
    assert.match(told, /^error: a training step of the autoencoder needs \d+ MiB of device memory, there are 1 MiB$/m);
    assert.doesNotMatch(told, /fault of the program|^\s+at /m);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("pretrain: the U-Net alone needs a model", async () => {
  const root = await Deno.makeTempDir({ prefix: "pretrain-" });
  try {
    const { code, stderr } = await program(["--stage", "unet", "--out", `${root}/run`]).output();
    assert.equal(code, 2);
    assert.match(new TextDecoder().decode(stderr), /needs a trained autoencoder/);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
