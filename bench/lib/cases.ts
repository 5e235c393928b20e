/** What the bench measures, and how each measurement is opened: ours, and where there is one the same graph elsewhere. */

import type { Rival, RivalSession } from "./rivals.ts";

/** Something that can be run again and again. Disposing frees it. */
export interface Side {
  /** Once; what comes out is compared between sides where it is given. */
  run(): Promise<Float32Array | void>;
  dispose(): Promise<void> | void;
}

/** One measurement. */
export interface Case {
  /** Says what and at which shapes: cases of the same name are the same work. */
  readonly name: string;
  readonly group: "ops" | "networks" | "jobs";
  /** FLOPs of a run; 0 where they are not counted. */
  readonly flops: number;
  /** Bytes that a run must at least move, where memory is the limit. */
  readonly bytes?: number;
  /** What a run does several of: the time is that of one. */
  readonly repeats: number;
  readonly ours: Side;
  /** Opens the same work elsewhere; undefined where only ours can do it. */
  readonly rival?: (rival: Rival) => Promise<RivalSession>;
}

/** A case that is opened when its turn comes, so that only one is in memory. */
export interface CaseEntry {
  readonly name: string;
  open(): Promise<Case>;
}

/** Runs of one side. */
export interface Timing {
  /** Middle of the runs, milliseconds. */
  readonly median: number;
  readonly best: number;
  readonly runs: readonly number[];
  /** Least processor time of a run, all cores together, milliseconds: on a software adapter, what a busy machine leaves fair. */
  readonly processor?: number;
}
