// Reductions of contiguous values. The order depends on n alone: blocks in a balanced tree, lanes and accumulators within a
// block. Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/math.h"

namespace ocior::OCIOR_ISA {
namespace {

// Sums are formed in blocks so that the rounding error grows with log n.
constexpr int64_t kBlock = 4096;

struct Sum {
  static OCIOR_INLINE F32 first() { return zero(); }
  static OCIOR_INLINE float neutral() { return 0; }
  static OCIOR_INLINE F32 take(F32 acc, F32 v) { return acc + v; }
  static OCIOR_INLINE F32 join(F32 a, F32 b) { return a + b; }
  static OCIOR_INLINE float join(float a, float b) { return a + b; }
  static OCIOR_INLINE float close(F32 a) { return reduce_add(a); }
};
struct SumSquare : Sum {
  static OCIOR_INLINE F32 take(F32 acc, F32 v) { return fma(v, v, acc); }
};
struct SumAbs : Sum {
  static OCIOR_INLINE F32 take(F32 acc, F32 v) { return acc + abs(v); }
};
struct Max {
  static OCIOR_INLINE F32 first() { return splat(-kInfinity); }
  static OCIOR_INLINE float neutral() { return -kInfinity; }
  static OCIOR_INLINE F32 take(F32 acc, F32 v) { return max_nan(acc, v); }
  static OCIOR_INLINE F32 join(F32 a, F32 b) { return max_nan(a, b); }
  static OCIOR_INLINE float join(float a, float b) { return a != a || a > b ? a : b; }
  static OCIOR_INLINE float close(F32 a) { return reduce_max_nan(a); }
};
struct Min {
  static OCIOR_INLINE F32 first() { return splat(kInfinity); }
  static OCIOR_INLINE float neutral() { return kInfinity; }
  static OCIOR_INLINE F32 take(F32 acc, F32 v) { return min_nan(acc, v); }
  static OCIOR_INLINE F32 join(F32 a, F32 b) { return min_nan(a, b); }
  static OCIOR_INLINE float join(float a, float b) { return a != a || a < b ? a : b; }
  static OCIOR_INLINE float close(F32 a) { return reduce_min_nan(a); }
};

template <class R>
float block(const float* x, int64_t n) {
  F32 a[4] = {R::first(), R::first(), R::first(), R::first()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    OCIOR_UNROLL for (int64_t j = 0; j < 4; ++j) a[j] = R::take(a[j], load(x + i + j * kLanes));
  for (; i + kLanes <= n; i += kLanes) a[0] = R::take(a[0], load(x + i));
  if (i < n) a[1] = R::take(a[1], load(x + i, n - i, R::neutral()));
  return R::close(R::join(R::join(a[0], a[1]), R::join(a[2], a[3])));
}

template <class R>
float tree(const float* x, int64_t n) {
  if (n <= kBlock) return block<R>(x, n);
  const int64_t blocks = (n + kBlock - 1) / kBlock, half = (blocks + 1) / 2 * kBlock;
  return R::join(tree<R>(x, half), tree<R>(x + half, n - half));
}

template <class R>
void into(const float* x, float* acc, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(R::take(load(acc + i), load(x + i)), acc + i);
  if (i < n) store(R::take(load(acc + i, n - i, 0), load(x + i, n - i, 0)), acc + i, n - i);
}

}  // namespace

float reduce_f32(ReduceFn fn, const float* x, int64_t n) {
  switch (fn) {
    case ReduceFn::kSum: return tree<Sum>(x, n);
    case ReduceFn::kMax: return tree<Max>(x, n);
    case ReduceFn::kMin: return tree<Min>(x, n);
    case ReduceFn::kSumSquare: return tree<SumSquare>(x, n);
    case ReduceFn::kSumAbs: return tree<SumAbs>(x, n);
  }
  return 0;
}

void reduce_into_f32(ReduceFn fn, const float* x, float* acc, int64_t n) {
  switch (fn) {
    case ReduceFn::kSum: return into<Sum>(x, acc, n);
    case ReduceFn::kMax: return into<Max>(x, acc, n);
    case ReduceFn::kMin: return into<Min>(x, acc, n);
    case ReduceFn::kSumSquare: return into<SumSquare>(x, acc, n);
    case ReduceFn::kSumAbs: return into<SumAbs>(x, acc, n);
  }
}

}  // namespace ocior::OCIOR_ISA
