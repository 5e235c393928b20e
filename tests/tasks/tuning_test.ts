/** The table of kernel choices: what is kept, what is ignored and said, and what ships. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PERMISSIONS } from "../../tasks/compile.ts";
import { planGeneration, planTraining } from "../../src/anomaly/budget.ts";
import type { Plan } from "../../src/graph/plan.ts";
import { tunableClasses } from "../../src/graph/tuner.ts";
import { lightSpatialConfig } from "../../src/models/spatial_encoder.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { smallModelFolder } from "../../tasks/assets.ts";
import shipped from "../../tasks/tuning.json" with { type: "json" };
import {
  adapterKey,
  CACHE,
  kernelRevision,
  loadChoices,
  saveChoices,
  tablePath,
  tableProblem,
} from "../../tasks/tuning.ts";

const MAIN = fileURLToPath(new URL("../../tasks/main.ts", import.meta.url));

const info = (description: string) =>
  ({ vendor: "1", architecture: "a", device: "2", description }) as unknown as GPUAdapterInfo;

function temporary(use: (path: string) => void | Promise<void>): () => Promise<void> {
  return async () => {
    const folder = Deno.makeTempDirSync({ prefix: "tuning-" });
    try {
      await use(join(folder, "cache", "tuning.json"));
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  };
}

const silent = (line: string) => assert.fail(line);

Deno.test(
  "choices are kept per adapter, later ones win, and nothing else is left in the folder",
  temporary((path) => {
    assert.equal(loadChoices(info("x"), silent, path).size, 0, "no table is no problem");
    saveChoices(path, info("x"), new Map([["b", "8x16"], ["a", "4x4 shared"]]));
    saveChoices(path, info("y"), new Map([["a", "own"]]));
    saveChoices(path, info("x"), new Map([["b", "own"]]));
    assert.deepEqual([...loadChoices(info("x"), silent, path)], [["a", "4x4 shared"], ["b", "own"]]);
    assert.deepEqual([...loadChoices(info("y"), silent, path)], [["a", "own"]]);
    assert.equal(loadChoices(info("z"), silent, path).size, 0);
    assert.deepEqual([...Deno.readDirSync(join(path, ".."))].map(({ name }) => name), ["tuning.json"]);
  }),
);

Deno.test(
  "a table that cannot be used is one line, and is ignored",
  temporary((path) => {
    saveChoices(path, info("x"), new Map([["a", "8x16"]]));
    const good = JSON.parse(Deno.readTextFileSync(path)), key = adapterKey(info("x"));
    const entry = good.adapters[key];
    for (
      const [text, line] of [
        ["{", /tuning\.json is not JSON and is ignored; tune writes it anew$/],
        ["[]", /is not a table of kernel choices/],
        [JSON.stringify({ ...good, format: 2 }), /is not a table of kernel choices/],
        [JSON.stringify({ format: 1, adapters: { [key]: 3 } }), /has no choices for 1 \/ a \/ 2 \/ x/],
        [
          JSON.stringify({ format: 1, adapters: { [key]: { ...entry, choices: { a: "9x9" } } } }),
          /names a kernel variant that does not exist: "9x9"/,
        ],
        [
          JSON.stringify({ format: 1, adapters: { [key]: { ...entry, kernels: "0" } } }),
          /was measured with another version of the program and is ignored; tune measures again$/,
        ],
      ] as const
    ) {
      Deno.writeTextFileSync(path, text);
      const lines: string[] = [];
      assert.equal(loadChoices(info("x"), (line) => lines.push(line), path).size, 0, text);
      assert.equal(lines.length, 1, text);
      assert.match(lines[0], line);
      saveChoices(path, info("x"), new Map([["c", "8x16"]]));
      assert.deepEqual([...loadChoices(info("x"), silent, path)], [["c", "8x16"]], "written anew");
    }
  }),
);

Deno.test(
  "another adapter's old entry is no reason to speak",
  temporary((path) => {
    saveChoices(path, info("x"), new Map([["a", "8x16"]]));
    const table = JSON.parse(Deno.readTextFileSync(path));
    table.adapters[adapterKey(info("y"))] = { kernels: "0", measured: "2020-01-01", choices: { a: "gone" } };
    Deno.writeTextFileSync(path, JSON.stringify(table));
    assert.deepEqual([...loadChoices(info("x"), silent, path)], [["a", "8x16"]]);
  }),
);

Deno.test(
  "what ships is used where nothing was measured, gives way to what was, and is ignored where it is of other kernels",
  temporary((path) => {
    const ships = (kernels: string) => ({
      format: 1 as const,
      adapters: { [adapterKey(info("x"))]: { kernels, measured: "2026-01-02", choices: { a: "8x16", b: "own" } } },
    });
    const now = ships(kernelRevision());
    assert.deepEqual([...loadChoices(info("x"), silent, path, now)], [["a", "8x16"], ["b", "own"]]);
    assert.equal(loadChoices(info("y"), silent, path, now).size, 0);
    assert.equal(loadChoices(info("x"), silent, path, ships(`${kernelRevision()}0`)).size, 0);
    saveChoices(path, info("x"), new Map([["b", "4x4"]]));
    assert.deepEqual([...loadChoices(info("x"), silent, path, now)], [["a", "8x16"], ["b", "4x4"]]);
  }),
);

Deno.test("the table that ships knows the software adapter, and the small model's products under the names they have", () => {
  const [, entry] = Object.entries(shipped.adapters).find(([name]) => name.includes("llvmpipe"))!;
  using model = openModelFolder(smallModelFolder());
  const plans: Plan[] = [], seen = (plan: Plan) => void plans.push(plan), { config } = model;
  const sizes = { batch: 4, tokens: 8, spatial: lightSpatialConfig(4, config.text.width) };
  planTraining(config, { ...sizes, area: true, kinds: 1 }, Infinity, seen);
  planGeneration(config, { ...sizes, guidance: 3, reweighting: "official" }, Infinity, seen);
  const classes = tunableClasses(plans), work = classes.reduce((sum, { flops }) => sum + flops, 0);
  const known = classes.filter(({ key }) => key in entry.choices).reduce((sum, { flops }) => sum + flops, 0);
  assert.ok(classes.length > 50 && known > 0.95 * work, `${known} of ${work} FLOPs`);
});

Deno.test("the table that ships is readable and was measured with these kernels", () => {
  assert.equal(tableProblem(shipped), undefined);
  for (const [adapter, { kernels }] of Object.entries(shipped.adapters as Record<string, { kernels: string }>)) {
    assert.equal(kernels, kernelRevision(), `${adapter}: measure again, or take the entry out`);
  }
});

Deno.test("the cache folder has its own variable", () => {
  const before = Deno.env.get(CACHE);
  try {
    Deno.env.set(CACHE, "somewhere");
    assert.equal(tablePath(), join("somewhere", "tuning.json"));
  } finally {
    if (before === undefined) Deno.env.delete(CACHE);
    else Deno.env.set(CACHE, before);
  }
});

Deno.test(
  "tune measures a class, writes the table, and a command that finds it broken says so once and works",
  temporary(async (path) => {
    const folder = join(path, "..");
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", ...PERMISSIONS, "--no-check", MAIN, "tune", ...args],
        env: { NO_COLOR: "1", ANOMALYDIFFUSION_CWD: "", ANOMALYDIFFUSION_DEBUG: "", [CACHE]: folder },
      }).output();
      const decoder = new TextDecoder();
      return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
    };
    // The smallest product of the model.
    const small = ["--job", "generate", "--batch", "1", "--only", "product f16 2 x 256 x 64"];
    const dry = await run(...small, "--dry-run", "--verbose");
    assert.equal(dry.code, 0, dry.err);
    assert.match(dry.out, /^ {2}own +\d+\.\d+ ms$/m);
    assert.match(dry.out, /^ {2}8x8 shared +(\d+\.\d+ ms|slow|rounding)$/m);
    assert.throws(() => Deno.statSync(path), Deno.errors.NotFound);
    const measured = await run(...small);
    assert.equal(measured.code, 0, measured.err);
    const table = JSON.parse(Deno.readTextFileSync(path)), [entry] = Object.values(table.adapters);
    assert.equal(tableProblem(table), undefined);
    assert.match(Object.keys((entry as { choices: object }).choices).join(), /^gemm product f16 2 x 256 x 64$/);
    if ((await navigator.gpu.requestAdapter())!.features.has("shader-f16")) {
      const half = await run(...small, "--precision", "f16", "--verbose");
      assert.equal(half.code, 0, half.err);
      assert.match(half.out, /^ {2}8x8 shared f16 +(\d+\.\d+ ms|slow)$/m);
      const [both] = Object.values(JSON.parse(Deno.readTextFileSync(path)).adapters) as { choices: object }[];
      assert.deepEqual(Object.keys(both.choices), [
        "gemm product f16 2 x 256 x 64",
        "gemm product f16 2 x 256 x 64 in f16",
      ]);
    }
    Deno.writeTextFileSync(path, "{");
    const broken = await run(...small, "--dry-run");
    assert.equal(broken.code, 0, broken.err);
    assert.equal(broken.err.match(/warning: .*tuning\.json is not JSON and is ignored/g)?.length, 1, broken.err);
    assert.match((await run("--batch", "none")).err, /--batch takes whole numbers from 1 to 256, not none/);
    assert.match((await run("--job", "dance")).err, /--job knows generate and train, not dance/);
    assert.match((await run("--only", "nothing")).err, /no product of the model is of that class/);
  }),
);
