/** Back from polygons and run lengths to pixels, as the tools do that read them. */

/** Corners of a polygon that is x, y, x, y, …, each with the one after it. */
function* edges(polygon: readonly number[]): Generator<[x0: number, y0: number, x1: number, y1: number]> {
  for (let i = 0; i < polygon.length; i += 2) {
    const next = (i + 2) % polygon.length;
    yield [polygon[i], polygon[i + 1], polygon[next], polygon[next + 1]];
  }
}

/** Whether a point is inside, by the even-odd rule: how often a ray to the right crosses the outline. */
function inside(polygon: readonly number[], x: number, y: number): boolean {
  let crossings = 0;
  for (const [x0, y0, x1, y1] of edges(polygon)) {
    if ((y0 <= y) !== (y1 <= y) && x0 + (x1 - x0) * (y - y0) / (y1 - y0) > x) crossings++;
  }
  return crossings % 2 === 1;
}

/** Pixels whose centre is inside, as COCO's tools take a polygon. */
export function paintCentres(polygon: readonly number[], width: number, height: number): Uint8Array {
  return Uint8Array.from(
    { length: width * height },
    (_, i) => inside(polygon, i % width + 0.5, Math.floor(i / width) + 0.5) ? 1 : 0,
  );
}

/** As YOLO takes a polygon of 0 … 1: cut down to whole pixels, then inside and line coloured (OpenCV's fillPoly). */
export function paintWhole(relative: readonly number[], width: number, height: number): Uint8Array {
  const polygon = relative.map((v, i) => Math.trunc(Math.fround(Math.fround(v) * (i % 2 ? height : width))));
  const out = new Uint8Array(width * height), xs = polygon.filter((_, i) => i % 2 === 0);
  const ys = polygon.filter((_, i) => i % 2 === 1);
  for (let y = Math.min(...ys); y <= Math.max(...ys); y++) {
    for (let x = Math.min(...xs); x <= Math.max(...xs); x++) out[y * width + x] = inside(polygon, x, y) ? 1 : 0;
  }
  for (const [x0, y0, x1, y1] of edges(polygon)) {
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0));
    for (let k = 0; k <= steps; k++) {
      const t = steps ? k / steps : 0;
      out[Math.round(y0 + t * (y1 - y0)) * width + Math.round(x0 + t * (x1 - x0))] = 1;
    }
  }
  return out;
}

/** COCO's compact string as pixels, by the rules of its C code. */
export function paintRle(text: string, width: number, height: number): Uint8Array {
  const counts: number[] = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const bits = text.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      more = (bits & 32) !== 0;
      shift += 5;
      if (!more && bits & 16) value |= -1 << shift;
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  const out = new Uint8Array(width * height);
  let position = 0;
  counts.forEach((count, i) => {
    for (let k = 0; k < count; k++, position++) {
      out[position % height * width + Math.floor(position / height)] = i % 2;
    }
  });
  if (position !== width * height) throw new Error(`${position} pixels, not ${width * height}`);
  return out;
}
