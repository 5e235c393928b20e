/**
 * The quality gate of generated pairs: what it refuses is tried again with other random numbers. A pair is judged by itself,
 * then against the pairs before it, in the order of their indices; so what comes out depends on the seed and the index alone,
 * however many are made at once and wherever a run was interrupted.
 */

import type { PairFigures } from "./figures.ts";

/**
 * Why a pair is refused: nothing to see inside the mask, a mask much larger than what was drawn, a colour that no training pair
 * has, or a pair like an earlier one.
 */
export type PairRefusal = "unchanged" | "mostly unchanged" | "off-colour" | "near-duplicate";

/** What a pair must satisfy by itself. */
export interface GateLimits {
  /** Least mean change inside the mask, 0 … 1, for a pair to pass. */
  readonly minChange: number;
  /** Least share of the mask whose pixels visibly change, 0 … 1; 0 where left out. */
  readonly minChangedShare?: number;
}

/**
 * Why a pair is refused by itself; undefined where it is fine.
 * @example
 * ```ts
 * import { pairRefusal } from "./gate.ts";
 * const limits = { minChange: 0.02, minChangedShare: 0.2 };
 * const faint = pairRefusal({ changeInside: 0.01, changeOutside: 0, changedShare: 0 }, limits);
 * const small = pairRefusal({ changeInside: 0.05, changeOutside: 0, changedShare: 0.1 }, limits);
 * if (faint !== "unchanged" || small !== "mostly unchanged") throw new Error(`${faint}, ${small}`);
 * ```
 */
export function pairRefusal(
  { changeInside, changedShare }: PairFigures,
  { minChange, minChangedShare = 0 }: GateLimits,
): PairRefusal | undefined {
  if (changeInside < minChange) return "unchanged";
  return changedShare < minChangedShare ? "mostly unchanged" : undefined;
}

/** A job at one of its tries, 0 the first. */
export interface Try<Job> {
  readonly job: Job;
  readonly attempt: number;
}

/** What a try made. */
interface Made {
  readonly figures: PairFigures;
  /** Whether it passed by itself. */
  readonly accepted: boolean;
  /** Why it did not; of a result, why its tries did not. */
  readonly refused: readonly PairRefusal[];
}

/** How jobs go through the gate. */
export interface GateOptions<Job, Result> {
  /** Tries made at once. */
  readonly batch: number;
  /** Tries for one job before the best is kept: one of its kind's colours, and of these the one with the greatest change. */
  readonly maxAttempts: number;
  readonly make: (tries: readonly Try<Job>[]) => Promise<readonly Result[]>;
  /** Judges what passed by itself; called in the order of the jobs, so that it may compare with what it accepted before. */
  readonly judge?: (result: Result) => PairRefusal | undefined;
}

/**
 * Makes every job until it passes or its tries are used up.
 * @param jobs one with an `attempt` is made at that try and is not judged again
 * @returns results in the order of the jobs
 */
export async function* throughGate<Job extends { readonly attempt?: number }, Result extends Made>(
  jobs: Iterable<Job> | AsyncIterable<Job>,
  { batch, maxAttempts, make, judge }: GateOptions<Job, Result>,
): AsyncGenerator<Result> {
  const fresh = (async function* () {
    yield* jobs;
  })();
  const open: Open<Job, Result>[] = []; // in order, from the first that is not finished
  for (let drained = false;;) {
    const tries = open.filter(({ made }) => !made).slice(0, batch);
    while (!drained && tries.length < batch) {
      const { value: job, done } = await fresh.next();
      if (done) drained = true;
      else tries.push(open[open.length] = { job, attempt: job.attempt ?? 0, refused: [] });
    }
    if (tries.length === 0) return;
    for (const [i, made] of (await make(tries)).entries()) {
      tries[i].made = made;
      if (!made.accepted) refuse(tries[i], made.refused, maxAttempts);
    }
    while (open[0]?.made) {
      const [first] = open, { made } = first;
      const why = made!.accepted && first.job.attempt === undefined ? judge?.(made!) : undefined;
      if (why) refuse(first, [why], maxAttempts);
      if (!first.made) break; // tried again before those after it are judged
      open.shift();
      yield { ...first.made, refused: first.refused };
    }
  }
}

/** A job on its way. */
interface Open<Job, Result> extends Try<Job> {
  attempt: number;
  refused: PairRefusal[];
  /** What waits for its turn; undefined while it is to be tried. */
  made?: Result;
  best?: Result;
  /** Whether the best has a colour that no training pair has. */
  bestOff?: boolean;
}

/** Sends a job back for another try, or ends with the best that it had. */
function refuse<Job extends { readonly attempt?: number }, Result extends Made>(
  one: Open<Job, Result>,
  why: readonly PairRefusal[],
  maxAttempts: number,
): void {
  const { made, best, bestOff, job } = one, off = why.includes("off-colour");
  one.refused.push(...why);
  const better = bestOff === off ? made!.figures.changeInside > best!.figures.changeInside : !best || bestOff;
  if (better) {
    one.best = made;
    one.bestOff = off;
  }
  one.attempt++;
  const again = one.attempt < maxAttempts && job.attempt === undefined;
  one.made = again ? undefined : { ...one.best!, accepted: false };
}
