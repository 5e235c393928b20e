/**
 * A multiset of float32 scores in little memory: sorted runs of delta-coded keys that are merged as they grow, as a
 * log-structured merge tree keeps its levels (O'Neil et al. 1996). Exact to the last bit, so that ties stay ties.
 */

import { UserError } from "../../errors.ts";

/** Scores that wait to be sorted: 4 MiB, and as much to sort them. */
const PENDING = 1 << 20;

/**
 * Entries in ascending order of key, each `delta to the key before it` and `count`. The first byte of an entry holds
 * "another byte follows" (bit 7), six bits of the delta, and "a count above 1 follows" (bit 0); every further byte seven
 * bits and bit 7.
 */
interface Run {
  readonly bytes: Uint8Array;
  readonly entries: number;
}

/** Writes a run. Its buffer must be large enough: five bytes for an entry, as many again for a count. */
class Writer {
  #at = 0;
  #entries = 0;
  #last = -1;

  constructor(readonly bytes: Uint8Array) {}

  put(key: number, count: number): void {
    const bytes = this.bytes, many = count > 1 ? 1 : 0;
    let rest = key - this.#last - 1, at = this.#at; // the first key may be 0: distances are counted from 1
    this.#last = key;
    bytes[at++] = (rest > 63 ? 128 : 0) | (rest & 63) << 1 | many;
    for (rest >>>= 6; rest > 0; rest >>>= 7) bytes[at++] = (rest > 127 ? 128 : 0) | rest & 127;
    if (many) { for (rest = count; rest > 0; rest >>>= 7) bytes[at++] = (rest > 127 ? 128 : 0) | rest & 127; }
    this.#at = at;
    this.#entries++;
  }

  finish(): Run {
    return { bytes: this.bytes.slice(0, this.#at), entries: this.#entries };
  }
}

/** Reads a run entry by entry. */
class Reader {
  key = -1;
  count = 0;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(run: Run) {
    this.#bytes = run.bytes;
  }

  /** Goes to the next entry; false at the end. */
  next(): boolean {
    const bytes = this.#bytes;
    let at = this.#at;
    if (at >= bytes.length) return false;
    let byte = bytes[at++];
    const many = byte & 1;
    let delta = byte >>> 1 & 63;
    for (let shift = 6; byte > 127; shift += 7) {
      byte = bytes[at++];
      delta |= (byte & 127) << shift;
    }
    this.key += (delta >>> 0) + 1;
    this.count = 1;
    if (many) {
      this.count = 0;
      let shift = 0;
      do {
        byte = bytes[at++];
        this.count |= (byte & 127) << shift;
        shift += 7;
      } while (byte > 127);
      this.count >>>= 0;
    }
    this.#at = at;
    return true;
  }
}

/** One run out of two. An entry never takes more room than the two that it comes from, so the sum of both is enough. */
function merge(a: Run, b: Run): Run {
  const out = new Writer(new Uint8Array(a.bytes.length + b.bytes.length));
  const left = new Reader(a), right = new Reader(b);
  let more = left.next(), others = right.next();
  while (more && others) {
    if (left.key < right.key) {
      out.put(left.key, left.count);
      more = left.next();
    } else if (left.key > right.key) {
      out.put(right.key, right.count);
      others = right.next();
    } else {
      out.put(left.key, left.count + right.count);
      more = left.next();
      others = right.next();
    }
  }
  for (; more; more = left.next()) out.put(left.key, left.count);
  for (; others; others = right.next()) out.put(right.key, right.count);
  return out.finish();
}

/**
 * Sorts 32-bit keys in place by their digits of 11, 11 and 10 bits (least significant first).
 * @param spare at least as long as `keys`
 */
function radixSort(keys: Uint32Array, spare: Uint32Array): void {
  const places = new Uint32Array(2048);
  let from = keys, to = spare;
  for (let shift = 0; shift < 33; shift += 11) {
    places.fill(0);
    for (let i = 0; i < keys.length; i++) places[from[i] >>> shift & 2047]++;
    for (let digit = 0, at = 0; digit < 2048; digit++) {
      const count = places[digit];
      places[digit] = at;
      at += count;
    }
    for (let i = 0; i < keys.length; i++) to[places[from[i] >>> shift & 2047]++] = from[i];
    [from, to] = [to, from];
  }
  keys.set(from.subarray(0, keys.length)); // three passes end in the spare array
}

const asFloat = new Float32Array(1), asBits = new Uint32Array(asFloat.buffer);

/**
 * A 32-bit key that grows as the score falls. −0 and 0 are one score.
 * @param bits of a float32 that is not NaN
 */
export function keyOfBits(bits: number): number {
  if (bits === 0x80000000) return 0x7fffffff;
  return bits < 0x80000000 ? 0x7fffffff - bits : bits;
}

/** The score of a key. */
export function scoreOfKey(key: number): number {
  asBits[0] = key < 0x80000000 ? 0x7fffffff - key : key;
  return asFloat[0];
}

/**
 * A multiset of float32 scores. Memory: 8 MiB, and one to two bytes for each distinct score that was added; while two runs
 * become one, both and their union are held.
 * @example
 * ```ts
 * import { ScoreMultiset } from "./score_multiset.ts";
 * const scores = new ScoreMultiset();
 * scores.add(Float32Array.of(0.5, 0.25, 0.5));
 * const found: [number, number][] = [];
 * scores.descend((score, count) => found.push([score, count]));
 * if (String(found) !== "0.5,2,0.25,1") throw new Error(String(found));
 * ```
 */
export class ScoreMultiset {
  #pending = new Uint32Array(PENDING);
  #spare = new Uint32Array(PENDING);
  #waiting = 0;
  #runs: Run[] = [];
  #size = 0;

  /** How many scores were added. */
  get size(): number {
    return this.#size;
  }

  /** Bytes that the runs take now, without the 8 MiB for scores that wait. */
  get bytes(): number {
    return this.#runs.reduce((sum, run) => sum + run.bytes.length, 0);
  }

  /**
   * Adds scores.
   * @throws {UserError} if one is NaN or infinite, or beyond 2³² scores
   */
  add(scores: Float32Array): void {
    const bits = new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
    for (let i = 0; i < bits.length; i++) {
      if ((bits[i] & 0x7f800000) === 0x7f800000) throw new UserError(`score ${i} is ${scores[i]}, not a finite number`);
    }
    if (this.#size + bits.length >= 2 ** 32) throw new UserError("more than 4 billion scores in one evaluation");
    this.#size += bits.length;
    for (let i = 0; i < bits.length; i++) {
      if (this.#waiting === PENDING) this.#sortPending();
      this.#pending[this.#waiting++] = keyOfBits(bits[i]);
    }
  }

  /**
   * Calls `visit` once for every distinct score, from the highest to the lowest. May be called again, also after more
   * scores were added.
   */
  descend(visit: (score: number, count: number) => void): void {
    this.#sortPending();
    while (this.#runs.length > 1) this.#mergeLast();
    if (this.#runs.length === 0) return;
    const reader = new Reader(this.#runs[0]);
    while (reader.next()) visit(scoreOfKey(reader.key), reader.count);
  }

  /** Makes a run of the scores that wait, and merges runs of like size, so that few are left. */
  #sortPending(): void {
    if (this.#waiting === 0) return;
    const keys = this.#pending.subarray(0, this.#waiting);
    radixSort(keys, this.#spare);
    const out = new Writer(new Uint8Array(5 * keys.length));
    for (let i = 0, from = 0; i < keys.length; from = i) {
      while (i < keys.length && keys[i] === keys[from]) i++;
      out.put(keys[from], i - from);
    }
    this.#runs.push(out.finish());
    this.#waiting = 0;
    const runs = this.#runs;
    while (runs.length > 1 && runs[runs.length - 2].entries < 2 * runs[runs.length - 1].entries) this.#mergeLast();
  }

  #mergeLast(): void {
    const b = this.#runs.pop()!, a = this.#runs.pop()!;
    this.#runs.push(merge(a, b));
  }
}
