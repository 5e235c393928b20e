/** IS, KID and IC-LPIPS against their definitions written out, the rules of the papers, and networks given as ONNX. */
import assert from "node:assert/strict";
import {
  clusterRules,
  inceptionScore,
  intraClusterLpips,
  kernelInceptionDistance,
  kidRules,
} from "../../../src/inspection/metrics/generation.ts";
import { FeatureNetwork } from "../../../src/inspection/metrics/features.ts";
import type { Image } from "../../../src/data/image.ts";
import { resize } from "../../../src/data/resize.ts";
import { UserError } from "../../../src/errors.ts";
import { Random } from "../../../src/random/philox.ts";
import { ndarray } from "../../support/arrays.ts";
import { OnnxGraph } from "../../support/onnx.ts";

const close = (a: number, b: number, what: string, tolerance = 1e-9) =>
  assert.ok(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b)), `${what}: ${a}, expected ${b}`);

const vectors = (count: number, length: number, purpose: string, scale = 1) =>
  Array.from({ length: count }, (_, i) => new Random(4, purpose, i).normals(length).map((v) => v * scale));

/** A promise or call that must end in one clear line. */
async function refuses(run: () => unknown, pattern: RegExp): Promise<void> {
  await assert.rejects(async () => await run(), (error: Error) => {
    assert.ok(error instanceof UserError, `${error}`);
    assert.match(error.message, pattern);
    assert.ok(!error.message.includes("\n"));
    return true;
  });
}

Deno.test("Inception Score: the mean KL divergence of a split, in one split and in ten", () => {
  const logits = vectors(60, 12, "tests/is", 2);
  const probabilities = logits.map((row) => {
    const exp = [...row].map(Math.exp), sum = exp.reduce((a, b) => a + b);
    return exp.map((e) => e / sum);
  });
  const score = (rows: number[][]) => {
    const mean = rows[0].map((_, k) => rows.reduce((sum, row) => sum + row[k], 0) / rows.length);
    const kl = rows.map((row) => row.reduce((sum, p, k) => sum + p * Math.log(p / mean[k]), 0));
    return Math.exp(kl.reduce((a, b) => a + b) / rows.length);
  };
  close(inceptionScore(logits, { splits: 1 }).mean, score(probabilities), "one split");
  const order = new Random(5, "inception-score").shuffle(probabilities);
  const splits = Array.from({ length: 10 }, (_, i) => score(order.slice(6 * i, 6 * i + 6)));
  const mean = splits.reduce((a, b) => a + b) / 10;
  const ten = inceptionScore(logits, { seed: 5 });
  close(ten.mean, mean, "ten splits");
  close(ten.std, Math.sqrt(splits.reduce((sum, s) => sum + (s - mean) ** 2, 0) / 10), "their deviation");
  assert.notEqual(inceptionScore(logits, { seed: 6 }).mean, ten.mean);
  // A split of every image's own: no class stands out of its split.
  close(inceptionScore(logits, { splits: 60 }).mean, 1, "one image in each split");
});

Deno.test("KID: the unbiased estimate over all pairs, by the rules of the papers", () => {
  const real = vectors(7, 5, "tests/kid/real"),
    made = vectors(7, 5, "tests/kid/made").map((v) => v.map((x) => x + 0.5));
  const k = (a: Float32Array, b: Float32Array) => (a.reduce((sum, v, i) => sum + v * b[i], 0) / 5 + 1) ** 3;
  const off = (set: Float32Array[]) => {
    let sum = 0;
    for (const [i, a] of set.entries()) for (const [j, b] of set.entries()) if (i !== j) sum += k(a, b);
    return sum / (set.length * (set.length - 1));
  };
  let across = 0;
  for (const a of real) for (const b of made) across += k(a, b);
  // Ten subsets of min(10, 7) are all seven: no chance is left.
  const { mean, std } = kernelInceptionDistance(real, made, { rule: kidRules.magic });
  close(mean, off(real) + off(made) - 2 * across / 49, "KID", 1e-6);
  assert.ok(std < 1e-12);
  const many = vectors(40, 5, "tests/kid/more");
  const a = kernelInceptionDistance(real, many, { seed: 1 }), b = kernelInceptionDistance(real, many, { seed: 1 });
  assert.deepEqual(a, b);
  assert.notDeepEqual(a, kernelInceptionDistance(real, many, { seed: 2 }));
  assert.equal(kidRules.o2mag.subsets, 50);
});

Deno.test("IC-LPIPS: equals the mean over all pairs of each cluster", async () => {
  const real = vectors(10, 30, "tests/ic/real");
  const made = vectors(25, 30, "tests/ic/made").map((e, i) => e.map((v, k) => v + real[i % 3][k]));
  const distance = (a: Float32Array, b: Float32Array) => a.reduce((sum, v, k) => sum + (v - b[k]) ** 2, 0);
  const members: Float32Array[][] = [[], [], []];
  for (const e of made) {
    const to = real.slice(0, 3).map((c) => distance(e, c));
    members[to.indexOf(Math.min(...to))].push(e);
  }
  const means = members.map((set) => {
    let sum = 0, pairs = 0;
    for (const [i, a] of set.entries()) {
      for (const b of set.slice(i + 1)) {
        sum += distance(a, b);
        pairs++;
      }
    }
    return sum / pairs;
  });
  const { value, clusters } = await intraClusterLpips(real, made, (e) => e);
  assert.deepEqual(clusters.map((c) => c.size), members.map((m) => m.length));
  for (const [i, cluster] of clusters.entries()) close(cluster.distance!, means[i], `cluster ${i}`, 1e-5);
  close(value, means.reduce((a, b) => a + b) / 3, "their mean", 1e-5);
});

Deno.test("IC-LPIPS: the papers' rules differ in centres, ties, caps and lone clusters", async () => {
  const at = (...values: number[]) => values.map((v) => Float32Array.of(v));
  const embed = (e: Float32Array) => e;
  const rule = (name: keyof typeof clusterRules) => ({ rule: clusterRules[name] });
  // Centres 0 and 10; 5 is equally far from both and goes to the later one.
  const real = at(0, 10, 100, 100, 100, 100), made = at(1, 2, 5, 11);
  const official = await intraClusterLpips(real, made, embed, rule("anomalydiffusion"));
  assert.deepEqual(official.clusters, [{ size: 2, distance: 1 }, { size: 2, distance: 36 }]);
  assert.equal(official.value, 18.5);
  const first = { ...clusterRules.anomalydiffusion, ties: "first" as const };
  assert.deepEqual((await intraClusterLpips(real, made, embed, { rule: first })).clusters.map((c) => c.size), [3, 1]);
  // DFMGAN and SeaS: all real images are centres, the first of equally near ones takes all, and four are lone, which count
  // as 0 or not. The networks and the caps are all that they differ in.
  for (const name of ["dfmgan", "seas"] as const) {
    const { value, clusters } = await intraClusterLpips(real, made, embed, rule(name));
    assert.deepEqual(clusters.map((c) => c.size), [3, 1, 0, 0, 0, 0]);
    assert.equal(value, (1 + 16 + 9) / 3 / 6);
    assert.equal((await intraClusterLpips(real, made, embed, rule(`${name}-rz`))).value, (1 + 16 + 9) / 3);
  }
  assert.deepEqual([clusterRules.dfmgan.backbone, clusterRules.dfmgan.most], ["alex", 200]);
  assert.deepEqual([clusterRules.seas.backbone, clusterRules.seas.most], ["vgg", 140]);
  // Their cap keeps the first of a cluster, whatever the seed.
  const kept = { ...clusterRules.dfmgan, most: 2 };
  for (const seed of [1, 2, 3]) {
    const { value, clusters } = await intraClusterLpips(at(0), at(3, 7, 0, 1, 15), embed, { rule: kept, seed });
    assert.deepEqual([value, clusters[0].size], [16, 5]);
  }
  // A cap takes a random part of a cluster, the same for one seed.
  const few = { ...clusterRules.anomalydiffusion, most: 2 }, crowd = at(0, 1, 3, 7, 15, 31);
  const capped = await intraClusterLpips(at(0), crowd, embed, { rule: few, seed: 3 });
  assert.equal(capped.clusters[0].size, 6);
  assert.ok(Number.isInteger(Math.sqrt(capped.value)), `${capped.value} is one pair's squared distance`);
  assert.deepEqual(await intraClusterLpips(at(0), crowd, embed, { rule: few, seed: 3 }), capped);
  // Fewer than three real images: one centre, not none.
  assert.equal((await intraClusterLpips(at(0, 9), at(1, 2), embed)).clusters.length, 1);
});

Deno.test("generation figures: too few images and broken features are one clear line each", async () => {
  const nan = [Float32Array.of(1, NaN), Float32Array.of(1, 2)], fine = vectors(4, 2, "tests/fine");
  await refuses(() => inceptionScore(fine), /4 images for 10 splits/);
  await refuses(() => inceptionScore(nan, { splits: 1 }), /feature of image 0 is NaN/);
  await refuses(
    () => kernelInceptionDistance(fine, fine, { rule: kidRules["torch-fidelity"] }),
    /4 real images, .* 1000/,
  );
  await refuses(() => kernelInceptionDistance(fine.slice(0, 1), fine), /1 real images/);
  await refuses(
    () => kernelInceptionDistance(fine, vectors(4, 3, "tests/other")),
    /generated images: image 0 has 3 features/,
  );
  await refuses(() => intraClusterLpips([], fine, (e) => e), /no real images/);
  await refuses(() => intraClusterLpips(fine, fine.slice(0, 1), (e) => e), /no cluster has two images/);
  await refuses(() => intraClusterLpips(fine, nan, (e) => e), /generated images: a feature of image 0 is NaN/);
});

/** An image of uniform noise. */
function picture(index: number, width: number, height: number): Image {
  const random = new Random(8, "tests/picture", index);
  const data = Uint8ClampedArray.from({ length: width * height * 3 }, () => random.integer(0, 256));
  return { width, height, channels: 3, data };
}

/** A graph of one input [1, channels, 8, 6] that the test describes. */
function graph(
  describe: (g: OnnxGraph, x: string) => string,
  shape = [1, 3, 8, 6],
): { bytes: Uint8Array; output: string } {
  const g = new OnnxGraph(), output = describe(g, g.input(ndarray(shape)));
  return { bytes: g.build(output), output };
}

Deno.test("feature network: RGB planes of 0 … 255 at the graph's size go in, its named output comes out", async () => {
  const { bytes, output } = graph((g, x) => g.node("Flatten", [g.node("Relu", [x])]));
  await using network = await FeatureNetwork.parse(bytes, "test.onnx", { outputs: [output] });
  assert.deepEqual([network.width, network.height], [6, 8]);
  const image = picture(0, 13, 20), small = resize(image, 6, 8, "bilinear");
  const { [output]: found } = await network.run(image);
  const expected = [0, 1, 2].flatMap((c) => Array.from({ length: 48 }, (_, i) => small.data[3 * i + c]));
  assert.deepEqual([...found], expected);
});

Deno.test("feature network: feeds IC-LPIPS", async () => {
  const { bytes, output } = graph((g, x) => g.node("Flatten", [g.node("GlobalAveragePool", [x])]));
  await using network = await FeatureNetwork.parse(bytes, "test.onnx", { outputs: [output] });
  const images = Array.from({ length: 4 }, (_, i) => picture(i, 6, 8));
  const means = images.map(({ data }) =>
    [0, 1, 2].map((c) => data.filter((_, k) => k % 3 === c).reduce((a, b) => a + b) / 48)
  );
  const [, , a, b] = means, expected = a.reduce((sum, v, c) => sum + (v - b[c]) ** 2, 0);
  const embed = async (image: Image) => (await network.run(image))[output];
  const { value } = await intraClusterLpips(images.slice(0, 2), images.slice(2), embed);
  close(value, expected, "squared distance of the two channel means", 1e-4);
});

Deno.test("feature network: what is not such a network is one clear line", async () => {
  await refuses(() => FeatureNetwork.open("no/such.onnx", { outputs: [] }), /no\/such.onnx: no such file/);
  await refuses(
    () => FeatureNetwork.parse(Uint8Array.of(1, 2, 3), "broken.onnx", { outputs: [] }),
    /broken.onnx: not a usable ONNX model/,
  );
  const relu = graph((g, x) => g.node("Relu", [x]));
  await refuses(
    () => FeatureNetwork.parse(relu.bytes, "relu.onnx", { outputs: ["logits"] }),
    /relu.onnx: it has no output "logits", only value/,
  );
  const grey = graph((g, x) => g.node("Relu", [x]), [1, 1, 8, 6]);
  await refuses(
    () => FeatureNetwork.parse(grey.bytes, "grey.onnx", { outputs: [grey.output] }),
    /grey.onnx: it must take one float32 input of shape \[1, 3/,
  );
  const roots = graph((g, x) => g.node("Sqrt", [g.node("Neg", [x])]));
  await using network = await FeatureNetwork.parse(roots.bytes, "roots.onnx", { outputs: [roots.output] });
  await refuses(() => network.run(picture(1, 6, 8)), /roots.onnx: output .* has the value NaN/);
});
