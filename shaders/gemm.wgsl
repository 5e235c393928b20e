// GEMM family: c[m, n] = finish( sum over taps and k of a(m, tap, k) * b(tap, k, n) ), batched.
//
// One skeleton, several readers:
//   CONV 0   a(m, k)          = a[m, k]                                    linear, matmul
//   CONV 1   a(m, (ky,kx), k) = x[image, oy*sy + ky - pt, ox*sx + kx - pl, k]   convolution, zero outside
//   CONV 2   a(m, (ky,kx), k) = dy[image, (y + pt - ky)/sy, (x + pl - kx)/sx, k] where that divides: its input gradient
//   TRANSPOSED 0   b(tap, k, n) = b[tap, k, n]        TRANSPOSED 1   b(tap, k, n) = b[tap, n, k]
// Layout: a and c are rows x channels (NHWC), convolution weights are [kh, kw, in, out] (HWIO).
// Each invocation keeps TILE rows x QUADS*4 columns in registers. Invocations are numbered through the lanes of a block of
// columns, then its row tiles, then the blocks, then the batch; neighbours read neighbouring quads of b.
// SHARED 1: a workgroup of 8 tiles of rows x 8 lanes reads its rows of a and its columns of b, eight quads of k at a time,
// into workgroup memory, each invocation an eighth of them; the sums are taken from there, in the same order.
// SLICES > 1, with SHARED, where a card would have too few invocations: a workgroup is that many such groups, which take turns
// at eight quads of k; their sums are added at the end, in order.
// F16 1, with SHARED, HALF and VECTOR: the factors are multiplied as f16, and 16 products are added as f16 before they join
// the f32 sum. Each invocation's rows, and its columns, are scaled by a power of two for 32 terms at a time, so that the
// largest is between 1 and 2: 16 products stay below 64, whatever the numbers are, and small gradients are not lost.
// SUBGROUP 1, for adapters whose subgroups are 8 neighbouring invocations: LANES (1, 2, 4 or 8) of them side by side have a
// tile in common, of whose rows of a each reads LOADS and hands them to the others; where SPLIT > 1, the SPLIT tiles of a
// subgroup need the same columns of b, and read those together too. The sums are the same, in the same order.
// LONG 1, for convolutions: each tap's sum is kept by itself, then added to the others. One running sum of 11,520 terms rounds
// three times as much.
// VECTOR 0 is the same for sizes that do not divide by 4, with scalar loads and a guarded tail.
// Stands behind gemm_tensors.wgsl.

//#if SHARED
//#if F16
var<workgroup> sharedA: array<vec4<f16>, {{SLICES*TILE*64}}>;
var<workgroup> sharedB: array<vec4<f16>, {{SLICES*QUADS*4*64}}>;
var<workgroup> largestA: array<f32, {{SLICES*64}}>; // [slice, tile, quad of k]
var<workgroup> largestB: array<f32, {{SLICES*64}}>; // [slice, lane, quad of k]
//#if SLICES > 1
var<workgroup> sums: array<vec4f, {{(SLICES-1)*TILE*64}}>; // [slice after the first, row of a tile, invocation]
//#end

// The power of two at or below v ≥ 0, as the bits of an f32; its inverse is 0x7f000000 less them. 0 of what f32 hardly holds.
fn powerBelow(v: f32) -> u32 { return min(bitcast<u32>(v) & 0x7f800000u, 0x7e800000u); }
fn largestOf(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
//#else
var<workgroup> sharedA: array<vec4f, {{SLICES*TILE*64}}>;    // [slice, row of a tile, quad of k, tile]
var<workgroup> sharedB: array<vec4f, {{SLICES*QUADS*4*64}}>; // [slice, quad of columns and row or column of it, quad of k, lane]
//#end

// The tile is turned by k, so that neither writing nor reading meets the same memory bank eight times.
fn cellA(slice: u32, row: u32, k: u32, tile: u32) -> u32 { return ((slice * {{TILE}}u + row) * 8u + k) * 8u + (tile ^ k); }
fn cellB(slice: u32, part: u32, k: u32, lane: u32) -> u32 { return ((slice * {{4*QUADS}}u + part) * 8u + k) * 8u + lane; }
//#end

@compute @workgroup_size({{64*SLICES}})
//#if SHARED
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let line = id.x + id.y * groups.x;
  if (line >= s.count) { return; } // the whole workgroup: barriers follow
  let slice = {{SLICES > 1}}u * (local / 64u);
  let lane = local % 8u;
  let tile = local / 8u % 8u;
  let first = (line % s.tiles * 8u + tile) * {{TILE}}u;
//#else
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
//#if SUBGROUP
  // Invocations past the end work on the last tile, for the others' sake, and write nothing.
  let lane = i % {{LANES}}u;
  let line = min(i, s.count - 1u) / {{LANES}}u;
  let tile = i % 8u / {{LANES}}u; // within the subgroup
//#else
  if (i >= s.count) { return; }
  let lane = i % s.lanes;
  let line = i / s.lanes;
//#end
  let first = line % s.tiles * {{TILE}}u;
//#end
//#if SUBGROUP
  let start = first + min(lane * {{LOADS}}u, {{TILE-1}}u); // the first row that this invocation reads
//#else
  let start = first;
//#end
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
  let block = line / s.tiles % s.blocks;
  let batch = line / s.tiles / s.blocks;
  let aBase = batch * s.aBatch;
  let bBase = batch * s.bBatch;
  let steps = (s.inner + 3u) / 4u;
  let width = (s.cols + 3u) / 4u;
//#for q in 0..QUADS
//#if SUBGROUP
  let quad{{q}} = (block * {{QUADS}}u + {{q}}u) * {{LANES}}u + lane;
//#else
  let quad{{q}} = (block * {{QUADS}}u + {{q}}u) * s.lanes + lane;
//#end
  let near{{q}} = min(quad{{q}}, width - 1u); // past the end: read the last quad, write nothing
//#end
//#for r in 0..TILE
//#for q in 0..QUADS
  var acc{{r}}_{{q}} = vec4f(0.0);
//#end
//#end
//#if LONG
//#for r in 0..TILE
//#for q in 0..QUADS
  var total{{r}}_{{q}} = vec4f(0.0);
//#end
//#end
//#end
//#if CONV
  // The pixels of the tile's rows, one step after another: divisions are slow. Rows past the end are read and not written.
  let image0 = start / (s.rowH * s.rowW);
  let y0 = start / s.rowW % s.rowH;
  let x0 = start % s.rowW;
//#if CONV == 2
  let yq0 = (y0 + s.pt) / s.sy;
  let xq0 = (x0 + s.pl) / s.sx;
  let yr0 = (y0 + s.pt) % s.sy;
  let xr0 = (x0 + s.pl) % s.sx;
  let top = s.pt / s.sy;
  let left = s.pl / s.sx;
//#end
//#for r in 1..LOADS
  let edge{{r}} = x{{r-1}} + 1u == s.rowW;
  let x{{r}} = select(x{{r-1}} + 1u, 0u, edge{{r}});
  let foot{{r}} = edge{{r}} & (y{{r-1}} + 1u == s.rowH);
  let y{{r}} = select(y{{r-1}} + u32(edge{{r}}), 0u, foot{{r}});
  let image{{r}} = image{{r-1}} + u32(foot{{r}});
//#if CONV == 2
  let xc{{r}} = xr{{r-1}} + 1u == s.sx;
  let xq{{r}} = select(xq{{r-1}} + u32(xc{{r}}), left, edge{{r}});
  let xr{{r}} = select(select(xr{{r-1}} + 1u, 0u, xc{{r}}), s.pl - left * s.sx, edge{{r}});
  let yc{{r}} = yr{{r-1}} + 1u == s.sy;
  let yq{{r}} = select(select(yq{{r-1}}, yq{{r-1}} + u32(yc{{r}}), edge{{r}}), top, foot{{r}});
  let yr{{r}} = select(select(yr{{r-1}}, select(yr{{r-1}} + 1u, 0u, yc{{r}}), edge{{r}}), s.pt - top * s.sy, foot{{r}});
//#end
//#end
  for (var tap = zero; tap < s.kh * s.kw; tap++) {
    let ky = tap / s.kw;
    let kx = tap % s.kw;
//#if CONV == 2
    let kyq = ky / s.sy;
    let kxq = kx / s.sx;
    let kyr = ky % s.sy;
    let kxr = kx % s.sx;
//#end
    // Positions before the image wrap around and are not below its size.
//#for r in 0..LOADS
//#if CONV == 1
    let sy{{r}} = y{{r}} * s.sy + ky - s.pt;
    let sx{{r}} = x{{r}} * s.sx + kx - s.pl;
    let ok{{r}} = (sy{{r}} < s.sourceH) & (sx{{r}} < s.sourceW);
//#else
    let sy{{r}} = yq{{r}} - kyq;
    let sx{{r}} = xq{{r}} - kxq;
    let ok{{r}} = (yr{{r}} == kyr) & (xr{{r}} == kxr) & (sy{{r}} < s.sourceH) & (sx{{r}} < s.sourceW);
//#end
    let at{{r}} = select(0u, (aBase + ((image{{r}} * s.sourceH + sy{{r}}) * s.sourceW + sx{{r}}) * s.inner) / {{UNIT}}u, ok{{r}});
//#end
//#else
//#for r in 0..LOADS
  let at{{r}} = (aBase + min(start + {{r}}u, s.rows - 1u) * s.inner) / {{UNIT}}u;
//#end
  {
    let tap = 0u;
//#end
//#if SPLIT > 1
    // Part e = 4·quad + row or column of the quad; this invocation reads every SPLIT-th.
//#for t in 0..PARTS
    let e{{t}} = ({{t*SPLIT}}u + tile) % {{4*QUADS}}u;
    let part{{t}} = min((block * {{QUADS}}u + e{{t}} / 4u) * {{LANES}}u + lane, width - 1u);
//#if TRANSPOSED
    var own{{t}}At = (bBase + (tap * s.cols + part{{t}} * 4u + e{{t}} % 4u) * s.inner) / 4u;
//#else
    var own{{t}}At = (bBase + tap * s.inner * s.cols) / 4u + part{{t}} + e{{t}} % 4u * width;
//#end
//#end
//#elif TRANSPOSED
//#for q in 0..QUADS
//#for j in 0..4
    let b{{j}}_{{q}}At = (bBase + (tap * s.cols + min(near{{q}} * 4u + {{j}}u, s.cols - 1u)) * s.inner) / {{UNIT}}u;
//#end
//#end
//#else
//#for q in 0..QUADS
    var b{{q}}At = (bBase + tap * s.inner * s.cols) / {{UNIT}}u + near{{q}} * {{4/UNIT}}u;
//#end
//#end
//#if SHARED
    for (var turn = zero; turn < steps; turn += {{8*SLICES}}u) {
      let past = min(turn + 8u * slice, steps);
      // What this invocation reads for all; past the end the last quad again, which nobody takes.
      let ka = min(past + lane, steps - 1u);
      let kb = min(past + tile, steps - 1u);
//#else
    for (var k = zero; k < steps; k++) {
      let kb = k;
//#end
//#if SPLIT > 1
//#for t in 0..PARTS
      let own{{t}} = b[own{{t}}At];
      own{{t}}At += {{TRANSPOSED}}u + {{4-4*TRANSPOSED}}u * width;
//#end
//#for q in 0..QUADS
//#for j in 0..4
      let b{{j}}_{{q}} = unpackB(subgroupShuffle(own{{(4*q+j)/SPLIT}}, {{(4*q+j)%SPLIT*LANES}}u + lane));
//#end
//#end
//#else
//#for q in 0..QUADS
//#if TRANSPOSED
//#for j in 0..4
//#if VECTOR
      let b{{j}}_{{q}} = loadB(b{{j}}_{{q}}At + kb);
//#else
      let b{{j}}_{{q}} = loadB(b{{j}}_{{q}}At + 4u * kb, s.inner - 4u * kb);
//#end
//#end
//#else
//#if VECTOR
//#if SHARED
      let row{{q}} = b{{q}}At + 4u * kb * width;
//#else
      let row{{q}} = b{{q}}At;
      b{{q}}At += 4u * width;
//#end
      let b0_{{q}} = loadB(row{{q}});
      let b1_{{q}} = loadB(row{{q}} + width);
      let b2_{{q}} = loadB(row{{q}} + 2u * width);
      let b3_{{q}} = loadB(row{{q}} + 3u * width);
//#else
      let left{{q}} = s.cols - near{{q}} * 4u;
      // Rows past the end are read again and meet a zero in a.
//#for j in 0..4
      let b{{j}}_{{q}} = loadB(b{{q}}At + (min(4u * kb + {{j}}u, s.inner - 1u)) * s.cols, left{{q}});
//#end
//#end
//#end
//#end
//#end
//#if SHARED
//#if F16
      var mostA = vec4f(0.0);
      var mostB = vec4f(0.0);
//#for r in 0..TILE
//#if CONV
      let read{{r}} = select(vec4f(0.0), loadA(at{{r}}, ka), ok{{r}});
//#else
      let read{{r}} = loadA(at{{r}}, ka);
//#end
      mostA = max(mostA, abs(read{{r}}));
//#end
//#for q in 0..QUADS
//#for j in 0..4
      mostB = max(mostB, abs(b{{j}}_{{q}}));
//#end
//#end
      largestA[slice * 64u + tile * 8u + lane] = largestOf(mostA);
      largestB[slice * 64u + lane * 8u + tile] = largestOf(mostB);
//#end
      workgroupBarrier(); // the last quads have been used
//#if F16
      // This invocation's tile and lane are the same when it reads for all as when it multiplies.
      var topA = 0.0;
      var topB = 0.0;
//#for k in 0..8
      topA = max(topA, largestA[slice * 64u + tile * 8u + {{k}}u]);
      topB = max(topB, largestB[slice * 64u + lane * 8u + {{k}}u]);
//#end
      let powerA = powerBelow(topA);
      let powerB = powerBelow(topB);
      let downA = bitcast<f32>(0x7f000000u - powerA);
      let downB = bitcast<f32>(0x7f000000u - powerB);
      let up = bitcast<f32>(powerA) * bitcast<f32>(powerB);
//#for r in 0..TILE
      sharedA[cellA(slice, {{r}}u, lane, tile)] = vec4<f16>(read{{r}} * downA);
//#end
//#for q in 0..QUADS
//#for j in 0..4
      sharedB[cellB(slice, {{4*q+j}}u, tile, lane)] = vec4<f16>(b{{j}}_{{q}} * downB);
//#end
//#end
      workgroupBarrier();
      for (var part = zero; part < min(8u, steps - past); part += 4u) {
//#for r in 0..TILE
//#for q in 0..QUADS
      var short{{r}}_{{q}} = vec4<f16>(0.0h);
//#end
//#end
      for (var k = part; k < min(part + 4u, steps - past); k++) {
//#else
//#for r in 0..TILE
//#if CONV
      sharedA[cellA(slice, {{r}}u, lane, tile)] = select(vec4f(0.0), loadA(at{{r}}, ka), ok{{r}});
//#else
      sharedA[cellA(slice, {{r}}u, lane, tile)] = loadA(at{{r}}, ka);
//#end
//#end
//#for q in 0..QUADS
//#for j in 0..4
      sharedB[cellB(slice, {{4*q+j}}u, tile, lane)] = b{{j}}_{{q}};
//#end
//#end
      workgroupBarrier();
      for (var k = zero; k < min(8u, steps - past); k++) {
//#end
//#for q in 0..QUADS
//#for j in 0..4
      let b{{j}}_{{q}} = sharedB[cellB(slice, {{4*q+j}}u, k, lane)];
//#end
//#end
//#end
//#if SUBGROUP
//#for r in 0..LOADS
//#if CONV
      let read{{r}} = select(vec4f(0.0), loadA(at{{r}}, k), ok{{r}});
//#else
      let read{{r}} = loadA(at{{r}}, k);
//#end
//#end
//#end
//#for r in 0..TILE
//#if SHARED
      let a{{r}} = sharedA[cellA(slice, {{r}}u, k, tile)];
//#elif SUBGROUP && LANES == 8
      let a{{r}} = subgroupBroadcast(read{{r%LOADS}}, {{r/LOADS}}u);
//#elif SUBGROUP && LANES > 1
      let a{{r}} = subgroupShuffle(read{{r%LOADS}}, tile * {{LANES}}u + {{r/LOADS}}u);
//#elif SUBGROUP
      let a{{r}} = read{{r}};
//#elif CONV
      let a{{r}} = select(vec4f(0.0), loadA(at{{r}}, k), ok{{r}});
//#else
      let a{{r}} = loadA(at{{r}}, k);
//#end
//#for q in 0..QUADS
//#if F16 && TRANSPOSED
      short{{r}}_{{q}} += vec4<f16>(dot(a{{r}}, b0_{{q}}), dot(a{{r}}, b1_{{q}}), dot(a{{r}}, b2_{{q}}), dot(a{{r}}, b3_{{q}}));
//#elif F16
      short{{r}}_{{q}} += a{{r}}.x * b0_{{q}} + a{{r}}.y * b1_{{q}} + a{{r}}.z * b2_{{q}} + a{{r}}.w * b3_{{q}};
//#elif TRANSPOSED
      acc{{r}}_{{q}} += vec4f(dot(a{{r}}, b0_{{q}}), dot(a{{r}}, b1_{{q}}), dot(a{{r}}, b2_{{q}}), dot(a{{r}}, b3_{{q}}));
//#else
      acc{{r}}_{{q}} += a{{r}}.x * b0_{{q}} + a{{r}}.y * b1_{{q}} + a{{r}}.z * b2_{{q}} + a{{r}}.w * b3_{{q}};
//#end
//#end
//#end
//#if SHARED
      }
//#end
//#if F16
//#for r in 0..TILE
//#for q in 0..QUADS
      acc{{r}}_{{q}} += up * vec4f(short{{r}}_{{q}});
//#end
//#end
      }
//#end
    }
//#if LONG
//#for r in 0..TILE
//#for q in 0..QUADS
    total{{r}}_{{q}} += acc{{r}}_{{q}};
    acc{{r}}_{{q}} = vec4f(0.0);
//#end
//#end
//#end
  }
//#if LONG
//#for r in 0..TILE
//#for q in 0..QUADS
  acc{{r}}_{{q}} = total{{r}}_{{q}};
//#end
//#end
//#end
//#if SLICES > 1
//#for q in 0..QUADS
  workgroupBarrier(); // what lies there has been used
  if (slice > 0u) {
//#for r in 0..TILE
    {{SUMS}}[((slice - 1u) * {{TILE}}u + {{r}}u) * 64u + local % 64u] = acc{{r}}_{{q}};
//#end
  }
  workgroupBarrier();
  if (slice == 0u) {
//#for x in 1..SLICES
//#for r in 0..TILE
    acc{{r}}_{{q}} += {{SUMS}}[{{((x-1)*TILE+r)*64}}u + local];
//#end
//#end
  }
//#end
  if (slice > 0u) { return; }
//#end
  let cBase = batch * s.cBatch;
  let cRow = batch * s.rows + first;
//#if VECTOR
//#for q in 0..QUADS
  let once{{q}} = once(cRow, near{{q}});
//#end
//#end
  // Rows move up through the first row's registers: the write is compiled once and not once per row.
  for (var row = first; row < min(first + {{TILE}}u, s.rows); row++) {
//#for q in 0..QUADS
//#if SUBGROUP
    if (quad{{q}} < width && i < s.count) {
//#else
    if (quad{{q}} < width) {
//#end
//#if VECTOR
      c[cBase / 4u + row * width + quad{{q}}] = finish(acc0_{{q}}, batch * s.rows + row, quad{{q}}, once{{q}});
//#else
//#for j in 0..4
      if (quad{{q}} * 4u + {{j}}u < s.cols) {
        let column = quad{{q}} * 4u + {{j}}u;
        let at = batch * s.rows + row;
        c[cBase + row * s.cols + column] = finish(acc0_{{q}}[{{j}}], at, column, once(at, column));
      }
//#end
//#end
    }
//#for r in 1..TILE
    acc{{r-1}}_{{q}} = acc{{r}}_{{q}};
//#end
//#end
  }
}
