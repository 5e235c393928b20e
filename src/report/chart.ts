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

/** Where a chart's values lie on the drawing. */
interface Frame {
  readonly width: number;
  readonly x: (value: number) => number;
  readonly y: (value: number) => number;
  /** Grid lines, ticks, axis and names of the axes. */
  readonly drawing: string;
}

/** Axes with round ticks over a range. */
function frame(
  width: number,
  [left, right]: readonly [number, number],
  [bottom, top]: readonly [number, number],
  axes: readonly [x: string, y: string],
): Frame {
  const x = (value: number) => LEFT + ((value - left) / (right - left)) * (width - LEFT - RIGHT);
  const y = (value: number) => TOP + (1 - (value - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const grid = ticks(bottom, top, 4).map((value) =>
    `<line class="grid" x1="${LEFT}" x2="${width - RIGHT}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}"/>` +
    `<text x="${LEFT - 8}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${value}</text>`
  );
  const marks = ticks(left, right, 5).map((value) =>
    `<text x="${x(value).toFixed(1)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${value}</text>`
  );
  const names =
    `<line class="axis" x1="${LEFT}" x2="${width - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>` +
    `<text class="axis-name" x="${width - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">${escape(axes[0])}</text>` +
    // Above the axis; it starts at the edge, so that a long name stays inside.
    `<text class="axis-name" x="4" y="${TOP - 12}">${escape(axes[1])}</text>`;
  return { width, x, y, drawing: grid.join("") + marks.join("") + names };
}

function svg({ width, drawing }: Frame, label: string, content: string): string {
  return `<svg class="chart" viewBox="0 0 ${width} ${HEIGHT}" role="img" aria-label="${escape(label)}">` +
    `${drawing}${content}</svg>`;
}

/** Points as the d of a `<path>`. */
function path(points: Iterable<readonly [x: number, y: number]>, { x, y }: Frame): string {
  let d = "";
  for (const [a, b] of points) d += `${d ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`;
  return d;
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
  const bottom = Math.min(0, sorted[0]), high = top > bottom ? top : bottom + 1;
  const on = frame(WIDTH, [first, last], [bottom, high], axes), end = means[means.length - 1];
  const label = `${curve.name}: ${axes[1]} from ${means[0].toFixed(3)} to ${end.toFixed(3)} over ${last} ${axes[0]}s`;
  const raw = path(points.map(([step, value]) => [step, Math.min(value, high)] as const), on);
  const mean = path(means.map((value, i) => [points[i][0], value] as const), on);
  return svg(
    on,
    label,
    `<path class="raw" d="${raw}"/><path class="mean" d="${mean}"/>` +
      `<circle class="end" cx="${on.x(points[points.length - 1][0]).toFixed(1)}" cy="${on.y(end).toFixed(1)}" r="4"/>`,
  );
}

/** A curve of a chart that holds several. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Which colour and dash of the style sheet; by position where left out. */
  readonly style?: number;
}

/** What a chart of curves shows. */
export interface CurveAxes {
  readonly x: string;
  readonly y: string;
  /** End of the x axis, which starts at 0; 1 where left out. */
  readonly to?: number;
  /** A line from corner to corner: what a guess would reach. */
  readonly chance?: boolean;
}

const CURVES_WIDTH = 380;

/** Colours and dashes that the style sheet knows. */
export const SERIES_STYLES = 6;

/**
 * Curves of values in 0 … 1 as one `<svg>`: ROC, precision–recall, PRO.
 * @param label what the chart shows, for those who do not see it
 */
export function curveChart(
  label: string,
  series: readonly Series[],
  { x, y, to = 1, chance = false }: CurveAxes,
): string {
  const on = frame(CURVES_WIDTH, [0, to], [0, 1], [x, y]);
  const lines = series.map(({ points, style }, i) => {
    const inside = upTo(points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b)), to);
    return inside.length ? `<path class="series s${(style ?? i) % SERIES_STYLES}" d="${path(inside, on)}"/>` : "";
  });
  const guess = chance ? `<path class="chance" d="${path([[0, 0], [to, to]], on)}"/>` : "";
  return svg(on, label, guess + lines.reverse().join("")); // the first one on top
}

/** The part of a curve whose x is at most `to`, cut there by a straight line. */
function upTo(points: readonly (readonly [number, number])[], to: number): (readonly [number, number])[] {
  const beyond = points.findIndex(([x]) => x > to);
  if (beyond < 0) return [...points];
  const [b, d] = points[beyond], before = points[beyond - 1];
  if (!before) return [];
  const [a, c] = before;
  return [...points.slice(0, beyond), [to, c + (d - c) * (to - a) / (b - a)]];
}
