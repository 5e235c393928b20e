// GEMM family: c[m, n] = finish( sum over taps and k of a(m, tap, k) * b(tap, k, n) ), batched.
//
// One skeleton, several readers:
//   CONV 0   a(m, k)          = a[m, k]                                    linear, matmul
//   CONV 1   a(m, (ky,kx), k) = x[image, oy*sy + ky - pt, ox*sx + kx - pl, k]   convolution, zero outside
//   CONV 2   a(m, (ky,kx), k) = dy[image, (y + pt - ky)/sy, (x + pl - kx)/sx, k] where that divides: its input gradient
//   TRANSPOSED 0   b(tap, k, n) = b[tap, k, n]        TRANSPOSED 1   b(tap, k, n) = b[tap, n, k]
// Layout: a and c are rows x channels (NHWC), convolution weights are [kh, kw, in, out] (HWIO).
// Each invocation keeps TILE rows x 4 columns in registers; lanes run along the columns.
// VECTOR 0 is the same for sizes that do not divide by 4, with scalar loads and a guarded tail.

struct Shape {
  rows: u32, cols: u32, inner: u32, folds: u32,
  kh: u32, kw: u32,
  sourceH: u32, sourceW: u32, // the image that is read
  rowH: u32, rowW: u32,       // the image whose pixels are the rows
  sy: u32, sx: u32, pt: u32, pl: u32,
  aBatch: u32, bBatch: u32, cBatch: u32,
  group: u32,                 // rows per row of a "group" epilogue
}

@group(0) @binding(0) var<uniform> s: Shape;
//#if VECTOR
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
//#if HALF
@group(0) @binding(2) var<storage, read> b: array<vec2u>;
//#else
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
//#end
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
//#for i in 0..ADDED
@group(0) @binding({{4+i}}) var<storage, read> e{{i}}: array<vec4f>;
//#end
//#else
@group(0) @binding(1) var<storage, read> a: array<f32>;
//#if HALF
@group(0) @binding(2) var<storage, read> b: array<u32>;
//#else
@group(0) @binding(2) var<storage, read> b: array<f32>;
//#end
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
//#for i in 0..ADDED
@group(0) @binding({{4+i}}) var<storage, read> e{{i}}: array<f32>;
//#end
//#end

{{FUNCTIONS}}

//#if VECTOR
fn loadA(at: u32, k: u32) -> vec4f { return a[at + k]; }
//#if HALF
fn loadB(at: u32) -> vec4f { let p = b[at]; return vec4f(unpack2x16float(p.x), unpack2x16float(p.y)); }
//#else
fn loadB(at: u32) -> vec4f { return b[at]; }
//#end
//#else
//#if HALF
fn elementB(i: u32) -> f32 { let p = unpack2x16float(b[i >> 1u]); return select(p.x, p.y, (i & 1u) == 1u); }
//#else
fn elementB(i: u32) -> f32 { return b[i]; }
//#end
// Four neighbours from k*4 on, zero past the row's end.
fn loadA(at: u32, k: u32) -> vec4f {
  let left = s.inner - 4u * k;
  let i = at + 4u * k;
  var v = vec4f(a[i], 0.0, 0.0, 0.0);
  if (left > 1u) { v.y = a[i + 1u]; }
  if (left > 2u) { v.z = a[i + 2u]; }
  if (left > 3u) { v.w = a[i + 3u]; }
  return v;
}
fn loadB(at: u32, left: u32) -> vec4f {
  var v = vec4f(elementB(at), 0.0, 0.0, 0.0);
  if (left > 1u) { v.y = elementB(at + 1u); }
  if (left > 2u) { v.z = elementB(at + 2u); }
  if (left > 3u) { v.w = elementB(at + 3u); }
  return v;
}
//#end

// Epilogue: v is c[row, 4*quad ..]; e0, e1, … are its added tensors.
//#if VECTOR
fn finish(value: vec4f, row: u32, quad: u32) -> vec4f {
  var v = value;
  let width = s.cols / 4u;
{{EPILOGUE}}
  return v;
}
//#else
fn finish(value: f32, row: u32, column: u32) -> f32 {
  var v = value;
  let width = s.cols;
  let quad = column;
{{EPILOGUE}}
  return v;
}
//#end

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let batch = group.z / s.folds;
  let tile = group.y + (group.z % s.folds) * groups.y;
  let quad = group.x * 8u + lane.x;
  let first = (tile * 8u + lane.y) * {{TILE}}u;
  if (quad * 4u >= s.cols || first >= s.rows) { return; }
  let aBase = batch * s.aBatch;
  let bBase = batch * s.bBatch;
  let steps = (s.inner + 3u) / 4u;
//#for r in 0..TILE
  var acc{{r}} = vec4f(0.0);
  let row{{r}} = min(first + {{r}}u, s.rows - 1u);
//#end
//#if CONV
//#for r in 0..TILE
  let image{{r}} = row{{r}} / (s.rowH * s.rowW) * s.sourceH * s.sourceW;
//#if CONV == 1
  let y{{r}} = i32(row{{r}} / s.rowW % s.rowH * s.sy) - i32(s.pt);
  let x{{r}} = i32(row{{r}} % s.rowW * s.sx) - i32(s.pl);
//#else
  let y{{r}} = i32(row{{r}} / s.rowW % s.rowH + s.pt);
  let x{{r}} = i32(row{{r}} % s.rowW + s.pl);
//#end
//#end
  for (var tap = 0u; tap < s.kh * s.kw; tap++) {
    let ky = i32(tap / s.kw);
    let kx = i32(tap % s.kw);
//#for r in 0..TILE
//#if CONV == 1
    let sy{{r}} = y{{r}} + ky;
    let sx{{r}} = x{{r}} + kx;
    let ok{{r}} = sy{{r}} >= 0 && sx{{r}} >= 0 && u32(sy{{r}}) < s.sourceH && u32(sx{{r}}) < s.sourceW;
//#else
    let ty{{r}} = y{{r}} - ky;
    let tx{{r}} = x{{r}} - kx;
    let uy{{r}} = u32(max(ty{{r}}, 0));
    let ux{{r}} = u32(max(tx{{r}}, 0));
    let sy{{r}} = uy{{r}} / s.sy;
    let sx{{r}} = ux{{r}} / s.sx;
    let ok{{r}} = ty{{r}} >= 0 && tx{{r}} >= 0 && uy{{r}} % s.sy == 0u && ux{{r}} % s.sx == 0u && sy{{r}} < s.sourceH && sx{{r}} < s.sourceW;
//#end
    let at{{r}} = select(0u, (aBase + (image{{r}} + u32(sy{{r}}) * s.sourceW + u32(sx{{r}})) * s.inner) / {{UNIT}}u, ok{{r}});
//#end
//#else
//#for r in 0..TILE
  let at{{r}} = (aBase + row{{r}} * s.inner) / {{UNIT}}u;
//#end
  {
    let tap = 0u;
//#end
//#if TRANSPOSED
//#for j in 0..4
    let b{{j}}At = (bBase + (tap * s.cols + min(quad * 4u + {{j}}u, s.cols - 1u)) * s.inner) / {{UNIT}}u;
//#end
//#else
    var bAt = (bBase + tap * s.inner * s.cols) / {{UNIT}}u + quad * {{4/UNIT}}u;
//#end
    for (var k = 0u; k < steps; k++) {
//#if TRANSPOSED
//#for j in 0..4
//#if VECTOR
      let b{{j}} = loadB(b{{j}}At + k);
//#else
      let b{{j}} = loadB(b{{j}}At + 4u * k, s.inner - 4u * k);
//#end
//#end
//#else
//#if VECTOR
      let width = s.cols / 4u;
      let b0 = loadB(bAt);
      let b1 = loadB(bAt + width);
      let b2 = loadB(bAt + 2u * width);
      let b3 = loadB(bAt + 3u * width);
      bAt += 4u * width;
//#else
      let left = s.cols - quad * 4u;
      let last = s.inner - 1u;
      // Rows past the end are read again and meet a zero in a.
//#for j in 0..4
      let b{{j}} = loadB(bAt + (min(4u * k + {{j}}u, last)) * s.cols, left);
//#end
//#end
//#end
//#for r in 0..TILE
//#if CONV
      let a{{r}} = select(vec4f(0.0), loadA(at{{r}}, k), ok{{r}});
//#else
      let a{{r}} = loadA(at{{r}}, k);
//#end
//#if TRANSPOSED
      acc{{r}} += vec4f(dot(a{{r}}, b0), dot(a{{r}}, b1), dot(a{{r}}, b2), dot(a{{r}}, b3));
//#else
      acc{{r}} += a{{r}}.x * b0 + a{{r}}.y * b1 + a{{r}}.z * b2 + a{{r}}.w * b3;
//#end
//#end
    }
  }
  let cBase = batch * s.cBatch;
//#for r in 0..TILE
  if (first + {{r}}u < s.rows) {
//#if VECTOR
    c[cBase / 4u + (first + {{r}}u) * (s.cols / 4u) + quad] = finish(acc{{r}}, batch * s.rows + first + {{r}}u, quad);
//#else
//#for j in 0..4
    if (quad * 4u + {{j}}u < s.cols) {
      c[cBase + (first + {{r}}u) * s.cols + quad * 4u + {{j}}u] = finish(acc{{r}}[{{j}}], batch * s.rows + first + {{r}}u, quad * 4u + {{j}}u);
    }
//#end
//#end
  }
//#end
}
