// Adaptive attention re-weighting (AnomalyDiffusion, section 3.3), by KIND:
//   0   y = greatest mask value within half[0] pixels along both axes: one invocation per pixel
//   1   y = mean over channels of (mask * (x - z0))^2: one invocation per pixel
//   2   the official code's weights: v = mask / d, y = |mask| v / sum v, 1 where v = 0, clamped
//   3   the paper's (eq. 7): y = |mask| softmax(1 / (temperature * d)) over pixels with mask, d > 0; 1 elsewhere, clamped
// Kinds 2 and 3 run one workgroup per image; its sums are trees of a fixed order.

struct Shape {
  images: u32, height: u32, width: u32, channels: u32,
  low: f32, high: f32, temperature: f32,
}

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
//#if KIND == 0
@group(0) @binding(2) var<storage, read> half: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#elif KIND == 1
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> z0: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//#else
@group(0) @binding(2) var<storage, read> d: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#end

//#if KIND < 2
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.images * s.height * s.width) { return; }
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
//#if KIND == 0
  let column = i % s.width;
  let row = i / s.width % s.height;
  let first = i - row * s.width - column;
  let reach = half[0];
  var most = mask[i];
  for (var r = row - min(row, reach); r <= min(row + reach, s.height - 1u); r++) {
    for (var c = column - min(column, reach); c <= min(column + reach, s.width - 1u); c++) {
      most = max(most, mask[first + r * s.width + c]);
    }
  }
  y[i] = most;
//#else
  var sum = 0.0;
  for (var c = zero; c < s.channels; c++) {
    let gap = mask[i] * (x[i * s.channels + c] - z0[i * s.channels + c]);
    sum += gap * gap;
  }
  y[i] = sum / f32(s.channels);
//#end
}
//#else
const SMALL = 1e-30; // a distance below this weighs as this: the inverse and its sum stay finite

var<workgroup> sums: array<vec2f, 64>;

// Sum of a lane's area and weight over the workgroup.
fn total(lane: u32, part: vec2f) -> vec2f {
  sums[lane] = part;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { sums[lane] += sums[lane + half]; }
  }
  workgroupBarrier();
  return sums[0];
}

//#if KIND == 3
var<workgroup> tops: array<f32, 64>;

fn greatest(lane: u32, part: f32) -> f32 {
  tops[lane] = part;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { tops[lane] = max(tops[lane], tops[lane + half]); }
  }
  workgroupBarrier();
  return tops[0];
}

fn score(i: u32) -> f32 { return 1.0 / max(d[i] * s.temperature, SMALL); }
//#end

// A pixel's weight before it is normalised, 0 for those that do not count.
fn raw(i: u32, top: f32) -> f32 {
  if (d[i] <= 0.0 || mask[i] <= 0.0) { return 0.0; }
//#if KIND == 2
  return mask[i] / max(d[i], SMALL);
//#else
  return exp(score(i) - top);
//#end
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let lane = local.x;
  let pixels = s.height * s.width;
  let first = group.x * pixels;
  let end = first + pixels;
//#if KIND == 3
  var best = 0.0; // scores are positive
  for (var i = first + lane; i < end; i += 64u) {
    if (d[i] > 0.0 && mask[i] > 0.0) { best = max(best, score(i)); }
  }
  let top = greatest(lane, best);
//#else
  let top = 0.0;
//#end
  var part = vec2f(0.0);
  for (var i = first + lane; i < end; i += 64u) { part += vec2f(mask[i], raw(i, top)); }
  let sum = total(lane, part);
  for (var i = first + lane; i < end; i += 64u) {
//#if KIND == 2
    let counts = raw(i, top) > 0.0;
//#else
    let counts = d[i] > 0.0 && mask[i] > 0.0; // a counted pixel's exponential may have vanished
//#end
    let weight = select(1.0, sum.x * (raw(i, top) / max(sum.y, SMALL)), counts);
    y[i] = clamp(weight, s.low, s.high);
  }
}
//#end
