/** Where Vulkan is looked for, and what is said where a part of it is missing. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BACKEND, hasVulkanLoader, missingAdapter, vulkanDrivers, vulkanPlaces } from "../../tasks/adapter.ts";

/** The first bytes of a library of 64 bits. */
const LIBRARY = Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0);

/** Folders for a loader and for drivers; `DENO_WEBGPU_BACKEND` is as a run sets it. */
function test(name: string, fn: (folder: string) => void): void {
  Deno.test({
    name,
    ignore: Deno.build.os !== "linux", // other systems bring their driver along
    fn() {
      const folder = Deno.makeTempDirSync({ prefix: "adapter-" }), before = Deno.env.get(BACKEND);
      for (const sub of ["lib", "icd.d"]) Deno.mkdirSync(join(folder, sub));
      Deno.env.set(BACKEND, "vulkan");
      try {
        fn(folder);
      } finally {
        if (before === undefined) Deno.env.delete(BACKEND);
        else Deno.env.set(BACKEND, before);
        Deno.removeSync(folder, { recursive: true });
      }
    },
  });
}

const placesIn = (folder: string) => ({ loaders: [join(folder, "lib")], drivers: [join(folder, "icd.d")] });

test("each missing part has its own line, with what to install", (folder) => {
  const places = placesIn(folder), install = /apt-get install libvulkan1 mesa-vulkan-drivers/;
  const line = () => {
    const { message, hint } = missingAdapter(places);
    assert.match(hint!, install);
    return message;
  };
  assert.equal(line(), "no graphics adapter: the Vulkan loader (libvulkan.so.1) is not installed");
  Deno.writeFileSync(join(folder, "lib/libvulkan.so.1"), LIBRARY);
  assert.equal(line(), "no graphics adapter: no Vulkan driver is installed");
  Deno.writeTextFileSync(join(folder, "icd.d/readme.txt"), "");
  assert.equal(line(), "no graphics adapter: no Vulkan driver is installed");
  for (const name of ["radeon_icd.json", "lvp_icd.json"]) Deno.writeTextFileSync(join(folder, "icd.d", name), "{}");
  assert.equal(
    line(),
    "no graphics adapter: the installed Vulkan drivers (lvp_icd.json, radeon_icd.json) find no device",
  );
  Deno.env.set(BACKEND, "gl");
  assert.equal(missingAdapter(places).message, `no graphics adapter was found with ${BACKEND}=gl`);
});

test("what is no library of this kind is no loader", (folder) => {
  const places = placesIn(folder), path = join(folder, "lib/libvulkan.so.1");
  for (
    const bytes of [[], [0x7f, 0x45], [...new TextEncoder().encode("/* GNU ld script */")], [
      0x7f,
      0x45,
      0x4c,
      0x46,
      1,
      1,
    ]]
  ) {
    Deno.writeFileSync(path, Uint8Array.from(bytes));
    assert.equal(hasVulkanLoader(places), false, `${bytes}`);
  }
  Deno.removeSync(path);
  Deno.symlinkSync("libvulkan.so.1.3", path); // its target was removed
  assert.equal(hasVulkanLoader(places), false);
  Deno.writeFileSync(join(folder, "lib/libvulkan.so.1.3"), LIBRARY);
  assert.equal(hasVulkanLoader(places), true);
  Deno.removeSync(path);
  Deno.mkdirSync(path);
  assert.equal(hasVulkanLoader(places), false);
  assert.match(missingAdapter(places).message, /the Vulkan loader .* is not installed/);
});

test("folders are those of the Vulkan loader, in its order, and variables replace or add to them", () => {
  const drivers = (variables: Record<string, string>) => vulkanPlaces((name) => variables[name]).drivers;
  assert.deepEqual(drivers({ HOME: "/home/me" }), [
    "/home/me/.config/vulkan/icd.d",
    "/etc/xdg/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/home/me/.local/share/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
  ]);
  assert.deepEqual(drivers({}), [
    "/etc/xdg/vulkan/icd.d",
    "/usr/local/etc/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/local/share/vulkan/icd.d",
    "/usr/share/vulkan/icd.d",
  ]);
  const moved = { XDG_CONFIG_HOME: "/c", XDG_CONFIG_DIRS: "/d:/e", XDG_DATA_HOME: "/f", XDG_DATA_DIRS: "/g" };
  assert.deepEqual(
    drivers({ ...moved, VK_ADD_DRIVER_FILES: "/own.json" }),
    ["/own.json", ...["/c", "/d", "/e", "/usr/local/etc", "/etc", "/f", "/g"].map((root) => `${root}/vulkan/icd.d`)],
  );
  assert.deepEqual(drivers({ ...moved, VK_ICD_FILENAMES: "/old.json" }), ["/old.json"]);
  assert.deepEqual(drivers({ VK_DRIVER_FILES: "/a.json:/b", VK_ICD_FILENAMES: "/old.json" }), ["/a.json", "/b"]);
  assert.ok(vulkanPlaces((name) => name === "LD_LIBRARY_PATH" ? "/own:/other" : undefined).loaders.includes("/other"));
});

test("a driver may be given as a file or as a folder, and is named once", (folder) => {
  const file = join(folder, "icd.d/lvp.json");
  Deno.writeTextFileSync(file, "{}");
  assert.deepEqual(vulkanDrivers({ ...placesIn(folder), drivers: [file, join(folder, "icd.d"), "/no/such.json"] }), [
    file,
  ]);
});
