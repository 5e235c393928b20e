// Sums along the middle axis of [outer, length, inner]: y[o, p, i] = scale * sum of x[o, l, i] over part p of the axis, the
// l from p * run on, `run` of them (the last part may be shorter); in a fixed order. An invocation's sum
// is made of those of `block` terms: Mesa's compiler takes compensated sums (Kahan) for what they are without.
//   INNER 0  inner = 1: one workgroup per outer index and part, 64 partial sums, then a tree
//   INNER 1  one invocation per result

struct Shape { outer: u32, length: u32, inner: u32, scale: f32, parts: u32, run: u32, block: u32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

//#if INNER
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.outer * s.parts * s.inner) { return; }
  let row = i / s.inner;
  let base = row / s.parts * s.length * s.inner + i % s.inner;
  let begin = row % s.parts * s.run;
  let end = min(begin + s.run, s.length);
  var sum = 0.0;
  for (var first = begin; first < end; first += s.block) {
    var part = 0.0;
    for (var l = first; l < min(first + s.block, end); l++) { part += x[base + l * s.inner]; }
    sum += part;
  }
  y[i] = sum * s.scale;
}
//#else
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let o = group.x + group.y * groups.x;
  var sum = 0.0;
  let begin = o % s.parts * s.run;
  if (o < s.outer * s.parts) {
    let end = min(begin + s.run, s.length);
    for (var first = begin; first < end; first += 64u * s.block) {
      var part = 0.0;
      for (var l = first + lane.x; l < min(first + 64u * s.block, end); l += 64u) { part += x[o / s.parts * s.length + l]; }
      sum += part;
    }
  }
  partial[lane.x] = sum;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane.x < half) { partial[lane.x] += partial[lane.x + half]; }
  }
  if (lane.x == 0u && o < s.outer * s.parts) { y[o] = partial[0] * s.scale; }
}
//#end
