/**
 * Figures of generated images out of a network's features: Inception Score (Salimans et al. 2016), Kernel Inception
 * Distance (Bińkowski et al. 2018) and intra-cluster LPIPS (Ojha et al. 2021), in the conventions of the papers that print
 * them. The networks are the caller's; see `features.ts`.
 */

import { UserError } from "../../errors.ts";
import { Random } from "../../random/philox.ts";

/** A figure that was taken several times. */
export interface MeanAndSpread {
  /** Over splits or subsets. */
  readonly mean: number;
  /** Standard deviation over splits or subsets (divided by their count, as torch-fidelity does). */
  readonly std: number;
}

function meanAndSpread(values: readonly number[]): MeanAndSpread {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, std: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length) };
}

/** Refuses features that cannot be compared. */
function checkFeatures(features: readonly ArrayLike<number>[], what: string, length = features[0]?.length): void {
  for (const [i, feature] of features.entries()) {
    if (feature.length !== length) {
      throw new UserError(`${what}: image ${i} has ${feature.length} features, not ${length}`);
    }
    for (let k = 0; k < length; k++) {
      if (!Number.isFinite(feature[k])) throw new UserError(`${what}: a feature of image ${i} is ${feature[k]}`);
    }
  }
}

/**
 * Inception Score: exp of the mean KL divergence between an image's classes and those of its split, over splits; images are
 * shuffled first. torch-fidelity's `--isc`, which the papers use: Inception v3 with the weights of 2015, 1008 logits, ten
 * splits, their mean. Depends on the count of images (the papers: 1000 of a defect).
 * @param logits one row of classes for each image
 * @throws {UserError} with fewer images than splits, or logits that are no numbers
 * @example
 * ```ts
 * import { inceptionScore } from "./generation.ts";
 * const sure = [[50, 0], [0, 50], [50, 0], [0, 50]];
 * const { mean } = inceptionScore(sure, { splits: 1 });
 * if (Math.abs(mean - 2) > 1e-9) throw new Error("two sure classes score 2");
 * ```
 */
export function inceptionScore(
  logits: readonly ArrayLike<number>[],
  { splits = 10, seed = 0 }: { splits?: number; seed?: number } = {},
): MeanAndSpread {
  if (logits.length < splits) {
    throw new UserError(`Inception Score: ${logits.length} images for ${splits} splits`, "generate more images");
  }
  checkFeatures(logits, "Inception Score");
  const order = new Random(seed, "inception-score").shuffle(logits), classes = logits[0].length;
  return meanAndSpread(Array.from({ length: splits }, (_, split) => {
    const part = order.slice(
      Math.floor(split * order.length / splits),
      Math.floor((split + 1) * order.length / splits),
    ).map(logSoftmax);
    const marginal = new Float64Array(classes);
    for (const row of part) for (let k = 0; k < classes; k++) marginal[k] += Math.exp(row[k]) / part.length;
    let divergence = 0;
    for (const row of part) {
      for (let k = 0; k < classes; k++) {
        const p = Math.exp(row[k]);
        if (p > 0) divergence += p * (row[k] - Math.log(marginal[k]));
      }
    }
    return Math.exp(divergence / part.length);
  }));
}

/** log softmax in float64. */
function logSoftmax(row: ArrayLike<number>): Float64Array {
  const values = Float64Array.from(row);
  let top = -Infinity, sum = 0;
  for (const value of values) top = Math.max(top, value);
  for (const value of values) sum += Math.exp(value - top);
  const shift = top + Math.log(sum);
  return values.map((value) => value - shift);
}

/** How a paper draws the subsets of KID. */
export interface KidRule {
  /** How many random subsets are compared. */
  readonly subsets: number;
  /** Size of a subset, of so many real and generated images. */
  readonly subsetSize: (real: number, generated: number) => number;
}

/**
 * Subsets by paper. `magic` and `o2mag` compare with *all* real images of a defect, so with those that were learnt from,
 * on torchvision's Inception: comparable within their tables only, which print the figure times 1000.
 */
export const kidRules: Readonly<Record<"torch-fidelity" | "magic" | "o2mag", KidRule>> = {
  "torch-fidelity": { subsets: 100, subsetSize: () => 1000 },
  magic: { subsets: 10, subsetSize: (real) => Math.min(10, real) },
  o2mag: { subsets: 50, subsetSize: (real) => Math.min(10, real) },
};

/**
 * Kernel Inception Distance: the unbiased squared maximum mean discrepancy under the kernel (1 + x·y/d)³, over random subsets
 * drawn without repetition. May be slightly negative where both sets are alike.
 * @param real one row of d features for each real image (Inception's 2048 after its pooling)
 * @throws {UserError} with fewer images than a subset has
 */
export function kernelInceptionDistance(
  real: readonly ArrayLike<number>[],
  generated: readonly ArrayLike<number>[],
  { rule = kidRules.magic, seed = 0 }: { rule?: KidRule; seed?: number } = {},
): MeanAndSpread {
  const size = rule.subsetSize(real.length, generated.length);
  for (const [what, set] of [["real", real], ["generated", generated]] as const) {
    if (set.length < Math.max(2, size)) {
      throw new UserError(
        `KID: ${set.length} ${what} images, but a subset needs ${Math.max(2, size)}`,
        "use more images or the rule magic, whose subsets are small",
      );
    }
    checkFeatures(set, `KID, ${what} images`, real[0].length);
  }
  if (size < 2) throw new UserError(`KID: subsets of ${size} images have no pairs`);
  const random = new Random(seed, "kid");
  return meanAndSpread(Array.from({ length: rule.subsets }, () => {
    const x = random.shuffle(real).slice(0, size), y = random.shuffle(generated).slice(0, size);
    let within = 0, across = 0;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        if (i !== j) within += kernel(x[i], x[j]) + kernel(y[i], y[j]);
        across += kernel(x[i], y[j]);
      }
    }
    return within / (size * (size - 1)) - 2 * across / (size * size);
  }));
}

function kernel(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let dot = 0;
  for (let k = 0; k < x.length; k++) dot += x[k] * y[k];
  return (1 + dot / x.length) ** 3;
}

/** How a paper forms clusters for IC-LPIPS. */
export interface ClusterRule {
  /** LPIPS backbone that the paper's figures come from. */
  readonly backbone: "vgg" | "alex";
  /** Real images that are cluster centres: the first third (⌊N/3⌋, at least one) or all. */
  readonly centres: "third" | "all";
  /** Which centre an image goes to that is equally near to two. */
  readonly ties: "first" | "last";
  /** Most images of a cluster that are compared. */
  readonly most: number;
  /** Which of a larger cluster these are: drawn at random, or the first in the order of the generated images. */
  readonly choice: "random" | "first";
  /** A cluster of fewer than two images is left out of the mean, or counts as 0. */
  readonly lone: "drop" | "zero";
}

/**
 * Rules by paper: `anomalydiffusion` is the authors' later script, which DualAnoDiff and MAGIC ship. `dfmgan` is the older
 * one (`clpips1k` of metrics/lpips.py), and `seas` that script with VGG and a smaller cap; both count lone clusters as 0, and
 * `-rz` are their second figures without them.
 */
export const clusterRules = {
  anomalydiffusion: { backbone: "vgg", centres: "third", ties: "last", most: 50, choice: "random", lone: "drop" },
  dfmgan: { backbone: "alex", centres: "all", ties: "first", most: 200, choice: "first", lone: "zero" },
  "dfmgan-rz": { backbone: "alex", centres: "all", ties: "first", most: 200, choice: "first", lone: "drop" },
  seas: { backbone: "vgg", centres: "all", ties: "first", most: 140, choice: "first", lone: "zero" },
  "seas-rz": { backbone: "vgg", centres: "all", ties: "first", most: 140, choice: "first", lone: "drop" },
} as const satisfies Record<string, ClusterRule>;

/** IC-LPIPS with what it is made of. */
export interface ClusterResult {
  /** Mean over clusters of the mean distance between two images of one cluster. */
  readonly value: number;
  /** For each centre: images that went to it, and their mean distance (undefined for fewer than two). */
  readonly clusters: readonly { readonly size: number; readonly distance?: number }[];
}

/**
 * Intra-cluster LPIPS of one kind of defect: generated images go to the nearest real image, and the mean LPIPS between images
 * of one cluster tells how varied they are. It looks at whole images, so damage to the background raises it too: print it
 * beside the change outside the mask.
 *
 * LPIPS is a squared distance between weighted, normalised features, so that it is computed from one embedding for each
 * image: the mean over all pairs of n points is (n·Σ|e−c|² − |Σ(e−c)|²) / (n(n−1)/2), for any c. Every image is embedded
 * once; memory is two embeddings for each centre.
 * @param real all real images of the defect, in order of their names
 * @param generated images of the defect, in order of their names: some rules compare the first of a cluster
 * @param embed an image's embedding whose squared distances are LPIPS (see docs/metrics.md)
 * @throws {UserError} without two images in any cluster
 */
export async function intraClusterLpips<Item>(
  real: readonly Item[],
  generated: readonly Item[],
  embed: (item: Item) => Promise<Float32Array> | Float32Array,
  { rule = clusterRules.anomalydiffusion, seed = 0 }: { rule?: ClusterRule; seed?: number } = {},
): Promise<ClusterResult> {
  if (real.length === 0) throw new UserError("IC-LPIPS: no real images to form clusters around");
  const count = rule.centres === "all" ? real.length : Math.max(1, Math.floor(real.length / 3));
  const clusters: { centre: Float32Array; sum: Float32Array; squares: number; taken: number; size: number }[] = [];
  for (const item of real.slice(0, count)) {
    const centre = await embed(item);
    clusters.push({ centre, sum: new Float32Array(centre.length), squares: 0, taken: 0, size: 0 });
  }
  checkFeatures(clusters.map(({ centre }) => centre), "IC-LPIPS, real images");
  // In random order the first `most` of a cluster are a random choice.
  for (const item of rule.choice === "first" ? generated : new Random(seed, "ic-lpips").shuffle(generated)) {
    const e = await embed(item);
    checkFeatures([e], "IC-LPIPS, generated images", clusters[0].centre.length);
    let nearest = clusters[0], least = Infinity;
    for (const cluster of clusters) {
      const distance = squaredDistance(e, cluster.centre);
      if (distance > least || (distance === least && rule.ties === "first")) continue;
      nearest = cluster;
      least = distance;
    }
    nearest.size++;
    if (nearest.taken === rule.most) continue;
    nearest.taken++;
    nearest.squares += least;
    for (let k = 0; k < e.length; k++) nearest.sum[k] += e[k] - nearest.centre[k];
  }
  const results = clusters.map(({ sum, squares, taken: n, size }) => {
    if (n < 2) return { size };
    const zero = new Float32Array(sum.length);
    return { size, distance: Math.max(0, n * squares - squaredDistance(sum, zero)) / (n * (n - 1) / 2) };
  });
  const counted = results.flatMap(({ distance }) => distance ?? (rule.lone === "zero" ? 0 : []));
  if (!results.some(({ distance }) => distance !== undefined)) {
    throw new UserError("IC-LPIPS: no cluster has two images", "generate more images of this defect");
  }
  return { value: counted.reduce((sum, d) => sum + d, 0) / counted.length, clusters: results };
}

function squaredDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += (a[k] - b[k]) ** 2;
  return sum;
}
