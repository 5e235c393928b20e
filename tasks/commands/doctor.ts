/** `doctor`: what this machine offers to the program, and what to install where something is missing. */
import { defineCommand } from "../command.ts";
import { BACKEND, hasVulkanLoader, INSTALL, missingAdapter, requireAdapter, vulkanDrivers } from "../adapter.ts";
import { partsFolder, smallModelFolder } from "../assets.ts";
import { UserError } from "../../src/errors.ts";
import { isSoftware } from "../../src/gpu/device.ts";
import { describeMatch, matchTensors } from "../../src/weights/convert.ts";
import { openModelFolder } from "../../src/weights/folder.ts";
import { expectedTensors } from "../../src/weights/import/expected.ts";

/** Limits that decide which models and resolutions fit. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** WebGPU's guaranteed minimum of what the program needs. */
const NEEDED = { maxStorageBuffersPerShaderStage: 8, maxComputeInvocationsPerWorkgroup: 256 };

export default defineCommand({
  name: "doctor",
  summary: "Checks adapter, driver, limits, memory and models; says what to install.",
  details: "Exits with 1 when the program could not run here. Nothing is written.",
  runFolder: false,
  gpu: false,
  flags: {
    model: { type: "list", value: "folder", description: "Model folders to look at besides the one that ships." },
    json: { type: "boolean", description: "Print one JSON object instead of lines.", default: false, transient: true },
  },
  examples: ["", "--model models/ldm-large", "--json"],
  async run(options, context) {
    const adapter = await requireAdapter().catch(() => undefined);
    const models = [smallModelFolder(), ...options.model ?? []].map(inspectModel);
    const facts = { ...machine(), adapter: adapter && describe(adapter), models, parts: parts() };
    const problems = models.filter(({ problem }) => problem).map(({ problem }) => problem);
    const short = adapter
      ? Object.entries(NEEDED).filter(([name, least]) => adapter.limits[name as keyof typeof NEEDED] < least)
      : [];
    if (options.json) context.print(JSON.stringify({ ...facts, problems }, null, 2));
    else for (const line of report(facts)) context.print(line);
    if (!adapter) throw missingAdapter();
    if (short.length) {
      throw new UserError(
        `the adapter offers less than needed: ${short.map(([name, n]) => `${name} ${n}`).join(", ")}`,
      );
    }
    if (problems.length) {
      throw new UserError(problems.join("; "), "a model folder holds config.json, *.safetensors and vocab.txt");
    }
    if (!options.json) context.print("ready");
  },
});

interface ModelFacts {
  folder: string;
  name?: string;
  resolution?: number;
  megabytes?: number;
  problem?: string;
}

/** What a model folder holds, judged as a command does that opens it, and by names and shapes of its tensors; no weights are read. */
function inspectModel(folder: string): ModelFacts {
  try {
    using model = openModelFolder(folder);
    const { config } = model, names = [...Deno.readDirSync(folder)].map(({ name }) => name);
    const bytes = names.filter((name) => name.endsWith(".safetensors"))
      .reduce((sum, name) => sum + Deno.statSync(`${folder}/${name}`).size, 0);
    const [wrong] = describeMatch({ ...matchTensors(model, expectedTensors(config)), unexpected: [] });
    const problem = wrong && `${folder}: ${wrong}`;
    return { folder, name: config.name, resolution: config.resolution, megabytes: round(bytes / 1e6), problem };
  } catch (error) {
    return { folder, problem: error instanceof Error ? error.message : String(error) };
  }
}

/** Names of the embedded parts. */
function parts(): string[] {
  try {
    return [...Deno.readDirSync(partsFolder())].filter((e) => e.isDirectory).map((e) => e.name).sort();
  } catch {
    return [];
  }
}

function machine() {
  const memory = Deno.systemMemoryInfo();
  return {
    deno: Deno.version.deno,
    system: `${Deno.build.os} ${Deno.build.arch}, ${Deno.osRelease()}`,
    cores: navigator.hardwareConcurrency,
    memoryGiB: { total: round(memory.total / 2 ** 30), available: round(memory.available / 2 ** 30) },
    backend: Deno.env.get(BACKEND) ?? "chosen by Deno",
    vulkan: Deno.build.os === "linux" ? { loader: hasVulkanLoader(), drivers: vulkanDrivers() } : undefined,
  };
}

function describe(adapter: GPUAdapter) {
  const { info } = adapter;
  return {
    name: info.description || info.device || "unnamed",
    vendor: VENDORS[info.vendor] ?? info.vendor,
    software: isSoftware(info),
    limits: Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])) as Record<
      typeof LIMITS[number],
      number
    >,
    features: [...adapter.features].sort(),
    f16: adapter.features.has("shader-f16"),
  };
}

/** PCI vendor numbers as Deno reports them, in decimal. */
const VENDORS: Record<string, string> = { 4318: "NVIDIA", 4098: "AMD", 32902: "Intel", 4203: "Apple", 65541: "Mesa" };

type Facts = ReturnType<typeof machine> & {
  adapter?: ReturnType<typeof describe>;
  models: ModelFacts[];
  parts: string[];
};

function report(facts: Facts): string[] {
  const row = (name: string, value: string) => `${name.padEnd(12)}${value}`;
  const lines = [
    row("Deno", facts.deno),
    row("System", `${facts.system}, ${facts.cores} cores`),
    row("Memory", `${facts.memoryGiB.total} GiB, ${facts.memoryGiB.available} GiB free`),
    row("Backend", `${facts.backend} (${BACKEND})`),
  ];
  if (facts.vulkan) {
    lines.push(row("Vulkan", facts.vulkan.loader ? "loader installed" : `loader (libvulkan.so.1) missing: ${INSTALL}`));
    for (const driver of facts.vulkan.drivers) lines.push(row("", driver));
    if (!facts.vulkan.drivers.length) lines.push(row("", `no driver: ${INSTALL}, or the vendor's driver`));
  }
  if (facts.adapter) {
    const { name, vendor, software, limits, features, f16 } = facts.adapter;
    lines.push(row("Adapter", `${name} (${vendor})${software ? ", a software adapter: correct, but slow" : ""}`));
    for (const [limit, value] of Object.entries(limits)) lines.push(row("", `${limit} ${size(limit, value)}`));
    lines.push(row("Features", features.join(", ") || "none"));
    lines.push(
      row("f16", f16 ? "arithmetic, where --precision f16 asks for it (shader-f16)" : "no arithmetic (no shader-f16)"),
    );
    if (software) {
      lines.push(
        row("", "for speed use a graphics card: install its driver; choose one of several by VK_DRIVER_FILES"),
      );
    }
  } else lines.push(row("Adapter", "none"));
  for (const model of facts.models) {
    const { folder, name, resolution, megabytes, problem } = model;
    lines.push(row("Model", problem ?? `${name}, ${resolution} pixels, ${megabytes} MB (${folder})`));
  }
  lines.push(row("Parts", facts.parts.join(", ") || "none embedded"));
  return lines;
}

function size(limit: string, value: number): string {
  if (!limit.endsWith("Size")) return String(value);
  return value >= 2 ** 20 ? `${round(value / 2 ** 20)} MiB` : `${round(value / 1024)} KiB`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
