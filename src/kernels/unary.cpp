// Element-wise functions of one array. Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/math.h"

namespace ocior::OCIOR_ISA {
namespace {

template <class F>
void each(const float* x, float* y, int64_t n, F f) {
  const int64_t body = n - n % kLanes, tail = n - body;
  int64_t i = 0;
  for (; i + 2 * kLanes <= body; i += 2 * kLanes) {
    const F32 a = f(load(x + i)), b = f(load(x + i + kLanes));
    store(a, y + i);
    store(b, y + i + kLanes);
  }
  if (i < body) store(f(load(x + i)), y + i);
  if (tail) store(f(load(x + body, tail, 1)), y + body, tail);
}

OCIOR_INLINE F32 clip(F32 v, float lo, float hi) { return min(splat(hi), max(splat(lo), v)); }

OCIOR_INLINE F32 sign(F32 v) {
  const F32 one = copysign(splat(1), v);
  return select(v == zero(), zero(), select(is_nan(v), v, one));
}

OCIOR_INLINE F32 elu(F32 v, float alpha) { return select(v < zero(), splat(alpha) * expm1_nonpositive(min(zero(), v)), v); }

}  // namespace

void unary_f32(UnaryFn fn, const float* x, float* y, int64_t n, float p, float q) {
#define CASE(name, expression) \
  case UnaryFn::name:          \
    return each(               \
        x, y, n, [=](F32 v) __attribute__((always_inline)) { return expression; });
  switch (fn) {
    CASE(kNeg, -v)
    CASE(kAbs, abs(v))
    CASE(kSqrt, sqrt(v))
    CASE(kReciprocal, splat(1) / v)
    CASE(kExp, exp(v))
    CASE(kLog, log(v))
    CASE(kErf, erf(v))
    CASE(kTanh, tanh(v))
    CASE(kSigmoid, sigmoid(v))
    CASE(kRelu, max(zero(), v))
    CASE(kGeluErf, gelu_erf(v))
    CASE(kGeluTanh, gelu_tanh(v))
    CASE(kSilu, silu(v))
    CASE(kHardSwish, v * clip(fma(v, splat(1.0f / 6), splat(0.5f)), 0, 1))
    CASE(kHardSigmoid, clip(fma(v, splat(p), splat(q)), 0, 1))
    CASE(kLeakyRelu, select(v < zero(), v * splat(p), v))
    CASE(kElu, elu(v, p))
    CASE(kSoftplus, softplus(v))
    CASE(kClip, clip(v, p, q))
    CASE(kFloor, floor(v))
    CASE(kCeil, ceil(v))
    CASE(kRound, round(v))
    CASE(kSign, sign(v))
    CASE(kSin, sin(v))
    CASE(kCos, cos(v))
  }
#undef CASE
}

}  // namespace ocior::OCIOR_ISA
