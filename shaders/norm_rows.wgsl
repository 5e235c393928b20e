// Layer normalisation: each row of x [rows, channels] by itself. A workgroup holds 4 rows of 16 lanes; each lane walks its
// row in steps of 16, then the 16 partial sums are added in order.
//   KIND 0   y = xhat * gamma + beta and stats [rows, 2] = mean, rstd of each row
//   KIND 1   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = gamma * dy
// VECTOR 1: steps are four channels, else one.

struct Shape { rows: u32, lanes: u32, channels: u32, eps: f32 }

//#if VECTOR
alias Lane = vec4f;
fn add(v: Lane) -> f32 { return dot(v, vec4f(1.0)); }
//#else
alias Lane = f32;
fn add(v: Lane) -> f32 { return v; }
//#end

@group(0) @binding(0) var<uniform> s: Shape;
//#if KIND == 0
// x is only read: bound for writing too, it may lie in the buffer of y.
@group(0) @binding(1) var<storage, read_write> x: array<Lane>;
@group(0) @binding(2) var<storage, read> gamma: array<Lane>;
@group(0) @binding(3) var<storage, read> beta: array<Lane>;
@group(0) @binding(4) var<storage, read_write> y: array<Lane>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;
//#else
@group(0) @binding(1) var<storage, read> x: array<Lane>;
@group(0) @binding(2) var<storage, read> gamma: array<Lane>;
@group(0) @binding(3) var<storage, read> dy: array<Lane>;
@group(0) @binding(4) var<storage, read> stats: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<Lane>;
//#end

// One array per sum: the second sum need not wait for the first one's readers.
var<workgroup> partial: array<vec2f, 128>;

// Sum over the 16 lanes of a row, in each of them. One barrier and 16 reads: cheaper than a tree's barriers.
fn total(id: vec3u, sum: u32, value: vec2f) -> vec2f {
  let row = sum * 64u + id.y * 16u;
  partial[row + id.x] = value;
  workgroupBarrier();
  var result = vec2f(0.0);
//#for i in 0..16
  result += partial[row + {{i}}u];
//#end
  return result;
}

@compute @workgroup_size(16, 4)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = (group.x + group.y * groups.x) * 4u + id.y;
  let base = row * s.lanes;
  let end = select(0u, s.lanes, row < s.rows);
  let size = f32(s.channels);
  var sum = vec2f(0.0);
//#if KIND == 0
  for (var q = id.x; q < end; q += 16u) { sum.x += add(x[base + q]); }
  let mean = total(id, 0u, sum).x / size;
  sum = vec2f(0.0);
  for (var q = id.x; q < end; q += 16u) {
    let away = x[base + q] - Lane(mean);
    sum.x += add(away * away);
  }
  let rstd = inverseSqrt(total(id, 1u, sum).x / size + s.eps);
  for (var q = id.x; q < end; q += 16u) { y[base + q] = (x[base + q] - Lane(mean)) * rstd * gamma[q] + beta[q]; }
  if (id.x == 0u && row < s.rows) {
    stats[2u * row] = mean;
    stats[2u * row + 1u] = rstd;
  }
//#else
  let own = min(row, s.rows - 1u);
  let mean = Lane(stats[2u * own]);
  let rstd = stats[2u * own + 1u];
  for (var q = id.x; q < end; q += 16u) {
    let g = gamma[q] * dy[base + q];
    sum += vec2f(add(g), add(g * (x[base + q] - mean) * rstd));
  }
  let means = total(id, 0u, sum) / size;
  for (var q = id.x; q < end; q += 16u) {
    let hat = (x[base + q] - mean) * rstd;
    dx[base + q] = rstd * (gamma[q] * dy[base + q] - Lane(means.x) - hat * means.y);
  }
//#end
}
