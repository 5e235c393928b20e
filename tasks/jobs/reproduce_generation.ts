/**
 * Figures of generated pictures for the paper's Table 1 by networks that the user gives: Inception Score over all pictures of
 * a part, and IC-LPIPS of each kind of defect, averaged over the part's kinds.
 */

import { loadImage } from "../../src/data/image.ts";
import { scanGenerated } from "../../src/inspection/training/generated.ts";
import { FeatureNetwork } from "../../src/inspection/metrics/features.ts";
import { inceptionScore, intraClusterLpips } from "../../src/inspection/metrics/generation.ts";
import type { Context } from "../command.ts";
import type { Kind } from "./dataset.ts";

/** ONNX files of the networks (docs/metrics.md). */
export interface GenerationNetworks {
  readonly inception?: string;
  readonly lpips?: string;
}

/**
 * Measures the pairs of a folder.
 * @param kinds kinds of defect, whose real images are the clusters' centres
 * @returns by part: `IS`, `IC-LPIPS`, or what a network was given for
 */
export async function generationFigures(
  pairs: string,
  kinds: readonly Kind[],
  networks: GenerationNetworks,
  seed: number,
  context: Context,
): Promise<Record<string, Record<string, number>>> {
  const result: Record<string, Record<string, number>> = {};
  const parts = [...new Set(kinds.map(({ part }) => part.name))];
  const generated = scanGenerated(pairs, { parts }), images = generated.length;
  for (const part of parts) result[part] = {};
  if (networks.inception) {
    await using network = await FeatureNetwork.open(networks.inception, { outputs: ["logits"] });
    const progress = context.progress({ label: "Inception Score", total: images, unit: "image" });
    let done = 0;
    for (const part of parts) {
      const logits: Float32Array[] = [];
      for (const { image } of generated.filter((pair) => pair.part === part)) {
        context.signal.throwIfAborted();
        logits.push((await network.run(await loadImage(image))).logits);
        progress.update(++done);
      }
      result[part]["IS"] = inceptionScore(logits, { seed }).mean;
    }
    progress.finish();
  }
  if (networks.lpips) {
    await using network = await FeatureNetwork.open(networks.lpips, { outputs: ["embedding"] });
    const progress = context.progress({ label: "IC-LPIPS", total: images, unit: "image" });
    let done = 0;
    for (const part of parts) {
      const values: number[] = [];
      for (const { defect } of kinds.filter((kind) => kind.part.name === part)) {
        const mine = generated.filter((pair) => pair.part === part && pair.defect === defect.name);
        const embed = async (path: string) => {
          context.signal.throwIfAborted();
          return (await network.run(await loadImage(path))).embedding;
        };
        const { value } = await intraClusterLpips(
          defect.pairs.map(({ image }) => image),
          mine.map(({ image }) => image),
          embed,
          { seed },
        );
        values.push(value);
        progress.update(done += mine.length);
      }
      result[part]["IC-LPIPS"] = values.reduce((sum, value) => sum + value, 0) / values.length;
    }
    progress.finish();
  }
  return result;
}
