/**
 * A network that turns images into features, as an ONNX file that the user gives: Inception v3 for IS and KID, LPIPS for
 * IC-LPIPS (docs/metrics.md tells how to export them). Runs by onnxruntime-web on the processor.
 */

import * as ort from "onnxruntime-web";
import type { Image } from "../../data/image.ts";
import { resize } from "../../data/resize.ts";
import { UserError } from "../../errors.ts";

/** What to expect of a network. */
export interface FeatureOptions {
  /** Names of the outputs that are used; each must be there, or with `some` at least one. */
  readonly outputs: readonly string[];
  /** Whether some of the outputs are enough; those that are there are used. */
  readonly some?: boolean;
  /** Side of the square that images are brought to, where the graph leaves it open. */
  readonly size?: number;
}

/**
 * An image network. It takes one float32 input [1, 3, H, W]: RGB, 0 … 255. Whatever else it needs (range, mean and deviation,
 * its own resizing) is inside the graph. Images are brought to H × W by Pillow's bilinear filter, as the papers' scripts do.
 *
 * ```ts ignore
 * await using inception = await FeatureNetwork.open("inception.onnx", { outputs: ["features", "logits"] });
 * const { logits } = await inception.run(image);
 * ```
 */
export class FeatureNetwork implements AsyncDisposable {
  private constructor(
    readonly label: string,
    /** Size of its input. */
    readonly width: number,
    readonly height: number,
    readonly outputs: readonly string[],
    readonly session: ort.InferenceSession,
  ) {}

  /**
   * Opens a network.
   * @throws {UserError} if the file is missing or no ONNX model, or has other inputs and outputs than are needed
   */
  static async open(path: string, options: FeatureOptions): Promise<FeatureNetwork> {
    let bytes: Uint8Array;
    try {
      bytes = await Deno.readFile(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) throw new UserError(`${path}: no such file`);
      throw error;
    }
    return await FeatureNetwork.parse(bytes, path, options);
  }

  /** Reads a network from memory; see {@linkcode FeatureNetwork.open}. */
  static async parse(
    bytes: Uint8Array,
    label: string,
    { outputs: wanted, some = false, size = 256 }: FeatureOptions,
  ): Promise<FeatureNetwork> {
    ort.env.wasm.numThreads = 1; // no workers, and the same sums on every machine
    ort.env.logLevel = "error";
    let session: ort.InferenceSession;
    try {
      session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    } catch (error) {
      const reason = (error as Error).message.split("\n")[0];
      throw new UserError(`${label}: not a usable ONNX model: ${reason}`, "export it as docs/metrics.md says", {
        cause: error,
      });
    }
    const refuse = async (what: string): Promise<never> => {
      await session.release();
      throw new UserError(`${label}: ${what}`, "export it as docs/metrics.md says");
    };
    const outputs = wanted.filter((name) => session.outputNames.includes(name));
    if (some ? outputs.length === 0 : outputs.length < wanted.length) {
      const missing = some ? wanted.join('" or "') : wanted.find((name) => !outputs.includes(name));
      return await refuse(`it has no output "${missing}", only ${session.outputNames.join(", ")}`);
    }
    const [input, ...others] = session.inputMetadata;
    const shape = input?.isTensor ? input.shape : [], open = (axis: unknown) => typeof axis !== "number" || axis < 0;
    const fits = others.length === 0 && input?.isTensor && input.type === "float32" && shape.length === 4 &&
      (open(shape[0]) || shape[0] === 1) && (open(shape[1]) || shape[1] === 3);
    if (!fits) return await refuse("it must take one float32 input of shape [1, 3, height, width]");
    const side = (axis: unknown) => (open(axis) ? size : axis as number);
    return new FeatureNetwork(label, side(shape[3]), side(shape[2]), outputs, session);
  }

  /**
   * Runs the network on one image.
   * @returns the values of each output, flat
   * @throws {UserError} if the network fails or gives what is no number
   */
  async run(image: Image): Promise<Record<string, Float32Array>> {
    return Object.fromEntries((await this.#run(image)).map(([name, { data }]) => [name, data]));
  }

  /**
   * Runs the network on one image for features that lie on a grid: outputs [1, channels, height, width].
   * @returns each output as [height, width, channels], in the order of {@linkcode FeatureNetwork.outputs}
   * @throws {UserError} as {@linkcode FeatureNetwork.run}, or if an output has another shape
   */
  async maps(image: Image): Promise<{ height: number; width: number; channels: number; data: Float32Array }[]> {
    return (await this.#run(image)).map(([name, { data, dims }]) => {
      const [count, channels, height, width] = dims, size = height * width;
      if (dims.length !== 4 || count !== 1 || size < 1) {
        throw new UserError(
          `${this.label}: output "${name}" is [${dims.join(", ")}], not [1, channels, height, width]`,
          "name outputs of its convolutions",
        );
      }
      const last = new Float32Array(data.length);
      for (let c = 0; c < channels; c++) for (let i = 0; i < size; i++) last[i * channels + c] = data[c * size + i];
      return { height, width, channels, data: last };
    });
  }

  async #run(image: Image): Promise<[name: string, value: { data: Float32Array; dims: readonly number[] }][]> {
    const { width, height } = this, { data } = resize(image, width, height, "bilinear"), plane = width * height;
    const planes = new Float32Array(3 * plane); // channels first, as PyTorch has them
    for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) planes[c * plane + i] = data[3 * i + c];
    let results: ort.InferenceSession.OnnxValueMapType;
    try {
      const input = new ort.Tensor("float32", planes, [1, 3, height, width]);
      results = await this.session.run({ [this.session.inputNames[0]]: input }, [...this.outputs]);
    } catch (error) {
      const reason = (error as Error).message.split("\n")[0];
      throw new UserError(`${this.label}: the network fails: ${reason}`, "export it as docs/metrics.md says", {
        cause: error,
      });
    }
    return this.outputs.map((name) => {
      const { data, type, dims } = results[name];
      if (!(data instanceof Float32Array)) {
        throw new UserError(`${this.label}: output "${name}" is ${type}, not float32`);
      }
      const wrong = data.findIndex((value) => !Number.isFinite(value));
      if (wrong >= 0) throw new UserError(`${this.label}: output "${name}" has the value ${data[wrong]}`);
      return [name, { data, dims }];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.session.release();
  }
}
