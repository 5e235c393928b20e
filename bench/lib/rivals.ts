/** onnxruntime-web's providers inside Deno: WebGPU on the same adapter as ours, and WebAssembly on one thread. */

import * as ort from "onnxruntime-web";
import * as ortGpu from "onnxruntime-web/webgpu";

/** Other runtimes that the bench measures. */
export const rivals = ["ort-webgpu", "ort-wasm"] as const;

/** One of {@linkcode rivals}. */
export type Rival = typeof rivals[number];

/** A float32 input in the model's own axis order. */
export interface RivalInput {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** A model in another runtime. */
export interface RivalSession {
  run(): Promise<Float32Array>;
  release(): Promise<void>;
}

/**
 * Loads a model.
 * @param bytes ONNX file
 * @param feeds inputs of every run, by name
 * @param output name of the output
 */
export async function openRival(
  rival: Rival,
  bytes: Uint8Array,
  feeds: Readonly<Record<string, RivalInput>>,
): Promise<RivalSession> {
  const runtime = (rival === "ort-wasm" ? ort : ortGpu) as typeof ort;
  runtime.env.wasm.numThreads = 1;
  runtime.env.logLevel = "error";
  const session = await runtime.InferenceSession.create(bytes, {
    executionProviders: [rival === "ort-wasm" ? "wasm" : "webgpu"],
    logSeverityLevel: 3,
  });
  const tensors = Object.fromEntries(
    Object.entries(feeds).map(([name, { data, shape }]) => [name, new runtime.Tensor("float32", data, [...shape])]),
  );
  const [output] = session.outputNames;
  return {
    run: async () => {
      const result = (await session.run(tensors))[output];
      const data = await result.getData() as Float32Array;
      result.dispose();
      return data;
    },
    release: () => session.release(),
  };
}
