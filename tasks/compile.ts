/**
 * `deno task compile`: the single program in `dist/`, with shaders (imported as text), the small model, its vocabulary and
 * the parts inside. `deno task compile --target x86_64-pc-windows-msvc` builds for another system; `--serve` lets the
 * program's page be opened on this machine.
 */
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { SHIPPED } from "./assets.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * What the program may do: files, environment, memory size, and the image codecs' native library. Neither network nor other
 * programs.
 */
export const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys",
  "--allow-ffi",
  "--no-prompt",
];

/** What `--serve` adds: to be asked by a browser on this machine. Nothing outside can be reached, nor reach in. */
const SERVE_PERMISSION = "--allow-net=127.0.0.1";

/**
 * The arguments of `deno` that build the program.
 * @param output path of the binary
 * @param target Rust target triple, or undefined for this machine
 * @param serve whether its command `serve` may listen on 127.0.0.1
 */
export function compileArguments(output: string, target?: string, serve = false): string[] {
  const include = Object.values(SHIPPED).flat().flatMap((path) => ["--include", path]);
  const extra = target ? ["--target", target] : [];
  const net = serve ? [SERVE_PERMISSION] : [];
  return ["compile", "--quiet", ...PERMISSIONS, ...net, ...include, ...extra, "--output", output, "tasks/main.ts"];
}

/** The base binary's archive for a target, as Deno's releases name it. */
function archive(target: string): string {
  return `denort-${target}.zip`;
}

async function build(): Promise<number> {
  const { values } = parseArgs({ options: { target: { type: "string" }, serve: { type: "boolean" } } });
  const target = values.target ?? Deno.build.target;
  for (const path of Object.values(SHIPPED).flat()) {
    try {
      await Deno.stat(join(ROOT, path));
    } catch {
      console.error(`error: ${path} is missing, and the program would lack it`);
      return 1;
    }
  }
  const output = join("dist", `anomalydiffusion${target.includes("windows") ? ".exe" : ""}`);
  await Deno.mkdir(join(ROOT, "dist"), { recursive: true });
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: compileArguments(output, values.target, values.serve),
    cwd: ROOT,
    stderr: "piped",
  }).output();
  if (success) {
    const { size } = await Deno.stat(join(ROOT, output));
    console.log(`${output} (${Math.round(size / 1e6)} MB)`);
    return 0;
  }
  for (const { name } of Deno.readDirSync(join(ROOT, "dist"))) {
    if (name.startsWith(`${basename(output)}.tmp`)) await Deno.remove(join(ROOT, "dist", name));
  }
  console.error(explainFailure(new TextDecoder().decode(stderr), target));
  return 1;
}

/**
 * One line for what `deno compile` said when it failed.
 * @param said its stderr
 * @param target the triple it built for
 */
export function explainFailure(said: string, target: string): string {
  const chosen = /Could not find denort at '(.*)'/.exec(said);
  if (chosen) return `error: DENORT_BIN=${chosen[1]} is no file; set it to the unpacked file denort`;
  if (/denort-|Setting up base binary/.test(said)) {
    return `error: Deno's base binary cannot be downloaded here: fetch ${
      archive(target)
    } of Deno ${Deno.version.deno} ` +
      `(from Deno's releases) on another machine, unpack it and set DENORT_BIN to the file denort`;
  }
  return said.trim();
}

if (import.meta.main) Deno.exit(await build());
