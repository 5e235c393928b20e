/**
 * `import` streams: what it holds at once is the largest tensor, not the checkpoint. The checkpoints are files with holes, the model
 * folders are not: the full-size one, with ANOMALYDIFFUSION_LARGE=1 only (`deno task test:large`), takes 3 GB of the disk and a minute.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { ModelConfig } from "../../../src/weights/config.ts";
import { openModelFolder } from "../../../src/weights/folder.ts";
import { expectedTensors } from "../../../src/weights/import/expected.ts";
import { largeModelConfig } from "../../../src/weights/large.ts";
import { CONFIG, writeSparseZip } from "./checkpoints.ts";

const MAIN = new URL("../../../tasks/main.ts", import.meta.url), MIB = 2 ** 20;

interface Case {
  readonly name: string;
  readonly config: ModelConfig;
  /** Bytes of the checkpoint, at least. */
  readonly size: number;
  /** Most bytes that the process may take. */
  readonly most: number;
  readonly large?: boolean;
}

const cases: readonly Case[] = [
  {
    name: "0.5 GB, no tensor above 17 MB",
    config: { ...CONFIG, text: { ...CONFIG.text, width: 1024, depth: 12 }, unet: { ...CONFIG.unet, contextDim: 1024 } },
    size: 0.4e9,
    most: 250 * MIB,
  },
  { name: "LDM text2img-large, 6 GB", config: largeModelConfig(), size: 5.8e9, most: 1024 * MIB, large: true },
];

/** Runs the program in a process of its own. */
async function run(words: readonly string[]): Promise<{ code: number; peak: number; text: string }> {
  const script = `const { main } = await import(${JSON.stringify(MAIN.href)});
    const code = await main(${JSON.stringify(words)});
    console.error(Deno.readTextFileSync("/proc/self/status").match(/VmHWM:.*/)[0], "exit", code);`;
  const { stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", script],
    env: { NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "" },
  }).output();
  const text = new TextDecoder().decode(stderr), [, kib, code] = /VmHWM:\s*(\d+) kB exit (\d+)/.exec(text) ?? [];
  return { code: Number(code), peak: 1024 * Number(kib), text };
}

for (const { name, config, size, most, large } of cases) {
  Deno.test({
    name: `import of ${name}: within ${most / MIB} MiB`,
    ignore: Deno.build.os !== "linux" || (large && Deno.env.get("ANOMALYDIFFUSION_LARGE") !== "1"),
    async fn() {
      const folder = Deno.makeTempDirSync(), place = (file: string) => join(folder, file);
      try {
        const values = Float32Array.of(0.5), shapes = [...expectedTensors(config)];
        writeSparseZip(
          place("model.ckpt"),
          shapes.map(([tensor, shape]) => ({
            name: tensor,
            shape,
            elements: shape.reduce((a, b) => a * b, 1),
            offset: 0,
            values,
          })),
        );
        assert.ok(Deno.statSync(place("model.ckpt")).size > size);
        const vocab = Array.from(
          { length: config.text.vocabSize },
          (_, i) => ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "*"][i] ?? `w${i}`,
        );
        Deno.writeTextFileSync(place("vocab.txt"), vocab.map((word) => `${word}\n`).join(""));
        Deno.writeTextFileSync(place("sizes.json"), JSON.stringify(config));
        const words = ["import", "--from", place("model.ckpt"), "--vocab", place("vocab.txt"), "--out", place("model")];
        const start = performance.now(),
          { code, peak, text } = await run([...words, "--model-config", place("sizes.json")]);
        const seconds = ((performance.now() - start) / 1000).toFixed(0);
        assert.equal(code, 0, text);
        console.log(`import of ${name}: ${seconds} s, host memory up to ${(peak / 2 ** 30).toFixed(2)} GiB`);
        assert.ok(peak > 32 * MIB && peak < most, `${(peak / MIB).toFixed(0)} MiB`);
        using model = openModelFolder(place("model"));
        assert.equal(model.names().length, shapes.length);
        const { data } = model.tensor(shapes.at(-1)![0]);
        assert.ok(data[0] === 0.5 && data.subarray(1).every((v) => v === 0));
      } finally {
        Deno.removeSync(folder, { recursive: true });
      }
    },
  });
}
