// What the kernels of gemm.wgsl read and write: sizes, tensors, four numbers at a time, and the epilogue. VECTOR 1: sizes divide
// by 4; HALF 1: b is packed f16; ADDED: tensors that the epilogue adds.

//#if F16
enable f16;
//#end
struct Shape {
  rows: u32, cols: u32, inner: u32,
  lanes: u32, tiles: u32, blocks: u32, count: u32,
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
fn unpackB(p: vec2u) -> vec4f { return vec4f(unpack2x16float(p.x), unpack2x16float(p.y)); }
//#else
fn unpackB(p: vec4f) -> vec4f { return p; }
//#end
fn loadB(at: u32) -> vec4f { return unpackB(b[at]); }
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

// Epilogue: v is c[row, 4*quad ..]; e0, e1, … are its added tensors. What is the same for all rows of a tile is read once.
//#if VECTOR
alias T = vec4f;
//#else
alias T = f32;
//#end
struct Once { h0: T, h1: T, h2: T }
fn once(row: u32, quad: u32) -> Once {
  var h = Once();
  let width = s.cols / {{UNIT}}u;
{{ONCE}}
  return h;
}
fn finish(value: T, row: u32, quad: u32, h: Once) -> T {
  var v = value;
  let width = s.cols / {{UNIT}}u;
{{EPILOGUE}}
  return v;
}
