// Element-wise functions of one array. Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/math.h"

#define OCIOR_EACH [=](F32 v) __attribute__((always_inline))

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
  switch (fn) {
    case UnaryFn::kNeg: return each(x, y, n, OCIOR_EACH { return -v; });
    case UnaryFn::kAbs: return each(x, y, n, OCIOR_EACH { return abs(v); });
    case UnaryFn::kSqrt: return each(x, y, n, OCIOR_EACH { return sqrt(v); });
    case UnaryFn::kReciprocal: return each(x, y, n, OCIOR_EACH { return splat(1) / v; });
    case UnaryFn::kExp: return each(x, y, n, OCIOR_EACH { return exp(v); });
    case UnaryFn::kLog: return each(x, y, n, OCIOR_EACH { return log(v); });
    case UnaryFn::kErf: return each(x, y, n, OCIOR_EACH { return erf(v); });
    case UnaryFn::kTanh: return each(x, y, n, OCIOR_EACH { return tanh(v); });
    case UnaryFn::kSigmoid: return each(x, y, n, OCIOR_EACH { return sigmoid(v); });
    case UnaryFn::kRelu: return each(x, y, n, OCIOR_EACH { return max(zero(), v); });
    case UnaryFn::kGeluErf: return each(x, y, n, OCIOR_EACH { return gelu_erf(v); });
    case UnaryFn::kGeluTanh: return each(x, y, n, OCIOR_EACH { return gelu_tanh(v); });
    case UnaryFn::kSilu: return each(x, y, n, OCIOR_EACH { return silu(v); });
    case UnaryFn::kHardSwish: return each(x, y, n, OCIOR_EACH { return v * clip(fma(v, splat(1.0f / 6), splat(0.5f)), 0, 1); });
    case UnaryFn::kHardSigmoid: return each(x, y, n, OCIOR_EACH { return clip(fma(v, splat(p), splat(q)), 0, 1); });
    case UnaryFn::kLeakyRelu: return each(x, y, n, OCIOR_EACH { return select(v < zero(), v * splat(p), v); });
    case UnaryFn::kElu: return each(x, y, n, OCIOR_EACH { return elu(v, p); });
    case UnaryFn::kSoftplus: return each(x, y, n, OCIOR_EACH { return softplus(v); });
    case UnaryFn::kClip: return each(x, y, n, OCIOR_EACH { return clip(v, p, q); });
    case UnaryFn::kFloor: return each(x, y, n, OCIOR_EACH { return floor(v); });
    case UnaryFn::kCeil: return each(x, y, n, OCIOR_EACH { return ceil(v); });
    case UnaryFn::kRound: return each(x, y, n, OCIOR_EACH { return round(v); });
    case UnaryFn::kSign: return each(x, y, n, OCIOR_EACH { return sign(v); });
    case UnaryFn::kSin: return each(x, y, n, OCIOR_EACH { return sin(v); });
    case UnaryFn::kCos: return each(x, y, n, OCIOR_EACH { return cos(v); });
  }
}

}  // namespace ocior::OCIOR_ISA
