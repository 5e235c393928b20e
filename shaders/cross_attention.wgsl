// Attention over a materialised map, in five small products over heads. Tokens x channels: head h owns channels
// h*head .. (h + 1)*head - 1 of rows of `width` channels. The map is [heads of all images, quads, n] of vec4f: four
// neighbouring keys of one query lie together, lanes run along the queries. Keys past m have weight 0.
//
//   KIND 0   p[i, j] = scale * f(i, j) * sum over d of a[i, d] b[j, d]        scores; gradient of the weights
//   KIND 1   p[i, :] = softmax(p[i, :])                                       in place
//   KIND 2   t[i, j] = scale * f(i, j) * p[i, j] (t[i, j] - sum over j of p t)  gradient of the scores, in place
//   KIND 3   c[i, d] = scale * sum over j of f(i, j) p[i, j] b[j, d]            output; gradient of q
//   KIND 4   c[j, d] = scale * sum over i of f(i, j) p[i, j] a[i, d]            gradients of k and v
//
// f = 1 + columns[j] * (map[i] - 1) where MAPPED, else 1. VECTOR 0 takes heads whose channels do not divide by 4.

struct Shape {
  n: u32, m: u32, heads: u32, width: u32,
  head: u32, quads: u32, tiles: u32, blocks: u32,
  count: u32, scale: f32,
  columned: u32, // queries whose keys `columns` picks: n or none
}

@group(0) @binding(0) var<uniform> s: Shape;
//#if MAPPED
@group(0) @binding(1) var<storage, read> map: array<f32>;
@group(0) @binding(2) var<storage, read> columns: array<f32>;
//#end
//#if KIND == 0
@group(0) @binding({{FIRST}}) var<storage, read> a: array<{{T}}>;
@group(0) @binding({{FIRST+1}}) var<storage, read> b: array<{{T}}>;
@group(0) @binding({{FIRST+2}}) var<storage, read_write> p: array<vec4f>;
//#elif KIND == 1
@group(0) @binding({{FIRST}}) var<storage, read_write> p: array<vec4f>;
//#elif KIND == 2
@group(0) @binding({{FIRST}}) var<storage, read> p: array<vec4f>;
@group(0) @binding({{FIRST+1}}) var<storage, read_write> t: array<vec4f>;
//#elif KIND == 3
// p and b are only read: bound for writing too, they may lie in the buffer of c.
@group(0) @binding({{FIRST}}) var<storage, read_write> p: array<vec4f>;
@group(0) @binding({{FIRST+1}}) var<storage, read_write> b: array<{{T}}>;
@group(0) @binding({{FIRST+2}}) var<storage, read_write> c: array<{{T}}>;
//#else
@group(0) @binding({{FIRST}}) var<storage, read> p: array<vec4f>;
@group(0) @binding({{FIRST+1}}) var<storage, read> b: array<{{T}}>;
@group(0) @binding({{FIRST+2}}) var<storage, read_write> c: array<{{T}}>;
//#end

const FAR = -1e30; // below every score

//#if MAPPED
fn factor(image: u32, i: u32, quad: u32) -> vec4f {
  let w = map[image * s.n + i] - 1.0;
  if (i >= s.columned) { return vec4f(1.0 + w); }
  let j = image * s.m + min(vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u), vec4u(s.m - 1u));
  return 1.0 + w * vec4f(columns[j.x], columns[j.y], columns[j.z], columns[j.w]);
}
//#else
fn factor(image: u32, i: u32, quad: u32) -> f32 { return 1.0; }
//#end

// Where channel quad d of a head's token lies, and four of its channels, zero past the head's end.
//#if VECTOR
fn place(token: u32, h: u32) -> u32 { return (token * s.width + h * s.head) / 4u; }
//#if KIND == 0
fn loadA(at: u32, d: u32) -> vec4f { return a[at + d]; }
//#end
//#if KIND != 1 && KIND != 2
fn loadB(at: u32, d: u32) -> vec4f { return b[at + d]; }
//#end
//#else
fn place(token: u32, h: u32) -> u32 { return token * s.width + h * s.head; }
//#if KIND == 0
fn loadA(at: u32, d: u32) -> vec4f {
  let i = at + 4u * d;
  let left = s.head - 4u * d;
  var v = vec4f(a[i], 0.0, 0.0, 0.0);
  if (left > 1u) { v.y = a[i + 1u]; }
  if (left > 2u) { v.z = a[i + 2u]; }
  if (left > 3u) { v.w = a[i + 3u]; }
  return v;
}
//#end
//#if KIND != 1 && KIND != 2
fn loadB(at: u32, d: u32) -> vec4f {
  let i = at + 4u * d;
  let left = s.head - 4u * d;
  var v = vec4f(b[i], 0.0, 0.0, 0.0);
  if (left > 1u) { v.y = b[i + 1u]; }
  if (left > 2u) { v.z = b[i + 2u]; }
  if (left > 3u) { v.w = b[i + 3u]; }
  return v;
}
//#end
//#end

//#if KIND >= 3
fn store(at: u32, d: u32, v: vec4f) {
//#if VECTOR
  c[at + d] = v;
//#else
  let left = s.head - 4u * d;
  c[at + 4u * d] = v.x;
  if (left > 1u) { c[at + 4u * d + 1u] = v.y; }
  if (left > 2u) { c[at + 4u * d + 2u] = v.z; }
  if (left > 3u) { c[at + 4u * d + 3u] = v.w; }
//#end
}
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let flat = id.x + id.y * groups.x * 64u;
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
  if (flat >= s.count) { return; }
  let channels = (s.head + 3u) / 4u;
//#if KIND == 0
  let tile = flat % s.tiles;
  let block = flat / s.tiles % s.blocks;
  let bh = flat / s.tiles / s.blocks;
  let image = bh / s.heads;
  let h = bh % s.heads;
//#for x in 0..4*QUADS
  let b{{x}} = place(image * s.m + min({{4*QUADS}}u * block + {{x}}u, s.m - 1u), h);
//#end
//#for r in 0..ROWS
  let i{{r}} = tile + {{r}}u * s.tiles;
  let a{{r}} = place(image * s.n + min(i{{r}}, s.n - 1u), h);
//#for y in 0..QUADS
  var acc{{r}}_{{y}} = vec4f(0.0);
//#end
//#end
  for (var d = zero; d < channels; d++) {
//#for x in 0..4*QUADS
    let v{{x}} = loadB(b{{x}}, d);
//#end
//#for r in 0..ROWS
    let u{{r}} = loadA(a{{r}}, d);
//#for y in 0..QUADS
    acc{{r}}_{{y}} += vec4f(dot(u{{r}}, v{{4*y}}), dot(u{{r}}, v{{4*y+1}}), dot(u{{r}}, v{{4*y+2}}), dot(u{{r}}, v{{4*y+3}}));
//#end
//#end
  }
//#for y in 0..QUADS
  let quad{{y}} = {{QUADS}}u * block + {{y}}u;
  if (quad{{y}} < s.quads) {
//#for r in 0..ROWS
    if (i{{r}} < s.n) {
      p[(bh * s.quads + quad{{y}}) * s.n + i{{r}}] = acc{{r}}_{{y}} * (s.scale * factor(image, i{{r}}, quad{{y}}));
    }
//#end
  }
//#end
//#elif KIND == 1
  let first = flat / s.n * s.quads * s.n + flat % s.n;
  let last = first + (s.quads - 1u) * s.n;
  let inside = vec4u(4u * (s.quads - 1u)) + vec4u(0u, 1u, 2u, 3u) < vec4u(s.m);
  p[last] = select(vec4f(FAR), p[last], inside);
  var top = p[last];
  for (var at = first; at < last; at += s.n) { top = max(top, p[at]); }
  let most = max(max(top.x, top.y), max(top.z, top.w));
  var sum = vec4f(0.0);
  for (var at = first; at <= last; at += s.n) {
    let e = exp(p[at] - most);
    p[at] = e;
    sum += e;
  }
  let norm = 1.0 / (sum.x + sum.y + sum.z + sum.w);
  for (var at = first; at <= last; at += s.n) { p[at] *= norm; }
//#elif KIND == 2
  let i = flat % s.n;
  let first = flat / s.n * s.quads * s.n + i;
  let image = flat / s.n / s.heads;
  var inner = 0.0;
  for (var quad = zero; quad < s.quads; quad++) { inner += dot(p[first + quad * s.n], t[first + quad * s.n]); }
  for (var quad = zero; quad < s.quads; quad++) {
    let at = first + quad * s.n;
    t[at] = s.scale * factor(image, i, quad) * p[at] * (t[at] - inner);
  }
//#elif KIND == 3
  let wide = (channels + {{WIDE-1}}u) / {{WIDE}}u;
  let tile = flat / wide % s.tiles;
  let bh = flat / wide / s.tiles;
  let image = bh / s.heads;
  let h = bh % s.heads;
//#for z in 0..WIDE
  let d{{z}} = flat % wide * {{WIDE}}u + {{z}}u;
  let c{{z}} = min(d{{z}}, channels - 1u);
//#end
//#for r in 0..ROWS
  let i{{r}} = min(tile + {{r}}u * s.tiles, s.n - 1u);
//#for z in 0..WIDE
  var acc{{r}}_{{z}} = vec4f(0.0);
//#end
//#end
  for (var quad = zero; quad < s.quads; quad++) {
    let at = (bh * s.quads + quad) * s.n;
//#for x in 0..4
    let b{{x}} = place(image * s.m + min(4u * quad + {{x}}u, s.m - 1u), h);
//#for z in 0..WIDE
    let v{{x}}_{{z}} = loadB(b{{x}}, c{{z}});
//#end
//#end
//#for r in 0..ROWS
    let w{{r}} = p[at + i{{r}}] * factor(image, i{{r}}, quad);
//#for z in 0..WIDE
    acc{{r}}_{{z}} += w{{r}}.x * v0_{{z}} + w{{r}}.y * v1_{{z}} + w{{r}}.z * v2_{{z}} + w{{r}}.w * v3_{{z}};
//#end
//#end
  }
//#for r in 0..ROWS
  if (tile + {{r}}u * s.tiles < s.n) {
    let at = place(image * s.n + i{{r}}, h);
//#for z in 0..WIDE
    if (d{{z}} < channels) { store(at, d{{z}}, s.scale * acc{{r}}_{{z}}); }
//#end
  }
//#end
//#else
  let wide = (channels + {{WIDE-1}}u) / {{WIDE}}u;
  let block = flat / wide % s.blocks;
  let bh = flat / wide / s.blocks;
  let image = bh / s.heads;
  let h = bh % s.heads;
//#for z in 0..WIDE
  let d{{z}} = flat % wide * {{WIDE}}u + {{z}}u;
  let c{{z}} = min(d{{z}}, channels - 1u);
//#end
//#for y in 0..QUADS
  let quad{{y}} = min({{QUADS}}u * block + {{y}}u, s.quads - 1u);
  let at{{y}} = (bh * s.quads + quad{{y}}) * s.n;
//#for x in 0..4
//#for z in 0..WIDE
  var acc{{4*y+x}}_{{z}} = vec4f(0.0);
//#end
//#end
//#end
  for (var i = zero; i < s.n; i++) {
    let token = place(image * s.n + i, h);
//#for z in 0..WIDE
    let v{{z}} = loadB(token, c{{z}});
//#end
//#for y in 0..QUADS
    let w{{y}} = p[at{{y}} + i] * factor(image, i, quad{{y}});
//#for x in 0..4
//#for z in 0..WIDE
    acc{{4*y+x}}_{{z}} += w{{y}}[{{x}}] * v{{z}};
//#end
//#end
//#end
  }
//#for x in 0..4*QUADS
  let j{{x}} = {{4*QUADS}}u * block + {{x}}u;
  if (j{{x}} < s.m) {
    let row = place(image * s.m + j{{x}}, h);
//#for z in 0..WIDE
    if (d{{z}} < channels) { store(row, d{{z}}, s.scale * acc{{x}}_{{z}}); }
//#end
  }
//#end
//#end
}
