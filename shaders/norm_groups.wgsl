// Joins the partial results of norm_columns.wgsl, [images, splits, channels] each, over the splits and over the channels of
// a group. One workgroup per image and group; 64 partial sums, each in
// blocks of 16 terms, then added in blocks of eight: Mesa's compiler takes compensated sums (Kahan) for what they are without.
//   KIND 0   chunk means and squared deviations -> stats [images, 2, channels]: mean and rstd, repeated for each channel;
//            BATCH 1 also writes the mean and the unbiased variance, one number per group
//   KIND 1   sums of d and d * xhat -> stats [images, 2, channels]: means over the group of g and g * xhat, g = d * gamma
//   KIND 2   the plain sums, one number per group: d beta and d gamma

struct Shape { images: u32, groups: u32, splits: u32, perGroup: u32, rows: u32, chunk: u32, eps: f32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> first: array<f32>;
@group(0) @binding(2) var<storage, read> second: array<f32>;
//#if KIND == 0
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
//#if BATCH
@group(0) @binding(4) var<storage, read_write> meanOut: array<f32>;
@group(0) @binding(5) var<storage, read_write> varianceOut: array<f32>;
//#end
//#elif KIND == 1
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
//#else
@group(0) @binding(3) var<storage, read_write> dBeta: array<f32>;
@group(0) @binding(4) var<storage, read_write> dGamma: array<f32>;
//#end

// One array per sum: the second sum need not wait for the first one's readers.
var<workgroup> partial: array<vec2f, 128>;

// Sum of every lane's value, in every lane. One barrier and 64 reads: cheaper than a tree's barriers.
fn total(lane: u32, sum: u32, value: vec2f) -> vec2f {
  partial[sum * 64u + lane] = value;
  workgroupBarrier();
  var result = vec2f(0.0);
  for (var i = sum * 64u; i < sum * 64u + 64u; i += 8u) {
    var block = partial[i];
//#for j in 1..8
    block += partial[i + {{j}}u];
//#end
    result += block;
  }
  return result;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let o = group.x + group.y * groups.x;
  let lane = id.x;
  let inside = o < s.images * s.groups;
  let image = o / s.groups;
  let firstChannel = o % s.groups * s.perGroup;
  let channels = s.groups * s.perGroup;
  let count = select(0u, s.splits * s.perGroup, inside);
  let base = image * s.splits * channels + firstChannel;
  var sum = vec2f(0.0);
//#if KIND == 0
  for (var j = lane; j < count; j += 64u) {
    let split = j / s.perGroup;
    let n = f32(min(s.chunk, s.rows - split * s.chunk));
    sum.x += n * first[base + split * channels + j % s.perGroup];
  }
  let size = f32(s.rows) * f32(s.perGroup);
  let about = total(lane, 0u, sum).x / size;
  sum = vec2f(0.0);
//#end
  var block = vec2f(0.0);
  for (var j = lane; j < count; j += 64u) {
    let split = j / s.perGroup;
    let at = base + split * channels + j % s.perGroup;
//#if KIND == 0
    let n = f32(min(s.chunk, s.rows - split * s.chunk));
    let away = first[at] - about;
    let term = vec2f(n * away, second[at] + n * away * away);
//#elif KIND == 1
    let term = gamma[firstChannel + j % s.perGroup] * vec2f(first[at], second[at]);
//#else
    let term = vec2f(first[at], second[at]);
//#end
    block += term;
    if (j / 64u % 16u == 15u) {
      sum += block;
      block = vec2f(0.0);
    }
  }
  sum += block;
//#if KIND == 0
  // The first mean is off by `off`, which the second pass shows.
  let moments = total(lane, 1u, sum);
  let off = moments.x / size;
  let mean = about + off;
  let squares = max(moments.y - moments.x * off, 0.0);
  let result = vec2f(mean, inverseSqrt(squares / size + s.eps));
//#if BATCH
  if (inside && lane == 0u) {
    meanOut[o] = mean;
    varianceOut[o] = squares / max(size - 1.0, 1.0);
  }
//#end
//#else
//#if KIND == 1
  let result = total(lane, 0u, sum) / (f32(s.rows) * f32(s.perGroup));
//#else
  let result = total(lane, 0u, sum);
  if (inside && lane == 0u) {
    dBeta[o] = result.x;
    dGamma[o] = result.y;
  }
//#end
//#end
//#if KIND < 2
  if (inside) {
    for (var c = lane; c < s.perGroup; c += 64u) {
      stats[image * 2u * channels + firstChannel + c] = result.x;
      stats[(image * 2u + 1u) * channels + firstChannel + c] = result.y;
    }
  }
//#end
}
