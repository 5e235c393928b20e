/**
 * Finding the graphics adapter. On Linux the backend is fixed to Vulkan before WebGPU is first touched: without a Vulkan
 * driver Deno would otherwise fall back to OpenGL in silence, with a fraction of the limits.
 */
import { UserError } from "../src/errors.ts";

/** Folders in which the Vulkan loader looks for drivers. */
const ICD_FOLDERS = [
  "/etc/vulkan/icd.d",
  "/usr/share/vulkan/icd.d",
  "/usr/local/share/vulkan/icd.d",
  "/etc/vulkan/implicit_icd.d",
];
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

/** Vulkan driver descriptions (JSON files) that the loader would find. */
export function vulkanDrivers(): string[] {
  const chosen = Deno.env.get("VK_DRIVER_FILES") ?? Deno.env.get("VK_ICD_FILENAMES");
  if (chosen) return chosen.split(":").filter((path) => path && exists(path));
  return ICD_FOLDERS.flatMap((folder) =>
    list(folder).filter((name) => name.endsWith(".json")).map((n) => `${folder}/${n}`)
  );
}

/** Whether the Vulkan loader `libvulkan.so.1` is installed. */
export function hasVulkanLoader(): boolean {
  const searched = [...LOADER_FOLDERS, ...(Deno.env.get("LD_LIBRARY_PATH") ?? "").split(":").filter(Boolean)];
  return searched.some((folder) => exists(`${folder}/libvulkan.so.1`));
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function list(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch {
    return [];
  }
}

/** Why there is no adapter, and what to install; one line each. */
export function missingAdapter(): UserError {
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
  if (!hasVulkanLoader()) {
    return new UserError(
      "no graphics adapter: the Vulkan loader (libvulkan.so.1) is not installed",
      `${INSTALL}; on other systems install the package with the Vulkan loader`,
    );
  }
  if (!vulkanDrivers().length) {
    return new UserError(
      "no graphics adapter: no Vulkan driver is installed",
      `for NVIDIA install the vendor's driver (with its Vulkan part), for AMD, Intel or a software adapter: ${INSTALL}`,
    );
  }
  return new UserError(
    `no graphics adapter: the installed Vulkan drivers (${
      vulkanDrivers().map((path) => path.split("/").pop()).join(", ")
    }) find no device`,
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
