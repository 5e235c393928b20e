/** Progress lines: rate, time left, one redrawn line on a terminal and few plain ones elsewhere. */
import assert from "node:assert/strict";
import { formatDuration, formatRate, Progress, type ProgressSink } from "../../tasks/progress.ts";

function sink(terminal: boolean, columns = 200): ProgressSink & { text: string; time: number } {
  return {
    terminal,
    text: "",
    time: 0,
    columns: () => columns,
    write(text) {
      this.text += text;
    },
    now() {
      return this.time;
    },
  };
}

const job = { label: "training", total: 100, unit: "step" };

Deno.test("Progress tells count, share, rate and time left", () => {
  const s = sink(true), progress = new Progress(job, s);
  for (let i = 1; i <= 20; i++) {
    s.time = i * 0.5;
    progress.update(i, "loss 0.25");
  }
  assert.equal(progress.line(), "training: 20/100 20%  2.00 steps/s  40 s left  loss 0.25");
});

Deno.test("Progress follows a change of pace smoothly", () => {
  const s = sink(true), progress = new Progress(job, s);
  for (let i = 1; i <= 50; i++) {
    s.time += i <= 10 ? 0.1 : 1;
    progress.update(i);
    if (i === 11) assert.ok(progress.rate! > 5, "one slow step does not undo ten fast ones");
  }
  assert.ok(progress.rate! > 1 && progress.rate! < 2, `${progress.rate} is near one step a second`);
});

Deno.test("Progress counts the rate of this run only", () => {
  const s = sink(true), progress = new Progress({ ...job, start: 90 }, s);
  s.time = 10;
  progress.update(95);
  assert.equal(progress.rate, 0.5);
  assert.equal(progress.secondsLeft, 10);
});

Deno.test("Progress writes a plain line about every ten seconds where there is no terminal", () => {
  const s = sink(false), progress = new Progress(job, s);
  for (let i = 1; i <= 100; i++) {
    s.time = i * 0.5;
    progress.update(i);
  }
  progress.finish();
  const lines = s.text.trimEnd().split("\n");
  assert.equal(lines.length, 6);
  assert.equal(lines[0], "training: 20/100 20%  2.00 steps/s  40 s left");
  assert.equal(lines[5], "training: 100 steps in 50 s, 2.00 steps/s");
  assert.ok(!s.text.includes("\r") && !s.text.includes("\x1b"));
});

Deno.test("Progress redraws one line on a terminal, cut to its width, and logs above it", () => {
  const s = sink(true, 20), progress = new Progress(job, s);
  s.time = 1;
  progress.update(1);
  progress.log("saved");
  s.time = 2;
  progress.update(2);
  progress.finish();
  progress.finish();
  const drawn = s.text.split("\r\x1b[2K");
  assert.deepEqual(drawn.slice(1), ["training: 1/100 1% ", "saved\n", "training: 2/100 2% ", drawn[4]]);
  assert.equal(drawn[4], "training: 2 of 100 steps in 2 s, 1.00 steps/s\n");
});

Deno.test("durations and rates are told as a person tells them", () => {
  assert.deepEqual(
    [0, 59.4, 60, 185, 3599.7, 7620, 49 * 3600 + 60].map(formatDuration),
    ["0 s", "59 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 07 min", "2 d 1 h"],
  );
  assert.equal(formatRate(3, "patch"), "3.00 patches/s");
  assert.deepEqual([200, 12.34, 3, 0.25].map((r) => formatRate(r, "image")), [
    "200 images/s",
    "12.3 images/s",
    "3.00 images/s",
    "4.00 s/image",
  ]);
});
