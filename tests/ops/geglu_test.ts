/** GEGLU and PReLU on the GPU against their float64 references. */
import { geglu, prelu } from "../../src/graph/ops/geglu.ts";
import { gegluBackward, gegluForward, preluBackward, preluForward } from "../reference/pointwise.ts";
import { normals } from "../support/arrays.ts";
import { type OpCase, testOps } from "../support/ops.ts";

const cases: OpCase[] = [];
for (const shape of [[1, 2], [3, 14], [2, 5, 16], [7, 1, 24], [4300000, 2]]) {
  cases.push({
    name: `geglu [${shape}]`,
    inputs: [normals(shape, "x")],
    build: geglu,
    forward: gegluForward,
    backward: shape[0] > 1e6 ? undefined : (dy, x) => [gegluBackward(dy, x)],
  });
}
for (const shape of [[1, 1], [3, 7], [2, 5, 4], [3, 4, 4, 64]]) {
  cases.push({
    name: `prelu [${shape}]`,
    inputs: [normals(shape, "x"), normals([shape.at(-1)!], "slope")],
    build: prelu,
    forward: preluForward,
    backward: (dy, x, slope) => {
      const grads = preluBackward(dy, x, slope);
      return [grads.x, grads.slope];
    },
  });
}

testOps(cases);
