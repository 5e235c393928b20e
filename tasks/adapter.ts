/**
 * Finding the graphics adapter. On Linux the backend is fixed to Vulkan before WebGPU is first touched: without a Vulkan
 * driver Deno would otherwise fall back to OpenGL in silence, with a fraction of the limits.
 */
import { UserError } from "../src/errors.ts";

/** Folders in which distributions keep libraries. */
const LOADER_FOLDERS = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
  "/lib/x86_64-linux-gnu",
  "/lib64",
  "/usr/local/lib",
];

/** The variable that Deno reads on the first `requestAdapter()`. */
export const BACKEND = "DENO_WEBGPU_BACKEND";

/** Chooses Vulkan on Linux unless the user chose otherwise. Call before anything touches `navigator.gpu`. */
export function selectBackend(): void {
  if (Deno.build.os !== "linux") return;
  if (!Deno.env.get(BACKEND)) Deno.env.set(BACKEND, "vulkan");
  // Mesa looks for a display server there and complains on stderr when the variable is missing; none is needed.
  if (!Deno.env.get("XDG_RUNTIME_DIR")) Deno.env.set("XDG_RUNTIME_DIR", "/tmp");
}

/** Where Vulkan is looked for on Linux. */
export interface VulkanPlaces {
  /** Folders that may hold the loader. */
  readonly loaders: readonly string[];
  /** Driver descriptions, or folders of them, as the loader reads them. */
  readonly drivers: readonly string[];
}

/**
 * The places that these environment variables lead to, in the loader's order (LoaderDriverInterface.md in its repository).
 * @param env value of a variable; this process's where left out
 */
export function vulkanPlaces(env: (name: string) => string | undefined = (name) => Deno.env.get(name)): VulkanPlaces {
  const paths = (name: string, usual = "") => (env(name) || usual).split(":").filter(Boolean);
  const atHome = (path: string) => env("HOME") ? `${env("HOME")}/${path}` : "";
  const roots = [
    ...paths("XDG_CONFIG_HOME", atHome(".config")),
    ...paths("XDG_CONFIG_DIRS", "/etc/xdg"),
    "/usr/local/etc",
    "/etc",
    ...paths("XDG_DATA_HOME", atHome(".local/share")),
    ...paths("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
  ];
  const chosen = paths("VK_DRIVER_FILES", env("VK_ICD_FILENAMES"));
  return {
    loaders: [...LOADER_FOLDERS, ...paths("LD_LIBRARY_PATH")],
    drivers: chosen.length ? chosen : [...paths("VK_ADD_DRIVER_FILES"), ...roots.map((root) => `${root}/vulkan/icd.d`)],
  };
}

/** Vulkan driver descriptions (JSON files) that the loader would find. */
export function vulkanDrivers({ drivers } = vulkanPlaces()): string[] {
  const found = drivers.flatMap((path) => {
    const info = statOf(path);
    if (!info?.isDirectory) return info ? [path] : [];
    return list(path).filter((name) => name.endsWith(".json")).map((name) => `${path}/${name}`);
  });
  return [...new Set(found)];
}

/** Whether the Vulkan loader `libvulkan.so.1` is installed: a library of 64 bits, not what a broken installation left. */
export function hasVulkanLoader({ loaders } = vulkanPlaces()): boolean {
  return loaders.some((folder) => isLibrary(`${folder}/libvulkan.so.1`));
}

/** Whether a file begins as an ELF file of 64 bits. */
function isLibrary(path: string): boolean {
  try {
    using file = Deno.openSync(path);
    const start = new Uint8Array(5);
    return file.readSync(start) === 5 && start.every((byte, i) => byte === [0x7f, 0x45, 0x4c, 0x46, 2][i]);
  } catch {
    return false;
  }
}

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}

function list(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

/**
 * Why there is no adapter, and what to install; one line each.
 * @param places where Vulkan is looked for
 */
export function missingAdapter(places = vulkanPlaces()): UserError {
  if (Deno.build.os !== "linux") {
    return new UserError("no graphics adapter was found", "install or update the graphics driver, then run doctor");
  }
  const backend = Deno.env.get(BACKEND);
  if (backend && !backend.split(",").includes("vulkan")) {
    return new UserError(
      `no graphics adapter was found with ${BACKEND}=${backend}`,
      `unset ${BACKEND}, or set it to vulkan`,
    );
  }
  if (!hasVulkanLoader(places)) {
    return new UserError(
      "no graphics adapter: the Vulkan loader (libvulkan.so.1) is not installed",
      `${INSTALL}; on other systems install the package with the Vulkan loader`,
    );
  }
  const drivers = vulkanDrivers(places).map((path) => path.split("/").pop());
  if (!drivers.length) {
    return new UserError(
      "no graphics adapter: no Vulkan driver is installed",
      `for NVIDIA install the vendor's driver (with its Vulkan part), for AMD, Intel or a software adapter: ${INSTALL}`,
    );
  }
  return new UserError(
    `no graphics adapter: the installed Vulkan drivers (${drivers.join(", ")}) find no device`,
    `for a software adapter: ${INSTALL}; in a container, pass the device through (/dev/dri, or the NVIDIA runtime with NVIDIA_DRIVER_CAPABILITIES=all)`,
  );
}

/** The command that brings a software adapter, and AMD's and Intel's drivers, on Debian and Ubuntu. */
export const INSTALL = "apt-get install libvulkan1 mesa-vulkan-drivers";

/**
 * The adapter that a run would use.
 * @throws UserError that says what to install where there is none
 */
export async function requireAdapter(): Promise<GPUAdapter> {
  selectBackend();
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw missingAdapter();
  return adapter;
}
