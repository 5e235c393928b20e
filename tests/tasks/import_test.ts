/** `import` from end to end: every form of the same tiny model gives the same weights; what is damaged leaves nothing. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodeEmbedding, encodeEmbedding } from "../../src/anomaly/embedding.ts";
import { officialSpatialConfig } from "../../src/models/official_spatial_encoder.ts";
import type { Stored } from "../../src/nn/parameters.ts";
import { Random } from "../../src/random/philox.ts";
import { writeOfficialSpatial } from "../../src/weights/convert_official.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { FormulaWeights } from "../../src/weights/formula.ts";
import { expectedSpatialTensors } from "../../src/weights/import/expected.ts";
import { readOfficialEmbeddings } from "../../src/weights/import/official.ts";
import { exists, type Result, Workshop } from "../end_to_end/program.ts";
import { writeTinyModel } from "../support/tiny_model.ts";
import { CONFIG, FORMS, streamBytes, tinyTensors, writeBeside } from "../weights/import/checkpoints.ts";

const shop = new Workshop();
writeBeside(shop.path);
const tensors = tinyTensors();
const SIZES = "--vocab @vocab.txt --model-config @sizes.json";
const sources = new Map(
  Object.entries(FORMS).map(([form, write]) => {
    const folder = shop.file(form);
    Deno.mkdirSync(folder);
    return [form, `${form}/${write(folder, tensors)}`];
  }),
);
const isDiffusers = (form: string) => form.startsWith("diffusers");
const sizesOf = (form: string) => isDiffusers(form) ? "--vocab @vocab.txt" : SIZES;

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/import/${name}`, import.meta.url));

/** All files of a folder and its subfolders, relative to it, in a fixed order. */
function filesBelow(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesBelow(join(folder, name)).map((inner) => join(name, inner)) : [name]
  ).sort();
}

/** Fails unless a result is one error line that blames no fault of the program, and nothing is left of `out`. */
function assertRefused({ code, out, err }: Result, message: RegExp, folder = "refused"): void {
  const at = err.split("\n").findIndex((line) => line.startsWith("error: ")),
    [line, ...rest] = err.split("\n").slice(at);
  assert.ok(code === 1 || code === 2, `exit code ${code}\n${err}`);
  assert.equal(out, "");
  assert.match(line ?? "", message, err);
  assert.ok(rest.filter(Boolean).every((more) => /^ {2}hint: \S/.test(more)) && rest.length <= 2, err);
  assert.doesNotMatch(err, /fault of the program|^\s+at /m);
  assert.ok(!exists(shop.file(folder)) && !exists(shop.file(`${folder}.partial`)), "something is left");
}

for (const [form, source] of sources) {
  Deno.test(`import of ${form}: the same tensors, half precision, where they come from`, async () => {
    const { out } = await shop.good(`import --from @${source} ${sizesOf(form)} --licence MIT --out @from-${form}`);
    assert.equal(out, `${shop.file(`from-${form}`)}\n`);
    using model = openModelFolder(shop.file(`from-${form}`));
    assert.deepEqual(model.names().sort(), [...tensors.keys()].sort());
    for (const [name, { shape, data }] of tensors) {
      const kept = model.tensor(name);
      assert.equal(kept.dtype, shape.length > 1 ? "F16" : "F32");
      assert.deepEqual(kept.data, shape.length > 1 ? new Float32Array(new Float16Array(data)) : data, name);
    }
    const { training: _, name, ...sizes } = model.config, { name: own, ...expected } = CONFIG;
    assert.deepEqual(sizes, expected);
    assert.equal(name, isDiffusers(form) ? "LDM text2img-large" : own);
    const origin = JSON.parse(Deno.readTextFileSync(shop.file(`from-${form}`, "origin.json")));
    assert.equal(origin.licence, "MIT");
    const folder = shop.file(form),
      files = isDiffusers(form)
        ? filesBelow(folder).filter((file) => /[.](safetensors|bin|index[.]json)$/.test(file))
        : filesBelow(folder);
    const print = ({ file, sha256 }: { file: string; sha256: string }) => `${file} ${sha256}`;
    const hash = (file: string) => createHash("sha256").update(Deno.readFileSync(join(folder, file))).digest("hex");
    const expectedPrints = files.map((file) => print({ file: basename(file), sha256: hash(file) }));
    assert.deepEqual(origin.sources.map(print).sort(), expectedPrints.sort());
  });
}

Deno.test("import: single precision keeps every bit; a second import and a full folder are refused", async () => {
  await shop.good(`import --from @${sources.get("zip")} ${SIZES} --dtype f32 --out @exact`);
  {
    using model = openModelFolder(shop.file("exact"));
    for (const [name, { data }] of tensors) assert.deepEqual(model.tensor(name).data, data);
  }
  const again = await shop.run(`import --from @${sources.get("zip")} ${SIZES} --out @exact`);
  assert.match(again.err, /^error: .*exact is not empty$/m);
  Deno.mkdirSync(shop.file("empty.partial"));
  Deno.writeTextFileSync(shop.file("empty.partial/model.safetensors.1.tmp"), "left by a killed process");
  await shop.good(`import --from @${sources.get("zip")} ${SIZES} --out @empty`);
  assert.ok(exists(shop.file("empty/config.json")) && !exists(shop.file("empty.partial")));
});

Deno.test("import: moving averages on request", async () => {
  const averages = new Map<string, Stored>(
    [...tensors].filter(([name]) => name.startsWith("model.")).map((
      [name, { shape, data }],
    ) => [`model_ema.${name.slice(6).replaceAll(".", "")}`, { shape, data: data.map((x) => x / 2) }]),
  );
  writeOfficialSpatial(shop.file("ema.ckpt"), new Map([...tensors, ...averages]));
  const bias = "model.diffusion_model.out.2.bias", { data } = tensors.get(bias)!;
  for (
    const [flag, factor, said] of [["", 1, /last weights are taken/], ["--ema", 0.5, /averages .* are taken/]] as const
  ) {
    const out = `ema${factor}`, { err } = await shop.good(`import --from @ema.ckpt ${SIZES} ${flag} --out @${out}`);
    assert.match(err, said);
    using model = openModelFolder(shop.file(out));
    assert.deepEqual(model.tensor(bias).data, data.map((x) => x * factor));
  }
  assertRefused(
    await shop.run(`import --from @${sources.get("zip")} ${SIZES} --ema --out @refused`),
    /no moving averages/,
  );
});

Deno.test("import: what does not fit is listed, told in one line, and leaves nothing", async () => {
  const refused = async (words: string, message: RegExp) =>
    assertRefused(await shop.run(`import ${words} --out @refused`), message);
  const changed = (change: (all: Map<string, Stored>) => void) => {
    const all = new Map(tensors);
    change(all);
    writeOfficialSpatial(shop.file("changed.ckpt"), all);
    return `--from @changed.ckpt ${SIZES}`;
  };
  const name = "model.diffusion_model.out.2.weight", { shape, data } = tensors.get(name)!;
  await refused(
    changed((all) => all.delete(name)),
    /changed\.ckpt: .*1 missing: missing: model\.diffusion_model\.out\.2\.weight$/,
  );
  const { err } = await shop.run(
    `import ${
      changed((all) => {
        all.delete(name);
        all.set("model.diffusion_model.more", { shape: [1], data: new Float32Array(1) });
        all.set("model.diffusion_model.out.2.bias", { shape: [2], data: new Float32Array(2) });
      })
    } --out @refused`,
  );
  for (
    const line of [
      "missing: model.diffusion_model.out.2.weight",
      "other shape: model.diffusion_model.out.2.bias is [2], expected [4]",
      "unexpected: model.diffusion_model.more",
    ]
  ) assert.ok(err.split("\n").includes(line), err);
  const swapped = { shape: [shape[1], shape[0], 3, 3], data };
  await refused(
    changed((all) => all.set(name, swapped)),
    /out\.2\.weight is \[32, 4, 3, 3\], expected \[4, 32, 3, 3\]/,
  );
  const holding = (value: number) => changed((all) => all.set(name, { shape, data: data.slice().fill(value, 7, 8) }));
  await refused(holding(NaN), /changed\.ckpt: tensor "model\.diffusion_model\.out\.2\.weight" holds NaN at element 7/);
  await refused(holding(-Infinity), /out\.2\.weight" holds infinity/);
  await refused(holding(1e6), /out\.2\.weight" holds 1000000, beyond half precision/);
  await refused(`--from @${sources.get("zip")} --vocab @vocab.txt`, /of 1354 tensors/);
  await refused("--from @nowhere.ckpt", /nowhere\.ckpt: no such file/);
  await refused("--from @data", /data: neither a diffusers folder/);
  await refused("--from @vocab.txt", /vocab\.txt: neither a PyTorch checkpoint nor safetensors/);
  await refused(`--from @${sources.get("stream")} --model-config @sizes.json`, /stream: no vocab\.txt/);
  Deno.writeTextFileSync(shop.file("short.txt"), "[PAD]\n");
  await refused(
    `--from @${sources.get("zip")} --vocab @short.txt --model-config @sizes.json`,
    /has 1 word pieces, the model/,
  );
  Deno.writeFileSync(shop.file("hostile.ckpt"), new TextEncoder().encode("PK\x03\x04cos\nsystem\n(S'x'\ntR."));
  await refused(`--from @hostile.ckpt ${SIZES}`, /hostile\.ckpt: not a whole zip archive/);
  const evil = streamBytes(new Map([["w", { shape: [1], data: new Float32Array(1) }]]));
  const text = [...evil].map((byte) => String.fromCharCode(byte)).join("").replace(
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "cposix\nsystem\n",
  );
  Deno.writeFileSync(shop.file("evil.pt"), Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
  await refused(`--from @evil.pt ${SIZES}`, /evil\.pt: .* asks for posix\.system/);
});

for (const [form, source] of sources) {
  Deno.test(`import of ${form}, damaged in many ways: one clear line, or a whole model; never anything half`, async () => {
    const random = new Random(1, `damage/${form}`),
      below = (n: number) => random.integer(0, n),
      folder = shop.file(form);
    const files = filesBelow(folder);
    let failed = 0;
    for (let i = 0; i < 40; i++) {
      const path = join(folder, random.pick(files)), whole = Deno.readFileSync(path);
      const bytes = whole.slice(), part = Math.min(bytes.length, 6000);
      const start = below(2) ? 0 : bytes.length - part; // where the forms keep what describes the rest
      const at = below(4) ? start + below(part) : below(bytes.length);
      const length = 1 + below(8), kind = below(4);
      if (kind === 0) { for (let j = at; j < Math.min(at + length, bytes.length); j++) bytes[j] = below(256); }
      else if (kind === 1) bytes.fill(random.pick([0, 255]), at, at + length);
      else if (kind === 2) bytes.copyWithin(at, below(bytes.length), bytes.length);
      Deno.writeFileSync(path, kind === 3 ? bytes.subarray(0, at) : bytes);
      const result = await shop.run(`import --from @${source} ${sizesOf(form)} --out @refused`);
      Deno.writeFileSync(path, whole);
      if (result.code === 0) {
        using model = openModelFolder(shop.file("refused"));
        for (const name of model.names()) assert.ok(model.tensor(name).data.every(Number.isFinite), name);
        Deno.removeSync(shop.file("refused"), { recursive: true });
      } else {
        failed++;
        assertRefused(result, /^error: \S*(zip|stream|tar|safetensors|sharded|diffusers|vocab)\S*[ :]/);
      }
    }
    assert.ok(failed > 10, `only ${failed} of 40 were noticed`);
  });
}

Deno.test("the official code's products: into a run folder, and back in a form that reads the same", async () => {
  const width = 8, config = { ...officialSpatialConfig(2, width, { side: 64 }), channels: [4, 4, 6, 8, 12] as const };
  const source = new FormulaWeights("official"), keys = ["wood+scratch", "metal_nut+bent"];
  const parameters = new Map([...expectedSpatialTensors(config)].map(([name, shape]): [string, Stored] => [
    name,
    { shape, data: source.get(name, shape) },
  ]));
  const table = Float32Array.from({ length: 2 * 3 * width }, (_, i) => i / 7);
  const run = encodeEmbedding({ keys, tokens: 3, width, table, spatial: { config, parameters }, model: "m" });
  Deno.mkdirSync(shop.file("trained"));
  Deno.writeFileSync(shop.file("trained/embeddings.safetensors"), run);
  await shop.good("import --from @trained --to official --model @model --out @official");
  const read = readOfficialEmbeddings(shop.file("official/embeddings.pt"));
  assert.deepEqual([read.tokens, read.width, [...read.table.keys()]], [3, width, keys]);

  writeTinyModel(shop.file("wide"));
  assertRefused(await shop.run("import --from @official/embeddings.pt --out @refused"), /need --model/);
  assertRefused(
    await shop.run("import --from @official/embeddings.pt --model @wide --out @refused"),
    /tokens of width 8, but .*wide has words of 32/,
  );
  const narrow = { ...CONFIG, text: { ...CONFIG.text, width }, unet: { ...CONFIG.unet, contextDim: width } };
  writeTinyModel(shop.file("narrow"), "narrow", narrow);
  await shop.good("import --from @official/embeddings.pt --model @narrow --out @back");
  const path = shop.file("back/embeddings.safetensors"), back = decodeEmbedding(Deno.readFileSync(path), path);
  assert.deepEqual([back.keys, back.tokens, back.width, back.table], [keys, 3, width, table]);
  assert.deepEqual(JSON.parse(JSON.stringify(back.spatial!.config)), JSON.parse(JSON.stringify(config)));
  assert.deepEqual(new Map(back.spatial!.parameters), parameters);
  using model = openModelFolder(shop.file("narrow"));
  assert.equal(back.model, model.sha256);
});

Deno.test("embeddings.pt as PyTorch writes it: keys, token count and numbers", () => {
  const { tokens, width, table } = readOfficialEmbeddings(fixture("embeddings.pt"));
  assert.deepEqual([tokens, width], [3, 4]);
  const rows = [0, 100].map((first) => Float32Array.from({ length: 12 }, (_, i) => first + i));
  assert.deepEqual([...table], [["wood+scratch", rows[0]], ["metal_nut+bent", rows[1]]]);
});

Deno.test("the official code's products, damaged in many ways: one clear line, or a whole run folder", async () => {
  const files = ["official/embeddings.pt", "official/spatial_encoder.pt"].map((name) => shop.file(name));
  const random = new Random(4, "damage/official");
  let failed = 0;
  for (let i = 0; i < 120; i++) {
    const path = files[i % 2], whole = Deno.readFileSync(path), bytes = whole.slice();
    const below = (n: number) => random.integer(0, n),
      at = below(3) ? below(Math.min(2000, bytes.length)) : below(bytes.length);
    const end = Math.min(at + 1 + below(6), bytes.length);
    [
      () => bytes.subarray(at, end).forEach((_, k) => bytes[at + k] = below(256)),
      () => bytes.fill(random.pick([0, 255]), at, end),
      () => bytes[at] ^= 1 << below(8),
    ][below(3)]();
    Deno.writeFileSync(path, below(5) ? bytes : bytes.subarray(0, at));
    const result = await shop.run("import --from @official/embeddings.pt --model @narrow --out @refused");
    Deno.writeFileSync(path, whole);
    if (result.code === 0) {
      const out = shop.file("refused/embeddings.safetensors"),
        { table, spatial } = decodeEmbedding(Deno.readFileSync(out), out);
      assert.ok(table.every(Number.isFinite));
      for (const { data } of spatial!.parameters.values()) assert.ok(data.every(Number.isFinite));
      Deno.removeSync(shop.file("refused"), { recursive: true });
    } else {
      failed++;
      assertRefused(result, /^error: \S*(embeddings|spatial_encoder)\.pt\S*[ :]/);
    }
  }
  assert.ok(failed > 30, `only ${failed} of 120 were noticed`);
  const nan = Deno.readFileSync(files[0]),
    at = new TextDecoder("latin1").decode(nan).indexOf("archive/data/1") + "archive/data/1".length;
  new DataView(nan.buffer).setFloat32(at, NaN, true);
  Deno.writeFileSync(shop.file("nan.pt"), nan);
  const told = await shop.run(
    "import --from @nan.pt --spatial-encoder @official/spatial_encoder.pt --model @narrow --out @refused",
  );
  assertRefused(told, /nan\.pt: tensor "[a-z_+]+" holds NaN or infinity/);
});

Deno.test("the official code's mask embeddings: one file each, named by --key", async () => {
  const width = 32, keys = ["wood+scratch", "wood+hole"], table = new Float32Array(2 * 5 * width).map((_, i) => i);
  Deno.mkdirSync(shop.file("masks"));
  const bytes = encodeEmbedding({ keys, tokens: 5, width, table, model: "m" });
  Deno.writeFileSync(shop.file("masks/embeddings.safetensors"), bytes);
  await shop.good("import --from @masks --to official --out @official-masks");
  const files = ["scratch", "hole"].map((kind) => shop.file(`official-masks/wood-${kind}/checkpoints/embeddings.pt`));
  const from = `--from ${files.join()} --model @model`;
  assertRefused(await shop.run(`import ${from} --out @refused`), /does not say which masks it learned/);
  await shop.good(`import ${from} --key ${keys.join()} --out @masks-back`);
  const path = shop.file("masks-back/embeddings.safetensors"), back = decodeEmbedding(Deno.readFileSync(path), path);
  assert.deepEqual([back.keys, back.tokens, back.table, back.spatial], [keys, 5, table, undefined]);
});
