/** Softmax and its logarithm over the last axis, in float64, shifted by the row's maximum so that nothing overflows. */
import { map, type NDArray, ndarray } from "../support/arrays.ts";

/** Per row of the last axis: the maximum plus the logarithm of the sum of shifted exponentials. */
export function logSumExp(x: NDArray): NDArray {
  const C = x.shape.at(-1)!, lse = ndarray(x.shape.slice(0, -1));
  return map(lse, (_, row) => {
    const values = x.data.subarray(row * C, (row + 1) * C);
    const max = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return max + Math.log(values.reduce((sum, value) => sum + Math.exp(value - max), 0));
  });
}

/** y = eˣ ∕ Σ eˣ.  x [..., C] → [..., C]. */
export function softmaxForward(x: NDArray): NDArray {
  return map(logSoftmaxForward(x), Math.exp);
}

/** Gradient of {@link softmaxForward}: y·(dy − Σ dy·y). */
export function softmaxBackward(dy: NDArray, x: NDArray): NDArray {
  const C = x.shape.at(-1)!, y = softmaxForward(x), inner = new Float64Array(x.data.length / C);
  dy.data.forEach((d, i) => inner[Math.floor(i / C)] += d * y.data[i]);
  return map(y, (value, i) => value * (dy.data[i] - inner[Math.floor(i / C)]));
}

/** y = x − log Σ eˣ.  x [..., C] → [..., C]. */
export function logSoftmaxForward(x: NDArray): NDArray {
  const C = x.shape.at(-1)!, lse = logSumExp(x);
  return map(x, (value, i) => value - lse.data[Math.floor(i / C)]);
}

/** Gradient of {@link logSoftmaxForward}: dy − softmax(x)·Σ dy. */
export function logSoftmaxBackward(dy: NDArray, x: NDArray): NDArray {
  const C = x.shape.at(-1)!, y = softmaxForward(x), total = new Float64Array(x.data.length / C);
  dy.data.forEach((d, i) => total[Math.floor(i / C)] += d);
  return map(dy, (d, i) => d - y.data[i] * total[Math.floor(i / C)]);
}
