// A diagonal Gaussian given by moments [rows, 2 * channels] = mean, log variance; the latter is clamped to [-30, 20].
//   KIND 0   y [rows, channels] = mean + exp(logvar / 2) * noise
//   KIND 1   y [rows, 2 * channels]: gradient of KIND 0 for the moments, from dy [rows, channels]
//   KIND 2   y [rows, channels] = scale / 2 * (mean^2 + exp(logvar) - 1 - logvar): terms of the divergence from N(0, 1)
//   KIND 3   y [rows, 2 * channels]: gradient of the sum of those times dy[0]

struct Shape { count: u32, channels: u32, scale: f32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> moments: array<f32>;
//#if KIND == 2
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//#elif KIND == 1
@group(0) @binding(2) var<storage, read> noise: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//#else
@group(0) @binding(2) var<storage, read> noise: array<f32>; // dy [1] where KIND is 3
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
  let at = i / s.channels * 2u * s.channels + i % s.channels;
  let mean = moments[at];
  let raw = moments[at + s.channels];
  let logvar = clamp(raw, -30.0, 20.0);
  let free = raw == logvar; // the clamp stops the gradient
//#if KIND == 0
  y[i] = mean + exp(0.5 * logvar) * noise[i];
//#elif KIND == 1
  y[at] = dy[i];
  y[at + s.channels] = select(0.0, 0.5 * dy[i] * noise[i] * exp(0.5 * logvar), free);
//#elif KIND == 2
  y[i] = 0.5 * s.scale * (mean * mean + exp(logvar) - 1.0 - logvar);
//#else
  let factor = s.scale * noise[0];
  y[at] = factor * mean;
  y[at + s.channels] = select(0.0, 0.5 * factor * (exp(logvar) - 1.0), free);
//#end
}
