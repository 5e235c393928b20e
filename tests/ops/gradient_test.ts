/** What gradient() builds: sums over paths, only the nodes that are needed, and clear errors. */
import assert from "node:assert/strict";
import { compile } from "../../src/graph/compile.ts";
import { gradient } from "../../src/graph/gradient.ts";
import { linear } from "../../src/graph/ops/gemm.ts";
import { groupNorm } from "../../src/graph/ops/norms.ts";
import { assign } from "../../src/graph/ops/optimise.ts";
import { add, affine, mul, silu, square } from "../../src/graph/ops/pointwise.ts";
import { sum } from "../../src/graph/ops/reduce.ts";
import { reshape } from "../../src/graph/ops/shape.ts";
import { apply, defineOp, f32 } from "../../src/graph/op.ts";
import { type Node, scope, type Tensor } from "../../src/graph/tensor.ts";
import { constant, filled, input, Variable } from "../../src/graph/variable.ts";
import { linearBackward, linearForward } from "../reference/gemm.ts";
import { addForward, siluBackward, siluForward } from "../reference/pointwise.ts";
import { assertClose, map, type NDArray, normals, sumTo } from "../support/arrays.ts";
import { gpu } from "../support/ops.ts";

const test = (name: string, fn: () => void | Promise<void>) =>
  Deno.test({ name, fn, sanitizeOps: false, sanitizeResources: false });

/** Names of the ops that tensors are made from, with how often each occurs. */
function census(tensors: readonly Tensor[]): Record<string, number> {
  const seen = new Set<Node>(), stack = tensors.map((t) => t.node), count: Record<string, number> = {};
  while (stack.length) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    count[node.op.name] = (count[node.op.name] ?? 0) + 1;
    stack.push(...node.inputs.map((t) => t.node));
  }
  return count;
}

const tensorOf = (x: NDArray) => constant(Float32Array.from(x.data), x.shape);

test("two layers and a loss: every gradient against the references", async () => {
  const [x, w1, b1, w2] = [normals([5, 7], "x"), normals([7, 6], "w1"), normals([6], "b1"), normals([6, 3], "w2")];
  const leaves = [x, w1, b1, w2].map(tensorOf);
  const loss = sum(square(linear(silu(add(linear(leaves[0], leaves[1]), leaves[2])), leaves[3])));
  const grads = gradient(loss, leaves);
  using program = compile(gpu, Object.fromEntries(grads.map((g, i) => [`g${i}`, g])));
  const result = await program.run() as Record<string, Float32Array>;

  const z = addForward(linearForward(x, w1), b1), h = siluForward(z), y = linearForward(h, w2);
  const top = linearBackward(map(y, (value) => 2 * value), h, w2);
  const dz = siluBackward(top.x, z), bottom = linearBackward(dz, x, w1);
  [bottom.x, bottom.w, sumTo(dz, [6]), top.w].forEach((expected, i) =>
    assertClose({ shape: expected.shape, data: result[`g${i}`] }, expected, 4e-5, `gradient ${i}`)
  );
});

test("frozen weights cost no weight gradients, and what lies before the variable no gradients at all", () => {
  const weights = Array.from({ length: 6 }, (_, i) => Variable.zeros(`w${i}`, [8, 8]));
  let h: Tensor = input("x", [4, 8]);
  const embedding = Variable.zeros("embedding", [8]);
  weights.forEach((w, i) => {
    h = silu(linear(h, w.tensor));
    if (i === 2) h = add(h, embedding.tensor);
  });
  const loss = sum(h);
  const slim = census(gradient(loss, [embedding.tensor]));
  assert.equal(slim.linearWeight, undefined);
  assert.equal(slim.linearInput, 3);
  assert.equal(slim.siluBackward, 3);
  const full = census(gradient(loss, weights.map((w) => w.tensor)));
  assert.equal(full.linearWeight, 6);
  assert.equal(full.linearInput, 5, "the input needs none");
});

test("a norm's gradient makes its parameters' gradients only where they are wanted", () => {
  const x = input("x", [2, 4, 4, 8]), gamma = filled([8], 1), beta = filled([8], 0);
  const loss = sum(groupNorm(x, gamma, beta, { groups: 2, eps: 1e-5 }));
  assert.equal(census(gradient(loss, [x])).normParameters, undefined);
  const all = census(gradient(loss, [x, gamma, beta]));
  assert.deepEqual([all.normSums, all.normParameters, all.normInput], [1, 1, 1], "what they share is made once");
});

test("paths add up: a tensor that is read three times, and one that multiplies itself", async () => {
  const x = constant(Float32Array.of(2, -3, 0.5));
  const y = add(add(mul(x, x), affine(x, 5)), x); // y′ = 2x + 6
  const [dx] = gradient(y, [x]);
  using program = compile(gpu, { dx });
  assert.deepEqual([...(await program.run()).dx], [10, 0, 7]);
});

test("gradients of tensors in the middle, of the loss itself, and with a seed", async () => {
  const x = constant(Float32Array.of(1, 2, 3)), seed = constant(Float32Array.of(1, 10, 100));
  const middle = square(x), loss = affine(reshape(middle, [3, 1]), 3);
  const [dLoss, dMiddle, dx] = gradient(loss, [loss, middle, x], reshape(seed, [3, 1]));
  using program = compile(gpu, { dLoss, dMiddle, dx });
  const result = await program.run();
  assert.deepEqual([...result.dLoss], [1, 10, 100]);
  assert.deepEqual([...result.dMiddle], [3, 30, 300]);
  assert.deepEqual([...result.dx], [6, 120, 1800]);
  assert.deepEqual(dLoss.shape, [3, 1]);
});

test("only the output that matters is followed where an op has several", async () => {
  const pair = defineOp<null>({
    name: "pair",
    shape: ([x]) => [f32(x.shape), f32(x.shape)],
    gradient: ({ grads: [first, second] }) => {
      assert.equal(first, undefined);
      return [() => affine(second!, 7)];
    },
    lower() {},
  });
  const x = constant(Float32Array.of(1));
  const [dx] = gradient(affine(apply(pair, [x], null)[1], 3), [x]);
  using program = compile(gpu, { dx });
  assert.deepEqual([...(await program.run()).dx], [21]);
});

test("a chain of 20,000 ops is walked without recursion", () => {
  const x = input("x", [1]);
  let y: Tensor = x;
  for (let i = 0; i < 20_000; i++) y = affine(y, 0.5);
  assert.equal(census(gradient(y, [x])).affineBackward, 20_000);
});

test("errors say what is wrong", () => {
  const x = input("x", [2, 3]), other = input("other", [2, 3]), variable = Variable.zeros("v", [2, 3]);
  assert.throws(() => gradient(sum(x), [other]), /does not depend on input \[2, 3\]/);
  assert.throws(() => gradient(x, [x], filled([3, 2], 1)), /seed \[3,2\] for a loss of shape \[2,3\]/);
  const effect = scope("decoder", () => scope("copy", () => assign(variable, x)));
  assert.throws(() => gradient(effect, [x]), /decoder\.copy\.assign has none/);
  const wrong = defineOp<null>({
    name: "wrong",
    shape: ([x]) => [f32(x.shape)],
    gradient: () => [() => filled([1], 0)],
    lower() {},
  });
  assert.throws(() => gradient(apply(wrong, [x], null)[0], [x]), /wrong, input 0: \[1\] for \[2,3\]/);
});
