/** Line charts as inline SVG: axes with round ticks, the raw values faint, a running mean on top. Colours come from CSS. */
import { escape } from "./html.ts";

/** A curve over training steps. */
export interface Curve {
  readonly name: string;
  /** [step, value], steps ascending. */
  readonly points: readonly (readonly [step: number, value: number])[];
}

const WIDTH = 560, HEIGHT = 250;
const LEFT = 52, RIGHT = 12, TOP = 26, BOTTOM = 40;

/**
 * Round numbers that divide a range, about `count` of them (steps of 1, 2 or 5 times a power of ten).
 * @example
 * ```ts
 * import { ticks } from "./chart.ts";
 * if (ticks(0, 800, 4).join() !== "0,200,400,600,800") throw new Error(ticks(0, 800, 4).join());
 * ```
 */
export function ticks(low: number, high: number, count: number): number[] {
  const span = high - low;
  if (!(span > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = power * ([1, 2, 5, 10].find((m) => power * m >= span / count) ?? 10);
  const result: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    result.push(Number((i * step).toPrecision(12)));
  }
  return result;
}

/** Mean over the `window` last values, so that no value from later is used. */
export function runningMean(values: readonly number[], window: number): number[] {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= window ? values[i - window] : 0);
    return sum / Math.min(i + 1, window);
  });
}

/**
 * One curve as an `<svg>`.
 * @param curve at least one point; values that are not finite are left out
 * @param axes what the two axes count: `["step", "loss"]`
 */
export function lineChart(curve: Curve, axes: readonly [x: string, y: string]): string {
  const points = curve.points.filter(([, value]) => Number.isFinite(value));
  if (!points.length) return `<p class="note">${escape(curve.name)}: nothing recorded</p>`;
  const means = runningMean(points.map(([, value]) => value), Math.max(1, Math.round(points.length / 12)));
  const first = points[0][0] > 1 ? points[0][0] : 0, last = Math.max(points[points.length - 1][0], first + 1);
  const sorted = points.map(([, value]) => value).sort((a, b) => a - b);
  // A few wild steps must not flatten the rest: the axis ends at the 98th percentile, or the highest mean.
  const top = Math.max(sorted[Math.floor(0.98 * (sorted.length - 1))], ...means) * 1.06;
  const bottom = Math.min(0, sorted[0]);
  const high = top > bottom ? top : bottom + 1;
  const x = (step: number) => LEFT + ((step - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number) => TOP + (1 - (Math.min(value, high) - bottom) / (high - bottom)) * (HEIGHT - TOP - BOTTOM);
  const path = (values: readonly number[]) =>
    values.map((value, i) => `${i ? "L" : "M"}${x(points[i][0]).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const grid = ticks(bottom, high, 4).map((value) =>
    `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}"/>` +
    `<text x="${LEFT - 8}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${value}</text>`
  );
  const steps = ticks(first, last, 5).map((step) =>
    `<text x="${x(step).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${step}</text>`
  );
  const end = means[means.length - 1];
  const label = `${curve.name}: ${axes[1]} from ${means[0].toFixed(3)} to ${end.toFixed(3)} over ${last} ${axes[0]}s`;
  return `<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(label)}">` +
    grid.join("") + steps.join("") +
    `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>` +
    `<path class="raw" d="${path(points.map(([, value]) => value))}"/><path class="mean" d="${path(means)}"/>` +
    `<circle class="end" cx="${x(points[points.length - 1][0]).toFixed(1)}" cy="${y(end).toFixed(1)}" r="4"/>` +
    `<text class="axis-name" x="${WIDTH - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">${escape(axes[0])}</text>` +
    `<text class="axis-name" x="${LEFT - 8}" y="${TOP - 12}" text-anchor="end">${escape(axes[1])}</text></svg>`;
}
