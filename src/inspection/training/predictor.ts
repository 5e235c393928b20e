/** Running a trained inspection network: score maps of the localisation U-Net, class probabilities of ResNet-34. */

import { UserError } from "../../errors.ts";
import type { Gpu } from "../../gpu/device.ts";
import { compile, type Compiled } from "../../graph/compile.ts";
import { slice } from "../../graph/ops/shape.ts";
import { softmax } from "../../graph/ops/softmax.ts";
import type { Tensor } from "../../graph/tensor.ts";
import { input } from "../../graph/variable.ts";
import type { Parameters } from "../../nn/parameters.ts";
import { type NetworkConfig, networkGraph } from "../models/network.ts";
import { imageBatch, type InspectionSample } from "./samples.ts";

/** A network on a device, with the running statistics. Dispose of it to free its buffers. */
export class Predictor implements Disposable {
  readonly #program: Compiled<{ result: Tensor }>;
  readonly #batch: number;
  readonly #each: number;

  /**
   * @param side S of the images
   * @param batch images worked on at once; the results do not depend on it
   */
  constructor(gpu: Gpu, config: NetworkConfig, parameters: Parameters, side: number, batch = 4) {
    const { logits } = networkGraph(config, parameters, input("image", [batch, side, side, 3]), "running");
    const shares = softmax(logits), result = config.kind === "localisation" ? slice(shares, 3, 1, 2) : shares;
    this.#program = compile(gpu, { result });
    this.#batch = batch;
    this.#each = result.size / batch;
  }

  /**
   * For each image the defect's probability of every pixel [S · S], or the probability of every class [classes].
   * @throws UserError where a result is no number
   */
  async *predict(
    samples: readonly Pick<InspectionSample, "path" | "pixels">[],
  ): AsyncGenerator<{ index: number; values: Float32Array }> {
    for (let from = 0; from < samples.length; from += this.#batch) {
      const part = samples.slice(from, from + this.#batch);
      const { result } = await this.#program.run({ image: imageBatch(part, this.#batch) });
      for (let b = 0; b < part.length; b++) {
        const values = result.slice(b * this.#each, (b + 1) * this.#each);
        if (!values.every(Number.isFinite)) {
          throw new UserError(`${part[b].path}: the network's scores are not numbers`, "train it again");
        }
        yield { index: from + b, values };
      }
    }
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
  }
}
