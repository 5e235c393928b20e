// Per channel, over chunks of rows of x [images, rows, channels]: two partial results [images, splits, channels] each.
//   SUMS 0   mean and sum of squared deviations of each chunk (two passes, the second one from the cache, which also gives
//            what the first one's mean is off by: Chan, Golub & LeVeque 1983, eq. 1.7)
//   SUMS 1   sum of d and of d * xhat, where xhat = (x - mean) * rstd and d = dy, times the slope of the activation:
//            what the gradients of x, gamma and beta need
// PER_ROW 0   stats [images, 2, channels] holds mean and rstd     PER_ROW 1   stats [rows, 2] does (layer norm)
// VECTOR 1    lanes are four channels                             VECTOR 0    lanes are one channel
// Sums are made of those of s.block rows: rounding then grows with the number of blocks. Where pixels are equal, as in a mask, the
// roundings of one long sum are too, and add up.

struct Shape { rows: u32, lanes: u32, chunk: u32, splits: u32, images: u32, block: u32 }

//#if VECTOR
alias Lane = vec4f;
//#else
alias Lane = f32;
//#end

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> x: array<Lane>;
//#if SUMS
@group(0) @binding(2) var<storage, read> dy: array<Lane>;
//#if PER_ROW
@group(0) @binding(3) var<storage, read> stats: array<f32>;
//#else
@group(0) @binding(3) var<storage, read> stats: array<Lane>;
//#end
@group(0) @binding(4) var<storage, read> gamma: array<Lane>;
@group(0) @binding(5) var<storage, read> beta: array<Lane>;
@group(0) @binding(6) var<storage, read_write> first: array<Lane>;
@group(0) @binding(7) var<storage, read_write> second: array<Lane>;
//#else
@group(0) @binding(2) var<storage, read_write> first: array<Lane>;
@group(0) @binding(3) var<storage, read_write> second: array<Lane>;
//#end

{{FUNCTIONS}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.images * s.splits * s.lanes) { return; }
  let lane = i % s.lanes;
  let image = i / (s.lanes * s.splits);
  let begin = i / s.lanes % s.splits * s.chunk;
  let end = min(begin + s.chunk, s.rows);
  let base = image * s.rows * s.lanes + lane;
  var a = Lane();
  var b = Lane();
//#if SUMS
//#if !PER_ROW
  let mean = stats[image * 2u * s.lanes + lane];
  let rstd = stats[(image * 2u + 1u) * s.lanes + lane];
//#end
//#if ACTIVATION
  let scale = gamma[lane];
  let shift = beta[lane];
//#end
//#end
//#if !SUMS
  for (var r = begin; r < end; r++) { a += x[base + r * s.lanes]; }
  let about = a / f32(end - begin);
  a = Lane();
//#end
  for (var block = begin; block < end; block += s.block) {
    var blockA = Lane();
    var blockB = Lane();
    for (var r = block; r < min(block + s.block, end); r++) {
//#if SUMS
//#if PER_ROW
      let hat = (x[base + r * s.lanes] - Lane(stats[2u * r])) * stats[2u * r + 1u];
//#else
      let hat = (x[base + r * s.lanes] - mean) * rstd;
//#end
//#if ACTIVATION == 1
      let d = dy[base + r * s.lanes] * siluSlope{{SUFFIX}}(hat * scale + shift);
//#elif ACTIVATION == 2
      let d = select(Lane(), dy[base + r * s.lanes], hat * scale + shift > Lane());
//#else
      let d = dy[base + r * s.lanes];
//#end
      blockA += d;
      blockB += d * hat;
//#else
      let d = x[base + r * s.lanes] - about;
      blockA += d;
      blockB += d * d;
//#end
    }
    a += blockA;
    b += blockB;
  }
//#if !SUMS
  let off = a / f32(end - begin);
  b = max(b - a * off, Lane());
  a = about + off;
//#end
  first[i] = a;
  second[i] = b;
}
