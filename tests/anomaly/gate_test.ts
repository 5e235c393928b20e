/** The quality gate: what comes out depends on a job and its place alone, and every try is counted. */
import assert from "node:assert/strict";
import { type PairRefusal, pairRefusal, throughGate, type Try } from "../../src/anomaly/gate.ts";

interface Job {
  readonly index: number;
  readonly attempt?: number;
}

interface Made {
  readonly index: number;
  readonly attempt: number;
  readonly figures: { changeInside: number; changeOutside: number; changedShare: number };
  readonly accepted: boolean;
  readonly refused: readonly PairRefusal[];
}

/** What a try shows: some number of job and attempt. */
const shade = (index: number, attempt: number) => (index * 37 + attempt * 61) % 100 / 100;

/** Runs jobs through a gate that refuses shades below a limit, and those near an earlier one. */
async function run(jobs: readonly Job[], { batch = 3, maxAttempts = 4, limit = 0.3, apart = 0 } = {}) {
  const tries: string[] = [], taken: { index: number; change: number }[] = [], judged: number[] = [];
  const make = (list: readonly Try<Job>[]) => {
    assert.ok(list.length <= batch);
    return Promise.resolve(list.map(({ job: { index }, attempt }): Made => {
      tries.push(`${index}/${attempt}`);
      const figures = { changeInside: shade(index, attempt), changeOutside: 0, changedShare: 1 };
      const why = pairRefusal(figures, { minChange: limit });
      return { index, attempt, figures, accepted: !why, refused: why ? [why] : [] };
    }));
  };
  const judge = ({ index, figures: { changeInside } }: Made): PairRefusal | undefined => {
    judged.push(index);
    if (taken.some((one) => one.index < index && Math.abs(one.change - changeInside) < apart)) return "near-duplicate";
    taken.push({ index, change: changeInside });
  };
  const results: Made[] = [];
  for await (const one of throughGate(jobs, { batch, maxAttempts, make, judge })) results.push(one);
  return { results, tries, judged };
}

const JOBS = Array.from({ length: 20 }, (_, index) => ({ index }));

Deno.test("results come in order, each the first try that passes, whatever the batch", async () => {
  const { results, tries } = await run(JOBS);
  assert.deepEqual(results.map(({ index }) => index), JOBS.map(({ index }) => index));
  for (const { index, attempt, accepted, refused } of results) {
    assert.ok(accepted && shade(index, attempt) >= 0.3);
    for (let k = 0; k < attempt; k++) assert.ok(shade(index, k) < 0.3);
    assert.deepEqual(refused, Array(attempt).fill("unchanged"));
  }
  assert.equal(new Set(tries).size, tries.length, "a try was made twice");
  assert.equal(tries.length, results.reduce((sum, { attempt }) => sum + attempt + 1, 0));
  for (const batch of [1, 2, 7, 50]) assert.deepEqual((await run(JOBS, { batch })).results, results);
});

Deno.test("pairs are held against those before them, in order, and go back for another try", async () => {
  const { results, judged } = await run(JOBS, { apart: 0.04, maxAttempts: 9 });
  for (const [i, a] of results.entries()) {
    for (const b of results.slice(0, i)) {
      assert.ok(!a.accepted || !b.accepted || Math.abs(a.figures.changeInside - b.figures.changeInside) >= 0.04);
    }
  }
  assert.ok(results.some(({ refused }) => refused.includes("near-duplicate")));
  assert.deepEqual(judged, judged.toSorted((a, b) => a - b));
  for (const batch of [1, 4, 20]) {
    assert.deepEqual((await run(JOBS, { apart: 0.04, maxAttempts: 9, batch })).results, results);
  }
  // What was accepted before an interruption is known to the judge: here, the rest alone with the same judgements.
  const whole = await run(JOBS.slice(0, 12), { apart: 0.04, maxAttempts: 9 });
  assert.deepEqual(whole.results, results.slice(0, 12));
});

Deno.test("where no try passes, the one with the greatest change is kept and marked", async () => {
  const { results, judged } = await run(JOBS, { limit: 2, maxAttempts: 3 });
  assert.deepEqual(judged, []);
  for (const { index, attempt, accepted, refused } of results) {
    const changes = [0, 1, 2].map((k) => shade(index, k));
    assert.deepEqual([accepted, attempt], [false, changes.indexOf(Math.max(...changes))]);
    assert.deepEqual(refused, ["unchanged", "unchanged", "unchanged"]);
  }
});

Deno.test("where every try is refused, one of its kind's colours is kept before a louder one that is not", async () => {
  const tries: [change: number, why: PairRefusal][][] = [
    [[0.9, "off-colour"], [0.2, "near-duplicate"], [0.3, "unchanged"], [0.8, "off-colour"]],
    [[0.5, "off-colour"], [0.7, "off-colour"], [0.6, "off-colour"], [0.1, "off-colour"]],
  ];
  const make = (list: readonly Try<Job>[]) =>
    Promise.resolve(list.map(({ job: { index }, attempt }): Made => {
      const figures = { changeInside: tries[index][attempt][0], changeOutside: 0, changedShare: 1 };
      return { index, attempt, figures, accepted: true, refused: [] };
    }));
  const judge = ({ index, attempt }: Made) => tries[index][attempt][1];
  const kept: Made[] = [];
  for await (const one of throughGate([{ index: 0 }, { index: 1 }], { batch: 2, maxAttempts: 4, make, judge })) {
    kept.push(one);
  }
  assert.deepEqual(kept.map(({ attempt, accepted }) => [attempt, accepted]), [[2, false], [1, false]]);
  assert.deepEqual(kept.map(({ refused }) => refused), tries.map((all) => all.map(([, why]) => why)));
});

Deno.test("a job with a given try is made at that try only, and not judged", async () => {
  const { results, tries, judged } = await run([{ index: 1, attempt: 2 }, { index: 2, attempt: 0 }], { limit: 0.99 });
  assert.deepEqual(tries, ["1/2", "2/0"]);
  assert.deepEqual(results.map(({ attempt, accepted }) => [attempt, accepted]), [[2, false], [0, false]]);
  assert.deepEqual(judged, []);
});
