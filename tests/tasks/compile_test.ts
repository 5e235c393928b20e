/**
 * The compiled program holds everything it opens. Checked without Deno's base binary: the module graph of `main.ts`, the
 * one opener of shipped files, and the bytes of a binary built around a stand-in for the base.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { arch, platform } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { pageFolder, partsFolder, SHIPPED, smallModelFolder } from "../../tasks/assets.ts";
import { compileArguments, explainFailure } from "../../tasks/compile.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MAIN = "tasks/main.ts";

async function deno(
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT, env }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

/** What npm packages open while they run, beside the modules that they import: a codec of this system, WebAssembly and its loader. */
const OPENED_BY_PACKAGES = {
  imagescript: [`codecs/node/bin/${arch()}-${platform()}.node`, "wasm/any/png.wasm", "wasm/any/jpeg.wasm"],
  "onnxruntime-web": [
    "dist/ort.node.min.mjs",
    "dist/ort-wasm-simd-threaded.mjs",
    "dist/ort-wasm-simd-threaded.wasm",
  ],
};

/** What `deno info` says of `main.ts`. */
async function info() {
  const { out } = await deno(["info", "--json", MAIN]);
  return JSON.parse(out) as {
    modules: { specifier: string; error?: string }[];
    npmPackages: Record<string, { name: string; localPath: string }>;
  };
}

/** Absolute paths of {@link OPENED_BY_PACKAGES}. */
async function openedByPackages(): Promise<string[]> {
  const packages = Object.values((await info()).npmPackages);
  return Object.entries(OPENED_BY_PACKAGES).flatMap(([name, files]) => {
    const own = packages.find((found) => found.name === name);
    assert.ok(own, `${name} is not reached from ${MAIN}`);
    return files.map((file) => join(own.localPath, file));
  });
}

/** Paths of the repository's modules that `main.ts` reaches. */
async function graph(): Promise<string[]> {
  const { modules } = await info();
  for (const { specifier, error } of modules) {
    assert.equal(error, undefined, specifier);
    assert.match(specifier, /^(file|npm|node):/, "only files, npm packages and what ships inside Deno");
  }
  return modules.filter((m) => m.specifier.startsWith("file:")).map((m) => relative(ROOT, fileURLToPath(m.specifier)));
}

/** A module's code without comments and without the examples in them. */
async function code(path: string): Promise<string> {
  const text = await Deno.readTextFile(join(ROOT, path));
  return text.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
}

/** Every file under the shipped paths. */
function shippedFiles(): string[] {
  const files: string[] = [];
  const visit = (path: string) => {
    if (Deno.statSync(join(ROOT, path)).isFile) files.push(path);
    else for (const { name } of Deno.readDirSync(join(ROOT, path))) visit(`${path}/${name}`);
  };
  for (const path of Object.values(SHIPPED).flat()) visit(path);
  return files;
}

Deno.test("every module is reached by imports that can be read from the code, and lies in the repository", async () => {
  const modules = await graph();
  assert.ok(modules.includes("tasks/commands/demo.ts") && modules.includes("tasks/assets.ts"));
  for (const path of modules) {
    assert.ok(!path.startsWith(".."), path);
    if (!path.endsWith(".ts")) continue;
    const text = await code(path);
    assert.doesNotMatch(text, /\bimport\(\s*[^"'\s]/, `${path} imports what only a run can tell`);
    assert.doesNotMatch(
      text,
      /\bfetch\(|\bnew Worker\(|\bDeno\.Command\b|\bdlopen\b/,
      `${path} reaches outside the program`,
    );
    for (const [, shader] of text.matchAll(/from "([^"]+\.wgsl)"/g)) {
      assert.ok(modules.some((m) => m.endsWith(shader.replace(/^(\.\.?\/)+/, ""))), `${path}: ${shader}`);
    }
  }
});

Deno.test("only tasks/assets.ts finds files by where the program lies", async () => {
  for (const path of await graph()) {
    if (!path.endsWith(".ts") || path === "tasks/assets.ts") continue;
    const text = (await code(path)).replaceAll("import.meta.main", "");
    assert.doesNotMatch(text, /import\.meta|Deno\.mainModule|Deno\.execPath/, path);
    assert.doesNotMatch(text, /["'`](\.\.?\/)*fixtures\//, `${path} names a shipped file`);
  }
});

Deno.test("what assets.ts opens is what the binary includes", () => {
  const args = compileArguments("out");
  const included = args.flatMap((word, i) => args[i - 1] === "--include" ? [word] : []);
  assert.deepEqual(included.sort(), Object.values(SHIPPED).flat().sort());
  for (const name of ["config.json", "model.safetensors", "vocab.txt"]) {
    const path = relative(ROOT, join(smallModelFolder(), name));
    assert.ok(included.includes(path) && Deno.statSync(join(ROOT, path)).isFile, path);
  }
  assert.ok(included.includes(relative(ROOT, partsFolder())));
  for (const flag of args.filter((word) => word.startsWith("--allow"))) assert.doesNotMatch(flag, /net|run|all$/);
  for (const name of ["index.html", "page.js", "page.css"]) assert.ok(Deno.statSync(join(pageFolder(), name)).isFile);
  // With --serve it may be asked by a browser on this machine, and that is all.
  const added = compileArguments("out", undefined, true).filter((word) => !args.includes(word));
  assert.deepEqual(added, ["--allow-net=127.0.0.1"]);
});

Deno.test({
  name: "a binary holds the bytes of every shipped file, of every shader and of what npm packages open",
  ignore: Deno.build.os !== "linux", // the stand-in for the base binary is Linux's /bin/true
  async fn() {
    const folder = await Deno.makeTempDir({ prefix: "compile-" });
    try {
      const output = join(folder, "anomalydiffusion");
      const { code, err } = await deno(compileArguments(output), { DENORT_BIN: "/bin/true" });
      assert.equal(code, 0, err);
      // As strings: V8 searches these many times faster than Deno's Buffer does.
      const text = async (path: string) => Buffer.from((await Deno.readFile(path)).buffer).toString("latin1");
      const binary = await text(output);
      const shaders = (await graph()).filter((path) => path.endsWith(".wgsl"));
      const own = [...shippedFiles(), ...shaders].map((path) => join(ROOT, path));
      for (const path of [...own, ...await openedByPackages()]) {
        const bytes = await text(path);
        assert.ok(bytes.length > 0 || own.includes(path), `${path} is empty`);
        assert.ok(binary.includes(bytes), `${path} is not in the binary`);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("without Deno's base binary one line says what to fetch", () => {
  const refused = "error: Writing deno compile executable to temporary file 'a.tmp'\n\nCaused by:\n" +
    "    0: Setting up base binary.\n    1: error sending request for url (https://x/denort-x86_64-unknown-linux-gnu.zip)";
  const line = explainFailure(refused, "aarch64-apple-darwin");
  assert.match(line, /^error: .*fetch denort-aarch64-apple-darwin\.zip of Deno \d+\.\d+\.\d+ .*DENORT_BIN/);
  assert.doesNotMatch(line, /\n/);
  assert.match(
    explainFailure("Caused by:\n    0: Could not find denort at '/nope'", "x"),
    /DENORT_BIN=\/nope is no file/,
  );
  assert.equal(explainFailure("error: Type checking failed.\n", "x"), "error: Type checking failed.");
});
