/**
 * Rows picked by index: embedding tables, and learned vectors put into a sequence of tokens. The gradient is a gather too
 * (each row of the table adds up what was picked from it, in order), so it needs no atomics and is the same every time.
 */

import source from "../../../shaders/gather.wgsl" with { type: "text" };
import { apply, defineOp, f32, grid, kernel, type Lowering, require, type Value } from "../op.ts";
import { sameShape, type Shape, type Tensor } from "../tensor.ts";
import { reshape } from "./shape.ts";

const gatherKernel = kernel("gather", source, ["read", "read", "read_write"]);

function launchGather({ launch }: Pick<Lowering, "launch">, buffers: readonly Value[], options: {
  readonly y: Shape;
  readonly rows: number;
  readonly picks: number;
  readonly half?: boolean;
  readonly backward?: boolean;
}): void {
  const [batch, length, width] = options.y, vector = width % 4 === 0, unit = vector ? 4 : 1;
  const count = batch * length * width / unit;
  launch({
    kernel: gatherKernel,
    defines: { VECTOR: vector, HALF: options.half ?? false, BACKWARD: options.backward ?? false },
    buffers,
    uniforms: [count, width / unit, options.rows, options.picks],
    workgroups: grid(count),
  });
}

const gatherOp = defineOp<null>({
  name: "gatherRows",
  shape(inputs) {
    const [x, index] = inputs;
    require(x.rank === 3 && x.dtype !== "u32", "gatherRows", "needs x [B, N, D], f32 or f16", inputs);
    require(
      index.dtype === "u32" && index.rank === 2 && index.shape[0] === x.shape[0],
      "gatherRows",
      "needs index [B, M], u32",
      inputs,
    );
    return [f32([x.shape[0], index.shape[1], x.shape[2]])];
  },
  gradient: ({ inputs: [x, index], grads: [dy] }) => [
    () => apply(gatherBackwardOp, [dy!, index], { rows: x.shape[1] })[0],
    undefined,
  ],
  lower(lowering) {
    const { node: { inputs: [x], outputs: [y] }, inputs, outputs } = lowering;
    launchGather(lowering, [...inputs, ...outputs], {
      y: y.shape,
      rows: x.shape[1],
      picks: y.shape[1],
      half: x.dtype === "f16",
    });
  },
});

/** dx [B, N, D] from dy [B, M, D] and index [B, M]. */
const gatherBackwardOp = defineOp<{ rows: number }>({
  name: "gatherRowsBackward",
  shape: ([dy], { rows }) => [f32(dy.shape.with(1, rows))],
  lower(lowering) {
    const { node: { inputs: [dy], outputs: [dx] }, attributes: { rows }, inputs, outputs } = lowering;
    launchGather(lowering, [...inputs, ...outputs], { y: dx.shape, rows, picks: dy.shape[1], backward: true });
  },
});

/**
 * y[b, m] = x[b, index[b, m]].
 * @param x [B, N, D], f32
 * @param index [B, M], u32, below N (a greater one reads the last row)
 * @returns [B, M, D], f32
 * @example
 * ```ts
 * import { input } from "../variable.ts";
 * import { gatherRows } from "./gather.ts";
 * import { concat } from "./shape.ts";
 * // Learned vectors take the place of some tokens: rows of [tokens ‖ learned], picked per image.
 * const rows = concat([input("tokens", [2, 24, 64]), input("learned", [2, 8, 64])], 1);
 * const y = gatherRows(rows, input("index", [2, 24], "u32"));
 * if (y.shape.join() !== "2,24,64") throw new Error(`${y}`);
 * ```
 */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  return apply(gatherOp, [x, index], null)[0];
}

/**
 * Rows of a table, one per id.
 * @param table [V, D], f32 or f16
 * @param ids any shape, u32, below V (a greater one reads the last row)
 * @returns [...ids, D], f32
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  require(table.rank === 2, "embedding", "needs a table [V, D]", [table, ids]);
  const [rows, width] = table.shape;
  const x = reshape(table, [1, rows, width]), index = reshape(ids, [1, ids.size]);
  const y = gatherRows(x, index), shape = [...ids.shape, width];
  return sameShape(y.shape, shape) ? y : reshape(y, shape);
}
