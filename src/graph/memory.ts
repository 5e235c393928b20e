/**
 * Places for the temporary values of a plan: several values share a buffer, at other times or at other offsets. Values are
 * placed from the largest to the smallest, each where the buffers grow least (the "greedy by size" of Pisarchyk & Lee,
 * "Efficient Memory Management for Deep Neural Net Inference", 2020). Where other orders do not help either, values that made
 * buffers grow are placed earlier, and again ("squeaky wheel" optimisation, Joslin & Clements 1999). Nothing is random.
 */

import type { PlannedLaunch } from "./plan.ts";
import type { Value } from "./op.ts";

/** Offsets of bindings, and sizes of buffers, are multiples of this many bytes (WebGPU's largest alignment). */
export const ALIGNMENT = 256;

/** Largest shared buffer: every adapter binds 128 MiB. A value that is larger gets a buffer of its own. */
const BUFFER_BYTES = 128 * 2 ** 20;

/** Bytes that a value takes. */
export function roundUp(bytes: number): number {
  return Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
}

/** A place in memory. Values of one place never live at the same time. */
export interface Slot {
  /** Which buffer. */
  readonly buffer: number;
  readonly offset: number;
}

/** Where everything lies. */
export interface Placement {
  readonly slots: ReadonlyMap<Value, number>;
  readonly places: readonly Slot[];
  /** Bytes of the largest value in each slot. */
  readonly slotBytes: readonly number[];
  readonly bufferBytes: readonly number[];
  /** Largest number of bytes alive at one moment. */
  readonly lowerBoundBytes: number;
}

interface Life {
  readonly value: Value;
  readonly bytes: number;
  readonly first: number;
  last: number;
  /** Values that a launch reads where it writes this one, or the other way: WebGPU wants them in other buffers. */
  readonly apart: Set<Life>;
  buffer: number;
  offset: number;
  /** Where it lies in the best packing so far. */
  kept: Slot;
  /** By how much its place made the buffers grow, in the packing tried last. */
  growth: number;
  /** The larger, the earlier it is placed in the search. */
  weight: number;
}

/** Orders in which values are placed: the largest, those that are large for long, the longest, the earliest first. */
const ORDERS: readonly ((a: Life, b: Life) => number)[] = [
  (a, b) => b.bytes - a.bytes || a.first - b.first,
  (a, b) => b.bytes * (b.last - b.first + 1) - a.bytes * (a.last - a.first + 1) || a.first - b.first,
  (a, b) => b.last - b.first - (a.last - a.first) || b.bytes - a.bytes,
  (a, b) => a.first - b.first || b.bytes - a.bytes,
];

/** A packing this close to the lower bound ends the search. */
const GOOD_ENOUGH = 1.02;

const NOWHERE: Slot = { buffer: -1, offset: 0 };

/** Exponents of a life's length: a search starts from bytes × length ** exponent. */
const SEARCHES = [0, 0.5];

/** Packings of a search; each doubles the weights of the values that made buffers grow in the one before. */
const ROUNDS = 8;

/** Lives of all values that are not leaves; results live to the end. */
function livesOf(launches: readonly PlannedLaunch[], leaves: ReadonlySet<Value>, results: ReadonlySet<Value>): Life[] {
  const lives = new Map<Value, Life>();
  launches.forEach(({ kernel, buffers }, i) => {
    const used = buffers.map((value) => {
      if (leaves.has(value)) return undefined;
      let life = lives.get(value);
      if (!life) {
        life = {
          value,
          bytes: roundUp(value.bytes),
          first: i,
          last: i,
          apart: new Set(),
          buffer: -1,
          offset: 0,
          kept: NOWHERE,
          growth: 0,
          weight: 0,
        };
        lives.set(value, life);
      }
      life.last = results.has(value) ? launches.length : i;
      return life;
    });
    used.forEach((a, k) => {
      for (let l = 0; a && l < k; l++) {
        const b = used[l];
        if (!b || a === b || kernel.bindings[k] === kernel.bindings[l]) continue;
        a.apart.add(b);
        b.apart.add(a);
      }
    });
  });
  return [...lives.values()];
}

/** Lowest offset in a buffer at which nothing that is placed there lives at the same time. */
function gapFor(life: Life, placed: readonly Life[]): number {
  let at = 0;
  for (const other of placed) { // by offset
    if (other.last < life.first || life.last < other.first) continue;
    if (at + life.bytes <= other.offset) return at;
    at = Math.max(at, other.offset + other.bytes);
  }
  return at;
}

function insert(placed: Life[], life: Life): void {
  let low = 0, high = placed.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (placed[middle].offset <= life.offset) low = middle + 1;
    else high = middle;
  }
  placed.splice(low, 0, life);
}

/**
 * Places values one by one, each where the buffers grow least.
 * @param spread where a buffer would grow as much as a new one costs, take the new one
 * @returns bytes of the buffers
 */
function pack(order: readonly Life[], spread: boolean): number[] {
  const buffers: Life[][] = [], bufferBytes: number[] = [];
  for (const life of order) {
    const taken = new Set<number>();
    for (const other of life.apart) if (other.buffer >= 0) taken.add(other.buffer);
    let best = -1, growth = life.bytes, offset = 0;
    for (let k = 0; k < buffers.length && growth > 0; k++) {
      if (taken.has(k)) continue;
      const at = gapFor(life, buffers[k]), end = at + life.bytes;
      if (end > Math.max(BUFFER_BYTES, bufferBytes[k]) && at > 0) continue;
      const grows = Math.max(0, end - bufferBytes[k]);
      if (grows < growth || (!spread && grows === growth && best < 0)) [best, growth, offset] = [k, grows, at];
    }
    if (best < 0) {
      best = buffers.push([]) - 1;
      bufferBytes.push(0);
    }
    life.buffer = best;
    life.offset = offset;
    life.growth = growth;
    bufferBytes[best] = Math.max(bufferBytes[best], offset + life.bytes);
    insert(buffers[best], life);
  }
  return bufferBytes;
}

/**
 * Gives every value that is not a leaf a place.
 * @param leaves values with buffers of their own
 * @param results values that are read after the last launch
 */
export function assignMemory(
  launches: readonly PlannedLaunch[],
  leaves: ReadonlySet<Value>,
  results: ReadonlySet<Value>,
): Placement {
  const lives = livesOf(launches, leaves, results);
  const change = new Float64Array(launches.length + 2);
  for (const { first, last, bytes } of lives) {
    change[first] += bytes;
    change[last + 1] -= bytes;
  }
  let alive = 0, lowerBoundBytes = 0;
  for (const bytes of change) lowerBoundBytes = Math.max(lowerBoundBytes, alive += bytes);

  let bufferBytes: number[] = [], least = Infinity;
  const attempt = (order: readonly Life[], spread: boolean): boolean => {
    for (const life of lives) life.buffer = -1;
    const tried = pack(order, spread), bytes = tried.reduce((a, b) => a + b, 0);
    if (bytes < least) {
      [bufferBytes, least] = [tried, bytes];
      for (const life of lives) life.kept = { buffer: life.buffer, offset: life.offset };
    }
    return least <= GOOD_ENOUGH * lowerBoundBytes;
  };
  let found = ORDERS.some((order) => [false, true].some((spread) => attempt(lives.toSorted(order), spread)));
  for (const exponent of SEARCHES) {
    for (const life of lives) life.weight = life.bytes * (life.last - life.first + 1) ** exponent;
    for (let round = 0; !found && round < ROUNDS; round++) {
      found = attempt(lives.toSorted((a, b) => b.weight - a.weight || a.first - b.first), true);
      for (const life of lives) if (life.growth > 0) life.weight *= 2;
    }
  }

  const slots = new Map<Value, number>(), places: Slot[] = [], slotBytes: number[] = [];
  const known = new Map<string, number>();
  for (const { value, bytes, kept: { buffer, offset } } of lives) {
    const key = `${buffer} ${offset}`;
    let slot = known.get(key);
    if (slot === undefined) {
      slot = places.push({ buffer, offset }) - 1;
      slotBytes.push(0);
      known.set(key, slot);
    }
    slotBytes[slot] = Math.max(slotBytes[slot], bytes);
    slots.set(value, slot);
  }
  return { slots, places, slotBytes, bufferBytes, lowerBoundBytes };
}
