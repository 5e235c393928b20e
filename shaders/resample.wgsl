// Images [batch, H, W, C] resampled to [batch, P, Q, C].
//   POOL 0   y[p, q] = sum over i, j of row[p][i] * column[q][j] * x[from(p) + i, from(q) + j]: any resize or average, and
//            its gradient. `table` holds, for each p and then each q, {first source, count, position of the weights in the
//            table}, then the weights' bits.
//   POOL 1   y = maximum of a window, tap = its position in the window (the first of equals, in row-major order)
//   POOL 2   gradient of POOL 1: y[h, w] = sum of the dy of those windows whose maximum lies there
// VECTOR 1 takes four channels at once.

//#if POOL
struct Shape {
  count: u32, channels: u32,
  sourceH: u32, sourceW: u32, rowH: u32, rowW: u32, // of what is read and what is written
  kh: u32, kw: u32, sy: u32, sx: u32, pt: u32, pl: u32,
}
//#else
struct Shape { count: u32, channels: u32, sourceH: u32, sourceW: u32, rowH: u32, rowW: u32 }
//#end

@group(0) @binding(0) var<uniform> s: Shape;
//#if VECTOR
alias T = vec4f;
alias I = vec4u;
//#else
alias T = f32;
alias I = u32;
//#end
@group(0) @binding(1) var<storage, read> x: array<T>;
//#if POOL == 0
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
//#elif POOL == 1
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> tap: array<I>;
//#else
@group(0) @binding(2) var<storage, read> tap: array<I>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= s.count) { return; }
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
  let pixel = i / s.channels;
  let c = i - pixel * s.channels;
  let line = pixel / s.rowW;
  let q = pixel - line * s.rowW;
  let batch = line / s.rowH;
  let p = line - batch * s.rowH;
  let image = batch * s.sourceH * s.sourceW;
//#if POOL == 0
  let row = 3u * p;
  let column = 3u * (s.rowH + q);
  var sum = T(0.0);
  for (var a = zero; a < table[row + 1u]; a++) {
    let at = image + (table[row] + a) * s.sourceW + table[column];
    var part = T(0.0);
    for (var b = zero; b < table[column + 1u]; b++) {
      part += bitcast<f32>(table[table[column + 2u] + b]) * x[(at + b) * s.channels + c];
    }
    sum += bitcast<f32>(table[table[row + 2u] + a]) * part;
  }
  y[i] = sum;
//#elif POOL == 1
  // Window tap (ky, kx) reads row p * sy + ky - pt; the first taps outside wrap around and are not below sourceH.
  var best = T(0.0);
  var chosen = I(0u);
  var none = true;
  for (var ky = zero; ky < s.kh; ky++) {
    let h = p * s.sy + ky - s.pt;
    if (h >= s.sourceH) { continue; }
    for (var kx = zero; kx < s.kw; kx++) {
      let w = q * s.sx + kx - s.pl;
      if (w >= s.sourceW) { continue; }
      let v = x[(image + h * s.sourceW + w) * s.channels + c];
      if (none) {
        best = v;
        chosen = I(ky * s.kw + kx);
        none = false;
      } else {
        let wins = v > best;
        best = select(best, v, wins);
        chosen = select(chosen, I(ky * s.kw + kx), wins);
      }
    }
  }
  y[i] = best;
  tap[i] = chosen;
//#else
  // Windows whose tap (ky, kx) is here begin at p + pt - ky, q + pl - kx.
  var sum = T(0.0);
  for (var ky = zero; ky < s.kh; ky++) {
    let top = p + s.pt - ky;
    let h = top / s.sy;
    if (p + s.pt < ky || h * s.sy != top || h >= s.sourceH) { continue; }
    for (var kx = zero; kx < s.kw; kx++) {
      let left = q + s.pl - kx;
      let w = left / s.sx;
      if (q + s.pl < kx || w * s.sx != left || w >= s.sourceW) { continue; }
      let source = (image + h * s.sourceW + w) * s.channels + c;
      sum += select(T(0.0), x[source], tap[source] == I(ky * s.kw + kx));
    }
  }
  y[i] = sum;
//#end
}
