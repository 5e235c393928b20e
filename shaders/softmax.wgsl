// Softmax and its logarithm over rows of x [rows, channels], shifted by the row's maximum.
//   KIND 0   y = exp(x - max) / sum                 KIND 1   y = x - max - log(sum)
//   KIND 2   dx = y * (dy - sum(dy * y))            KIND 3   dx = dy - exp(y) * sum(dy)
// LANES 16: a workgroup holds 4 rows, 16 lanes each.  LANES 1: 64 short rows, one invocation each.

struct Shape { rows: u32, channels: u32 }

@group(0) @binding(0) var<uniform> s: Shape;
//#if KIND < 2
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//#else
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
//#end

//#if LANES > 1
// One array for the maxima and one for the sums: neither has to wait for the other's readers.
var<workgroup> partial: array<f32, 128>;
//#end

// The sum or the maximum over the lanes of a row, in each of them. One barrier and 16 reads: cheaper than a tree's barriers.
//#for m in 0..2
//#if m == 0
fn total(id: vec3u, value: f32) -> f32 {
//#else
fn largest(id: vec3u, value: f32) -> f32 {
//#end
//#if LANES > 1
  let row = {{m*64}}u + id.y * 16u;
  partial[row + id.x] = value;
  workgroupBarrier();
  var result = partial[row];
//#for i in 1..16
//#if m == 0
  result += partial[row + {{i}}u];
//#else
  result = max(result, partial[row + {{i}}u]);
//#end
//#end
  return result;
//#else
  return value;
//#end
}
//#end

@compute @workgroup_size({{LANES}}, {{64/LANES}})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = (group.x + group.y * groups.x) * {{64/LANES}}u + id.y;
  let begin = row * s.channels + id.x;
  let end = select(0u, row * s.channels + s.channels, row < s.rows);
  var sum = 0.0;
//#if KIND < 2
  var top = -3.4e38;
  for (var i = begin; i < end; i += {{LANES}}u) { top = max(top, x[i]); }
  top = largest(id, top);
  for (var i = begin; i < end; i += {{LANES}}u) { sum += exp(x[i] - top); }
//#if KIND == 0
  let scale = 1.0 / total(id, sum);
  for (var i = begin; i < end; i += {{LANES}}u) { y[i] = exp(x[i] - top) * scale; }
//#else
  let shift = log(total(id, sum));
  for (var i = begin; i < end; i += {{LANES}}u) { y[i] = x[i] - top - shift; }
//#end
//#elif KIND == 2
  for (var i = begin; i < end; i += {{LANES}}u) { sum += dy[i] * y[i]; }
  sum = total(id, sum);
  for (var i = begin; i < end; i += {{LANES}}u) { dx[i] = y[i] * (dy[i] - sum); }
//#else
  for (var i = begin; i < end; i += {{LANES}}u) { sum += dy[i]; }
  sum = total(id, sum);
  for (var i = begin; i < end; i += {{LANES}}u) { dx[i] = dy[i] - exp(y[i]) * sum; }
//#end
}
