/**
 * What a case of the ONNX table is, and how one is written: inputs and results channels last, a graph that computes the
 * same thing in PyTorch's layouts.
 */
import { map, type NDArray, normals } from "./arrays.ts";
import { permuteForward } from "../reference/shape.ts";
import { OnnxGraph } from "./onnx.ts";

/** One operation on given inputs. */
export interface OnnxCase {
  /** name of the operation in `tests/reference/table.ts` */
  op: string;
  /** what is special about this case */
  label: string;
  inputs: Record<string, NDArray>;
  options: Record<string, unknown>;
  /** inputs that are stored as f16, which holds their numbers exactly */
  half?: readonly string[];
  /** the result by onnxruntime-web, channels last */
  expected(): Promise<NDArray>;
}

/** [B, H, W, C] → [B, C, H, W]. */
export const nchw = (x: NDArray) => permuteForward(x, [0, 3, 1, 2]);
/** [B, C, H, W] → [B, H, W, C]. */
export const nhwc = (x: NDArray) => permuteForward(x, [0, 2, 3, 1]);
/** [kh, kw, C, O] → [O, C, kh, kw]. */
export const oihw = (w: NDArray) => permuteForward(w, [3, 2, 0, 1]);

/** Builds the graph from its inputs and returns the name of the result. */
export type Build<T extends string> = (g: OnnxGraph, inputs: Record<T, NDArray>) => string;

/** A case; `after` brings the graph's result into our layout. */
export function define<T extends string>(
  op: string,
  label: string,
  inputs: Record<T, NDArray>,
  options: Record<string, unknown>,
  build: Build<T>,
  after: (y: NDArray) => NDArray = (y) => y,
): OnnxCase {
  const expected = async () => {
    const g = new OnnxGraph();
    return after(await g.run(build(g, inputs)));
  };
  return { op, label, inputs, options, expected };
}

/** Standard normal numbers for the input of that name. */
export const fill = (shape: number[], name: string) => normals(shape, `onnx/${name}`);
/** As {@link fill}, in numbers that f16 holds. */
export const fillHalf = (shape: number[], name: string) => {
  const x = fill(shape, name), data = new Float16Array(x.data);
  return map(x, (_, i) => data[i]);
};
