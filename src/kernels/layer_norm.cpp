// Layer and RMS normalisation of rows with what surrounds them in transformers: skip input, bias, scale, shift, the sum as an
// output. Mean and variance are formed in two passes over a row in L1. Compiled once per instruction set; leaf headers only.
#include "kernels/table.h"
#include "simd/math.h"

namespace ocior::OCIOR_ISA {
namespace {

// f(accumulator, i, count) for every vector of n, count < kLanes in the last; the vectors go round four accumulators.
template <class Acc, class F>
OCIOR_INLINE Acc sum_of(int64_t n, F f) {
  Acc a[4] = {Acc{}, Acc{}, Acc{}, Acc{}};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    OCIOR_UNROLL for (int64_t j = 0; j < 4; ++j) a[j] = f(a[j], i + j * kLanes, kLanes);
  for (; i + kLanes <= n; i += kLanes) a[0] = f(a[0], i, kLanes);
  if (i < n) a[1] = f(a[1], i, n - i);
  return (a[0] + a[1]) + (a[2] + a[3]);
}

OCIOR_INLINE F32 load_upto(const float* p, int64_t count) { return count == kLanes ? load(p) : load(p, count, 0); }
OCIOR_INLINE void store_upto(F32 v, float* p, int64_t count) {
  if (count == kLanes) store(v, p);
  else store(v, p, count);
}

// s = x (+ skip) (+ bias) into `s`; returns Σ s.
template <bool kSkip, bool kBias>
float add_up(const float* x, const float* skip, const float* bias, float* s, int64_t n) {
  return reduce_add(sum_of<F32>(
      n, [=](F32 acc, int64_t i, int64_t count) __attribute__((always_inline)) {
        F32 v = load_upto(x + i, count);
        if (kSkip) v = v + load_upto(skip + i, count);
        if (kBias) v = v + load_upto(bias + i, count);
        if (kSkip || kBias) store_upto(v, s + i, count);
        return acc + v;
      }));
}

float add_up(const float* x, const float* skip, const float* bias, float* s, int64_t n) {
  if (skip && bias) return add_up<true, true>(x, skip, bias, s, n);
  if (skip) return add_up<true, false>(x, skip, bias, s, n);
  if (bias) return add_up<false, true>(x, skip, bias, s, n);
  return add_up<false, false>(x, skip, bias, s, n);
}

struct Moments {
  F32 first, second;
  OCIOR_INLINE Moments operator+(Moments b) const { return {first + b.first, second + b.second}; }
};

// The first two moments of s about `centre`.
Moments moments(const float* s, float centre, int64_t n) {
  const F32 c = splat(centre);
  return sum_of<Moments>(
      n, [=](Moments acc, int64_t i, int64_t count) __attribute__((always_inline)) {
        const F32 d = count == kLanes ? load(s + i) - c : load(s + i, count, centre) - c;
        return Moments{acc.first + d, fma(d, d, acc.second)};
      });
}

// y = ((s - centre) * scale + shift) * gamma + beta.
template <bool kGamma, bool kBeta>
void apply(const float* s, const float* gamma, const float* beta, float* y, int64_t n, F32 centre, F32 scale, F32 shift) {
  int64_t i = 0;
  const auto step = [&](int64_t count) __attribute__((always_inline)) {
    F32 v = fma(load_upto(s + i, count) - centre, scale, shift);
    if (kGamma && kBeta) v = fma(v, load_upto(gamma + i, count), load_upto(beta + i, count));
    else if (kGamma) v = v * load_upto(gamma + i, count);
    else if (kBeta) v = v + load_upto(beta + i, count);
    store_upto(v, y + i, count);
  };
  for (; i + kLanes <= n; i += kLanes) step(kLanes);
  if (i < n) step(n - i);
}

void apply(const float* s, const float* gamma, const float* beta, float* y, int64_t n, F32 centre, F32 scale, F32 shift) {
  if (gamma && beta) return apply<true, true>(s, gamma, beta, y, n, centre, scale, shift);
  if (gamma) return apply<true, false>(s, gamma, beta, y, n, centre, scale, shift);
  if (beta) return apply<false, true>(s, gamma, beta, y, n, centre, scale, shift);
  apply<false, false>(s, gamma, beta, y, n, centre, scale, shift);
}

}  // namespace

void layer_norm(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.n;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * n;
    float* y = args.y + row * n;
    float* target = args.sum ? args.sum + row * n : y;
    const float total = add_up(x, args.skip ? args.skip + row * n : nullptr, args.bias, target, n);
    const bool plain = !args.skip && !args.bias;
    if (plain && args.sum && target != x) __builtin_memcpy(target, x, static_cast<size_t>(n) * sizeof(float));
    const float* s = plain ? x : target;
    // What the rounding of the mean leaves over (`rest`) is taken off again, from the variance and from every element.
    const float count = static_cast<float>(n), mean = args.rms ? 0 : total / count;
    const Moments m = moments(s, mean, n);
    const float rest = args.rms ? 0 : reduce_add(m.first) / count;
    const float variance = reduce_add(m.second) / count - rest * rest;
    const float inv_std = 1 / __builtin_sqrtf(variance + args.epsilon);
    apply(s, args.gamma, args.rms ? nullptr : args.beta, y, n, splat(mean), splat(inv_std), splat(-rest * inv_std));
    if (args.mean) args.mean[row] = mean + rest;
    if (args.inv_std) args.inv_std[row] = inv_std;
  }
}

}  // namespace ocior::OCIOR_ISA
