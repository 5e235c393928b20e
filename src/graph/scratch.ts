/**
 * Memory that several programs share because they never run at the same time: each keeps its activations there while it
 * runs, and finds them overwritten when it runs again.
 */

import type { Gpu } from "../gpu/device.ts";

/**
 * Chooses for each size the smallest buffer that holds it, each buffer once, the largest sizes first.
 * @param have bytes of the buffers there are
 * @param sizes bytes asked for
 * @returns for each size the index of its buffer; indices from `have.length` on are new buffers of just that size, in order
 */
export function matchBuffers(have: readonly number[], sizes: readonly number[]): number[] {
  const chosen = new Array<number>(sizes.length), taken = new Set<number>();
  let fresh = have.length;
  for (const i of sizes.map((_, i) => i).sort((a, b) => sizes[b] - sizes[a])) {
    let best = -1;
    have.forEach((bytes, k) => {
      if (!taken.has(k) && bytes >= sizes[i] && (best < 0 || bytes < have[best])) best = k;
    });
    if (best >= 0) taken.add(best);
    chosen[i] = best >= 0 ? best : fresh++;
  }
  return chosen;
}

/** Bytes of all buffers once programs with these buffers have shared them, the first one first. */
export function sharedBytes(programs: readonly (readonly number[])[]): number {
  const have: number[] = [];
  for (const sizes of programs) {
    const chosen = matchBuffers(have, sizes);
    chosen.forEach((k, i) => have[k] = Math.max(have[k] ?? 0, sizes[i]));
  }
  return have.reduce((a, b) => a + b, 0);
}

/** Buffers on a device that programs share; each is given back when the last program that uses it is disposed of. */
export class Scratch {
  readonly #gpu: Gpu;
  readonly #users = new Map<GPUBuffer, number>();
  /** The program whose results lie here now. */
  owner: unknown;

  /** Buffers of one device. */
  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return [...this.#users.keys()].reduce((sum, { size }) => sum + size, 0);
  }

  /** One buffer for each size, none twice. */
  take(sizes: readonly number[]): GPUBuffer[] {
    const buffers = [...this.#users.keys()];
    const chosen = matchBuffers(buffers.map(({ size }) => size), sizes);
    const order = chosen.map((_, i) => i).sort((a, b) => chosen[a] - chosen[b]);
    const given = new Array<GPUBuffer>(sizes.length);
    for (const i of order) {
      const buffer = buffers[chosen[i]] ?? this.#gpu.acquire(sizes[i], `activations ${chosen[i]}`);
      this.#users.set(buffer, (this.#users.get(buffer) ?? 0) + 1);
      given[i] = buffer;
    }
    return given;
  }

  /** Ends a program's use of its buffers. */
  give(buffers: readonly GPUBuffer[]): void {
    for (const buffer of buffers) {
      const users = this.#users.get(buffer)! - 1;
      if (users > 0) {
        this.#users.set(buffer, users);
        continue;
      }
      this.#users.delete(buffer);
      this.#gpu.release(buffer);
    }
  }
}
