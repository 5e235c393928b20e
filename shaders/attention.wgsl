// Attention without its map in memory: softmax over tiles of KEYS keys with a running maximum (Milakov & Gimelshein 2018;
// Dao et al. 2022), the log-sum-exp of each row kept for the gradient, which makes the probabilities again.
// Tokens x channels: head h owns the D channels from h*D of rows of 4*width channels; D divides by 4.
//
//   PASS 0   o = softmax(scale q k') v, lse
//   PASS 1   delta[i] = sum over d of g[i, d] o[i, d];  dq[i] = scale * sum over j of p (g[i] v[j]' - delta[i]) k[j]
//   PASS 2   dv[j] = sum over i of p g[i] where DV;  dk[j] = scale * sum over i of p (g[i] v[j]' - delta[i]) q[i] where DK
//
// An invocation keeps ROWS rows of D channels in registers: queries in passes 0 and 1, keys in pass 2. Rows of one
// invocation stand `tiles` apart, so that lanes run along neighbours. Every sum has one owner and one order.
// SUBGROUP 1, where 8 neighbouring invocations are a subgroup and `tiles` divides by 8: what a step reads of the other side
// (KEYS rows) is the same for all of them; each reads an eighth, LOADS quads of channels, and hands it on.

struct Shape {
  n: u32, m: u32, heads: u32, width: u32,
  tiles: u32, count: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> s: Shape;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
//#if PASS == 0
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4f>;
//#elif PASS == 1
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> g: array<vec4f>;
@group(0) @binding(6) var<storage, read> o: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;
@group(0) @binding(8) var<storage, read_write> dq: array<vec4f>;
//#else
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> g: array<vec4f>;
@group(0) @binding(6) var<storage, read> delta: array<f32>;
//#if DK
@group(0) @binding(7) var<storage, read_write> dk: array<vec4f>;
//#end
//#if DV
@group(0) @binding({{7+DK}}) var<storage, read_write> dv: array<vec4f>;
//#end
//#end

const FAR = -1e30; // below every score

// Where a head's channels of a token begin.
fn place(token: u32, h: u32) -> u32 { return token * s.width + h * {{D/4}}u; }

//#if SUBGROUP
// Quad e = row of the step * D/4 + quad of channels is read by invocation e % 8 of the subgroup in its load e / 8.
struct Part { row: u32, quad: u32 }
fn part(load: u32, i: u32) -> Part {
  let e = min(8u * load + i % 8u, {{KEYS*(D/4)-1}}u);
  return Part(e / {{D/4}}u, e % {{D/4}}u);
}
//#end

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let flat = id.x + id.y * groups.x * 64u;
  let zero = u32(groups.x == 0u); // where loops start: ARCHITECTURE.md, Kernels
  if (flat >= s.count) { return; }
  let tile = flat % s.tiles;
  let bh = flat / s.tiles;
  let image = bh / s.heads;
  let h = bh % s.heads;
//#if SUBGROUP
//#for t in 0..LOADS
  let part{{t}} = part({{t}}u, flat);
//#end
//#end
//#if PASS < 2
//#for r in 0..ROWS
  let i{{r}} = min(tile + {{r}}u * s.tiles, s.n - 1u);
  let at{{r}} = place(image * s.n + i{{r}}, h);
//#for c in 0..D/4
  let q{{r}}_{{c}} = s.scale * q[at{{r}} + {{c}}u];
//#if PASS == 0
  var o{{r}}_{{c}} = vec4f(0.0);
//#else
  let g{{r}}_{{c}} = g[at{{r}} + {{c}}u];
  var dq{{r}}_{{c}} = vec4f(0.0);
//#end
//#end
//#if PASS == 0
  var top{{r}} = FAR;
  var sum{{r}} = 0.0;
//#else
  let lse{{r}} = lse[bh * s.n + i{{r}}];
  var delta{{r}} = 0.0;
//#for c in 0..D/4
  delta{{r}} += dot(g{{r}}_{{c}}, o[at{{r}} + {{c}}u]);
//#end
//#end
//#end
  for (var j = zero; j < s.m; j += {{KEYS}}u) {
//#for x in 0..KEYS
    let j{{x}} = place(image * s.m + min(j + {{x}}u, s.m - 1u), h);
//#end
//#for r in 0..ROWS
//#for x in 0..KEYS
    var x{{r}}_{{x}} = 0.0;
//#if PASS == 1
    var y{{r}}_{{x}} = -delta{{r}};
//#end
//#end
//#end
//#if SUBGROUP
//#for t in 0..LOADS
    let own{{t}} = place(image * s.m + min(j + part{{t}}.row, s.m - 1u), h) + part{{t}}.quad;
    let ownK{{t}} = k[own{{t}}];
    let ownV{{t}} = v[own{{t}}];
//#end
//#end
//#for c in 0..D/4
//#for x in 0..KEYS
//#if SUBGROUP
    let k{{c}}_{{x}} = subgroupBroadcast(ownK{{(x*(D/4)+c)/8}}, {{(x*(D/4)+c)%8}}u);
    let v{{c}}_{{x}} = subgroupBroadcast(ownV{{(x*(D/4)+c)/8}}, {{(x*(D/4)+c)%8}}u);
//#else
    let k{{c}}_{{x}} = k[j{{x}} + {{c}}u];
    let v{{c}}_{{x}} = v[j{{x}} + {{c}}u];
//#end
//#for r in 0..ROWS
    x{{r}}_{{x}} += dot(q{{r}}_{{c}}, k{{c}}_{{x}});
//#if PASS == 1
    y{{r}}_{{x}} += dot(g{{r}}_{{c}}, v{{c}}_{{x}});
//#end
//#end
//#end
//#end
//#for r in 0..ROWS
//#for x in 1..KEYS
    x{{r}}_{{x}} = select(FAR, x{{r}}_{{x}}, j + {{x}}u < s.m);
//#end
//#if PASS == 0
    var next{{r}} = max(top{{r}}, x{{r}}_0);
//#for x in 1..KEYS
    next{{r}} = max(next{{r}}, x{{r}}_{{x}});
//#end
    let keep{{r}} = exp(top{{r}} - next{{r}});
    top{{r}} = next{{r}};
    sum{{r}} *= keep{{r}};
//#for c in 0..D/4
    o{{r}}_{{c}} *= keep{{r}};
//#end
//#end
//#for x in 0..KEYS
//#if PASS == 0
    let p{{r}}_{{x}} = exp(x{{r}}_{{x}} - top{{r}});
    sum{{r}} += p{{r}}_{{x}};
//#for c in 0..D/4
    o{{r}}_{{c}} += p{{r}}_{{x}} * v{{c}}_{{x}};
//#end
//#else
    let p{{r}}_{{x}} = exp(x{{r}}_{{x}} - lse{{r}}) * y{{r}}_{{x}};
//#for c in 0..D/4
    dq{{r}}_{{c}} += p{{r}}_{{x}} * k{{c}}_{{x}};
//#end
//#end
//#end
//#end
  }
//#for r in 0..ROWS
  if (tile + {{r}}u * s.tiles < s.n) {
//#if PASS == 0
    lse[bh * s.n + i{{r}}] = top{{r}} + log(sum{{r}});
//#for c in 0..D/4
    o[at{{r}} + {{c}}u] = o{{r}}_{{c}} / sum{{r}};
//#end
//#else
    delta[bh * s.n + i{{r}}] = delta{{r}};
//#for c in 0..D/4
    dq[at{{r}} + {{c}}u] = s.scale * dq{{r}}_{{c}};
//#end
//#end
  }
//#end
//#else
//#for r in 0..ROWS
  let at{{r}} = place(image * s.m + min(tile + {{r}}u * s.tiles, s.m - 1u), h);
//#for c in 0..D/4
  let k{{r}}_{{c}} = s.scale * k[at{{r}} + {{c}}u];
//#if DK
  let v{{r}}_{{c}} = v[at{{r}} + {{c}}u];
  var dk{{r}}_{{c}} = vec4f(0.0);
//#end
//#if DV
  var dv{{r}}_{{c}} = vec4f(0.0);
//#end
//#end
//#end
  for (var i = zero; i < s.n; i += {{KEYS}}u) {
//#if SUBGROUP
//#for t in 0..LOADS
    let own{{t}} = place(image * s.n + min(i + part{{t}}.row, s.n - 1u), h) + part{{t}}.quad;
    let ownQ{{t}} = q[own{{t}}];
    let ownG{{t}} = g[own{{t}}];
//#end
//#end
//#for x in 0..KEYS
    let n{{x}} = min(i + {{x}}u, s.n - 1u);
    let i{{x}} = place(image * s.n + n{{x}}, h);
    let lse{{x}} = lse[bh * s.n + n{{x}}];
//#if DK
    let delta{{x}} = delta[bh * s.n + n{{x}}];
//#end
//#for r in 0..ROWS
    var x{{r}}_{{x}} = -lse{{x}};
//#if DK
    var y{{r}}_{{x}} = -delta{{x}};
//#end
//#end
//#for c in 0..D/4
//#if SUBGROUP
    let q{{c}}_{{x}} = subgroupBroadcast(ownQ{{(x*(D/4)+c)/8}}, {{(x*(D/4)+c)%8}}u);
    let g{{c}}_{{x}} = subgroupBroadcast(ownG{{(x*(D/4)+c)/8}}, {{(x*(D/4)+c)%8}}u);
//#else
    let q{{c}}_{{x}} = q[i{{x}} + {{c}}u];
    let g{{c}}_{{x}} = g[i{{x}} + {{c}}u];
//#end
//#for r in 0..ROWS
    x{{r}}_{{x}} += dot(k{{r}}_{{c}}, q{{c}}_{{x}});
//#if DK
    y{{r}}_{{x}} += dot(v{{r}}_{{c}}, g{{c}}_{{x}});
//#end
//#end
//#end
//#for r in 0..ROWS
    let p{{r}}_{{x}} = select(0.0, exp(x{{r}}_{{x}}), i + {{x}}u < s.n);
//#if DK
    let t{{r}}_{{x}} = p{{r}}_{{x}} * y{{r}}_{{x}};
//#end
//#for c in 0..D/4
//#if DV
    dv{{r}}_{{c}} += p{{r}}_{{x}} * g{{c}}_{{x}};
//#end
//#if DK
    dk{{r}}_{{c}} += t{{r}}_{{x}} * q{{c}}_{{x}};
//#end
//#end
//#end
//#end
  }
//#for r in 0..ROWS
  if (tile + {{r}}u * s.tiles < s.m) {
//#for c in 0..D/4
//#if DK
    dk[at{{r}} + {{c}}u] = s.scale * dk{{r}}_{{c}};
//#end
//#if DV
    dv[at{{r}} + {{c}}u] = dv{{r}}_{{c}};
//#end
//#end
  }
//#end
//#end
}
