/**
 * How much memory a graphics card still gives. WebGPU does not say; it is asked for, piece by piece, until it is refused, and
 * given back at once.
 */

/** Bytes of a piece: small enough for an answer that is close, large enough that a driver does not take it from a block it has. */
const PIECE = 256 * 2 ** 20;

/**
 * Bytes that a new device of the default adapter is given at the moment.
 * @param most bytes to ask for; more are not tried
 * @returns `most` where all of it was given, or where there is no adapter to ask
 */
export async function availableMemory(most: number): Promise<number> {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) return most;
  // A device of its own: what a refusal does to it is no concern of the program's.
  const device = await adapter.requestDevice();
  const pieces: GPUBuffer[] = [];
  try {
    for (let given = 0; given < most; given += PIECE) {
      device.pushErrorScope("out-of-memory");
      const size = Math.min(PIECE, Math.ceil((most - given) / 4) * 4);
      pieces.push(device.createBuffer({ label: "available memory", size, usage: GPUBufferUsage.STORAGE }));
      if (await device.popErrorScope()) return given;
    }
    return most;
  } finally {
    for (const piece of pieces) piece.destroy();
    device.destroy();
  }
}
