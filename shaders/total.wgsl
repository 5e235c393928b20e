// One number from several tensors, in a fixed order.
//   FINAL 0   partial[s.at + workgroup] = sum over that workgroup's share of x of f
//             KIND 0   f = x * x          KIND 1   f = 1 where x is NaN or infinite, else 0
//   FINAL 1   y = sum of partial; its root where KIND 0

struct Shape { count: u32, at: u32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u, @builtin(num_workgroups) groups: vec3u) {
  var sum = 0.0;
  for (var i = group.x * 64u + lane.x; i < s.count; i += groups.x * 64u) {
//#if FINAL
    sum += x[i];
//#elif KIND == 0
    sum += x[i] * x[i];
//#else
    // Exponent bits all ones; comparisons with NaN are folded away by the compiler.
    sum += select(0.0, 1.0, (bitcast<u32>(x[i]) & 0x7f800000u) == 0x7f800000u);
//#end
  }
  partial[lane.x] = sum;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane.x < half) { partial[lane.x] += partial[lane.x + half]; }
  }
  if (lane.x == 0u) {
//#if FINAL && KIND == 0
    y[0] = sqrt(partial[0]);
//#else
    y[s.at + group.x] = partial[0];
//#end
  }
}
