// Scalar functions that the engine's kernels share, on f32 and on vec4f (suffix 4).

// erf by the rational form of Abramowitz & Stegun 7.1.26 is 1.5e-7 off; this is a Chebyshev fit of erfc with 1.2e-7 relative
// error everywhere (Press et al., Numerical Recipes, "erfcc").
fn erf(x: f32) -> f32 {
  let z = abs(x);
  let t = 1.0 / (1.0 + 0.5 * z);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807 +
    t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let r = 1.0 - t * exp(-z * z + p);
  // Near zero 1 - erfc cancels: the series takes over.
  let q = x * x;
  let small = 1.1283791671 * z * (1.0 - q * (0.33333333 - q * (0.1 - q * (0.023809524 - q * 0.0046296296))));
  return sign(x) * select(r, small, z < 0.5);
}
fn erf4(x: vec4f) -> vec4f { return vec4f(erf(x.x), erf(x.y), erf(x.z), erf(x.w)); }

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }
fn sigmoid4(x: vec4f) -> vec4f { return 1.0 / (1.0 + exp(-x)); }
fn silu(x: f32) -> f32 { return x * sigmoid(x); }
fn silu4(x: vec4f) -> vec4f { return x * sigmoid4(x); }
fn siluSlope(x: f32) -> f32 { let y = sigmoid(x); return y * (1.0 + x * (1.0 - y)); }
fn siluSlope4(x: vec4f) -> vec4f { let y = sigmoid4(x); return y * (1.0 + x * (1.0 - y)); }
fn gelu(x: f32) -> f32 { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
fn gelu4(x: vec4f) -> vec4f { return 0.5 * x * (1.0 + erf4(x * 0.70710678)); }
fn geluSlope(x: f32) -> f32 { return 0.5 * (1.0 + erf(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x); }
fn geluSlope4(x: vec4f) -> vec4f { return 0.5 * (1.0 + erf4(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x); }
// Naga lacks a NaN-safe comparison: x != x is folded to false, the bits are not.
fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn relu(x: f32) -> f32 { return max(x, 0.0); }
fn relu4(x: vec4f) -> vec4f { return max(x, vec4f(0.0)); }
fn leakyRelu(x: f32, p: f32) -> f32 { return select(p * x, x, x > 0.0); }
fn leakyRelu4(x: vec4f, p: f32) -> vec4f { return select(p * x, x, x > vec4f(0.0)); }
