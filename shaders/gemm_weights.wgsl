// Weight gradient of the GEMM family: c[split, tap, k, n] = sum over the split's rows m of a(m, tap, k) * g[m, n], batched.
//   CONV 0   a(m, k) = a[m, k]; splits divide the rows m
//   CONV 1   a(m, (ky,kx), k) = x[image, oy*sy + ky - pt, ox*sx + kx - pl, k]; splits divide the image lines (image, oy)
// Each invocation keeps 8 k x QUADS*4 n in registers, numbered through the quads of n, the tiles of k, then taps, splits
// and batch. Partial sums are added by `sum` in a fixed order: no atomics, same bytes.
// SUBGROUP 1, where 8 neighbouring invocations are a subgroup: LANES (1, 2, 4 or 8) of them have a tile of TILE k in common,
// with a quad of n each. Each reads its own of LANES pixels of a, and hands it to the others; the order stays.

struct Shape {
  lines: u32, lineLength: u32, // rows m = lines * lineLength
  inner: u32, cols: u32,       // k and n
  splits: u32, kh: u32, kw: u32,
  sourceH: u32, sourceW: u32, rowH: u32,
  sy: u32, sx: u32, pt: u32, pl: u32,
  aBatch: u32, gBatch: u32, cBatch: u32,
  lanes: u32, tiles: u32, count: u32,
}

@group(0) @binding(0) var<uniform> s: Shape;
//#if VECTOR
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> g: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
fn loadA(base: u32, k: u32) -> vec4f { return a[(base + k) / 4u]; }
fn loadG(base: u32, n: u32) -> vec4f { return g[(base + n) / 4u]; }
//#else
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
fn loadA(base: u32, k: u32) -> vec4f {
  let last = s.inner - 1u;
  return vec4f(a[base + min(k, last)], a[base + min(k + 1u, last)], a[base + min(k + 2u, last)], a[base + min(k + 3u, last)]);
}
fn loadG(base: u32, n: u32) -> vec4f {
  let last = s.cols - 1u;
  return vec4f(g[base + min(n, last)], g[base + min(n + 1u, last)], g[base + min(n + 2u, last)], g[base + min(n + 3u, last)]);
}
//#end

fn store(at: u32, k: u32, n: u32, v: vec4f) {
  if (k >= s.inner) { return; }
//#if VECTOR
  c[(at + k * s.cols + n) / 4u] = v;
//#else
//#for j in 0..4
  if (n + {{j}}u < s.cols) { c[at + k * s.cols + n + {{j}}u] = v[{{j}}]; }
//#end
//#end
}

//#if SUBGROUP
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  // Invocations past the end work on the last tile, for the others' sake, and write nothing.
  let lane = i % {{LANES}}u;
  let line = min(i, s.count - 1u) / {{LANES}}u;
  let owner = i % 8u - lane;
  let block = line % s.lanes; // of LANES quads of n
  let rest = line / s.lanes;
  let k = rest % s.tiles * {{TILE}}u;
  let taps = s.kh * s.kw;
  let tap = rest / s.tiles % taps;
  let split = rest / s.tiles / taps % s.splits;
  let batch = rest / s.tiles / taps / s.splits;
  let perSplit = (s.lines + s.splits - 1u) / s.splits;
  let first = min(split * perSplit, s.lines) * s.lineLength;
  let end = min((split + 1u) * perSplit, s.lines) * s.lineLength;
  // Quads past the end repeat the last one; they are not stored.
  let quad = block * {{LANES}}u + lane;
  let n = min(quad * 4u, s.cols - 4u);
//#for t in 0..TILE/4
  let k{{t}} = min(k + {{4*t}}u, s.inner - 4u);
//#end
//#for r in 0..TILE
  var acc{{r}} = vec4f(0.0);
//#end
//#if CONV
  let ky = tap / s.kw;
  let kx = tap % s.kw;
  // The pixel that this invocation reads, which moves on by LANES: image, row and column are the digits of its number.
  var column = (first + lane) % s.lineLength;
  var row = (first + lane) / s.lineLength % s.rowH;
  var image = (first + lane) / s.lineLength / s.rowH;
  let columns = {{LANES}}u % s.lineLength;
  let rows = {{LANES}}u / s.lineLength % s.rowH;
  let images = {{LANES}}u / s.lineLength / s.rowH;
//#end
  for (var m = first; m < end; m += {{LANES}}u) {
//#if CONV
    // Positions before the image wrap around and are not below its size.
    let y = row * s.sy + ky - s.pt;
    let x = column * s.sx + kx - s.pl;
    let ok = (m + lane < end) & (y < s.sourceH) & (x < s.sourceW);
    let aAt = select(0u, batch * s.aBatch + ((image * s.sourceH + y) * s.sourceW + x) * s.inner, ok);
    column += columns;
    let over = column >= s.lineLength;
    column = select(column, column - s.lineLength, over);
    row += rows + u32(over);
    let past = row >= s.rowH;
    row = select(row, row - s.rowH, past);
    image += images + u32(past);
//#else
    let ok = m + lane < end;
    let aAt = select(0u, batch * s.aBatch + (m + lane) * s.inner, ok);
//#end
//#for t in 0..TILE/4
    let own{{t}} = select(vec4f(0.0), loadA(aAt, k{{t}}), ok);
//#end
//#for p in 0..LANES
    {
      let g = loadG(batch * s.gBatch + min(m + {{p}}u, end - 1u) * s.cols, n);
//#for t in 0..TILE/4
//#if LANES == 8
      let a{{t}} = subgroupBroadcast(own{{t}}, {{p}}u);
//#elif LANES > 1
      let a{{t}} = subgroupShuffle(own{{t}}, owner + {{p}}u);
//#else
      let a{{t}} = own{{t}};
//#end
//#for r in 0..4
      acc{{4*t+r}} += a{{t}}[{{r}}] * g;
//#end
//#end
    }
//#end
  }
  let at = batch * s.cBatch + (split * taps + tap) * s.inner * s.cols;
  if (i < s.count && quad * 4u < s.cols) {
//#for r in 0..TILE
    store(at, k + {{r}}u, n, acc{{r}});
//#end
  }
}
//#else
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
  let line = i / s.lanes;
  let k = line % s.tiles * 8u;
  let taps = s.kh * s.kw;
  let tap = line / s.tiles % taps;
  let split = line / s.tiles / taps % s.splits;
  let batch = line / s.tiles / taps / s.splits;
  let lastQuad = (s.cols - 1u) / 4u;
//#for q in 0..QUADS
  let quad{{q}} = i % s.lanes + {{q}}u * s.lanes;
  let n{{q}} = min(quad{{q}}, lastQuad) * 4u;
//#end
  let perSplit = (s.lines + s.splits - 1u) / s.splits;
  let first = min(split * perSplit, s.lines);
  let end = min(first + perSplit, s.lines);
  // The second quad of k repeats the first where there is none; it is not stored.
  let k1 = select(k, k + 4u, k + 4u < s.inner);
//#for q in 0..QUADS
//#for r in 0..8
  var acc{{r}}_{{q}} = vec4f(0.0);
//#end
//#end
//#if CONV
  let ky = i32(tap / s.kw) - i32(s.pt);
  let kx = i32(tap % s.kw) - i32(s.pl);
  for (var l = first; l < end; l++) {
    let y = i32(l % s.rowH * s.sy) + ky;
    if (y < 0 || u32(y) >= s.sourceH) { continue; }
    let source = batch * s.aBatch + (l / s.rowH * s.sourceH + u32(y)) * s.sourceW * s.inner;
    for (var column = zero; column < s.lineLength; column++) {
      let x = i32(column * s.sx) + kx;
      if (x < 0 || u32(x) >= s.sourceW) { continue; }
      let aAt = source + u32(x) * s.inner;
      let gAt = batch * s.gBatch + (l * s.lineLength + column) * s.cols;
//#else
  {
    for (var l = first; l < end; l++) {
      let aAt = batch * s.aBatch + l * s.inner;
      let gAt = batch * s.gBatch + l * s.cols;
//#end
      let a0 = loadA(aAt, k);
      let a1 = loadA(aAt, k1);
//#for q in 0..QUADS
      let g{{q}} = loadG(gAt, n{{q}});
//#for r in 0..4
      acc{{r}}_{{q}} += a0[{{r}}] * g{{q}};
      acc{{r+4}}_{{q}} += a1[{{r}}] * g{{q}};
//#end
//#end
    }
  }
  let at = batch * s.cBatch + (split * taps + tap) * s.inner * s.cols;
//#for q in 0..QUADS
  if (quad{{q}} <= lastQuad) {
//#for r in 0..4
    store(at, k + {{r}}u, n{{q}}, acc{{r}}_{{q}});
//#end
    if (k + 4u < s.inner) {
//#for r in 0..4
      store(at, k + {{r+4}}u, n{{q}}, acc{{r+4}}_{{q}});
//#end
    }
  }
//#end
}
//#end
