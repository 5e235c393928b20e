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
// f = 1 + columns[j] * (map[i] - 1) where `mapped`, else 1. VECTOR 0 takes heads whose channels do not divide by 4.

struct Shape {
  n: u32, m: u32, heads: u32, width: u32,
  head: u32, quads: u32, tiles: u32, count: u32,
  mapped: u32, columned: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> map: array<f32>;
@group(0) @binding(2) var<storage, read> columns: array<f32>;
//#if KIND == 0
@group(0) @binding(3) var<storage, read> a: array<{{T}}>;
@group(0) @binding(4) var<storage, read> b: array<{{T}}>;
@group(0) @binding(5) var<storage, read_write> p: array<vec4f>;
//#elif KIND == 1
@group(0) @binding(3) var<storage, read_write> p: array<vec4f>;
//#elif KIND == 2
@group(0) @binding(3) var<storage, read> p: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> t: array<vec4f>;
//#else
@group(0) @binding(3) var<storage, read> p: array<vec4f>;
@group(0) @binding(4) var<storage, read> b: array<{{T}}>;
@group(0) @binding(5) var<storage, read_write> c: array<{{T}}>;
//#end

const FAR = -1e30; // below every score

fn factor(image: u32, i: u32, quad: u32) -> vec4f {
  if (s.mapped == 0u) { return vec4f(1.0); }
  let w = map[image * s.n + i] - 1.0;
  if (s.columned == 0u) { return vec4f(1.0 + w); }
  let j = image * s.m + min(vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u), vec4u(s.m - 1u));
  return 1.0 + w * vec4f(columns[j.x], columns[j.y], columns[j.z], columns[j.w]);
}

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
  if (flat >= s.count) { return; }
  let channels = (s.head + 3u) / 4u;
//#if KIND == 0
  // Queries tile, tile + tiles, … against four keys.
  let tile = flat % s.tiles;
  let quad = flat / s.tiles % s.quads;
  let bh = flat / s.tiles / s.quads;
  let image = bh / s.heads;
  let h = bh % s.heads;
//#for x in 0..4
  let b{{x}} = place(image * s.m + min(4u * quad + {{x}}u, s.m - 1u), h);
//#end
//#for r in 0..ROWS
  let i{{r}} = tile + {{r}}u * s.tiles;
  let a{{r}} = place(image * s.n + min(i{{r}}, s.n - 1u), h);
  var acc{{r}} = vec4f(0.0);
//#end
  for (var d = 0u; d < channels; d++) {
    let v0 = loadB(b0, d);
    let v1 = loadB(b1, d);
    let v2 = loadB(b2, d);
    let v3 = loadB(b3, d);
//#for r in 0..ROWS
    let u{{r}} = loadA(a{{r}}, d);
    acc{{r}} += vec4f(dot(u{{r}}, v0), dot(u{{r}}, v1), dot(u{{r}}, v2), dot(u{{r}}, v3));
//#end
  }
//#for r in 0..ROWS
  if (i{{r}} < s.n) { p[(bh * s.quads + quad) * s.n + i{{r}}] = acc{{r}} * (s.scale * factor(image, i{{r}}, quad)); }
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
  for (var quad = 0u; quad < s.quads; quad++) { inner += dot(p[first + quad * s.n], t[first + quad * s.n]); }
  for (var quad = 0u; quad < s.quads; quad++) {
    let at = first + quad * s.n;
    t[at] = s.scale * factor(image, i, quad) * p[at] * (t[at] - inner);
  }
//#elif KIND == 3
  let d = flat % channels;
  let tile = flat / channels % s.tiles;
  let bh = flat / channels / s.tiles;
  let image = bh / s.heads;
  let h = bh % s.heads;
//#for r in 0..ROWS
  let i{{r}} = min(tile + {{r}}u * s.tiles, s.n - 1u);
  var acc{{r}} = vec4f(0.0);
//#end
  for (var quad = 0u; quad < s.quads; quad++) {
    let at = (bh * s.quads + quad) * s.n;
//#for x in 0..4
    let v{{x}} = loadB(place(image * s.m + min(4u * quad + {{x}}u, s.m - 1u), h), d);
//#end
//#for r in 0..ROWS
    let w{{r}} = p[at + i{{r}}] * factor(image, i{{r}}, quad);
    acc{{r}} += w{{r}}.x * v0 + w{{r}}.y * v1 + w{{r}}.z * v2 + w{{r}}.w * v3;
//#end
  }
//#for r in 0..ROWS
  if (tile + {{r}}u * s.tiles < s.n) { store(place(image * s.n + i{{r}}, h), d, s.scale * acc{{r}}); }
//#end
//#else
  let d = flat % channels;
  let quad = flat / channels % s.quads;
  let bh = flat / channels / s.quads;
  let image = bh / s.heads;
  let h = bh % s.heads;
  let at = (bh * s.quads + quad) * s.n;
//#for x in 0..4
  var acc{{x}} = vec4f(0.0);
//#end
  for (var i = 0u; i < s.n; i++) {
    let w = p[at + i] * factor(image, i, quad);
    let v = loadB(place(image * s.n + i, h), d);
    acc0 += w.x * v;
    acc1 += w.y * v;
    acc2 += w.z * v;
    acc3 += w.w * v;
  }
//#for x in 0..4
  if (4u * quad + {{x}}u < s.m) { store(place(image * s.m + 4u * quad + {{x}}u, h), d, s.scale * acc{{x}}); }
//#end
//#end
}
