/**
 * A model folder: `config.json`, one or more `*.safetensors` with PyTorch names and layouts, and `vocab.txt`.
 * Opening it reads the headers only; a tensor is read when it is asked for.
 */

import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { UserError } from "../errors.ts";
import { checkModelConfig, type ModelConfig } from "./config.ts";
import { type Dtype, Safetensors } from "./safetensors.ts";
import type { WeightSource } from "./source.ts";

/** Where to get a model, said with every error about a missing one. */
const hint = "give the folder of a model: config.json, *.safetensors and vocab.txt";

/** An open model folder. Dispose of it (`using`) to close its files. */
export class ModelFolder implements WeightSource, Disposable {
  readonly #files: readonly Safetensors[];
  readonly #where = new Map<string, Safetensors>();
  #sha256: string | undefined;

  /** Use `openModelFolder`. */
  constructor(
    readonly path: string,
    readonly config: ModelConfig,
    /** Word pieces; the line number is the id. */
    readonly vocab: readonly string[],
    files: readonly Safetensors[],
  ) {
    this.#files = files;
    for (const file of files) {
      for (const name of file.names()) {
        const other = this.#where.get(name);
        if (other) {
          throw new UserError(
            `${path}: tensor "${name}" is in ${basename(other.label)} and in ${basename(file.label)}`,
          );
        }
        this.#where.set(name, file);
      }
    }
  }

  /** All tensor names, file by file. */
  names(): string[] {
    return [...this.#where.keys()];
  }

  /** Whether the folder holds a tensor of that name. */
  has(name: string): boolean {
    return this.#where.has(name);
  }

  /** Stored element type and shape, without reading the values. */
  info(name: string): { dtype: Dtype; shape: readonly number[] } {
    return this.#file(name).info(name);
  }

  /** One tensor as float32, with its stored type and shape. */
  tensor(name: string): { shape: readonly number[]; dtype: Dtype; data: Float32Array } {
    const file = this.#file(name);
    return { ...file.info(name), data: file.float32(name) };
  }

  /** One tensor as float32 in PyTorch's layout, its shape checked. */
  get(name: string, shape: readonly number[]): Float32Array {
    const file = this.#file(name), found = file.info(name).shape;
    if (found.length !== shape.length || found.some((axis, i) => axis !== shape[i])) {
      throw new UserError(
        `${this.path}: tensor "${name}": expected [${shape.join(", ")}], found [${found.join(", ")}]`,
        "config.json and the weights do not belong together",
      );
    }
    return file.float32(name);
  }

  /**
   * SHA-256 over the bytes of `config.json`, of each `*.safetensors` by name, and of `vocab.txt`: the model's identity in
   * manifests. Reads the whole folder on first use.
   */
  get sha256(): string {
    if (this.#sha256 === undefined) {
      const hash = createHash("sha256"), chunk = new Uint8Array(1 << 20);
      for (
        const path of [
          join(this.path, "config.json"),
          ...this.#files.map((file) => file.label),
          join(this.path, "vocab.txt"),
        ]
      ) {
        using file = Deno.openSync(path);
        for (let count; (count = file.readSync(chunk)) !== null;) hash.update(chunk.subarray(0, count));
      }
      this.#sha256 = hash.digest("hex");
    }
    return this.#sha256;
  }

  #file(name: string): Safetensors {
    const file = this.#where.get(name);
    if (!file) throw new UserError(`${this.path}: no tensor "${name}"`, "the model folder is not complete");
    return file;
  }

  [Symbol.dispose](): void {
    for (const file of this.#files) file.close();
  }
}

/** A text file of the folder, or one clear line. */
function readText(folder: string, name: string): string {
  try {
    return Deno.readTextFileSync(join(folder, name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${folder}: ${name} is missing`, hint);
    throw error;
  }
}

/**
 * Opens a model folder.
 * @throws {UserError} if the folder or one of its files is missing, or the configuration is not a valid one
 */
export function openModelFolder(path: string): ModelFolder {
  let entries: string[];
  try {
    entries = [...Deno.readDirSync(path)].map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: no such model folder`, hint);
    if (error instanceof Deno.errors.NotADirectory) throw new UserError(`${path}: not a folder`, hint);
    throw error;
  }
  const label = join(path, "config.json");
  const text = readText(path, "config.json");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new UserError(`${label}: not valid JSON`);
  }
  const config = checkModelConfig(json, label);
  const vocab = readText(path, "vocab.txt").split(/\r?\n/);
  if (vocab.at(-1) === "") vocab.pop();
  if (vocab.length !== config.text.vocabSize) {
    throw new UserError(
      `${join(path, "vocab.txt")}: expected ${config.text.vocabSize} word pieces, found ${vocab.length}`,
    );
  }
  const names = entries.filter((name) => name.endsWith(".safetensors")).sort();
  if (names.length === 0) throw new UserError(`${path}: no *.safetensors file`, hint);
  const files: Safetensors[] = [];
  try {
    for (const name of names) files.push(Safetensors.open(join(path, name)));
    return new ModelFolder(path, config, vocab, files);
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}
