/** The rule that ends a training whose loss falls no more. */
import assert from "node:assert/strict";
import { StopRule } from "../../tasks/jobs/training.ts";

/** Step at which a rule ends a training with these losses, read every ten steps; undefined where it never does. */
function stopsAt(patience: number, loss: (step: number) => number, until = 5000): number | undefined {
  const rule = new StopRule(patience);
  for (let step = 10; step <= until; step += 10) {
    rule.add({ step, loss: loss(step) });
    if (rule.reached) return step;
  }
  return undefined;
}

const noise = (step: number) => 0.2 * Math.sin(step * 12.9898); // as large as what is learned

Deno.test("a loss that falls goes on, one that has levelled off stops, however noisy it is", () => {
  assert.equal(stopsAt(300, (step) => 1 - step / 5000), undefined);
  assert.equal(stopsAt(300, (step) => 1 - step / 5000 + noise(step)), undefined);
  const levelled = (step: number) => Math.exp(-step / 200) + noise(step), end = stopsAt(300, levelled)!;
  assert.ok(end > 800 && end < 3000, `at step ${end}`);
  assert.equal(stopsAt(300, (step) => step), 400, "counted from the first average on");
  assert.equal(stopsAt(300, (step) => step === 10 ? 0.7 : 1 - step / 5000), undefined, "one lucky reading is no low");
});

Deno.test("without patience a training runs to its end", () => {
  assert.equal(stopsAt(0, (step) => step), undefined);
});

Deno.test("a rule that is told the losses before an interruption again stops where it would have", () => {
  const losses = Array.from({ length: 300 }, (_, i) => ({ step: 10 * (i + 1), loss: Math.exp(-i / 20) + noise(i) }));
  const whole = new StopRule(400), resumed = new StopRule(400);
  const stop = losses.find((record) => (whole.add(record), whole.reached))!.step;
  for (const record of losses.filter(({ step }) => step <= 500)) resumed.add(record);
  assert.equal(losses.find((record) => record.step > 500 && (resumed.add(record), resumed.reached))!.step, stop);
});
