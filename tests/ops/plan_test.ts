/** The planner: dead nodes, fusion, the places of values in memory, and the report, all without a GPU; then the same on one. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { conv2d, linear } from "../../src/graph/ops/gemm.ts";
import { batchNorm, batchNormInference, groupNorm, layerNorm } from "../../src/graph/ops/norms.ts";
import { adam, assign } from "../../src/graph/ops/optimise.ts";
import { add, affine, gelu, leakyRelu, mul, relu, silu, square, sub } from "../../src/graph/ops/pointwise.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { reshape } from "../../src/graph/ops/shape.ts";
import { apply, defineOp, f32 } from "../../src/graph/op.ts";
import { plan } from "../../src/graph/plan.ts";
import type { Tensor } from "../../src/graph/tensor.ts";
import { constant, input, Variable } from "../../src/graph/variable.ts";
import { Random } from "../../src/random/philox.ts";
import { conv2dForward } from "../reference/gemm.ts";
import { batchNormInferenceForward, groupNormForward } from "../reference/norms.ts";
import { addForward, reluForward, siluForward } from "../reference/pointwise.ts";
import { assertClose, difference, map, type NDArray, normals, uniforms } from "../support/arrays.ts";
import { gpu } from "../support/ops.ts";

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });
const kernels = (outputs: Tensor[], effects: Tensor[] = []) =>
  plan(outputs, effects).launches.map((l) => l.kernel.name);

test("nodes that nothing wants are dropped", () => {
  const x = input("x", [8]), unused = input("unused", [8]);
  const y = silu(x);
  square(y);
  add(y, unused);
  const planned = plan([y]);
  assert.equal(planned.report.launches, 1);
  assert.deepEqual([...planned.leaves.keys()], [x]);
  assert.equal(planned.report.leafBytes, 32);
});

test("bias, time embedding, residual and activation run in the GEMM's launch", () => {
  const x = input("x", [2, 6, 6, 8]), w = input("w", [3, 3, 8, 12]);
  const bias = input("bias", [12]), time = input("time", [2, 1, 1, 12]), residual = input("r", [2, 6, 6, 12]);
  const convolved = conv2d(x, w, { padding: [1, 1, 1, 1] });
  const y = silu(add(add(residual, add(convolved, bias)), time));
  assert.deepEqual(kernels([y]), ["gemm"]);
  assert.equal(plan([y]).report.flops, 2 * 2 * 36 * 9 * 8 * 12);
  // The same chain, whose middle someone else reads, is cut there.
  assert.deepEqual(kernels([y, convolved]).length, 5);
  assert.equal(kernels([y, square(convolved)]).length, 6);
});

test("a leaky ReLU runs in the GEMM's launch with its slope, in narrow tiles too, and so does its gradient's sign", async () => {
  for (const columns of [12, 5]) {
    const leaf = (a: NDArray) => constant(Float32Array.from(a.data), a.shape);
    const x = leaf(normals([6, 8], "x")), w = leaf(normals([8, columns], "w")), z = linear(x, w);
    const y = leakyRelu(z, 0.1), [dx] = gradient(sum(square(y)), [x]);
    assert.deepEqual(kernels([y]), ["gemm"]);
    // The gradient reads y, so that z is never stored.
    const whole = plan([y, dx]);
    assert.equal(whole.launches.filter(({ kernel: { name } }) => name === "gemm").length, 2);
    using fused = compile(gpu, { y, dx });
    using apart = compile(gpu, { z });
    const found = await fused.run(), { z: before } = await apart.run();
    const slope = Math.fround(0.1), expected = before.map((v) => (v > 0 ? v : slope * v));
    assert.deepEqual(found.y, expected);
    assert.ok(expected.some((v) => v < 0) && expected.some((v) => v > 0));
    const wd = normals([8, columns], "w").data;
    found.dx.forEach((v, i) => {
      const row = Math.floor(i / 8), k = i % 8;
      let sum = 0;
      for (let c = 0; c < columns; c++) {
        const at = row * columns + c;
        sum += 2 * expected[at] * (before[at] > 0 ? 1 : 0.1) * wd[k * columns + c];
      }
      assert.ok(Math.abs(v - sum) < 1e-4 * Math.max(1, Math.abs(sum)), `${v} for ${sum}`);
    });
  }
  assert.throws(() => leakyRelu(input("x", [4]), -0.1), /slope of -0.1 would turn signs around/);
});

test("what cannot be fused is not: a fourth added tensor, a sum with itself, a stretched result", () => {
  const x = input("x", [4, 8]), w = input("w", [8, 8]), more = [0, 1, 2, 3].map((i) => input(`a${i}`, [4, 8]));
  assert.deepEqual(kernels([more.reduce(add, linear(x, w))]), ["gemm", "pointwise"]);
  const y = linear(x, w);
  assert.deepEqual(kernels([add(y, y)]), ["gemm", "pointwise"]);
  assert.deepEqual(kernels([add(linear(x, w), input("many", [3, 4, 8]))]), ["gemm", "pointwise"]);
  assert.deepEqual(kernels([sub(linear(x, w), more[0])]), ["gemm", "pointwise"]);
});

test("a sum of two products is added by one of them", async () => {
  const x = normals([5, 8], "x"), w = [normals([8, 4], "w0"), normals([8, 4], "w1")];
  const leaves = [x, ...w].map((a) => constant(Float32Array.from(a.data), a.shape));
  const parts = [linear(leaves[0], leaves[1]), linear(leaves[0], leaves[2])], y = silu(add(parts[0], parts[1]));
  assert.deepEqual(kernels([y]), ["gemm", "gemm"]);
  using fused = compile(gpu, { y });
  using apart = compile(gpu, { y, a: parts[0], b: parts[1] });
  assert.deepEqual((await fused.run()).y, (await apart.run()).y);
});

test("fusion changes launches, not results", async () => {
  for (const channels of [8, 7]) {
    const [x, w, bias, r] = [[2, 5, 5, channels], [3, 3, channels, channels], [channels], [2, 5, 5, channels]].map((
      shape,
      i,
    ) => {
      const values = normals(shape, `leaf ${i}`);
      return constant(Float32Array.from(values.data), shape);
    });
    const a = conv2d(x, w, { padding: [1, 1, 1, 1] }), b = add(a, bias), c = silu(b), y = add(r, c);
    using fused = compile(gpu, { y });
    using apart = compile(gpu, { a, b, c, y });
    assert.equal(fused.report.launches, 1);
    assert.equal(apart.report.launches, 4);
    const shape = y.shape;
    const one = (await fused.run()).y, many = (await apart.run()).y;
    assertClose({ shape, data: one }, { shape, data: many }, 1e-6, `${channels} channels`);
  }
});

/** Leaves with values, and those values. */
function leaves(shapes: Record<string, number[]>) {
  const values = Object.entries(shapes).map(([name, shape]) =>
    [name, name === "variance" ? uniforms(shape, name, 0.3, 2) : normals(shape, name)] as const
  );
  const tensors = values.map(([name, { shape, data }]) => [name, constant(Float32Array.from(data), shape)] as const);
  return { tensors: Object.fromEntries(tensors), values: Object.fromEntries(values) };
}

test("a norm by given statistics runs in the convolution's launch, with bias, residual and activation", async () => {
  const padding = [1, 1, 1, 1] as const, same = { stride: [1, 1], padding } as const, eps = 1e-5;
  for (const channels of [8, 5]) {
    const c = [channels], image = [2, 5, 6, channels];
    const shapes = { x: [2, 5, 6, 4], w: [3, 3, 4, channels], bias: c, gamma: c, beta: c, mean: c, variance: c };
    const { tensors: t, values: v } = leaves({ ...shapes, residual: image });
    const convolved = conv2d(t.x, t.w, { padding }), biased = add(convolved, t.bias);
    const normed = (x: Tensor, activation?: "silu" | "relu") =>
      batchNormInference(x, t.gamma, t.beta, t.mean, t.variance, { eps, activation });
    const expected = (bias: boolean) =>
      batchNormInferenceForward(
        conv2dForward(v.x, v.w, bias ? v.bias : undefined, same),
        v.gamma,
        v.beta,
        v.mean,
        v.variance,
        { eps },
      );
    const cases: [string, Tensor, NDArray][] = [
      ["alone", normed(convolved), expected(false)],
      ["with its own activation", normed(convolved, "relu"), reluForward(expected(false))],
      ["and silu", silu(normed(convolved)), siluForward(expected(false))],
      ["of a sum with a bias, and silu", normed(biased, "silu"), siluForward(expected(true))],
      [
        "and residual and relu",
        relu(add(normed(convolved), t.residual)),
        reluForward(addForward(expected(false), v.residual)),
      ],
    ];
    for (const [name, y, wanted] of cases) {
      assert.deepEqual(kernels([y]), ["gemm"], name);
      const before = y.node.inputs[0], label = `${channels} channels, ${name}`;
      using fused = compile(gpu, { y });
      using apart = compile(gpu, { y, convolved, before });
      assert.ok(apart.report.launches > 1);
      const one = (await fused.run()).y, many = (await apart.run()).y;
      assertClose({ shape: image, data: one }, wanted, 2e-5, label);
      assertClose({ shape: image, data: one }, { shape: image, data: many }, 1e-6, label);
    }
    // 8 storage buffers hold no more than bias, norm and product; a norm's own tables are no results to normalise.
    const crowded = relu(add(normed(biased), t.residual));
    assert.deepEqual(kernels([crowded]), ["gemm", "pointwise", "pointwise"]);
    assert.ok(plan([crowded]).launches.every(({ buffers }) => buffers.length <= 8));
    assert.deepEqual(kernels([normed(convolved), convolved]), ["gemm", "norm_apply"]);
    // A norm over the batch has statistics to make first.
    assert.ok(kernels([batchNorm(convolved, t.gamma, t.beta, { eps }).y]).includes("norm_apply"));
    const row = input("row", [channels]), made = linear(input("a", [channels]), input("b", [channels, channels]));
    assert.deepEqual(kernels([batchNormInference(row, made, row, row, row, { eps })]), ["gemm", "norm_apply"]);
  }
});

test("an activation runs in the norm before it, where nothing else reads that", async () => {
  const eps = 1e-5, groups = 2, norm = ["norm_columns", "norm_groups", "norm_apply"];
  for (const channels of [8, 6]) {
    const c = [channels], image = [2, 5, 6, channels];
    const { tensors: t, values: v } = leaves({ x: image, gamma: c, beta: c, mean: c, variance: c });
    const grouped = groupNorm(t.x, t.gamma, t.beta, { groups, eps });
    const given = batchNormInference(t.x, t.gamma, t.beta, t.mean, t.variance, { eps });
    const batch = batchNorm(t.x, t.gamma, t.beta, { eps });
    const reference = groupNormForward(v.x, v.gamma, v.beta, { groups, eps });
    const stated = batchNormInferenceForward(v.x, v.gamma, v.beta, v.mean, v.variance, { eps });
    for (
      const [y, normed, wanted, names] of [
        [silu(grouped), grouped, siluForward(reference), norm],
        [relu(grouped), grouped, reluForward(reference), norm],
        [silu(given), given, siluForward(stated), ["norm_apply"]],
      ] as const
    ) {
      assert.deepEqual(kernels([y]), names);
      using fused = compile(gpu, { y });
      using apart = compile(gpu, { y, normed });
      assert.deepEqual(kernels([y, normed]), [...names, "pointwise"]);
      const one = (await fused.run()).y;
      assertClose({ shape: image, data: one }, wanted, 1e-5, y.node.label);
      assert.equal(difference({ shape: image, data: one }, { shape: image, data: (await apart.run()).y }).maxAbs, 0);
    }
    // Others' reads keep the norm's result: the gradient of SiLU does so, that of ReLU reads its own.
    const [bySilu] = gradient(sum(silu(grouped)), [t.x]), y = relu(batch.y), [byRelu] = gradient(sum(square(y)), [t.x]);
    assert.ok(kernels([silu(grouped), bySilu]).filter((name) => name === "pointwise").length > 0);
    const training = compile(gpu, { y, byRelu, mean: batch.mean });
    const apart = compile(gpu, { y, byRelu, mean: batch.mean, normed: batch.y });
    assert.equal(training.report.launches, apart.report.launches - 1);
    const one = await training.run(), many = await apart.run();
    for (const name of ["y", "byRelu", "mean"] as const) assert.deepEqual(one[name], many[name]);
    training[Symbol.dispose]();
    apart[Symbol.dispose]();
    // The kernel knows SiLU and ReLU, each once; a layer norm's none.
    assert.deepEqual(kernels([gelu(grouped)]), [...norm, "pointwise"]);
    assert.deepEqual(kernels([leakyRelu(grouped, 0.1)]), [...norm, "pointwise"]);
    assert.deepEqual(kernels([silu(silu(grouped))]), [...norm, "pointwise"]);
    assert.deepEqual(kernels([silu(groupNorm(t.x, t.gamma, t.beta, { groups, eps, activation: "relu" }))]), [
      ...norm,
      "pointwise",
    ]);
    assert.deepEqual(kernels([silu(layerNorm(t.x, t.gamma, t.beta, { eps }))]), ["norm_rows", "pointwise"]);
  }
});

test("a chain needs two places, whatever its length", () => {
  let y: Tensor = input("x", [1000]);
  for (let i = 0; i < 10; i++) y = silu(y);
  const { report, slotBytes } = plan([y]);
  assert.equal(slotBytes.length, 2);
  assert.equal(report.activationBytes, 2 * 4096); // 4000 bytes, padded to 256
  assert.equal(report.lowerBoundBytes, 2 * 4096);
});

test("values that live at the same time never share a place", () => {
  // Sizes grow and shrink, and early values are read late: a network with skips, forward and backward.
  const weights: Variable[] = [], skips: Tensor[] = [];
  let h: Tensor = input("x", [3, 16]), width = 16;
  const layer = (out: number) => {
    const w = Variable.zeros(`w${weights.length}`, [width, out]);
    weights.push(w);
    h = silu(square(linear(h, w.tensor)));
    width = out;
  };
  for (const out of [32, 64, 128]) {
    layer(out);
    skips.push(h);
  }
  for (const out of [128, 64, 32]) {
    layer(out);
    h = mul(h, skips.pop()!);
  }
  const loss = sum(h), grads = gradient(loss, weights.map((w) => w.tensor));
  const planned = plan([loss, ...grads]);
  const leaves = new Set(planned.leaves.values()), results = new Set(planned.results);
  const lives = new Map<unknown, { first: number; last: number; slot: number; bytes: number }>();
  planned.launches.forEach((launch, i) => {
    for (const value of launch.buffers) {
      if (leaves.has(value)) continue;
      const life = lives.get(value);
      if (life) life.last = i;
      else lives.set(value, { first: i, last: i, slot: planned.slots.get(value)!, bytes: value.bytes });
    }
  });
  for (const [value, life] of lives) if (results.has(value as never)) life.last = planned.launches.length;
  const all = [...lives.values()];
  for (const a of all) {
    assert.ok(planned.slotBytes[a.slot] >= a.bytes);
    for (const b of all) {
      if (a === b || a.slot !== b.slot) continue;
      assert.ok(a.last < b.first || b.last < a.first, `slot ${a.slot} holds two values at once`);
    }
  }
  const apart = all.reduce((bytes, { bytes: own }) => bytes + own, 0);
  const { activationBytes, lowerBoundBytes } = planned.report;
  // The gradients are results and keep their places; what is left to share are the values on the way to them.
  const kept = all.reduce((bytes, { bytes: own, last }) => bytes + (last === planned.launches.length ? own : 0), 0);
  assert.ok(activationBytes - kept < 0.6 * (apart - kept), `${activationBytes - kept} of ${apart - kept}`);
  assert.ok(lowerBoundBytes <= activationBytes && activationBytes < 1.2 * lowerBoundBytes);
});

test("random graphs give on the GPU what they give in float64", async () => {
  for (let seed = 0; seed < 6; seed++) {
    const random = new Random(seed, "tests/graphs");
    const start = normals([3, 8], "x", seed), w = normals([8, 8], "w", seed);
    const product = constant(Float32Array.from(w.data), w.shape);
    const nodes: { tensor: Tensor; value: NDArray }[] = [
      { tensor: constant(Float32Array.from(start.data), start.shape), value: start },
    ];
    for (let i = 0; i < 40; i++) {
      const a = nodes[random.integer(0, nodes.length)], b = nodes[random.integer(Math.max(0, i - 4), nodes.length)];
      const kind = random.integer(0, 4);
      if (kind === 0) {
        nodes.push({
          tensor: add(a.tensor, b.tensor),
          value: map(a.value, (v, i) => v + b.value.data[i]),
        });
      } else if (kind === 1) nodes.push({ tensor: affine(b.tensor, 0.5, 1), value: map(b.value, (v) => 0.5 * v + 1) });
      else if (kind === 2) {
        nodes.push({ tensor: silu(b.tensor), value: map(b.value, (v) => v / (1 + Math.exp(-v))) });
      } else {
        const value = map(b.value, (_, i) => {
          let total = 0;
          for (let k = 0; k < 8; k++) total += 0.2 * b.value.data[i - i % 8 + k] * w.data[8 * k + i % 8];
          return total;
        });
        nodes.push({ tensor: linear(affine(b.tensor, 0.2), product), value });
      }
    }
    const wanted = [nodes.length - 1, 20, 33];
    using program = compile(gpu, Object.fromEntries(wanted.map((i) => [`n${i}`, nodes[i].tensor])));
    const result = await program.run() as Record<string, Float32Array>;
    for (const i of wanted) {
      assertClose({ shape: [3, 8], data: result[`n${i}`] }, nodes[i].value, 2e-5, `seed ${seed} node ${i}`);
    }
  }
});

test("a reshape costs nothing, and outputs may be leaves and views", async () => {
  const x = input("x", [2, 6]), view = reshape(x, [3, -1]);
  assert.deepEqual(view.shape, [3, 4]);
  assert.deepEqual(plan([view]).report.launches, 0);
  using program = compile(gpu, { x, view });
  const feed = { x: Float32Array.from(normals([2, 6], "x").data) };
  const result = await program.run(feed);
  assert.equal(difference({ shape: [12], data: result.view }, { shape: [12], data: feed.x }).maxAbs, 0);
  assert.throws(() => reshape(x, [5, 2]), /cannot become \[5,2\]/);
});

test("an effect runs after what reads the old value, and without a reader of its own", async () => {
  using w = new Variable("w", [4, 4], Float32Array.from(normals([4, 4], "w").data));
  const [m, v] = [Variable.zeros("m", [4, 4]), Variable.zeros("v", [4, 4])];
  using copy = Variable.zeros("copy", [4, 4]);
  const x = input("x", [3, 4]), y = silu(linear(x, w.tensor)), loss = sum(square(y));
  const [slope] = gradient(loss, [w.tensor]);
  const effects = [assign(copy, w.tensor), adam({ parameter: w, gradient: slope, m, v, hyper: input("hyper", [8]) })];
  assert.equal(kernels([loss], effects).filter((name) => name === "optimise").length, 2);
  using program = compile(gpu, { y }, effects);
  const before = await w.read();
  const feed = { x: new Float32Array(12).fill(0.5), hyper: Float32Array.of(0.1, 0.9, 0.99, 1e-8, 0, 0.1, 0.01, 0.01) };
  const { y: result } = await program.run(feed);
  const column = [0, 1, 2, 3].map((n) => [0, 1, 2, 3].reduce((total, k) => total + 0.5 * before[4 * k + n], 0));
  const expected = column.map((z) => z / (1 + Math.exp(-z)));
  assertClose({ shape: [4], data: result.subarray(0, 4) }, { shape: [4], data: expected }, 1e-5, "old weights");
  assert.deepEqual(await copy.read(), before);
  // Adam's first step moves every weight by the rate, against the sign of its gradient.
  const after = await w.read();
  after.forEach((value, i) => assert.ok(Math.abs(Math.abs(value - before[i]) - 0.1) < 1e-3, `weight ${i}`));
  for (const variable of [m, v]) variable[Symbol.dispose]();
});

test("a launch with more than 65,535 workgroups in a dimension is refused by name", () => {
  const wide = defineOp<null>({
    name: "wide",
    shape: ([x]) => [f32(x.shape)],
    lower: ({ inputs, outputs, launch }) =>
      launch({
        kernel: { name: "wide", source: "", bindings: ["read", "read_write"] },
        buffers: [...inputs, ...outputs],
        workgroups: [65536, 1, 1],
      }),
  });
  assert.throws(() => plan(apply(wide, [input("x", [1])], null)), /wide: 65536,1,1 workgroups/);
});

test("a run without an input, or with one of a wrong size or type, says which", () => {
  using program = compile(gpu, { y: affine(input("x", [2, 3]), 2) });
  assert.throws(() => program.step({}), /input "x" \[2,3\] was not given/);
  assert.throws(() => program.step({ x: new Float32Array(5) }), /input "x": 5 values for shape \[2,3\]/);
  assert.throws(() => program.step({ x: new Uint32Array(6) }), /input "x" is f32/);
  assert.throws(() => compile(gpu, { y: add(input("x", [2]), input("x", [2])) }), /two inputs are named "x"/);
});
