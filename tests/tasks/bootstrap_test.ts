/**
 * `tasks/bootstrap.sh` among programs that only write down how they were called: only the tests bring a browser, and they run
 * without one where it cannot be had.
 */
import assert from "node:assert/strict";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists } from "../end_to_end/program.ts";

const SCRIPT = fileURLToPath(new URL("../../tasks/bootstrap.sh", import.meta.url));

/** A machine on which Deno and an adapter are there, but no browser. */
interface Machine {
  /** What apt-get does about the package chromium; there is none where undefined. */
  readonly apt?: "installs" | "fails";
  readonly root?: boolean;
  /** A browser that is there already. */
  readonly chromium?: "on the PATH" | "named";
}

/** Runs the script; returns its exit code, what it says, and which packages and tasks it asked for. */
async function bootstrap(words: string[], { apt, root = true, chromium }: Machine) {
  const folder = await Deno.makeTempDir();
  try {
    const bin = join(folder, "bin"), calls = join(folder, "calls");
    Deno.mkdirSync(bin);
    const stub = (name: string, lines: string) =>
      Deno.writeTextFileSync(join(bin, name), `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
    const folders = Deno.env.get("PATH")!.split(delimiter);
    for (const tool of ["cat", "chmod", "dirname", "env", "mktemp", "rm", "sed", "sh"]) {
      Deno.symlinkSync(folders.map((from) => join(from, tool)).find(exists)!, join(bin, tool));
    }
    stub("uname", "echo Linux");
    stub("id", `echo ${root ? 0 : 1000}`);
    stub("deno", `case $1 in --version) echo deno 2.9.6 ;; task) shift 4; echo "task $*" >> ${calls} ;; esac`);
    if (chromium === "on the PATH") stub("chromium", "");
    const install = apt === "installs"
      ? `echo '#!/bin/sh' > ${bin}/chromium; chmod +x ${bin}/chromium`
      : "echo E: Unable to locate package; exit 100";
    if (apt) stub("apt-get", `[ $1 = update ] || { echo "$*" >> ${calls}; ${install}; }`);
    const { code, stderr } = await new Deno.Command("/bin/sh", {
      args: [SCRIPT, ...words],
      env: { PATH: bin, HOME: folder, ...(chromium === "named" ? { CHROMIUM: "/opt/browser" } : {}) },
      clearEnv: true,
    }).output();
    const said = new TextDecoder().decode(stderr);
    return { code, said, calls: Deno.readTextFileSync(calls).trimEnd().split("\n") };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const INSTALL = "install -y --no-install-recommends chromium";

const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, fn, ignore: Deno.build.os !== "linux" });

test("bootstrap test: a missing browser is installed, and the script says so", async () => {
  const { code, said, calls } = await bootstrap(["test"], { apt: "installs" });
  assert.deepEqual([code, calls], [0, [INSTALL, "task test"]]);
  assert.match(said, /no chromium: installing it with apt-get.*\n.*chromium is \S+\/chromium\n/);
  assert.deepEqual((await bootstrap(["test", "docs", "tests"], { apt: "installs" })).calls[0], INSTALL);
});

test("bootstrap test: without a browser to be had the tests run all the same", async () => {
  for (
    const [machine, asked, why] of [
      [{ apt: "fails" }, [INSTALL], /Unable to locate package[^]*cannot install chromium: the test .* is skipped/],
      [{ apt: "installs", root: false }, [], /not root: the test .* is skipped/],
      [{}, [], /no apt-get: the test .* is skipped/],
    ] as const
  ) {
    const { code, said, calls } = await bootstrap(["test"], machine);
    assert.deepEqual([code, calls], [0, [...asked, "task test"]], said);
    assert.match(said, why);
  }
});

test("bootstrap: nothing is installed where a browser is, or for anything but the tests", async () => {
  for (const chromium of ["on the PATH", "named"] as const) {
    assert.deepEqual((await bootstrap(["test"], { apt: "installs", chromium })).calls, ["task test"]);
  }
  for (const words of [["demo"], ["test", "lint"], ["test", "--help"], ["report", "--out", "test"]]) {
    const { code, said, calls } = await bootstrap(words, { apt: "installs" });
    assert.deepEqual([code, calls], [0, [`task ${words.join(" ")}`]]);
    assert.doesNotMatch(said, /chromium/);
  }
});
