// Softmax and log-softmax of one contiguous row; y may be x. A row with NaN or +inf, or all -inf, gives NaN, as the formula does.
// Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/math.h"

namespace ocior::OCIOR_ISA {
namespace {

// Where sums of the row are closed, so that their rounding error does not grow with n.
constexpr int64_t kBlock = 64 * kLanes;

OCIOR_INLINE float row_max(const float* x, int64_t n) {
  F32 a = splat(-kInfinity), b = a;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    a = max(load(x + i), a);
    b = max(load(x + i + kLanes), b);
  }
  if (i + kLanes <= n) {
    a = max(load(x + i), a);
    i += kLanes;
  }
  if (i < n) b = max(load(x + i, n - i, -kInfinity), b);
  return reduce_max(max(a, b));
}

// Σ exp(x - largest); the terms go to y where kStore.
template <bool kStore>
OCIOR_INLINE float sum_exp(const float* x, float* y, int64_t n, float largest) {
  const F32 top = splat(largest);
  F32 total = zero();
  for (int64_t start = 0; start < n; start += kBlock) {
    const int64_t end = start + kBlock < n ? start + kBlock : n;
    F32 a = zero(), b = zero();
    int64_t i = start;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
      const F32 e = exp_nonpositive(load(x + i) - top), f = exp_nonpositive(load(x + i + kLanes) - top);
      if (kStore) store(e, y + i), store(f, y + i + kLanes);
      a = a + e;
      b = b + f;
    }
    for (; i < end; i += kLanes) {
      const int64_t left = end - i < kLanes ? end - i : kLanes;
      const F32 e = exp_nonpositive(load(x + i, left, -kInfinity) - top);
      if (kStore) store(e, y + i, left);
      a = a + e;
    }
    total = total + (a + b);
  }
  return reduce_add(total);
}

}  // namespace

void softmax_f32(const float* x, float* y, int64_t n) {
  if (n <= 0) return;
  const float sum = sum_exp<true>(x, y, n, row_max(x, n));
  const F32 scale = splat(1.0f / sum);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(load(y + i) * scale, y + i);
  if (i < n) store(load(y + i, n - i, 0) * scale, y + i, n - i);
}

void log_softmax_f32(const float* x, float* y, int64_t n) {
  if (n <= 0) return;
  const float largest = row_max(x, n);
  const F32 top = splat(largest), log_sum = log(splat(sum_exp<false>(x, y, n, largest)));
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store((load(x + i) - top) - log_sum, y + i);
  if (i < n) store((load(x + i, n - i, 0) - top) - log_sum, y + i, n - i);
}

}  // namespace ocior::OCIOR_ISA
