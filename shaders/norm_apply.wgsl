// The pointwise half of group and batch normalisation over x [images, rows, channels].
//   KIND 0   y = f(xhat * gamma + beta), xhat = (x - mean) * rstd with stats [images, 2, channels] = mean, rstd
//   KIND 1   the same by a given mean [channels] and variance [channels]: inference
//   KIND 2   dx = rstd * (g - means.first - xhat * means.second), g = gamma * dy * f'(xhat * gamma + beta)
// f: ACTIVATION 0 nothing, 1 SiLU, 2 ReLU.  VECTOR 1: lanes are four channels, else one.

struct Shape { count: u32, lanes: u32, perImage: u32, eps: f32 }

//#if VECTOR
alias Lane = vec4f;
//#else
alias Lane = f32;
//#end

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> x: array<Lane>;
@group(0) @binding(2) var<storage, read> gamma: array<Lane>;
@group(0) @binding(3) var<storage, read> beta: array<Lane>;
//#if KIND == 0
@group(0) @binding(4) var<storage, read> stats: array<Lane>;
@group(0) @binding(5) var<storage, read_write> y: array<Lane>;
//#elif KIND == 1
@group(0) @binding(4) var<storage, read> means: array<Lane>;
@group(0) @binding(5) var<storage, read> variances: array<Lane>;
@group(0) @binding(6) var<storage, read_write> y: array<Lane>;
//#else
@group(0) @binding(4) var<storage, read> stats: array<Lane>;
@group(0) @binding(5) var<storage, read> dy: array<Lane>;
@group(0) @binding(6) var<storage, read> means: array<Lane>;
@group(0) @binding(7) var<storage, read_write> dx: array<Lane>;
//#end

{{FUNCTIONS}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
  let lane = i % s.lanes;
//#if KIND == 1
  let mean = means[lane];
  let rstd = inverseSqrt(variances[lane] + s.eps);
//#else
  let table = i / s.perImage * 2u * s.lanes + lane;
  let mean = stats[table];
  let rstd = stats[table + s.lanes];
//#end
  let scale = gamma[lane];
  let hat = (x[i] - mean) * rstd;
  let z = hat * scale + beta[lane];
//#if KIND == 2
//#if ACTIVATION == 1
  let d = dy[i] * siluSlope{{SUFFIX}}(z);
//#elif ACTIVATION == 2
  let d = select(Lane(), dy[i], z > Lane());
//#else
  let d = dy[i];
//#end
  dx[i] = rstd * (d * scale - means[table] - hat * means[table + s.lanes]);
//#else
//#if ACTIVATION == 1
  y[i] = silu{{SUFFIX}}(z);
//#elif ACTIVATION == 2
  y[i] = max(z, Lane());
//#else
  y[i] = z;
//#end
//#end
}
