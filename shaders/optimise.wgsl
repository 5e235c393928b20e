// Updates of variables in place, four numbers at a time. The last quad may pass the tensor's end: buffers are padded.
//   KIND 0   Adam: weight decay is added to the gradient      KIND 1   AdamW: weight decay shrinks the parameter
//   KIND 2   target = value                                   KIND 3   target += (1 - decay) * (value - target)
// hyper: learning rate, beta1, beta2, eps, weight decay, 1 - beta1^t, 1 - beta2^t, 1 - beta2

struct Shape { count: u32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> value: array<vec4f>; // the gradient where KIND < 2
//#if KIND < 2
@group(0) @binding(2) var<storage, read> hyper: array<f32, 8>;
@group(0) @binding(3) var<storage, read_write> parameter: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4f>;
//#elif KIND == 2
@group(0) @binding(2) var<storage, read_write> variable: array<vec4f>;
//#else
@group(0) @binding(2) var<storage, read> decay: array<f32>;
@group(0) @binding(3) var<storage, read_write> variable: array<vec4f>;
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i * 4u >= s.count) { return; }
//#if KIND < 2
//#if KIND == 0
  let p = parameter[i];
  let g = value[i] + hyper[4] * p;
//#else
  let p = parameter[i] * (1.0 - hyper[0] * hyper[4]);
  let g = value[i];
//#end
  let m1 = m[i] + (1.0 - hyper[1]) * (g - m[i]);
  // 1 - beta2 comes from the host: 1 - 0.999 in f32 is off by 1e-5 of itself.
  let v1 = v[i] + hyper[7] * (g * g - v[i]);
  m[i] = m1;
  v[i] = v1;
  parameter[i] = p - hyper[0] / hyper[5] * m1 / (sqrt(v1) / sqrt(hyper[6]) + hyper[3]);
//#elif KIND == 2
  variable[i] = value[i];
//#else
  let old = variable[i];
  variable[i] = old + (1.0 - decay[0]) * (value[i] - old);
//#end
}
