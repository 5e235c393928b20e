/** Ops that change only the shape. */

import { apply, defineOp, require } from "../op.ts";
import { sameShape, type Shape, sizeOf, type Tensor } from "../tensor.ts";

const reshapeOp = defineOp<{ shape: Shape }>({
  name: "reshape",
  alias: true,
  shape([x], { shape }) {
    require(sizeOf(shape) === x.size, "reshape", `cannot become [${shape}]`, [x]);
    return [{ shape, dtype: x.dtype }];
  },
  gradient: ({ inputs: [x], grads }) => [() => reshape(grads[0]!, x.shape)],
  lower() {},
});

/** The same numbers under another shape; costs nothing. One size may be −1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const known = shape.reduce((n, m) => (m === -1 ? n : n * m), 1);
  const full = shape.map((n) => (n === -1 ? x.size / known : n));
  return sameShape(full, x.shape) ? x : apply(reshapeOp, [x], { shape: full })[0];
}
