// Element-wise functions of two arrays, either of which may be one repeated value. Compiled once per instruction set; leaf
// headers only.
#include "kernels/table.h"
#include "simd/math.h"

namespace ocior::OCIOR_ISA {
namespace {

// Operands: an array read in steps, or one value.
struct Stream {
  const float* p;
  OCIOR_INLINE F32 at(int64_t i) const { return load(p + i); }
  OCIOR_INLINE F32 at(int64_t i, int64_t n) const { return load(p + i, n, 1); }
};
struct Constant {
  F32 v;
  OCIOR_INLINE F32 at(int64_t) const { return v; }
  OCIOR_INLINE F32 at(int64_t, int64_t) const { return v; }
};

template <class A, class B, class F>
void each(A a, B b, float* y, int64_t n, F f) {
  const int64_t body = n - n % kLanes, tail = n - body;
  int64_t i = 0;
  for (; i + 2 * kLanes <= body; i += 2 * kLanes) {
    const F32 r = f(a.at(i), b.at(i)), s = f(a.at(i + kLanes), b.at(i + kLanes));
    store(r, y + i);
    store(s, y + i + kLanes);
  }
  if (i < body) store(f(a.at(i), b.at(i)), y + i);
  if (tail) store(f(a.at(body, tail), b.at(body, tail)), y + body, tail);
}

template <class F>
void each(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n, F f) {
  if (n <= 0) return;
  if (step_a && step_b) return each(Stream{a}, Stream{b}, y, n, f);
  if (step_a) return each(Stream{a}, Constant{splat(*b)}, y, n, f);
  if (step_b) return each(Constant{splat(*a)}, Stream{b}, y, n, f);
  each(Constant{splat(*a)}, Constant{splat(*b)}, y, n, f);
}

// pow(x, 1/2) differs from sqrt at -0 and at -inf.
OCIOR_INLINE F32 pow_half(F32 v) { return select(v == splat(-kInfinity), splat(kInfinity), sqrt(v + zero())); }

}  // namespace

void binary_f32(BinaryFn fn, const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n) {
#define EACH(expression) \
  return each(           \
      a, step_a, b, step_b, y, n, [](F32 u, F32 v) __attribute__((always_inline)) { return (void)v, expression; })
  switch (fn) {
    case BinaryFn::kAdd: EACH(u + v);
    case BinaryFn::kSub: EACH(u - v);
    case BinaryFn::kMul: EACH(u * v);
    case BinaryFn::kDiv: EACH(u / v);
    case BinaryFn::kMax: EACH(max_nan(u, v));
    case BinaryFn::kMin: EACH(min_nan(u, v));
    case BinaryFn::kPow: {
      // The exponents that models are full of.
      const float exponent = step_b == 0 && n > 0 ? *b : 0;
      if (exponent == 2) EACH(u * u);
      if (exponent == 3) EACH(u * u * u);
      if (exponent == 0.5f) EACH(pow_half(u));
      if (exponent == -1) EACH(splat(1) / u);
      EACH(pow(u, v));
    }
  }
#undef EACH
}

}  // namespace ocior::OCIOR_ISA
