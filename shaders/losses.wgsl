// Losses of logits [rows, channels] against integer labels [rows]; one invocation per row.
//   FOCAL 0   cross entropy: log(sum(exp)) - logit of the label
//   FOCAL 1   -alpha * |1 - p|^gamma * log(p), p = smooth + sum(t * softmax), t = 1 - smooth for the label and
//             smooth / (channels - 1) for the others
//   BACKWARD 0   y [rows]: the loss of each row times `scale`
//   BACKWARD 1   y [rows, channels]: the gradient of dy[0] times the sum of those

struct Shape { rows: u32, channels: u32, scale: f32, gamma: f32, smoothing: f32 }

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> alpha: array<f32>; // [channels], by the label
//#if BACKWARD
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
//#else
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= s.rows) { return; }
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
  let base = row * s.channels;
  let label = min(labels[row], s.channels - 1u);
  var top = logits[base];
  for (var c = 1u + zero; c < s.channels; c++) { top = max(top, logits[base + c]); }
  var sum = 0.0;
  for (var c = zero; c < s.channels; c++) { sum += exp(logits[base + c] - top); }
//#if FOCAL
  let other = s.smoothing / max(f32(s.channels) - 1.0, 1.0);
  let own = 1.0 - s.smoothing;
  let q = exp(logits[base + label] - top) / sum;
  // sum(t * softmax): all channels at `other`, and what the label has beyond that
  let mix = other + (own - other) * q;
  let p = mix + s.smoothing;
  let rest = 1.0 - p;
  let size = max(abs(rest), 1e-20);
//#if BACKWARD
  let power = pow(size, s.gamma - 1.0);
  let slope = s.gamma * sign(rest) * power * log(p) - power * size / p;
  let factor = dy[0] * s.scale * alpha[label] * slope;
  for (var c = zero; c < s.channels; c++) {
    let t = select(other, own, c == label);
    y[base + c] = factor * exp(logits[base + c] - top) / sum * (t - mix);
  }
//#else
  y[row] = -s.scale * alpha[label] * pow(size, s.gamma) * log(p);
//#end
//#else
//#if BACKWARD
  let factor = dy[0] * s.scale * alpha[label];
  for (var c = zero; c < s.channels; c++) {
    y[base + c] = factor * (exp(logits[base + c] - top) / sum - select(0.0, 1.0, c == label));
  }
//#else
  y[row] = s.scale * alpha[label] * (log(sum) + top - logits[base + label]);
//#end
//#end
}
