// Moves of elements, bit by bit: the type is u32 whatever the tensor's.
//   PERMUTE 0   strips: y[base + r * yStride + i] = x[r * xStride + i + shift], zero where i + shift >= limit
//               (shift wraps around: a pad shifts by a negative number)
//   PERMUTE 1   y in order, x through one stride per axis of y; the innermost axis is the last of AXES
// VECTOR 1 moves quads; every size, stride and shift is then given in quads.

//#if PERMUTE
struct Shape {
  count: u32,
//#for k in 0..AXES
  size{{k}}: u32, stride{{k}}: u32,
//#end
}
//#else
struct Shape { count: u32, width: u32, xStride: u32, shift: u32, limit: u32, base: u32, yStride: u32 }
//#end

@group(0) @binding(0) var<uniform> s: Shape;
//#if VECTOR
@group(0) @binding(1) var<storage, read> x: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;
//#else
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
//#if PERMUTE
  let rest{{AXES}} = i;
//#for back in 1..AXES
  let rest{{AXES-back}} = rest{{AXES-back+1}} / s.size{{AXES-back}};
  let at{{AXES-back}} = (rest{{AXES-back+1}} - rest{{AXES-back}} * s.size{{AXES-back}}) * s.stride{{AXES-back}};
//#end
  var source = rest1 * s.stride0;
//#for k in 1..AXES
  source += at{{k}};
//#end
  y[i] = x[source];
//#else
  let row = i / s.width;
  let column = i - row * s.width;
  let source = column + s.shift;
//#if VECTOR
  var v = vec4u(0u);
//#else
  var v = 0u;
//#end
  if (source < s.limit) { v = x[row * s.xStride + source]; }
  y[s.base + row * s.yStride + column] = v;
//#end
}
