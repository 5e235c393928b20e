/**
 * PyTorch's parameter layouts ↔ the engine's: convolution kernels OIHW ↔ HWIO, linear weights [N, K] ↔ [K, N].
 * Nothing outside `src/weights/` and the weight-loading lines of the models knows PyTorch's axis order.
 */

/** Refuses data whose length is not the product of the shape. */
function checkSize(data: Float32Array, shape: readonly number[]): void {
  const size = shape.reduce((product, axis) => product * axis, 1);
  if (data.length !== size) throw new RangeError(`[${shape.join(", ")}] holds ${size} values, found ${data.length}`);
}

/** [rows, columns] → [columns, rows]. In blocks, so that both sides stay in cache. */
export function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  checkSize(data, [rows, columns]);
  const out = new Float32Array(data.length), block = 32;
  for (let r0 = 0; r0 < rows; r0 += block) {
    for (let c0 = 0; c0 < columns; c0 += block) {
      const r1 = Math.min(r0 + block, rows), c1 = Math.min(c0 + block, columns);
      for (let r = r0; r < r1; r++) {
        for (let c = c0; c < c1; c++) out[c * rows + r] = data[r * columns + c];
      }
    }
  }
  return out;
}

/** Convolution kernel from PyTorch's [out, in, kh, kw] to the engine's [kh, kw, in, out]. */
export function convFromTorch(data: Float32Array, shape: readonly number[]): Float32Array {
  checkSize(data, shape);
  const [outputs, inputs, kh, kw] = shape;
  return swapOuter(transpose(data, outputs, inputs * kh * kw), inputs, kh * kw, outputs);
}

/** Convolution kernel from the engine's [kh, kw, in, out] back to PyTorch's [out, in, kh, kw]; `shape` is PyTorch's. */
export function convToTorch(data: Float32Array, shape: readonly number[]): Float32Array {
  checkSize(data, shape);
  const [outputs, inputs, kh, kw] = shape;
  return transpose(swapOuter(data, kh * kw, inputs, outputs), inputs * kh * kw, outputs);
}

/** Linear weight from PyTorch's [out, in] to the engine's [in, out]; trailing axes of 1 (a 1×1 convolution) are allowed. */
export function linearFromTorch(data: Float32Array, shape: readonly number[]): Float32Array {
  return transpose(data, shape[0], shape[1]);
}

/** Linear weight from the engine's [in, out] back to PyTorch's [out, in]; `shape` is PyTorch's. */
export function linearToTorch(data: Float32Array, shape: readonly number[]): Float32Array {
  return transpose(data, shape[1], shape[0]);
}

/** [a, b, inner] → [b, a, inner]. */
function swapOuter(data: Float32Array, a: number, b: number, inner: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let i = 0; i < a; i++) {
    for (let j = 0; j < b; j++) {
      const from = (i * b + j) * inner;
      out.set(data.subarray(from, from + inner), (j * a + i) * inner);
    }
  }
  return out;
}
