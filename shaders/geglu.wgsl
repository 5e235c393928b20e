// Activations whose shape or parameters keep them out of pointwise.wgsl, by KIND:
//   0   y = value * gelu(gate) where a row of x is value | gate         GEGLU (Shazeer 2020)
//   1   its gradient: dvalue = dy * gelu(gate), dgate = dy * value * gelu'(gate)
//   2   y = x, or slope[channel] * x below zero                          PReLU (He et al. 2015)
//   3   its gradient for x
//   4   what each element adds to its gradient for slope
// One invocation per T (vec4f, or f32 where channels do not divide by 4) of a row of `width` of them.

struct Shape { count: u32, width: u32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> x: array<{{T}}>;
//#if KIND == 0
@group(0) @binding(2) var<storage, read_write> y: array<{{T}}>;
//#elif KIND == 1
@group(0) @binding(2) var<storage, read> dy: array<{{T}}>;
@group(0) @binding(3) var<storage, read_write> dx: array<{{T}}>;
//#elif KIND == 2
@group(0) @binding(2) var<storage, read> slope: array<{{T}}>;
@group(0) @binding(3) var<storage, read_write> y: array<{{T}}>;
//#elif KIND == 3
@group(0) @binding(2) var<storage, read> slope: array<{{T}}>;
@group(0) @binding(3) var<storage, read> dy: array<{{T}}>;
@group(0) @binding(4) var<storage, read_write> dx: array<{{T}}>;
//#else
@group(0) @binding(2) var<storage, read> dy: array<{{T}}>;
@group(0) @binding(3) var<storage, read_write> terms: array<{{T}}>;
//#end

{{FUNCTIONS}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
//#if KIND < 2
  let at = i + i / s.width * s.width; // a row of x is twice as wide
  let value = x[at];
  let gate = x[at + s.width];
//#if KIND == 0
  y[i] = value * gelu{{SUFFIX}}(gate);
//#else
  dx[at] = dy[i] * gelu{{SUFFIX}}(gate);
  dx[at + s.width] = dy[i] * value * geluSlope{{SUFFIX}}(gate);
//#end
//#else
  let value = x[i];
  let positive = value > {{T}}(0.0);
//#if KIND == 2
  y[i] = select(slope[i % s.width] * value, value, positive);
//#elif KIND == 3
  dx[i] = select(slope[i % s.width] * dy[i], dy[i], positive);
//#else
  terms[i] = select(dy[i] * value, {{T}}(0.0), positive);
//#end
//#end
}
