// Pointwise family on flat arrays of `count` elements.
//   INPUTS 1   y = f(a)          INPUTS 2   y = f(a, b), equal shapes          INPUTS 3   y = f(a, b, c)
//   BROADCAST 1: a and b are read through four strides each (0 on a broadcast axis).
// EXPRESSION holds f in WGSL, over `a`, `b`, `c` (vec4f, or f32 where BROADCAST), with the constants s.p and s.q.

struct Shape {
  count: u32, p: f32, q: f32, spare: u32,
  n1: u32, n2: u32, n3: u32, spare2: u32, // sizes of the output's last three of four axes
  a0: u32, a1: u32, a2: u32, a3: u32,
  b0: u32, b1: u32, b2: u32, b3: u32,
}

@group(0) @binding(0) var<uniform> s: Shape;
//#if BROADCAST
@group(0) @binding(1) var<storage, read> inA: array<f32>;
@group(0) @binding(2) var<storage, read> inB: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
//#else
@group(0) @binding(1) var<storage, read> inA: array<vec4f>;
//#if INPUTS > 1
@group(0) @binding(2) var<storage, read> inB: array<vec4f>;
//#end
//#if INPUTS > 2
@group(0) @binding(3) var<storage, read> inC: array<vec4f>;
//#end
@group(0) @binding({{INPUTS+1}}) var<storage, read_write> out: array<vec4f>;
//#end

{{FUNCTIONS}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
//#if BROADCAST
  if (i >= s.count) { return; }
  let i3 = i % s.n3;
  let i2 = i / s.n3 % s.n2;
  let i1 = i / (s.n3 * s.n2) % s.n1;
  let i0 = i / (s.n3 * s.n2 * s.n1);
  let a = inA[i0 * s.a0 + i1 * s.a1 + i2 * s.a2 + i3 * s.a3];
  let b = inB[i0 * s.b0 + i1 * s.b1 + i2 * s.b2 + i3 * s.b3];
  out[i] = {{EXPRESSION}};
//#else
  // Buffers are padded to 256 bytes: the last quad may compute past the end, never outside the buffer.
  if (i * 4u >= s.count) { return; }
  let a = inA[i];
//#if INPUTS > 1
  let b = inB[i];
//#end
//#if INPUTS > 2
  let c = inC[i];
//#end
  out[i] = {{EXPRESSION}};
//#end
}
