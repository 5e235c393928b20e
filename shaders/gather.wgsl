// Rows picked by index, from [batch, rows, width] by [batch, picks].
//   BACKWARD 0   y[b, m, :] = x[b, index[b, m], :]
//   BACKWARD 1   y[b, n, :] = sum over m with index[b, m] = n of x[b, m, :], in the order of m
// An index past the end reads the last row. HALF: x holds f16 pairs.

struct Shape { count: u32, width: u32, rows: u32, picks: u32 } // count, width in quads where VECTOR

@group(0) @binding(0) var<uniform> s: Shape;
//#if VECTOR
//#if HALF
@group(0) @binding(1) var<storage, read> x: array<vec2u>;
fn load(i: u32) -> vec4f { let p = x[i]; return vec4f(unpack2x16float(p.x), unpack2x16float(p.y)); }
//#else
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
fn load(i: u32) -> vec4f { return x[i]; }
//#end
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
//#else
//#if HALF
@group(0) @binding(1) var<storage, read> x: array<u32>;
fn load(i: u32) -> f32 { let p = unpack2x16float(x[i >> 1u]); return select(p.x, p.y, (i & 1u) == 1u); }
//#else
@group(0) @binding(1) var<storage, read> x: array<f32>;
fn load(i: u32) -> f32 { return x[i]; }
//#end
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#end
@group(0) @binding(2) var<storage, read> index: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
  let row = i / s.width;
  let column = i - row * s.width;
//#if BACKWARD
  let batch = row / s.rows;
  let own = row - batch * s.rows;
//#if VECTOR
  var sum = vec4f(0.0);
//#else
  var sum = 0.0;
//#end
  for (var m = batch * s.picks; m < (batch + 1u) * s.picks; m++) {
    if (min(index[m], s.rows - 1u) == own) { sum += load(m * s.width + column); }
  }
  y[i] = sum;
//#else
  let source = row / s.picks * s.rows + min(index[row], s.rows - 1u);
  y[i] = load(source * s.width + column);
//#end
}
