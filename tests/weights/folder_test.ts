import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { checkModelConfig, downsamplingFactor } from "../../src/weights/config.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { toHalf } from "../../src/gpu/half.ts";
import { writeSafetensors } from "../../src/weights/safetensors.ts";

const config = {
  format: "anomalydiffusion-model",
  version: 1,
  name: "tiny",
  resolution: 128,
  scaleFactor: 1,
  autoencoder: {
    patchSize: 2,
    inChannels: 3,
    outChannels: 3,
    channels: 32,
    channelMult: [1, 2, 4],
    numResBlocks: 1,
    zChannels: 8,
    embedDim: 8,
    midAttention: false,
    numGroups: 32,
  },
  unet: {
    inChannels: 8,
    outChannels: 8,
    modelChannels: 64,
    channelMult: [1, 1.5, 2],
    numResBlocks: 1,
    attentionLevels: [true, true, true],
    numHeads: 4,
    contextDim: 128,
    numGroups: 32,
  },
  text: { vocabSize: 3, width: 128, depth: 2, heads: 4, headDim: 32, maxLength: 24 },
  schedule: { timesteps: 1000, betaStart: 0.00085, betaEnd: 0.012 },
};

/** Runs with a fresh model folder: a half and a float tensor in two files. */
function withFolder(test: (path: string) => void): void {
  const path = Deno.makeTempDirSync();
  try {
    Deno.writeTextFileSync(join(path, "config.json"), JSON.stringify(config));
    Deno.writeTextFileSync(join(path, "vocab.txt"), "[PAD]\n[UNK]\n*\n");
    writeSafetensors(join(path, "b.safetensors"), { "unet.w": { dtype: "F16", shape: [1, 2], data: toHalf([1, -2]) } });
    writeSafetensors(join(path, "a.safetensors"), { "vae.w": { shape: [3], data: Float32Array.of(1, 2, 3) } });
    test(path);
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

Deno.test("model folder: tensors of all files, vocabulary, configuration, identity", () =>
  withFolder((path) => {
    using model = openModelFolder(path);
    assert.deepEqual(model.names(), ["vae.w", "unet.w"]);
    assert.deepEqual(model.tensor("unet.w"), { dtype: "F16", shape: [1, 2], data: Float32Array.of(1, -2) });
    assert.deepEqual(model.get("vae.w", [3]), Float32Array.of(1, 2, 3));
    assert.ok(model.has("vae.w") && !model.has("vae"));
    assert.deepEqual(model.vocab, ["[PAD]", "[UNK]", "*"]);
    assert.equal(model.config.unet.channelMult[1], 1.5);
    const hash = createHash("sha256");
    for (const name of ["config.json", "a.safetensors", "b.safetensors", "vocab.txt"]) {
      hash.update(Deno.readFileSync(join(path, name)));
    }
    assert.equal(model.sha256, hash.digest("hex"));
  }));

Deno.test("model folder: a tensor that is missing or of another shape is named", () =>
  withFolder((path) => {
    using model = openModelFolder(path);
    assert.throws(() => model.get("vae.b", [3]), /no tensor "vae\.b"/);
    assert.throws(() => model.get("unet.w", [2, 1]), /"unet\.w": expected \[2, 1\], found \[1, 2\]/);
    assert.throws(() => model.get("unet.w", [2]), /expected \[2\], found \[1, 2\]/);
  }));

Deno.test("model folder: what is missing is said in one line", () =>
  withFolder((path) => {
    const refused = (message: RegExp) =>
      assert.throws(() => openModelFolder(path), (error: Error) => {
        assert.match(error.message, message);
        return error.name === "UserError" && !error.message.includes("\n");
      });
    assert.throws(() => openModelFolder(join(path, "gone")), /gone: no such model folder/);
    assert.throws(() => openModelFolder(join(path, "config.json")), /config\.json: not a folder/);
    Deno.writeTextFileSync(join(path, "vocab.txt"), "[PAD]\n");
    refused(/vocab\.txt: expected 3 word pieces, found 1/);
    Deno.removeSync(join(path, "vocab.txt"));
    refused(/vocab\.txt is missing/);
    Deno.writeTextFileSync(join(path, "vocab.txt"), "[PAD]\r\n[UNK]\r\n*");
    openModelFolder(path)[Symbol.dispose]();
    Deno.copyFileSync(join(path, "a.safetensors"), join(path, "c.safetensors"));
    refused(/tensor "vae\.w" is in a\.safetensors and in c\.safetensors/);
    for (const name of ["a", "b", "c"]) Deno.removeSync(join(path, `${name}.safetensors`));
    refused(/no \*\.safetensors file/);
    Deno.writeTextFileSync(join(path, "config.json"), "{");
    refused(/config\.json: not valid JSON/);
    Deno.removeSync(join(path, "config.json"));
    refused(/config\.json is missing/);
  }));

Deno.test("model configuration: every kind of mistake names its key", () => {
  const changed = (path: string, value: unknown) => {
    const copy = structuredClone(config) as Record<string, unknown>;
    const keys = path.split("."), last = keys.pop()!;
    (keys.reduce((object, key) => object[key] as Record<string, unknown>, copy))[last] = value;
    return () => checkModelConfig(copy, "config.json");
  };
  assert.equal(checkModelConfig(config, "config.json").name, "tiny");
  assert.equal(downsamplingFactor(config.autoencoder), 8);
  assert.throws(changed("format", "x"), /not the configuration of a model folder/);
  assert.throws(changed("version", 2), /version: expected 1, found 2/);
  assert.throws(changed("unet", undefined), /unet: expected an object/);
  assert.throws(changed("unet.numHeads", 0), /unet\.numHeads: expected a whole number above 0, found 0/);
  assert.throws(changed("unet.numHeads", "4"), /unet\.numHeads: expected a whole number above 0, found "4"/);
  assert.throws(changed("unet.numHeads", 5), /divisible by numHeads/);
  assert.throws(changed("unet.attentionLevels", [true]), /expected 3 entries/);
  assert.throws(changed("unet.inChannels", 4), /embedDim = 8, found 4/);
  assert.throws(changed("text.width", 64), /text\.width = 64, found 128/);
  assert.throws(changed("autoencoder.midAttention", 1), /midAttention: expected true or false, found 1/);
  assert.throws(changed("schedule.betaEnd", null), /betaEnd: expected a number above 0, found null/);
  assert.throws(changed("resolution", 100), /resolution: expected a multiple of 8, found 100/);
});
