// Elementary functions on F32, for kernels and for the epilogues of products. Each states its error against the exact result over
// all floats (ULP of the result; src/kernels/unary_test.cpp measures it). NaN gives NaN; infinities and zeros give what <math.h>
// gives. Coefficients are weighted minimax fits made for these intervals. A leaf header: everything is inlined, in
// ocior::OCIOR_ISA.
#pragma once

#include "simd/vec.h"

namespace ocior::OCIOR_ISA {

constexpr float kInfinity = __builtin_inff();

OCIOR_INLINE F32 polynomial(F32, F32 sum) { return sum; }

// Horner's scheme: polynomial(x, a, b, c) = (a * x + b) * x + c.
template <class... Rest>
OCIOR_INLINE F32 polynomial(F32 x, F32 sum, float next, Rest... rest) {
  return polynomial(x, fma(sum, x, splat(next)), rest...);
}
template <class... Rest>
OCIOR_INLINE F32 polynomial(F32 x, float first, Rest... rest) {
  return polynomial(x, splat(first), rest...);
}

// exp(x) = 2^n (1 + tail).
struct ExpParts {
  F32 n, tail;
  F32 power;  // 2^n where -126 <= n <= 127, 0 where n = -127
};

// |x| < 2^21. Where `kExact`, ln 2 comes in two parts, the first so short that its product with n is exact: without that the
// error grows to |x| / 25 ULP, and on machines without a fused multiply-add even to |x| ULP.
template <bool kExact>
OCIOR_INLINE ExpParts exp_parts(F32 x) {
  const F32 magic = splat(12582912.0f + 127.0f);  // 1.5 * 2^23 + bias: the sum's last bits are n's biased exponent
  const F32 shifted = fma(x, splat(1.44269504f), magic);
  ExpParts r;
  r.n = shifted - magic;
  r.power = from_bits(shift_left<23>(bits(shifted)));
  const F32 f = kExact || !kFused ? fnma(r.n, splat(-2.12194440e-4f), fnma(r.n, splat(0.693359375f), x))
                                  : fnma(r.n, splat(0.693147182f), x);
  const F32 q = polynomial(f, 0.00138144672f, 0.00836878084f, 0.0416683927f, 0.166665196f, 0.49999994f);
  r.tail = fma(q, f * f, f);
  return r;
}

// e^x, 1 ULP (2 where subnormal); inf above 88.73, 0 below -103.98.
OCIOR_INLINE F32 exp(F32 x) {
  const ExpParts p = exp_parts<true>(min(splat(89.0f), max(splat(-104.0f), x)));
  return scalef(p.tail + splat(1), p.n);
}

// e^x for x <= 0, 1 + |x| / 25 ULP; 0 for x < -87.7 (and perhaps, where e^x is subnormal, a little above).
OCIOR_INLINE F32 exp_nonpositive(F32 x) {
  const ExpParts p = exp_parts<false>(max(splat(-88.0f), x));  // there n is -127
  return fma(p.power, p.tail, p.power);
}

// e^x - 1 for x <= 0, 2 ULP.
OCIOR_INLINE F32 expm1_nonpositive(F32 x) {
  const ExpParts p = exp_parts<true>(max(splat(-87.0f), x));
  return select(x == zero(), x, fma(p.power, p.tail, p.power - splat(1)));
}

// ln(x), 1 ULP.
OCIOR_INLINE F32 log(F32 x) {
  const Mask tiny = x < splat(1.17549435e-38f);
  const F32 normal = select(tiny, x * splat(8388608.0f), x);
  const I32 root_half = splat_int(0x3f3504f3), rest = bits(normal) - root_half;
  const F32 e = to_float(shift_right<23>(rest)) - select(tiny, splat(23), zero());
  const F32 f = from_bits((rest & splat_int(0x007fffff)) + root_half) - splat(1);
  const F32 q = polynomial(f, -0.0763449669f, 0.127615765f, -0.131601825f, 0.142017573f, -0.166233569f, 0.200012267f,
                           -0.250008196f, 0.333333313f);
  const F32 f2 = f * f;
  const F32 low = fma(e, splat(-2.12194440e-4f), f2 * f * q) - splat(0.5f) * f2;
  const F32 r = fma(e, splat(0.693359375f), f + low);
  const F32 special = select(x == zero(), splat(-kInfinity), select(x < zero(), splat(__builtin_nanf("")), x));
  return select((zero() < x) & (x < splat(kInfinity)), r, special);
}

// ln(1 + u) for 0 <= u <= 1, 2 ULP: the rounding of 1 + u is put back.
OCIOR_INLINE F32 log1p_unit(F32 u) {
  const F32 w = splat(1) + u;
  return log(w) + (u - (w - splat(1))) / w;
}

// erf(x), 2 ULP, 1e-7 absolute: an odd polynomial near zero, 1 - e^-polynomial(|x|) elsewhere.
OCIOR_INLINE F32 erf(F32 x) {
  const F32 z = min(splat(3.95f), abs(x)), t = x * x;
  const F32 q0 = polynomial(t, -0.000674636802f, 0.00511394441f, -0.0268344469f, 0.112833731f, -0.3761262f, 0.128379167f);
  const F32 near = fma(x, q0, x);
  const F32 q =
      polynomial(z, 0.00021186388f, -0.00319421524f, 0.0228072405f, -0.105089426f, -0.635916531f, -1.12839508f, -2.93494304e-05f);
  const ExpParts p = exp_parts<false>(q);
  const F32 far = (splat(1) - p.power) - p.power * p.tail;
  return select(abs(x) < splat(0.75f), near, copysign(far, x));
}

// tanh(x), 2 ULP: an odd polynomial near zero, (1 - e^-2|x|) / (1 + e^-2|x|) elsewhere.
OCIOR_INLINE F32 tanh(F32 x) {
  const F32 z = min(splat(9.1f), abs(x)), t = x * x;
  const F32 near = fma(x * t, polynomial(t, -0.00619872613f, 0.0210205559f, -0.053840518f, 0.133324802f, -0.333333135f), x);
  const ExpParts p = exp_parts<false>(splat(-2) * z);
  const F32 e = fma(p.power, p.tail, p.power);
  const F32 far = (splat(1) - e) / (splat(1) + e);
  return copysign(select(abs(x) < splat(0.55f), near, far), x);
}

// 1 / (1 + e^-x), 3 ULP where the result is normal.
OCIOR_INLINE F32 sigmoid(F32 x) {
  const F32 e = exp_nonpositive(-abs(x));
  return select(x < zero(), e, splat(1)) / (splat(1) + e);
}

// x/2 (1 + erf(x / √2)): 2e-7 |x| absolute.
OCIOR_INLINE F32 gelu_erf(F32 x) {
  const F32 half = splat(0.5f) * x;
  return fma(half, erf(x * splat(0.707106781f)), half);
}

// x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): 3e-7 |x| absolute.
OCIOR_INLINE F32 gelu_tanh(F32 x) {
  const F32 half = splat(0.5f) * x, inner = x * fma(x * x, splat(0.0356774081f), splat(0.797884561f));
  return fma(half, tanh(inner), half);
}

// x / (1 + e^-x), 4 ULP where the result is normal.
OCIOR_INLINE F32 silu(F32 x) { return x * sigmoid(x); }

// ln(1 + e^x), 3 ULP where the result is normal.
OCIOR_INLINE F32 softplus(F32 x) { return max(zero(), x) + log1p_unit(exp_nonpositive(-abs(x))); }

// ---- functions that need more than float on the way ----

typedef double DoubleV __attribute__((vector_size(2 * OCIOR_VEC_BYTES)));
typedef int64_t Int64V __attribute__((vector_size(2 * OCIOR_VEC_BYTES)));

OCIOR_INLINE DoubleV to_double(F32 a) { return __builtin_convertvector(a.v, DoubleV); }
OCIOR_INLINE F32 to_single(DoubleV a) { return {__builtin_convertvector(a, F32::V)}; }

// The nearest integer of |a| < 2^51.
OCIOR_INLINE DoubleV nearest(DoubleV a) { return (a + 6755399441055744.0) - 6755399441055744.0; }

// sin(x + turn * π/2), 1 ULP for |x| <= 1e6; beyond, the C library's function (`whole`) lane by lane.
OCIOR_INLINE F32 sin_turned(F32 x, int32_t turn, float (*whole)(float)) {
  const Mask far = ~(abs(x) <= splat(1e6f));
  const DoubleV d = to_double(select(far, zero(), x)), n = nearest(d * 0.63661977236758134);
  // π/2 in two parts: the first has 33 bits, so its product with n is exact.
  const F32 r = to_single((d - n * 1.57079632673412561417e+00) - n * 6.07710050650619224932e-11);
  const I32 quarter = I32{__builtin_convertvector(n, I32::V)} + splat_int(turn);
  const F32 t = r * r;
  const F32 s = fma(r * t, polynomial(t, 2.71804652e-06f, -0.000198393042f, 0.00833332911f, -0.166666672f), r);
  const F32 c = fma(t * t, polynomial(t, 2.44377297e-05f, -0.00138873619f, 0.0416666456f), fnma(t, splat(0.5f), splat(1)));
  const F32 value = select((quarter & splat_int(1)) == splat_int(0), s, c);
  F32 y = from_bits(bits(value) ^ shift_left<30>(quarter & splat_int(2)));
  if (any(far)) {
    float lane[kLanes], result[kLanes];
    store(x, lane);
    store(y, result);
    for (int64_t i = 0; i < kLanes; ++i)
      if (!(__builtin_fabsf(lane[i]) <= 1e6f)) result[i] = whole(lane[i]);
    y = load(result);
  }
  return y;
}

OCIOR_INLINE F32 sin(F32 x) {
  return select(x == zero(), x, sin_turned(x, 0, [](float a) { return __builtin_sinf(a); }));
}
OCIOR_INLINE F32 cos(F32 x) {
  return sin_turned(x, 1, [](float a) { return __builtin_cosf(a); });
}

// log2(x) in double, relative error 2^-38; x positive and finite.
OCIOR_INLINE DoubleV log2_double(F32 x) {
  const DoubleV d = to_double(x);
  const Int64V root_half = Int64V{} + 0x3fe6a09e667f3bcdLL, rest = (Int64V)d - root_half;
  const Int64V exponent = rest >> 52;
  const DoubleV m = (DoubleV)((rest & 0x000fffffffffffffLL) + root_half);
  const DoubleV e = (DoubleV)(exponent + 0x4338000000000000LL) - 6755399441055744.0;
  const DoubleV s = (m - 1.0) / (m + 1.0), t = s * s;
  DoubleV p = t * (1.0 / 13) + 1.0 / 11;
  p = p * t + 1.0 / 9;
  p = p * t + 1.0 / 7;
  p = p * t + 1.0 / 5;
  p = p * t + 1.0 / 3;
  p = p * t + 1.0;
  return e + s * p * 2.8853900817779268;
}

// x^y as C's powf defines it, special values included; 2 ULP where the result is normal.
OCIOR_INLINE F32 pow(F32 x, F32 y) {
  const F32 magnitude = abs(x), infinity = splat(kInfinity), one = splat(1);
  const Mask plain = (zero() < magnitude) & (magnitude < infinity);
  const F32 bounded = min(splat(1e30f), max(splat(-1e30f), y));
  DoubleV t = to_double(bounded) * log2_double(select(plain, magnitude, one));
  t = t < -200.0 ? DoubleV{} - 200.0 : t;
  t = t > 200.0 ? DoubleV{} + 200.0 : t;
  const DoubleV n = nearest(t);
  const F32 f = to_single((t - n) * 0.69314718055994531);
  const F32 q = polynomial(f, 0.00138144672f, 0.00836878084f, 0.0416683927f, 0.166665196f, 0.49999994f);
  F32 r = scalef(one + fma(q, f * f, f), to_single(n));
  const Mask grows = select(y < zero(), one / magnitude, magnitude) > one;  // x is 0 or infinite: so is x^y
  r = select(plain, r, select(grows, infinity, select(is_nan(x), x, zero())));
  const Mask whole = floor(y) == y, odd = whole & (floor(y * splat(0.5f)) * splat(2) != y);
  const Mask negative = bits(x) < splat_int(0);
  r = select(negative & odd, -r, r);
  r = select((x < zero()) & (splat(-kInfinity) < x) & ~whole, splat(__builtin_nanf("")), r);
  r = select(is_nan(y), y, r);
  return select((y == zero()) | (x == one), one, r);
}

}  // namespace ocior::OCIOR_ISA
